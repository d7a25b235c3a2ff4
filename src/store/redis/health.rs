//! Whether Redis makes the steps. A change is logged once; every failure is counted.

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
    /// Whether the operation writes a row that must outlive a failover, or checks that such writes
    /// work. The bucket of a rate does not need to outlive it.
    pub(super) const fn is_lasting(self) -> bool {
        !matches!(self, Self::Get | Self::Scan | Self::LogAfter | Self::Acquire)
    }

    /// The operation's bit in the fields of [`Faults`].
    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What is wrong now.
#[derive(Default)]
struct Faults {
    /// Redis does not answer, or no server accepts writes.
    is_away: bool,
    /// The reasons logged since the last answer. One outage can have several: a server that was
    /// silent may then refuse the gateway.
    logged: Vec<String>,
    /// Operations that failed because the server refuses all writes, by bit.
    refused: u16,
    /// Operations that the server does not allow although it allows others, by bit.
    forbidden: u16,
}

pub(super) struct Health {
    faults: Mutex<Faults>,
    metrics: Metrics,
}

impl Health {
    /// Assumes that nothing is wrong until the first answer. The gauge is 0 until then.
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { faults: Mutex::default(), metrics: metrics.clone() }
    }

    pub(super) fn time(&self, operation: Operation) -> HistogramTimer {
        self.metrics.store_operation_duration.with_label_values(&[operation.as_str()]).start_timer()
    }

    /// Records an answer, and logs it if it ends the last fault.
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

    /// Records a failure, and logs it if it is new.
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

    /// Counts an error, without a conclusion about Redis.
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
    /// Whether to log this reason. At most [`MAX_LOGGED_REASONS`] in one outage, so that an
    /// unstable network does not fill the operator's log.
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
