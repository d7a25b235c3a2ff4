//! Host names: in the configuration, and in the authority of a request.

use std::net::IpAddr;

use http::HeaderValue;
use http::header::HOST;
use http::request::Parts;

/// The host and the port of an authority. See RFC 3986 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As sent; an IPv6 address stands in brackets.
    pub host: &'a str,
    /// Only if it is given.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Splits the port from the host; `None` if one of them is malformed or the host is empty.
    pub fn parse(text: &'a str) -> Option<Self> {
        let end_of_literal = if text.starts_with('[') { text.find(']')? + 1 } else { 0 };
        let host_end = match text.get(end_of_literal..)?.find(':') {
            Some(colon) => end_of_literal + colon,
            None => text.len(),
        };
        let (host, rest) = text.split_at_checked(host_end).filter(|(host, _)| !host.is_empty())?;
        if end_of_literal != 0 && host_end != end_of_literal {
            return None;
        }
        let port = match rest.strip_prefix(':') {
            Some(digits) => Some(parse_port(digits)?),
            None => None,
        };
        Some(Self { host, port })
    }

    /// The host without a dot at its end: with the dot, DNS means the same host.
    pub fn host_without_dot(&self) -> &'a str {
        self.host.strip_suffix('.').unwrap_or(self.host)
    }
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` also accepts `+80`.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The one authority of a request: `:authority` of HTTP/2, the `Host` of HTTP/1. `None` if it has
/// none, or two that differ.
pub fn request_authority(request: &Parts) -> Option<&str> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::to_str).transpose().ok()?;
    if hosts.next().is_some() {
        return None;
    }
    let pseudo = request.uri.authority().map(http::uri::Authority::as_str);
    match (pseudo, host) {
        (Some(pseudo), Some(host)) if !pseudo.eq_ignore_ascii_case(host) => None,
        (Some(authority), _) | (None, Some(authority)) => Some(authority),
        (None, None) => None,
    }
}

/// Whether a host is this machine itself: only then may an address be plain HTTP. An IPv6 address
/// may stand in brackets.
pub fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a byte of a host, or of its port, is safe in a page and in its policy: a URL parser
/// accepts `;` and `'` in a host.
pub const fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
}

/// Whether text is a lower-case DNS name or an IP address, as it stands in a canonical host.
pub fn is_host_name(text: &str) -> bool {
    let is_address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| {
        !inner.is_empty() && inner.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b':' | b'.'))
    });
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    is_address || (text.len() <= 253 && text.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port_of_digits() {
        for (text, expected) in [
            ("a.example", Some(("a.example", None))),
            ("a.example.:8080", Some(("a.example.", Some(8080)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:443", Some(("[::1]", Some(443)))),
            ("", None),
            (":80", None),
            ("a.example:", None),
            ("a.example:+80", None),
            ("a.example:65536", None),
            ("a.example:80:80", None),
            ("[::1", None),
            ("[::1]x:80", None),
        ] {
            let parsed = Authority::parse(text).map(|authority| (authority.host, authority.port));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
