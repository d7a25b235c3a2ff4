//! `apps[]`: an app as WeChat's console has it.

use std::net::IpAddr;

use serde::Deserialize;

/// `apps[]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The app's id.
    pub appid: String,
    /// The app's secret. It is made up: a real secret must not be here.
    pub secret: String,
    /// The app's kind; a mini program if absent.
    #[serde(default)]
    pub kind: AppKind,
    /// The app's name at WeChat.
    #[serde(default)]
    pub name: Option<String>,
    /// What the sign-in pages call the app; the name if absent, or else the appid.
    #[serde(default)]
    pub title: Option<String>,
    /// The hosts a website's or official account's `redirect_uri` may have, ports aside. Subdomains
    /// do not count.
    #[serde(default)]
    pub redirect_domains: Vec<String>,
    /// The Open Platform account the app is bound to; without it the users have no unionid.
    #[serde(default)]
    pub open_platform: Option<String>,
    /// Whether the secret is frozen in the console: every use of it is 40243.
    #[serde(default)]
    pub frozen: bool,
    /// Addresses that may ask for an access token; empty allows every address.
    #[serde(default)]
    pub ip_whitelist: Vec<IpAddr>,
}

impl App {
    /// A mini program bound to no Open Platform account.
    pub fn new(appid: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            appid: appid.into(),
            secret: secret.into(),
            kind: AppKind::MiniProgram,
            name: None,
            title: None,
            redirect_domains: Vec::new(),
            open_platform: None,
            frozen: false,
            ip_whitelist: Vec::new(),
        }
    }

    /// The same app, which the sign-in pages call so.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The same app, bound to an Open Platform account.
    #[must_use]
    pub fn on(mut self, open_platform: impl Into<String>) -> Self {
        self.open_platform = Some(open_platform.into());
        self
    }

    /// The same app, as a website whose sign-in comes back to these hosts.
    #[must_use]
    pub fn website<const N: usize>(self, redirect_domains: [&str; N]) -> Self {
        let redirect_domains = redirect_domains.map(str::to_owned).into();
        Self { kind: AppKind::Website, redirect_domains, ..self }
    }

    /// The same app, as an official account whose sign-in comes back to these hosts.
    #[must_use]
    pub fn official_account<const N: usize>(self, redirect_domains: [&str; N]) -> Self {
        Self { kind: AppKind::OfficialAccount, ..self.website(redirect_domains) }
    }

    /// The same app, as a mobile app.
    #[must_use]
    pub fn mobile(self) -> Self {
        Self { kind: AppKind::Mobile, ..self }
    }
}

/// The kind of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// Its users sign in with `wx.login`; a mini game is one, too.
    #[default]
    MiniProgram,
    /// Its users scan a QR code in a browser: `snsapi_login`.
    Website,
    /// Its users are inside WeChat: `snsapi_base`, `snsapi_userinfo`.
    OfficialAccount,
    /// Its users are in an app on a phone, which asks WeChat with its SDK: `snsapi_userinfo`.
    Mobile,
}
