//! Bindings to users of the business: what backends receive, and what routes require.

use std::fs;

use serde_json::{Value, json};

use crate::common::site::SESSION;
use crate::common::{
    APPID, NO_THROTTLE, PATIENCE, Recorded, Response, Site, Visitor, World, client, eventually,
};
use crate::process::{self, Process};
use crate::proxying::logged;
use crate::websocket::{echo, open, switching};

const ROUTES: &str = "
routes:
  - { name: bound, path: /bound, access: authenticated, require_user: true, upstream: backend }
  - { name: edit, path: /edit, access: optional, require_claims: { role: [editor, admin], level: ['3'] }, upstream: backend }
  - { name: old, path: /old, access: authenticated, require_user: true, reject: code_200, upstream: backend }
  - { name: public, path: /pub, access: public, upstream: backend }
  - { name: socket, path: /ws, access: authenticated, upstream: backend, websocket: true }
  - { name: editing, path: /ws/edit, access: authenticated, require_claims: { role: [editor] }, upstream: backend, websocket: true }
  - { name: site, path: /, access: authenticated, upstream: backend }
";
const LOGS: &str = "
telemetry:
  access_log: { target: file, file: '{data}/access.log' }
  audit_log: { file: '{data}/audit.log' }
";

fn world() -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}{LOGS}"))
}

