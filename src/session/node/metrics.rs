//! The metrics of sessions, their children resolved once.

use prometheus::{IntCounter, IntCounterVec};

use crate::session::error::{RefreshError, SessionError};
use crate::session::scope::SessionScope;
use crate::telemetry::metrics::Metrics;

pub(in crate::session) struct SessionMetrics {
    checks: OutcomeCounters,
    refreshes: [IntCounter; 6],
    revocations: [OutcomeCounters; SCOPES.len()],
    pub(in crate::session) evicted: IntCounter,
}

/// Three counters: success, nothing to do, unknown.
struct OutcomeCounters([IntCounter; 3]);

/// What became of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum RefreshOutcome {
    Rotated,
    Repeated,
    Invalid,
    OtherClient,
    Reused,
    Unavailable,
}

/// A scope of its own: sessions that ended because a refresh token was used twice.
const REUSE: &str = "reuse";
const SCOPES: [&str; 7] = ["session", "subject", "unionid", "user", "app", "opened_before", REUSE];

impl SessionMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let refreshes = ["rotated", "repeated", "invalid", "other_client", "reused", "unavailable"];
        let revocation = |scope| {
            let outcomes = ["ended", "nothing", "unavailable"];
            OutcomeCounters(outcomes.map(|outcome| child(&metrics.session_revocations, &[scope, outcome])))
        };
        Self {
            checks: OutcomeCounters(
                ["active", "ended", "unavailable"].map(|name| child(&metrics.session_checks, &[name])),
            ),
            refreshes: refreshes.map(|outcome| child(&metrics.refreshes, &[outcome])),
            revocations: SCOPES.map(revocation),
            evicted: metrics.sessions_evicted.clone(),
        }
    }

    /// Counts a check.
    pub(in crate::session) fn count_check<T>(&self, result: &Result<T, SessionError>) {
        let OutcomeCounters([active, ended, unavailable]) = &self.checks;
        match result {
            Ok(_) => active.inc(),
            Err(SessionError::Ended | SessionError::Blocked) => ended.inc(),
            Err(SessionError::Store(_) | SessionError::Internal(_)) => unavailable.inc(),
        }
    }

    /// Counts a refresh.
    pub(in crate::session) fn count_refresh(&self, outcome: RefreshOutcome) {
        let [rotated, repeated, invalid, other_client, reused, unavailable] = &self.refreshes;
        match outcome {
            RefreshOutcome::Rotated => rotated.inc(),
            RefreshOutcome::Repeated => repeated.inc(),
            RefreshOutcome::Invalid => invalid.inc(),
            RefreshOutcome::OtherClient => other_client.inc(),
            RefreshOutcome::Reused => reused.inc(),
            RefreshOutcome::Unavailable => unavailable.inc(),
        }
    }

    /// Counts a revocation.
    pub(in crate::session) fn count_revocation(
        &self,
        scope: &SessionScope,
        result: &Result<Option<u64>, SessionError>,
    ) {
        self.count(scope.as_str(), result);
    }

    /// Counts a session that ended because a refresh token was used twice.
    pub(in crate::session) fn count_reuse(&self, result: &Result<Option<u64>, SessionError>) {
        self.count(REUSE, result);
    }

    fn count(&self, scope: &str, result: &Result<Option<u64>, SessionError>) {
        let child = SCOPES.iter().zip(&self.revocations).find(|(name, _)| **name == scope);
        let Some((_, OutcomeCounters([ended, nothing, unavailable]))) = child else { return };
        match result {
            Ok(Some(0)) => nothing.inc(),
            Ok(_) => ended.inc(),
            Err(_) => unavailable.inc(),
        }
    }
}

impl From<&RefreshError> for RefreshOutcome {
    fn from(error: &RefreshError) -> Self {
        match error {
            RefreshError::Invalid | RefreshError::AppNotAllowed => Self::Invalid,
            RefreshError::OfOtherClient(_) => Self::OtherClient,
            RefreshError::Reused(_) => Self::Reused,
            RefreshError::Session(_) => Self::Unavailable,
        }
    }
}

fn child(family: &IntCounterVec, labels: &[&str]) -> IntCounter {
    family.with_label_values(labels)
}
