//! What the gateway reports about itself: metrics, the access log, the audit log and diagnostics.

pub mod access_log;
pub mod audit_log;
pub mod diagnostics;
mod line_log;
pub mod metrics;
pub mod panics;