fn sign_in(world: &World, person: &str) -> Value {
    let response = world.login_with(&json!({ "code": world.code(person) }).to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn bearer(login: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", login["access_token"].as_str().unwrap())
}

fn visit(world: &World, path: &str, login: &Value) -> Response {
    world.get(path, &bearer(login))
}

fn subject(login: &Value) -> Value {
    json!({ "app": "shop", "openid": login["openid"] })
}

/// Whether anything changed.
fn bind(world: &World, who: &Value, user: &str, claims: Value) -> bool {
    let mut body = who.clone();
    body["user"] = json!(user);
    body["claims"] = claims;
    let answer = world.control("POST /people/bind", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["changed"].as_bool().unwrap()
}

fn unbind(world: &World, who: &Value) -> bool {
    let answer = world.control("POST /people/unbind", who);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["changed"].as_bool().unwrap()
}

/// Every value that the backend could read as the user's id.
fn forwarded_users(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    Recorded { head: response.text(), body: Vec::new() }.folded("X-WX-USER-ID")
}

fn assert_denied(response: &Response, reason: &str) {
    assert_eq!(response.status, 403, "{}", response.text());
    assert_eq!(response.json()["code"], reason);
}

#[test]
fn a_route_that_requires_a_user_permits_bound_people() {
    let world = world();
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));
    let mut kept_alive = world.connect();
    let request = format!("GET /bound HTTP/1.1\r\nHost: gateway.test\r\n{}\r\n", bearer(&alice));
    assert_denied(&kept_alive.send(request.as_bytes()), "user_unbound");
    assert_denied(&visit(&world, "/edit", &alice), "claim_missing");
    let old = visit(&world, "/old", &alice).json();
    assert_eq!((&old["code"], &old["message"]), (&json!(403), &json!("user_unbound")));
    assert_eq!(world.get("/bound", "").status, 401);
    assert_eq!(world.backend.count(), 0);

    assert!(bind(&world, &subject(&alice), "42", json!({})));

    assert_eq!(forwarded_users(&kept_alive.send(request.as_bytes())), ["42"]);
    assert_eq!(forwarded_users(&visit(&world, "/", &alice)), ["42"]);
    assert_eq!(forwarded_users(&visit(&world, "/", &bob)), [""; 0]);
    assert_eq!(forwarded_users(&visit(&world, "/pub", &alice)), [""; 0]);
    assert_denied(&visit(&world, "/bound", &bob), "user_unbound");
    for claims in [json!({}), json!({ "role": "editor" }), json!({ "role": "reader", "level": "3" })] {
        bind(&world, &subject(&alice), "42", claims);
        assert_denied(&visit(&world, "/edit", &alice), "claim_missing");
    }
    assert!(bind(&world, &subject(&alice), "43", json!({ "role": "admin", "level": "3", "x": "y" })));
    assert_eq!(forwarded_users(&visit(&world, "/edit", &alice)), ["43"]);
    assert_eq!(forwarded_users(&world.get("/edit", "")), [""; 0], "nobody is asked for nothing");

    assert!(unbind(&world, &subject(&alice)));
    assert_denied(&kept_alive.send(request.as_bytes()), "user_unbound");
    assert_denied(&visit(&world, "/edit", &alice), "claim_missing");
    assert_eq!(forwarded_users(&visit(&world, "/", &alice)), [""; 0]);
    assert_eq!(world.metric("menshen_refused_requests_total{reason=\"claim_missing\"}"), 5.0);
    assert_eq!(world.metric("menshen_refused_requests_total{reason=\"user_unbound\"}"), 4.0);
}

#[test]
fn a_subjects_own_binding_counts_before_that_of_the_unionid() {
    let world = world();
    let alice = sign_in(&world, "alice");
    let unionid = json!({ "unionid": alice["unionid"] });
    bind(&world, &unionid, "union", json!({ "role": "editor", "level": "3" }));
    assert_eq!(forwarded_users(&visit(&world, "/edit", &alice)), ["union"]);

    bind(&world, &subject(&alice), "own", json!({ "role": "editor" }));

    assert_eq!(forwarded_users(&visit(&world, "/bound", &alice)), ["own"]);
    assert_denied(&visit(&world, "/edit", &alice), "claim_missing");
    unbind(&world, &subject(&alice));
    assert_eq!(forwarded_users(&visit(&world, "/edit", &alice)), ["union"]);
    unbind(&world, &unionid);
    assert_denied(&visit(&world, "/bound", &alice), "user_unbound");
}

#[test]
fn a_person_sees_which_user_they_are_and_not_what_is_said_of_them() {
    let world = world();
    let alice = sign_in(&world, "alice");
    assert_eq!(visit(&world, "/auth/session", &alice).json().get("user"), None);
    bind(&world, &subject(&alice), "42", json!({ "risk": "watched-closely" }));

    let shown = visit(&world, "/auth/session", &alice);

    assert_eq!(shown.json()["user"], "42");
    assert!(!shown.text().contains("risk") && !shown.text().contains("watched"), "{}", shown.text());
}

#[test]
fn a_binding_outlasts_logout_and_restart() {
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut node = Process::like(&world);
    // WeChat and the backend stay.
    world.stop();
    let sign_in = |node: &Process| {
        let body = json!({ "code": world.code("alice") }).to_string();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        node.connect().send(request.as_bytes()).json()
    };
    let ask = |node: &Process, line: &str, login: &Value| {
        let request =
            format!("{line} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{}\r\n", bearer(login));
        node.connect().send(request.as_bytes())
    };
    let alice = sign_in(&node);
    let body = json!({ "app": "shop", "openid": alice["openid"], "user": "42" }).to_string();
    assert_eq!(client::ask_control(&node.control_socket(), "POST /people/bind", &body).status, 200);
    assert_eq!(ask(&node, "POST /auth/logout", &alice).status, 204);
    let again = sign_in(&node);
    assert_eq!(forwarded_users(&ask(&node, "GET /bound", &again)), ["42"]);

    node.signal("KILL");
    node.start_again();

    assert_eq!(forwarded_users(&ask(&node, "GET /bound", &again)), ["42"]);
    let third = sign_in(&node);
    assert_eq!(forwarded_users(&ask(&node, "GET /bound", &third)), ["42"]);
}

#[test]
fn a_browser_is_of_the_user_its_person_is_bound_to() {
    let route =
        "  - { name: bound, path: /bound, access: authenticated, require_user: true, upstream: backend }\n";
    let before = "  - { name: public, path: /pub,";
    let site = Site::with(Default::default(), &[(before, &format!("{route}{before}"))]);
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "bob");
    assert!(visitor.cookies.contains_key(SESSION));
    let refused = visitor.open("/bound");
    assert_eq!(
        (refused.status, refused.header("location")),
        (403, None),
        "to sign in anew would change nothing"
    );
    let unionid = site.world.emulator.unionid(crate::common::site::SITE_APPID, "bob").unwrap();

    bind(&site.world, &json!({ "unionid": unionid }), "42", json!({}));

    assert_eq!(visitor.open("/bound").status, 200);
    assert_eq!(site.world.backend.last().folded("X-WX-USER-ID"), ["42"]);
    assert_eq!(visitor.open("/auth/session").json()["user"], "42");
}

