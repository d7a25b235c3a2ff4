//! Which addresses count as one client: an IPv4 address by itself, an IPv6 address by its network.
//!
//! An IPv6 customer commonly holds a whole /64 and may send from any address in it. An IPv4-mapped
//! IPv6 address is the IPv4 address.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bits of an IPv6 address that every customer of a provider has for itself at least.
pub const IPV6_CLIENT_PREFIX: u8 = 64;

/// Returns the network that counts as one client: the /64 of an IPv6 address, the whole of an IPv4
/// address.
pub fn client_network(address: IpAddr) -> IpAddr {
    network(address, IPV6_CLIENT_PREFIX)
}

/// Returns the network of an IPv6 address with a prefix of this many bits, the whole of an IPv4
/// address.
///
/// `ipv6_prefix` is 0 to 128; more counts as 128.
pub fn network(address: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let host_bits = 128_u32.saturating_sub(u32::from(ipv6_prefix));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// How many leading bits the addresses of one network have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkPrefix {
    /// Of an IPv4 address: 0 to 32; more counts as 32.
    pub ipv4: u8,
    /// Of an IPv6 address: 0 to 128; more counts as 128.
    pub ipv6: u8,
}

impl NetworkPrefix {
    /// Returns the network of an address. An IPv4-mapped IPv6 address is the IPv4 address.
    pub fn network(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let host_bits = 32_u32.saturating_sub(u32::from(self.ipv4));
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            address @ IpAddr::V6(_) => network(address, self.ipv6),
        }
    }
}

/// Parses an address, with the port that some proxies add.
pub fn parse(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address| address.to_canonical())
}

/// Appends an address to a text. Every forwarded request needs this, so the usual kind is written
/// without the machinery of formatting.
pub fn push(text: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(v4) = address else {
        // A write into memory does not fail.
        _ = write!(text, "{address}");
        return;
    };
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
            if octet >= least {
                text.push(b'0' + digit);
            }
        }
    }
}

/// Whether an address is of this machine or of a network of its owner, which no client on the
/// internet has: loopback, private, link-local, or a carrier's (RFC 6598).
pub fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// 100.64.0.0/10, which Kubernetes and the load balancers of clouds use too.
const fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_address_is_one_that_no_client_on_the_internet_has() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.255.1",
            "192.168.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_internal(address.parse().unwrap()), "{address}");
        }
        for address in ["203.0.113.1", "172.32.0.1", "100.128.0.1", "100.63.0.1", "2001:db8::1", "0.0.0.0"] {
            assert!(!is_internal(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_is_appended_as_it_is_displayed() {
        let mut addresses: Vec<IpAddr> = (0..=255).map(|octet| [octet, 0, 255 - octet, 9].into()).collect();
        addresses.extend(["2001:db8::1", "::ffff:1.2.3.4"].map(|text| text.parse::<IpAddr>().unwrap()));
        for address in addresses {
            let mut text = b"a, ".to_vec();
            push(&mut text, address);
            assert_eq!(text, format!("a, {address}").as_bytes());
        }
    }

    #[test]
    fn an_address_may_have_a_port() {
        for (text, expected) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:99", Some("1.2.3.4")),
            ("[2001:db8::1]:99", Some("2001:db8::1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4, 5.6.7.8", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_ipv6_client_is_a_network_and_an_ipv4_client_an_address() {
        for (address, prefix, expected) in [
            ("192.0.2.1", 64, "192.0.2.1"),
            ("::ffff:192.0.2.1", 64, "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", 200, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", 0, "::"),
        ] {
            let (address, expected): (IpAddr, IpAddr) = (address.parse().unwrap(), expected.parse().unwrap());

            assert_eq!(network(address, prefix), expected, "{address}/{prefix}");
            if prefix == IPV6_CLIENT_PREFIX {
                assert_eq!(client_network(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn a_network_has_as_many_bits_in_common_as_its_prefix_says() {
        for (address, ipv4, ipv6, expected) in [
            ("192.0.2.129", 24, 48, "192.0.2.0"),
            ("::ffff:192.0.2.129", 24, 48, "192.0.2.0"),
            ("192.0.2.129", 32, 48, "192.0.2.129"),
            ("192.0.2.129", 200, 48, "192.0.2.129"),
            ("192.0.2.129", 0, 48, "0.0.0.0"),
            ("2001:db8:1:2:3:4:5:6", 24, 48, "2001:db8:1::"),
        ] {
            let (address, expected): (IpAddr, IpAddr) = (address.parse().unwrap(), expected.parse().unwrap());

            assert_eq!(NetworkPrefix { ipv4, ipv6 }.network(address), expected, "{address}/{ipv4}");
        }
    }
}
