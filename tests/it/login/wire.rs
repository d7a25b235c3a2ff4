//! What WeChat, or what stands between, may do to an exchange.

use std::time::Duration;

use menshen::config::{ByteSize, Duration as Span};
use menshen::emulator::{Effect, InjectedFault};
use serde_json::json;

use super::{PATIENT_BREAKER, assert_refused, login, logins, wechat_errors};
use crate::common::{APPID, Backend, Reply, World, now};

const ROUTES: &str = "
routes:
  - { path: /, access: authenticated, upstream: backend }
throttle:
  login: { rate: 1000000/s, burst: 1000000 }
  wechat: { rate: 1000000/s, burst: 1000000 }
";

fn set(name: &str, value: serde_json::Value) -> Effect {
    Effect::Set([(name.to_owned(), value)].into_iter().collect())
}

/// A world that calls these hosts and waits so long for an answer.
fn calling(hosts: &str, timeout: &str, breaker: &str) -> World {
    World::with(&format!(
        "wechat: {{ hosts: [{hosts}], timeout: {timeout}, connect_timeout: 200ms, breaker: {breaker} }}\n{ROUTES}"
    ))
}

#[test]
fn quirks_of_a_good_answer_change_nothing() {
    let world = World::new();
    for effect in [
        Effect::ErrcodeZero,
        set("errcode", json!("0")),
        Effect::ExtraFields,
        Effect::Bom,
        Effect::Newline,
        Effect::Chunked,
        set("unionid", json!("")),
        set("unionid", json!(null)),
        set("openid", json!("o".repeat(128))),
        Effect::HugeBody(ByteSize::kib(60)),
    ] {
        world.emulator.inject(InjectedFault::new(effect.clone()));

        let response = login(&world, &world.code("alice"));

        assert_eq!(response.status, 200, "{effect:?}: {}", response.text());
        world.emulator.clear_faults();
    }
}

#[test]
fn an_answer_that_is_not_wechats_opens_no_session() {
    for effect in [
        Effect::HtmlPage,
        Effect::BadGateway,
        Effect::TruncatedJson,
        Effect::Gzip,
        Effect::HugeBody(ByteSize::kib(65)),
        Effect::ShortSessionKey,
        Effect::Omit(vec!["openid".into()]),
        Effect::Omit(vec!["session_key".into()]),
        Effect::Omit(vec!["openid".into(), "session_key".into()]),
        set("openid", json!("")),
        set("openid", json!(null)),
        set("openid", json!(1)),
        set("openid", json!(["o1"])),
        set("openid", json!("o1\r\nX-Role: admin")),
        set("openid", json!("o1\u{0}")),
        set("openid", json!("o 1")),
        set("openid", json!("wx1:o1")),
        set("openid", json!("ö1")),
        set("openid", json!("o".repeat(129))),
        set("unionid", json!("u\r\nX: y")),
        set("unionid", json!(7)),
        set("session_key", json!("not base64 of 16 bytes")),
        set("session_key", json!(null)),
        set("errcode", json!(true)),
        set("errcode", json!("x")),
        set("errcode", json!(1.5)),
        set("errcode", json!(null)),
        set("errcode", json!([])),
        set("errcode", json!(40029.0)),
    ] {
        let world = World::with(PATIENT_BREAKER);
        world.emulator.inject(InjectedFault::new(effect.clone()));

        let response = login(&world, &world.code("alice"));

        println!("{effect:?}");
        assert_refused(&response, 502, "server_error", "wechat_unexpected");
        assert_eq!(world.exchanges(), 1);
        assert_eq!(wechat_errors(&world, "garbage"), 1.0);
    }
}

