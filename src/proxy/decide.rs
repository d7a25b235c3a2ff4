//! The steps from a request's header to a decision: admission, caller, route, authentication.
//!
//! Each step answers the request or lets it go to the next. None of them waits, but for the session of a token that is
//! not remembered.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admission::{self, Admitted, Received, with_path_and_query};
use super::context::{Context, Decision, Outcome};
use super::request_id::RequestId;
use super::respond;
use crate::authn;
use crate::config::Access;
use crate::route::{METHODS, NoRoute, Route};
use crate::sign_in::TurnedAway;
use crate::token::VerifyError;

/// Methods named in `Allow` where the gateway itself refuses one.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Lets a request in, and gives it its one canonical target and host.
pub(super) fn admit(session: &mut Session, ctx: &mut Context) -> Option<Response<Bytes>> {
    let Some(peer) = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip) else {
        return Some(refuse(ctx, StatusCode::BAD_REQUEST, "peer_unknown", None));
    };
    ctx.is_https = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    // A clone of the bytes is a count of references: the request is borrowed below.
    let raw_header = session.as_downstream().as_http1().map(|http1| http1.get_headers_raw_bytes());
    let request = session.req_header();
    ctx.caller = ctx.current.trusted_proxies.caller(peer, &request.headers);
    if ctx.caller.peer_is_trusted
        && let Some(id) =
            request.headers.get("x-request-id").and_then(|id| RequestId::parse(id.to_str().ok()?))
    {
        ctx.request_id = id;
    }
    let received = Received { parts: request, target: request.raw_path(), raw_header: raw_header.as_deref() };
    let current = Arc::clone(&ctx.current);
    match current.admission.admit(&received) {
        Err(refusal) => Some(refuse_admission(ctx, refusal)),
        Ok(admitted) if admitted.is_about_server => {
            ctx.outcome = Outcome::answered("options");
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(header::ALLOW, ALLOW);
            Some(response)
        }
        Ok(Admitted { host, rewritten_target: target, rewritten_authority: authority, .. }) => {
            ctx.host = host.into_owned();
            if target.is_none() && authority.is_none() {
                return None;
            }
            let rewritten = rewrite(session.req_header_mut(), target, authority);
            rewritten.is_none().then(|| refuse(ctx, StatusCode::BAD_REQUEST, "target_malformed", None))
        }
    }
}

/// Finds the route of an admitted request.
pub(super) fn find_route(session: &Session, ctx: &mut Context) -> Option<Response<Bytes>> {
    let request = session.req_header();
    let current = Arc::clone(&ctx.current);
    match current.runtime.routes.find(&ctx.host, request.uri.path(), &request.method) {
        Ok(route) => {
            let Some(upstream) = current.runtime.upstreams.by_name(&route.upstream) else {
                return Some(refuse(ctx, StatusCode::INTERNAL_SERVER_ERROR, "upstream_undefined", None));
            };
            ctx.is_websocket = route.websocket && is_websocket_opening(request);
            ctx.upstream = Some(Arc::clone(upstream));
            ctx.route = Some(Arc::clone(route));
            None
        }
        Err(NoRoute::NotFound) => Some(refuse(ctx, StatusCode::NOT_FOUND, "route_unknown", None)),
        Err(NoRoute::MethodNotAllowed) => {
            Some(refuse(ctx, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None))
        }
    }
}

