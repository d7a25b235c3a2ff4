//! A header that is refused before, or because, Pingora does not parse it: for which reason, and
//! what the access log says about it.
//!
//! The request is answered, counted and logged as every other refused request is: Pingora gets a
//! substitute, a well-formed header with those of the client's fields that are well-formed
//! themselves, so that the address of a client behind a trusted proxy is still known.

use http::header;
use memchr::memchr;
use pingora::proxy::Session;

use super::super::admission::AdmissionError;
use super::chunks::may_stand_in_a_value;
use crate::authn::is_token_byte;
use crate::route::method_name;

/// Most fields that a header may have; Pingora reads no more.
const MAX_FIELDS: usize = 254;
/// Most fields of the client's in a substitute, and most bytes of it.
const CARRIED_FIELDS: usize = 200;
const MAX_SUBSTITUTE: usize = 16 * 1024;
/// Fields of a message's frame, or of its connection, which a substitute has no part of.
const NOT_CARRIED: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "expect",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
];

/// A header that is refused.
#[derive(Debug)]
pub(in crate::proxy) struct RefusedHeader {
    /// Why.
    pub(in crate::proxy) error: AdmissionError,
    /// The method, as the access log names it.
    pub(in crate::proxy) method: &'static str,
    /// The target as sent, without its query.
    pub(in crate::proxy) path: String,
    /// The name of the field that is refused, as sent, if it is one with a name.
    pub(in crate::proxy) field: Option<Box<[u8]>>,
}

/// One line of a header, and whether it ends with CR LF.
struct HeaderLine<'b> {
    text: &'b [u8],
    has_carriage_return: bool,
}

impl RefusedHeader {
    /// A header that is larger than the gateway reads.
    pub(in crate::proxy) fn too_large(bytes: &[u8]) -> Self {
        Self { error: AdmissionError::HeaderTooLarge, ..Self::explain(bytes) }
    }

    /// A request that Pingora took, and that is refused for its body.
    pub(super) fn of_request(session: &Session, error: AdmissionError) -> Self {
        let request = session.req_header();
        let method = method_name(request.method.as_str().as_bytes());
        let path = request.uri.path().to_owned();
        Self { error, method: method.unwrap_or("_OTHER"), path, field: None }
    }

    /// Finds out why a header is refused.
    pub(in crate::proxy) fn explain(bytes: &[u8]) -> Self {
        let mut lines = lines(bytes);
        let request_line = lines.next().unwrap_or(HeaderLine { text: &[], has_carriage_return: true });
        let (method, path) = method_and_path(request_line.text);
        let error = if bytes.starts_with(&[0x16, 0x03]) {
            AdmissionError::Tls
        } else {
            request_line_error(&request_line)
                .or_else(|| fields_error(lines, request_line.text.ends_with(b"/1.0")))
                .unwrap_or_else(|| last_error(bytes))
        };
        let (method, path) =
            if error == AdmissionError::Tls { ("_OTHER", String::new()) } else { (method, path) };
        Self { error, method, path, field: refused_field(bytes, error) }
    }

    /// The header that Pingora gets in place of these bytes.
    pub(in crate::proxy) fn substitute(&self, bytes: &[u8]) -> Vec<u8> {
        let method = if self.method == "HEAD" { "HEAD" } else { "GET" };
        let mut header =
            format!("{method} / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n").into_bytes();
        let mut carried = 0;
        for line in lines(bytes).skip(1) {
            let is_carried = line.has_carriage_return
                && field(line.text)
                    .is_ok_and(|(name, _)| !NOT_CARRIED.iter().any(|known| is_named(name, known)));
            if is_carried && carried < CARRIED_FIELDS && header.len() + line.text.len() < MAX_SUBSTITUTE {
                carried += 1;
                header.extend_from_slice(line.text);
                header.extend_from_slice(b"\r\n");
            }
        }
        header.extend_from_slice(b"\r\n");
        header
    }
}

/// The name of the first field with this mistake, if it has a name.
fn refused_field(bytes: &[u8], error: AdmissionError) -> Option<Box<[u8]>> {
    if !matches!(error, AdmissionError::HeaderName | AdmissionError::HeaderValue) {
        return None;
    }
    let line = lines(bytes).skip(1).find(|line| field(line.text).is_err_and(|found| found == error))?;
    line.text.split(|byte| *byte == b':').next().map(Into::into)
}

/// The lines of a header up to the empty one.
fn lines(bytes: &[u8]) -> impl Iterator<Item = HeaderLine<'_>> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let mut rest = bytes.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..end).unwrap_or_default();
        rest = rest.get(end + 1..).unwrap_or_default();
        let (text, has_carriage_return) = match line {
            [text @ .., b'\r'] => (text, true),
            text => (text, false),
        };
        (!text.is_empty()).then_some(HeaderLine { text, has_carriage_return })
    })
}

