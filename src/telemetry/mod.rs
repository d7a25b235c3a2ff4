//! What the gateway says of itself: metrics, the access log, diagnostics.

pub mod access_log;
pub mod diagnostics;
pub mod metrics;
