//! The login endpoints.

use std::path::PathBuf;

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
    /// Where browsers reach the gateway, such as `https://shop.example.com`: people can sign in there with a browser. Scheme, host
    /// and port exactly as in the address bar; `http://` is for loopback only. Empty: nowhere.
    pub origins: Vec<String>,
    /// Origins of other sites that a sign-in may lead back to. Empty: to the origin it began at alone.
    pub return_to: Vec<String>,
    /// The pages that people see.
    pub page: LoginPage,
}

/// `login.page`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginPage {
    /// What people sign in to: the name on the pages. Absent: none is shown.
    pub title: Option<String>,
    /// Picture above it: a PNG, JPEG, WebP or SVG file of at most 64 KiB.
    pub logo: Option<PathBuf>,
    /// Folder with templates of your own, `sign_in.html` and `message.html`; what is not there is as delivered.
    pub templates: Option<PathBuf>,
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
