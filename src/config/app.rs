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
    /// What people know it as, on the sign-in page. Default: its name here.
    #[serde(default)]
    pub title: Option<String>,
    /// How much an official account asks of a person: `snsapi_base` (the default) the openid alone, without a question;
    /// `snsapi_userinfo` unionid, nickname and avatar too, after the person agreed. For other kinds there is no choice.
    #[serde(default)]
    pub scope: Option<OAuthScope>,
    /// Whether a sign-in is finished only in the browser that began it. `loose` lets one through whose cookie is lost, as
    /// WeChat's in-app browser loses them: somebody may then be signed in as somebody else by a link they were sent.
    #[serde(default)]
    pub browser_check: BrowserCheck,
}

/// What an app is at WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// A mini program (小程序): its pages sign in with `wx.login`.
    MiniProgram,
    /// A website (网站应用) of the Open Platform: people sign in with a QR code.
    Website,
    /// An official account (公众号): people sign in inside WeChat, with a tap at most.
    OfficialAccount,
}

impl AppKind {
    /// The word for it in configurations, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MiniProgram => "mini_program",
            Self::Website => "website",
            Self::OfficialAccount => "official_account",
        }
    }

    /// Whether people sign in to it with a browser.
    pub const fn is_for_browsers(self) -> bool {
        match self {
            Self::MiniProgram => false,
            Self::Website | Self::OfficialAccount => true,
        }
    }
}

/// How much an official account asks of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OAuthScope {
    /// The openid.
    #[serde(rename = "snsapi_base")]
    Base,
    /// The profile, too.
    #[serde(rename = "snsapi_userinfo")]
    UserInfo,
}

/// Whether a sign-in is finished only in the browser that began it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrowserCheck {
    /// Only there.
    #[default]
    Strict,
    /// Also where no browser shows a cookie; one that shows another's is refused all the same.
    Loose,
}
