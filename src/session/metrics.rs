//! The metrics of this module, their children resolved once.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{RefreshError, SessionError, SessionScope};
use crate::telemetry::metrics::Metrics;

pub(super) struct SessionMetrics {
    checks: Outcomes,
    refreshes: [IntCounter; 5],
    revocations: [Outcomes; 6],
    pub(super) evicted: IntCounter,
    pub(super) store_available: IntGauge,
}

/// Done, found to be over, not known.
struct Outcomes([IntCounter; 3]);

/// What became of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refreshing {
    Rotated,
    Repeated,
    Invalid,
    Reused,
    Unavailable,
}

/// What is counted as a scope of its own: sessions ended by a refresh token used twice.
const REUSE: &str = "reuse";
const SCOPES: [&str; 6] = ["session", "subject", "unionid", "app", "opened_before", REUSE];

impl SessionMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let refreshes = ["rotated", "repeated", "invalid", "reused", "unavailable"];
        let revocation = |scope| {
            let outcomes = ["ended", "nothing", "unavailable"];
            Outcomes(outcomes.map(|outcome| child(&metrics.session_revocations, &[scope, outcome])))
        };
        Self {
            checks: Outcomes(
                ["active", "ended", "unavailable"].map(|name| child(&metrics.session_checks, &[name])),
            ),
            refreshes: refreshes.map(|outcome| child(&metrics.refreshes, &[outcome])),
            revocations: SCOPES.map(revocation),
            evicted: metrics.sessions_evicted.clone(),
            store_available: metrics.store_available.clone(),
        }
    }

    pub(super) fn checked<T>(&self, result: &Result<T, SessionError>) {
        let Outcomes([active, ended, unavailable]) = &self.checks;
        match result {
            Ok(_) => active.inc(),
            Err(SessionError::Ended | SessionError::Blocked) => ended.inc(),
            Err(SessionError::Store(_) | SessionError::Internal(_)) => unavailable.inc(),
        }
    }

    pub(super) fn refreshed(&self, outcome: Refreshing) {
        let [rotated, repeated, invalid, reused, unavailable] = &self.refreshes;
        match outcome {
            Refreshing::Rotated => rotated.inc(),
            Refreshing::Repeated => repeated.inc(),
            Refreshing::Invalid => invalid.inc(),
            Refreshing::Reused => reused.inc(),
            Refreshing::Unavailable => unavailable.inc(),
        }
    }

    pub(super) fn revoked(&self, scope: &SessionScope, result: &Result<Option<u64>, SessionError>) {
        self.count(scope.as_str(), result);
    }

    pub(super) fn revoked_for_reuse(&self, result: &Result<Option<u64>, SessionError>) {
        self.count(REUSE, result);
    }

    fn count(&self, scope: &str, result: &Result<Option<u64>, SessionError>) {
        let child = SCOPES.iter().zip(&self.revocations).find(|(name, _)| **name == scope);
        let Some((_, Outcomes([ended, nothing, unavailable]))) = child else { return };
        match result {
            Ok(Some(0)) => nothing.inc(),
            Ok(_) => ended.inc(),
            Err(_) => unavailable.inc(),
        }
    }
}

impl From<&RefreshError> for Refreshing {
    fn from(error: &RefreshError) -> Self {
        match error {
            RefreshError::Invalid | RefreshError::AppNotAllowed => Self::Invalid,
            RefreshError::Reused => Self::Reused,
            RefreshError::Session(_) => Self::Unavailable,
        }
    }
}

fn child(family: &IntCounterVec, labels: &[&str]) -> IntCounter {
    family.with_label_values(labels)
}
