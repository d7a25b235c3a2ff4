//! Builds the client from its configuration and reports every problem.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Url, redirect, retry};
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::credentials;
use super::{App, WeChat};
use crate::clock::Clock;
use crate::config::{self, AppKind, AppTokenApi, BrowserCheck, Findings, OAuthScope, UnknownUnionId};
use crate::entropy::Entropy;
use crate::host;
use crate::identity::AppId;
use crate::telemetry::metrics::Metrics;

/// Most retries after "system busy"; more only make WeChat busier.
const MAX_BUSY_RETRIES: u8 = 2;
/// Largest configurable number of exchanges at the same time; each holds a connection.
const MAX_IN_FLIGHT: usize = 65_536;
/// Most calls of programs under way, with their answers. Each holds a connection, and files of the
/// process are kept for as many.
const MAX_RELAYS: usize = 128;
/// How long an idle connection is kept. It is shorter than the limit of servers and firewalls on
/// the way: if the other side closes a connection while a request is sent on it, the code is lost.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

impl WeChat {
    /// Builds the client; `None` when a finding is an error.
    pub fn build(
        config: &config::WeChat,
        apps: &BTreeMap<String, config::App>,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        findings: &mut Findings,
    ) -> Option<Self> {
        findings.scope(|findings| {
            check_limits(config, findings);
            let hosts = build_hosts(&config.hosts, findings);
            let pages = build_pages(&config.pages, findings);
            let widget = config.widget.as_deref().and_then(|script| build_widget(script, findings));
            let extra_roots =
                config.ca_file.as_deref().map(|file| read_roots(file, findings)).unwrap_or_default();
            let apps = build_apps(apps, config, metrics, findings);
            let client = if findings.has_errors() {
                None
            } else {
                build_client(config, &hosts, extra_roots, findings)
            };
            client.zip(pages).map(|(client, pages)| Self {
                apps,
                hosts,
                pages,
                widget,
                client,
                timeout: *config.timeout,
                busy_retries: config.busy_retries,
                max_reply_bytes: config.max_reply.as_usize(),
                in_flight: Semaphore::new(config.max_in_flight),
                relays: Arc::new(Semaphore::new(MAX_RELAYS)),
                request_duration: metrics.wechat_request_duration.clone(),
                errors: metrics.wechat_errors.clone(),
                clock,
                entropy,
            })
        })
    }
}

fn check_limits(config: &config::WeChat, findings: &mut Findings) {
    for (key, duration) in [
        ("wechat.connect_timeout", config.connect_timeout),
        ("wechat.timeout", config.timeout),
        ("wechat.breaker.open_for", config.breaker.open_for),
    ] {
        // A day is far longer than is useful, and keeps every sum of times in range.
        if duration.is_zero() || *duration > Duration::from_secs(86_400) {
            findings
                .error(key, format!("`{duration}` is out of range"))
                .hint("write 1ms to 1d, such as `3s`");
        }
    }
    if config.busy_retries > MAX_BUSY_RETRIES {
        findings
            .error("wechat.busy_retries", format!("`{}` is too many", config.busy_retries))
            .hint(format!("write 0 to {MAX_BUSY_RETRIES}"));
    }
    if !(1..=MAX_IN_FLIGHT).contains(&config.max_in_flight) {
        findings
            .error("wechat.max_in_flight", format!("`{}` is out of range", config.max_in_flight))
            .hint(format!("write 1 to {MAX_IN_FLIGHT}"));
    }
    if config.max_reply.0 == 0 {
        findings
            .error("wechat.max_reply", "`0B` leaves no room for a reply")
            .hint("write a size such as `64KiB`");
    }
    if config.breaker.failures == 0 {
        findings.error("wechat.breaker.failures", "`0` allows no call").hint("write 1 or more");
    }
}

fn build_hosts(hosts: &[String], findings: &mut Findings) -> Vec<Url> {
    if hosts.is_empty() {
        findings
            .error("wechat.hosts", "no host to call")
            .hint("write at least one, such as `https://api.weixin.qq.com`");
    }
    let mut urls = Vec::with_capacity(hosts.len());
    for (index, host) in hosts.iter().enumerate() {
        match parse_host(host, "send the app's secret without encryption") {
            Ok(url) => urls.push(url),
            // The message does not repeat the text, since a wrong one may hold a password.
            Err(reason) => {
                findings
                    .error(format!("wechat.hosts[{index}]"), reason)
                    .hint("write a scheme and a host, such as `https://api.weixin.qq.com`");
            }
        }
    }
    urls
}

