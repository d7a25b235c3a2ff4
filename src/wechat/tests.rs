//! The client against a server that writes raw bytes, because WeChat's quirks are in the bytes.

mod build;
mod page;
mod page_url;
mod profile;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::testing::{Fake, Reply};
use super::*;
use crate::clock::ManualClock;
use crate::config::{self, ByteSize, Findings, SecretSource};
use crate::entropy::SystemEntropy;
use crate::identity::UnionId;
use crate::telemetry::metrics::Metrics;

const SECRET: &str = "c0ffee00c0ffee00c0ffee00c0ffee00";
const CODE: &str = "051v0m000ObAyK19vV1005SDWf0v0m0s";
const OPENID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
const SUCCESS: &str = r#"{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"}"#;

struct Harness {
    wechat: WeChat,
    metrics: Metrics,
    clock: ManualClock,
}

impl Harness {
    fn new(hosts: &[&str], change: impl FnOnce(&mut config::WeChat)) -> Self {
        Self::with_apps(&apps(), hosts, change)
    }

    fn with_apps(
        apps: &BTreeMap<String, config::App>,
        hosts: &[&str],
        change: impl FnOnce(&mut config::WeChat),
    ) -> Self {
        let mut config = config_for(hosts);
        change(&mut config);
        let metrics = Metrics::new().unwrap();
        let clock = ManualClock::start_now();
        let mut findings = Findings::default();
        let (shared_clock, entropy) = (Arc::new(clock.clone()), Arc::new(SystemEntropy));
        let wechat = WeChat::build(&config, apps, &metrics, shared_clock, entropy, &mut findings);
        let wechat = wechat.unwrap_or_else(|| panic!("{findings:?}"));
        Self { wechat, metrics, clock }
    }

    fn with(fake: &Fake) -> Self {
        Self::new(&[&fake.url()], |_| {})
    }

    async fn exchange(&self) -> Result<CodeExchange, WeChatError> {
        let app = self.wechat.app("shop").unwrap();
        self.wechat.exchange_code(app, &Code::parse(CODE).unwrap()).await
    }

    fn errors(&self, label: &str) -> u64 {
        self.metrics.wechat_errors.with_label_values(&["shop", label]).get()
    }
}

fn config_for(hosts: &[&str]) -> config::WeChat {
    config::WeChat { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..Default::default() }
}

fn apps() -> BTreeMap<String, config::App> {
    BTreeMap::from([("shop".to_owned(), app("wx4f4bc4dec97d474b"))])
}

fn app(appid: &str) -> config::App {
    let secret = SecretSource::Inline(SECRET.into());
    config::App {
        kind: AppKind::MiniProgram,
        appid: appid.into(),
        secret,
        title: None,
        scope: None,
        browser_check: BrowserCheck::default(),
        code_login: false,
        unknown_unionid: None,
        app_token: AppTokenApi::default(),
        hand_over: None,
    }
}

/// An address that refuses connections.
async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_documented_request() {
    let fake = Fake::start([Reply::json(SUCCESS)]).await;
    let harness = Harness::with(&fake);

    let exchange = harness.exchange().await.unwrap();

    assert_eq!(exchange.openid.as_str(), OPENID);
    assert_eq!(exchange.unionid, None);
    assert_eq!(
        fake.requests(),
        [format!(
            "GET /sns/jscode2session?appid=wx4f4bc4dec97d474b&secret={SECRET}&js_code={CODE}&grant_type=authorization_code HTTP/1.1"
        )]
    );
}

