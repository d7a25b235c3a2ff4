//! A WeChat app.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretSource;

/// `apps.<name>`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The kind of the app at WeChat.
    pub kind: AppKind,
    /// The app's id, from WeChat's console.
    pub appid: String,
    /// The app's secret, from WeChat's console.
    pub secret: SecretSource,
    /// The app's name on the sign-in page. Default: its name in this file.
    #[serde(default)]
    pub title: Option<String>,
    /// What an official account asks of the user. `snsapi_base` (default): the openid, without a
    /// question to the user. `snsapi_userinfo`: also unionid, nickname and avatar, if the user
    /// agrees. Other kinds of app have no choice.
    #[serde(default)]
    pub scope: Option<OAuthScope>,
    /// Whether a sign-in must end in the browser that began it. `loose` accepts a browser that
    /// shows no cookie: WeChat's own browser can lose it. With `loose`, an attacker can send a link
    /// that signs the victim in as the attacker.
    #[serde(default)]
    pub browser_check: BrowserCheck,
    /// Whether `POST /auth/login` accepts codes of this official account, and answers with tokens:
    /// for pages at another origin than the gateway's, which send users to WeChat themselves. Such
    /// a page must check its own `state`, because the gateway cannot. Other kinds of app have no
    /// choice.
    #[serde(default)]
    pub code_login: bool,
    /// Whether a user for whom WeChat gives no unionid may sign in. Write `refuse` if you block or
    /// deny people by unionid: a block by unionid cannot reach a user whose unionid is not known.
    /// Sessions that were opened before go on. Default: `admit`.
    #[serde(default)]
    pub unknown_unionid: Option<UnknownUnionId>,
    /// How the gateway asks WeChat for the app's access token, with which it calls WeChat's API.
    /// `stable_token` (default): WeChat answers with the same token until five minutes before its
    /// end, whoever asks. `token`: each call makes a new token, and the one before is valid for
    /// five minutes more; for a token that programs of yours fetch in the same way. The two kinds
    /// of token do not affect each other. A `website` has no access token.
    #[serde(default)]
    pub app_token: AppTokenApi,
    /// Whether a session of this mini program can be handed over to a web-view: `POST /auth/ticket`
    /// gives a ticket, and the page that the web-view opens with it is signed in. Needs
    /// `login.origins`. Default: yes. Other kinds of app have no choice: they hand nothing over.
    #[serde(default)]
    pub hand_over: Option<bool>,
}

impl App {
    /// Whether sessions of this app can be handed over to a web-view.
    pub fn hands_over(&self) -> bool {
        self.kind == AppKind::MiniProgram && self.hand_over != Some(false)
    }

    /// Whether WeChat gives no unionid at a sign-in to this app. A mini program or an official
    /// account that is not bound to an Open Platform account gives none either; the configuration
    /// does not show it. Nor does it show the scope that a page chooses with `code_login`.
    pub fn gives_no_unionid(&self) -> bool {
        self.kind == AppKind::OfficialAccount && self.scope != Some(OAuthScope::UserInfo) && !self.code_login
    }
}

/// The API that gives an app its access token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppTokenApi {
    /// `POST /cgi-bin/stable_token`
    #[default]
    StableToken,
    /// `GET /cgi-bin/token`
    Token,
}

/// Whether a user whose unionid is not known is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownUnionId {
    /// The user is accepted.
    Admit,
    /// The user is refused.
    Refuse,
}

/// The kind of an app at WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// A mini program (小程序) or a mini game (小游戏). It signs in with `wx.login`.
    MiniProgram,
    /// A website (网站应用) of the Open Platform. Users sign in with a QR code.
    Website,
    /// An official account (公众号). Users sign in inside WeChat.
    OfficialAccount,
    /// A mobile app (移动应用) of the Open Platform, for iOS, Android or HarmonyOS. It signs in with
    /// a code that WeChat's SDK gives it.
    Mobile,
}

impl AppKind {
    /// The word of this kind in configurations, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MiniProgram => "mini_program",
            Self::Website => "website",
            Self::OfficialAccount => "official_account",
            Self::Mobile => "mobile",
        }
    }

    /// Whether users sign in to this app with a browser.
    pub const fn is_for_browsers(self) -> bool {
        match self {
            Self::MiniProgram | Self::Mobile => false,
            Self::Website | Self::OfficialAccount => true,
        }
    }
}

/// What an official account asks of the user (OAuth scope).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OAuthScope {
    /// The openid.
    #[serde(rename = "snsapi_base")]
    Base,
    /// The openid and the profile.
    #[serde(rename = "snsapi_userinfo")]
    UserInfo,
}

/// Whether a sign-in must end in the browser that began it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrowserCheck {
    /// The sign-in must end in the same browser.
    #[default]
    Strict,
    /// A browser that shows no cookie is accepted too. A browser that shows the cookie of another
    /// sign-in is refused.
    Loose,
}
