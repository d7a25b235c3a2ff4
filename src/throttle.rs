//! Limits on logins, per client address and for all together.