/// Decides who calls, as the route asks.
pub(super) async fn authenticate(request: &RequestHeader, ctx: &mut Context) -> Option<Response<Bytes>> {
    let Some(route) = ctx.route.clone() else {
        return Some(refuse(ctx, StatusCode::INTERNAL_SERVER_ERROR, "undecided", None));
    };
    if route.access == Access::Public {
        ctx.decision = Decision::Public;
        ctx.outcome = Outcome::forwarded("public");
        return None;
    }
    let Judged { verdict, shown } = verify(request, &route, ctx).await;
    let refusal = match verdict {
        Ok(Some(authenticated)) if !route.permits_app(authenticated.app()) => {
            ctx.turn_away(&authenticated);
            authn::AuthnError::AppNotPermitted
        }
        Ok(Some(authenticated)) => return permit(authenticated, request, &route, ctx),
        Ok(None) => authn::AuthnError::NoToken,
        // Also where the route asks nobody: who shows a token is never taken for somebody without one.
        Err(refusal) => refusal,
    };
    if route.access == Access::Optional && shown.is_of_nobody(refusal) {
        ctx.decision = Decision::Public;
        ctx.outcome = Outcome::forwarded("anonymous");
        return None;
    }
    ctx.outcome = Outcome::refused(refusal.reason());
    if shown.is_mended_by_sign_in(refusal)
        && let Some(invitation) = invite(request, &route, ctx)
    {
        return Some(invitation);
    }
    // Of whom nothing can be said at the moment nothing is said.
    ctx.is_denied = refusal != authn::AuthnError::StoreUnavailable;
    let why = match refusal {
        authn::AuthnError::StoreUnavailable => Some(TurnedAway::StoreUnavailable),
        authn::AuthnError::Blocked => Some(TurnedAway::Blocked),
        authn::AuthnError::AppNotPermitted => Some(TurnedAway::NotAdmitted),
        _ => None,
    };
    if let Some(page) = why.and_then(|why| turn_away(why, request, &route, ctx)) {
        return Some(page);
    }
    let (request_id, reason) = (ctx.request_id.as_str(), refusal.reason());
    Some(match refusal {
        authn::AuthnError::StoreUnavailable => respond::unavailable(reason, route.reject, request_id),
        authn::AuthnError::CrossSite | authn::AuthnError::AppNotPermitted | authn::AuthnError::Blocked => {
            respond::forbidden(route.reject, reason, request_id)
        }
        _ => respond::unauthenticated(&refusal, route.reject, request_id),
    })
}

/// Lets a person on whom the route's rules let. One whom they do not is refused, also where nobody needs to sign in: they are
/// known, and to sign in anew would change nothing.
fn permit(
    caller: authn::Authenticated,
    request: &RequestHeader,
    route: &Route,
    ctx: &mut Context,
) -> Option<Response<Bytes>> {
    if let Err(denied) = route.rules.permits(caller.identity(), caller.user()) {
        ctx.turn_away(&caller);
        ctx.is_denied = true;
        ctx.outcome = Outcome::refused(denied.reason());
        let page = turn_away(TurnedAway::NotAdmitted, request, route, ctx);
        return page
            .or_else(|| Some(respond::forbidden(route.reject, denied.reason(), ctx.request_id.as_str())));
    }
    ctx.decision = Decision::Authenticated(caller);
    ctx.outcome = Outcome::forwarded("authenticated");
    None
}

/// Leads a person who opens a page to where they sign in, and back; `None` for everybody else.
fn invite(request: &RequestHeader, route: &Route, ctx: &Context) -> Option<Response<Bytes>> {
    if route.sign_in.is_empty() {
        return None;
    }
    let sign_in = &ctx.current.runtime.sign_in;
    Some(sign_in.invite(request, &route.sign_in)?.response)
}

/// Tells a person who opens a page why they are not shown it; `None` for everybody else.
fn turn_away(
    why: TurnedAway,
    request: &RequestHeader,
    route: &Route,
    ctx: &Context,
) -> Option<Response<Bytes>> {
    if route.sign_in.is_empty() {
        return None;
    }
    let sign_in = &ctx.current.runtime.sign_in;
    Some(sign_in.turn_away(why, request, &route.sign_in, ctx.request_id.as_str())?.response)
}

/// What was found out of a request's sender.
struct Judged {
    /// `None` where the request carries no credential.
    verdict: Result<Option<authn::Authenticated>, authn::AuthnError>,
    shown: Shown,
}

/// What a request showed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    SessionCookie,
    /// A token; or several of whatever kind.
    Token,
}

