//! Sign-in with a browser, against a WeChat that writes raw bytes.

mod callback;
mod hand_over;
mod navigation;
mod page;
mod session;
mod start;
mod twice;
mod unasked;

use super::*;
use crate::config::BrowserCheck;
use crate::page::{Action, Language, Message, Notice, SignOut};

const HOST: &str = "shop.example.com";
const ORIGIN: &str = "https://shop.example.com";
const SESSION: &str = "__Host-menshen";
const BROWSER: &str = "__Host-menshen-browser";
/// What WeChat gives for a code of an official account that asks for no profile.
const GRANT: &str = r#"{"access_token":"T","expires_in":7200,"refresh_token":"R","openid":"oWebPerson","scope":"snsapi_base"}"#;

/// The apps: `account` and `loose` are official accounts, `site` is a website, `shop` a mini
/// program.
fn with_browsers(setup: &mut Setup) {
    setup.browser_apps = vec![
        ("account", AppKind::OfficialAccount, BrowserCheck::Strict),
        ("site", AppKind::Website, BrowserCheck::Strict),
        ("loose", AppKind::OfficialAccount, BrowserCheck::Loose),
    ];
    setup.login.origins = vec![ORIGIN.into(), "https://other.example.com".into()];
    setup.wechat.widget = None;
}

async fn harness(replies: impl IntoIterator<Item = Reply>) -> Harness {
    Harness::with(replies, with_browsers).await
}

/// A browser: sends what it was given, and keeps what it is given.
#[derive(Clone)]
struct Browser<'a> {
    harness: &'a Harness,
    jar: BTreeMap<String, String>,
    headers: Vec<(&'static str, String)>,
}

impl<'a> Browser<'a> {
    fn new(harness: &'a Harness) -> Self {
        let headers = vec![
            ("host", HOST.into()),
            ("sec-fetch-mode", "navigate".into()),
            ("sec-fetch-dest", "document".into()),
            ("accept", "text/html,application/xhtml+xml".into()),
        ];
        Self { harness, jar: BTreeMap::new(), headers }
    }

    /// The same browser, that sends something else in a header, or nothing.
    fn with(&self, name: &'static str, value: Option<&str>) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| *known != name);
        other.headers.extend(value.map(|value| (name, value.to_owned())));
        other
    }

    async fn get(&mut self, path: &str) -> SignInAnswer {
        self.send(request("GET", path, None, "")).await
    }

    async fn send(&mut self, mut request: Request<&str>) -> SignInAnswer {
        let jar = self.jar.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = Vec::from_iter(jar).join("; ");
        for (name, value) in &self.headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        if !cookies.is_empty() {
            request.headers_mut().insert("cookie", cookies.parse().unwrap());
        }
        let answer = self.harness.send(request).await;
        for cookie in answer.response.headers().get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split_once('=').unwrap();
            let (value, attributes) = value.split_once(';').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.into(), value.into());
            }
        }
        answer
    }

    /// Begins a sign-in; the state that WeChat is told.
    async fn start(&mut self, app: &str, return_to: &str) -> String {
        let encoded: String = form_urlencoded::byte_serialize(return_to.as_bytes()).collect();
        let answer = self.get(&format!("/auth/web/{app}/start?return_to={encoded}")).await;
        assert_eq!((answer.response.status(), answer.outcome), (StatusCode::SEE_OTHER, "started"));
        state_in(location(&answer))
    }

    async fn come_back(&mut self, app: &str, state: &str, code: &str) -> SignInAnswer {
        self.get(&format!("/auth/web/{app}/callback?code={code}&state={state}")).await
    }

    async fn sign_in(&mut self, app: &str, code: &str) -> SignInAnswer {
        let state = self.start(app, "/").await;
        self.come_back(app, &state, code).await
    }

    /// Whether the browser is signed in.
    async fn is_signed_in(&mut self) -> bool {
        match self.clone().get("/auth/session").await.response.status().as_u16() {
            200 => true,
            401 => false,
            other => panic!("{other}"),
        }
    }
}

