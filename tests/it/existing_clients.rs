//! Clients that exist already, in front of a gateway with `conf/existing-client.yaml`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::common::{APPID, NO_THROTTLE, Response, World};
use crate::proxying::logged;

/// The example, with the addresses and the secret of a test.
fn world() -> World {
    let mut yaml = fs::read_to_string("conf/existing-client.yaml").unwrap();
    for (written, replaced) in [
        ("address: 127.0.0.1:8080", "address: 127.0.0.1:0"),
        ("[https://api.weixin.qq.com, https://api2.weixin.qq.com]", "['{emulator}']"),
        ("secret: { env: SHOP_SECRET }", "secret: emulator-secret-1"),
        ("servers: [127.0.0.1:9000]", "servers: ['{backend}']"),
    ] {
        assert_eq!(yaml.matches(written).count(), 1, "{written}");
        yaml = yaml.replace(written, replaced);
    }
    World::with(&format!("{yaml}{NO_THROTTLE}"))
}

fn lowered(response: &Response, name: &str) -> Vec<String> {
    response.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
}

#[test]
fn clients_that_exist_already_work_unchanged() {
    let world = world();

    let output = Command::new("node")
        .args(["--test", "tests/it/existing_clients/clients.test.js"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env("MENSHEN_GATEWAY", format!("http://{}", world.address()))
        .env("MENSHEN_EMULATOR", world.emulator_url())
        .env("MENSHEN_APPID", APPID)
        .output()
        .expect("node runs");

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("# pass 7") && text.contains("# skipped 0"), "{text}");
    let log = fs::read_to_string(world.data.path().join("access.log")).unwrap();
    for word in ["sessionId", "password", "username", "zhang", "made-up", "code=", "密码"] {
        assert!(!log.contains(word), "the access log has {word}");
    }
}

#[test]
fn an_answer_of_a_facade_is_not_stored_and_sets_no_cookie() {
    let world = world();

    let good = world.get(&format!("/login?code={}", world.code("alice")), "");
    let bad = world.get("/login?code=made-up", "");

    for (response, ok) in [(&good, true), (&bad, false)] {
        assert_eq!((response.status, &response.json()["ok"]), (200, &json!(ok)), "{}", response.text());
        assert_eq!(lowered(response, "cache-control"), ["no-store"]);
        assert_eq!(lowered(response, "content-type"), ["application/json"]);
        assert_eq!(lowered(response, "set-cookie"), Vec::<String>::new());
        assert_eq!(lowered(response, "www-authenticate"), Vec::<String>::new());
    }
    assert_eq!(bad.json()["why"], "code_invalid");
    let line = logged(&world, "/login");
    assert_eq!((&line["decision"], &line["reason"]), (&json!("refused"), &json!("code_invalid")), "{line}");
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn only_the_methods_of_a_facade_spend_a_code() {
    let world = world();
    let code = world.code("alice");

    for method in ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = format!(
            "{method} /login?code={code} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n"
        );
        let response = world.send(&request);

        assert_eq!(response.status, 405, "{method}");
        assert_eq!(lowered(&response, "allow"), ["GET"], "{method}");
    }
    assert_eq!(world.exchanges(), 0);
    assert_eq!(world.get(&format!("/login?code={code}"), "").json()["ok"], true);
}

#[test]
fn one_code_is_exchanged_once_by_facades_and_login() {
    let world = world();
    let code = world.code("alice");

    let first = world.get(&format!("/login?code={code}"), "").json();
    let second = world.get("/weapp/login", &format!("X-WX-Code: {code}\r\n")).json();
    let third = world.login_with(&json!({ "code": code }).to_string()).json();

    assert_eq!(first["sessionId"], second["data"]["skey"]);
    assert_eq!(first["sessionId"], third["access_token"]);
    assert_eq!(world.exchanges(), 1);
}

#[test]
fn a_token_in_the_query_is_read_where_the_route_says_so_and_reaches_no_backend() {
    let world = world();
    let token = world.sign_in("alice");
    let bob = world.sign_in("bob");
    let encoded = token.replacen('.', "%2E", 1);
    for (path, headers, status, forwarded) in [
        (format!("/a?sessionId={token}"), "", 200, Some("/a")),
        (format!("/a?x=1&sessionId={token}&y=%zz"), "", 200, Some("/a?x=1&y=%zz")),
        (format!("/a?session%49d={encoded}"), "", 200, Some("/a")),
        (format!("/a?%73%65ssionId={token}&"), "", 200, Some("/a")),
        (format!("/a?sessionId={token}&sessionId={token}"), "", 401, None),
        (format!("/a?sessionId={token}&session%49d={bob}"), "", 401, None),
        (format!("/a?sessionId={token}"), "alice", 200, Some("/a")),
        (format!("/a?sessionId={token}"), "bob", 401, None),
        (format!("/a?sessionid={token}"), "", 401, None),
        // A route that does not read it refuses, in its own shape, and still would not pass it on.
        (format!("/weapp/a?sessionId={token}"), "", 200, None),
        (format!("/weapp/a?sessionId={bob}&z=1"), "alice", 200, Some("/weapp/a?z=1")),
    ] {
        let before = world.backend.count();
        let headers = match headers {
            "alice" => format!("sessionId: {token}\r\n"),
            "bob" => format!("X-WX-Skey: {bob}\r\n"),
            _ => String::new(),
        };

        let response = world.get(&path, &headers);

        assert_eq!(response.status, status, "{path}: {}", response.text());
        assert_eq!(world.backend.count() - before, usize::from(forwarded.is_some()), "{path}");
        if let Some(forwarded) = forwarded {
            let head = world.backend.last().head;
            assert!(head.starts_with(&format!("GET {forwarded} HTTP/1.1\r\n")), "{path}: {head}");
            assert!(!head.contains(&token) && !head.contains(&bob), "{head}");
        }
    }
    let log = fs::read_to_string(world.data.path().join("access.log")).unwrap();
    assert!(!log.contains(&token) && !log.contains("sessionId"));
}

#[test]
fn a_route_refuses_in_the_shape_of_its_template() {
    let world = world();

    let response = world.get("/weapp/user", "");

    assert_eq!((response.status, response.json()), (200, json!({ "code": -1, "error": "no_token" })));
    let line = logged(&world, "/weapp/user");
    assert_eq!((&line["decision"], &line["reason"]), (&json!("refused"), &json!("no_token")), "{line}");
}

#[test]
fn a_facade_takes_no_request_from_a_page_of_another_site() {
    let world = world();
    let code = world.code("alice");
    let json = "Content-Type: application/json\r\n";
    for (headers, is_refused) in [
        (
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n".to_owned(),
            true,
        ),
        (
            "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n".into(),
            true,
        ),
        ("Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n".into(), true),
        ("Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n".into(), true),
        (
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n".into(),
            true,
        ),
        ("Sec-Purpose: prefetch\r\n".into(), true),
        (format!("Purpose: prefetch\r\n{json}"), true),
        ("Origin: https://evil.example\r\n".into(), true),
        ("Accept: text/html,*/*;q=0.8\r\n".into(), true),
        (format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n{json}"), true),
        // The developer tools are a browser, which has asked whether it may send JSON.
        (
            format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n{json}"),
            false,
        ),
        ("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n".into(), false),
        (format!("Accept: */*\r\n{json}"), false),
        (String::new(), false),
    ] {
        let response = world.get(&format!("/login?code={code}"), &headers);

        // A user who opens the façade in a browser reads a page.
        let text = response.text();
        let is_cross_site = response.status == 403 || text.contains(r#""why":"cross_site""#);
        assert_eq!(is_cross_site, is_refused, "{headers}: {text}");
        assert_eq!(text.contains(r#""ok":true"#), !is_refused, "{headers}: {text}");
    }
    assert_eq!(world.exchanges(), 1);
}
