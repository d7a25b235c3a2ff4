//! The rows of the store: what they say, and how they are written. Data and codecs, no I/O.

pub(super) mod block;
pub(super) mod cookie;
pub(super) mod envelope;
pub(super) mod field;
pub(super) mod invalidation;
pub(super) mod limits;
pub(super) mod name;
pub(super) mod person;
pub(super) mod person_row;
pub(super) mod refresh_token;
pub(super) mod revocations;
pub(super) mod seal;
pub(super) mod sealed;
pub(super) mod session_key;
pub(super) mod store_key;
pub(super) mod subject;
pub(super) mod unionid;
