//! What is changed on the way to the backend, and what a failure there means to the client.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorSource, ErrorType};

use super::admission::with_path_and_query;
use super::context::Context;
use crate::authn::query_without;
use crate::cookie;
use crate::identity_headers::{EditHeaders, RequestOrigin, credential};

/// Strips and injects; runs again for every try, and after Pingora's own hop-by-hop removal.
pub(super) fn edit_request(
    received: &RequestHeader,
    request: &mut RequestHeader,
    ctx: &Context,
) -> pingora::Result<()> {
    let runtime = &ctx.current.runtime;
    let begins_trace = !request.headers.contains_key("traceparent");
    let traceparent = if begins_trace { ctx.request_id.traceparent() } else { None };
    let origin = RequestOrigin {
        peer_is_trusted: ctx.caller.peer_is_trusted,
        peer: ctx.caller.peer,
        scheme: scheme(received, ctx),
        host: forwarded_host(received, ctx),
        request_id: ctx.request_id.as_str(),
        traceparent: traceparent.as_deref(),
    };
    let speaks_http2 = ctx.upstream.as_ref().is_some_and(|upstream| upstream.speaks_http2);

    runtime.header_edits.apply(&mut Edits(request), ctx.authenticated(), &origin);
    // Before anything else touches cookies, and whatever the route lets through: it is no token of the backend's.
    credential::strip_own_cookies(&mut Edits(request));
    if !ctx.route.as_ref().is_some_and(|route| route.forward_token) {
        let sources = runtime.authenticator.sources();
        credential::strip(&mut Edits(request), sources, ctx.token_in_authorization);
        strip_query_token(request, sources.websocket_query())?;
    }
    if received.version == Version::HTTP_2 && !speaks_http2 {
        credential::join_cookies(&mut Edits(request));
    }
    if speaks_http2 && received.headers.get(header::TE).is_some_and(|te| te == "trailers") {
        // gRPC servers refuse a call without it; the hop-by-hop removal took it.
        request.insert_header(header::TE, "trailers")?;
    }
    Ok(())
}

/// Takes from a backend's answer what is not its to say, and adds what it cannot know.
pub(super) fn edit_response(response: &mut ResponseHeader, ctx: &Context) -> pingora::Result<()> {
    if ctx.is_by_cookie && ctx.authenticated().is_some() {
        keep_to_one_person(response)?;
    }
    drop_own_cookies(response)
}

/// Caches know that an answer to `Authorization` is for one person alone, RFC 9111 §3.5, and not that one to a cookie is: they
/// would guess how long a page is good that says nothing of it, and show it to whoever comes next.
fn keep_to_one_person(response: &mut ResponseHeader) -> pingora::Result<()> {
    let headers = &response.headers;
    if headers.contains_key(header::CACHE_CONTROL) || headers.contains_key(header::EXPIRES) {
        return Ok(());
    }
    response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))
}

