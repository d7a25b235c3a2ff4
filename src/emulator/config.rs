//! What the emulated WeChat knows: its apps, its users, and the habits it can be given.
//!
//! A small configuration of its own, apart from the gateway's: whoever runs the emulator is not the gateway's operator.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;

use crate::config::{Duration, Findings};

/// The emulator's configuration file. Every key has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What every openid and unionid is derived from: the same seed gives the same ids on every run.
    pub seed: String,
    /// The apps WeChat knows.
    pub apps: Vec<App>,
    /// The users that differ from the rest; any other wxid is a plain user, made when first named.
    pub users: Vec<User>,
    /// How long a `session_key` lives, and when a login replaces it.
    pub session_keys: SessionKeys,
    /// Limits on calls; off by default, so that a load test measures something else.
    pub quotas: Quotas,
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
            ],
            users: vec![User::new("alice"), User::new("bob"), User { risk: true, ..User::new("mallory") }],
            session_keys: SessionKeys::default(),
            quotas: Quotas::default(),
            grant_type_required: true,
            logged_calls: 10_000,
            max_connections: 4_096,
        }
    }
}

/// `apps[]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The app's id.
    pub appid: String,
    /// The app's secret, made up: no real one has a reason to be here.
    pub secret: String,
    /// The Open Platform account the app is bound to; without one its users have no unionid.
    #[serde(default)]
    pub open_platform: Option<String>,
    /// Whether the secret is frozen in the console: every use of it is 40243.
    #[serde(default)]
    pub frozen: bool,
    /// Addresses that may ask for an access token; empty is anyone.
    #[serde(default)]
    pub ip_whitelist: Vec<IpAddr>,
}

impl App {
    /// An app bound to no Open Platform account.
    pub fn new(appid: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            appid: appid.into(),
            secret: secret.into(),
            open_platform: None,
            frozen: false,
            ip_whitelist: Vec::new(),
        }
    }

    /// The same app, bound to an Open Platform account.
    #[must_use]
    pub fn on(mut self, open_platform: impl Into<String>) -> Self {
        self.open_platform = Some(open_platform.into());
        self
    }
}

/// `users[]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The person's WeChat name, as given to `wx.login`.
    pub wxid: String,
    /// What the person calls themselves; the wxid where left out.
    #[serde(default)]
    pub nickname: Option<String>,
    /// The person's mobile number in China, without +86; derived from the wxid where left out.
    #[serde(default)]
    pub phone: Option<String>,
    /// Whether WeChat blocks the person as high-risk: their codes answer 40226.
    #[serde(default)]
    pub risk: bool,
}

impl User {
    /// A plain user.
    pub fn new(wxid: impl Into<String>) -> Self {
        Self { wxid: wxid.into(), nickname: None, phone: None, risk: false }
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

/// When `wx.login` replaces a session key that still lives. WeChat does so sometimes, "not on every call".
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

/// `quotas`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Code exchanges of one user in one app in a minute, 45011 beyond. WeChat's old documents say 100. Off when absent.
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
    /// Reads a configuration from YAML; everything wrong with it goes to `findings`.
    pub fn from_yaml(yaml: &str, findings: &mut Findings) -> Option<Self> {
        let config = match serde_saphyr::from_str::<Self>(yaml) {
            Ok(config) => config,
            Err(error) => {
                findings.error("", error.to_string());
                return None;
            }
        };
        let mut found = Findings::default();
        config.check(&mut found);
        let usable = !found.has_errors();
        findings.extend(found);
        usable.then_some(config)
    }

    fn check(&self, findings: &mut Findings) {
        let mut appids = BTreeSet::new();
        for (at, app) in self.apps.iter().enumerate() {
            check_name(&format!("apps[{at}].appid"), &app.appid, &mut appids, findings);
            if app.secret.is_empty() {
                findings.error(format!("apps[{at}].secret"), "the secret is empty").hint("make one up");
            }
        }
        let mut wxids = BTreeSet::new();
        for (at, user) in self.users.iter().enumerate() {
            check_name(&format!("users[{at}].wxid"), &user.wxid, &mut wxids, findings);
        }
        if self.session_keys.lifetime.is_zero() {
            findings.error("session_keys.lifetime", "a key that never lives is no key").hint("write `3d`");
        }
        if self.max_connections == 0 {
            findings
                .error("max_connections", "no connection could ever be accepted")
                .hint("write a number from 1");
        }
    }
}

fn check_name<'a>(path: &str, name: &'a str, seen: &mut BTreeSet<&'a str>, findings: &mut Findings) {
    if name.is_empty() {
        findings.error(path, "the name is empty");
    } else if !seen.insert(name) {
        findings.error(path, format!("`{name}` stands here a second time")).hint("give each its own");
    }
}
