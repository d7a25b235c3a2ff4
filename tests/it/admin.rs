//! What an operator asks of a running gateway, over its admin listener and from the command line.

use std::fs;

use serde_json::{Value, json};

use crate::common::{APPID, Connection, NO_THROTTLE, ROUTES, Response, World};
use crate::process::{self, Process};

/// A request to the admin listener, as a tool sends it.
fn ask(world: &World, request_line: &str, headers: &str, body: &str) -> Response {
    let address = world.gateway().admin_address();
    let length = body.len();
    let request = format!(
        "{request_line} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    Connection::open(address).send(request.as_bytes())
}

fn list(world: &World, query: &str) -> Response {
    ask(world, &format!("GET /sessions?{query}"), "", "")
}

fn sessions(world: &World, query: &str) -> Vec<Value> {
    let response = list(world, query);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["sessions"].as_array().unwrap().clone()
}

fn revoke(world: &World, scope: &Value) -> Response {
    ask(world, "POST /sessions/revoke", "Content-Type: application/json\r\n", &scope.to_string())
}

/// Signs a person in; what the login answered.
fn sign_in(world: &World, person: &str) -> Value {
    let body = json!({ "code": world.code(person) }).to_string();
    let response = world.post_login(&body, "application/json", "User-Agent: phone\r\n");
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// The status a backend's page is answered with.
fn visit(world: &World, login: &Value) -> u16 {
    let token = login["access_token"].as_str().unwrap();
    world.get("/page", &format!("Authorization: Bearer {token}\r\n")).status
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn sessions_of_a_person_are_listed() {
    let world = World::new();
    let login = sign_in(&world, "alice");
    world.clock.advance(std::time::Duration::from_secs(60));
    sign_in(&world, "alice");
    sign_in(&world, "bob");
    let openid = text(&login, "openid");

    let listed = sessions(&world, &format!("app=shop&openid={openid}"));

    assert_eq!(listed.len(), 2);
    assert_eq!(sessions(&world, &format!("appid={APPID}&openid={openid}")), listed);
    let first = &listed[0];
    assert_eq!((text(first, "app"), text(first, "appid"), text(first, "openid")), ("shop", APPID, openid));
    assert!(text(first, "device").contains("phone"), "{first}");
    for key in ["created_at", "last_seen_at", "expires_at"] {
        let instant = text(first, key).parse::<menshen::clock::Timestamp>().unwrap();
        assert!(text(first, key).ends_with('Z') && instant.seconds() > 1_700_000_000, "{first}");
    }
    assert!(text(first, "created_at") < text(&listed[1], "created_at"));
    assert_eq!(sessions(&world, "app=shop&openid=nobody"), Vec::<Value>::new());
    let head = ask(&world, &format!("HEAD /sessions?app=shop&openid={openid}"), "", "");
    assert_eq!((head.status, head.text().as_str()), (200, ""));
}

#[test]
fn listing_without_a_person_is_refused() {
    let world = World::new();
    sign_in(&world, "alice");
    for (query, named) in [
        ("", "no person or scope is named"),
        ("app=shop", "`openid`"),
        ("app=nothing&openid=o1", "`app`"),
        ("unionid=a%20b", "`unionid`"),
        ("app=shop&openid=o1&unionid=u1", "`unionid`"),
        ("session=s1", "`session`"),
    ] {
        let response = list(&world, query);

        assert_eq!(response.status, 400, "{query}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert!(text(&response.json(), "detail").contains(named), "{query}: {}", response.text());
    }
}

#[test]
fn revoked_sessions_end_and_others_go_on() {
    let world = World::new();
    let person = |login: &Value| json!({ "app": "shop", "openid": text(login, "openid") });
    let now = || json!({ "opened_before": menshen::clock::Clock::now(&world.clock).to_string() });
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));

    let response = revoke(&world, &person(&alice));
    assert_eq!((response.status, response.text().as_str()), (200, r#"{"scope":"subject","ended":1}"#));
    assert_eq!((visit(&world, &alice), visit(&world, &bob)), (401, 200));
    assert_eq!(revoke(&world, &person(&alice)).text(), r#"{"scope":"subject","ended":0}"#);

    let (one, other) = (sign_in(&world, "alice"), sign_in(&world, "alice"));
    let listed = sessions(&world, &format!("app=shop&openid={}", text(&one, "openid")));
    let response = revoke(&world, &json!({ "session": listed[0]["id"] }));
    assert_eq!(response.text(), r#"{"scope":"session","ended":1}"#);
    let mut statuses = [visit(&world, &one), visit(&world, &other)];
    statuses.sort_unstable();
    assert_eq!((statuses, visit(&world, &bob)), ([200, 401], 200));

    let response = revoke(&world, &json!({ "app": "shop", "all": true }));
    assert_eq!(response.text(), r#"{"scope":"app","ended":null}"#);
    assert_eq!([visit(&world, &one), visit(&world, &other), visit(&world, &bob)], [401; 3]);

    let alice = sign_in(&world, "alice");
    world.clock.advance(std::time::Duration::from_secs(5));
    let before = now();
    world.clock.advance(std::time::Duration::from_secs(5));
    let bob = sign_in(&world, "bob");
    let response = revoke(&world, &before);
    assert_eq!(response.text(), r#"{"scope":"opened_before","ended":null}"#);
    assert_eq!((visit(&world, &alice), visit(&world, &bob)), (401, 200));
}

#[test]
fn a_person_is_found_and_ended_in_every_app_by_their_unionid() {
    let apps = "apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  news: { kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }
";
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{apps}"));
    let sign_in = |app: &str, appid: &str, person: &str| {
        let code = world.emulator.wx_login(appid, person).unwrap();
        let response = world.login_with(&json!({ "code": code, "app": app }).to_string());
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    };
    let second = "wxe000000000000002";
    let [shop, news] = [sign_in("shop", APPID, "alice"), sign_in("news", second, "alice")];
    let bob = sign_in("news", second, "bob");
    let unionid = text(&shop, "unionid");
    assert_eq!(text(&news, "unionid"), unionid);
    assert_ne!(text(&news, "openid"), text(&shop, "openid"));

    let listed = sessions(&world, &format!("unionid={unionid}"));
    let apps: Vec<_> = listed.iter().map(|row| (text(row, "app"), text(row, "openid"))).collect();
    assert_eq!(apps, [("shop", text(&shop, "openid")), ("news", text(&news, "openid"))]);
    assert!(listed.iter().all(|row| text(row, "unionid") == unionid));

    let response = revoke(&world, &json!({ "unionid": unionid }));
    assert_eq!(response.text(), r#"{"scope":"unionid","ended":2}"#);
    assert_eq!([&shop, &news, &bob].map(|login| visit(&world, login)), [401, 401, 200]);
    assert_eq!(sessions(&world, &format!("unionid={unionid}")), Vec::<Value>::new());

    // By themselves, too.
    let [shop, news] = [sign_in("shop", APPID, "alice"), sign_in("news", second, "alice")];
    let token = format!("Authorization: Bearer {}\r\n", text(&news, "access_token"));
    let body = r#"{"everywhere":true}"#;
    let logout = world.send(&format!(
        "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{token}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(logout.status, 204);
    assert_eq!([&shop, &news, &bob].map(|login| visit(&world, login)), [401, 401, 200]);
}

#[test]
fn revocation_ends_nothing_unless_it_says_what() {
    let world = World::new();
    let alice = sign_in(&world, "alice");
    let json = "Content-Type: application/json\r\n";
    let long = format!(r#"{{"session":"{}"}}"#, "x".repeat(4 * 1024));
    for (headers, body, status) in [
        (json, r#"{"app":"shop"}"#, 400),
        (json, r#"{"app":"shop","all":true,"openid":"o1"}"#, 400),
        (json, r#"{"app":"shop","all":true,"why":"x"}"#, 400),
        (json, r#"{"opened_before":"2999-01-01T00:00:00Z"}"#, 400),
        (json, "", 400),
        (json, &long, 413),
        ("", r#"{"app":"shop","all":true}"#, 415),
        ("Content-Type: text/plain\r\n", r#"{"app":"shop","all":true}"#, 415),
        ("Content-Type: application/json\r\nOrigin: null\r\n", r#"{"app":"shop","all":true}"#, 403),
        (
            "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n",
            r#"{"app":"shop","all":true}"#,
            403,
        ),
    ] {
        let response = ask(&world, "POST /sessions/revoke", headers, body);

        assert_eq!(response.status, status, "{headers}{body}: {}", response.text());
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
    for (request_line, allow) in [
        ("GET /sessions/revoke", "POST"),
        ("PUT /sessions/revoke", "POST"),
        ("POST /sessions", "GET, HEAD"),
        ("DELETE /sessions?app=shop&openid=o1", "GET, HEAD"),
    ] {
        let response = ask(&world, request_line, "", "");

        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{request_line}");
    }
    assert_eq!(visit(&world, &alice), 200);
}

#[test]
fn name_that_was_made_to_resolve_here_is_refused() {
    let world = World::new();
    let alice = sign_in(&world, "alice");
    let body = r#"{"app":"shop","all":true}"#;
    let address = world.gateway().admin_address();
    for (host, status) in [("evil.example:9901", 421), ("admin", 421), ("", 400)] {
        for request in [
            format!(
                "GET /sessions?app=shop&openid={} HTTP/1.1\r\nHost: {host}\r\n\r\n",
                text(&alice, "openid")
            ),
            format!(
                "POST /sessions/revoke HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        ] {
            let response = Connection::open(address).send(request.as_bytes());

            assert_eq!(response.status, status, "{request}");
            assert!(!response.text().contains(text(&alice, "openid")));
        }
    }
    assert_eq!(visit(&world, &alice), 200);
}

#[test]
fn apps_have_the_names_of_the_last_reload() {
    let world = World::new();
    let openid = sign_in(&world, "alice")["openid"].as_str().unwrap().to_owned();
    let path = world.data.path().join("menshen.yaml");
    let yaml = fs::read_to_string(&path).unwrap().replace("shop:", "store:");
    fs::write(&path, yaml).unwrap();

    world.gateway().reload().unwrap();

    assert_eq!(list(&world, &format!("app=shop&openid={openid}")).status, 400);
    let listed = sessions(&world, &format!("app=store&openid={openid}"));
    assert_eq!(listed.len(), 1);
    assert_eq!(text(&listed[0], "app"), "store");
}

#[test]
fn session_commands_ask_the_gateway_that_runs() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let process = Process::like(&world);
    let login = |person: &str| {
        let body = json!({ "code": world.code(person) }).to_string();
        let length = body.len();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = process.connect().send(request.as_bytes()).json();
        answer["openid"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let (alice, bob) = (login("alice"), login("bob"));
    let config = process.config().with_file_name("operator.yaml");
    let yaml = fs::read_to_string(process.config()).unwrap();
    let here = format!("admin: {{ address: {} }}", process.admin_address);
    fs::write(&config, yaml.replace("admin: { address: 127.0.0.1:0 }", &here)).unwrap();
    let run = |arguments: &[&str]| process::command(&config, &[&["session"], arguments].concat());

    let (code, table, _) = run(&["list", "--app", "shop", "--openid", &alice]);
    assert_eq!(code, Some(0));
    assert!(table.starts_with("SESSION ") && table.lines().count() == 2, "{table}");
    let (code, answer, _) = run(&["list", "--app", "shop", "--openid", &alice, "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let session = answer["sessions"][0]["id"].as_str().unwrap();
    assert!(code == Some(0) && table.contains(session), "{table}");

    assert_eq!(run(&["revoke", session]), (Some(0), "ended 1 session\n".into(), String::new()));
    assert_eq!(run(&["revoke", session]), (Some(0), "ended 0 sessions\n".into(), String::new()));
    let (code, table, said) = run(&["list", "--app", "shop", "--openid", &alice]);
    assert_eq!((code, table.as_str(), said.as_str()), (Some(0), "", "no sessions\n"));
    assert_eq!(run(&["revoke", "--app", "shop", "--openid", &bob]).1, "ended 1 session\n");
    assert_eq!(run(&["revoke", "--app", "shop", "--all"]).1, "ended\n");

    for (arguments, code, expected) in [
        (["revoke"].as_slice(), 2, "required"),
        (&["revoke", "--app", "shop"], 2, "required"),
        (&["revoke", "--app", "shop", "--all", "--openid", "o1"], 2, "cannot be used with"),
        (&["revoke", "s1", "--unionid", "u1"], 2, "cannot be used with"),
        (&["revoke", "--all"], 2, "required"),
        (&["list", "--app", "shop"], 2, "required"),
        (&["list", "--app", "nothing", "--openid", "o1"], 2, "no app of this name is configured"),
        (&["revoke", "--opened-before", "yesterday"], 2, "`opened_before`: not an instant"),
    ] {
        let (actual, answer, said) = run(arguments);

        assert_eq!((actual, answer.as_str()), (Some(code), ""), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let log = process.stderr();
    assert!(
        log.contains("an operator listed sessions") && log.contains("an operator revoked sessions"),
        "{log}"
    );
    assert!(!log.contains(&alice) && !log.contains(&bob), "{log}");
}

#[test]
fn session_commands_say_when_no_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let free = crate::common::redis::free_address();
    for (address, code, expected) in [
        (free.to_string(), 1, format!("no gateway listens on {free}")),
        (format!("0.0.0.0:{}", free.port()), 1, format!("no gateway listens on {free}")),
        ("127.0.0.1:0".into(), 2, "`admin.address` has port 0".into()),
    ] {
        let config = folder.path().join("menshen.yaml");
        let minimal = fs::read_to_string("conf/minimal.yaml").unwrap();
        fs::write(&config, format!("admin: {{ address: '{address}' }}\n{minimal}")).unwrap();

        let (actual, answer, said) = process::command(&config, &["session", "revoke", "s1"]);

        assert_eq!((actual, answer.as_str()), (Some(code), ""), "{said}");
        assert!(said.contains(&expected), "{said}");
    }
}
