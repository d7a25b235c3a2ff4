//! The door of the programs of the business: who may ask for what, and that the audit log names
//! them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::common::{Connection, NO_THROTTLE, ROUTES, Response, World, eventually};
use crate::process;
use crate::process::Process;

const CRM: &str = "crm-token-0123456789";
const SHOP: &str = "shop-token-0123456789";
const LOGS: &str = "
telemetry:
  access_log: { target: file, file: '{data}/access.log' }
  audit_log: { file: '{data}/audit.log' }
";

/// A world with two programs: `crm` may all, `shop` may bind.
fn world() -> World {
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}{LOGS}
internal:
  address: 127.0.0.1:0
  clients:
    - {{ name: crm, token: {CRM}, may: [bind, people, sessions, introspect] }}
    - {{ name: shop, token: {SHOP}, may: [bind] }}
"
    ))
}

fn address(world: &World) -> SocketAddr {
    world.gateway().internal_address().unwrap()
}

fn ask(world: &World, token: &str, line: &str, body: &str) -> Response {
    ask_at(address(world), &format!("Authorization: Bearer {token}\r\n"), line, "application/json", body)
}

fn ask_at(address: SocketAddr, headers: &str, line: &str, media_type: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: internal\r\n{headers}Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    Connection::open(address).send(request.as_bytes())
}

