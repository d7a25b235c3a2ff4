//! What this node reads and follows in the store.

pub(super) mod attempts;
pub(super) mod core;
pub(super) mod lease;
mod log_follower;
pub(super) mod metrics;
mod people;
mod revocation_cache;
pub(super) mod subject_rows;
mod unionid_rows;
