//! `POST /auth/login`: every way it can end, through a WeChat that speaks its real replies.

mod body;
mod life;
mod replay;
mod session;
mod wire;

use menshen::emulator::{Effect, InjectedFault};

use crate::common::{APPID, Response, World};

/// A world whose breaker stays out of the way.
const PATIENT_BREAKER: &str = "
wechat: { hosts: ['{emulator}'], breaker: { failures: 1000, open_for: 1s } }
routes:
  - { path: /, access: authenticated, upstream: backend }
throttle:
  login: { rate: 1000000/s, burst: 1000000 }
  wechat: { rate: 1000000/s, burst: 1000000 }
";

fn login(world: &World, code: &str) -> Response {
    world.login_with(&format!(r#"{{"code":"{code}"}}"#))
}

/// How many logins ended so, by the metric.
fn logins(world: &World, outcome: &str) -> f64 {
    world.metric(&format!(
        r#"menshen_logins_total{{flow="mini_program",outcome="{outcome}",provider="wechat"}}"#
    ))
}

fn wechat_errors(world: &World, label: &str) -> f64 {
    world.metric(&format!(r#"menshen_wechat_errors_total{{app="shop",errcode="{label}"}}"#))
}

/// RFC 6749 §5.2 with our `code` and `request_id`, and nothing else.
#[track_caller]
fn assert_refused(response: &Response, status: u16, error: &str, code: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_not_stored(response);
    let document = response.json();
    assert_eq!(members(&document), ["error", "error_description", "code", "request_id"]);
    assert_eq!((document["error"].as_str(), document["code"].as_str()), (Some(error), Some(code)));
    assert!(!document["error_description"].as_str().unwrap().is_empty());
    assert_eq!(document["request_id"].as_str(), response.header("x-request-id"));
    assert_eq!(response.header("www-authenticate").is_some(), status == 401);
    assert_eq!(response.header("retry-after").is_some(), matches!(status, 429 | 503), "Retry-After");
}

/// The names of an object's members, in order.
fn members(document: &serde_json::Value) -> Vec<&str> {
    document.as_object().unwrap().keys().map(String::as_str).collect()
}

#[track_caller]
fn assert_not_stored(response: &Response) {
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("pragma"), Some("no-cache"));
}

#[test]
fn a_code_becomes_a_token_whether_it_comes_as_json_or_as_a_form() {
    let world = World::new();
    for (content_type, write) in [
        ("application/json", (|code| format!(r#"{{"code":"{code}"}}"#)) as fn(&str) -> String),
        ("application/json; charset=utf-8", |code| format!(r#"{{"app":"shop","code":"{code}"}}"#)),
        ("Application/JSON", |code| format!(r#" {{"code":"{code}","nickname":"爱丽丝"}} "#)),
        ("application/x-www-form-urlencoded", |code| format!("code={code}")),
        ("application/x-www-form-urlencoded", |code| format!("app=shop&code={code}&from=x+y%2F")),
    ] {
        let response = world.post_login(&write(&world.code("alice")), content_type, "");

        assert_eq!(response.status, 200, "{content_type}: {}", response.text());
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_not_stored(&response);
        let document = response.json();
        assert_eq!(document["token_type"], "Bearer");
        // To the second: what is left of the token's life, never more.
        assert!((7199..=7200).contains(&document["expires_in"].as_u64().unwrap()));
        assert_eq!(document["openid"], world.emulator.openid(APPID, "alice"));
        let token = document["access_token"].as_str().unwrap();
        assert_eq!(world.get("/x", &format!("Authorization: Bearer {token}\r\n")).status, 200);
    }
    assert_eq!(world.exchanges(), 5);
    assert_eq!(logins(&world, "ok"), 5.0);
}

#[test]
fn unionid_is_there_exactly_where_wechat_gives_one() {
    let world = World::with(
        "
apps:
  bound: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  unbound: { kind: mini_program, appid: wxe000000000000003, secret: emulator-secret-3 }
routes:
  - { path: /, access: authenticated, upstream: backend }
",
    );
    let sign_in = |app: &str, appid: &str| {
        let code = world.emulator.wx_login(appid, "alice").unwrap();
        world.login_with(&format!(r#"{{"code":"{code}","app":"{app}"}}"#)).json()
    };

    let bound = sign_in("bound", APPID);
    let unbound = sign_in("unbound", "wxe000000000000003");

    assert_eq!(
        members(&bound),
        ["access_token", "token_type", "expires_in", "refresh_token", "openid", "unionid"]
    );
    assert_eq!(bound["unionid"], world.emulator.unionid(APPID, "alice").unwrap());
    assert_eq!(members(&unbound), ["access_token", "token_type", "expires_in", "refresh_token", "openid"]);
}

#[test]
fn an_app_must_be_named_where_there_are_several_and_must_be_one_of_them() {
    let world = World::with(
        "
apps:
  one: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  two: { kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }
routes:
  - { path: /, access: authenticated, upstream: backend }
",
    );
    let code = world.code("alice");

    assert_refused(&login(&world, &code), 400, "invalid_request", "app_missing");
    for app in ["three", "", "One", "wxe000000000000009", "WXE000000000000001", "one "] {
        let response = world.login_with(&format!(r#"{{"code":"{code}","app":"{app}"}}"#));
        assert_refused(&response, 400, "invalid_client", "app_unknown");
    }
    assert_eq!(world.exchanges(), 0);
    // The code of one app is no code of another, and is not spent by the attempt.
    let response = world.login_with(&format!(r#"{{"code":"{code}","app":"two"}}"#));
    assert_refused(&response, 401, "invalid_grant", "code_invalid");
    let response = world.login_with(&format!(r#"{{"code":"{code}","app":"one"}}"#));
    assert_eq!(response.status, 200);
    // White-label mini programs know only their appid.
    let code = world.code("bob");
    let response = world.login_with(&format!(r#"{{"code":"{code}","app":"wxe000000000000001"}}"#));
    assert_eq!(response.status, 200);
}

#[test]
fn every_errcode_has_its_own_answer() {
    for (errcode, status, error, code, retry_after, asked) in [
        (-1, 503, "temporarily_unavailable", "wechat_busy", Some("1"), 3),
        (40029, 401, "invalid_grant", "code_invalid", None, 1),
        (40163, 401, "invalid_grant", "code_already_used", None, 1),
        (40226, 403, "access_denied", "user_blocked", None, 1),
        (50002, 403, "access_denied", "user_blocked", None, 1),
        (45011, 429, "temporarily_unavailable", "throttled", Some("60"), 1),
        (45009, 503, "temporarily_unavailable", "wechat_quota_exhausted", Some("600"), 1),
        (40013, 500, "server_error", "app_misconfigured", None, 1),
        (40125, 500, "server_error", "app_misconfigured", None, 1),
        (40243, 500, "server_error", "app_misconfigured", None, 1),
        (48001, 500, "server_error", "app_misconfigured", None, 1),
        (40002, 502, "server_error", "wechat_unexpected", None, 1),
        (41002, 502, "server_error", "wechat_unexpected", None, 1),
        (41004, 502, "server_error", "wechat_unexpected", None, 1),
        (41008, 502, "server_error", "wechat_unexpected", None, 1),
        (48017, 503, "temporarily_unavailable", "wechat_unreachable", Some("5"), 1),
        (99999, 502, "server_error", "wechat_unexpected", None, 1),
    ] {
        for as_text in [false, true] {
            let world = World::with(PATIENT_BREAKER);
            world.emulator.inject(InjectedFault::new(Effect::errcode(errcode)));
            if as_text {
                world.emulator.inject(InjectedFault::new(Effect::ErrcodeAsText));
            }

            let response = login(&world, &world.code("alice"));

            assert_refused(&response, status, error, code);
            assert_eq!(response.header("retry-after"), retry_after, "{errcode}");
            assert_eq!(world.exchanges(), asked, "{errcode}");
            assert_eq!(logins(&world, code), 1.0, "{errcode}");
            let label = if errcode == 99999 { "other".to_owned() } else { errcode.to_string() };
            assert_eq!(wechat_errors(&world, &label), asked as f64, "{errcode}");
        }
    }
}

#[test]
fn codes_that_wechat_itself_refuses_are_refused_in_its_sense() {
    use menshen::emulator::CodeState;

    let world = World::new();
    for (person, state, status, error, code) in [
        ("alice", CodeState::Used, 401, "invalid_grant", "code_already_used"),
        ("alice", CodeState::Expired, 401, "invalid_grant", "code_invalid"),
        ("mallory", CodeState::Fresh, 403, "access_denied", "user_blocked"),
    ] {
        let response = login(&world, &world.emulator.wx_login_as(APPID, person, state).unwrap());

        assert_refused(&response, status, error, code);
    }
    let phone_code = &world.emulator.phone_code(APPID, "alice").unwrap();
    assert_refused(&login(&world, phone_code), 401, "invalid_grant", "code_invalid");
    assert_eq!(world.exchanges(), 4);
}

#[test]
fn a_busy_wechat_is_asked_again_at_most_twice_and_the_code_is_not_lost() {
    let world = World::new();
    world.emulator.inject(InjectedFault::new(Effect::errcode(-1)).times(2));

    assert_eq!(login(&world, &world.code("alice")).status, 200);
    assert_eq!(world.exchanges(), 3);

    world.emulator.inject(InjectedFault::new(Effect::errcode(-1)).times(3));
    let code = world.code("bob");
    assert_refused(&login(&world, &code), 503, "temporarily_unavailable", "wechat_busy");
    assert_eq!(world.exchanges(), 6);
    assert_eq!(login(&world, &code).status, 200, "the code is good still");
}

#[test]
fn a_misconfigured_app_is_not_tried_on_until_its_breaker_lets_one_through() {
    let world = World::with(
        "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: a-wrong-secret }
wechat: { hosts: ['{emulator}'], breaker: { failures: 10, open_for: 5s } }
routes:
  - { path: /, access: authenticated, upstream: backend }
",
    );
    let breaker = || world.metric(r#"menshen_wechat_breaker_state{app="shop"}"#);

    for _ in 0..3 {
        assert_refused(&login(&world, &world.code("alice")), 500, "server_error", "app_misconfigured");
    }
    assert_eq!(world.exchanges(), 1);
    assert_eq!(breaker(), 2.0);
    assert_eq!(logins(&world, "app_misconfigured"), 3.0);

    world.emulator.reset_secret(APPID, "a-wrong-secret").unwrap();
    world.clock.advance(std::time::Duration::from_secs(5));
    assert_eq!(login(&world, &world.code("alice")).status, 200);
    assert_eq!(breaker(), 0.0);
}

#[test]
fn only_post_signs_in_and_nothing_below_the_prefix_is_forwarded() {
    let world = World::new();
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let response = world.send(&format!("{method} /auth/login HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        assert_eq!(response.status, 405, "{method}");
        assert_eq!(response.header("allow"), Some("POST"), "{method}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{method}");
    }
    for path in ["/auth", "/auth/", "/auth/login/", "/auth/logins", "/auth/LOGIN", "/auth/sessions"] {
        let response = world.get(path, &world.bearer("alice"));
        assert_eq!(
            (response.status, response.json()["code"].as_str()),
            (404, Some("endpoint_unknown")),
            "{path}"
        );
    }
    assert_eq!(world.backend.count(), 0);
    // `/authors` is not below `/auth`.
    assert_eq!(world.get("/authors", &world.bearer("alice")).status, 200);
}

#[test]
fn whatever_else_a_login_says_of_itself_only_the_code_counts() {
    let world = World::new();
    let code = world.code("alice");

    let response = world.login_with(&format!(
        r#"{{"code":"{code}","openid":"o-victim","unionid":"u-victim","session_key":"x","access_token":"y"}}"#
    ));

    assert_eq!(response.json()["openid"], world.emulator.openid(APPID, "alice"));
    let response = world.login_with(r#"{"openid":"o-victim","access_token":"y"}"#);
    assert_refused(&response, 400, "invalid_request", "request_malformed");
}
