//! What this node reads and follows in the store.

pub(super) mod attempts;
mod blocks;
pub(super) mod core;
mod form;
mod keyring;
pub(super) mod lease;
mod log_follower;
pub(super) mod metrics;
mod people;
mod revocation_cache;
pub(super) mod subject_rows;
mod unionid_rows;