#[tokio::test]
async fn every_shape_of_success_is_accepted() {
    let key = r#""session_key":"tiihtNczf5v6AKRyjwEUhQ==""#;
    let openid = format!(r#""openid":"{OPENID}""#);
    let bodies = [
        (format!("{{{key},{openid}}}"), None),
        (format!(r#"{{{key},{openid},"errcode":0,"errmsg":"ok"}}"#), None),
        (format!(r#"{{{key},{openid},"errcode":"0"}}"#), None),
        (format!(r#"{{{key},{openid},"errcode":0,"errmsg":7}}"#), None),
        (format!(r#"{{{key},"expires_in":7200,{openid},"new":{{"a":[1]}}}}"#), None),
        (
            format!(r#"{{{key},{openid},"unionid":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA"}}"#),
            Some("ocMvos6NjeKLIBqg5Mr9QjxrP1FA"),
        ),
        (format!(r#"{{{key},{openid},"unionid":""}}"#), None),
        (format!(r#"{{{key},{openid},"unionid":null}}"#), None),
        (format!("\u{feff}{{{key},{openid}}}"), None),
        (format!("  {{\n{key},\r\n{openid}}}\n"), None),
        (format!(r#"{{"session_key":"mx\/kHyHLUtWGwHXkcGLVRA==",{openid}}}"#), None),
    ];
    for (body, unionid) in bodies {
        for head in ["Content-Type: text/plain\r\n", "Content-Type: application/json; encoding=utf-8\r\n", ""]
        {
            let fake = Fake::start([Reply::with_headers(head, &body)]).await;

            let exchange = Harness::with(&fake).exchange().await;

            let exchange = exchange.unwrap_or_else(|error| panic!("{body}: {error}"));
            assert_eq!(exchange.openid.as_str(), OPENID, "{body}");
            assert_eq!(exchange.unionid.as_ref().map(UnionId::as_str), unionid, "{body}");
        }
    }
}

#[tokio::test]
async fn a_chunked_reply_is_read_whole() {
    let fake = Fake::start([Reply::chunked(SUCCESS)]).await;

    assert_eq!(Harness::with(&fake).exchange().await.unwrap().openid.as_str(), OPENID);
}

#[tokio::test]
async fn every_documented_errcode_has_its_meaning_as_number_and_as_text() {
    use WeChatError::{
        AppMisconfigured, Busy, CodeAlreadyUsed, CodeInvalid, HostRetired, QuotaExhausted, RateLimited,
        RequestRejected, Unknown, UserBlocked,
    };
    let table = [
        (-1, Busy, "-1"),
        (40029, CodeInvalid, "40029"),
        (42003, CodeInvalid, "42003"),
        (40163, CodeAlreadyUsed, "40163"),
        (40226, UserBlocked, "40226"),
        (50002, UserBlocked, "50002"),
        (45011, RateLimited, "45011"),
        (45009, QuotaExhausted, "45009"),
        (40013, AppMisconfigured { errcode: 40013 }, "40013"),
        (40125, AppMisconfigured { errcode: 40125 }, "40125"),
        (40243, AppMisconfigured { errcode: 40243 }, "40243"),
        (48001, AppMisconfigured { errcode: 48001 }, "48001"),
        (40001, RequestRejected { errcode: 40001 }, "40001"),
        (40002, RequestRejected { errcode: 40002 }, "40002"),
        (40003, RequestRejected { errcode: 40003 }, "40003"),
        (40014, RequestRejected { errcode: 40014 }, "40014"),
        (40030, RequestRejected { errcode: 40030 }, "40030"),
        (41001, RequestRejected { errcode: 41001 }, "41001"),
        (41002, RequestRejected { errcode: 41002 }, "41002"),
        (41003, RequestRejected { errcode: 41003 }, "41003"),
        (41004, RequestRejected { errcode: 41004 }, "41004"),
        (41008, RequestRejected { errcode: 41008 }, "41008"),
        (41009, RequestRejected { errcode: 41009 }, "41009"),
        (42001, RequestRejected { errcode: 42001 }, "42001"),
        (42002, RequestRejected { errcode: 42002 }, "42002"),
        (48017, HostRetired, "48017"),
        (61003, Unknown { errcode: 61003 }, "other"),
        (-2, Unknown { errcode: -2 }, "other"),
        (i64::MAX, Unknown { errcode: i64::MAX }, "other"),
    ];
    for (errcode, expected, label) in table {
        for written in [errcode.to_string(), format!("\"{errcode}\"")] {
            // An openid in an error is ignored.
            let body = format!(
                r#"{{"errcode":{written},"errmsg":"told, rid: 652d44d0-1d0af18b-5b069232","openid":"{OPENID}","session_key":"tiihtNczf5v6AKRyjwEUhQ=="}}"#
            );
            let fake = Fake::start([Reply::json(&body)]).await;
            let harness = Harness::new(&[&fake.url()], |config| config.busy_retries = 0);

            assert_eq!(harness.exchange().await.unwrap_err(), expected, "{body}");
            assert_eq!(harness.errors(label), 1, "{body}");
            assert_eq!(fake.requests().len(), 1, "{body}");
        }
    }
}

#[tokio::test]
async fn a_reply_that_is_not_whole_is_no_success() {
    let key = r#""session_key":"tiihtNczf5v6AKRyjwEUhQ==""#;
    let openid = format!(r#""openid":"{OPENID}""#);
    let with_openid = |value: &str| (format!(r#"{{{key},"openid":{value}}}"#), ReplyFault::OpenId);
    let with_key = |value: &str| (format!(r#"{{{openid},"session_key":{value}}}"#), ReplyFault::SessionKey);
    let with_unionid =
        |value: &str| (format!(r#"{{{openid},{key},"unionid":{value}}}"#), ReplyFault::UnionId);
    let not_json = |body: &str| (body.to_owned(), ReplyFault::NotJson);
    let table = [
        (format!("{{{key}}}"), ReplyFault::OpenId),
        (r#"{"errcode":0,"errmsg":"ok"}"#.to_owned(), ReplyFault::OpenId),
        ("{}".to_owned(), ReplyFault::OpenId),
        with_openid("null"),
        with_openid(r#""""#),
        with_openid(r#""o\r\nX-Role: admin""#),
        with_openid(r#""o\u0000""#),
        with_openid(r#""用户""#),
        with_openid(&format!("\"{}\"", "o".repeat(129))),
        (format!("{{{openid}}}"), ReplyFault::SessionKey),
        with_key("null"),
        with_key(r#""""#),
        with_key(r#""tiihtNczf5v6AKRyjwEUhQ""#),
        with_key(r#""tiihtNczf5v6AKRyjwEUhR==""#),
        with_key(r#""tiihtNczf5v6AKRyjwEU""#),
        with_key(r#""AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#),
        with_key(r#""tiihtNczf5v6AKRyjwEUh-==""#),
        with_unionid(r#""u\nX: y""#),
        with_unionid(r#""\u0000""#),
        not_json(""),
        not_json("<html><body>login</body></html>"),
        not_json(r#"{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZU"#),
        not_json("null"),
        not_json("[]"),
        not_json("\"ok\""),
        not_json(&format!("{{{key},{openid}}} trailing")),
        not_json(&format!("{{{key},{openid},{openid}}}")),
        not_json(&format!(r#"{{{key},{openid},"errcode":"zero"}}"#)),
        not_json(&format!(r#"{{{key},{openid},"errcode":1.5}}"#)),
        not_json(&format!(r#"{{{key},{openid},"errcode":[]}}"#)),
        not_json(&format!(r#"{{{key},{openid},"errcode":null}}"#)),
        not_json(&format!(r#"{{{key},"openid":{{}}}}"#)),
        not_json(&format!(r#"{{"a":{}"#, "[".repeat(10_000))),
        (format!("{{{key},{openid},\"pad\":\"{}\"}}", "x".repeat(70_000)), ReplyFault::TooLarge),
    ];
    for (body, fault) in table {
        let fake = Fake::start([Reply::json(&body)]).await;
        let harness = Harness::with(&fake);

        let shown: String = body.chars().take(200).collect();
        assert_eq!(harness.exchange().await.unwrap_err(), WeChatError::UnexpectedReply(fault), "{shown}");
        assert_eq!(harness.errors("garbage"), 1, "{shown}");
    }
}

#[tokio::test]
async fn invalid_utf_8_is_no_success() {
    let mut body = SUCCESS.as_bytes().to_vec();
    body.truncate(body.len() - 1);
    body.extend_from_slice(b",\"x\":\"\xff\xfe\"}");
    let fake = Fake::start([Reply::bytes("", &body)]).await;

    let error = Harness::with(&fake).exchange().await.unwrap_err();

    assert!(matches!(error, WeChatError::UnexpectedReply(ReplyFault::NotJson)), "{error}");
}

#[tokio::test]
async fn a_status_other_than_200_is_an_error_with_any_body() {
    for status in
        ["500 Internal Server Error", "502 Bad Gateway", "404 Not Found", "201 Created", "302 Found"]
    {
        let fake = Fake::start([Reply::status(status, "Location: /sns/elsewhere\r\n", SUCCESS)]).await;

        let error = Harness::with(&fake).exchange().await.unwrap_err();

        assert!(matches!(error, WeChatError::UnexpectedReply(ReplyFault::Status(_))), "{status}: {error}");
        assert_eq!(fake.requests().len(), 1, "{status}: a redirect must not be followed");
    }
}

#[tokio::test]
async fn busy_is_asked_again_at_most_as_often_as_configured() {
    for busy_retries in 0..=2 {
        let fake = Fake::start([Reply::json(r#"{"errcode":-1,"errmsg":"system error"}"#)]).await;
        let harness = Harness::new(&[&fake.url()], |config| config.busy_retries = busy_retries);

        assert_eq!(harness.exchange().await.unwrap_err(), WeChatError::Busy);
        assert_eq!(fake.requests().len(), usize::from(busy_retries) + 1);
    }
}

#[tokio::test]
async fn busy_once_then_success_is_a_success() {
    let busy = Reply::json(r#"{"errcode":-1,"errmsg":"system error"}"#);
    let fake = Fake::start([busy, Reply::json(SUCCESS)]).await;

    assert_eq!(Harness::with(&fake).exchange().await.unwrap().openid.as_str(), OPENID);
}

#[tokio::test]
async fn a_busy_reply_is_not_retried_past_the_deadline() {
    let fake = Fake::start([Reply::json(r#"{"errcode":-1}"#)]).await;
    let harness = Harness::new(&[&fake.url()], |config| {
        // The timeout is less than the shortest wait before a retry.
        config.timeout = config::Duration::from_millis(49);
        config.breaker.failures = u32::MAX;
    });

    // A slow machine may miss so short a deadline, but not every time.
    for _ in 0..100 {
        if harness.exchange().await.unwrap_err() == WeChatError::Busy {
            return;
        }
    }
    panic!("the error was never WeChatError::Busy, only the deadline");
}

#[tokio::test]
async fn retry_waits_grow_and_stay_in_their_range() {
    let harness = Harness::new(&["http://127.0.0.1:9"], |_| {});

    for (retries, range) in [(0, 50..=100), (1, 100..=200)] {
        for _ in 0..200 {
            let wait = harness.wechat.retry_wait(retries).as_millis();
            assert!(range.contains(&wait), "{wait} ms before retry {retries}");
        }
    }
}

#[tokio::test]
async fn a_refused_connection_moves_on_to_the_next_host() {
    let fake = Fake::start([Reply::json(SUCCESS)]).await;
    let harness = Harness::new(&[&closed_port().await, &fake.url()], |_| {});

    assert_eq!(harness.exchange().await.unwrap().openid.as_str(), OPENID);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn no_host_that_connects_is_unreachable() {
    let harness = Harness::new(&[&closed_port().await, &closed_port().await], |_| {});

    assert_eq!(harness.exchange().await.unwrap_err(), WeChatError::Unreachable);
    assert_eq!(harness.errors("unreachable"), 2);
}

#[tokio::test]
async fn a_request_is_not_sent_again_after_it_was_sent() {
    let truncated = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"openid\"");
    let table = [
        ("dropped after the request", Reply::Drop, WeChatError::ConnectionLost),
        ("broken off within the body", truncated, WeChatError::ConnectionLost),
        ("not HTTP", Reply::raw("SSH-2.0-OpenSSH_9.9\r\n\r\n"), WeChatError::ConnectionLost),
        ("never answered", Reply::Hang, WeChatError::TimedOut),
    ];
    for (case, reply, expected) in table {
        let fake = Fake::start([reply]).await;
        let other = Fake::start([Reply::json(SUCCESS)]).await;
        let hosts = [fake.url(), other.url()];
        let harness = Harness::new(&[&hosts[0], &hosts[1]], |config| {
            config.timeout = config::Duration::from_millis(300);
        });

        assert_eq!(harness.exchange().await.unwrap_err(), expected, "{case}");
        assert_eq!(fake.requests().len() + other.requests().len(), 1, "{case}");
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_over_a_kept_connection() {
    let fake = Fake::start([Reply::json(SUCCESS), Reply::Drop, Reply::json(SUCCESS)]).await;
    let harness = Harness::with(&fake);

    harness.exchange().await.unwrap();
    let error = harness.exchange().await.unwrap_err();

    assert_eq!(error, WeChatError::ConnectionLost);
    assert_eq!(fake.requests().len(), 2);
    assert_eq!(fake.connections(), 1, "the second request must have met the first one's connection");
}

#[tokio::test]
async fn a_reply_that_arrives_too_slowly_is_cut_off_in_time() {
    let fake = Fake::start([Reply::Drip]).await;
    let harness = Harness::new(&[&fake.url()], |config| config.timeout = config::Duration::from_millis(300));

    assert_eq!(harness.exchange().await.unwrap_err(), WeChatError::TimedOut);
    assert_eq!(harness.errors("timeout"), 1);
}

#[tokio::test]
async fn exchanges_beyond_the_limit_are_refused_without_a_call() {
    let fake = Fake::start([Reply::Hang]).await;
    let harness = Harness::new(&[&fake.url()], |config| {
        config.max_in_flight = 1;
        config.timeout = config::Duration::from_millis(300);
    });

    let (first, second) = tokio::join!(harness.exchange(), harness.exchange());

    assert_eq!(first.unwrap_err(), WeChatError::TimedOut);
    assert_eq!(second.unwrap_err(), WeChatError::TooManyInFlight);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn the_breaker_opens_after_failures_and_a_successful_trial_closes_it() {
    let bad = || Reply::status("502 Bad Gateway", "", "<html>");
    let fake = Fake::start([bad(), bad(), bad(), Reply::json(SUCCESS)]).await;
    let harness = Harness::new(&[&fake.url()], |config| config.breaker.failures = 3);
    for _ in 0..3 {
        harness.exchange().await.unwrap_err();
    }

    let refused = harness.exchange().await.unwrap_err();
    assert_eq!(refused, WeChatError::BreakerOpen { retry_after: Duration::from_secs(5) });
    assert_eq!(fake.requests().len(), 3);

    harness.clock.advance(Duration::from_secs(5));
    harness.exchange().await.unwrap();
    assert_eq!(harness.metrics.wechat_breaker_state.with_label_values(&["shop"]).get(), 0);
}

#[tokio::test]
async fn a_wrong_secret_is_sent_once_until_the_next_trial() {
    for errcode in [40013, 40125, 40243] {
        let fake = Fake::start([Reply::json(&format!(r#"{{"errcode":{errcode}}}"#))]).await;
        let harness = Harness::with(&fake);

        for _ in 0..5 {
            assert_eq!(harness.exchange().await.unwrap_err(), WeChatError::AppMisconfigured { errcode });
        }

        assert_eq!(fake.requests().len(), 1);
        assert_eq!(harness.metrics.wechat_breaker_state.with_label_values(&["shop"]).get(), 2);
    }
}

#[tokio::test]
async fn errors_that_users_cause_never_open_the_breaker() {
    for errcode in [40029, 40163, 40226, 45011] {
        let fake = Fake::start([Reply::json(&format!(r#"{{"errcode":{errcode}}}"#))]).await;
        let harness = Harness::new(&[&fake.url()], |config| config.breaker.failures = 2);

        for _ in 0..5 {
            harness.exchange().await.unwrap_err();
        }

        assert_eq!(fake.requests().len(), 5, "{errcode}");
    }
}

#[tokio::test]
async fn a_cancelled_exchange_frees_the_breaker_and_the_slot() {
    let fake = Fake::start([Reply::status("500 Oops", "", ""), Reply::Hang, Reply::json(SUCCESS)]).await;
    let harness = Harness::new(&[&fake.url()], |config| {
        config.breaker.failures = 1;
        config.max_in_flight = 1;
    });
    harness.exchange().await.unwrap_err();
    harness.clock.advance(Duration::from_secs(5));

    tokio::select! {
        biased;
        result = harness.exchange() => panic!("{result:?}"),
        () = fake.requests_reach(2) => {}
    }

    assert_eq!(harness.exchange().await.unwrap().openid.as_str(), OPENID);
}

#[tokio::test]
async fn no_debug_text_or_message_holds_a_secret() {
    let fake = Fake::start([Reply::json(SUCCESS), Reply::Drop]).await;
    let harness = Harness::with(&fake);
    let code = Code::parse(CODE).unwrap();
    let app = harness.wechat.app("shop").unwrap();

    let exchange = harness.exchange().await.unwrap();
    let error = harness.exchange().await.unwrap_err();

    let texts = format!("{exchange:?} {error:?} {error} {code:?} {app:?} {:?}", harness.wechat);
    for secret in [SECRET, CODE, "tiihtNczf5v6AKRyjwEUhQ"] {
        assert!(!texts.contains(secret), "{texts}");
    }
}

#[test]
fn codes_are_of_one_alphabet_and_length() {
    for good in [CODE, "a", "-_", &"x".repeat(128)] {
        assert!(Code::parse(good).is_ok(), "{good}");
    }
    let bad = [
        "",
        " ",
        "a b",
        "a&appid=x",
        "a%26secret=x",
        "a\n",
        "a\0",
        "ａ",
        "code+",
        "a/b",
        "a=",
        &"x".repeat(129),
    ];
    for bad in bad {
        assert_eq!(Code::parse(bad).unwrap_err(), InvalidCode, "{bad:?}");
    }
}

#[test]
fn only_a_well_formed_rid_is_logged() {
    let rid = "652d44d0-1d0af18b-5b069232";
    for (errmsg, expected) in [
        (format!("invalid code, rid: {rid}"), Some(rid)),
        (format!("invalid appid rid: {rid}"), Some(rid)),
        (format!("bad, hint: [XfmcTVNre-vGNNia] rid: {rid} more"), Some(rid)),
        ("invalid code, hints: [ req_id: QkacMBore-rt6w3 ]".to_owned(), None),
        ("rid: ".to_owned(), None),
        (format!("rid: {rid}0"), None),
        ("rid: 652d44d01d0af18b5b06923200".to_owned(), None),
        ("rid: \u{1b}[31m-1d0af18b-5b069232".to_owned(), None),
    ] {
        let body = serde_json::json!({ "errcode": 40029, "errmsg": errmsg }).to_string();
        let harness = Harness::new(&["http://127.0.0.1:9"], |_| {});
        let code = Code::parse(CODE).unwrap();
        let call = api::code_exchange(harness.wechat.app("shop").unwrap(), &code);

        assert_eq!(call.reply(body.as_bytes()).rid.as_deref(), expected, "{errmsg}");
    }
}

#[tokio::test]
async fn a_host_is_trusted_only_with_a_certificate_for_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    for (name, is_reached) in [("localhost", true), ("api.example.com", false)] {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let fake = Fake::start_tls(made.cert.der().clone(), key, [Reply::json(SUCCESS)]).await;
        let host = format!("https://localhost:{}", fake.port());

        let with_root = Harness::new(&[&host], |config| config.ca_file = Some(ca_file.clone().into()));
        assert_eq!(with_root.exchange().await.is_ok(), is_reached, "{name}");

        let without_root = Harness::new(&[&host], |_| {});
        assert_eq!(without_root.exchange().await.unwrap_err(), WeChatError::Unreachable, "{name}");
        assert_eq!(
            fake.requests().len(),
            usize::from(is_reached),
            "{name}: nothing is sent before the name is checked"
        );
    }
}
