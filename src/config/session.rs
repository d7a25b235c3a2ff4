//! Sessions: how long they live, and how many there can be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, SecretSource};

/// `sessions`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Longest life of a session, even if it is in use. 1 minute to 400 days.
    pub lifetime: Duration,
    /// How long a session lives without a request. At most `lifetime`.
    pub idle_timeout: Duration,
    /// Maximum number of sessions of one user in one app. One more ends the oldest. 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub max_per_subject: u32,
    /// How long the oldest session goes on after one session too many is opened. Without a delay, a
    /// client that signs in several times at once ends its own sessions. At most 1 hour.
    pub eviction_delay: Duration,
    /// How long a used refresh token gets the same answer again, if the new token is not used yet.
    /// At most 5 minutes. `0s`: never.
    pub refresh_grace: Duration,
    /// Which addresses count as one client in a retry: when a used refresh token gets the same
    /// answer again, and when a code that is sent again does. The `User-Agent` must also be the
    /// same, except for WeChat's `NetType` and `Language`.
    pub retry_network: RetryNetwork,
    /// How long a verified token is accepted before its session is looked up again. A node that has
    /// lost its Redis accepts a revoked session no longer than this. 1 second to 5 minutes.
    pub recheck_after: Duration,
    /// Keys that encrypt the key of the store, which encrypts rows that name people. Each of them
    /// can decrypt it. Empty: the gateway makes one key at the first start and keeps it in
    /// `data_dir`.
    pub seal_keys: Vec<SealKey>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(30 * 24 * 3600),
            idle_timeout: Duration::from_secs(7 * 24 * 3600),
            max_per_subject: 10,
            eviction_delay: Duration::from_secs(60),
            refresh_grace: Duration::from_secs(10),
            retry_network: RetryNetwork::default(),
            recheck_after: Duration::from_secs(30),
            seal_keys: Vec::new(),
        }
    }
}

/// `sessions.retry_network`: how many leading bits two addresses of one client have in common. The
/// defaults are wide enough for the addresses that a carrier gives one phone in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryNetwork {
    /// Bits of an IPv4 address. 0 to 32. 0: every address counts as the same.
    #[schemars(range(min = 0, max = 32))]
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address. 0 to 128. 0: every address counts as the same.
    #[schemars(range(min = 0, max = 128))]
    pub ipv6_prefix: u8,
}

impl Default for RetryNetwork {
    fn default() -> Self {
        Self { ipv4_prefix: 24, ipv6_prefix: 48 }
    }
}

/// `sessions.seal_keys[]`: a key that encrypts the key of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealKey {
    /// The key's id. It is stored with what the key encrypted, and must be unique.
    pub kid: String,
    /// 32 random bytes in base64, such as the output of `openssl rand -base64 32`.
    pub secret: SecretSource,
}
