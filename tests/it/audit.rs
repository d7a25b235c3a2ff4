//! The audit log of a real gateway: each event once, in the right words, and nothing that is
//! secret.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::common::client::ask_control;
use crate::common::{NO_THROTTLE, Response, World, eventually};
use crate::process::Process;
use crate::websocket::{echo, open, switching};

const SECTIONS: &str = "
routes:
  - { name: staff, path: /staff, access: authenticated, allow_lists: [staff], upstream: backend }
  - { name: old, path: /old, access: authenticated, reject: code_200, upstream: backend }
  - { name: socket, path: /ws, access: authenticated, upstream: backend, websocket: true }
  - { name: public, path: /pub, access: public, upstream: backend }
  - { name: site, path: /, access: authenticated, upstream: backend }
lists: { staff: { members: [nobody] } }
telemetry:
  access_log: { target: file, file: '{data}/access.log' }
  audit_log: { file: '{data}/audit.log' }
";

fn world() -> World {
    World::with_backend(switching(echo), &format!("{SECTIONS}{NO_THROTTLE}"))
}

/// The lines there are, once there are so many.
fn lines(world: &World, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    eventually(&format!("{count} lines are written"), || {
        let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
        lines = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.len() >= count
    });
    lines
}

fn sign_in(world: &World, person: &str) -> Value {
    let response = world.login_with(&json!({ "code": world.code(person) }).to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn post(world: &World, path: &str, headers: &str, body: &Value) -> Response {
    let body = body.to_string();
    world.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn refresh(world: &World, login: &Value) -> Response {
    post(world, "/auth/refresh", "", &json!({ "refresh_token": login["refresh_token"] }))
}

fn bearer(login: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", login["access_token"].as_str().unwrap())
}

fn ask(world: &World, request_line: &str, body: &str) -> Response {
    ask_control(world.control_socket(), request_line, body)
}

/// Event, outcome, route, app and scope of a line; `-` for what is not there.
fn summary(line: &Value) -> String {
    let word = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
    ["event", "outcome", "http.route", "app", "scope"].map(word).join(" ")
}

#[test]
fn each_event_is_logged_once_in_the_documented_words() {
    let world = world();
    let alice = sign_in(&world, "alice");
    let code = world.code("bob");
    world.login_with(r#"{"code":"made-up"}"#);
    world.login_with("{");
    let second = refresh(&world, &alice).json();
    refresh(&world, &second);
    assert_eq!(refresh(&world, &alice).status, 401);
    assert_eq!(world.get("/x", "").status, 401);
    assert_eq!(world.get("/x", &bearer(&alice)).status, 401);
    let alice = sign_in(&world, "alice");
    assert_eq!(world.get("/staff", &bearer(&alice)).status, 403);
    assert_eq!(world.get("/old", "").status, 200);
    assert_eq!(world.get("/auth/session", "").status, 401);
    let mut tunnel = open(&world, "/ws", &bearer(&alice));
    assert_eq!(post(&world, "/auth/logout", &bearer(&alice), &json!({})).status, 204);
    assert!(tunnel.is_closed());
    let openid = alice["openid"].as_str().unwrap();
    ask(&world, &format!("GET /sessions?app=shop&openid={openid}"), "");
    ask(&world, "POST /sessions/revoke", &json!({ "app": "shop", "openid": openid }).to_string());
    ask(&world, "POST /sessions/revoke", r#"{"app":"shop","all":true}"#);
    ask(&world, "POST /sessions/revoke", r#"{"session":"made-up"}"#);
    // A request that concerns no known user leaves no line, refused or not.
    let bob = world.login_with(&json!({ "code": code }).to_string()).json();
    assert_eq!(world.get("/x", &bearer(&bob)).status, 200);
    assert_eq!(world.get("/pub", "").status, 200);
    assert_eq!(world.get("/.well-known/jwks.json", "").status, 200);
    assert_eq!(world.get("/auth/nothing", "").status, 404);
    assert_eq!(refresh(&world, &bob).status, 200);
    assert_eq!(world.get("/a/../b", "").status, 400);
    sign_in(&world, "carol");

    let lines = lines(&world, 13);

    let mut found: Vec<String> = lines.iter().map(summary).collect();
    let mut expected = vec![
        "login ok - shop -",
        "login code_invalid - shop -",
        "refresh refresh_token_reused - shop -",
        "login ok - shop -",
        "refusal not_on_list staff shop -",
        "logout logged_out - shop -",
        "tunnel_closed session_ended socket shop -",
        "listing ok - shop subject",
        "revocation ok - shop subject",
        "revocation ok - shop app",
        "revocation ok - - session",
        "login ok - shop -",
        "login ok - shop -",
    ];
    // The end of the tunnel may be told before the logout that ends it.
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap().clone();
    let hash = of("login")["user.hash"].clone();
    assert!(hash.is_string());
    for event in ["refresh", "logout", "tunnel_closed", "listing"] {
        assert_eq!(of(event)["user.hash"], hash, "{event}");
    }
    let denied = lines.iter().find(|line| line["outcome"] == "not_on_list").unwrap();
    assert_eq!((&denied["user.hash"], &denied["client.address"]), (&hash, &json!("127.0.0.1")));
    assert_eq!(of("listing")["session.count"], 0);
    assert!(of("listing").get("client.address").is_none());
    assert_eq!(of("listing")["door"], "control");
    let own = fs::metadata(world.data.path()).unwrap().uid();
    assert_eq!(of("listing")["caller"], format!("uid:{own}"));
    assert!(of("listing").get("request_id").is_none());
    // Which has its line only when the request is over.
    for line in lines.iter().filter(|line| line.get("scope").is_none()) {
        eventually(&format!("{line} has a line in the access log"), || {
            let access = fs::read_to_string(world.data.path().join("access.log")).unwrap();
            access.contains(line["request_id"].as_str().unwrap())
        });
    }

    let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
    let secrets = ["access_token", "refresh_token", "openid", "unionid"];
    for secret in secrets.iter().flat_map(|key| [&alice[*key], &bob[*key]]).filter_map(Value::as_str) {
        assert!(!log.contains(secret), "{secret}");
    }
    assert!(!log.contains(&code));
    assert_eq!(world.metric("menshen_audit_log_dropped_lines_total"), 0.0);
}

#[test]
fn clients_that_are_not_known_do_not_fill_the_log() {
    let world = world();
    let alice = sign_in(&world, "alice");
    for _ in 0..20 {
        world.login_with("{");
        world.login_with(r#"{"app":"nothing","code":"x"}"#);
        world.post_login("x", "text/plain", "");
        world.get("/auth/web/shop/callback?state=made-up&code=x", "");
        world.get("/auth/session", "");
        world.get("/auth/session", "Authorization: Bearer made-up\r\n");
        world.get("/x", "Authorization: Bearer made-up\r\n");
        world.get("/x", "Cookie: __Host-menshen_session=made-up\r\n");
        post(&world, "/auth/refresh", "", &json!({}));
        post(&world, "/auth/logout", "", &json!({}));
    }
    assert_eq!(post(&world, "/auth/logout", &bearer(&alice), &json!({})).status, 204);

    let lines = lines(&world, 2);

    let found: Vec<String> = lines.iter().map(summary).collect();
    assert_eq!(found, ["login ok - shop -", "logout logged_out - shop -"]);
}

#[test]
fn whose_refresh_token_was_stolen_and_who_signed_out_with_one_is_in_the_log() {
    let world = world();
    let spent = sign_in(&world, "alice");
    let next = refresh(&world, &spent).json();
    let thief = post(
        &world,
        "/auth/refresh",
        "User-Agent: thief\r\n",
        &json!({ "refresh_token": spent["refresh_token"] }),
    );
    assert_eq!((thief.status, thief.json()["code"].as_str()), (401, Some("refresh_token_invalid")));
    assert!(!thief.text().contains(spent["openid"].as_str().unwrap()));
    let by_token = json!({ "refresh_token": next["refresh_token"] });
    assert_eq!(post(&world, "/auth/logout", "", &by_token).status, 204);

    let lines = lines(&world, 3);

    let found: Vec<String> = lines.iter().map(summary).collect();
    assert_eq!(
        found,
        ["login ok - shop -", "refresh refresh_token_of_another - shop -", "logout logged_out - shop -"]
    );
    assert!(lines.iter().all(|line| line["user.hash"].is_string()));
    assert!(lines.iter().all(|line| line["user.hash"] == lines[0]["user.hash"]), "{lines:?}");
}

#[test]
fn a_blocked_person_is_named_where_they_are_refused() {
    let world = world();
    let alice = sign_in(&world, "alice");
    let person = json!({ "app": "shop", "openid": alice["openid"] }).to_string();
    assert_eq!(ask(&world, "POST /people/block", &person).status, 200);

    assert_eq!(world.get("/x", &bearer(&alice)).status, 403);

    let lines = lines(&world, 3);
    let found: Vec<String> = lines.iter().map(summary).collect();
    assert_eq!(found, ["login ok - shop -", "block ok - shop subject", "refusal blocked site shop -"]);
    let hashes: Vec<&Value> = lines.iter().map(|line| &line["user.hash"]).collect();
    assert!(hashes[0].is_string() && hashes[0] == hashes[1] && hashes[0] == hashes[2], "{lines:?}");
}

#[test]
fn a_new_file_is_opened_on_sighup_after_the_old_one_was_moved() {
    let mut world = world();
    let node = Process::like(&world);
    world.stop();
    let (path, moved) =
        (node.config().with_file_name("audit.log"), node.config().with_file_name("audit.log.1"));
    let login = |code: &str| {
        let body = json!({ "code": code }).to_string();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(node.connect().send(request.as_bytes()).status, 200);
    };
    let text = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default();
    let count = |path: &std::path::Path| text(path).lines().count();
    login(&world.code("alice"));
    eventually("the first line is written", || count(&path) == 1);

    fs::rename(&path, &moved).unwrap();
    node.signal("HUP");
    eventually("the reload is written", || count(&path) == 1);
    login(&world.code("bob"));

    eventually("the second login is written", || count(&path) == 2);
    let reload = text(&path).lines().next().unwrap().to_owned();
    assert!(reload.ends_with(r#""event":"reload","outcome":"ok","door":"signal"}"#), "{reload}");
    assert_eq!(count(&moved), 1);
    assert!(node.stderr().contains("opened audit log"), "{}", node.stderr());
}
