//! The second step of the decision: an admitted request finds its route and its upstream.

use std::sync::Arc;

use http::{HeaderMap, Method, Version, header};
use pingora::http::RequestHeader;

use super::admit::Admitted;
use super::current::Current;
use super::reason::Reason;
use super::refusal::Refusal;
use super::routed::Routed;
use crate::path::AmbiguousPath;
use crate::route::{NoRoute, PathRefusal, Route};
use crate::runtime::Runtime;

/// Finds the route of an admitted request.
///
/// # Errors
/// [`Reason::RouteUnknown`], [`Reason::MethodNotAllowed`], [`Reason::PathRefused`],
/// [`Reason::UpstreamUndefined`]
pub(super) fn route(
    request: &RequestHeader,
    admitted: &Admitted,
    current: &Current,
) -> Result<Routed, Refusal> {
    route_of_method(&request.method, request, admitted, current)
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
    let route = route.map_err(|none| Refusal::without_route(none.into()))?;
    let upstream = runtime.upstreams.by_name(&route.upstream);
    let upstream = upstream.ok_or(Refusal::without_route(Reason::UpstreamUndefined))?;
    Ok(Routed {
        route: Arc::clone(route),
        upstream: Arc::clone(upstream),
        is_websocket: route.websocket && is_websocket_opening(request),
        allowance: None,
    })
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

/// Whether a request is the opening handshake of a WebSocket, which has no body; RFC 6455 §4.1.
/// Pingora lets no other upgrade through.
fn is_websocket_opening(request: &RequestHeader) -> bool {
    let mut upgrades = request.headers.get_all(header::UPGRADE).iter();
    let is_websocket =
        upgrades.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    is_websocket
        && upgrades.next().is_none()
        && request.version == Version::HTTP_11
        && request.method == Method::GET
        && nominates_upgrade(&request.headers)
        && !request.headers.contains_key(header::CONTENT_LENGTH)
        && !request.headers.contains_key(header::TRANSFER_ENCODING)
}

fn nominates_upgrade(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests;
