//! The emulator's configuration: its apps, its users and its behaviour.
//!
//! It is separate from the gateway's configuration, because a tester runs the emulator, and an
//! operator runs the gateway.

mod app;
mod user;

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::config::{Duration, Findings};

pub use app::{App, AppKind};
pub use user::User;

/// The emulator's configuration file. Every key has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What every openid and unionid is derived from: the same seed gives the same ids on every
    /// run.
    pub seed: String,
    /// The apps WeChat knows.
    pub apps: Vec<App>,
    /// The users with settings of their own; any other wxid is a default user, created on first
    /// use.
    pub users: Vec<User>,
    /// How long a `session_key` lives, and when a login replaces it.
    pub session_keys: SessionKeys,
    /// How long a QR code is valid, and how long a poll of its page is held.
    pub qr_codes: QrCodes,
    /// What happens in the browser when the person refuses to sign in.
    pub refused_sign_in: RefusedSignIn,
    /// Limits on calls; off by default, so that a load test measures something else.
    pub quotas: Quotas,
    /// Whose code every code of `wx.login` is that the emulator did not issue. Off by default: such
    /// a code answers 40029.
    pub accept_any_code: AcceptAnyCode,
    /// Whether a missing or wrong `grant_type` is refused with 40002.
    pub grant_type_required: bool,
    /// How many calls the log keeps; older ones are forgotten.
    pub logged_calls: usize,
    /// How many connections are open at once on each listener; more wait.
    pub max_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: "menshen-emulator".into(),
            apps: vec![
                App::new("wxe000000000000001", "emulator-secret-1").on("emulator-platform"),
                App::new("wxe000000000000002", "emulator-secret-2").on("emulator-platform"),
                App::new("wxe000000000000003", "emulator-secret-3"),
                App::new("wxe000000000000004", "emulator-secret-4")
                    .on("emulator-platform")
                    .titled("模拟网站 Emulated website")
                    .website(["127.0.0.1", "localhost"]),
                App::new("wxe000000000000005", "emulator-secret-5")
                    .on("emulator-platform")
                    .titled("模拟公众号 Emulated account")
                    .official_account(["127.0.0.1", "localhost"]),
            ],
            users: vec![
                User::new("alice"),
                User::new("bob"),
                User { snapshot: true, ..User::new("ghost") },
                User { risk: true, ..User::new("mallory") },
            ],
            session_keys: SessionKeys::default(),
            qr_codes: QrCodes::default(),
            refused_sign_in: RefusedSignIn::default(),
            quotas: Quotas::default(),
            accept_any_code: AcceptAnyCode::default(),
            grant_type_required: true,
            logged_calls: 10_000,
            max_connections: 4_096,
        }
    }
}

/// `accept_any_code`, for WeChat's developer tools: their `wx.login` gives codes that only WeChat
/// knows.
///
/// Whoever reaches the emulator then signs in without a phone, as one person. This person does not
/// depend on the code, because the tools get another code for each `wx.login` of one developer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum AcceptAnyCode {
    /// `false`, or `true`: the person is `developer`.
    Switch(bool),
    /// The wxid of the person.
    Person(String),
}

impl Default for AcceptAnyCode {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl AcceptAnyCode {
    /// The person whose codes they are; `None` if no such code is accepted.
    pub fn wxid(&self) -> Option<&str> {
        match self {
            Self::Switch(false) => None,
            Self::Switch(true) => Some("developer"),
            Self::Person(wxid) => Some(wxid),
        }
    }
}

/// `session_keys`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionKeys {
    /// When `wx.login` replaces a key that still lives.
    pub rotate: Rotate,
    /// How long a key lives. WeChat does not say; three days was said once.
    pub lifetime: Duration,
}

impl Default for SessionKeys {
    fn default() -> Self {
        Self {
            rotate: Rotate::MinInterval(Duration::from_secs(3600)),
            lifetime: Duration::from_secs(3 * 86_400),
        }
    }
}

