//! Whether the store answers, so that sign-ins can succeed, and whether this node reads the log.
//!
//! The node that follows the log records its results here.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// Longest age of the last read of the log. Beyond it, this node cannot trust its verdicts.
const LOG_READ_LASTS: Duration = Duration::from_secs(2);

/// The results of the last log read and of the last ping.
#[derive(Debug)]
pub struct StoreHealth {
    is_shared: bool,
    available: IntGauge,
    state: Mutex<StoreHealthState>,
}

#[derive(Debug, Default)]
struct StoreHealthState {
    /// When the last successful read of the log began.
    log_read_at: Option<Instant>,
    log_read_failed: bool,
    ping_failed: bool,
}

impl StoreHealth {
    /// The health of a store that has not answered yet.
    pub fn new(store: &dyn Store, metrics: &Metrics) -> Self {
        Self {
            is_shared: store.is_shared(),
            available: metrics.store_available.clone(),
            state: Mutex::default(),
        }
    }

    /// Whether the store answered recently, so that sign-ins can succeed.
    pub fn is_available(&self) -> bool {
        let ping_failed = self.state.lock().ping_failed;
        !ping_failed && (!self.is_shared || self.has_read_log_lately())
    }

    fn has_read_log_lately(&self) -> bool {
        let read_at = self.state.lock().log_read_at;
        // Real time, not the clock of the sessions: a test that advances that clock by a week did
        // not lose its store for a week.
        read_at.is_some_and(|read_at| read_at.elapsed() < LOG_READ_LASTS)
    }

    /// Requires that this node learns what other nodes revoke.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: this node did not read the log recently.
    pub fn require_log(&self) -> Result<(), StoreError> {
        if !self.is_shared || self.has_read_log_lately() {
            return Ok(());
        }
        Err(StoreError::Unavailable("this node does not learn what other nodes revoke".into()))
    }

    /// Records the result of a read of the log, and when the read began.
    pub fn record_log_read(&self, result: &Result<(), StoreError>, began: Instant) {
        self.record(result, |state| {
            state.log_read_failed = result.is_err();
            if result.is_ok() {
                state.log_read_at = Some(began);
            }
        });
    }

    /// Records the result of a ping.
    pub fn record_ping(&self, result: &Result<(), StoreError>) {
        self.record(result, |state| state.ping_failed = result.is_err());
    }

    fn record(&self, result: &Result<(), StoreError>, update: impl FnOnce(&mut StoreHealthState)) {
        let (had_failed, has_failed) = {
            let mut state = self.state.lock();
            let had_failed = state.has_failed();
            update(&mut state);
            (had_failed, state.has_failed())
        };
        match result {
            // A shared store logs its own outages and recoveries.
            Ok(()) if had_failed && !has_failed && !self.is_shared => info!("the store answers again"),
            Err(StoreError::Unavailable(_)) if self.is_shared => {}
            Err(error) if !had_failed => warn!("the store failed: {error}"),
            _ => {}
        }
        self.available.set(i64::from(self.is_available()));
    }
}

impl StoreHealthState {
    const fn has_failed(&self) -> bool {
        self.log_read_failed || self.ping_failed
    }
}
