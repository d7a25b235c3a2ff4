//! Sessions: how long they last and how many there may be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, SecretSource};

/// `sessions`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Longest life of a session, however busy. 1 minute to 400 days.
    pub lifetime: Duration,
    /// How long a session lives without a request. At most `lifetime`.
    pub idle_timeout: Duration,
    /// Most sessions of one person in one app; beyond it the oldest ends. 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub max_per_subject: u32,
    /// How long the oldest session goes on when one too many is opened: a client that signs in several times at once
    /// would otherwise end its own. At most 1 hour.
    pub eviction_delay: Duration,
    /// How long a spent refresh token gets the same answer again, its successor being unused. At most 5 minutes; `0s` never.
    pub refresh_grace: Duration,
    /// How long a verified token is believed before its session is looked up again. It bounds what a node that lost
    /// its Redis accepts. 1 second to 5 minutes.
    pub recheck_after: Duration,
    /// Keys that WeChat's session keys are sealed with; the first seals, all open. Empty: one key is made on first
    /// start and kept in `data_dir`.
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

/// `sessions.seal_keys[]`: a key that WeChat's session keys are sealed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealKey {
    /// The key's id, kept beside what it sealed; must be unique.
    pub kid: String,
    /// 32 random bytes as base64, such as `openssl rand -base64 32` prints.
    pub secret: SecretSource,
}
