//! A gateway whose Redis does not answer: what a client with a token gets, and that no user is
//! taken for another.

use std::time::Duration;

use serde_json::json;

use crate::common::redis::RedisServer;
use crate::common::{NO_THROTTLE, Response, World, eventually};
use crate::proxying::logged;
use crate::websocket::{echo, open, switching};

const ROUTES: &str = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: optional, path: /opt, access: optional, upstream: backend }
  - { name: public, path: /pub, access: public, upstream: backend }
  - { name: old, path: /old, access: authenticated, upstream: backend, reject: code_200 }
  - { name: old-optional, path: /old-opt, access: optional, upstream: backend, reject: code_200 }
  - { name: socket, path: /ws, access: authenticated, upstream: backend, websocket: true }
";

fn sections(redis: &RedisServer) -> String {
    let address = redis.address();
    format!(
        "{ROUTES}{NO_THROTTLE}
tokens: {{ keys: [{{ kid: test, algorithm: HS256, secret: 0123456789abcdef0123456789abcdef }}] }}
sessions: {{ recheck_after: 1s }}
store: {{ engine: redis, redis: {{ addresses: ['{address}'] }} }}
"
    )
}

fn await_store(world: &World) {
    eventually("the store answers", || world.metric("menshen_store_available") == 1.0);
}

fn is_unavailable(response: &Response) -> bool {
    let is_told_when = response.header("retry-after").is_some();
    is_told_when && (response.status, &response.json()["code"]) == (503, &json!("store_unavailable"))
}

#[test]
fn a_token_whose_session_cannot_be_looked_up_is_neither_accepted_nor_ignored() {
    let redis = RedisServer::start();
    let world = World::with(&sections(&redis));
    await_store(&world);
    let (bearer, other) = (world.bearer("alice"), world.bearer("bob"));
    let (rest, signature) = bearer.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{rest}.{first}{}", &signature[1..]);
    redis.pause();

    for path in ["/page", "/opt"] {
        let response = world.get(path, &bearer);
        assert!(is_unavailable(&response), "{path}: {} {}", response.status, response.text());
        assert_eq!(response.header("www-authenticate"), None, "nobody is told that the token is bad");
    }
    for path in ["/old", "/old-opt"] {
        let response = world.get(path, &bearer);
        assert_eq!((response.status, &response.json()["code"]), (200, &json!(503)), "{path}");
        assert_eq!(response.json()["message"], "store_unavailable");
        assert!(response.header("retry-after").is_some());
    }
    assert_eq!(logged(&world, "/opt")["reason"], "store_unavailable");
    for path in ["/page", "/opt"] {
        assert_eq!(world.get(path, &forged).status, 401, "{path}: a forgery needs no store");
    }
    assert_eq!(world.backend.count(), 0, "a request with a token was forwarded");
    for (path, headers) in [("/opt", ""), ("/pub", ""), ("/pub", &*bearer)] {
        assert_eq!(world.get(path, headers).status, 200, "{path}: nobody needs to be known");
        assert_eq!(world.backend.last().folded("x-wx-openid"), Vec::<String>::new());
    }

    redis.resume();
    for bearer in [&bearer, &other] {
        eventually("who is signed in is let in again", || world.get("/opt", bearer).status == 200);
        assert_eq!(world.backend.last().folded("x-wx-openid").len(), 1);
    }
}

#[test]
fn a_browser_whose_session_cannot_be_looked_up_gets_an_error_page() {
    let redis = RedisServer::start();
    let apps = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  site: { kind: website, appid: wxe000000000000004, secret: emulator-secret-4 }
login: { origins: ['https://gateway.test'] }
";
    let world = World::with(&format!("{}{apps}", sections(&redis)));
    await_store(&world);
    let bearer = world.bearer("alice");
    redis.pause();

    for path in ["/page?a=1", "/opt", "/old"] {
        let response = world.get(path, &format!("Accept: text/html\r\n{bearer}"));

        assert_eq!((response.status, response.header("location")), (503, None), "{path}");
        assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert!(response.header("retry-after").is_some(), "{path}");
        assert!(response.text().contains(&format!("href=\"{path}\"")), "{path}: {}", response.text());
    }
    assert!(is_unavailable(&world.get("/page", &bearer)), "a program is told in its own words");
    assert_eq!(logged(&world, "/page")["reason"], "store_unavailable");
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_logout_or_refresh_that_the_store_does_not_confirm_is_no_success() {
    let redis = RedisServer::start();
    let world = World::with(&sections(&redis));
    await_store(&world);
    let login = world.login_with(&json!({ "code": world.code("alice") }).to_string()).json();
    let bearer = format!("Authorization: Bearer {}\r\n", login["access_token"].as_str().unwrap());
    let refresh_token = json!({ "refresh_token": login["refresh_token"] });
    let post = |path: &str, headers: &str, body: &str| {
        world.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    assert_eq!(world.get("/page", &bearer).status, 200);
    redis.pause();

    for (path, headers, body) in [
        ("/auth/logout", &*bearer, "{}".to_owned()),
        ("/auth/logout", &bearer, json!({ "everywhere": true }).to_string()),
        ("/auth/logout", "", refresh_token.to_string()),
        ("/auth/refresh", "", refresh_token.to_string()),
    ] {
        let response = post(path, headers, &body);
        assert!(is_unavailable(&response), "{path} {body}: {} {}", response.status, response.text());
    }
    assert!(is_unavailable(&world.get("/auth/session", &bearer)));

    // A request during the outage may have been done or not; the second request succeeds.
    redis.resume();
    await_store(&world);
    eventually("the logout succeeds, or is seen to have succeeded", || {
        [204, 401].contains(&post("/auth/logout", &bearer, r#"{"everywhere":true}"#).status)
    });
    assert_eq!(world.get("/page", &bearer).status, 401);
    assert_eq!(post("/auth/refresh", "", &refresh_token.to_string()).status, 401);
}

#[test]
fn a_tunnel_outlasts_a_short_outage_of_the_store_but_not_a_long_one() {
    let redis = RedisServer::start();
    let world = World::with_backend(switching(echo), &sections(&redis));
    await_store(&world);
    let bearer = world.bearer("alice");
    let mut client = open(&world, "/ws/x", &bearer);

    redis.pause();
    std::thread::park_timeout(Duration::from_millis(500));
    redis.resume();
    await_store(&world);
    client.write(b"hello");
    assert_eq!(client.read_exact(5), b"hello");

    redis.pause();
    assert!(client.is_closed());
    let line = logged(&world, "/ws/x");
    assert_eq!((&line["decision"], &line["reason"]), (&"refused".into(), &"store_unavailable".into()));
    redis.resume();
}
