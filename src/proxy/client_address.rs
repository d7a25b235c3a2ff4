//! The address of a request's client: the connection's peer, or what a trusted proxy says of it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::address;
use crate::config;
use crate::identity_headers::Believed;

/// Networks, to look an address up in.
#[derive(Clone, Debug, Default)]
pub(super) struct Networks(Vec<IpNet>);

/// The trusted proxies of a configuration, and what each is believed about.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// The smallest network first, with the index of its proxy.
    networks: Vec<(IpNet, usize)>,
    believed: Vec<Arc<Believed>>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Which of the trusted proxies the peer is.
    pub proxy: Option<usize>,
    /// The client: the peer, or whom a trusted proxy names.
    pub client: IpAddr,
}

impl Networks {
    /// Holds these networks; IPv4-mapped ones are read as IPv4.
    pub(super) fn new(networks: &[IpNet]) -> Self {
        Self(networks.iter().copied().map(canonical).collect())
    }

    /// Whether these networks hold an address.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TrustedProxies {
    /// Trusts these proxies; `believed` says in the same order what each is believed about.
    pub fn new(proxies: &[config::TrustedProxy], believed: &[Arc<Believed>]) -> Self {
        let entries = proxies.iter().enumerate();
        let mut networks: Vec<(IpNet, usize)> = entries
            .flat_map(|(index, proxy)| proxy.from.iter().map(move |network| (canonical(*network), index)))
            .collect();
        networks.sort_by_key(|(network, index)| (std::cmp::Reverse(network.prefix_len()), *index));
        Self { networks, believed: believed.to_vec() }
    }

    /// Finds the address of a request's client.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let peer = peer.to_canonical();
        let proxy = self.proxy(peer);
        let client = match self.believed(proxy) {
            Some(believed) => match believed.client_address() {
                Some(name) => stated(name, headers).unwrap_or(peer),
                None if believed.forwarded_for() => self.forwarded_for(peer, headers),
                None => peer,
            },
            None => peer,
        };
        ClientAddress { peer, proxy, client }
    }

    /// The rightmost address in `X-Forwarded-For` that is no proxy that is believed about it.
    ///
    /// An entry that does not parse ends the search: no trusted proxy wrote what stands to its
    /// left.
    fn forwarded_for(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or_default()).collect();
        let mut client = peer;
        for entry in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = address::parse(entry.trim()) else { break };
            client = address;
            if !self.believed(self.proxy(address)).is_some_and(Believed::forwarded_for) {
                break;
            }
        }
        client
    }

    /// What a trusted proxy is believed about.
    pub(super) fn believed(&self, proxy: Option<usize>) -> Option<&Believed> {
        self.believed.get(proxy?).map(Arc::as_ref)
    }

    /// Whether an address is that of a trusted proxy.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.proxy(address.to_canonical()).is_some()
    }

    fn proxy(&self, address: IpAddr) -> Option<usize> {
        self.networks.iter().find(|(network, _)| network.contains(&address)).map(|(_, index)| *index)
    }
}

/// The one address that a header states. If the header stands twice, the client may have written
/// one of them.
fn stated(name: &HeaderName, headers: &HeaderMap) -> Option<IpAddr> {
    let mut values = headers.get_all(name).iter();
    let address = address::parse(values.next()?.to_str().ok()?)?;
    values.next().is_none().then_some(address)
}

/// Returns the IPv4 network that an IPv4-mapped network stands for. An IPv4 peer is IPv4, also on
/// an IPv6 socket.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Proxies of these networks, each believed about these headers, and by this one about the
    /// client.
    fn proxies(entries: &[(&str, &[&str], Option<&'static str>)]) -> TrustedProxies {
        let at = |network: &str| config::TrustedProxy::at(vec![address_or_network(network)]);
        let believed = |names: &[&str], client| Arc::new(Believed::in_names(names, client));
        TrustedProxies::new(
            &Vec::from_iter(entries.iter().map(|(network, ..)| at(network))),
            &Vec::from_iter(entries.iter().map(|(_, names, client)| believed(names, *client))),
        )
    }

    fn address_or_network(text: &str) -> IpNet {
        text.parse().unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()))
    }

    fn lines(name: &'static str, lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn client(trusted: &[&str], peer: &str, list: &[&[u8]]) -> String {
        let entries: Vec<(&str, &[&str], _)> =
            trusted.iter().map(|text| (*text, &["X-Forwarded-For"][..], None)).collect();
        let headers = lines("x-forwarded-for", list);
        proxies(&entries).client_address(peer.parse().unwrap(), &headers).client.to_string()
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
        assert!(Networks::new(&[]).is_empty());
        assert!(!Networks::new(&["10.0.0.0/8".parse().unwrap()]).is_empty());
    }

    #[test]
    fn the_smallest_network_says_what_a_proxy_is_believed_about() {
        let proxies = proxies(&[
            ("10.0.0.0/8", &["X-Forwarded-For"], None),
            ("10.1.0.0/16", &["X-Forwarded-Proto"], None),
            ("10.1.1.1", &["X-Forwarded-For"], None),
        ]);
        for (peer, expected) in [("10.9.9.9", "1.2.3.4"), ("10.1.9.9", "10.1.9.9"), ("10.1.1.1", "1.2.3.4")] {
            let headers = lines("x-forwarded-for", &[b"1.2.3.4"]);
            let found = proxies.client_address(peer.parse().unwrap(), &headers);
            assert_eq!(found.client.to_string(), expected, "{peer}");
        }
        // A proxy that is not believed about the list ends it.
        let headers = lines("x-forwarded-for", &[b"1.2.3.4, 10.1.9.9, 10.9.9.8"]);
        let found = proxies.client_address("10.9.9.9".parse().unwrap(), &headers);
        assert_eq!(found.client.to_string(), "10.1.9.9");
    }

    #[test]
    fn the_header_of_the_client_address_decides_alone() {
        let proxies = proxies(&[("10.0.0.0/8", &["X-Forwarded-For"], Some("x-wx-client-ip"))]);
        for (values, expected) in [
            (&[&b"1.2.3.4"[..]][..], "1.2.3.4"),
            (&[b"[2001:db8::1]:9"], "2001:db8::1"),
            (&[b"10.0.0.7"], "10.0.0.7"),
            (&[b"1.2.3.4, 5.6.7.8"], "10.0.0.1"),
            (&[b"1.2.3.4", b"5.6.7.8"], "10.0.0.1"),
            (&[b"unknown"], "10.0.0.1"),
            (&[b"\xff"], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            let mut headers = lines("x-wx-client-ip", values);
            headers.append("x-forwarded-for", HeaderValue::from_static("9.9.9.9"));
            let found = proxies.client_address("10.0.0.1".parse().unwrap(), &headers);
            assert_eq!(found.client.to_string(), expected, "{values:?}");
            let stranger = proxies.client_address("203.0.113.9".parse().unwrap(), &headers);
            assert_eq!((stranger.client.to_string().as_str(), stranger.proxy), ("203.0.113.9", None));
        }
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