#[test]
fn a_tunnel_ends_when_its_person_is_another_user_or_lacks_a_claim() {
    let world = World::with_backend(switching(echo), &format!("{ROUTES}{NO_THROTTLE}{LOGS}"));
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|person| sign_in(&world, person));
    for login in [&alice, &bob] {
        bind(&world, &subject(login), "42", json!({ "role": "editor" }));
    }
    let mut unbound = open(&world, "/ws/unbound", &bearer(&alice));
    let mut editing = open(&world, "/ws/edit", &bearer(&bob));
    let mut never_bound = open(&world, "/ws/carol", &bearer(&carol));
    let closed_for = |tunnel: &mut crate::common::Connection, path: &str| {
        tunnel.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(tunnel.is_closed(), "{path}");
        logged(&world, path)["reason"].clone()
    };

    // Another claim that the route does not ask for changes nothing.
    bind(&world, &subject(&bob), "42", json!({ "role": "editor", "level": "3" }));
    editing.write(b"hello");
    assert_eq!(editing.read_exact(5), b"hello");
    bind(&world, &subject(&bob), "42", json!({ "role": "reader" }));
    assert_eq!(closed_for(&mut editing, "/ws/edit"), "claim_missing");

    assert!(unbind(&world, &subject(&alice)));
    assert_eq!(closed_for(&mut unbound, "/ws/unbound"), "user_changed");
    bind(&world, &subject(&alice), "42", json!({}));
    let mut renamed = open(&world, "/ws/renamed", &bearer(&alice));
    bind(&world, &subject(&alice), "43", json!({}));
    assert_eq!(closed_for(&mut renamed, "/ws/renamed"), "user_changed");

    bind(&world, &subject(&carol), "44", json!({}));
    never_bound.write(b"hello");
    assert_eq!(never_bound.read_exact(5), b"hello", "the backend was told nobody, and is none the worse");
}

