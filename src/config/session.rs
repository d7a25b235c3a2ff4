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
    /// How long a verified token is accepted before its session is looked up again. A node that has
    /// lost its Redis accepts a revoked session no longer than this. 1 second to 5 minutes.
    pub recheck_after: Duration,
    /// Keys that encrypt WeChat's session keys. The first encrypts, all decrypt. Empty: the gateway
    /// makes one key at the first start and keeps it in `data_dir`.
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
            recheck_after: Duration::from_secs(30),
            seal_keys: Vec::new(),
        }
    }
}

/// `sessions.seal_keys[]`: a key that encrypts WeChat's session keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealKey {
    /// The key's id. It is stored with what the key encrypted, and must be unique.
    pub kid: String,
    /// 32 random bytes in base64, such as the output of `openssl rand -base64 32`.
    pub secret: SecretSource,
}
