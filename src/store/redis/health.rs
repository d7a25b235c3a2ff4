//! Whether Redis does what it is asked: said once when it changes, counted always.

use parking_lot::Mutex;
use prometheus::HistogramTimer;
use tracing::{info, warn};

use super::error::{Cause, Failure};
use crate::store::StoreError;
use crate::store::operation::Operation;
use crate::telemetry::metrics::Metrics;

/// Most reasons logged for one outage.
const MAX_LOGGED_REASONS: usize = 4;

impl Operation {
    /// Whether it writes what must outlive a failover, or asks whether that works. A rate's bucket
    /// need not.
    pub(super) const fn is_lasting(self) -> bool {
        !matches!(self, Self::Get | Self::Scan | Self::LogAfter | Self::Acquire)
    }

    /// Its bit among those that are refused.
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What is wrong now.
#[derive(Default)]
struct Faults {
    /// There is no answer.
    is_away: bool,
    /// The reasons logged since the last one that was: a server that was away may refuse the
    /// gateway now.
    logged: Vec<String>,
    /// Operations refused as all writes are, by bit.
    refused: u16,
    /// Operations refused by themselves, by bit.
    forbidden: u16,
}

pub(super) struct Health {
    faults: Mutex<Faults>,
    metrics: Metrics,
}

impl Health {
    /// Assumes the best until the first answer; the gauge says 0 until then.
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { faults: Mutex::default(), metrics: metrics.clone() }
    }

    pub(super) fn time(&self, operation: Operation) -> HistogramTimer {
        self.metrics.store_operation_duration.with_label_values(&[operation.as_str()]).start_timer()
    }

    /// Notes an answer; says so if there was none before.
    pub(super) fn worked(&self, operation: Operation) {
        let mut faults = self.faults.lock();
        let had_faults = faults.are_there();
        faults.is_away = false;
        faults.logged.clear();
        faults.forbidden &= !operation.bit();
        if operation.is_lasting() {
            faults.refused = 0;
        } else {
            faults.refused &= !operation.bit();
        }
        let has_faults = faults.are_there();
        drop(faults);
        if !has_faults {
            self.metrics.store_available.set(1);
            if had_faults {
                info!("redis answers again");
            }
        }
    }

    /// Notes a failure; says so if it is news.
    pub(super) fn failed(&self, operation: Operation, failure: Failure) -> StoreError {
        let mut faults = self.faults.lock();
        let is_news = match failure.cause {
            Cause::Late | Cause::Connection | Cause::WrongServer | Cause::NotMade | Cause::UnknownScript => {
                faults.is_away = true;
                faults.is_new_reason(&failure.error)
            }
            Cause::Refused => {
                let was_refused = faults.refused != 0;
                faults.refused |= operation.bit();
                !was_refused
            }
            Cause::Step => {
                let was_forbidden = faults.forbidden & operation.bit() != 0;
                faults.forbidden |= operation.bit();
                !was_forbidden
            }
        };
        drop(faults);
        if is_news {
            self.metrics.store_available.set(0);
            let (name, error) = (operation.as_str(), &failure.error);
            warn!(store.operation = name, "redis did not do `{name}`: {error}");
        }
        self.refused(operation, failure.error)
    }

    /// Counts an error that says nothing about Redis.
    pub(super) fn refused(&self, operation: Operation, error: StoreError) -> StoreError {
        let reason = match error {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Busy => "busy",
            StoreError::NotReplicated { .. } => "not_replicated",
            StoreError::Damaged(_) => "damaged",
            StoreError::TooLong(_) => "too_long",
        };
        self.metrics.store_errors.with_label_values(&[operation.as_str(), reason]).inc();
        error
    }
}

impl Faults {
    /// Whether to tell this reason. A few at most, whatever a network does: they are for a person.
    fn is_new_reason(&mut self, error: &StoreError) -> bool {
        let reason = error.to_string();
        let is_new_reason = self.logged.len() < MAX_LOGGED_REASONS && !self.logged.contains(&reason);
        if is_new_reason {
            self.logged.push(reason);
        }
        is_new_reason
    }

    fn are_there(&self) -> bool {
        self.is_away || self.refused != 0 || self.forbidden != 0
    }
}