/// Where an answer leads; the empty fragment that keeps WeChat's own away is tested once.
fn location(answer: &SignInAnswer) -> &str {
    header(answer, "location").expect("a location").trim_end_matches('#')
}

fn state_in(text: &str) -> String {
    let (_, rest) = text.split_once("state=").expect("a state");
    rest.chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn set_cookies(answer: &SignInAnswer) -> Vec<&str> {
    let cookies = answer.response.headers().get_all("set-cookie").iter();
    cookies.map(|cookie| cookie.to_str().unwrap()).collect()
}

fn count(harness: &Harness, flow: &str, outcome: &str) -> u64 {
    harness.metrics.logins.with_label_values(&["wechat", flow, outcome]).get()
}

/// Makes sure that an answer is the page of a notice, with this way to try again; its status and
/// outcome.
fn assert_notice_page(
    harness: &Harness,
    answer: &SignInAnswer,
    notice: Notice,
    retry: Option<&str>,
) -> (u16, &'static str) {
    assert_notice_page_with(harness, answer, notice, retry.map_or(Action::Nothing, Action::Link))
}

/// The same, with anything that the person may do there.
fn assert_notice_page_with(
    harness: &Harness,
    answer: &SignInAnswer,
    notice: Notice,
    action: Action<'_>,
) -> (u16, &'static str) {
    let action = if notice.leads_home() { Action::Home } else { action };
    let wait_seconds = header(answer, "retry-after").map(|seconds| seconds.parse().unwrap());
    let message = Message { wait_seconds, ..Message::new(notice, action, "req-1") };
    let referrer = if matches!(action, Action::SignOut(_)) { "same-origin" } else { "no-referrer" };
    let page = harness.login.deps.pages.message(&message, Language::Chinese);
    let body = answer.response.body();
    assert_eq!(String::from_utf8_lossy(body), String::from_utf8_lossy(&page.body), "{}", answer.outcome);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-language", "zh-CN"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
        ("referrer-policy", referrer),
    ] {
        assert_eq!(header(answer, name), Some(value), "{name}");
    }
    assert!(header(answer, "content-security-policy").is_some());
    assert!(answer.identity.is_none());
    (answer.response.status().as_u16(), answer.outcome)
}

#[test]
fn browser_apps_need_an_origin_and_a_url_safe_name() {
    let origins = vec![ORIGIN.to_owned()];
    type Row<'a> = (&'a str, AppKind, Vec<String>, &'a [(&'a str, &'a str)]);
    let table: &[Row<'_>] = &[
        ("account", AppKind::Website, origins.clone(), &[]),
        ("a-b.c_d~1", AppKind::OfficialAccount, origins.clone(), &[]),
        ("a/b", AppKind::MiniProgram, vec![], &[]),
        ("a", AppKind::Website, vec![], &[("login.origins", "no browser can sign in to app `a`")]),
        (
            "a",
            AppKind::Website,
            vec!["http://a.example".into()],
            &[("login.origins[0]", "`http://a.example` sends sessions without encryption")],
        ),
        (
            "a/b",
            AppKind::Website,
            origins.clone(),
            &[("apps.a/b", "`a/b` is part of the URL that WeChat redirects to")],
        ),
        (
            "商店",
            AppKind::OfficialAccount,
            origins,
            &[("apps.商店", "`商店` is part of the URL that WeChat redirects to")],
        ),
    ];
    for (name, kind, origins, expected) in table {
        let browser_apps = vec![(*name, *kind, BrowserCheck::Strict)];
        let setup = Setup { browser_apps, ..Setup::default() };
        let config = config::Login { origins: origins.clone(), ..Default::default() };
        let mut findings = Findings::default();

        let settings = SignInSettings::build(&config, &apps(&setup), &[], &SystemEntropy, &mut findings);

        let found =
            Vec::from_iter(findings.iter().map(|finding| (finding.path.as_str(), finding.reason.as_str())));
        assert_eq!(found, *expected, "{name}");
        assert_eq!(settings.is_some(), !findings.has_errors(), "{name}");
    }
}
