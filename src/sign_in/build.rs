//! Builds the sign-in from its configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::browser::{BrowserGrant, Origin, Origins, build_return_to};
use super::facade::{Facade, build_facades};
use super::once::{CodeMemory, Expiring};
use super::program::grant::TokenGrant;
use crate::config::{self, Findings};
use crate::entropy::Entropy;
use crate::path::is_unreserved;

/// The life of a code at WeChat. It is of no use to remember a code longer.
const MAX_REPLAY_WINDOW: Duration = Duration::from_secs(300);
const MAX_REPLAY_CAPACITY: u64 = 10_000_000;
const MAX_BODY_BYTES: u64 = 1 << 20;
const MAX_BODY_TIMEOUT: Duration = Duration::from_secs(300);

/// The checked `login` section.
pub struct SignInSettings {
    pub(super) path_prefix: String,
    pub(super) max_body_bytes: usize,
    pub(super) body_timeout: Duration,
    /// Where browsers reach the gateway.
    pub(super) origins: Origins,
    /// Origins of other sites that a sign-in may redirect to.
    pub(super) return_to: Vec<Origin>,
    /// Endpoints in the protocols of other clients.
    pub(super) facades: Vec<Facade>,
    pub(super) program_codes: Arc<CodeMemory<TokenGrant>>,
    pub(super) browser_codes: Arc<CodeMemory<BrowserGrant>>,
}

impl SignInSettings {
    /// Checks the section, and that users can sign in to the apps; `None` when a finding is an
    /// error.
    pub fn build(
        config: &config::Login,
        apps: &BTreeMap<String, config::App>,
        routes: &[config::Route],
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        findings.scope(|findings| {
            check_prefix(&config.path_prefix, findings);
            check_limits(config, findings);
            let origins = Origins::build(&config.origins, findings);
            let return_to = build_return_to(&config.return_to, findings);
            let facades = build_facades(config, apps, routes, findings);
            check_browser_apps(&config.origins, apps, findings);
            let program_codes = memory(config, entropy, findings);
            let browser_codes = memory(config, entropy, findings);
            let (program_codes, browser_codes) = program_codes.zip(browser_codes)?;
            Some(Self {
                path_prefix: config.path_prefix.clone(),
                max_body_bytes: config.max_body.as_usize(),
                body_timeout: *config.body_timeout,
                origins,
                return_to,
                facades,
                program_codes,
                browser_codes,
            })
        })
    }
}

fn memory<G: Expiring>(
    config: &config::Login,
    entropy: &dyn Entropy,
    findings: &mut Findings,
) -> Option<Arc<CodeMemory<G>>> {
    let capacity = usize::try_from(config.replay_capacity).unwrap_or(usize::MAX);
    match CodeMemory::new(*config.replay_window, capacity, entropy) {
        Ok(program_codes) => Some(Arc::new(program_codes)),
        Err(error) => {
            findings.error("login", error.to_string());
            None
        }
    }
}

/// Accepts only what a canonical path can begin with. No request could reach an endpoint elsewhere.
fn check_prefix(prefix: &str, findings: &mut Findings) {
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_unreserved);
    let is_valid = prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
    if !is_valid {
        findings
            .error("login.path_prefix", format!("`{}` cannot be the prefix of endpoints", prefix.escape_debug()))
            .hint("write segments of letters, digits, `-`, `.`, `_`, `~`, without a `/` at the end, such as `/auth`");
    } else if prefix.split('/').nth(1) == Some(".well-known") {
        findings
            .error("login.path_prefix", format!("`{prefix}` is reserved by RFC 8615"))
            .hint("write a path of your own, such as `/auth`");
    }
}

/// Checks that users can sign in to the apps that are for browsers.
fn check_browser_apps(origins: &[String], apps: &BTreeMap<String, config::App>, findings: &mut Findings) {
    let names: Vec<&String> =
        apps.iter().filter(|(_, app)| app.kind.is_for_browsers()).map(|(name, _)| name).collect();
    for name in &names {
        if !name.bytes().all(is_unreserved) {
            findings
                .error(
                    format!("apps.{name}"),
                    format!("`{name}` is part of the URL that WeChat redirects to"),
                )
                .hint("write only letters, digits, `-`, `.`, `_` and `~` in the name");
        }
    }
    if names.is_empty() && !origins.is_empty() {
        findings
            .warning(
                "login.origins",
                "no browser can sign in here: no app is a `website` or an `official_account`",
            )
            .hint("add one, or remove `origins`");
    }
    let needs_origin = |name: &&&String| apps.get(**name).is_some_and(|app| !app.code_login);
    if let Some(name) = names.iter().find(needs_origin)
        && origins.is_empty()
    {
        findings
            .warning("login.origins", format!("no browser can sign in to app `{name}`"))
            .hint("write where browsers reach the gateway, such as `https://shop.example.com`");
    }
}

fn check_limits(config: &config::Login, findings: &mut Findings) {
    if !(1..=MAX_BODY_BYTES).contains(&config.max_body.0) {
        findings
            .error("login.max_body", format!("`{}` is out of range", config.max_body))
            .hint("write 1B to 1MiB; a login needs less than `4KiB`");
    }
    if config.body_timeout.is_zero() || *config.body_timeout > MAX_BODY_TIMEOUT {
        findings
            .error("login.body_timeout", format!("`{}` is out of range", config.body_timeout))
            .hint("write 1ms to 5m, such as `10s`");
    }
    if *config.replay_window > MAX_REPLAY_WINDOW {
        findings
            .error(
                "login.replay_window",
                format!("`{}` is longer than the life of a code", config.replay_window),
            )
            .hint("write at most `5m`");
    }
    if !(1..=MAX_REPLAY_CAPACITY).contains(&config.replay_capacity) {
        findings
            .error("login.replay_capacity", format!("`{}` is out of range", config.replay_capacity))
            .hint(format!("write 1 to {MAX_REPLAY_CAPACITY}"));
    }
}
