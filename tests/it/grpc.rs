//! gRPC with the library of its own makers on both sides: calls that pass, and refusals, failures
//! and cuts of the gateway in gRPC's words.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::backends::server::{Place, Process};
use crate::common::redis::free_address;
use crate::common::{NO_THROTTLE, World, eventually};
use crate::proxying::logged;

/// The interpreter of Debian, which has Debian's `python3-grpcio`.
const PYTHON: &str = "/usr/bin/python3";

const ROUTES: &str = "
routes:
  - { path: /shop.Orders, access: authenticated, upstream: backend }
  - { path: /get, access: public, upstream: backend, methods: [GET] }
  - { path: /limited, access: public, upstream: backend, rate_limits: [{ by: address, rate: 1/min, burst: 1 }] }
  - { path: /user, access: authenticated, upstream: backend, require_user: true }
  - { path: /down, access: public, upstream: down }
  - { path: /code, access: authenticated, upstream: backend, reject: code_200 }
  - { path: /shop.Orders/Late, access: public, upstream: hasty }
  - { path: /shop.Orders/Watch, access: authenticated, upstream: hasty, read_timeout: 0s }
  - { path: /shop.Orders/Upload, access: public, upstream: backend, read_timeout: 0s }
listeners:
  - { address: 127.0.0.1:0, h2c: true }
";

/// A gateway before a server of gRPC.
struct Scene {
    world: World,
    _server: Process,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { address: free_address(), folder: folder.path().to_owned() };
        let server = Process::start(&[PYTHON.to_owned(), fixture("server.py")], &place);
        eventually("the server of gRPC listens (`scripts/test` installs what it needs)", || {
            TcpStream::connect(place.address).is_ok()
        });
        let (address, down) = (place.address, free_address());
        let world = World::with(&format!(
            "{ROUTES}{NO_THROTTLE}upstreams:
  backend: {{ servers: ['{address}'], protocol: http2 }}
  hasty: {{ servers: ['{address}'], protocol: http2, read_timeout: 1s }}
  down: {{ servers: ['{down}'], protocol: http2 }}
"
        ));
        Self { world, _server: server, _folder: folder }
    }

    /// Makes calls at once; what came of each. `watch` sees what a call says before its end.
    fn call(&self, calls: &[Vec<String>], mut watch: impl FnMut(&Value)) -> HashMap<String, Value> {
        let mut client = Command::new(PYTHON)
            .args([fixture("client.py"), self.world.address().to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("PYTHONPATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`scripts/test` installs python3");
        let lines: Vec<String> = calls.iter().map(|words| words.join("\t")).collect();
        client.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        let mut ends = HashMap::new();
        for line in BufReader::new(client.stdout.take().unwrap()).lines() {
            let said: Value = serde_json::from_str(&line.unwrap()).unwrap();
            watch(&said);
            if said["code"].is_string() {
                ends.insert(said["name"].as_str().unwrap().to_owned(), said);
            }
        }
        assert!(client.wait().unwrap().success());
        assert_eq!(ends.len(), calls.len());
        ends
    }
}

fn fixture(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backends/grpc");
    folder.join(name).display().to_string()
}

fn call(words: &[&str], authorization: &str) -> Vec<String> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    if !authorization.is_empty() {
        words.push(format!("authorization={authorization}"));
    }
    words
}

