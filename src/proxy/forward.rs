//! What is changed in a request on its way to the backend, and in the answer on its way back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType};

use super::admission::with_path_and_query;
use super::arrival::RequestArrival;
use super::caching;
use super::cors;
use super::current::Current;
use super::permit::Permit;
use super::redirect::{self, ClientOrigin};
use crate::authn::TokenSources;
use crate::cookie;
use crate::identity_headers::{Believed, EditHeaders, RequestOrigin, credential};

/// Removes what the client claims, and writes what the gateway knows. Runs again for each try,
/// after Pingora has removed the hop-by-hop headers.
pub(super) fn edit_request(
    received: &RequestHeader,
    request: &mut RequestHeader,
    permit: &Permit,
    arrival: &RequestArrival,
    current: &Current,
) -> pingora::Result<()> {
    let runtime = current.runtime();
    let believed = current.trusted_proxies.believed(arrival.client.proxy);
    let is_trace_believed = runtime.header_edits.passes_trace() || believed.is_some_and(Believed::trace);
    let continues_trace = is_trace_believed && has_trace(&request.headers);
    let traceparent = if continues_trace { None } else { arrival.request_id.traceparent() };
    let origin = RequestOrigin {
        believed,
        peer: arrival.client.peer,
        client: arrival.client.client,
        scheme: scheme(received, arrival, believed),
        host: forwarded_host(received, believed),
        request_id: arrival.request_id.as_str(),
        traceparent: traceparent.as_deref(),
        continues_trace,
    };
    let speaks_http2 = permit.upstream.speaks_http2;

    runtime.header_edits.apply(&mut Edits(request), permit.authenticated(), &origin);
    // First of the edits of cookies, and on every route: these cookies are not for the backend.
    credential::strip_own_cookies(&mut Edits(request));
    if !permit.route.forward_token {
        let sources = runtime.authenticator.sources();
        credential::strip(&mut Edits(request), sources, permit.credential.is_in_authorization);
        strip_query_tokens(request, sources)?;
    }
    if received.version == Version::HTTP_2 && !speaks_http2 {
        credential::join_cookies(&mut Edits(request));
    }
    if received.version < Version::HTTP_11 {
        // RFC 9110 §10.1.1: a client of HTTP/1.0 waits for no `100 Continue`.
        request.remove_header(&header::EXPECT);
    }
    if speaks_http2 {
        // Pingora reads no trailers of a request, so none follow that this could announce.
        request.remove_header(&header::TRAILER);
        if received.headers.get(header::TE).is_some_and(|te| te == "trailers") {
            // gRPC servers refuse a call without it, and it was removed as a hop-by-hop header.
            request.insert_header(header::TE, "trailers")?;
        }
    }
    Ok(())
}

/// Says that a request without a body has none, if its method expects one: some backends refuse
/// such a request otherwise. RFC 9110 §8.6.
pub(super) fn state_empty_body(request: &mut RequestHeader) -> pingora::Result<()> {
    let headers = &request.headers;
    let expects_body = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    let is_framed =
        headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if !expects_body || is_framed {
        return Ok(());
    }
    request.insert_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
}

/// Makes a WebSocket opening ask for nothing else, as Pingora lets it through.
pub(super) fn state_opening(request: &mut RequestHeader) -> pingora::Result<()> {
    let is_plain = |value: &HeaderValue| value == "websocket";
    let mut upgrades = request.headers.get_all(header::UPGRADE).iter();
    if !upgrades.next().is_some_and(is_plain) || upgrades.next().is_some() {
        request.insert_header(header::UPGRADE, "websocket")?;
    }
    request.remove_header(&header::CONTENT_LENGTH);
    Ok(())
}

/// Makes redirects to the backend's own address lead to where the client came from.
pub(super) fn map_redirects(
    response: &mut ResponseHeader,
    received: &RequestHeader,
    permit: &Permit,
    arrival: &RequestArrival,
    current: &Current,
) -> pingora::Result<()> {
    if !permit.upstream.maps_redirects || !redirect::leads_somewhere(&response.headers) {
        return Ok(());
    }
    let believed = current.trusted_proxies.believed(arrival.client.proxy);
    let origin = ClientOrigin {
        scheme: scheme(received, arrival, believed),
        authority: forwarded_host(received, believed),
        sent_host: authority(received),
    };
    redirect::map(response, &permit.upstream, origin)
}

