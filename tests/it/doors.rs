//! Which door answers which request: every path at every door, as `docs/http-api.md` lists them.

use std::collections::BTreeSet;
use std::fs;

use crate::common::client::ask_control;
use crate::common::{Connection, NO_THROTTLE, ROUTES, World};

/// A request, and the doors that answer it.
struct Row {
    line: &'static str,
    is_admin: bool,
    is_control: bool,
    /// What a program must be permitted; `None` if the internal listener does not have the path.
    permission: Option<&'static str>,
}

const fn admin(line: &'static str) -> Row {
    Row { line, is_admin: true, is_control: false, permission: None }
}

const fn operators(line: &'static str) -> Row {
    Row { line, is_admin: false, is_control: true, permission: None }
}

const fn both(line: &'static str, permission: &'static str) -> Row {
    Row { line, is_admin: false, is_control: true, permission: Some(permission) }
}

const fn programs(line: &'static str, permission: &'static str) -> Row {
    Row { line, is_admin: false, is_control: false, permission: Some(permission) }
}

const fn nobody(line: &'static str) -> Row {
    Row { line, is_admin: false, is_control: false, permission: None }
}

const ROWS: &[Row] = &[
    admin("GET /metrics"),
    admin("GET /livez"),
    admin("GET /readyz"),
    both("GET /sessions", "sessions"),
    both("POST /sessions/revoke", "sessions"),
    both("POST /people/block", "people"),
    both("POST /people/unblock", "people"),
    both("GET /people/blocked", "people"),
    both("GET /people/hash", "people"),
    both("GET /people/show", "people"),
    both("POST /people/erase", "people"),
    both("POST /people/bind", "bind"),
    both("POST /people/unbind", "bind"),
    both("GET /people/bound", "bind"),
    both("GET /people/bindings", "bind"),
    programs("POST /introspect", "introspect"),
    operators("POST /store/backup"),
    operators("GET /throttle"),
    operators("POST /throttle/lift"),
    operators("POST /reload"),
    nobody("GET /"),
    nobody("GET /status"),
    nobody("GET /people"),
    nobody("GET /sessions/"),
    nobody("GET //sessions"),
    nobody("GET /metrics/"),
    nobody("GET /METRICS"),
    nobody("POST /auth/login"),
    nobody("GET /auth/session"),
    nobody("GET /.well-known/jwks.json"),
];

const PERMISSIONS: [&str; 4] = ["bind", "people", "sessions", "introspect"];

fn token(permission: &str) -> String {
    format!("{permission}-token-0123456789")
}

/// A world with a program for each permission, which has no other.
fn world() -> World {
    let client = |permission: &str| {
        format!("    - {{ name: {permission}, token: {}, may: [{permission}] }}\n", token(permission))
    };
    let clients: String = PERMISSIONS.iter().map(|permission| client(permission)).collect();
    World::with(&format!("{ROUTES}{NO_THROTTLE}\ninternal:\n  address: 127.0.0.1:0\n  clients:\n{clients}"))
}

fn request(line: &str, headers: &str) -> String {
    // No page takes a body that names nothing: nothing is changed.
    let body = if line.starts_with("POST") { "{}" } else { "" };
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: door.test\r\n{headers}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn each_path_is_answered_at_its_doors_and_is_not_found_at_every_other() {
    let world = world();
    let internal = world.gateway().internal_address().unwrap();
    let ask = |line: &str, token: &str| {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        Connection::open(internal).send(request(line, &bearer).as_bytes()).status
    };
    let alice = world.bearer("alice");
    let mut forwarded = 0;

    for Row { line, is_admin, is_control, permission } in ROWS {
        let admin = Connection::open(world.gateway().admin_address());
        let admin = { admin }.send(request(line, "").as_bytes()).status;
        assert_eq!(admin, if *is_admin { 200 } else { 404 }, "{line} at the admin listener");

        let body = if line.starts_with("POST") { "{}" } else { "" };
        let control = ask_control(world.control_socket(), line, body).status;
        assert_eq!(control != 404, *is_control, "{line} at the socket: {control}");

        assert_eq!(
            ask(line, "made-up-token-0123456789"),
            if permission.is_some() { 401 } else { 404 },
            "{line}"
        );
        for held in PERMISSIONS {
            let status = ask(line, &token(held));
            match permission {
                None => assert_eq!(status, 404, "{line} of a program that may {held}"),
                Some(needed) if *needed == held => assert!([200, 400].contains(&status), "{line}: {status}"),
                Some(_) => assert_eq!(status, 403, "{line} of a program that may {held}"),
            }
        }

        // At a public listener it is a request for the backend, unless it is a sign-in endpoint.
        if line.contains(" /auth/") || line.contains("/.well-known/") || line.contains(" //") {
            continue;
        }
        assert_eq!(world.send(&request(line, "")).status, 401, "{line} without a token");
        assert_eq!(world.send(&request(line, &alice)).status, 200, "{line} with a token");
        forwarded += 1;
        assert_eq!(world.backend.count(), forwarded, "{line} is the backend's");
    }
    assert_eq!(world.metric(r#"menshen_internal_requests_total{client="bind",code="200"}"#), 1.0);
    let unknown = ROWS.iter().filter(|row| row.permission.is_some()).count() as f64;
    assert_eq!(world.metric(r#"menshen_internal_requests_total{client="",code="401"}"#), unknown);
}

/// The requests in the tables of the section of `docs/http-api.md` with this title.
fn documented(title: &str) -> BTreeSet<String> {
    let document = fs::read_to_string("docs/http-api.md").unwrap();
    let section = document.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let tables = section.lines().filter(|line| line.starts_with("| "));
    let words: Vec<&str> = tables.flat_map(|line| line.split('`')).collect();
    let requests = words.into_iter().filter(|word| word.starts_with("GET /") || word.starts_with("POST /"));
    requests.map(str::to_owned).collect()
}

#[test]
fn the_document_lists_the_requests_of_each_door_and_no_others() {
    let of = |is_there: fn(&Row) -> bool| -> BTreeSet<String> {
        ROWS.iter().filter(|row| is_there(row)).map(|row| row.line.to_owned()).collect()
    };

    assert_eq!(documented("The admin listener\n"), of(|row| row.is_admin));
    assert_eq!(documented("The socket of the operators\n"), of(|row| row.is_control));
    assert_eq!(documented("The internal listener\n"), of(|row| row.permission.is_some()));
}
