//! The metrics of each operation.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::super::StoreError;
use super::super::operation::Operation;
use crate::telemetry::metrics::Metrics;

/// The metrics of one store, looked up once.
pub(super) struct Gauges {
    /// In the order of [`Operation::STEPS`].
    steps: [OperationGauges; Operation::STEPS.len()],
    available: IntGauge,
}

struct OperationGauges {
    duration: Histogram,
    unavailable: IntCounter,
    busy: IntCounter,
    damaged: IntCounter,
}

impl Gauges {
    /// Makes the metrics. The store counts as available from the start, since nothing has failed.
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
        Self { steps: Operation::STEPS.map(of), available: metrics.store_available.clone() }
    }

    pub(super) fn observe<T>(&self, operation: Operation, took: Duration, outcome: &Result<T, StoreError>) {
        // An embedded store has no shared rates.
        let Some(gauges) = self.steps.get(operation as usize) else { return };
        gauges.duration.observe(took.as_secs_f64());
        match outcome {
            Ok(_) => self.available.set(1),
            Err(StoreError::Unavailable(_)) => {
                self.available.set(0);
                gauges.unavailable.inc();
            }
            Err(StoreError::Busy) => gauges.busy.inc(),
            Err(StoreError::Damaged(_)) => gauges.damaged.inc(),
            // `TooLong` is the caller's mistake. An embedded store has no replicas.
            Err(StoreError::TooLong(_) | StoreError::NotReplicated { .. }) => {}
        }
    }
}
