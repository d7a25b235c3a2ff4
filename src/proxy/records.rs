//! Where it goes what is said of requests: metrics, access log and audit log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reason::Reason;
use crate::runtime::Shared;
use crate::telemetry::access_log::AccessLog;

/// What requests are recorded with.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) shared: Shared,
    pub(super) access_log: Arc<AccessLog>,
}

impl Records {
    /// Counts a refusal, or a request that was cut off.
    pub(super) fn count_refusal(&self, reason: Reason) {
        if reason.is_refusal() {
            self.shared.metrics.refused_requests.with_label_values(&[reason.as_str()]).inc();
        }
    }

    /// How long it has been since.
    pub(super) fn since(&self, started: Instant) -> Duration {
        self.shared.clock.instant().saturating_duration_since(started)
    }
}
