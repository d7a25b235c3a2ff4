//! Whom a route admits of those who are signed in: lists, read again at each reload; and who is
//! blocked everywhere.

use std::fs;

use serde_json::{Value, json};

use crate::common::client::ask_control;
use crate::common::{APPID, NO_THROTTLE, PATIENCE, Response, World, eventually};
use crate::proxying::logged;
use crate::websocket::{echo, open, switching};

const ROUTES: &str = "
routes:
  - { name: staff, path: /staff, access: authenticated, allow_lists: [staff], upstream: backend }
  - { name: open, path: /open, access: optional, deny_lists: [out], upstream: backend }
  - { name: known, path: /known, access: authenticated, require_unionid: true, upstream: backend }
  - { name: old, path: /old, access: authenticated, allow_lists: [staff], reject: code_200, upstream: backend }
  - { name: socket, path: /ws, access: authenticated, deny_lists: [out], upstream: backend, websocket: true }
  - { name: site, path: /, access: authenticated, upstream: backend }
";

/// A world whose lists are in files: `staff` and `out`, both empty.
fn world(sections: &str) -> World {
    World::with_backend(
        switching(echo),
        &format!("{ROUTES}{NO_THROTTLE}lists: {{ staff: {{}}, out: {{}} }}\n{sections}"),
    )
}

/// Puts people on the lists, and loads the configuration again.
fn set_lists(world: &World, staff: &str, out: &str) {
    let path = |name: &str| world.data.path().join(name);
    fs::write(path("staff.txt"), staff).unwrap();
    fs::write(path("out.txt"), out).unwrap();
    let yaml = fs::read_to_string(path("menshen.yaml")).unwrap();
    let lists = format!(
        "lists: {{ staff: {{ file: '{}' }}, out: {{ file: '{}' }} }}",
        path("staff.txt").display(),
        path("out.txt").display()
    );
    fs::write(path("menshen.yaml"), yaml.replace("lists: { staff: {}, out: {} }", &lists)).unwrap();
    world.gateway().reload().unwrap();
}

/// Signs a person in; what the login answered.
fn sign_in(world: &World, person: &str) -> Value {
    let response = world.login_with(&json!({ "code": world.code(person) }).to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn bearer(login: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", login["access_token"].as_str().unwrap())
}

/// As a list writes them.
fn subject(login: &Value) -> String {
    format!("{}:{}", APPID, login["openid"].as_str().unwrap())
}

fn visit(world: &World, path: &str, login: &Value) -> Response {
    world.get(path, &bearer(login))
}

fn assert_denied(response: &Response, reason: &str) {
    assert_eq!(response.status, 403, "{}", response.text());
    assert_eq!(response.json()["code"], reason);
    assert_eq!(response.header("location"), None);
}

#[test]
fn lists_choose_among_those_who_are_signed_in() {
    let world = world("");
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));
    assert_denied(&visit(&world, "/staff", &alice), "not_on_list");

    set_lists(&world, &format!("# the staff\n{} # alice\n", subject(&alice)), &subject(&bob));

    assert_eq!(visit(&world, "/staff", &alice).status, 200);
    assert_denied(&visit(&world, "/staff/x", &bob), "not_on_list");
    assert_denied(&visit(&world, "/%73taff", &bob), "not_on_list");
    assert_eq!(visit(&world, "/open", &alice).status, 200);
    assert_eq!(world.get("/open", "").status, 200, "nobody is on no list");
    let forwarded = world.backend.count();
    assert_denied(&visit(&world, "/open", &bob), "denied_by_list");
    assert_eq!(world.backend.count(), forwarded, "somebody denied is not taken for nobody");
    assert_eq!(visit(&world, "/", &bob).status, 200);
    assert_eq!(world.get("/staff", "").status, 401);
    let old = visit(&world, "/old", &bob);
    assert_eq!(
        (old.status, &old.json()["code"], &old.json()["message"]),
        (200, &json!(403), &json!("not_on_list"))
    );
    assert_eq!(world.metric("menshen_refused_requests_total{reason=\"denied_by_list\"}"), 1.0);
}