impl Shown {
    /// Whether whoever shows this is nobody: without anything, or with a cookie that a browser goes on sending by itself when
    /// its session has long ended.
    const fn is_of_nobody(self, refusal: authn::AuthnError) -> bool {
        use authn::AuthnError as R;

        match self {
            Self::Nothing => matches!(refusal, R::NoToken),
            Self::SessionCookie => {
                matches!(refusal, R::Token(VerifyError::Malformed) | R::UnknownApp | R::SessionEnded)
            }
            Self::Token => false,
        }
    }

    /// Whether the same person is let in once they signed in anew. Never with a token: it would still be there beside the
    /// cookie of the new session, and who shows two is refused.
    const fn is_mended_by_sign_in(self, refusal: authn::AuthnError) -> bool {
        use authn::AuthnError as R;

        match self {
            Self::Nothing => matches!(refusal, R::NoToken),
            Self::SessionCookie => matches!(
                refusal,
                R::Token(VerifyError::Malformed) | R::UnknownApp | R::SessionEnded | R::AppNotPermitted
            ),
            Self::Token => false,
        }
    }
}

/// Judges the token or session cookie of a request.
async fn verify(request: &RequestHeader, route: &Route, ctx: &mut Context) -> Judged {
    let current = Arc::clone(&ctx.current);
    let authenticator = &current.runtime.authenticator;
    let cross_site = if route.allow_cross_site { authn::CrossSite::Allow } else { authn::CrossSite::Refuse };
    let credential = match authenticator.credential(request, ctx.is_websocket, cross_site) {
        Ok(Some(credential)) => credential,
        Ok(None) => return Judged { verdict: Ok(None), shown: Shown::Nothing },
        Err(refusal) => return Judged { verdict: Err(refusal), shown: Shown::Token },
    };
    let shown = if credential.is_session_cookie() { Shown::SessionCookie } else { Shown::Token };
    ctx.token_in_authorization = credential.is_in(authn::Source::Authorization);
    ctx.is_by_cookie = credential.is_in_cookies_alone();
    let verdict = match authenticator.remembered(&credential, ctx.now) {
        Some(verdict) => verdict,
        // Boxed, so that the room a look-up needs is not moved about with every other request.
        None => Box::pin(authenticator.verify(&credential, ctx.now)).await,
    };
    Judged { verdict: verdict.map(Some), shown }
}

/// Refuses with a problem document, and remembers why.
pub(super) fn refuse(
    ctx: &mut Context,
    status: StatusCode,
    reason: &'static str,
    detail: Option<&str>,
) -> Response<Bytes> {
    ctx.outcome = Outcome::refused(reason);
    respond::problem(status, reason, detail, ctx.request_id.as_str())
}

fn refuse_admission(ctx: &mut Context, refusal: admission::Refusal) -> Response<Bytes> {
    let mut response = refuse(ctx, refusal.status(), refusal.reason(), Some(&refusal.to_string()));
    if refusal == admission::Refusal::Method {
        response.headers_mut().insert(header::ALLOW, ALLOW);
    }
    response
}

/// Writes the canonical target and host into the request; from here on nothing else is known of it.
fn rewrite(
    request: &mut RequestHeader,
    target: Option<http::uri::PathAndQuery>,
    authority: Option<String>,
) -> Option<()> {
    if let Some(target) = target {
        request.set_uri(with_path_and_query(&request.uri, target)?);
    }
    if let Some(authority) = authority {
        if request.uri.authority().is_some() {
            let mut parts = request.uri.clone().into_parts();
            parts.authority = Some(authority.parse().ok()?);
            request.set_uri(http::Uri::from_parts(parts).ok()?);
        }
        if request.headers.contains_key(header::HOST) {
            request.insert_header(header::HOST, authority).ok()?;
        }
    }
    Some(())
}

/// RFC 6455 §4.1: the opening handshake of HTTP/1.1, which has no body. Pingora lets no other upgrade through.
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

const _: () = assert!(METHODS.len() == 7, "ALLOW names every method");

#[cfg(test)]
mod tests;
