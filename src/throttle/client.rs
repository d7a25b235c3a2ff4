//! Decides which addresses count as one client, and makes the table keys of clients, users and
//! apps.

use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;

use siphasher::sip::SipHasher13;

use crate::config::Findings;
use crate::entropy::{self, Entropy, NoEntropy};

/// A client's key in the tables: a keyed hash of its address or of its name.
///
/// Two clients have the same key once in 2^64. The hash key is random and drawn at start, so that a
/// client cannot search for addresses that have the same key or fall into the same set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey(NonZeroU64);

impl ClientKey {
    fn of(hash: u64) -> Self {
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }

    /// The hash, evenly spread over all 64 bits.
    pub(super) const fn hash(self) -> u64 {
        self.0.get()
    }
}

/// Turns addresses into keys.
pub(super) struct ClientKeys {
    hasher: SipHasher13,
    ipv6_mask: u128,
}

impl ClientKeys {
    pub(super) fn build(ipv6_prefix: u8, entropy: &dyn Entropy, findings: &mut Findings) -> Option<Self> {
        let hash_key = entropy::bytes::<16>(entropy)
            .map_err(|error| findings.error("throttle", format!("the tables need a key: {error}")));
        if !(32..=128).contains(&ipv6_prefix) {
            findings
                .error(
                    "throttle.ipv6_prefix",
                    format!("{ipv6_prefix} bits are out of range for the prefix of a client"),
                )
                .hint("write a number from 32 to 128");
            return None;
        }
        Some(Self {
            hasher: SipHasher13::new_with_key(&hash_key.ok()?),
            ipv6_mask: u128::MAX << (128 - u32::from(ipv6_prefix)),
        })
    }

    /// The key of the client at this address.
    pub(super) fn key(&self, address: IpAddr) -> ClientKey {
        let hash = match self.network(address) {
            IpAddr::V4(address) => self.hasher.hash(&address.octets()),
            IpAddr::V6(prefix) => self.hasher.hash(&prefix.octets()),
        };
        ClientKey::of(hash)
    }

    /// The network of the client at this address: the bits that all its addresses have in common.
    ///
    /// An IPv4-mapped address is the IPv4 client. One IPv6 client commonly holds a whole /64 and
    /// may send from any address in it, so only the prefix counts.
    pub(super) fn network(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & self.ipv6_mask).into(),
        }
    }
}

/// Turns names of users and apps into keys. Its hash key is its own, so a name does not get the key
/// of an address.
pub(super) struct NameKeys(SipHasher13);

impl NameKeys {
    pub(super) fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        Ok(Self(SipHasher13::new_with_key(&entropy::bytes::<16>(entropy)?)))
    }

    /// The key of a name of several parts. Each part is hashed with its length, so that `ab`, `c`
    /// is not `a`, `bc`.
    pub(super) fn key(&self, parts: &[&str]) -> ClientKey {
        let mut hasher = self.0;
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part.as_bytes());
        }
        ClientKey::of(hasher.finish())
    }
}
