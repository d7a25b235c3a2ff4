//! A person is shown and erased (PIPL art. 45 and 47), by the commands and on both engines.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::COMMON;
use crate::common::redis::RedisServer;
use crate::common::{NO_THROTTLE, ROUTES, Response, World, eventually};
use crate::process::{self, Process};

fn login(process: &Process, world: &World, person: &str) -> Response {
    let body = json!({ "code": world.code(person) }).to_string();
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    process.connect().send(request.as_bytes())
}

fn sign_in(process: &Process, world: &World, person: &str) -> Value {
    let response = login(process, world, person);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn visit(process: &Process, login: &Value) -> u16 {
    let token = login["access_token"].as_str().unwrap();
    let request =
        format!("GET /page HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n\r\n");
    process.connect().send(request.as_bytes()).status
}

/// Runs a command of an operator: its exit code, its answer and its messages.
fn run(process: &Process, arguments: &[&str]) -> (Option<i32>, String, String) {
    process::command(&process.config(), arguments)
}

fn answer(process: &Process, arguments: &[&str]) -> String {
    let (code, answer, messages) = run(process, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {messages}");
    answer
}

fn text<'a>(login: &'a Value, key: &str) -> &'a str {
    login[key].as_str().unwrap_or_else(|| panic!("{login}"))
}

/// The files of a folder that hold a text.
fn files_with(folder: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        let Ok(bytes) = fs::read(&file) else { continue };
        for word in words {
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push(format!("{word} in {}", file.display()));
            }
        }
    }
    found
}

#[test]
fn a_person_is_shown_and_erased_by_the_commands_and_no_byte_is_left_in_the_file() {
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    world.stop();
    let (alice, bob) = (sign_in(&process, &world, "alice"), sign_in(&process, &world, "bob"));
    let (openid, unionid) = (text(&alice, "openid"), text(&alice, "unionid"));
    let who = ["--app", "shop", "--openid", openid];
    let person = |deed: &str, more: &[&str]| answer(&process, &[&["person", deed], &who[..], more].concat());
    person("bind", &["--user", "customer-42", "--claim", "role=editor"]);

    let shown = person("show", &[]);
    let exported: Value = serde_json::from_str(&person("export", &[])).unwrap();
    let listed = answer(&process, &["person", "list", "--user", "customer-42"]);

    for word in ["shop", openid, unionid, "customer-42", "role=editor"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_eq!(
        (&exported["apps"][0]["openid"], &exported["apps"][0]["unionid"]),
        (&json!(openid), &json!(unionid))
    );
    assert_eq!(exported["apps"][0]["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&exported["bindings"][0]["user"], &exported["unreadable_rows"]),
        (&json!("customer-42"), &json!(0))
    );
    assert!(listed.contains(openid) && listed.lines().count() == 2, "{listed}");
    assert_eq!(run(&process, &["person", "show", "--user", "nobody"]).0, Some(1));

    let said = answer(&process, &["person", "erase", "--user", "customer-42"]);

    assert_eq!(said.trim_end(), "erased: 1 openids, 1 sessions, 1 bindings");
    assert_eq!((visit(&process, &alice), visit(&process, &bob)), (401, 200));
    let (code, shown, messages) = run(&process, &["person", "show", "--app", "shop", "--openid", openid]);
    assert_eq!((code, shown.as_str(), messages.trim_end()), (Some(0), "", "nothing is known"));
    let state = process.config().with_file_name("state");
    assert_eq!(files_with(&state, &[openid, unionid, "customer-42"]), Vec::<String>::new());

    // A block outlives an erasure and a restart, and an operator who knows the name can lift it.
    let again = sign_in(&process, &world, "alice");
    assert_eq!(text(&again, "openid"), openid);
    answer(&process, &["person", "block", "--unionid", unionid]);
    let said = answer(&process, &["person", "erase", "--unionid", unionid]);
    assert!(said.contains("1 blocks stay"), "{said}");
    process.signal("KILL");
    process.start_again();
    let refused = login(&process, &world, "alice");
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("user_blocked")));
    assert!(!answer(&process, &["person", "blocked"]).contains(unionid));
    assert_eq!(files_with(&state, &[openid, unionid]), Vec::<String>::new());
    answer(&process, &["person", "unblock", "--unionid", unionid]);
    sign_in(&process, &world, "alice");
}

