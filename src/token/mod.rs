//! Access tokens: minted, verified, and the keys that do it.
