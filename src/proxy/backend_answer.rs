//! What a backend's answer says of its own connection, which is not the client's: the version, the
//! fields of the connection, and how the body is framed.
//!
//! Framing is rebuilt from what was understood, and never copied: two readers of what a backend
//! wrote could see the end of the body at different places. What has no single meaning fails as
//! 502.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType};

/// Fields of one connection alone, RFC 9110 §7.6.1, and those of RFC 2616 §13.5.1 that a proxy
/// answers itself. `Trailer` is one of them because trailers pass from HTTP/2 to HTTP/2 alone.
const CONNECTION_FIELDS: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Makes a backend's answer one of the gateway's own. `passes_trailers` says that the trailers of
/// the answer reach the client.
///
/// # Errors
/// The end of the body is ambiguous, or the backend switched to a protocol that was not asked for.
pub(super) fn clean(
    response: &mut ResponseHeader,
    method: &Method,
    passes_trailers: bool,
) -> pingora::Result<()> {
    let is_switch = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if response.version < Version::HTTP_11 {
        if is_switch {
            return Err(malformed("HTTP/1.0 cannot switch protocols"));
        }
        response.set_version(Version::HTTP_11);
    }
    let is_chunked = is_chunked(&response.headers)?;
    let has_body = has_body(response.status, method);
    if response.headers.keys().any(is_connection_field) {
        let is_websocket = switches_to_websocket(&response.headers);
        if is_switch && !is_websocket {
            return Err(malformed("the backend switched to another protocol"));
        }
        drop_connection_fields(response, has_body && is_chunked, passes_trailers)?;
    }
    if is_switch {
        response.insert_header(header::CONNECTION, "Upgrade")?;
        response.insert_header(header::UPGRADE, "websocket")?;
    }
    if is_chunked || response.status.is_informational() || response.status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.2. The length of an answer to HEAD, or of a 304, is that of
        // another answer, and stays.
        response.remove_header(&header::CONTENT_LENGTH);
        return Ok(());
    }
    state_length_once(response)
}

/// Whether an answer has a body; RFC 9112 §6.3.
pub(super) fn has_body(status: StatusCode, method: &Method) -> bool {
    !(status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *method == Method::HEAD)
}

fn is_connection_field(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "http2-settings"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether the body is chunked. Applications that copy the fields of another answer write `chunked`
/// twice, and mean it once.
///
/// # Errors
/// There is another coding, which the client could not undo, or which ends with the connection.
fn is_chunked(headers: &HeaderMap) -> pingora::Result<bool> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter().peekable();
    if lines.peek().is_none() {
        return Ok(false);
    }
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    if lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).all(is_chunked) {
        Ok(true)
    } else {
        Err(malformed("the body has a transfer coding other than chunked"))
    }
}

/// Whether a 101 switches to WebSocket, which is all that a client may ask for. Some servers do not
/// say what they switch to.
fn switches_to_websocket(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::UPGRADE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .all(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// Removes the fields of the connection, and those that `Connection` names.
fn drop_connection_fields(
    response: &mut ResponseHeader,
    is_chunked: bool,
    passes_trailers: bool,
) -> pingora::Result<()> {
    let lines = response.headers.get_all(header::CONNECTION).iter();
    let options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let is_common = |option: &[u8]| {
        [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|common| option.eq_ignore_ascii_case(common))
    };
    let named: Vec<HeaderName> = options
        .filter(|option| !is_common(option))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        // Framing is what it is, whatever the backend says of it.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
        .collect();
    for name in &named {
        response.remove_header(name);
    }
    for name in &CONNECTION_FIELDS {
        let stays = *name == header::TRAILER && passes_trailers
            || *name == header::TRANSFER_ENCODING && is_chunked && stands_once(&response.headers, name);
        if !stays {
            response.remove_header(name);
        }
    }
    if is_chunked && !response.headers.contains_key(header::TRANSFER_ENCODING) {
        response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Whether a field stands once and has one member.
fn stands_once(headers: &HeaderMap, name: &HeaderName) -> bool {
    let mut lines = headers.get_all(name).iter();
    let is_single = |line: &HeaderValue| !line.as_bytes().contains(&b',');
    lines.next().is_some_and(is_single) && lines.next().is_none()
}

/// Writes a length that stands several times, or oddly, once. Pingora has refused lengths that
/// differ.
fn state_length_once(response: &mut ResponseHeader) -> pingora::Result<()> {
    let Some(length) = response.headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    let length = length.as_bytes();
    let is_plain = |digits: &[u8]| {
        digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'))
    };
    if is_plain(length) && stands_once(&response.headers, &header::CONTENT_LENGTH) {
        return Ok(());
    }
    let first = length.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let number = std::str::from_utf8(first).ok().and_then(|digits| digits.parse::<u64>().ok());
    let number = number.ok_or_else(|| malformed("the length of the body is no number"))?;
    response.insert_header(header::CONTENT_LENGTH, number)
}

fn malformed(what: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, what).into_up()
}

#[cfg(test)]
mod tests;