#[test]
fn a_code_that_may_be_spent_is_not_sent_to_wechat_again() {
    for effect in [
        Effect::DropBefore,
        Effect::DropAfter,
        Effect::ResetBefore,
        Effect::ResetAfter,
        Effect::TruncatedBody,
    ] {
        let second = Backend::echo();
        let world =
            calling(&format!("'{{emulator}}', 'http://{}'", second.address()), "2s", "{ failures: 99 }");
        // A connection that was good before is no different.
        assert_eq!(login(&world, &world.code("alice")).status, 200);
        world.emulator.inject(InjectedFault::new(effect.clone()));

        let response = login(&world, &world.code("alice"));

        println!("{effect:?}");
        assert_refused(&response, 503, "temporarily_unavailable", "wechat_unreachable");
        assert_eq!(world.exchanges(), 2);
        assert_eq!(second.count(), 0, "the next host was asked about a code that may be spent");
        assert_eq!(wechat_errors(&world, "unreachable"), 1.0);
    }
}

#[test]
fn a_lost_reply_costs_the_code_and_says_so_on_the_next_try() {
    let world = World::new();
    world.emulator.inject(InjectedFault::new(Effect::DropAfter).times(1));
    let code = world.code("alice");

    assert_refused(&login(&world, &code), 503, "temporarily_unavailable", "wechat_unreachable");
    assert_refused(&login(&world, &code), 401, "invalid_grant", "code_already_used");
    assert_eq!(login(&world, &world.code("alice")).status, 200);
}