/// Checks the base URL of WeChat's pages, and returns it as an origin, for links and content
/// security policies.
fn build_pages(text: &str, findings: &mut Findings) -> Option<Box<str>> {
    let url = parse_host(text, "send users to WeChat without encryption").and_then(|url| {
        let is_plain = url.host_str().is_some_and(|host| host.bytes().all(host::is_plain_byte));
        if is_plain { Ok(url) } else { Err("the host has a character that is not allowed".into()) }
    });
    match url {
        Ok(url) => Some(url.origin().ascii_serialization().into()),
        Err(reason) => {
            findings
                .error("wechat.pages", reason)
                .hint("write a scheme and a host, such as `https://open.weixin.qq.com`");
            None
        }
    }
}

/// Checks the URL of the script that shows a QR code: the script runs in the sign-in page, and the
/// page's policy names it.
fn build_widget(text: &str, findings: &mut Findings) -> Option<Box<str>> {
    match parse_script(text) {
        Ok(script) => Some(script),
        Err(reason) => {
            findings
                .error("wechat.widget", reason)
                .hint("write a URL such as `https://res.wx.qq.com/connect/zh_CN/htmledition/js/wxLogin.js`");
            None
        }
    }
}

fn parse_script(text: &str) -> Result<Box<str>, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    check_scheme(&url, text, "let an attacker on the network change the script")?;
    if url.fragment().is_some() {
        return Err(format!("`{text}` has a fragment"));
    }
    let script = String::from(url);
    // Characters that end an attribute, a source of a policy, or the policy.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !br#""'<>`\;,*{}|^"#.contains(&byte);
    if script.bytes().all(is_plain) {
        Ok(script.into())
    } else {
        Err("it has a character that could end the policy of the page".into())
    }
}