/// Drops cookies of the gateway's own from a backend's answer: with them a backend, or whoever finds a hole in one, would
/// have a browser signed in as somebody else, or make it the browser that began a sign-in.
fn drop_own_cookies(response: &mut ResponseHeader) -> pingora::Result<()> {
    let lines = response.headers.get_all(header::SET_COOKIE);
    if !lines.iter().any(cookie::sets_own) {
        return Ok(());
    }
    let kept: Vec<HeaderValue> = lines.iter().filter(|line| !cookie::sets_own(line)).cloned().collect();
    tracing::debug!("a backend set a cookie of the gateway's own, which was dropped");
    response.remove_header(&header::SET_COOKIE);
    for line in kept {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}

/// The status and the word for a request that failed; no status where the client is gone.
pub(super) fn failure(error: &Error) -> (Option<StatusCode>, &'static str) {
    use ErrorType as E;

    if let E::HTTPStatus(code) = error.etype() {
        return (StatusCode::from_u16(*code).ok(), "refused_by_server");
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, E::ConnectTimedout | E::TLSHandshakeTimedout) => {
            (Some(StatusCode::GATEWAY_TIMEOUT), "upstream_connect_timeout")
        }
        (ErrorSource::Upstream, E::ReadTimedout | E::WriteTimedout | E::ReadError) if is_timeout(error) => {
            (Some(StatusCode::GATEWAY_TIMEOUT), "upstream_timeout")
        }
        (
            ErrorSource::Upstream,
            E::ConnectRefused
            | E::ConnectNoRoute
            | E::ConnectError
            | E::ConnectProxyFailure
            | E::SocketError
            | E::BindError,
        ) => (Some(StatusCode::BAD_GATEWAY), "upstream_unreachable"),
        (
            ErrorSource::Upstream,
            E::TLSHandshakeFailure | E::InvalidCert | E::HandshakeError | E::TLSWantX509Lookup,
        ) => (Some(StatusCode::BAD_GATEWAY), "upstream_tls_failed"),
        (ErrorSource::Upstream, _) => (Some(StatusCode::BAD_GATEWAY), "upstream_broke_off"),
        (ErrorSource::Downstream, E::ReadTimedout) => (Some(StatusCode::REQUEST_TIMEOUT), "client_timeout"),
        (
            ErrorSource::Downstream,
            E::WriteTimedout | E::WriteError | E::ReadError | E::ConnectionClosed | E::H2Error,
        ) => (None, "client_gone"),
        (ErrorSource::Downstream, _) => (Some(StatusCode::BAD_REQUEST), "request_malformed"),
        (ErrorSource::Internal | ErrorSource::Unset, E::ConnectNoRoute) => {
            (Some(StatusCode::BAD_GATEWAY), "upstream_unreachable")
        }
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            (Some(StatusCode::INTERNAL_SERVER_ERROR), "internal_error")
        }
    }
}

/// Whether Pingora's timer, or that of a connection of ours, ended it.
fn is_timeout(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    *error.etype() != ErrorType::ReadError
        || cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::TimedOut)
}

/// What went wrong, for the log. Pingora's own account of it quotes the message that did not parse, a backend's cookies
/// and all, so nothing of it is said but the kind, and what the operating system said.
pub(super) fn described(error: &Error) -> String {
    let kind = format!("{} {}", error.esource().as_str(), error.etype().as_str());
    match error.root_cause().downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
        Some(code) => format!("{}: {}", kind.trim(), std::io::Error::from_raw_os_error(code)),
        None => kind.trim().to_owned(),
    }
}

/// `https` where the client used it, with us or with a trusted proxy before us.
fn scheme(received: &RequestHeader, ctx: &Context) -> &'static str {
    let said = if ctx.caller.peer_is_trusted { received.headers.get("x-forwarded-proto") } else { None };
    match said.map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ if ctx.is_https => "https",
        _ => "http",
    }
}

/// The host the client asked for, with its port: ours, or what a trusted proxy says it was.
fn forwarded_host<'r>(received: &'r RequestHeader, ctx: &Context) -> &'r str {
    let said = if ctx.caller.peer_is_trusted { received.headers.get("x-forwarded-host") } else { None };
    let said = said.and_then(|host| host.to_str().ok()).filter(|host| is_authority(host));
    said.unwrap_or_else(|| authority(received))
}

/// The authority of an admitted request.
pub(super) fn authority(request: &RequestHeader) -> &str {
    let pseudo = request.uri.authority().map(http::uri::Authority::as_str);
    let host = || request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    pseudo.or_else(host).unwrap_or_default()
}

fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

fn strip_query_token(request: &mut RequestHeader, parameter: Option<&str>) -> pingora::Result<()> {
    let Some((parameter, query)) = parameter.zip(request.uri.query()) else { return Ok(()) };
    let rest = query_without(query, parameter);
    if rest.as_deref() == Some(query) {
        return Ok(());
    }
    let path = request.uri.path();
    let target = rest.map_or_else(|| path.to_owned(), |rest| format!("{path}?{rest}"));
    let uri = target.parse().ok().and_then(|target| with_path_and_query(&request.uri, target));
    request.set_uri(uri.ok_or_else(|| Error::new_in(ErrorType::InternalError))?);
    Ok(())
}

/// Edits that keep Pingora's record of header spelling in step.
struct Edits<'r>(&'r mut RequestHeader);

impl EditHeaders for Edits<'_> {
    fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }

    fn set(&mut self, name: &Bytes, value: HeaderValue) {
        // Names come from the configuration, where they were parsed.
        _ = self.0.insert_header(name.clone(), value);
    }
}

#[cfg(test)]
mod tests;