#[test]
fn a_host_that_accepts_no_connection_is_skipped() {
    let world = calling("'http://127.0.0.1:1', '{emulator}'", "2s", "{ failures: 1 }");

    assert_eq!(login(&world, &world.code("alice")).status, 200);

    assert_eq!(world.exchanges(), 1);
    assert_eq!(wechat_errors(&world, "unreachable"), 1.0);
    assert_eq!(world.metric(r#"menshen_wechat_breaker_state{app="shop"}"#), 0.0, "the exchange succeeded");
}

#[test]
fn an_address_that_wechat_has_retired_is_passed_over() {
    let retired = Backend::with(|_| Reply::ok(br#"{"errcode":48017,"errmsg":"retired"}"#));
    let hosts = format!("'http://{}', '{{emulator}}'", retired.address());
    let world = calling(&hosts, "2s", "{ failures: 1 }");

    for _ in 0..3 {
        assert_eq!(login(&world, &world.code("alice")).status, 200);
    }

    assert_eq!((retired.count(), world.exchanges()), (3, 3));
    assert_eq!(wechat_errors(&world, "48017"), 3.0, "the operator can see it");
}

#[test]
fn an_answer_that_does_not_come_in_time_is_given_up() {
    for effect in [
        Effect::DelayBefore(Span::from_secs(30)),
        Effect::DelayAfter(Span::from_secs(30)),
        Effect::SlowBody("50ms".parse().unwrap()),
    ] {
        let world = calling("'{emulator}'", "300ms", "{ failures: 99 }");
        world.emulator.inject(InjectedFault::new(effect.clone()));
        let started = now();

        let response = login(&world, &world.code("alice"));

        assert_refused(&response, 503, "temporarily_unavailable", "wechat_unreachable");
        assert!(now() - started < Duration::from_secs(10), "{effect:?}");
        assert_eq!(world.exchanges(), 1);
        assert_eq!(wechat_errors(&world, "timeout"), 1.0, "{effect:?}");
    }
}

#[test]
fn retries_of_a_busy_wechat_stay_within_the_one_timeout() {
    let world = calling("'{emulator}'", "1s", "{ failures: 99 }");
    world.emulator.inject(InjectedFault::new(Effect::errcode(-1)));
    world.emulator.inject(InjectedFault::new(Effect::DelayBefore("700ms".parse().unwrap())));
    let started = now();

    let response = login(&world, &world.code("alice"));

    assert_eq!(response.status, 503);
    assert!(now() - started < Duration::from_millis(1900));
    assert!(world.exchanges() <= 2);
}

#[test]
fn failures_in_a_row_open_the_breaker_and_one_success_closes_it() {
    let world = calling("'{emulator}'", "2s", "{ failures: 3, open_for: 5s }");
    let breaker = || world.metric(r#"menshen_wechat_breaker_state{app="shop"}"#);
    world.emulator.inject(InjectedFault::new(Effect::DropBefore));
    for _ in 0..3 {
        assert_eq!(breaker(), 0.0);
        assert_eq!(login(&world, &world.code("alice")).status, 503);
    }

    assert_eq!(breaker(), 2.0);
    world.clock.advance(Duration::from_secs(1));
    let response = login(&world, &world.code("alice"));
    assert_refused(&response, 503, "temporarily_unavailable", "wechat_unreachable");
    assert_eq!(response.header("retry-after"), Some("4"));
    assert_eq!(world.exchanges(), 3, "an open breaker asks nobody");
    assert_eq!(logins(&world, "wechat_unreachable"), 4.0);

    // The one trial fails: open for the whole time again.
    world.clock.advance(Duration::from_secs(4));
    assert_eq!(login(&world, &world.code("alice")).status, 503);
    assert_eq!((world.exchanges(), breaker()), (4, 2.0));

    world.emulator.clear_faults();
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(login(&world, &world.code("alice")).status, 200);
    assert_eq!(breaker(), 0.0);
}

#[test]
fn what_people_do_wrong_never_opens_the_breaker() {
    let world = calling("'{emulator}'", "2s", "{ failures: 1, open_for: 5s }");
    for errcode in [40029, 40163, 40226, 45011] {
        world.emulator.inject(InjectedFault::new(Effect::errcode(errcode)).times(2));
        for _ in 0..2 {
            assert!(login(&world, &world.code("alice")).status < 500);
        }
    }

    assert_eq!(login(&world, &world.code("alice")).status, 200);
    assert_eq!(world.exchanges(), 9);
}

#[test]
fn one_apps_breaker_is_not_anothers() {
    let world = World::with(&format!(
        "
apps:
  one: {{ kind: mini_program, appid: wxe000000000000001, secret: wrong }}
  two: {{ kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }}
{ROUTES}"
    ));
    let sign_in = |app: &str, appid: &str| {
        let code = world.emulator.wx_login(appid, "alice").unwrap();
        world.login_with(&format!(r#"{{"code":"{code}","app":"{app}"}}"#)).status
    };

    assert_eq!(sign_in("one", APPID), 500);
    assert_eq!(sign_in("two", "wxe000000000000002"), 200);
    assert_eq!(sign_in("one", APPID), 500);
    assert_eq!(world.exchanges(), 2);
}

#[test]
fn a_redirect_is_not_followed_with_the_secret() {
    let elsewhere = Backend::echo();
    let location = format!("http://{}/", elsewhere.address());
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let wechat = Backend::with(move |_| Reply::Bytes(answer.clone().into_bytes()));
        let world = calling(&format!("'http://{}'", wechat.address()), "2s", "{ failures: 99 }");

        let response = login(&world, "some-code");

        assert_refused(&response, 502, "server_error", "wechat_unexpected");
        assert_eq!((wechat.count(), elsewhere.count()), (1, 0), "{status}");
    }
}

#[test]
fn the_exchange_is_asked_for_as_wechat_documents_it() {
    let wechat = Backend::with(|_| Reply::ok(br#"{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"o1"}"#));
    let world = calling(&format!("'http://{}'", wechat.address()), "2s", "{ failures: 99 }");

    let response = world.post_login(
        r#"{"code":"some-code"}"#,
        "application/json",
        "Referer: https://x/\r\nCookie: a=b\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 1.2.3.4\r\n",
    );

    assert_eq!(response.json()["openid"], "o1");
    let asked = wechat.last();
    assert_eq!(
        asked.request_line(),
        format!(
            "GET /sns/jscode2session?appid={APPID}&secret=emulator-secret-1&js_code=some-code&grant_type=authorization_code HTTP/1.1"
        )
    );
    for name in ["Referer", "Cookie", "Authorization", "X-Forwarded-For", "User-Agent"] {
        assert!(asked.header(name).is_empty(), "{name}: nothing of the client's goes to WeChat");
    }
}
