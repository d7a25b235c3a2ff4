//! Which addresses count as one client: an IPv4 address by itself, an IPv6 address by its network.
//!
//! An IPv6 customer commonly holds a whole /64 and may send from any address in it. An IPv4-mapped
//! IPv6 address is the IPv4 address.

use std::net::{IpAddr, Ipv6Addr};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
