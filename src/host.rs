//! Host names: in the configuration, and in the authority of a request.

use std::net::IpAddr;

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
