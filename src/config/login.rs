//! The login endpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration, FilePath};

/// `login`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// Path of the gateway's own endpoints. The gateway answers every path below it itself, on
    /// every host.
    pub path_prefix: String,
    /// Largest body of a login request.
    pub max_body: ByteSize,
    /// Longest wait for the whole body of a login request.
    pub body_timeout: Duration,
    /// How long the same client can send the same code again and get the same answer. At most 5
    /// minutes: a code of WeChat lives that long.
    pub replay_window: Duration,
    /// Maximum number of codes that the gateway remembers for `replay_window`.
    pub replay_capacity: u64,
    /// Origins where browsers reach the gateway, such as `https://shop.example.com`. Users can sign
    /// in there with a browser. Write scheme, host and port exactly as in the address bar.
    /// `http://` is for loopback only. Empty: users cannot sign in with a browser.
    pub origins: Vec<String>,
    /// Origins of other sites where the browser may go after a sign-in. Empty: only the origin
    /// where the sign-in began.
    pub return_to: Vec<String>,
    /// The pages that users see.
    pub page: LoginPage,
}

/// `login.page`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginPage {
    /// Name on the pages: what users sign in to. Not set: no name.
    pub title: Option<String>,
    /// Picture above the name: a PNG, JPEG, WebP or SVG file of at most 64 KiB.
    pub logo: Option<FilePath>,
    /// Folder with your own templates, `sign_in.html` and `message.html`. If a file is not there,
    /// the built-in template is used.
    pub templates: Option<FilePath>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            path_prefix: "/auth".into(),
            max_body: ByteSize::kib(4),
            body_timeout: Duration::from_secs(10),
            replay_window: Duration::from_secs(60),
            replay_capacity: 100_000,
            origins: Vec::new(),
            return_to: Vec::new(),
            page: LoginPage::default(),
        }
    }
}
