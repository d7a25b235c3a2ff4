//! What operations sees of a request and of a login: every metric moves, and the access log names
//! who it was.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;

use menshen::authn::AuthnError;

use crate::common::{World, eventually};

/// A route that leads nowhere, an app with a wrong secret, and limits that a few requests reach.
const SECTIONS: &str = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  broken: { kind: mini_program, appid: wxe000000000000002, secret: a-wrong-secret }
upstreams:
  backend: { servers: ['{backend}'] }
  dead: { servers: ['127.0.0.1:1'] }
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: dead, path: /dead, access: public, upstream: dead }
throttle:
  login: { rate: 1/h, burst: 1 }
limits: { header_timeout: 200ms }
";

fn log_in(world: &World, app: &str, code: &str) -> u16 {
    world.login_with(&format!(r#"{{"app":"{app}","code":"{code}"}}"#)).status
}

#[test]
fn every_metric_moves_when_what_it_counts_happens() {
    let world = World::with(SECTIONS);

    let login = world.login_with(&format!(r#"{{"app":"shop","code":"{}"}}"#, world.code("alice")));
    let bearer = format!("Authorization: Bearer {}\r\n", login.json()["access_token"].as_str().unwrap());
    assert_eq!([log_in(&world, "broken", "any"), log_in(&world, "shop", "made-up")], [500, 401]);
    assert_eq!(log_in(&world, "shop", "one-too-many"), 429);
    let mut kept = world.connect();
    let signed_in = format!("GET / HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n");
    let forged = format!("GET / HTTP/1.1\r\nHost: gateway.test\r\nX-WX-OPENID: mallory\r\n{bearer}\r\n");
    assert_eq!([kept.send(signed_in.as_bytes()).status, kept.send(forged.as_bytes()).status], [200, 200]);
    assert_eq!(world.get("/", "").status, 401);
    assert_eq!(world.get("/dead", "").status, 502);
    let mut idle = TcpStream::connect(world.address()).unwrap();
    idle.read_to_end(&mut Vec::new()).unwrap();
    fs::write(world.data.path().join("menshen.yaml"), "no: configuration").unwrap();
    world.gateway().reload().unwrap_err();

    for (series, expected) in [
        (r#"menshen_http_requests_total{code="200",method="GET",route="protected"}"#, 2.0),
        (r#"menshen_http_requests_total{code="502",method="GET",route="dead"}"#, 1.0),
        (r#"menshen_http_requests_total{code="429",method="POST",route=""}"#, 1.0),
        (r#"menshen_http_request_duration_seconds_count{route="protected"}"#, 3.0),
        (r#"menshen_refused_requests_total{reason="no_token"}"#, 1.0),
        (r#"menshen_refused_requests_total{reason="upstream_unreachable"}"#, 1.0),
        (r#"menshen_refused_requests_total{reason="throttled"}"#, 1.0),
        (r#"menshen_upstream_request_duration_seconds_count{upstream="backend"}"#, 2.0),
        (r#"menshen_upstream_failures_total{reason="upstream_unreachable",upstream="dead"}"#, 1.0),
        ("menshen_identity_headers_stripped_total", 1.0),
        (r#"menshen_rejected_connections_total{reason="header_timeout"}"#, 1.0),
        (r#"menshen_logins_total{flow="mini_program",outcome="ok",provider="wechat"}"#, 1.0),
        (r#"menshen_logins_total{flow="mini_program",outcome="throttled",provider="wechat"}"#, 1.0),
        (r#"menshen_login_duration_seconds_count{app="shop"}"#, 2.0),
        (r#"menshen_login_duration_seconds_count{app="broken"}"#, 1.0),
        (r#"menshen_wechat_request_duration_seconds_count{api="jscode2session",app="shop"}"#, 2.0),
        (r#"menshen_wechat_errors_total{app="shop",errcode="40029"}"#, 1.0),
        (r#"menshen_wechat_errors_total{app="broken",errcode="40125"}"#, 1.0),
        (r#"menshen_wechat_breaker_state{app="shop"}"#, 0.0),
        (r#"menshen_wechat_breaker_state{app="broken"}"#, 2.0),
        (r#"menshen_throttled_total{limit="login"}"#, 1.0),
        (r#"menshen_token_verifications_total{outcome="valid"}"#, 2.0),
        ("menshen_token_cache_hits_total", 1.0),
        ("menshen_token_cache_misses_total", 1.0),
        ("menshen_token_cache_entries", 1.0),
        ("menshen_watched_tunnels", 0.0),
        ("menshen_access_log_dropped_lines_total", 0.0),
        ("menshen_config_last_reload_successful", 0.0),
        (concat!("menshen_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        // Some are counted just after the answer.
        eventually(&format!("{series} is {expected}"), || {
            let metrics = world.metrics();
            let value =
                metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
            value == Some(expected)
        });
    }
    assert!(world.metric("menshen_config_last_reload_success_timestamp_seconds") > 0.0);
    eventually("the connection kept alive alone is open", || world.metric("menshen_open_connections") == 1.0);
    drop(kept);
    eventually("its end is counted", || world.metric("menshen_open_connections") == 0.0);
}

#[test]
fn a_login_and_the_calls_after_it_name_the_same_person_in_the_access_log() {
    let world = World::new();

    let bearer = world.bearer("alice");
    world.get("/before", &bearer);
    world.gateway().reload().unwrap();
    world.get("/after", &bearer);
    world.login_with(r#"{"code":"made-up"}"#);

    let mut lines = Vec::new();
    eventually("four lines are written", || {
        let log = fs::read_to_string(world.data.path().join("access.log")).unwrap();
        lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
        lines.len() == 4
    });
    let alice = lines[0]["user.hash"].as_str().expect("a login has a person").to_owned();
    for (line, path) in lines.iter().zip(["/auth/login", "/before", "/after"]) {
        assert_eq!((line["url.path"].as_str(), line["app"].as_str()), (Some(path), Some("shop")), "{line}");
        assert_eq!(line["user.hash"], *alice, "{line}");
    }
    assert_eq!((lines[3]["app"].as_str(), lines[3].get("user.hash")), (Some("shop"), None), "{}", lines[3]);
}

#[test]
fn every_reason_to_refuse_a_token_is_explained() {
    let document = fs::read_to_string("docs/request-log.md").unwrap();

    for refusal in AuthnError::ALL {
        assert!(document.contains(&format!("`{}`", refusal.reason())), "{refusal:?}");
    }
}
