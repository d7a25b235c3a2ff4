//! What the audit log says about requests: who signed in and out, and which
//! known user was refused.

use http::{Method, StatusCode};
use pingora::proxy::Session;

use super::context::{Context, Decision};
use crate::clock::Timestamp;
use crate::telemetry::audit_log::{AuditEvent, AuditLog, AuditLogEntry};

/// Writes a line for an answer of the gateway's own, if it is an event of the audit log.
pub(super) fn write_answer(log: &AuditLog, session: &Session, ctx: &Context, status: StatusCode) {
    if !log.is_on() {
        return;
    }
    let Some(event) = event(ctx, &session.req_header().method, status) else { return };
    if event == AuditEvent::Refusal && ctx.decision.subject_hash().is_none() {
        // The access log has it. Here the line would name no person, and anonymous clients could
        // fill the log.
        return;
    }
    log.write(&AuditLogEntry {
        request_id: Some(ctx.arrival.request_id.as_str()),
        client_address: Some(ctx.arrival.client.client),
        route: ctx.decision.route().map(|route| &*route.name),
        app: ctx.decision.app(),
        subject: ctx.decision.subject_hash(),
        ..AuditLogEntry::new(ctx.arrival.now, event, ctx.reason.as_str())
    });
}

/// Writes a line for a request that was cut off because its caller is no longer permitted.
pub(super) fn write_cut(log: &AuditLog, ctx: &Context, now: Timestamp) {
    if !log.is_on() || !ctx.reason.ends_permission() || ctx.decision.subject_hash().is_none() {
        return;
    }
    let event = if ctx.counted_tunnel.is_some() { AuditEvent::TunnelClosed } else { AuditEvent::RequestCut };
    log.write(&AuditLogEntry {
        request_id: Some(ctx.arrival.request_id.as_str()),
        client_address: Some(ctx.arrival.client.client),
        route: ctx.decision.route().map(|route| &*route.name),
        app: ctx.decision.app(),
        subject: ctx.decision.subject_hash(),
        ..AuditLogEntry::new(now, event, ctx.reason.as_str())
    });
}

/// Which event an answer is. The table of endpoints says it for an endpoint; on a route only a
/// refusal is one.
fn event(ctx: &Context, method: &Method, status: StatusCode) -> Option<AuditEvent> {
    match ctx.decision {
        Decision::Answered { endpoint: Some(endpoint), .. } => {
            let is_user_known = ctx.decision.subject_hash().is_some();
            // A façade may answer an error with 200.
            let status = ctx.reason.status().unwrap_or(status);
            endpoint.audit_event(method, status, ctx.reason.as_str(), is_user_known)
        }
        // Not by its status: some routes refuse with 200. A person redirected to sign in is not
        // refused.
        _ => (ctx.reason.is_denial() && !status.is_redirection()).then_some(AuditEvent::Refusal),
    }
}
