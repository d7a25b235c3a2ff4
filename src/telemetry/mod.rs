//! What the gateway says of itself: metrics, the access log, diagnostics.

pub mod metrics;
