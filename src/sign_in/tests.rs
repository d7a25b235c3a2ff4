//! The login against a WeChat that writes raw bytes, with time that stands still.

mod browser;
mod code_login;
mod facade;
mod known_user;
mod mobile;
mod once;
mod session;
mod user_data;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::error::SignInError;
use super::*;
use crate::authn::{self, Authenticator, CrossSite, SubjectHasher};
use crate::clock::{Clock, ManualClock};
use crate::config::{self, AppKind, Findings, Rate, SecretSource};
use crate::entropy::{Entropy, SystemEntropy};
use crate::key_file::OnMissingKey;
use crate::page::Pages;
use crate::session::{Core, RefreshToken, Sessions};
use crate::store::testing::SwitchedStore;
use crate::store::{Store, StoreHealth};
use crate::telemetry::metrics::Metrics;
use crate::throttle::Throttle;
use crate::token::Tokens;
use crate::user_data::UserDataPolicy;
use crate::wechat::testing::{Fake, Reply};
use crate::wechat::{Code, WeChat};

const CODE: &str = "051v0m000ObAyK19vV1005SDWf0v0m0s";
const OPENID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
const SUCCESS: &str = r#"{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"}"#;
const CLIENT: &str = "203.0.113.7";
const AGENT: &str = "MicroMessenger/8.0";

struct Harness {
    login: Arc<SignInService>,
    fake: Fake,
    clock: ManualClock,
    metrics: Arc<Metrics>,
    store: Arc<SwitchedStore>,
    /// What pages of other origins may do.
    cross_site: CrossSite,
    _folder: Option<tempfile::TempDir>,
}

#[derive(Clone)]
struct Setup {
    apps: Vec<&'static str>,
    /// Apps for browsers, besides those.
    browser_apps: Vec<(&'static str, AppKind, config::BrowserCheck)>,
    login: config::Login,
    wechat: config::WeChat,
    throttle: config::Throttle,
    sessions: config::Sessions,
    cookie: Option<&'static str>,
    /// Of every official account.
    code_login: bool,
    /// Of every app.
    unknown_unionid: Option<config::UnknownUnionId>,
    /// Of every mini program.
    hand_over: Option<bool>,
    user_data: Option<config::UserData>,
}

impl Default for Setup {
    fn default() -> Self {
        let many = config::LoginLimit { rate: Rate::per_minute(60_000), burst: 10_000 };
        let throttle = config::Throttle {
            login: many.clone(),
            sign_in: many.clone(),
            wechat: many,
            ..Default::default()
        };
        Self {
            apps: vec!["shop"],
            browser_apps: Vec::new(),
            login: config::Login::default(),
            wechat: config::WeChat::default(),
            throttle,
            sessions: config::Sessions::default(),
            cookie: None,
            code_login: false,
            unknown_unionid: None,
            hand_over: None,
            user_data: None,
        }
    }
}

impl Harness {
    async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(replies, |_| {}).await
    }

    async fn with(replies: impl IntoIterator<Item = Reply>, change: impl FnOnce(&mut Setup)) -> Self {
        let fake = Fake::start(replies).await;
        let mut setup = Setup::default();
        setup.wechat.hosts = vec![fake.url()];
        setup.wechat.busy_retries = 0;
        change(&mut setup);
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::start_now();
        let store = SwitchedStore::open(folder.path(), Arc::new(clock.clone()));
        let mut harness = Self::on(fake, &setup, clock, store);
        harness._folder = Some(folder);
        harness
    }

    /// Another gateway's login, on an existing store.
    fn on(fake: Fake, setup: &Setup, clock: ManualClock, store: Arc<SwitchedStore>) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut findings = Findings::default();
        let parts = dependencies(setup, &metrics, &clock, &store, &mut findings);
        let settings = SignInSettings::build(&setup.login, &apps(setup), &[], &SystemEntropy, &mut findings);
        let login = SignInService::new(settings.unwrap_or_else(|| panic!("{findings:?}")), parts);
        let policy = setup.user_data.as_ref();
        let policy = policy.and_then(|config| UserDataPolicy::build(config, &mut findings));
        let login = login.opening_user_data(policy);
        let cross_site = CrossSite::Refuse;
        Self { login: Arc::new(login), fake, clock, metrics, store, cross_site, _folder: None }
    }

    /// Sends a request as the proxy does: checks it, then responds to it.
    async fn send(&self, request: Request<&str>) -> SignInAnswer {
        self.send_from(CLIENT, request).await
    }

    async fn send_from(&self, client: &str, request: Request<&str>) -> SignInAnswer {
        let (parts, body) = request.into_parts();
        let call = SignInCall { client: client.parse().unwrap(), ..self.call(&parts) };
        let endpoint = self.login.endpoint(parts.uri.path()).expect("a path of the login");
        match self.login.precheck(endpoint, call) {
            Err(answer) => answer,
            Ok(_) => {
                let body = Ok(Bytes::copy_from_slice(body.as_bytes()));
                self.login.respond(endpoint, call, body).await
            }
        }
    }

    fn call<'a>(&self, request: &'a Parts) -> SignInCall<'a> {
        let client = CLIENT.parse().unwrap();
        let (now, cross_site) = (self.clock.now(), self.cross_site);
        SignInCall { request, client, now, cross_site, request_id: "req-1" }
    }

    async fn login(&self, code: &str) -> SignInAnswer {
        self.send(login_request(&json!({ "code": code }).to_string())).await
    }

    /// Whether the failures of the client slow its next login.
    fn is_slowed(&self) -> bool {
        self.login.deps.throttle.is_slowing_logins(CLIENT.parse().unwrap())
    }

    fn logins(&self, outcome: &str) -> u64 {
        self.metrics.logins.with_label_values(&["wechat", "mini_program", outcome]).get()
    }
}