#[test]
fn bindings_are_logged_without_the_user() {
    let world = world();
    let alice = sign_in(&world, "alice");
    let openid = alice["openid"].as_str().unwrap();
    let look = |query: &str| world.control(&format!("GET /people/bound?{query}"), &json!({}));
    let by_app = format!("app=shop&openid={openid}");
    assert_eq!(look(&by_app).json(), json!({ "scope": "subject", "binding": null }));

    assert!(bind(&world, &subject(&alice), "secret-user-42", json!({ "role": "hidden-role" })));
    assert!(!bind(&world, &subject(&alice), "secret-user-42", json!({ "role": "hidden-role" })));

    let found = look(&by_app).json();
    assert_eq!(found["binding"]["user"], "secret-user-42");
    assert_eq!(found["binding"]["claims"], json!({ "role": "hidden-role" }));
    assert!(found["binding"]["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(look(&format!("appid={APPID}&openid={openid}")).json(), found);
    let of_unionid = look(&format!("unionid={}", alice["unionid"].as_str().unwrap())).json();
    assert_eq!(of_unionid, json!({ "scope": "unionid", "binding": null }));
    assert!(unbind(&world, &subject(&alice)) && !unbind(&world, &subject(&alice)));

    let log = || fs::read_to_string(world.data.path().join("audit.log")).unwrap();
    let count = |event: &str| log().matches(&format!("\"event\":\"{event}\"")).count();
    eventually("each deed is in the audit log", || {
        [("bind", 2), ("unbind", 2), ("listing", 4)].iter().all(|(event, times)| count(event) == *times)
    });
    let log = log();
    for said in [openid, "secret-user-42", "hidden-role", "editor"] {
        assert!(!log.contains(said), "{log}");
    }
    let line = log.lines().find(|line| line.contains("\"bind\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["outcome"], &line["scope"], &line["app"]),
        (&json!("ok"), &json!("subject"), &json!("shop"))
    );
    assert!(line["user.hash"].is_string() && line["caller"].is_string());
}

#[test]
fn a_binding_without_a_valid_person_or_user_is_refused() {
    let world = world();
    let socket = world.control_socket();
    let long = format!(r#"{{"unionid":"u1","user":"{}"}}"#, "x".repeat(129));
    let many: Vec<String> = (0..17).map(|number| format!(r#""c{number}":"x""#)).collect();
    let many = format!(r#"{{"unionid":"u1","user":"42","claims":{{{}}}}}"#, many.join(","));
    for (line, body, status) in [
        ("POST /people/bind", r#"{"user":"42"}"#, 400),
        ("POST /people/bind", r#"{"unionid":"u1"}"#, 400),
        ("POST /people/bind", r#"{"app":"shop","user":"42"}"#, 400),
        ("POST /people/bind", r#"{"app":"shop","all":true,"user":"42"}"#, 400),
        ("POST /people/bind", r#"{"session":"s1","user":"42"}"#, 400),
        ("POST /people/bind", r#"{"app":"none","openid":"o1","user":"42"}"#, 400),
        ("POST /people/bind", r#"{"unionid":"u1","user":"a b"}"#, 400),
        ("POST /people/bind", r#"{"unionid":"u1","user":"a\r\nX-WX-OPENID: b"}"#, 400),
        ("POST /people/bind", r#"{"unionid":"u1","user":"42","claims":{"Role":"x"}}"#, 400),
        ("POST /people/bind", r#"{"unionid":"u1","user":"42","claims":{"role":"x","role":"x"}}"#, 400),
        ("POST /people/bind", &long, 400),
        ("POST /people/bind", &many, 400),
        ("POST /people/unbind", r#"{"unionid":"u1","user":"42"}"#, 400),
        ("POST /people/unbind", "{}", 400),
        ("GET /people/bind", "", 405),
        ("GET /people/unbind", "", 405),
        ("POST /people/bound", r#"{"unionid":"u1"}"#, 405),
        ("GET /people/bound", "", 400),
        ("GET /people/bound?app=shop", "", 400),
        ("GET /people/bound?unionid=u1&user=42", "", 400),
        ("POST /people/unbind", r#"{"unionid":"u1"}"#, 200),
        ("HEAD /people/bound?unionid=u1", "", 200),
    ] {
        assert_eq!(client::ask_control(socket, line, body).status, status, "{line} {body}");
    }
    let body = r#"{"unionid":"u1","user":"42"}"#;
    let request = format!(
        "POST /people/bind HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(client::send_to_control(socket, &request).status, 415);
    let look = client::ask_control(socket, "GET /people/bound?unionid=u1", "");
    assert_eq!(look.json()["binding"], Value::Null);
}

#[test]
fn commands_bind_people_and_say_so() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let process = Process::like(&world);
    let config = process.config();
    let run = |arguments: &str| {
        let arguments: Vec<&str> = ["session"].into_iter().chain(arguments.split(' ')).collect();
        let (code, answer, said) = process::command(&config, &arguments);
        format!("{} {answer}{said}", code.unwrap())
    };
    let alice = "--app shop --openid o-alice";

    assert_eq!(run(&format!("bound {alice}")), "0 not bound\n");
    let claims = "--claim role=editor --claim level=3";
    assert_eq!(run(&format!("bind {alice} --user 42 {claims}")), "0 bound\n");
    assert_eq!(run(&format!("bind {alice} --user 42 {claims}")), "0 was already bound to this user\n");
    let table = run(&format!("bound {alice}"));
    assert!(
        table.starts_with("0 USER  CLAIMS               SINCE\n42    level=3 role=editor  20"),
        "{table}"
    );
    let json = run(&format!("bound {alice} --json"));
    assert!(json.contains(r#""user":"42","claims":{"level":"3","role":"editor"}"#), "{json}");
    assert_eq!(run(&format!("unbind {alice}")), "0 unbound\n");
    assert_eq!(run(&format!("unbind {alice}")), "0 was not bound\n");
    for (arguments, expected) in [
        ("bind --unionid u1", "--user"),
        ("bind --user 42", "required"),
        ("bind --app shop --user 42", "required"),
        ("bind --unionid u1 --user 42 --claim role", "role=editor"),
        ("bind --unionid u1 --user 42 --claim role=a --claim role=b", "a claim occurs twice"),
        ("bind --unionid u1 --user a,b", "`user`: not a user id"),
        ("bound --app nothing --openid o1", "no app of this name is configured"),
    ] {
        let said = run(arguments);

        assert!(said.starts_with("2 ") && said.contains(expected), "{arguments}: {said}");
    }
    let log = process.stderr();
    for deed in ["bound one subject", "unbound one subject", "looked up the binding of one subject"] {
        assert!(log.contains(&format!("an operator {deed}")), "{log}");
    }
    assert!(!log.contains("o-alice") && !log.contains("editor"), "{log}");
}
