//! What the audit log is told of requests: who signed in and out, and who was turned away.

use std::sync::Arc;

use http::{Method, StatusCode};
use pingora::proxy::Session;

use super::context::Context;
use super::watch::Note;
use crate::authn::Authenticated;
use crate::runtime::Shared;
use crate::sign_in::Endpoint;
use crate::telemetry::audit_log::{AuditLog, Entry, Event};

/// Notes what the gateway answered itself, where that is worth a line.
pub(super) fn note_answer(log: &AuditLog, session: &Session, ctx: &Context, status: StatusCode) {
    if !log.is_on() {
        return;
    }
    let Some(event) = event(ctx, &session.req_header().method, status) else { return };
    log.write(&Entry {
        request_id: Some(ctx.request_id.as_str()),
        client_address: Some(ctx.caller.client),
        route: ctx.route.as_deref().map(|route| &*route.name),
        app: ctx.app(),
        subject: ctx.subject_hash(),
        ..Entry::new(ctx.now, event, ctx.outcome.reason)
    });
}

/// What notes why a tunnel was cut; `None` where nobody reads it.
pub(super) fn note_of_end(shared: &Shared, caller: &Authenticated, ctx: &Context) -> Option<Note> {
    if !shared.audit_log.is_on() {
        return None;
    }
    let (log, clock) = (Arc::clone(&shared.audit_log), Arc::clone(&shared.clock));
    let (caller, route) = (caller.clone(), ctx.route.clone());
    let (request_id, client_address) = (ctx.request_id, ctx.caller.client);
    Some(Box::new(move |reason| {
        log.write(&Entry {
            request_id: Some(request_id.as_str()),
            client_address: Some(client_address),
            route: route.as_deref().map(|route| &*route.name),
            app: Some(caller.app()),
            subject: Some(caller.subject_hash()),
            ..Entry::new(clock.now(), Event::TunnelClosed, reason)
        });
    }))
}

/// What an answer means. Each login is told of, however it ended; else only what turns a person away.
fn event(ctx: &Context, method: &Method, status: StatusCode) -> Option<Event> {
    let turns_away = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    match ctx.endpoint {
        Some(Endpoint::Login) => (method == Method::POST).then_some(Event::Login),
        Some(Endpoint::Callback) => Some(Event::Login),
        Some(Endpoint::Refresh) => turns_away.then_some(Event::Refresh),
        Some(Endpoint::Logout) => (method == Method::POST).then_some(Event::Logout),
        Some(Endpoint::Session) => turns_away.then_some(Event::Refusal),
        Some(Endpoint::Start | Endpoint::Jwks | Endpoint::Unknown) => None,
        // Not by its status: some routes refuse with 200.
        None => ctx.is_denied.then_some(Event::Refusal),
    }
}