#[test]
fn sessions_end_and_blocks_are_made_by_the_user_of_your_own() {
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let process = Process::like(&world);
    world.stop();
    let (alice, bob) = (sign_in(&process, &world, "alice"), sign_in(&process, &world, "bob"));
    let bind = |login: &Value, user: &str| {
        let openid = text(login, "openid");
        answer(&process, &["person", "bind", "--app", "shop", "--openid", openid, "--user", user]);
    };
    bind(&alice, "42");
    bind(&bob, "4");

    assert_eq!(answer(&process, &["session", "revoke", "--user", "42"]).trim_end(), "ended 1 session");
    assert_eq!((visit(&process, &alice), visit(&process, &bob)), (401, 200));
    let alice = sign_in(&process, &world, "alice");
    answer(&process, &["person", "block", "--user", "42"]);
    assert_eq!((visit(&process, &alice), visit(&process, &bob)), (403, 200));
    answer(&process, &["person", "unblock", "--user", "42"]);
    assert_eq!(visit(&process, &alice), 200);
}

/// The rows of a Redis that hold a text.
fn rows_with(redis: &RedisServer, words: &[&str]) -> Vec<String> {
    let keys = redis.command(&["keys", "menshen:*"]);
    let mut found = Vec::new();
    for key in keys.lines().filter(|key| !key.starts_with("menshen:log")) {
        let row = redis.command(&["get", key]);
        found.extend(words.iter().filter(|word| row.contains(**word)).map(|word| format!("{word} in {key}")));
    }
    found
}

#[test]
fn a_person_is_erased_on_every_gateway_of_a_redis_once_none_of_the_previous_version_runs() {
    let redis = RedisServer::start();
    // What a gateway of the previous version writes every second.
    redis.command(&["set", "menshen:log:{log}:alive", ""]);
    let common = COMMON.replace("{redis}", &redis.address().to_string());
    let mut world = World::with(&format!("{ROUTES}{common}{NO_THROTTLE}"));
    let nodes = [Process::like(&world), Process::like(&world)];
    world.stop();
    for node in &nodes {
        eventually("the node is ready", || node.admin("/readyz") == "ready\n");
    }
    let alice = sign_in(&nodes[0], &world, "alice");
    let (openid, unionid) = (text(&alice, "openid"), text(&alice, "unionid"));
    let who = ["--app", "shop", "--openid", openid];
    answer(&nodes[0], &[&["person", "bind"], &who[..], &["--user", "customer-42"]].concat());
    assert_eq!(visit(&nodes[1], &alice), 200);
    let words = [openid, unionid, "customer-42"];
    assert!(rows_with(&redis, &words).len() >= 3, "rows of before name people");
    let (code, _, messages) = run(&nodes[0], &[&["person", "erase"], &who[..]].concat());
    assert!(code == Some(1) && messages.contains("previous version"), "{messages}");
    assert_eq!(visit(&nodes[0], &alice), 200);

    redis.command(&["del", "menshen:log:{log}:alive"]);

    eventually("rows are sealed", || rows_with(&redis, &words).is_empty());
    assert_eq!((visit(&nodes[0], &alice), visit(&nodes[1], &alice)), (200, 200));
    answer(&nodes[0], &[&["person", "erase"], &who[..]].concat());
    eventually("the other gateway refuses", || visit(&nodes[1], &alice) == 401);
    assert_eq!(visit(&nodes[0], &alice), 401);
    assert_eq!(redis.command(&["keys", "menshen:[su]:*"]).trim(), "");
    assert_eq!(rows_with(&redis, &words), Vec::<String>::new());
    let again = sign_in(&nodes[1], &world, "alice");
    assert_eq!((visit(&nodes[0], &again), visit(&nodes[1], &again)), (200, 200));
}
