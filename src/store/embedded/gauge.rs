//! What the metrics say of each operation.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::super::StoreError;
use crate::telemetry::metrics::Metrics;

/// An operation, as metrics name it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Get,
    Put,
    PutIfAbsent,
    CompareAndSet,
    CompareAndDelete,
    Take,
    Increment,
    Append,
    LogAfter,
    Ping,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutIfAbsent => "put_if_absent",
            Self::CompareAndSet => "compare_and_set",
            Self::CompareAndDelete => "compare_and_delete",
            Self::Take => "take",
            Self::Increment => "increment",
            Self::Append => "append",
            Self::LogAfter => "log_after",
            Self::Ping => "ping",
        }
    }
}

/// The metrics of one store, looked up once.
pub(super) struct Gauges {
    get: OperationGauges,
    put: OperationGauges,
    put_if_absent: OperationGauges,
    compare_and_set: OperationGauges,
    compare_and_delete: OperationGauges,
    take: OperationGauges,
    increment: OperationGauges,
    append: OperationGauges,
    log_after: OperationGauges,
    ping: OperationGauges,
    available: IntGauge,
}

struct OperationGauges {
    duration: Histogram,
    unavailable: IntCounter,
    busy: IntCounter,
    damaged: IntCounter,
}

impl Gauges {
    /// Nothing failed yet: the store counts as available from the start.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |operation: Operation| {
            let errors = |reason| metrics.store_errors.with_label_values(&[operation.as_str(), reason]);
            OperationGauges {
                duration: metrics.store_operation_duration.with_label_values(&[operation.as_str()]),
                unavailable: errors("unavailable"),
                busy: errors("busy"),
                damaged: errors("damaged"),
            }
        };
        metrics.store_available.set(1);
        Self {
            get: of(Operation::Get),
            put: of(Operation::Put),
            put_if_absent: of(Operation::PutIfAbsent),
            compare_and_set: of(Operation::CompareAndSet),
            compare_and_delete: of(Operation::CompareAndDelete),
            take: of(Operation::Take),
            increment: of(Operation::Increment),
            append: of(Operation::Append),
            log_after: of(Operation::LogAfter),
            ping: of(Operation::Ping),
            available: metrics.store_available.clone(),
        }
    }

    pub(super) fn observe<T>(&self, operation: Operation, took: Duration, outcome: &Result<T, StoreError>) {
        let gauges = self.of(operation);
        gauges.duration.observe(took.as_secs_f64());
        match outcome {
            Ok(_) => self.available.set(1),
            Err(StoreError::Unavailable(_)) => {
                self.available.set(0);
                gauges.unavailable.inc();
            }
            Err(StoreError::Busy) => gauges.busy.inc(),
            Err(StoreError::Damaged(_)) => gauges.damaged.inc(),
            // The caller's mistake, and one that an embedded store cannot make.
            Err(StoreError::TooLong(_) | StoreError::NotReplicated { .. }) => {}
        }
    }

    const fn of(&self, operation: Operation) -> &OperationGauges {
        match operation {
            Operation::Get => &self.get,
            Operation::Put => &self.put,
            Operation::PutIfAbsent => &self.put_if_absent,
            Operation::CompareAndSet => &self.compare_and_set,
            Operation::CompareAndDelete => &self.compare_and_delete,
            Operation::Take => &self.take,
            Operation::Increment => &self.increment,
            Operation::Append => &self.append,
            Operation::LogAfter => &self.log_after,
            Operation::Ping => &self.ping,
        }
    }
}