fn method_and_path(request_line: &[u8]) -> (&'static str, String) {
    let mut words = request_line.split(|byte| matches!(byte, b' ' | b'\t'));
    let method = words.next().unwrap_or_default();
    let Some(method) = method_name(method) else { return ("_OTHER", String::new()) };
    let after_method = request_line.get(method.len() + 1..).unwrap_or_default();
    let end = after_method
        .windows(6)
        .rposition(|window| matches!(window, [b' ' | b'\t', b'H', b'T', b'T', b'P', b'/']));
    let target = after_method.get(..end.unwrap_or(after_method.len())).unwrap_or_default();
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    (method, String::from_utf8_lossy(path).into_owned())
}

/// What is wrong with a request line; RFC 9112 §3.
fn request_line_error(line: &HeaderLine<'_>) -> Option<AdmissionError> {
    if !line.has_carriage_return {
        return Some(AdmissionError::LineEnding);
    }
    let text = line.text;
    let Some(first) = memchr(b' ', text) else { return Some(AdmissionError::RequestLine) };
    let last = memchr::memrchr(b' ', text).unwrap_or(first);
    let (method, target) =
        (text.get(..first).unwrap_or_default(), text.get(first + 1..last).unwrap_or_default());
    let version = text.get(last + 1..).unwrap_or_default();
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) || target.is_empty() {
        return Some(AdmissionError::RequestLine);
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Some(AdmissionError::RequestLine);
    }
    if method == b"CONNECT" {
        return Some(AdmissionError::Method);
    }
    let is_target = target.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>'));
    (!is_target).then_some(AdmissionError::Target)
}

/// What is wrong with the fields of a header.
fn fields_error<'b>(lines: impl Iterator<Item = HeaderLine<'b>>, is_http_10: bool) -> Option<AdmissionError> {
    let (mut count, mut hosts, mut lengths, mut codings) = (0, 0, 0, 0);
    let mut is_framed = true;
    for line in lines {
        if !line.has_carriage_return {
            return Some(AdmissionError::LineEnding);
        }
        let (name, value) = match field(line.text) {
            Ok(field) => field,
            Err(error) => return Some(error),
        };
        count += 1;
        let value = value.trim_ascii();
        if is_named(name, header::HOST.as_str()) {
            hosts += 1;
        } else if is_named(name, header::CONTENT_LENGTH.as_str()) {
            lengths += 1;
            is_framed &= (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
        } else if is_named(name, header::TRANSFER_ENCODING.as_str()) {
            codings += 1;
            is_framed &= value.eq_ignore_ascii_case(b"chunked");
        }
    }
    let is_framed = is_framed && lengths + codings <= 1 && !(codings > 0 && is_http_10);
    match (count, hosts) {
        (count, _) if count > MAX_FIELDS => Some(AdmissionError::HeaderTooLarge),
        _ if !is_framed => Some(AdmissionError::Framing),
        (_, 1) => None,
        _ => Some(AdmissionError::Host),
    }
}

/// What is wrong with a header that has none of the mistakes above: Pingora also refuses a host
/// with a user's name, and a target that names another host.
fn last_error(bytes: &[u8]) -> AdmissionError {
    let mut lines = lines(bytes);
    let names_a_host = lines.next().is_some_and(|line| memchr::memmem::find(line.text, b"://").is_some());
    let mut fields = lines.filter_map(|line| field(line.text).ok());
    let has_user = |(name, value): (&[u8], &[u8])| {
        is_named(name, header::HOST.as_str()) && memchr(b'@', value).is_some()
    };
    if names_a_host || fields.any(has_user) { AdmissionError::Host } else { AdmissionError::Target }
}

/// The name and the value of a field; RFC 9112 §5.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), AdmissionError> {
    let colon = memchr(b':', line).ok_or(AdmissionError::HeaderLine)?;
    let (name, value) = line.split_at_checked(colon).ok_or(AdmissionError::HeaderLine)?;
    if name.is_empty() || matches!(name, [b' ' | b'\t', ..]) {
        return Err(AdmissionError::HeaderLine);
    }
    if !name.iter().all(|byte| is_token_byte(*byte)) {
        return Err(AdmissionError::HeaderName);
    }
    let value = value.get(1..).unwrap_or_default();
    if value.iter().all(|byte| may_stand_in_a_value(*byte)) {
        Ok((name, value))
    } else {
        Err(AdmissionError::HeaderValue)
    }
}