fn apps(setup: &Setup) -> BTreeMap<String, config::App> {
    let strict = config::BrowserCheck::default();
    let apps = setup.apps.iter().map(|name| (*name, AppKind::MiniProgram, strict));
    let apps = apps.chain(setup.browser_apps.iter().copied());
    let apps = apps.enumerate().map(|(index, (name, kind, browser_check))| {
        let (appid, secret) = (format!("wx{index}"), SecretSource::Inline("s".into()));
        let unknown_unionid = setup.unknown_unionid;
        let app = config::App {
            kind,
            appid,
            secret,
            title: None,
            scope: None,
            browser_check,
            code_login: setup.code_login && kind == AppKind::OfficialAccount,
            unknown_unionid,
            app_token: config::AppTokenApi::default(),
            hand_over: setup.hand_over.filter(|_| kind == AppKind::MiniProgram),
        };
        (name.to_owned(), app)
    });
    BTreeMap::from_iter(apps)
}

fn dependencies(
    setup: &Setup,
    metrics: &Arc<Metrics>,
    clock: &ManualClock,
    store: &Arc<SwitchedStore>,
    findings: &mut Findings,
) -> SignInDependencies {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let apps = apps(setup);
    let key = config::SigningKey {
        kid: "test".into(),
        algorithm: config::KeyAlgorithm::HS256,
        file: None,
        secret: Some(SecretSource::Inline("0123456789abcdef0123456789abcdef".into())),
    };
    let mut tokens_config = config::Tokens { keys: vec![key], ..Default::default() };
    tokens_config.sources.cookie = setup.cookie.map(str::to_owned);
    let folder = tempfile::tempdir().unwrap();
    let missing = OnMissingKey::Ephemeral;
    let tokens = Tokens::build(&tokens_config, folder.path(), missing, &*entropy, findings).unwrap();
    let wechat = WeChat::build(&setup.wechat, &apps, metrics, clock.clone(), entropy.clone(), findings);
    let throttle = Throttle::build(&setup.throttle, metrics, clock.clone(), &*entropy, findings);
    let health = Arc::new(StoreHealth::new(store.as_ref(), metrics));
    let core = Core::new(store.clone(), health.clone(), clock.clone(), entropy.clone(), metrics.clone());
    let sessions = Sessions::build(&setup.sessions, folder.path(), missing, Arc::new(core), findings);
    let sessions = sessions.unwrap().keeping_session_keys(setup.user_data.is_some());
    let (tokens, sessions) = (Arc::new(tokens), Arc::new(sessions));
    let authenticator = Authenticator::build(
        &tokens_config,
        &apps,
        authn::Dependencies { tokens: tokens.clone(), sessions: sessions.clone(), tells_profile: false },
        metrics,
        SubjectHasher::ephemeral(&*entropy).unwrap(),
        &*entropy,
        findings,
    );
    SignInDependencies {
        wechat: Arc::new(wechat.unwrap()),
        tokens,
        sessions,
        store: store.clone(),
        store_health: health,
        authenticator: Arc::new(authenticator.unwrap()),
        pages: Arc::new(Pages::build(&setup.login.page, findings).unwrap()),
        throttle: Arc::new(throttle.unwrap()),
        metrics: metrics.clone(),
        clock,
        entropy,
    }
}

fn request<'a>(method: &str, path: &str, content_type: Option<&str>, body: &'a str) -> Request<&'a str> {
    let mut request = Request::builder().method(method).uri(path).header("user-agent", AGENT);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    request.header("content-length", body.len()).body(body).unwrap()
}

fn login_request(body: &str) -> Request<&str> {
    request("POST", "/auth/login", Some("application/json"), body)
}

fn json_of(answer: &SignInAnswer) -> Value {
    serde_json::from_slice(answer.response.body()).unwrap()
}

fn header<'a>(answer: &'a SignInAnswer, name: &str) -> Option<&'a str> {
    answer.response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// Status, outcome and the document's error.
