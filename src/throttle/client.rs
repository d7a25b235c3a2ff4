//! Decides which addresses count as one client, and makes the table keys of clients, users and
//! apps.

use std::fmt;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::num::NonZeroU64;

use siphasher::sip::SipHasher13;

use crate::address::network;
use crate::config::Findings;
use crate::entropy::{self, Entropy, NoEntropy};

/// The networks in which IPv6 addresses count besides the client's own: what one customer, one site
/// and one company commonly hold.
const WIDER_PREFIXES: [u8; 3] = [64, 56, 48];

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

/// A network that counts as one client: an IPv4 address, or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) key: ClientKey,
    pub(super) name: NetworkName,
    /// How many times the budget of one client the network has.
    pub(super) share: u32,
}

/// A network as people and other nodes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NetworkName {
    pub(super) address: IpAddr,
    /// Bits of an IPv6 network; `None` for an IPv4 address.
    pub(super) prefix: Option<u8>,
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// Turns addresses into keys.
pub(super) struct ClientKeys {
    hasher: SipHasher13,
    ipv6_prefix: u8,
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
        Some(Self { hasher: SipHasher13::new_with_key(&hash_key.ok()?), ipv6_prefix })
    }

    /// The key of the client at this address.
    pub(super) fn key(&self, address: IpAddr) -> ClientKey {
        self.network(address).key
    }

    /// The network of the client at this address: the bits that all its addresses have in common.
    ///
    /// An IPv4-mapped address is the IPv4 client. One IPv6 client commonly holds a whole /64 and
    /// may send from any address in it, so only the prefix counts.
    pub(super) fn network(&self, address: IpAddr) -> Network {
        self.network_of(address, self.ipv6_prefix, 1)
    }

    /// The network of the client at this address, and the wider networks around it. Each has twice
    /// the budget of the one before: a company with a /48 has 65,536 times a /64.
    pub(super) fn networks(&self, address: IpAddr) -> Vec<Network> {
        let own = self.network(address);
        if own.name.prefix.is_none() {
            return vec![own];
        }
        let wider = WIDER_PREFIXES.into_iter().filter(|prefix| *prefix < self.ipv6_prefix);
        let shares = std::iter::successors(Some(2_u32), |share| share.checked_mul(2));
        let wider = wider.zip(shares).map(|(prefix, share)| self.network_of(address, prefix, share));
        [own].into_iter().chain(wider).collect()
    }

    /// The bucket of a network for codes that waited so many times.
    pub(super) fn after_waits(&self, network: &Network, waits: u8) -> Network {
        let mut hasher = self.hasher;
        hasher.write_u64(network.key.hash());
        hasher.write_u8(waits);
        Network { key: ClientKey::of(hasher.finish()), ..*network }
    }

    /// The key of a code that a client sent.
    pub(super) fn code_key(&self, client: ClientKey, code: &str) -> ClientKey {
        let mut hasher = self.hasher;
        hasher.write_u64(client.hash());
        hasher.write(code.as_bytes());
        ClientKey::of(hasher.finish())
    }

    fn network_of(&self, address: IpAddr, ipv6_prefix: u8, share: u32) -> Network {
        let address = network(address, ipv6_prefix);
        let mut hasher = self.hasher;
        let prefix = match address {
            IpAddr::V4(address) => {
                hasher.write(&address.octets());
                None
            }
            IpAddr::V6(prefix) => {
                hasher.write(&prefix.octets());
                hasher.write_u8(ipv6_prefix);
                Some(ipv6_prefix)
            }
        };
        Network { key: ClientKey::of(hasher.finish()), name: NetworkName { address, prefix }, share }
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
