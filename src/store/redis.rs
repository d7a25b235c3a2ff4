//! The Redis engine.

use crate::config::{self, Findings};
use crate::telemetry::metrics::Metrics;

use super::Closed;

/// The Redis engine.
pub type Redis = Closed;

impl Closed {
    /// Reads the section; connects to nothing.
    pub fn build(_config: &config::RedisStore, _metrics: &Metrics, _findings: &mut Findings) -> Option<Self> {
        Some(Closed)
    }
}