#[test]
fn a_user_who_is_denied_a_page_gets_a_refusal_page_and_no_redirect_to_sign_in() {
    let apps = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  site: { kind: website, appid: wxe000000000000002, secret: emulator-secret-2 }
";
    let world = world(apps);
    let alice = {
        let response = world.login_with(&json!({ "app": "shop", "code": world.code("alice") }).to_string());
        response.json()
    };
    let page = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

    let response = world.get("/staff", &format!("{page}{}", bearer(&alice)));

    assert_eq!((response.status, response.header("location")), (403, None));
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(logged(&world, "/staff")["reason"], "not_on_list");
    assert_denied(&visit(&world, "/staff", &alice), "not_on_list");

    let who = json!({ "app": "shop", "openid": alice["openid"] }).to_string();
    assert_eq!(ask_control(world.control_socket(), "POST /people/block", &who).status, 200);
    let response = world.get("/known", &format!("{page}{}", bearer(&alice)));

    assert_eq!((response.status, response.header("location")), (403, None));
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(logged(&world, "/known")["reason"], "blocked");
}

#[test]
fn a_unionid_is_asked_for_and_looked_for() {
    let world = world("");
    let alice = sign_in(&world, "alice");
    let Some(unionid) = alice["unionid"].as_str() else {
        return assert_denied(&visit(&world, "/known", &alice), "unionid_unknown");
    };
    assert_eq!(visit(&world, "/known", &alice).status, 200);

    set_lists(&world, unionid, "");
    assert_eq!(visit(&world, "/staff", &alice).status, 200);
    set_lists(&world, unionid, unionid);
    assert_denied(&visit(&world, "/open", &alice), "denied_by_list");
}

#[test]
fn a_person_put_on_a_deny_list_is_refused_at_once_and_loses_their_tunnels() {
    let world = world("");
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));
    let mut kept_alive = world.connect();
    let request = format!("GET /open HTTP/1.1\r\nHost: gateway.test\r\n{}\r\n", bearer(&alice));
    assert_eq!(kept_alive.send(request.as_bytes()).status, 200);
    let mut cut = open(&world, "/ws/cut", &bearer(&alice));
    let mut kept = open(&world, "/ws/kept", &bearer(&bob));

    set_lists(&world, "", &subject(&alice));

    assert_denied(&kept_alive.send(request.as_bytes()), "denied_by_list");
    cut.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(cut.is_closed());
    let line = logged(&world, "/ws/cut");
    assert_eq!((&line["decision"], &line["reason"]), (&json!("refused"), &json!("denied_by_list")));
    kept.write(b"hello");
    assert_eq!(kept.read_exact(5), b"hello");
    // A second reload is heard of by a tunnel that outlived the first.
    set_lists(&world, "", &subject(&bob));
    kept.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(kept.is_closed());
    assert_eq!(visit(&world, "/open", &alice).status, 200);
}

#[test]
fn a_list_that_cannot_be_understood_keeps_the_one_before() {
    let world = world("");
    let alice = sign_in(&world, "alice");
    set_lists(&world, "", &subject(&alice));
    let file = world.data.path().join("out.txt");

    for (text, said) in [("u1\nu 2\n", "line 2 of"), ("\u{1f600}", "line 1 of")] {
        fs::write(&file, text).unwrap();
        let report = world.gateway().reload().unwrap_err().to_string();

        assert!(report.contains("lists.out.file") && report.contains(said), "{report}");
        assert_denied(&visit(&world, "/open", &alice), "denied_by_list");
    }
    fs::remove_file(&file).unwrap();
    assert!(world.gateway().reload().is_err());
    assert_denied(&visit(&world, "/open", &alice), "denied_by_list");
    fs::write(&file, "").unwrap();
    world.gateway().reload().unwrap();
    assert_eq!(visit(&world, "/open", &alice).status, 200);
}

