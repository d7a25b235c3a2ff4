//! The address of a request's client: the connection's peer, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::{IpNet, Ipv4Net};

/// Networks of the peers whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub peer_is_trusted: bool,
    /// The client: the peer, or the rightmost address in `X-Forwarded-For` that is not a trusted
    /// proxy.
    pub client: IpAddr,
}

impl TrustedProxies {
    /// Trusts these networks; IPv4-mapped ones are read as IPv4.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.iter().copied().map(canonical).collect())
    }

    /// Finds the address of a request's client.
    ///
    /// An entry that does not parse ends the search: no trusted proxy wrote what stands to its
    /// left.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let peer = peer.to_canonical();
        let peer_is_trusted = self.trusts(peer);
        let mut client = peer;
        if peer_is_trusted {
            let lines: Vec<&str> = headers
                .get_all("x-forwarded-for")
                .iter()
                .map(|line| line.to_str().unwrap_or_default())
                .collect();
            for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
                let Some(address) = parse_entry(entry.trim()) else { break };
                client = address;
                if !self.trusts(address) {
                    break;
                }
            }
        }
        ClientAddress { peer, peer_is_trusted, client }
    }

    /// Whether these networks hold an address.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether no peer is trusted.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the IPv4 network that an IPv4-mapped network stands for. An IPv4 peer is IPv4, also on
/// an IPv6 socket.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

/// Parses an address, with the port that some proxies add.
fn parse_entry(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[&[u8]]) -> String {
        let networks: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
        }
        TrustedProxies::new(&networks).client_address(peer.parse().unwrap(), &headers).client.to_string()
    }

    #[test]
    fn no_peer_is_trusted_by_default() {
        for line in [&b"1.2.3.4"[..], b"127.0.0.1", b"unknown", b"", b"\xff"] {
            assert_eq!(client(&[], "127.0.0.1", &[line]), "127.0.0.1");
            assert_eq!(client(&[], "10.0.0.1", &[line]), "10.0.0.1");
        }
    }

    #[test]
    fn only_an_empty_list_of_networks_is_empty() {
        assert!(TrustedProxies::new(&[]).is_empty());
        assert!(!TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]).is_empty());
    }

    #[test]
    fn a_trusted_proxy_names_the_rightmost_untrusted_address() {
        for (lines, expected) in [
            (&[&b"1.2.3.4"[..]][..], "1.2.3.4"),
            (&[b"9.9.9.9, 1.2.3.4"], "1.2.3.4"),
            (&[b"9.9.9.9, 1.2.3.4, 10.0.0.7"], "1.2.3.4"),
            (&[b"9.9.9.9", b"1.2.3.4, 10.0.0.7"], "1.2.3.4"),
            (&[b"10.0.0.7, 10.0.0.8"], "10.0.0.7"),
            (&[b"1.2.3.4:99"], "1.2.3.4"),
            (&[b"[2001:db8::1]:99"], "2001:db8::1"),
            (&[b"::ffff:1.2.3.4"], "1.2.3.4"),
            (&[b"9.9.9.9, a"], "10.0.0.1"),
            (&[b"9.9.9.9, "], "10.0.0.1"),
            (&[b"9.9.9.9, unknown, 10.0.0.7"], "10.0.0.7"),
            (&[b"9.9.9.9", b"\xff"], "10.0.0.1"),
            (&[b""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_mapped_ipv4_peer_is_the_ipv4_peer() {
        assert_eq!(client(&["10.0.0.0/8"], "::ffff:10.0.0.1", &[b"1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&[], "::ffff:10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_mapped_ipv4_network_is_the_ipv4_network() {
        for (network, peer, expected) in [
            ("::ffff:10.0.0.0/104", "10.0.0.1", "1.2.3.4"),
            ("::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "1.2.3.4"),
            ("::ffff:10.0.0.0/104", "11.0.0.1", "11.0.0.1"),
            ("::ffff:10.0.0.1/128", "10.0.0.1", "1.2.3.4"),
            ("::ffff:0.0.0.0/96", "10.0.0.1", "1.2.3.4"),
            ("::/0", "10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(client(&[network], peer, &[b"1.2.3.4"]), expected, "{network} {peer}");
        }
    }
}