fn refusal_of(answer: &SignInAnswer) -> (u16, &'static str, String) {
    let document = json_of(answer);
    assert_eq!(document["code"], answer.outcome);
    assert_eq!(document["request_id"], "req-1");
    assert!(!document["error_description"].as_str().unwrap().is_empty());
    assert_eq!(header(answer, "cache-control"), Some("no-store"));
    assert_eq!(header(answer, "pragma"), Some("no-cache"));
    (answer.response.status().as_u16(), answer.outcome, document["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_code_becomes_a_token() {
    let unionid = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
    let with_unionid = SUCCESS.replace('}', &format!(r#","unionid":"{unionid}"}}"#));
    for (reply, expected) in [(SUCCESS.to_owned(), None), (with_unionid, Some(unionid))] {
        let harness = Harness::new([Reply::json(&reply)]).await;

        let answer = harness.login(CODE).await;

        let document = json_of(&answer);
        let token = document["access_token"].as_str().unwrap();
        let claims = harness.login.deps.tokens.verify(token, harness.clock.now()).unwrap();
        assert_eq!(claims.identity(), answer.identity.as_ref().unwrap());
        assert_eq!(claims.identity().subject.to_string(), format!("wx0:{OPENID}"));
        let mut shown = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 7200,
            "refresh_token": document["refresh_token"],
            "openid": OPENID,
        });
        if let Some(unionid) = expected {
            shown["unionid"] = unionid.into();
        }
        shown["expires_in"] = document["expires_in"].clone();
        assert_eq!(document, shown);
        assert!(RefreshToken::parse(document["refresh_token"].as_str().unwrap()).is_ok());
        assert!((7199..=7200).contains(&document["expires_in"].as_u64().unwrap()));
        assert_eq!((answer.response.status(), answer.outcome), (StatusCode::OK, "ok"));
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(header(&answer, "pragma"), Some("no-cache"));
        assert_eq!(header(&answer, "content-type"), Some("application/json"));
        assert_eq!(harness.logins("ok"), 1);
    }
}

#[tokio::test]
async fn json_and_forms_are_read_in_every_spelling_of_their_type() {
    let json = format!(r#"{{"code":"{CODE}","app":"shop"}}"#);
    let form = format!("code={CODE}&app=shop");
    let noisy = format!(
        r#"{{"code":"{CODE}","openid":"oEvil","session_key":"x","access_token":"y","n":{{"a":[1]}}}}"#
    );
    let table = [
        ("application/json", &json),
        ("application/json; charset=utf-8", &json),
        ("Application/JSON;charset=UTF-8", &json),
        ("application/vnd.api+json", &json),
        ("application/x-www-form-urlencoded", &form),
        ("application/x-www-form-urlencoded; charset=UTF-8", &form),
        ("application/json", &noisy),
        ("application/x-www-form-urlencoded", &format!("app=sh%6fp&x=1&code={CODE}")),
    ];
    for (content_type, body) in table {
        let harness = Harness::new([Reply::json(SUCCESS)]).await;

        let answer = harness.send(request("POST", "/auth/login", Some(content_type), body)).await;

        assert_eq!(answer.outcome, "ok", "{content_type} {body}");
        assert_eq!(json_of(&answer)["openid"], OPENID, "only WeChat identifies a user");
    }
}

#[tokio::test]
async fn a_malformed_login_body_is_refused_without_asking_wechat() {
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let code = format!(r#""code":"{CODE}""#);
    let table = [
        (json, String::new()),
        (json, "{}".into()),
        (json, r#"{"code":""}"#.into()),
        (json, r#"{"code":null}"#.into()),
        (json, r#"{"code":7}"#.into()),
        (json, format!(r#"{{"code":["{CODE}"]}}"#)),
        (json, r#"{"code":{"code":"x"}}"#.into()),
        (json, r#"{"Code":"x"}"#.into()),
        (json, "[]".into()),
        (json, format!(r#"["{CODE}"]"#)),
        (json, "null".into()),
        (json, format!("\"{CODE}\"")),
        (json, "code".into()),
        (json, format!("{{{code}")),
        (json, format!("{{{code}}} x")),
        (json, format!("{{{code},{code}}}")),
        (json, format!(r#"{{{code},"\u0063ode":"other"}}"#)),
        (json, format!(r#"{{{code},"x":1,"x":2}}"#)),
        (json, format!(r#"{{{code},"app":null}}"#)),
        (json, format!(r#"{{{code},"app":["shop"]}}"#)),
        (json, format!(r#"{{"a":{}"#, "[".repeat(2000))),
        (json, format!(r#"{{"code":"{}"}}"#, "x".repeat(129))),
        (json, r#"{"code":"x&secret=y"}"#.into()),
        (json, r#"{"code":"x%26secret=y"}"#.into()),
        (json, r#"{"code":"the code is a mock one"}"#.into()),
        (json, format!("code={CODE}")),
        (form, String::new()),
        (form, "code=".into()),
        (form, "code".into()),
        (form, format!("code={CODE}&code={CODE}")),
        (form, format!("code={CODE}&c%6fde=other")),
        (form, format!("code={CODE}&x=1&x=2")),
        (form, "code=x%26secret%3dy".into()),
        (form, "code=x+y".into()),
        (form, "code=%ff".into()),
        (form, format!(r#"{{{code}}}"#)),
    ];
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    for (content_type, body) in &table {
        let answer = harness.send(request("POST", "/auth/login", Some(content_type), body)).await;

        let expected = (400, "request_malformed", "invalid_request".to_owned());
        assert_eq!(refusal_of(&answer), expected, "{content_type}: {body}");
    }
    assert_eq!(harness.fake.requests().len(), 0);
    assert_eq!(harness.logins("request_malformed"), table.len() as u64);
}

#[tokio::test]
async fn an_empty_post_without_any_type_is_malformed() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;

    let answer = harness.send(request("POST", "/auth/login", None, "")).await;

    assert_eq!(refusal_of(&answer).1, "request_malformed");
}

#[tokio::test]
async fn the_header_alone_can_refuse() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let body = format!(r#"{{"code":"{CODE}"}}"#);
    let json = Some("application/json");
    let mut two_types = login_request(&body);
    two_types.headers_mut().append("content-type", "application/json".parse().unwrap());
    let mut untyped_chunks = request("POST", "/auth/login", None, "");
    untyped_chunks.headers_mut().remove("content-length");
    untyped_chunks.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    let mut table = vec![
        (request("POST", "/auth/login", None, &body), 415, "media_type_unsupported"),
        (request("POST", "/auth/login", Some("text/plain"), &body), 415, "media_type_unsupported"),
        (request("POST", "/auth/login", Some("text/json+x"), &body), 415, "media_type_unsupported"),
        (
            request("POST", "/auth/login", Some("multipart/form-data; boundary=x"), &body),
            415,
            "media_type_unsupported",
        ),
        (request("POST", "/auth/login", Some(""), &body), 415, "media_type_unsupported"),
        (
            request("POST", "/auth/login", Some("application/json, text/plain"), &body),
            415,
            "media_type_unsupported",
        ),
        (two_types, 415, "media_type_unsupported"),
        (untyped_chunks, 415, "media_type_unsupported"),
    ];
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"] {
        table.push((request(method, "/auth/login", json, &body), 405, "method_not_allowed"));
    }
    for length in ["4097", "18446744073709551615", "99999999999999999999999", "-1", "1,1"] {
        let mut large = login_request(&body);
        large.headers_mut().insert("content-length", length.parse().unwrap());
        table.push((large, 413, "body_too_large"));
    }
    for (request, status, outcome) in table {
        let shown = format!("{request:?}");

        let answer = harness.send(request).await;

        assert_eq!(refusal_of(&answer), (status, outcome, "invalid_request".to_owned()), "{shown}");
        assert_eq!(header(&answer, "allow"), (status == 405).then_some("POST"), "{shown}");
    }
    assert_eq!(harness.fake.requests().len(), 0);
}

#[tokio::test]
async fn a_login_passes_with_the_limits_of_its_body() {
    let harness = Harness::new([]).await;
    let (parts, ()) = login_request("x").map(|_| ()).into_parts();

    let body_limit = harness.login.precheck(Endpoint::Login, harness.call(&parts));

    let body = Some(BodyLimit { max_bytes: 4096, timeout: Duration::from_secs(10) });
    assert_eq!(body_limit.unwrap(), body);
}

#[tokio::test]
async fn a_body_that_could_not_be_read_is_refused_with_the_reason() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    let (parts, _) = login_request("").into_parts();
    for (body, status, outcome) in [
        (Err(BodyFault::TooLarge), 413, "body_too_large"),
        (Err(BodyFault::TimedOut), 408, "body_timed_out"),
        (Err(BodyFault::Broken), 400, "body_incomplete"),
        (Ok(Bytes::from(vec![b' '; 4097])), 413, "body_too_large"),
    ] {
        let answer = harness.login.respond(Endpoint::Login, harness.call(&parts), body).await;

        assert_eq!(refusal_of(&answer), (status, outcome, "invalid_request".to_owned()));
    }
}

#[tokio::test]
async fn every_refusal_of_wechat_has_its_own_code() {
    let grant = "invalid_grant";
    let later = "temporarily_unavailable";
    let server = "server_error";
    let table: &[(i64, u16, &str, &str, Option<&str>)] = &[
        (40029, 401, grant, "code_invalid", None),
        (40163, 401, grant, "code_already_used", None),
        (40226, 403, "access_denied", "user_blocked", None),
        (50002, 403, "access_denied", "user_blocked", None),
        (45011, 429, later, "throttled", Some("60")),
        (-1, 503, later, "wechat_busy", Some("1")),
        (45009, 503, later, "wechat_quota_exhausted", Some("600")),
        (48017, 503, later, "wechat_unreachable", Some("5")),
        (40013, 500, server, "app_misconfigured", None),
        (40125, 500, server, "app_misconfigured", None),
        (40243, 500, server, "app_misconfigured", None),
        (48001, 500, server, "app_misconfigured", None),
        (41002, 502, server, "wechat_unexpected", None),
        (41004, 502, server, "wechat_unexpected", None),
        (41008, 502, server, "wechat_unexpected", None),
        (40002, 502, server, "wechat_unexpected", None),
        (61003, 502, server, "wechat_unexpected", None),
        (0, 502, server, "wechat_unexpected", None),
    ];
    for (errcode, status, error, outcome, retry_after) in table {
        let harness = Harness::new([Reply::json(&format!(r#"{{"errcode":{errcode},"errmsg":"x"}}"#))]).await;

        let answer = harness.login(CODE).await;

        assert_eq!(refusal_of(&answer), (*status, *outcome, (*error).to_owned()), "{errcode}");
        assert_eq!(header(&answer, "retry-after"), *retry_after, "{errcode}");
        assert_eq!(header(&answer, "www-authenticate"), (*status == 401).then_some("Bearer"), "{errcode}");
        assert_eq!(harness.logins(outcome), 1, "{errcode}");
        assert!(answer.identity.is_none());
    }
}

#[tokio::test]
async fn a_failing_wechat_and_an_unexpected_reply_have_different_codes() {
    let table = [
        (Reply::Drop, 503, "wechat_unreachable"),
        (Reply::Hang, 503, "wechat_unreachable"),
        (Reply::status("502 Bad Gateway", "", "<html>"), 502, "wechat_unexpected"),
        (Reply::json("<html>"), 502, "wechat_unexpected"),
        (Reply::json(&SUCCESS.replace(OPENID, r"o\r\nX-Role: admin")), 502, "wechat_unexpected"),
    ];
    for (reply, status, outcome) in table {
        let harness =
            Harness::with([reply], |setup| setup.wechat.timeout = config::Duration::from_millis(200)).await;

        let answer = harness.login(CODE).await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), (status, outcome));
    }
}

#[tokio::test]
async fn an_open_breaker_says_when_to_come_back() {
    let harness =
        Harness::with([Reply::status("500 Oops", "", "")], |setup| setup.wechat.breaker.failures = 1).await;
    harness.login("first").await;
    harness.clock.advance(Duration::from_millis(1500));

    let answer = harness.login("second").await;

    assert_eq!(answer.outcome, "wechat_unreachable");
    assert_eq!(header(&answer, "retry-after"), Some("4"));
    assert_eq!(harness.fake.requests().len(), 1);
}

#[tokio::test]
async fn the_app_is_chosen_by_name_or_by_being_the_only_one() {
    let table: &[(&[&'static str], Option<&str>, &str)] = &[
        (&["shop"], None, "ok"),
        (&["shop"], Some("shop"), "ok"),
        (&["shop"], Some("wx0"), "ok"),
        (&["news", "shop"], Some("wx1"), "ok"),
        (&["shop"], Some("wx9"), "app_unknown"),
        (&["shop"], Some(""), "app_unknown"),
        (&["news", "shop"], Some("shop"), "ok"),
        (&["news", "shop"], None, "app_missing"),
        (&[], None, "app_missing"),
        (&[], Some("shop"), "app_unknown"),
    ];
    for (apps, app, outcome) in table {
        let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.apps = apps.to_vec()).await;
        let mut body = json!({ "code": CODE });
        if let Some(app) = app {
            body["app"] = (*app).into();
        }

        let answer = harness.send(login_request(&body.to_string())).await;

        assert_eq!(answer.outcome, *outcome, "{apps:?} {app:?}");
        assert_eq!(harness.fake.requests().len(), usize::from(*outcome == "ok"), "{apps:?} {app:?}");
    }
}

#[tokio::test]
async fn one_code_of_two_apps_is_two_codes() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.apps = vec!["news", "shop"]).await;
    let mut openers = Vec::new();

    for app in ["news", "shop"] {
        let answer = harness.send(login_request(&json!({ "code": CODE, "app": app }).to_string())).await;
        openers.push(answer.identity.unwrap().subject.appid.to_string());
    }

    assert_eq!(openers, ["wx0", "wx1"]);
    assert_eq!(harness.fake.requests().len(), 2);
}

#[tokio::test]
async fn a_code_sent_many_times_at_once_is_exchanged_once() {
    let harness = Arc::new(Harness::new([Reply::Held(Box::new(Reply::json(SUCCESS)))]).await);
    let logins = Vec::from_iter((0..50).map(|_| {
        let harness = harness.clone();
        tokio::spawn(async move { harness.login(CODE).await })
    }));
    harness.fake.requests_reach(1).await;
    harness.fake.release();

    let mut bodies = Vec::new();
    for login in logins {
        bodies.push(login.await.unwrap().response.into_body());
    }

    assert!(bodies.iter().all(|body| body == &bodies[0]));
    assert_eq!(harness.fake.requests().len(), 1);
    assert_eq!(harness.logins("ok"), 50);
}

#[tokio::test]
async fn a_code_sent_again_within_the_window_gets_the_same_token() {
    let harness = Harness::new([Reply::json(SUCCESS), Reply::json(r#"{"errcode":40163}"#)]).await;
    let first = json_of(&harness.login(CODE).await);

    harness.clock.advance(Duration::from_millis(59_999));
    let again = json_of(&harness.login(CODE).await);
    assert_eq!(again["access_token"], first["access_token"]);
    assert_eq!(again["refresh_token"], first["refresh_token"]);
    let (first_seconds, seconds) =
        (first["expires_in"].as_u64().unwrap(), again["expires_in"].as_u64().unwrap());
    assert!((first_seconds - seconds).abs_diff(60) <= 1, "what is left of the token's life, not all of it");
    assert_eq!(harness.fake.requests().len(), 1);

    harness.clock.advance(Duration::from_millis(1));
    assert_eq!(harness.login(CODE).await.outcome, "code_already_used");
    assert_eq!(harness.fake.requests().len(), 2);
}

#[tokio::test]
async fn a_code_of_another_client_is_refused_without_asking_wechat() {
    let table = [
        ("198.51.100.1", AGENT, "code_already_used"),
        ("203.0.112.7", AGENT, "code_already_used"),
        (CLIENT, "curl/8", "code_already_used"),
        (CLIENT, AGENT, "ok"),
        ("203.0.113.250", AGENT, "ok"),
        ("::ffff:203.0.113.7", AGENT, "ok"),
    ];
    for (client, agent, outcome) in table {
        for held in [false, true] {
            let reply = Reply::json(SUCCESS);
            let reply = if held { Reply::Held(Box::new(reply)) } else { reply };
            let harness = Arc::new(Harness::new([reply]).await);
            let first = tokio::spawn({
                let harness = harness.clone();
                async move { harness.login(CODE).await }
            });
            harness.fake.requests_reach(1).await;
            if !held {
                first.await.unwrap();
            } else if outcome == "ok" {
                harness.fake.release();
            }

            let body = json!({ "code": CODE }).to_string();
            let mut request = login_request(&body);
            request.headers_mut().insert("user-agent", agent.parse().unwrap());
            let answer = harness.send_from(client, request).await;

            assert_eq!(answer.outcome, outcome, "{client} {agent}, under way: {held}");
            assert_eq!(harness.fake.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn an_app_that_refuses_an_unknown_unionid_signs_in_only_who_has_one() {
    let known = SUCCESS.replace('}', r#","unionid":"oGZUI0egBJY1"}"#);
    let replies = [Reply::json(SUCCESS), Reply::json(&known)];
    let harness =
        Harness::with(replies, |setup| setup.unknown_unionid = Some(config::UnknownUnionId::Refuse)).await;

    for _ in 0..2 {
        let refused = refusal_of(&harness.login(CODE).await);
        assert_eq!((refused.0, refused.1), (403, "unionid_unknown"));
    }

    assert_eq!(harness.fake.requests().len(), 1, "the refusal is remembered with the code");
    assert_eq!(harness.login("another-code").await.outcome, "ok");
}

#[tokio::test]
async fn an_ipv6_client_is_its_whole_network() {
    for (other, outcome) in [("2001:db8:0:2:ffff::9", "ok"), ("2001:db8:1:1::1", "code_already_used")] {
        let harness = Harness::new([Reply::json(SUCCESS)]).await;
        let body = json!({ "code": CODE }).to_string();
        harness.send_from("2001:db8:0:1::1", login_request(&body)).await;

        assert_eq!(harness.send_from(other, login_request(&body)).await.outcome, outcome, "{other}");
    }
}

#[tokio::test]
async fn only_outcomes_that_cannot_change_are_remembered() {
    let errcode = |errcode: i64| Reply::json(&format!(r#"{{"errcode":{errcode}}}"#));
    let table = [
        (errcode(40029), "code_invalid", 1),
        (errcode(40163), "code_already_used", 1),
        (errcode(40226), "user_blocked", 1),
        (errcode(-1), "wechat_busy", 2),
        (errcode(45011), "throttled", 2),
        (errcode(45009), "wechat_quota_exhausted", 2),
        (errcode(77777), "wechat_unexpected", 2),
        (Reply::Drop, "wechat_unreachable", 2),
        (Reply::json("<html>"), "wechat_unexpected", 2),
    ];
    for (reply, outcome, calls) in table {
        let harness = Harness::new([reply]).await;

        for _ in 0..2 {
            assert_eq!(harness.login(CODE).await.outcome, outcome);
        }

        assert_eq!(harness.fake.requests().len(), calls, "{outcome}");
    }
}

#[tokio::test]
async fn a_login_that_its_client_gives_up_is_finished_and_remembered() {
    let harness = Harness::new([Reply::Held(Box::new(Reply::json(SUCCESS)))]).await;
    tokio::select! {
        biased;
        answer = harness.login(CODE) => panic!("{answer:?}"),
        () = harness.fake.requests_reach(1) => {}
    }

    harness.fake.release();
    let answer = harness.login(CODE).await;

    assert_eq!(answer.outcome, "ok");
    assert_eq!(harness.fake.requests().len(), 1);
}

#[tokio::test]
async fn no_more_codes_are_remembered_than_configured() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.login.replay_capacity = 3).await;

    for code in ["a", "b", "c", "d", "e"] {
        harness.login(code).await;
        assert!(harness.login.settings.program_codes.len() <= 3);
    }
    for code in ["c", "d", "e"] {
        harness.login(code).await;
    }
    assert_eq!(harness.fake.requests().len(), 5, "the latest three are remembered");

    harness.login("a").await;
    assert_eq!(harness.fake.requests().len(), 6, "the oldest was forgotten");
}

#[tokio::test]
async fn an_outdated_outcome_is_dropped() {
    let harness = Harness::new([Reply::json(SUCCESS)]).await;
    for code in ["a", "b", "c"] {
        harness.login(code).await;
    }

    harness.clock.advance(Duration::from_secs(60));
    harness.login("d").await;

    assert_eq!(harness.login.settings.program_codes.len(), 1);
}

#[tokio::test]
async fn a_reload_forgets_no_answer_unless_the_limits_changed() {
    for (window, calls) in [(60, 1), (59, 2)] {
        let mut harness = Harness::new([Reply::json(SUCCESS)]).await;
        harness.login(CODE).await;

        let config =
            config::Login { replay_window: config::Duration::from_secs(window), ..Default::default() };
        let settings =
            SignInSettings::build(&config, &BTreeMap::new(), &[], &SystemEntropy, &mut Findings::default())
                .unwrap();
        let reloaded = SignInService::new(settings, SignInDependencies::clone(&harness.login.deps));
        harness.login = Arc::new(reloaded.with_codes_of(&harness.login));
        harness.login(CODE).await;

        assert_eq!(harness.fake.requests().len(), calls, "window of {window} s");
    }
}

#[tokio::test]
async fn a_client_that_fails_too_often_gets_the_time_to_wait() {
    let harness = Harness::with([Reply::json(r#"{"errcode":40029}"#)], |setup| {
        setup.throttle.login = few_failures(2);
    })
    .await;
    harness.login("a").await;
    harness.login("b").await;

    let answer = harness.login("c").await;

    assert_eq!(refusal_of(&answer), (429, "throttled", "temporarily_unavailable".to_owned()));
    assert_eq!(header(&answer, "retry-after"), Some("10"));
    assert_eq!(harness.logins("throttled"), 1);
}

#[tokio::test]
async fn logins_that_succeed_are_not_limited_by_address() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.throttle.login = few_failures(1)).await;

    for attempt in 0..20 {
        assert_eq!(harness.login(&format!("code{attempt}")).await.outcome, "ok");
    }
}

/// Of failures so many at once, and then one in ten seconds.
fn few_failures(burst: u32) -> config::LoginLimit {
    config::LoginLimit { rate: Rate::per_minute(6), burst }
}

#[tokio::test]
async fn only_a_real_exchange_counts_against_the_quota() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| {
        setup.throttle.wechat = config::LoginLimit { rate: Rate::per_minute(1), burst: 1 };
    })
    .await;

    for _ in 0..3 {
        assert_eq!(harness.login("a").await.outcome, "ok");
    }
    let refused = harness.login("b").await;
    assert_eq!((refused.response.status().as_u16(), refused.outcome), (429, "throttled"));

    harness.clock.advance(Duration::from_secs(60));
    assert_eq!(harness.login("b").await.outcome, "ok", "a code that was not exchanged is still good");
}

#[tokio::test]
async fn failures_slow_a_client_only_if_it_guesses_codes() {
    let errcode = |errcode: i64| Reply::json(&format!(r#"{{"errcode":{errcode}}}"#));
    let table = [
        (errcode(40029), true),
        (errcode(40163), true),
        (errcode(40226), false),
        (errcode(-1), false),
        (errcode(40125), false),
        (Reply::json("<html>"), false),
    ];
    for (reply, slows) in table {
        let harness = Harness::with([reply], |setup| setup.throttle.login = few_failures(4)).await;
        let mut outcomes = Vec::new();

        for attempt in 0..6 {
            outcomes.push(harness.login(&format!("guess{attempt}")).await.outcome);
        }

        assert_eq!(outcomes.contains(&"throttled"), slows, "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_stolen_code_counts_as_a_failure_of_the_thief() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| setup.throttle.login = few_failures(3)).await;
    harness.login(CODE).await;
    let body = json!({ "code": CODE }).to_string();

    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(harness.send_from("198.51.100.1", login_request(&body)).await.outcome);
    }

    assert_eq!(outcomes[0], "code_already_used");
    assert_eq!(outcomes[3], "throttled");
    assert_eq!(harness.login(CODE).await.outcome, "ok", "the owner is not punished");
}

#[tokio::test]
async fn all_below_the_prefix_belongs_to_the_login_and_similar_paths_do_not() {
    let nested = Harness::with([], |setup| setup.login.path_prefix = "/gate/auth".into()).await;
    let harness = Harness::new([]).await;
    for (path, endpoint) in [
        ("/auth/login", Some(Endpoint::Login)),
        ("/auth", Some(Endpoint::Unknown)),
        ("/auth/", Some(Endpoint::Unknown)),
        ("/auth/login/", Some(Endpoint::Unknown)),
        ("/auth/login/x", Some(Endpoint::Unknown)),
        ("/auth/logins", Some(Endpoint::Unknown)),
        ("/auth/LOGIN", Some(Endpoint::Unknown)),
        ("/auth/session", Some(Endpoint::Session)),
        ("/auth/sessions", Some(Endpoint::Unknown)),
        ("/auth/refresh", Some(Endpoint::Refresh)),
        ("/auth/refresh/", Some(Endpoint::Unknown)),
        ("/auth/logout", Some(Endpoint::Logout)),
        ("/auth/Logout", Some(Endpoint::Unknown)),
        ("/.well-known/jwks.json", Some(Endpoint::Jwks)),
        ("/.well-known/jwks.json/", None),
        ("/.well-known/other", None),
        ("/authors", None),
        ("/auth.login", None),
        ("/x/auth/login", None),
        ("/login", None),
        ("/", None),
    ] {
        assert_eq!(harness.login.endpoint(path), endpoint, "{path}");
    }
    assert_eq!(nested.login.endpoint("/gate/auth/login"), Some(Endpoint::Login));
    assert_eq!(nested.login.endpoint("/auth/login"), None);
}

#[tokio::test]
async fn an_unknown_endpoint_is_a_problem_document() {
    let harness = Harness::new([]).await;

    let answer = harness.send(request("POST", "/auth/register", Some("application/json"), "{}")).await;

    assert_eq!(answer.response.status(), StatusCode::NOT_FOUND);
    assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
    let expected = json!({
        "type": "about:blank", "title": "Not Found", "status": 404, "code": "endpoint_unknown", "request_id": "req-1"
    });
    assert_eq!(json_of(&answer), expected);
}

#[tokio::test]
async fn any_client_may_read_and_cache_the_keys() {
    let harness = Harness::new([]).await;

    let answer = harness.send(request("GET", "/.well-known/jwks.json", None, "")).await;
    assert_eq!(answer.response.status(), StatusCode::OK);
    assert_eq!(answer.response.body(), &harness.login.deps.tokens.jwks());
    assert_eq!(header(&answer, "content-type"), Some("application/jwk-set+json"));
    assert_eq!(header(&answer, "cache-control"), Some("public, max-age=300"));

    let answer = harness.send(request("HEAD", "/.well-known/jwks.json", None, "")).await;
    assert_eq!((answer.response.status(), answer.response.body().len()), (StatusCode::OK, 0));

    let answer = harness.send(request("POST", "/.well-known/jwks.json", None, "")).await;
    assert_eq!(answer.response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&answer, "allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn a_refusal_repeats_nothing_that_the_client_sent() {
    let harness = Harness::new([Reply::json(r#"{"errcode":40029,"errmsg":"said by wechat"}"#)]).await;
    for body in [
        json!({ "code": CODE, "x": "canary" }),
        json!({ "code": "canary canary" }),
        json!({ "code": CODE, "app": "canary" }),
    ] {
        let answer = harness.send(login_request(&body.to_string())).await;

        let text = String::from_utf8(answer.response.body().to_vec()).unwrap();
        for word in ["canary", CODE, "said by wechat", "127.0.0.1", "wx0"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[tokio::test]
async fn every_problem_of_a_configuration_is_found() {
    type Change = fn(&mut config::Login);
    let table: &[(&str, Change, &str)] = &[
        ("login.path_prefix", |c| c.path_prefix = String::new(), "`` cannot be the prefix of endpoints"),
        ("login.path_prefix", |c| c.path_prefix = "/".into(), "`/` cannot be the prefix of endpoints"),
        ("login.path_prefix", |c| c.path_prefix = "auth".into(), "`auth` cannot be the prefix of endpoints"),
        (
            "login.path_prefix",
            |c| c.path_prefix = "/auth/".into(),
            "`/auth/` cannot be the prefix of endpoints",
        ),
        (
            "login.path_prefix",
            |c| c.path_prefix = "/a//b".into(),
            "`/a//b` cannot be the prefix of endpoints",
        ),
        (
            "login.path_prefix",
            |c| c.path_prefix = "/a/../b".into(),
            "`/a/../b` cannot be the prefix of endpoints",
        ),
        (
            "login.path_prefix",
            |c| c.path_prefix = "/a%2fb".into(),
            "`/a%2fb` cannot be the prefix of endpoints",
        ),
        (
            "login.path_prefix",
            |c| c.path_prefix = "/.well-known".into(),
            "`/.well-known` is reserved by RFC 8615",
        ),
        ("login.max_body", |c| c.max_body = config::ByteSize(0), "`0B` is out of range"),
        ("login.max_body", |c| c.max_body = config::ByteSize::mib(2), "`2MiB` is out of range"),
        ("login.body_timeout", |c| c.body_timeout = config::Duration::from_secs(0), "`0s` is out of range"),
        (
            "login.body_timeout",
            |c| c.body_timeout = config::Duration::from_secs(301),
            "`301s` is out of range",
        ),
        (
            "login.replay_window",
            |c| c.replay_window = config::Duration::from_secs(301),
            "`301s` is longer than the life of a code",
        ),
        ("login.replay_capacity", |c| c.replay_capacity = 0, "`0` is out of range"),
    ];
    for (path, change, reason) in table {
        let mut config = config::Login::default();
        change(&mut config);
        let mut findings = Findings::default();

        let settings = SignInSettings::build(&config, &BTreeMap::new(), &[], &SystemEntropy, &mut findings);

        assert!(settings.is_none(), "{path}: {reason}");

        let found =
            Vec::from_iter(findings.iter().map(|finding| (finding.path.as_str(), finding.reason.as_str())));
        assert_eq!(found, [(*path, *reason)]);
    }
}
