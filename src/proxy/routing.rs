//! The second step of the decision: an admitted request finds its route and its upstream.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;

use super::admission::allow;
use super::admit::Admitted;
use super::current::Current;
use super::destination;
use super::reason::Reason;
use super::refusal::Refusal;
use super::routed::Routed;
use crate::path::AmbiguousPath;
use crate::route::{NoRoute, PathRefusal, Route, has_destination};
use crate::runtime::Runtime;

/// Finds the route of an admitted request.
///
/// # Errors
/// [`Reason::RouteUnknown`], [`Reason::MethodNotAllowed`], [`Reason::PathRefused`],
/// [`Reason::UpstreamUndefined`], [`Reason::DestinationRefused`]
pub(super) fn route(
    request: &RequestHeader,
    admitted: &Admitted,
    current: &Current,
) -> Result<Routed, Refusal> {
    let routed = route_of_method(&request.method, request, admitted, current)?;
    if has_destination(&request.method) {
        destination::check(request, &routed, admitted, current)?;
    }
    Ok(routed)
}

/// Finds the route of an admitted request, as if it had this method.
///
/// # Errors
/// As [`route`].
pub(super) fn route_of_method(
    method: &Method,
    request: &RequestHeader,
    admitted: &Admitted,
    current: &Current,
) -> Result<Routed, Refusal> {
    let runtime = current.runtime();
    let route = find(runtime, admitted, request.uri.path(), method);
    let route = route.map_err(|none| refusal(none, runtime, admitted, request.uri.path()))?;
    let upstream = runtime.upstreams.by_name(&route.upstream);
    let upstream = upstream.ok_or(Refusal::without_route(Reason::UpstreamUndefined))?;
    Ok(Routed {
        route: Arc::clone(route),
        upstream: Arc::clone(upstream),
        is_websocket: route.websocket && is_websocket_opening(request),
        allowance: None,
    })
}

fn refusal(none: NoRoute, runtime: &Runtime, admitted: &Admitted, path: &str) -> Refusal {
    let refusal = Refusal::without_route(none.into());
    if none != NoRoute::MethodNotAllowed || admitted.ambiguous_path.is_some() {
        return refusal;
    }
    let methods = runtime.routes.methods_at(&admitted.host, path);
    refusal.with_allow(allow(methods.iter()))
}

/// Finds the route of an admitted request with this path, as if it had this method.
///
/// # Errors
/// [`NoRoute`]
pub(super) fn find<'r>(
    runtime: &'r Runtime,
    admitted: &Admitted,
    path: &str,
    method: &Method,
) -> Result<&'r Arc<Route>, NoRoute> {
    match &admitted.ambiguous_path {
        None => runtime.routes.find(&admitted.host, path, method),
        Some(path) => find_in_every_reading(runtime, &admitted.host, path, method),
    }
}

/// Finds the route of a path that backends read in more than one way. No reading may be a path of
/// an endpoint: the gateway alone answers these.
///
/// # Errors
/// [`NoRoute`]
pub(super) fn find_in_every_reading<'r>(
    runtime: &'r Runtime,
    host: &str,
    path: &AmbiguousPath,
    method: &Method,
) -> Result<&'r Arc<Route>, NoRoute> {
    if runtime.sign_in.is_in_a_reading_of(path) {
        return Err(NoRoute::Path(PathRefusal::ReadingsDiffer(path.spellings())));
    }
    runtime.routes.find_in_every_reading(host, path, method)
}

/// Whether a request is the opening handshake of a WebSocket, which has no body; RFC 6455 §4.2.1.
/// `Upgrade` may offer other protocols too, and some proxies add `Content-Length: 0`.
///
/// The key and the version are for the backend, which answers 400 or 426 if it does not like them.
pub(super) fn is_websocket_opening(request: &RequestHeader) -> bool {
    let headers = &request.headers;
    let is_empty = |length: &HeaderValue| length == "0";
    lists(headers, &header::UPGRADE, b"websocket")
        && request.version == Version::HTTP_11
        && request.method == Method::GET
        && lists(headers, &header::CONNECTION, b"upgrade")
        && headers.get(header::CONTENT_LENGTH).is_none_or(is_empty)
        && !headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether a list has a member, in any letter case.
fn lists(headers: &HeaderMap, name: &HeaderName, member: &[u8]) -> bool {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(member))
}

#[cfg(test)]
mod tests;
