//! What the audit log says of requests: who signed in and out, and who was refused.

use http::{Method, StatusCode};
use pingora::proxy::Session;

use super::context::{Context, Decision};
use crate::sign_in::Endpoint;
use crate::telemetry::audit_log::{AuditEvent, AuditLog, AuditLogEntry};

/// Writes a line for an answer of the gateway's own, if it is an event of the audit log.
pub(super) fn write_answer(log: &AuditLog, session: &Session, ctx: &Context, status: StatusCode) {
    if !log.is_on() {
        return;
    }
    let Some(event) = event(ctx, &session.req_header().method, status) else { return };
    log.write(&AuditLogEntry {
        request_id: Some(ctx.arrival.request_id.as_str()),
        client_address: Some(ctx.arrival.client.client),
        route: ctx.decision.route().map(|route| &*route.name),
        app: ctx.decision.app(),
        subject: ctx.decision.subject_hash(),
        ..AuditLogEntry::new(ctx.arrival.now, event, ctx.reason.as_str())
    });
}

/// Which event an answer is. Each login is one, however it ended; of the rest only what refuses a person.
fn event(ctx: &Context, method: &Method, status: StatusCode) -> Option<AuditEvent> {
    let refuses_person = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    match ctx.decision {
        Decision::Answered { endpoint: Some(endpoint), .. } => match endpoint {
            Endpoint::Login => (method == Method::POST).then_some(AuditEvent::Login),
            Endpoint::Callback => Some(AuditEvent::Login),
            Endpoint::Refresh => refuses_person.then_some(AuditEvent::Refresh),
            Endpoint::Logout => (method == Method::POST).then_some(AuditEvent::Logout),
            Endpoint::Session => refuses_person.then_some(AuditEvent::Refusal),
            Endpoint::Start | Endpoint::Jwks | Endpoint::Unknown => None,
        },
        // Not by its status: some routes refuse with 200. A person redirected to sign in is not refused.
        _ => (ctx.reason.is_denial() && !status.is_redirection()).then_some(AuditEvent::Refusal),
    }
}