fn sign_in(world: &World, person: &str) -> Value {
    let response = world.login_with(&json!({ "code": world.code(person) }).to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn introspect(world: &World, token: &Value) -> Value {
    let response = ask(world, CRM, "POST /introspect", &json!({ "token": token }).to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[test]
fn a_program_does_what_it_may_and_no_more() {
    let world = world();
    let alice = sign_in(&world, "alice");
    let openid = alice["openid"].as_str().unwrap();
    let person = json!({ "app": "shop", "openid": openid }).to_string();
    let bind = json!({ "app": "shop", "openid": openid, "user": "42" }).to_string();
    let token = json!({ "token": "x" }).to_string();
    let query = format!("app=shop&openid={openid}");

    for (line, body, shop) in [
        ("POST /people/bind".to_owned(), &bind, 200),
        (format!("GET /people/bound?{query}"), &String::new(), 200),
        ("POST /people/unbind".to_owned(), &person, 200),
        ("POST /people/block".to_owned(), &person, 403),
        ("POST /people/unblock".to_owned(), &person, 403),
        ("GET /people/blocked".to_owned(), &String::new(), 403),
        (format!("GET /people/hash?{query}"), &String::new(), 403),
        (format!("GET /sessions?{query}"), &String::new(), 403),
        ("POST /sessions/revoke".to_owned(), &person, 403),
        ("POST /introspect".to_owned(), &token, 403),
    ] {
        assert_eq!(ask(&world, CRM, &line, body).status, 200, "{line}");
        let answer = ask(&world, SHOP, &line, body);
        assert_eq!(answer.status, shop, "{line}: {}", answer.text());
        assert_eq!(answer.header("content-type").unwrap().contains("problem"), shop == 403);
        for token in ["", "wrong-token-0123456789", &CRM[1..], &format!("{CRM}0")] {
            let answer = ask(&world, token, &line, body);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{line}");
        }
        assert_eq!(ask_at(address(&world), "", &line, "application/json", body).status, 401, "{line}");
    }
    assert_eq!(world.get("/x", &format!("Authorization: Bearer {CRM}\r\n")).status, 401);
}

#[test]
fn introspection_says_whose_a_valid_token_is_and_nothing_of_another() {
    let world = world();
    let (alice, bob) = (sign_in(&world, "alice"), sign_in(&world, "bob"));
    let person = |login: &Value| json!({ "app": "shop", "openid": login["openid"] });
    let mut bound = person(&alice);
    bound["user"] = json!("42");
    bound["claims"] = json!({ "role": "editor" });
    assert_eq!(ask(&world, SHOP, "POST /people/bind", &bound.to_string()).status, 200);

    let shown = introspect(&world, &alice["access_token"]);

    assert_eq!(shown["active"], true);
    let said = ["app", "openid", "unionid", "user", "claims"].map(|key| shown[key].clone());
    let expected = [
        json!("shop"),
        alice["openid"].clone(),
        alice["unionid"].clone(),
        json!("42"),
        json!({ "role": "editor" }),
    ];
    assert_eq!(said, expected);
    let form = format!("token={}", alice["access_token"].as_str().unwrap());
    let bearer = format!("Authorization: Bearer {CRM}\r\n");
    let form =
        ask_at(address(&world), &bearer, "POST /introspect", "application/x-www-form-urlencoded", &form);
    assert_eq!(form.json(), shown);
    let inactive = json!({ "active": false });
    for token in [json!("x"), alice["refresh_token"].clone(), json!(CRM)] {
        assert_eq!(introspect(&world, &token), inactive);
    }
    for (body, status) in [("{}", 400), ("", 400), ("[]", 400), (r#"{"token":1}"#, 400)] {
        assert_eq!(ask(&world, CRM, "POST /introspect", body).status, status, "{body}");
    }
    assert_eq!(ask(&world, CRM, "GET /introspect", "").status, 405);

    assert_eq!(introspect(&world, &bob["access_token"])["active"], true);
    assert_eq!(world.control("POST /people/block", &person(&bob)).status, 200);
    assert_eq!(introspect(&world, &bob["access_token"]), inactive, "blocked");
    assert_eq!(world.control("POST /sessions/revoke", &person(&alice)).status, 200);
    assert_eq!(introspect(&world, &alice["access_token"]), inactive, "revoked");
}

#[test]
fn the_audit_log_says_which_program_did_what_to_whom() {
    let world = world();
    let alice = sign_in(&world, "alice");
    let bind = json!({ "app": "shop", "openid": alice["openid"], "user": "secret-user-42" });
    assert_eq!(ask(&world, SHOP, "POST /people/bind", &bind.to_string()).status, 200);
    assert_eq!(ask(&world, SHOP, "GET /people/blocked", "").status, 403);
    assert_eq!(ask(&world, "wrong-token-0123456789", "GET /people/blocked", "").status, 401);
    assert_eq!(
        world.control("POST /people/unbind", &json!({ "app": "shop", "openid": alice["openid"] })).status,
        200
    );

    let mut lines = Vec::new();
    eventually("each deed is in the audit log", || {
        let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
        lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        lines.len() >= 4
    });

    let of = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or("-").to_owned();
    let who = |line: &Value| ["door", "caller", "outcome"].map(|key| word(line, key)).join(" ");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(who(of("bind")), "internal shop ok");
    assert_eq!(who(of("refusal")), "internal shop not_permitted");
    assert!(who(of("unbind")).starts_with("control uid:"));
    assert_eq!(of("bind")["client.address"], "127.0.0.1");
    assert_eq!(of("bind")["user.hash"], of("login")["user.hash"]);
    let kid = word(of("bind"), "user.hash").split(':').next().unwrap().to_owned();
    let user = word(of("bind"), "bound_user.hash");
    assert!(user.starts_with(&format!("{kid}:")) && user != word(of("bind"), "user.hash"), "{user}");
    let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
    assert!(!log.contains("secret-user-42") && !log.contains(SHOP), "{log}");
}

#[test]
fn what_is_done_to_the_people_of_a_user_is_in_the_audit_log_of_each_of_them() {
    let world = world();
    let [alice, bob] = ["alice", "bob"].map(|person| sign_in(&world, person));
    for login in [&alice, &bob] {
        let bind = json!({ "app": "shop", "openid": login["openid"], "user": "42" });
        assert_eq!(ask(&world, SHOP, "POST /people/bind", &bind.to_string()).status, 200);
    }
    let user = json!({ "user": "42" }).to_string();
    let requests = [
        ("listing", "GET /sessions?user=42"),
        ("listing", "GET /people/show?user=42"),
        ("listing", "GET /people/hash?user=42"),
        ("revocation", "POST /sessions/revoke"),
        ("block", "POST /people/block"),
        ("unblock", "POST /people/unblock"),
        ("unbind", "POST /people/unbind"),
    ];
    for (event, line) in requests {
        let body = if line.starts_with("GET") { "" } else { &user };
        let answer = ask(&world, CRM, line, body);
        assert_eq!(answer.status, 200, "{event}: {}", answer.text());
    }
    for login in [&alice, &bob] {
        let bind = json!({ "app": "shop", "openid": login["openid"], "user": "42" });
        assert_eq!(ask(&world, SHOP, "POST /people/bind", &bind.to_string()).status, 200);
    }
    assert_eq!(ask(&world, CRM, "POST /people/erase", &user).status, 200);

    let of_user = |event: &str| {
        let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines = lines.filter(|line| line["scope"] == "user" && line["event"] == event);
        lines.collect::<Vec<_>>()
    };
    eventually("the erasure is in the log", || of_user("erasure").len() == 2);
    let log = fs::read_to_string(world.data.path().join("audit.log")).unwrap();
    let line = |event: &str| log.lines().filter(|line| line.contains(event)).collect::<Vec<_>>();
    let hashes = |lines: &[&str]| {
        let hash = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["user.hash"].clone();
        let mut hashes: Vec<String> = lines.iter().map(hash).map(|hash| hash.to_string()).collect();
        hashes.sort_unstable();
        hashes
    };
    let both = hashes(&line("\"event\":\"login\""));
    let bound =
        serde_json::from_str::<Value>(line("\"event\":\"bind\"")[0]).unwrap()["bound_user.hash"].clone();
    for event in ["revocation", "block", "unblock", "unbind", "erasure"] {
        let lines = of_user(event);
        let named: BTreeSet<String> = lines.iter().map(|line| line["user.hash"].to_string()).collect();
        assert_eq!(named.into_iter().collect::<Vec<_>>(), both, "{event}");
        assert!(lines.iter().all(|line| line["bound_user.hash"] == bound && line["caller"] == "crm"));
    }
    assert_eq!(of_user("listing").len(), 6);
}

#[test]
fn tokens_are_read_again_on_reload_and_the_address_is_not() {
    let world = world();
    let path = world.data.path().join("menshen.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let token = world.data.path().join("crm.token");
    fs::write(&token, "first-token-0123456789\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let from_file = yaml.replace(CRM, &format!("{{ file: '{}' }}", token.display()));
    fs::write(&path, &from_file).unwrap();
    world.gateway().reload().unwrap();
    let blocked = |token: &str| ask(&world, token, "GET /people/blocked", "").status;
    assert_eq!([blocked(CRM), blocked("first-token-0123456789")], [401, 200]);

    fs::write(&token, "second-token-0123456789\n").unwrap();
    world.gateway().reload().unwrap();
    assert_eq!([blocked("first-token-0123456789"), blocked("second-token-0123456789")], [401, 200]);

    fs::write(&path, from_file.replace("may: [bind, people, sessions, introspect]", "may: [bind]")).unwrap();
    world.gateway().reload().unwrap();
    assert_eq!(blocked("second-token-0123456789"), 403);

    fs::write(&token, "short\n").unwrap();
    let refused = world.gateway().reload().unwrap_err().to_string();
    assert!(refused.contains("internal.clients[0].token: the token has 5 bytes"), "{refused}");
    let moved = yaml.replace("internal:\n  address: 127.0.0.1:0", "internal:\n  address: 127.0.0.1:1");
    fs::write(&path, moved).unwrap();
    let refused = world.gateway().reload().unwrap_err().to_string();
    assert!(refused.contains("internal.address: a reload cannot change this key"), "{refused}");
    let gone = yaml.split("internal:").next().unwrap();
    fs::write(&path, gone).unwrap();
    let refused = world.gateway().reload().unwrap_err().to_string();
    assert!(refused.contains("internal.address: a reload cannot change this key"), "{refused}");
}

#[test]
fn many_idle_connections_keep_no_client_of_another_door_out() {
    let world = world();
    let idle: Vec<_> = (0..600).filter_map(|_| Connection::try_open(address(&world))).collect();

    assert_eq!(world.get("/pub", "").status, 200);
    assert!(world.metrics().contains("menshen_build_info"));
    drop(idle);
    eventually("a program is answered again", || {
        let request = format!(
            "GET /people/blocked HTTP/1.1\r\nHost: internal\r\nAuthorization: Bearer {CRM}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = Connection::open(address(&world)).send_unless_gone(request.as_bytes());
        answer.is_some_and(|answer| answer.status == 200)
    });
}

#[test]
fn check_refuses_an_internal_listener_off_loopback_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["internal.test".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "crm-token-0123456789\n").unwrap();
    let minimal = fs::read_to_string("conf/minimal.yaml").unwrap();
    let config = folder.path().join("menshen.yaml");
    let tls = format!(
        "tls: {{ certificates: [{{ certificate: '{}', key: '{}' }}] }}, ",
        certificate.display(),
        key.display()
    );
    for (address, tls, mode, code, expected) in [
        ("0.0.0.0:9902", "", 0o600, 2, "error: internal.address: `0.0.0.0:9902` is not loopback"),
        ("10.0.0.1:9902", "", 0o600, 2, "error: internal.address: `10.0.0.1:9902` is not loopback"),
        ("0.0.0.0:9902", &*tls, 0o600, 0, "warning: internal.address: "),
        ("127.0.0.1:9902", "", 0o644, 0, "warning: internal.clients[0].token: file `"),
        ("127.0.0.1:9902", "", 0o600, 0, "configuration is valid"),
    ] {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let internal = format!(
            "internal: {{ address: '{address}', {tls}clients: [{{ name: crm, token: {{ file: '{}' }}, may: [bind] }}] }}",
            token.display()
        );
        let data = folder.path().join("data");
        fs::write(&config, format!("data_dir: '{}'\n{minimal}{internal}\n", data.display())).unwrap();

        let (actual, answer, said) = process::command(&config, &["check"]);

        assert_eq!(actual, Some(code), "{said}");
        assert!(format!("{answer}{said}").contains(expected), "{expected}: {said}");
        let warns_of_token = said.contains("internal.clients[0].token");
        assert_eq!(warns_of_token, mode == 0o644, "{said}");
    }
    let unknown = format!(
        "{minimal}internal: {{ address: '127.0.0.1:1', clients: [{{ name: crm, token: {CRM}, may: [everything] }}] }}\n"
    );
    fs::write(&config, unknown).unwrap();
    let (code, _, said) = process::command(&config, &["check"]);
    assert!(code == Some(2) && said.contains("internal.clients[0].may[0]"), "{said}");
}

#[test]
fn a_program_is_answered_over_tls_and_not_without() {
    let certificates = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (certificates.path().join("cert.pem"), certificates.path().join("key.pem"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}
internal:
  address: 127.0.0.1:0
  tls: {{ certificates: [{{ certificate: '{}', key: '{}' }}] }}
  clients: [{{ name: crm, token: {CRM}, may: [people] }}]
",
        certificate.display(),
        key.display()
    ));
    let url = format!("https://localhost:{}/people/blocked", address(&world).port());

    let output = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "20", "--cacert"])
        .arg(&certificate)
        .args(["-H", &format!("Authorization: Bearer {CRM}"), &url])
        .output()
        .unwrap();

    assert_eq!(String::from_utf8_lossy(&output.stdout), r#"{"people":[]}"#, "{output:?}");
    let plain =
        format!("GET /people/blocked HTTP/1.1\r\nHost: internal\r\nAuthorization: Bearer {CRM}\r\n\r\n");
    let mut connection = Connection::open(address(&world));
    connection.write(plain.as_bytes());
    let answer = connection.send_unless_gone(b"");
    assert!(answer.is_none());
}

#[test]
fn the_hash_of_a_person_is_that_of_the_logs_and_stays_after_a_restart() {
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}{LOGS}"));
    let mut node = Process::like(&world);
    world.stop();
    let body = json!({ "code": world.code("alice") }).to_string();
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let openid = node.connect().send(request.as_bytes()).json()["openid"].as_str().unwrap().to_owned();
    let config = node.config();
    let hash = || {
        let (code, answer, said) =
            process::command(&config, &["person", "hash", "--app", "shop", "--openid", &openid]);
        assert_eq!(code, Some(0), "{said}");
        answer.trim_end().to_owned()
    };

    let before = hash();
    node.signal("TERM");
    node.wait();
    // Also while no gateway runs: its logs may be all that is left.
    let meanwhile = hash();
    node.start_again();
    let after = hash();

    assert_eq!((&before, &meanwhile), (&after, &after));
    let run = |arguments: &[&str]| process::command(&config, &[&["person"], arguments].concat());
    for user in ["42", "43"] {
        assert_eq!(run(&["bind", "--app", "shop", "--openid", &openid, "--user", user]).0, Some(0));
    }
    let (code, answer, said) = run(&["hash", "--user", "43"]);
    assert_eq!((code, answer.trim_end()), (Some(0), &*after), "{said}");
    let of_user = said.split('`').nth(1).unwrap().to_owned();
    eventually("the line of the binding has the hash of the user", || {
        let bound = format!(
            "\"event\":\"bind\",\"outcome\":\"ok\",\"app\":\"shop\",\"user.hash\":\"{after}\",\"bound_user.hash\":\"{of_user}\""
        );
        node.read("audit.log").contains(&bound)
    });
    let (code, answer, said) = run(&["hash", "--user", "42"]);
    assert_eq!((code, answer.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("no person is bound to this user"), "{said}");
    assert_eq!(run(&["unbind", "--user", "43"]), (Some(0), "unbound\n".into(), String::new()));
    assert_eq!(run(&["bound", "--app", "shop", "--openid", &openid]).2, "not bound\n");
    let (kid, digits) = after.split_once(':').unwrap();
    assert!(kid.starts_with("made-") && digits.len() == 32, "{after}");
    for file in ["access.log", "audit.log"] {
        let said = format!("\"user.hash\":\"{after}\"");
        eventually(file, || node.read(file).contains(&said));
    }
    assert!(!node.stderr().contains(&openid));
}
