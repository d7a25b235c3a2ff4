//! Names of the headers that carry the identity to the backend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `identity_headers`; the defaults are WeChat Cloud Run's.
///
/// Whatever the names, each is removed from what a client sends, in every spelling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityHeaders {
    /// Header for the openid.
    pub openid: String,
    /// Header for the unionid; sent only when it is known.
    pub unionid: String,
    /// Header for the appid.
    pub appid: String,
    /// Header for the business's own id of the person; sent only when they are bound. Not of Cloud Run.
    pub user: String,
    /// Header that says how the call came; Cloud Run backends take its presence as "signed in".
    pub source: String,
    /// Header for `environment`.
    pub env: String,
    /// Value of the `env` header on signed-in requests; absent: the header is not sent.
    pub environment: Option<String>,
    /// Header for the nickname, percent-encoded UTF-8, such as `X-WX-NICKNAME`; absent: it is not sent.
    pub nickname: Option<String>,
    /// Header for the URL of the avatar, such as `X-WX-AVATAR`; absent: it is not sent.
    pub avatar: Option<String>,
    /// Further names to remove from what clients send, in every spelling.
    pub remove: Vec<String>,
}

impl IdentityHeaders {
    /// Whether a backend is told what a person calls themselves.
    pub const fn tells_profile(&self) -> bool {
        self.nickname.is_some() || self.avatar.is_some()
    }
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            openid: "X-WX-OPENID".into(),
            unionid: "X-WX-UNIONID".into(),
            appid: "X-WX-APPID".into(),
            user: "X-WX-USER-ID".into(),
            source: "X-WX-SOURCE".into(),
            env: "X-WX-ENV".into(),
            environment: None,
            nickname: None,
            avatar: None,
            remove: Vec::new(),
        }
    }
}
