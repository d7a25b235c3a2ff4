//! What tells one client from another when neither is identified: its address and its user agents.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, header};

use crate::address::client_network;

/// Returns the fields to tell clients apart by: the network of the client, as [`client_address`]
/// gives it, and each `User-Agent`.
pub(super) fn client_fields<'a>(address: &'a [u8; 16], headers: &'a HeaderMap) -> Vec<&'a [u8]> {
    let agents = headers.get_all(header::USER_AGENT).iter().map(HeaderValue::as_bytes);
    [&address[..]].into_iter().chain(agents).collect()
}

/// Returns the network that counts as one client, as the bytes of an IPv6 address.
pub(super) fn client_address(client: IpAddr) -> [u8; 16] {
    match client_network(client) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
