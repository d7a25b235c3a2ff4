//! Names of the headers that carry the identity to the backend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `identity_headers`; the defaults are WeChat Cloud Run's.
///
/// The gateway removes each of these headers from requests of clients, in every spelling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityHeaders {
    /// Header of the openid.
    pub openid: String,
    /// Header of the unionid. It is sent only if the unionid is known.
    pub unionid: String,
    /// Header of the appid.
    pub appid: String,
    /// Header of your own user id. It is sent only if the person is bound to a user. WeChat Cloud
    /// Run has no such header.
    pub user: String,
    /// Header that says how the user signed in: `wx_client` in a mini program, `wx_http` with a
    /// browser. For a Cloud Run backend its presence means "signed in".
    pub source: String,
    /// Header of the value of `environment`.
    pub env: String,
    /// Value of the `env` header of signed-in requests. Not set: the header is not sent.
    pub environment: Option<String>,
    /// Header of the nickname in percent-encoded UTF-8, such as `X-WX-NICKNAME`. Not set: it is not
    /// sent.
    pub nickname: Option<String>,
    /// Header of the avatar's URL, such as `X-WX-AVATAR`. Not set: it is not sent.
    pub avatar: Option<String>,
    /// More headers that the gateway removes from requests of clients, in every spelling: by name,
    /// or by the beginning of their names, such as `X-Corp-*`.
    pub remove: Vec<String>,
    /// Headers of other gateways, such as `X-Auth-User`, that clients themselves can send: by name,
    /// or by the beginning of their names. The backend must not trust them. See docs/headers.md.
    pub pass: Vec<String>,
}

impl IdentityHeaders {
    /// Whether the backend receives the nickname or the avatar.
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
            pass: Vec::new(),
        }
    }
}
