//! Hosts in the addresses that an operator writes.

use std::net::IpAddr;

/// Whether a host is this machine itself, where alone an address may be plain HTTP. An IPv6 address may stand in brackets.
pub fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a byte of a host, or of its port, ends nothing in a page or in its policy: a parser of URLs lets `;` and `'` pass.
pub const fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
}
