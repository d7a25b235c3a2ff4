//! The client that sends a request. Two clients that are not identified differ in their network or
//! their `User-Agent`.
//!
//! A retry must come from the client that sent the first request. An attacker who saw a spent token
//! or a used code is usually another client.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, header};

use crate::address::NetworkPrefix;

/// Product tokens of WeChat's `User-Agent` that change although the client is the same: the kind of
/// its network, and its language.
const CHANGING: [&[u8]; 2] = [b"nettype/", b"language/"];

/// A client: its network, and each `User-Agent` without the parts that change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client(Vec<Vec<u8>>);

impl Client {
    /// The client that sent a request from this address. Two addresses with `prefix` in common are
    /// the same client.
    pub fn new(address: IpAddr, headers: &HeaderMap, prefix: NetworkPrefix) -> Self {
        let network = match prefix.network(address) {
            IpAddr::V4(network) => network.to_ipv6_mapped().octets(),
            IpAddr::V6(network) => network.octets(),
        };
        let agents = headers.get_all(header::USER_AGENT).iter().map(HeaderValue::as_bytes).map(lasting);
        Self([network.to_vec()].into_iter().chain(agents).collect())
    }

    /// The client at an address, by the default of `sessions.retry_network`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn for_test(address: [u8; 4], user_agent: &'static str) -> Self {
        let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(user_agent))]);
        Self::new(address.into(), &headers, NetworkPrefix { ipv4: 24, ipv6: 48 })
    }

    /// The fields to compare two clients by, or to hash.
    pub fn fields(&self) -> &[Vec<u8>] {
        let Self(fields) = self;
        fields
    }
}

/// A `User-Agent` without the product tokens that change.
fn lasting(user_agent: &[u8]) -> Vec<u8> {
    let words = user_agent.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let changes = |word: &&[u8]| {
        CHANGING.iter().any(|prefix| {
            word.get(..prefix.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
        })
    };
    words.filter(|word| !changes(word)).collect::<Vec<_>>().join(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_network_and_the_language_are_not_part_of_a_user_agent() {
        let wifi: &[u8] =
            b"Mozilla/5.0 (iPhone) MicroMessenger/8.0.50(0x1800323a) NetType/WIFI Language/zh_CN";
        let mobile: &[u8] = b"Mozilla/5.0 (iPhone) MicroMessenger/8.0.50(0x1800323a) NetType/4G Language/en";
        let miniprogram: &[u8] =
            b"Mozilla/5.0 (Linux; Android 13) MicroMessenger/8.0.50 NetType/5G Language/zh_CN ABI/arm64";

        assert_eq!(lasting(wifi), b"Mozilla/5.0 (iPhone) MicroMessenger/8.0.50(0x1800323a)");
        assert_eq!(lasting(wifi), lasting(mobile));
        assert_eq!(lasting(miniprogram), b"Mozilla/5.0 (Linux; Android 13) MicroMessenger/8.0.50 ABI/arm64");
        assert_ne!(lasting(b"MicroMessenger/8.0.50"), lasting(b"MicroMessenger/8.0.51"));
        assert_eq!(lasting(b""), b"");
        assert_eq!(lasting(b"\xff NetType/"), b"\xff");
    }
}
