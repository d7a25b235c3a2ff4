//! A WeChat app.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretSource;

/// `apps.<name>`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// What the app is at WeChat.
    pub kind: AppKind,
    /// The app's id, as WeChat's console shows it.
    pub appid: String,
    /// The app's secret, as WeChat's console shows it.
    pub secret: SecretSource,
}

/// What an app is at WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// A mini program (小程序): its pages sign in with `wx.login`.
    MiniProgram,
}
