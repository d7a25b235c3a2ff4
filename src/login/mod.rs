//! A person signs in.