#[test]
fn a_blocked_person_is_refused_everywhere_until_the_block_ends() {
    let telemetry = "
telemetry:
  access_log: { target: file, file: '{data}/access.log' }
  audit_log: { file: '{data}/audit.log' }
";
    let world = world(telemetry);
    let operator = |line: &str, body: &Value| world.control(line, body);
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));
    assert_eq!(visit(&world, "/", &alice).status, 200);
    let mut cut = open(&world, "/ws/cut", &bearer(&alice));
    let who = json!({ "app": "shop", "openid": alice["openid"] });

    let answer = operator("POST /people/block", &who);

    assert_eq!((answer.status, answer.json()), (200, json!({ "scope": "subject", "changed": true })));
    assert_denied(&visit(&world, "/", &alice), "blocked");
    assert_denied(&visit(&world, "/open", &alice), "blocked");
    assert_eq!(world.get("/open", "").status, 200);
    assert_eq!(visit(&world, "/", &bob).status, 200);
    cut.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(cut.is_closed());
    assert_eq!(logged(&world, "/ws/cut")["reason"], "blocked");
    let login = world.login_with(&json!({ "code": world.code("alice") }).to_string());
    assert_eq!((login.status, &login.json()["code"]), (403, &json!("user_blocked")));
    let refresh = |login: &Value| {
        let body = json!({ "refresh_token": login["refresh_token"] }).to_string();
        world.send(&format!(
            "POST /auth/refresh HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    assert_eq!(refresh(&alice).json()["code"], "user_blocked");
    assert_eq!(world.get("/auth/session", &bearer(&alice)).status, 403);
    let listed = operator("GET /people/blocked", &json!({})).json();
    let row = &listed["people"][0];
    assert_eq!(
        (&row["app"], &row["appid"], &row["openid"]),
        (&json!("shop"), &json!(APPID), &alice["openid"])
    );
    assert!(row["since"].as_str().unwrap().ends_with('Z'));

    assert_eq!(operator("POST /people/unblock", &who).json()["changed"], true);
    assert_eq!(operator("POST /people/unblock", &who).json()["changed"], false);

    assert_eq!(visit(&world, "/", &alice).status, 200);
    assert_eq!(refresh(&alice).status, 200);
    assert_eq!(operator("GET /people/blocked", &json!({})).json(), json!({ "people": [] }));
    eventually("each deed is in the audit log", || {
        let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
        ["block", "unblock", "listing"].iter().all(|event| log.contains(&format!("\"event\":\"{event}\"")))
            && log.contains("\"outcome\":\"blocked\"")
    });
}

#[test]
fn a_block_without_a_valid_person_is_refused() {
    let world = world("");
    let socket = world.control_socket();
    for (line, body, status) in [
        ("POST /people/block", "{}", 400),
        ("POST /people/block", r#"{"app":"shop"}"#, 400),
        ("POST /people/block", r#"{"app":"shop","all":true}"#, 400),
        ("POST /people/block", r#"{"session":"s1"}"#, 400),
        ("POST /people/block", r#"{"opened_before":"2020-01-01T00:00:00Z"}"#, 400),
        ("POST /people/block", r#"{"unionid":"u 1"}"#, 400),
        ("POST /people/block", r#"{"unionid":"u1","openid":"o1"}"#, 400),
        ("GET /people/block", "", 405),
        ("POST /people/blocked", "{}", 405),
        ("GET /people/blocked?unionid=u1", "", 400),
        ("GET /people", "", 404),
        ("POST /people/unblock", r#"{"unionid":"u1"}"#, 200),
    ] {
        assert_eq!(ask_control(socket, line, body).status, status, "{line} {body}");
    }
    assert_eq!(ask_control(socket, "GET /people/blocked", "").json(), json!({ "people": [] }));
}