#[test]
fn calls_pass_and_refusals_and_failures_have_the_status_of_grpc() {
    let scene = Scene::new();
    let bearer = format!("Bearer {}", scene.world.sign_in("alice"));
    let large = format!("x-large={}", "v".repeat(40 * 1024));
    let slow = "1 ".repeat(13);
    let calls = [
        call(&["echo", "unary", "/shop.Orders/Echo", "hello"], &bearer),
        // Longer than the upstream may be silent elsewhere.
        call(&["watch", "watch", "/shop.Orders/Watch", "2 2"], &bearer),
        // Below `limits.min_body_rate`, longer than its grace.
        call(&["slow", "upload", "/shop.Orders/Upload", &slow], ""),
        call(&["nobody", "unary", "/shop.Orders/Echo", ""], ""),
        call(&["forged", "unary", "/shop.Orders/Echo", ""], "Bearer forged"),
        call(&["code_200", "unary", "/code/Echo", ""], ""),
        call(&["unbound", "unary", "/user/Echo", ""], &bearer),
        call(&["unknown", "unary", "/shop.Nothing/Echo", ""], &bearer),
        call(&["method", "unary", "/get/Echo", ""], ""),
        call(&["down", "unary", "/down/Echo", ""], ""),
        call(&["late", "unary", "/shop.Orders/Late", "4"], ""),
        call(&["name", "unary", "/shop.Orders/Echo", "", "access_token=secret"], &bearer),
        call(&["large", "unary", "/shop.Orders/Echo", "", &large], &bearer),
    ];

    let ends = scene.call(&calls, |_| {});

    for (name, code, details) in [
        ("echo", "OK", ""),
        ("watch", "OK", ""),
        ("slow", "OK", ""),
        ("nobody", "UNAUTHENTICATED", "no_token: sign in and send the access token"),
        ("forged", "UNAUTHENTICATED", "invalid_token: sign in and send the access token"),
        ("code_200", "UNAUTHENTICATED", "no_token: sign in and send the access token"),
        ("unbound", "PERMISSION_DENIED", "user_unbound"),
        ("unknown", "UNIMPLEMENTED", "route_unknown"),
        ("method", "UNIMPLEMENTED", "method_not_allowed"),
        ("down", "UNAVAILABLE", "upstream_unreachable"),
        ("late", "DEADLINE_EXCEEDED", "upstream_timeout"),
        (
            "name",
            "INTERNAL",
            "header_name_refused: a header name has a character outside letters, digits and `-`: `access_token`",
        ),
        ("large", "RESOURCE_EXHAUSTED", "header_too_large: the header is too large"),
    ] {
        let end = &ends[name];
        assert_eq!((&end["code"], &end["details"]), (&code.into(), &details.into()), "{name}: {end}");
        if code != "OK" {
            assert!(end["trailers"]["x-request-id"].is_string(), "{name}: {end}");
        }
    }
    assert_eq!(ends["echo"]["messages"], serde_json::json!(["hello"]));
    assert_eq!(ends["watch"]["messages"], serde_json::json!(["first", "next", "next"]));
    assert_eq!(ends["slow"]["messages"], serde_json::json!(["13"]));
    // What the log says is what it would say in HTTP's words.
    let line = logged(&scene.world, "/code/Echo");
    let decision = (&line["decision"], &line["reason"], &line["http.response.status_code"]);
    assert_eq!(decision, (&"refused".into(), &"no_token".into(), &401.into()));
    assert_eq!(logged(&scene.world, "/down/Echo")["http.response.status_code"], 502);
}

#[test]
fn a_rate_limit_says_when_the_call_may_be_sent_again() {
    let scene = Scene::new();
    let limited = |name: &str| call(&[name, "unary", "/limited/Echo", ""], "");
    // The backend knows no such method, which it says itself.
    assert_eq!(scene.call(&[limited("first")], |_| {})["first"]["code"], "UNIMPLEMENTED");

    let ends = scene.call(&[limited("second")], |_| {});

    let end = &ends["second"];
    assert_eq!(end["code"], "RESOURCE_EXHAUSTED", "{end}");
    let number = |name: &str| end["trailers"][name].as_str().unwrap().parse::<u64>().unwrap();
    assert!((30..=60).contains(&number("retry-after")), "{end}");
    assert_eq!(number("grpc-retry-pushback-ms"), 1000 * number("retry-after"), "{end}");
}

/// A stream on which messages pass ends with the status. One on which nothing moves is reset, which
/// the library shows as `CANCELLED`: Pingora does not let its trailers be written.
#[test]
fn a_stream_whose_session_has_ended_ends_with_the_status_of_grpc() {
    let scene = Scene::new();
    let token = scene.world.sign_in("alice");
    let bearer = format!("Bearer {token}");
    let calls = [
        call(&["busy", "watch", "/shop.Orders/Watch", &"0.05 ".repeat(1000)], &bearer),
        call(&["silent", "watch", "/shop.Orders/Watch", "30"], &bearer),
    ];
    let mut begun = 0;

    let ends = scene.call(&calls, |said| {
        if said["got"] == 1 {
            begun += 1;
            if begun == 2 {
                let out = scene.world.send(&format!(
                    "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
                ));
                assert!(out.status < 300, "{}", out.text());
            }
        }
    });

    let end = &ends["busy"];
    assert_eq!(
        (&end["code"], &end["details"]),
        (&"UNAUTHENTICATED".into(), &"invalid_token: sign in and send the access token".into()),
        "{end}"
    );
    assert_eq!(ends["silent"]["code"], "CANCELLED", "{}", ends["silent"]);
    assert_eq!(logged(&scene.world, "/shop.Orders/Watch")["reason"], "session_ended");
}