fn is_named(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(lines: &str) -> String {
        format!("GET /x?a HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
    }

    #[test]
    fn each_mistake_has_its_reason() {
        use AdmissionError as A;

        for (header, error) in [
            ("\u{16}\u{3}\u{1}\u{2}\0".into(), A::Tls),
            (" GET / HTTP/1.1\r\n\r\n".into(), A::RequestLine),
            ("GET\t/x\tHTTP/1.1\r\nHost: a\r\n\r\n".into(), A::RequestLine),
            ("GET /x\tHTTP/1.1\r\nHost: a\r\n\r\n".into(), A::RequestLine),
            ("GET /x HTTP/1.2\r\nHost: a\r\n\r\n".into(), A::RequestLine),
            ("GET /x\r\n\r\n".into(), A::RequestLine),
            ("GET  HTTP/1.1\r\n\r\n".into(), A::RequestLine),
            ("PRI * HTTP/2.0\r\n\r\n".into(), A::RequestLine),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(), A::Target),
            ("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n".into(), A::Target),
            ("GET  /x HTTP/1.1\r\nHost: a\r\n\r\n".into(), A::Target),
            ("GET /a?b=\"c\" HTTP/1.1\r\nHost: a\r\n\r\n".into(), A::Target),
            ("GET /a?b=<c HTTP/1.1\r\nHost: a\r\n\r\n".into(), A::Target),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".into(), A::Method),
            ("GET /x HTTP/1.1\nHost: a\r\n\r\n".into(), A::LineEnding),
            (get("X-A: b\nX-C: d\r\n"), A::LineEnding),
            (get("X-A : b\r\n"), A::HeaderName),
            (get("X-A\t: b\r\n"), A::HeaderName),
            (get("X(A): b\r\n"), A::HeaderName),
            (get(" X-A: b\r\n"), A::HeaderLine),
            (get("X-A: b\r\n folded\r\n"), A::HeaderLine),
            (get("no colon\r\n"), A::HeaderLine),
            (get(": b\r\n"), A::HeaderLine),
            (get("X-A: b\0\r\n"), A::HeaderValue),
            (get("X-A: b\rc\r\n"), A::HeaderValue),
            (get("X-A: b\u{7f}\r\n"), A::HeaderValue),
            (get("Content-Length: +3\r\n"), A::Framing),
            (get("Content-Length: 5, 6\r\n"), A::Framing),
            (get("Content-Length:\r\n"), A::Framing),
            (get("Content-Length: 5\r\nContent-Length: 6\r\n"), A::Framing),
            (get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), A::Framing),
            (get("Transfer-Encoding: gzip\r\n"), A::Framing),
            (get("Host: b\r\n"), A::Host),
            ("GET /x HTTP/1.1\r\n\r\n".into(), A::Host),
            ("GET /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(), A::Framing),
            (get(&"X-A: b\r\n".repeat(254)), A::HeaderTooLarge),
            ("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n".into(), A::Host),
            ("GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), A::Host),
            // Whatever else Pingora does not take, it is the target.
            (get(""), A::Target),
        ] {
            assert_eq!(RefusedHeader::explain(header.as_bytes()).error, error, "{header:?}");
        }
    }

    #[test]
    fn the_field_that_is_refused_is_named_without_its_value() {
        for (header, expected) in [
            (get("X-A: b\r\nX(B): secret\r\n"), Some(&b"X(B)"[..])),
            (get("X-A: b\r\nX-B: sec\0ret\r\n"), Some(b"X-B")),
            (get("X-A : secret\r\n"), Some(b"X-A ")),
            (get("no colon\r\n"), None),
            (get("Host: b\r\n"), None),
        ] {
            assert_eq!(RefusedHeader::explain(header.as_bytes()).field.as_deref(), expected, "{header:?}");
        }
    }

    #[test]
    fn the_log_gets_method_and_path_without_the_query() {
        for (header, expected) in [
            ("GET /x?code=secret HTTP/1.2\r\n\r\n", ("GET", "/x")),
            ("HEAD /a b?secret HTTP/1.1\r\n\r\n", ("HEAD", "/a b")),
            ("POST\t/x\tHTTP/1.1\r\n\r\n", ("POST", "/x")),
            ("GET /x?secret", ("GET", "/x")),
            ("GET", ("GET", "")),
            ("\u{16}\u{3}\u{1}GET / HTTP/1.1\r\n\r\n", ("_OTHER", "")),
            ("get /x HTTP/1.1\r\n\r\n", ("_OTHER", "")),
        ] {
            let refused = RefusedHeader::explain(header.as_bytes());
            assert_eq!((refused.method, &*refused.path), expected, "{header:?}");
        }
    }

    #[test]
    fn a_substitute_carries_fields_that_are_well_formed_and_frame_nothing() {
        let bytes = "POST /x HTTP/1.2\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 5\r\nBad : b\r\n \
                     folded: c\r\nX-Id: d\nX-E: f\r\n\r\nX-Body: g\r\n";

        let substitute = RefusedHeader::explain(bytes.as_bytes()).substitute(bytes.as_bytes());

        assert_eq!(
            String::from_utf8(substitute).unwrap(),
            "GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\nX-Forwarded-For: 1.2.3.4\r\nX-E: f\r\n\r\n"
        );

        let many = get(&"X-A: b\r\n".repeat(1000));
        let carried = RefusedHeader::explain(many.as_bytes()).substitute(many.as_bytes());
        assert_eq!(lines(&carried).count(), 3 + CARRIED_FIELDS);
    }
}
