//! WeChat's sealed user data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// `user_data`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserData {
    /// Oldest data that are opened, by their watermark. A client asks WeChat for the data when it
    /// sends them.
    pub max_age: Duration,
    /// The fields that the client gets, as WeChat spells them: `openGId`, `stepInfoList`,
    /// `phoneNumber`, `purePhoneNumber`, `countryCode`. All others stay in the gateway.
    pub client: Vec<String>,
}

impl Default for UserData {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(300), client: Vec::new() }
    }
}
