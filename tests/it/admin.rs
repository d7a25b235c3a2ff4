//! What an operator asks of a running gateway, over its socket and from the command line, and that
//! each door answers its own requests alone.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use crate::common::client::{ask_control, send_to_control};
use crate::common::{APPID, NO_THROTTLE, ROUTES, Response, World, eventually};
use crate::process::{self, Process};

/// A request to the socket of the operators, as a tool sends it.
fn ask(world: &World, request_line: &str, headers: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{request_line} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    send_to_control(world.control_socket(), &request)
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
fn the_socket_is_for_its_owner_alone() {
    let world = World::new();
    let socket = world.data.path().join("state/control.socket");

    assert_eq!(world.control_socket(), socket);
    let metadata = fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_killed_gateways_socket_is_replaced_and_a_live_ones_is_not_stolen() {
    let world = World::new();
    let mut first = Process::like(&world);
    let yaml = fs::read_to_string(first.config()).unwrap();
    let other = tempfile::tempdir().unwrap();
    // A store of its own: that of the first is locked, too.
    let own_store =
        format!("{yaml}store: {{ embedded: {{ file: '{}/own.redb' }} }}\n", other.path().display());
    fs::write(other.path().join("menshen.yaml"), own_store).unwrap();

    let (code, said) = process::run_to_end(other.path());

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("belongs to another running gateway"), "{said}");
    let config = first.config();
    let blocked = || process::command(&config, &["person", "blocked"]);
    assert_eq!(blocked().0, Some(0), "the first still answers");
    first.signal("KILL");
    first.wait();
    let (code, _, said) = blocked();
    assert!(code == Some(1) && said.contains("no gateway answers at "), "{said}");
    first.start_again();
    assert_eq!(blocked(), (Some(0), String::new(), "no blocked people\n".into()));
    first.signal("TERM");
    assert_eq!(first.wait(), Some(0));
    assert!(!first.control_socket().exists());
}

#[test]
fn reload_command_says_what_the_gateway_found() {
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}telemetry: {{ audit_log: {{ file: '{{data}}/audit.log' }}, access_log: {{ target: off }} }}\n"
    ));
    let process = Process::like(&world);
    let config = process.config();
    let yaml = fs::read_to_string(&config).unwrap();
    let page = || process.connect().send(b"GET /new HTTP/1.1\r\nHost: gateway.test\r\n\r\n").status;
    let route = "  - { name: new, path: /new, access: public, upstream: backend }\n  - { name: public,";
    assert_eq!(page(), 401);

    fs::write(&config, yaml.replace("  - { name: public,", route)).unwrap();
    let (code, answer, said) = process::command(&config, &["reload"]);
    assert_eq!((code, answer.as_str()), (Some(0), "loaded the configuration again\n"), "{said}");
    assert!(said.contains("warning: apps.shop.secret: "), "{said}");
    assert_eq!(page(), 200);

    // Wrong in a way that only the running gateway sees: the command reads the file as well.
    fs::write(&config, yaml.replace("127.0.0.1:0", "127.0.0.1:1")).unwrap();
    let (code, answer, said) = process::command(&config, &["reload"]);
    assert_eq!((code, answer.as_str()), (Some(2), ""), "{said}");
    assert!(said.contains("error: listeners: "), "{said}");
    assert_eq!(page(), 200);
    eventually("both are in the audit log", || {
        let log = process.read("audit.log");
        log.contains(r#""event":"reload","outcome":"ok""#)
            && log.contains(r#""event":"reload","outcome":"configuration_invalid""#)
    });
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
    let config = process.config();
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
fn commands_about_people_have_their_older_spelling_under_session() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let process = Process::like(&world);
    let config = process.config();
    let openid = sign_in(&world, "alice")["openid"].as_str().unwrap().to_owned();
    let alice = ["--app", "shop", "--openid", &openid];
    let bind = ["--user", "42", "--claim", "role=editor"];

    for (deed, more, said) in [
        ("block", [].as_slice(), "blocked\n"),
        ("blocked", &[], ""),
        ("unblock", &[], "unblocked\n"),
        ("bind", &bind, "bound\n"),
        ("bound", &[], ""),
        ("unbind", &[], "unbound\n"),
    ] {
        let named = if deed == "blocked" { [].as_slice() } else { &alice };
        let run = |noun: &str| process::command(&config, &[&[noun, deed], named, more].concat());

        let (code, answer, messages) = run("session");

        assert_eq!(code, Some(0), "{deed}: {messages}");
        match deed {
            "blocked" | "bound" => assert_eq!((answer, messages), (run("person").1, String::new()), "{deed}"),
            _ => assert_eq!(answer, said, "{deed}: {messages}"),
        }
    }
}

#[test]
fn session_commands_say_when_no_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("menshen.yaml");
    let minimal = fs::read_to_string("conf/minimal.yaml").unwrap();
    fs::write(&config, format!("data_dir: '{}/data'\n{minimal}", folder.path().display())).unwrap();

    for command in [
        ["session", "revoke", "s1"].as_slice(),
        &["person", "block", "--unionid", "u1"],
        &["reload"],
        &["throttle", "list"],
    ] {
        let (actual, answer, said) = process::command(&config, command);

        assert_eq!((actual, answer.as_str()), (Some(1), ""), "{said}");
        let place = format!("no gateway answers at {}/data/control.socket", folder.path().display());
        assert!(said.contains(&place), "{said}");
    }
}

#[test]
fn a_running_store_is_copied_and_the_copy_is_the_store_of_that_moment() {
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    world.stop();
    let login = |process: &Process, person: &str| {
        let body = json!({ "code": world.code(person) }).to_string();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        process.connect().send(request.as_bytes()).json()
    };
    let visit = |process: &Process, login: &Value| {
        let token = login["access_token"].as_str().unwrap();
        let request =
            format!("GET /page HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        process.connect().send(request.as_bytes()).status
    };
    let alice = login(&process, "alice");
    let config = process.config();
    let copy = config.with_file_name("copy.redb");
    let back_up = || process::command(&config, &["store", "backup", copy.to_str().unwrap()]);

    let (code, answer, said) = back_up();
    let bob = login(&process, "bob");

    let length = fs::metadata(&copy).unwrap().len();
    assert_eq!((code, answer), (Some(0), format!("{}: {length} bytes\n", copy.display())), "{said}");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);
    let (code, answer, said) = back_up();
    assert_eq!((code, answer.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("is there already"), "{said}");
    let socket = process.control_socket();
    for body in [r#"{"file":"relative"}"#, "{}", r#"{"file":1}"#] {
        assert_eq!(ask_control(&socket, "POST /store/backup", body).status, 400, "{body}");
    }
    assert_eq!([visit(&process, &alice), visit(&process, &bob)], [200, 200]);
    process.signal("TERM");
    process.wait();
    fs::rename(&copy, config.with_file_name("state").join("sessions.redb")).unwrap();
    let (code, answer, said) = process::command(&config, &["store", "verify"]);
    assert_eq!(code, Some(0), "{answer}{said}");
    process.start_again();
    assert_eq!([visit(&process, &alice), visit(&process, &bob)], [200, 401]);
}
