//! Requests of pages of other origins (CORS): preflights are answered by policy, and answers say
//! which pages may read them.
//!
//! The policy of a route says it for the answers on that route. The policy of the gateway says it
//! for all other answers of the gateway's own.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::admit::Admitted;
use super::caching;
use super::context::Context;
use super::current::Current;
use super::reason::Reason;
use super::routing;
use super::sign_in::GatewayAnswer;
use crate::cors::{self, CorsPolicy};
use crate::route::Route;

/// What becomes of a request that may be a preflight.
pub(super) enum PreflightStep {
    /// It is none, or no policy is about it: it is decided as every other request.
    NotOurs,
    /// The gateway answers it.
    Answer(Box<GatewayAnswer>),
    /// It is forwarded without an identity, to the route that serves this method.
    Forward(Method),
}

/// Decides about a preflight.
///
/// The route is that of the method that the browser asks about. So a page of a listed origin learns
/// of a path that matches no route by the answer to the request itself, not by a failed preflight.
pub(super) fn step(session: &mut Session, admitted: &Admitted, current: &Current) -> PreflightStep {
    let request = session.req_header();
    if !cors::is_preflight(&request.method, &request.headers) || admitted.is_about_server {
        return PreflightStep::NotOurs;
    }
    let (runtime, path) = (current.runtime(), request.uri.path());
    let method = cors::requested_method(&request.headers);
    let answer = |policy: &CorsPolicy, route| {
        PreflightStep::Answer(Box::new(answer(policy, &request.headers, method.as_ref(), route)))
    };
    let by_gateway = || runtime.cors.as_ref().map_or(PreflightStep::NotOurs, |policy| answer(policy, None));
    if admitted.ambiguous_path.is_none() && runtime.sign_in.endpoint(path).is_some() {
        return by_gateway();
    }
    let searched = method.as_ref().unwrap_or(&request.method);
    let Ok(route) = routing::find(runtime, admitted, path, searched) else { return by_gateway() };
    match &route.cors {
        None => PreflightStep::NotOurs,
        Some(policy) if policy.is_answered_by_backend() && policy.lists_origin_of(&request.headers) => {
            let method = searched.clone();
            // A browser sends none with a body.
            if session.is_body_empty() { PreflightStep::Forward(method) } else { PreflightStep::NotOurs }
        }
        Some(policy) => answer(policy, Some(route)),
    }
}

/// The answer to a preflight. It is no error, whatever the verdict: a browser refuses by itself if
/// it does not find its origin, and a page of another site must not cause errors that count against
/// its visitors.
fn answer(
    policy: &CorsPolicy,
    request: &HeaderMap,
    method: Option<&Method>,
    route: Option<&Arc<Route>>,
) -> GatewayAnswer {
    let reason = match policy.judge_preflight(request, method) {
        Ok(()) => Reason::Preflight,
        Err(error) => Reason::PreflightRefused(error),
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.extend(policy.preflight_fields(request).filter_map(parsed));
    // The method decided which route's policy this is.
    headers.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Method"));
    GatewayAnswer { reason, response, endpoint: None, route: route.cloned(), person: None }
}

/// Says on an answer of a backend which pages may read it, in place of what the backend says.
pub(super) fn edit_response(
    response: &mut ResponseHeader,
    policy: &CorsPolicy,
    request: &HeaderMap,
    is_preflight: bool,
) -> pingora::Result<()> {
    if response.status.is_informational() {
        return Ok(());
    }
    let is_replaced = |name: &&HeaderName| cors::is_replaced(name, is_preflight);
    // Nearly every backend behind a policy writes none, and then nothing is allocated.
    let replaced: Vec<HeaderName> = response.headers.keys().filter(is_replaced).cloned().collect();
    for name in replaced {
        response.remove_header(&name);
    }
    policy.fields(request).try_for_each(|(name, value)| response.insert_header(name, value))
}

/// Says on an answer of the gateway which pages may read it. A preflight was answered with all that
/// belongs to it.
pub(super) fn edit_own_response(response: &mut Response<Bytes>, request: &RequestHeader, ctx: &Context) {
    if matches!(ctx.reason, Reason::Preflight | Reason::PreflightRefused(_)) {
        return;
    }
    let Some(policy) = policy_of(request, ctx) else { return };
    let headers = response.headers_mut();
    headers.extend(policy.gateway_fields(&request.headers).filter_map(parsed));
    if let Some(vary) = caching::vary_with(headers, &caching::ORIGIN) {
        headers.insert(header::VARY, vary);
    }
}

/// The policy for an answer of the gateway's own: that of its route, or else the gateway's.
fn policy_of<'c>(request: &RequestHeader, ctx: &'c Context) -> Option<&'c CorsPolicy> {
    let runtime = ctx.current.runtime();
    let route = match (&ctx.admitted, ctx.reason) {
        // A client is locked out before its route is known.
        (Some(admitted), Reason::TooManyErrors) => {
            routing::find(runtime, admitted, request.uri.path(), &request.method).ok()
        }
        _ => ctx.decision.route(),
    };
    route.and_then(|route| route.cors.as_ref()).or(runtime.cors.as_ref())
}

fn parsed((name, value): cors::AnswerField) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
}

#[cfg(test)]
mod tests;
