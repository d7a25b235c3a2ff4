//! Counts and logs the sign-ins that were answered.

use std::time::Instant;

use http::StatusCode;
use tracing::{debug, info};

use super::answer::SignInAnswer;
use super::deps::SignInDependencies;
use crate::config::AppKind;

/// Label of the metrics of logins.
const PROVIDER: &str = "wechat";

/// Counts and logs a sign-in that was answered.
pub(super) fn record_sign_in(
    deps: &SignInDependencies,
    flow: AppKind,
    started: Instant,
    answer: &SignInAnswer,
    request_id: &str,
) {
    count_sign_in(deps, flow, answer.outcome);
    if answer.response.status() == StatusCode::TOO_MANY_REQUESTS {
        // A flood of them must not fill the log, nor make logins look fast.
        debug!(http.request.id = request_id, "a login was throttled");
        return;
    }
    let elapsed = deps.clock.instant().saturating_duration_since(started);
    if let Some(app) = &answer.app {
        deps.metrics.login_duration.with_label_values(&[&**app]).observe(elapsed.as_secs_f64());
    }
    let app = answer.app.as_deref().unwrap_or_default();
    let (outcome, duration_ms) = (answer.outcome, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    info!(
        login.outcome = outcome,
        login.flow = flow.as_str(),
        app.name = app,
        duration_ms,
        http.request.id = request_id,
        "a login ended: {outcome}"
    );
}

/// Counts a sign-in by its outcome.
pub(super) fn count_sign_in(deps: &SignInDependencies, flow: AppKind, outcome: &str) {
    deps.metrics.logins.with_label_values(&[PROVIDER, flow.as_str(), outcome]).inc();
}