/// Removes the gateway's cookies from a backend's answer, and says what the backend cannot know:
/// whose answer it is, and which pages may read it.
pub(super) fn edit_response(
    response: &mut ResponseHeader,
    received: &RequestHeader,
    permit: &Permit,
    current: &Current,
) -> pingora::Result<()> {
    caching::restrict(response, permit, &current.read_headers)?;
    if let Some(policy) = &permit.route.cors {
        cors::edit_response(response, policy, &received.headers, permit.is_preflight)?;
    }
    drop_own_cookies(response)
}

/// Removes cookies of the gateway's own from a backend's answer. With them a backend, or an
/// attacker who controls its answers, could sign a browser in as another person, or make it the
/// browser that began a sign-in.
fn drop_own_cookies(response: &mut ResponseHeader) -> pingora::Result<()> {
    let lines = response.headers.get_all(header::SET_COOKIE);
    if !lines.iter().any(cookie::sets_own) {
        return Ok(());
    }
    let kept: Vec<HeaderValue> = lines.iter().filter(|line| !cookie::sets_own(line)).cloned().collect();
    tracing::debug!("removed a cookie of the gateway's own that a backend had set");
    response.remove_header(&header::SET_COOKIE);
    for line in kept {
        response.append_header(header::SET_COOKIE, line)?;
    }
    Ok(())
}

/// `https` if the client used it, with the gateway or with a proxy before it that is believed.
fn scheme(received: &RequestHeader, arrival: &RequestArrival, believed: Option<&Believed>) -> &'static str {
    let is_believed = believed.is_some_and(Believed::forwarded_proto);
    let forwarded = if is_believed { only(&received.headers, "x-forwarded-proto") } else { None };
    match forwarded.map(HeaderValue::as_bytes) {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => arrival.scheme(),
    }
}

/// The host that the client asked for, with its port: the request's own, or what a proxy says it
/// was, if it is believed about that. A backend that writes links to it must not get a host that
/// the client made up besides its request's own.
fn forwarded_host<'r>(received: &'r RequestHeader, believed: Option<&Believed>) -> &'r str {
    let is_believed = believed.is_some_and(Believed::forwarded_host);
    let forwarded = if is_believed { only(&received.headers, "x-forwarded-host") } else { None };
    let forwarded = forwarded.and_then(|host| host.to_str().ok()).filter(|host| is_authority(host));
    forwarded.unwrap_or_else(|| authority(received))
}

/// Whether a request has one `traceparent` that means something; W3C Trace Context §3.2.
fn has_trace(headers: &HeaderMap) -> bool {
    only(headers, "traceparent").is_some_and(|value| is_traceparent(value.as_bytes()))
}

/// The value of a header that stands once. Of two, the client may have written one.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// `00-` and the ids of trace and parent, not all zero, and flags. A later version may add more.
fn is_traceparent(text: &[u8]) -> bool {
    let is_hex = |field: &[u8]| field.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    let is_id = |field: &[u8], length| {
        field.len() == length && is_hex(field) && field.iter().any(|byte| *byte != b'0')
    };
    let fields: Vec<&[u8]> = text.splitn(5, |byte| *byte == b'-').collect();
    let ([version, trace, parent, flags] | [version, trace, parent, flags, _]) = fields.as_slice() else {
        return false;
    };
    let is_version = version.len() == 2 && is_hex(version) && *version != b"ff";
    let is_whole = fields.len() == 4 || *version != b"00";
    is_version && is_whole && is_id(trace, 32) && is_id(parent, 16) && flags.len() == 2 && is_hex(flags)
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

fn strip_query_tokens(request: &mut RequestHeader, sources: &TokenSources) -> pingora::Result<()> {
    let query = request.uri.query();
    let Some(rest) = query.and_then(|query| sources.query_without_tokens(query)) else { return Ok(()) };
    let path = request.uri.path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    let uri = target.parse().ok().and_then(|target| with_path_and_query(&request.uri, target));
    request.set_uri(uri.ok_or_else(|| Error::new_in(ErrorType::InternalError))?);
    Ok(())
}

/// Edits headers together with Pingora's map of their spelling.
struct Edits<'r>(&'r mut RequestHeader);

impl EditHeaders for Edits<'_> {
    fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }

    fn set(&mut self, name: &Bytes, value: HeaderValue) {
        // The names were parsed with the configuration.
        _ = self.0.insert_header(name.clone(), value);
    }
}

#[cfg(test)]
mod tests;