/// When `wx.login` replaces a session key that still lives. WeChat does so sometimes, "not on every
/// call".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotate {
    /// On every login.
    Always,
    /// Never.
    Never,
    /// On the first login after so long.
    MinInterval(Duration),
}

/// `qr_codes`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QrCodes {
    /// How long a QR code can be scanned and confirmed. WeChat does not say; its page renews the
    /// code by itself.
    pub lifetime: Duration,
    /// How long a poll without news is held before it says 408. Real time, whatever the virtual
    /// clock says.
    pub poll: Duration,
}

impl Default for QrCodes {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(300), poll: Duration::from_secs(25) }
    }
}

/// What happens in the browser if the person refuses. WeChat's documents have described both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedSignIn {
    /// Nothing: the page stays.
    #[default]
    Stay,
    /// It goes to the `redirect_uri` with the `state` and no `code`.
    Redirect,
}

/// `quotas`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Code exchanges of one user in one app in a minute, 45011 beyond. WeChat's old documents say
    /// 100. Off when absent.
    pub user_per_minute: Option<u32>,
    /// Code exchanges of one app in a minute, 45011 beyond. Off when absent.
    pub app_per_minute: Option<u32>,
    /// Calls of `/cgi-bin/token` of one app in a day, 45009 beyond.
    pub tokens_per_day: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { user_per_minute: None, app_per_minute: None, tokens_per_day: 2_000 }
    }
}

impl Config {
    /// Reads a configuration from YAML; all problems go to `findings`.
    pub fn from_yaml(yaml: &str, findings: &mut Findings) -> Option<Self> {
        let config = match serde_saphyr::from_str::<Self>(yaml) {
            Ok(config) => config,
            Err(error) => {
                findings.error("", error.to_string());
                return None;
            }
        };
        findings.scope(|findings| {
            config.check(findings);
            Some(config)
        })
    }

    fn check(&self, findings: &mut Findings) {
        let mut appids = BTreeSet::new();
        for (at, app) in self.apps.iter().enumerate() {
            check_name(&format!("apps[{at}].appid"), &app.appid, &mut appids, findings);
            if app.secret.is_empty() {
                findings.error(format!("apps[{at}].secret"), "the secret is empty").hint("make one up");
            }
            let is_for_browsers = matches!(app.kind, AppKind::Website | AppKind::OfficialAccount);
            if is_for_browsers && app.redirect_domains.is_empty() {
                findings
                    .error(format!("apps[{at}].redirect_domains"), "no sign-in can return to the gateway")
                    .hint("write the host of the gateway, such as `127.0.0.1`");
            }
        }
        let mut wxids = BTreeSet::new();
        for (at, user) in self.users.iter().enumerate() {
            check_name(&format!("users[{at}].wxid"), &user.wxid, &mut wxids, findings);
            if user.sex > 2 {
                findings.error(format!("users[{at}].sex"), "is 0, 1 or 2");
            }
        }
        if self.session_keys.lifetime.is_zero() {
            findings.error("session_keys.lifetime", "a session key needs a lifetime").hint("write `3d`");
        }
        if self.qr_codes.lifetime.is_zero() {
            findings.error("qr_codes.lifetime", "a QR code needs a lifetime").hint("write `5m`");
        }
        if self.accept_any_code.wxid() == Some("") {
            findings.error("accept_any_code", "the name is empty").hint("write `true`, or name a person");
        }
        if self.max_connections == 0 {
            findings.error("max_connections", "no connection is accepted").hint("write a number from 1");
        }
    }
}

fn check_name<'a>(path: &str, name: &'a str, seen: &mut BTreeSet<&'a str>, findings: &mut Findings) {
    if name.is_empty() {
        findings.error(path, "the name is empty");
    } else if !seen.insert(name) {
        findings.error(path, format!("`{name}` is listed twice")).hint("give each its own");
    }
}
