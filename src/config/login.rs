//! The login endpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration};

/// `login`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// Path below which the gateway answers itself, on every host.
    pub path_prefix: String,
    /// Largest body of a login request.
    pub max_body: ByteSize,
    /// Longest wait for the whole body of a login request.
    pub body_timeout: Duration,
    /// How long the same client may send a code again and get the same answer. At most 5 minutes, a code's life.
    pub replay_window: Duration,
    /// Most codes remembered for `replay_window`.
    pub replay_capacity: u64,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            path_prefix: "/auth".into(),
            max_body: ByteSize::kib(4),
            body_timeout: Duration::from_secs(10),
            replay_window: Duration::from_secs(60),
            replay_capacity: 100_000,
        }
    }
}