/// Checks a base URL. Plain HTTP is allowed only to a loopback address; `would` says what it would
/// expose otherwise.
fn parse_host(text: &str, would: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    check_scheme(&url, text, would)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` has more than a scheme and a host"));
    }
    Ok(url)
}

fn check_scheme(url: &Url, text: &str, would: &str) -> Result<(), String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("remove the user and the password".into());
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if host::is_loopback(url.host_str().unwrap_or_default()) => Ok(()),
        "http" => Err(format!("`{text}` would {would}")),
        scheme => Err(format!("scheme `{scheme}` is not supported")),
    }
}

fn read_roots(file: &Path, findings: &mut Findings) -> Vec<Certificate> {
    let key = "wechat.ca_file";
    let name = file.display();
    let pem = match fs::read(file) {
        Ok(pem) => pem,
        Err(error) => {
            findings.error(key, format!("file `{name}` cannot be read: {error}")).of_surroundings();
            return Vec::new();
        }
    };
    match Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => roots,
        _ => {
            findings.error(key, format!("file `{name}` holds no certificate in PEM"));
            Vec::new()
        }
    }
}

fn build_apps(
    apps: &BTreeMap<String, config::App>,
    config: &config::WeChat,
    metrics: &Metrics,
    findings: &mut Findings,
) -> BTreeMap<Arc<str>, App> {
    let is_wechat = credentials::are_of_wechat(config);
    let mut names = BTreeMap::new();
    let mut built = BTreeMap::new();
    for (name, app) in apps {
        let key = format!("apps.{name}");
        let secret_key = format!("{key}.secret");
        let secret = app.secret.read(&secret_key, findings);
        if let Some(secret) = &secret {
            credentials::check_secret(&secret_key, &app.secret, secret.expose_secret(), is_wechat, findings);
        }
        check_kind(&key, app, findings);
        let Ok(appid) = AppId::parse(&app.appid) else {
            findings
                .error(format!("{key}.appid"), format!("`{}` is not an appid", app.appid.escape_debug()))
                .hint("write it as WeChat's console shows it, such as `wx4f4bc4dec97d474b`");
            continue;
        };
        if is_wechat {
            credentials::check_appid(&format!("{key}.appid"), &app.appid, findings);
        }
        if let Some((other, _)) = apps.iter().find(|(other, named)| *other != name && named.appid == **name) {
            findings
                .error(
                    &key,
                    format!("`{name}` is the appid of app `{other}`, and programs may name an app by it"),
                )
                .hint("choose another name");
        }
        if let Some(other) = names.insert(appid.clone(), name) {
            findings
                .error(format!("{key}.appid"), format!("`{appid}` is the appid of app `{other}` too"))
                .hint("keep one of the two");
        }
        let Some(secret) = secret else { continue };

        let name: Arc<str> = name.as_str().into();
        let gauge = metrics.wechat_breaker_state.with_label_values(&[&*name]);
        let breaker = Breaker::new(config.breaker.failures, *config.breaker.open_for, gauge);
        let title = app.title.as_deref().unwrap_or(&name).into();
        let (kind, browser_check) = (app.kind, app.browser_check);
        let scope = app.scope.unwrap_or(OAuthScope::Base);
        let refuses_unknown_unionid = app.unknown_unionid == Some(UnknownUnionId::Refuse);
        let built_app = App {
            name,
            appid,
            kind,
            title,
            browser_check,
            code_login: app.code_login,
            refuses_unknown_unionid,
            token_api: app.app_token,
            hands_over: app.hands_over(),
            scope,
            secret,
            breaker,
        };
        built.insert(Arc::clone(&built_app.name), built_app);
    }
    built
}

/// Refuses settings that have no effect for an app of this kind, since the operator who wrote them
/// expects one.
fn check_kind(key: &str, app: &config::App, findings: &mut Findings) {
    if app.scope.is_some() && app.kind != AppKind::OfficialAccount {
        findings
            .error(format!("{key}.scope"), format!("a `{}` has no choice of scope", app.kind.as_str()))
            .hint("remove it; it is for an `official_account`");
    }
    if app.code_login && app.kind != AppKind::OfficialAccount {
        findings
            .error(format!("{key}.code_login"), format!("a `{}` has no choice of it", app.kind.as_str()))
            .hint("remove it; it is for an `official_account`");
    }
    if app.app_token != AppTokenApi::default() && matches!(app.kind, AppKind::Website | AppKind::Mobile) {
        findings
            .error(
                format!("{key}.app_token"),
                format!("a `{}` has no access token of its own", app.kind.as_str()),
            )
            .hint("remove it; it is for a `mini_program` or an `official_account`");
    }
    if app.unknown_unionid == Some(UnknownUnionId::Refuse) && app.gives_no_unionid() {
        findings
            .error(
                format!("{key}.unknown_unionid"),
                "no user can sign in: with `snsapi_base`, WeChat gives no unionid",
            )
            .hint("write `scope: snsapi_userinfo`, or remove it");
    }
    if app.hand_over.is_some() && app.kind != AppKind::MiniProgram {
        findings
            .error(format!("{key}.hand_over"), format!("a `{}` has no choice of it", app.kind.as_str()))
            .hint("remove it; it is for a `mini_program`");
    }
    if app.browser_check == BrowserCheck::Loose && !app.kind.is_for_browsers() {
        findings
            .error(
                format!("{key}.browser_check"),
                format!("users do not sign in to a `{}` with a browser", app.kind.as_str()),
            )
            .hint("remove it; it is for a `website` or an `official_account`");
    }
}

fn build_client(
    config: &config::WeChat,
    hosts: &[Url],
    extra_roots: Vec<Certificate>,
    findings: &mut Findings,
) -> Option<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(*config.connect_timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .http1_only()
        // The secret is sent only to the configured hosts: no proxy from the environment, no
        // redirect.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        // A code must not be sent twice. Only the pool retries: it sends a request again if a stale
        // connection took no byte of it.
        .retry(retry::never());

    let is_plain = hosts.iter().all(|host| host.scheme() == "http");
    // The emulator needs no certificate authority, so a machine without any can still run it.
    let builder =
        if is_plain { builder.tls_certs_only(extra_roots) } else { builder.tls_certs_merge(extra_roots) };
    match builder.build() {
        Ok(client) => Some(client),
        Err(error) => {
            let reason =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            findings
                .error("wechat", format!("no HTTPS client can be made: {reason}"))
                .hint("install the system's certificate authorities (package `ca-certificates`)");
            None
        }
    }
}
