//! The decision on a request: admit, route, permit. Each step returns the proof that the next one
//! needs, or the refusal.

use std::sync::Arc;

use http::StatusCode;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admission::AdmissionError;
use super::admit::admit;
use super::arrival::RequestArrival;
use super::context::Context;
use super::cors::{self, PreflightStep};
use super::gateway::Gateway;
use super::permit::{Caller, Permit, permit};
use super::reason::Reason;
use super::refusal::Refusal;
use super::routing::{is_websocket_opening, route, route_of_method};
use super::sign_in::{self, GatewayAnswer};
use super::{limits, respond};

/// What a request that is not refused gets.
pub(super) enum Decided {
    /// It is forwarded.
    Forward(Permit),
    /// The gateway answers it.
    Answer(GatewayAnswer),
}

/// Decides a request.
///
/// # Errors
/// [`Refusal`], the first reason found.
pub(super) async fn decide(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Result<Decided, Refusal> {
    if let Some(answer) = answer_probe(session, ctx, gateway) {
        return answer.map(Decided::Answer);
    }
    let current = &*ctx.current;
    let admitted = match ctx.arrival.identify_client(session, &current.trusted_proxies) {
        Ok(()) => match &ctx.refused {
            Some(refused) => Err(Refusal::without_route(Reason::Admission(refused.error))),
            None => admit(session, &current.admission),
        },
        Err(refusal) => Err(refusal),
    };
    let admitted = admitted.map(|admitted| &*ctx.admitted.insert(admitted));
    let preflight = match &admitted {
        Ok(admitted) => cors::step(session, admitted, current),
        Err(_) => PreflightStep::NotOurs,
    };
    if let PreflightStep::Answer(answer) = preflight {
        // Also for a client that is locked out: otherwise its page could not read that it is.
        return Ok(Decided::Answer(*answer));
    }
    // The client's address is known only now. A client that is locked out gets no other refusal.
    limits::check_lock_out(current, &ctx.arrival)?;
    let admitted = admitted?;
    if admitted.is_about_server {
        return Ok(Decided::Answer(GatewayAnswer::about_gateway(Reason::Options, respond::options(current))));
    }
    if admitted.ambiguous_path.is_none()
        && let Some(endpoint) = current.runtime().sign_in.endpoint(session.req_header().uri.path())
    {
        // Boxed, so that the memory of a sign-in is not moved with every other request.
        let answer = Box::pin(sign_in::answer(session, current, &ctx.arrival, endpoint)).await;
        if answer.response.status() == StatusCode::BAD_REQUEST && ctx.has_malformed_body() {
            return Err(Refusal::without_route(Reason::Admission(AdmissionError::Chunk)));
        }
        return Ok(Decided::Answer(answer));
    }
    let request = session.req_header();
    let routed = match &preflight {
        PreflightStep::Forward(method) => route_of_method(method, request, admitted, current)?,
        _ => route(request, admitted, current)?,
    };
    let routed = limits::check_address(routed, current, &ctx.arrival)?;
    let permit = match preflight {
        PreflightStep::Forward(_) => Permit::preflight(routed),
        _ => permit(request, routed, &ctx.arrival, current).await?,
    };
    let permit = limits::check_caller(permit, current, &ctx.arrival)?;
    if !permit.route.websocket && is_websocket_opening(request) {
        // Forwarded without the upgrade, it would be answered by a backend that knows nothing of
        // WebSocket, and the client would look for the mistake there.
        return Err(refuse_websocket(permit));
    }
    let (permit, entered) = limits::enter(permit, &gateway.budget, &ctx.arrival).await?;
    ctx.counted = Some(entered.counted);
    // A preflight has no user.
    if !entered.has_waited || permit.is_preflight {
        return Ok(Decided::Forward(permit));
    }
    Box::pin(decide_again(request, permit, ctx, gateway)).await.map(Decided::Forward)
}

/// The answer to the probe of a balancer, if the request is one.
fn answer_probe(
    session: &Session,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Option<Result<GatewayAnswer, Refusal>> {
    let is_draining = gateway.health.probe(session).filter(|_| ctx.refused.is_none())?;
    // For the line of the access log.
    let identified = ctx.arrival.identify_client(session, &ctx.current.trusted_proxies);
    let answer = respond::health(is_draining);
    Some(identified.map(|()| GatewayAnswer::about_gateway(Reason::Health, answer)))
}

fn refuse_websocket(permit: Permit) -> Refusal {
    let (routed, caller) = permit.revoke();
    let refusal = Refusal::on(routed, Reason::WebSocketNotAllowed);
    match &caller {
        Caller::Authenticated(authenticated) => refusal.of(authenticated),
        Caller::Anonymous => refusal,
    }
}

/// Decides again on a request that had to wait for room: its session may have ended meanwhile, or a
/// reload may have changed what it may do. It has passed its limits already.
async fn decide_again(
    request: &RequestHeader,
    permit: Permit,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Result<Permit, Refusal> {
    ctx.current = gateway.current.load_full();
    let current = &*ctx.current;
    let arrival = RequestArrival { now: gateway.records.shared.clock.now(), ..ctx.arrival };
    let unknown = || Refusal::without_route(Reason::RouteUnknown);
    if current.runtime().sign_in.endpoint(request.uri.path()).is_some() {
        // The gateway answers it now.
        return Err(unknown());
    }
    let admitted = ctx.admitted.as_ref().ok_or_else(unknown)?;
    let mut routed = route(request, admitted, current)?;
    if Arc::ptr_eq(&routed.route, &permit.route) {
        routed.allowance = permit.allowance;
    }
    self::permit(request, routed, &arrival, current).await
}
