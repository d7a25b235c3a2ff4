//! Which path was matched and which path the backend is served: always the same one.
//!
//! Attacks B1 to B25 of docs/threat-model.md. No client signs in here: what reaches the backend was
//! matched as public or optional, and must not be a protected path in any reading.

pub mod reading;
pub mod relaxed;
mod table;

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use menshen::path::AmbiguousPath;

use self::reading::{decode, governing, readings, readings_of_an_ambiguous_path};
use crate::common::http2::{self, Http2, Outcome};
use crate::common::{Connection, NO_THROTTLE, Response, Tally, World};

/// Everything is public but what is not; the names are chosen so that they can be hidden in many
/// ways.
pub const OPEN: &str = "
routes:
  - { name: root, path: /, access: public, upstream: backend }
  - { name: api, path: /api, access: authenticated, upstream: backend }
  - { name: version, path: /v1.0, access: authenticated, upstream: backend }
  - { name: me, path: /@me, access: authenticated, upstream: backend }
  - { name: action, path: '/things/a:b!c', access: authenticated, upstream: backend }
  - { name: accent, path: /caf%C3%A9, access: authenticated, upstream: backend }
  - { name: space, path: /a%20b, access: authenticated, upstream: backend }
  - { name: health, path: /api/health, access: public, upstream: backend }
  - { name: optional, path: /opt, access: optional, upstream: backend }
  - { name: read, path: /ro, methods: [GET, HEAD], access: public, upstream: backend }
  - { name: write, path: /ro, access: authenticated, upstream: backend }
  - { name: admin, hosts: [admin.example.com], path: /, access: authenticated, upstream: backend }
listeners:
  - { address: 127.0.0.1:0, h2c: true }
";

/// Paths of [`OPEN`] with whether they are protected, as a backend names them.
pub const OPEN_PATHS: &[(&str, bool)] = &[
    ("/", false),
    ("/api", true),
    ("/v1.0", true),
    ("/@me", true),
    ("/things/a:b!c", true),
    ("/café", true),
    ("/a b", true),
    ("/api/health", false),
    ("/opt", false),
];

/// Everything is protected but what is not.
pub const CLOSED: &str = "
routes:
  - { name: root, path: /, access: authenticated, upstream: backend }
  - { name: public, path: /pub, access: public, upstream: backend }
  - { name: private, path: /pub/api, access: authenticated, upstream: backend }
  - { name: optional, path: /opt, access: optional, upstream: backend }
listeners:
  - { address: 127.0.0.1:0, h2c: true }
";
pub const CLOSED_PATHS: &[(&str, bool)] =
    &[("/", true), ("/pub", false), ("/pub/api", true), ("/opt", false)];

/// What must become of a request without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reaches the backend with this target.
    Reaches(&'static str),
    /// Is answered with this status.
    Status(u16),
}

use Verdict::{Reaches, Status};

pub fn world(routes: &str) -> World {
    World::with(&format!("{routes}{NO_THROTTLE}"))
}

/// A request over a connection of its own: the answer's status, and the target the backend saw.
pub fn try_raw(world: &World, request: &[u8]) -> (u16, Option<String>) {
    let before = world.backend.count();
    let mut connection = world.connect();
    connection.write(request);
    let response = connection.try_read_response(request.starts_with(b"HEAD "));
    let reached = (world.backend.count() > before).then(|| world.backend.last().target().to_owned());
    (response.map_or(0, |response| response.status), reached)
}

pub fn assert_verdict(world: &World, row: &str, request: &[u8], expected: Verdict, tally: &mut Tally) {
    let (status, reached) = try_raw(world, request);
    tally.add(status, usize::from(reached.is_some()));
    let shown = request.escape_ascii();
    match (expected, reached) {
        (Reaches(target), Some(reached)) => assert_eq!(reached, target, "{row}: {shown}"),
        (Status(wanted), None) => assert_eq!(status, wanted, "{row}: {shown}"),
        (expected, reached) => panic!("{row}: {shown}: {status}, reached {reached:?}, not {expected:?}"),
    }
}

pub fn get(target: &str) -> Vec<u8> {
    [b"GET ", &raw(target)[..], b" HTTP/1.1\r\nHost: gateway.test\r\n\r\n"].concat()
}

/// The bytes of a target: every character one byte, so that a table can hold any byte.
pub fn raw(target: &str) -> Vec<u8> {
    target.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Every known way to hide a path in [`OPEN`], and what must become of it.
pub fn hidden() -> &'static [(&'static str, &'static str, Verdict)] {
    &[
        ("B1", "/pub/../api/secrets", Status(400)),
        ("B1", "/pub/..", Status(400)),
        ("B1", "/../api", Status(400)),
        ("B1", "/api/health/../secrets", Status(400)),
        ("B1", "/opt/../api", Status(400)),
        ("B1", "/pub/...", Status(400)),
        ("B1", "/pub/..%20/api", Status(400)),
        ("B1", "/pub/%20/api", Status(400)),
        ("B1", "/pub/.%C2%A0./api", Status(400)),
        ("B1", "/pub/%EF%BC%8E%EF%BC%8E/api", Status(400)),
        ("B1", "/pub/.%EF%BC%8e/api", Status(400)),
        ("B1", "/pub/%2e%ef%b9%92/api", Status(400)),
        ("B1", "/pub/%E2%80%A5/api", Status(400)),
        ("B1", "/pub/%EF%B8%B0/api", Status(400)),
        ("B1", "/pub%EF%BC%8F..%EF%BC%8Fapi", Status(400)),
        ("B1", "/pub%EF%B9%A8..%EF%B9%A8api", Status(400)),
        ("B1", "/pub/..%EF%BC%9Bx=1/api", Status(400)),
        ("B1", "/pub/.%E2%80%8B./api", Status(400)),
        ("B1", "/pub/%EF%BC%852e%EF%BC%852e/api", Status(400)),
        ("B2", "/pub/%2e%2e/api", Status(400)),
        ("B2", "/pub/.%2e/api", Status(400)),
        ("B2", "/pub/%2E./api", Status(400)),
        ("B2", "/pub/%2E%2E/api", Status(400)),
        ("B2", "/%2e/api", Status(400)),
        ("B3", "/pub/..%2fapi", Status(400)),
        ("B3", "/pub%2f..%2fapi", Status(400)),
        ("B3", "/pub%5c..%5capi", Status(400)),
        ("B3", "/%2fapi", Status(400)),
        ("B3", "/api%00", Status(400)),
        ("B3", "/api%3b", Status(400)),
        ("B3", "/api%3f", Status(400)),
        ("B3", "/api%23", Status(400)),
        ("B3", "/pub%0d%0aX-WX-OPENID:%20victim", Status(400)),
        ("B3", "/pub\\..\\api", Status(400)),
        ("B4", "/x%2f", Status(400)),
        ("B4", "/x%2F", Status(400)),
        ("B5", "/users/1%2Fadmin", Status(400)),
        ("B5", "/api%3Bx=/y", Status(400)),
        ("B6", "/pub/..;foo=bar/api", Status(400)),
        ("B6", "/api;x=y/admin", Status(400)),
        ("B6", "/api;/admin", Status(400)),
        ("B6", "/;/api", Status(400)),
        ("B7", "/a%2fb/../c", Status(400)),
        ("B8", "/api/secret#/pub/x", Status(400)),
        ("B8", "/#/../api", Status(400)),
        ("B8", "/pub/x#", Status(400)),
        ("B8", "/pub?a#b", Status(400)),
        ("B8", "/foo/secret%23/bar", Status(400)),
        ("B9", "/api/secret?x=/api/health", Status(401)),
        ("B9", "/api?/../api/health", Status(401)),
        ("B9", "/api/health?x=/api/secret", Reaches("/api/health?x=/api/secret")),
        ("B10", "/apix", Reaches("/apix")),
        ("B10", "/api-admin", Reaches("/api-admin")),
        ("B10", "/v1a0/x", Reaches("/v1a0/x")),
        ("B10", "/v1.0/x", Status(401)),
        ("B10", "/api/healthy", Status(401)),
        ("B11", "/%61pi/admin", Status(401)),
        ("B11", "/ap%69", Status(401)),
        ("B11", "/%76%31%2e%30/x", Status(401)),
        // Paths are case-sensitive, as RFC 3986 §6.2.2.1 has it.
        ("B11", "/API/Admin", Reaches("/API/Admin")),
        ("B11", "/%40me", Status(401)),
        ("B11", "/@me/x", Status(401)),
        ("B11", "/things/a%3ab%21c", Status(401)),
        ("B11", "/things/a:b%21c/d", Status(401)),
        ("B11", "/caf%c3%a9", Status(401)),
        ("B11", "/caf%C3%A9/x", Status(401)),
        ("B11", "/a%20b", Status(401)),
        ("B11", "/%61%20%62/c", Status(401)),
        ("B11", "/a+b", Reaches("/a+b")),
        ("B11", "/%E2%80%8B", Reaches("/%E2%80%8B")),
        ("B11", "/%e4%bd%a0", Reaches("/%E4%BD%A0")),
        ("B11", "/%252fapi", Status(400)),
        ("B11", "/%2561pi", Status(400)),
        ("B11", "/%25%36%31pi", Status(400)),
        ("B17", "/api%zz", Status(400)),
        ("B17", "/api%", Status(400)),
        ("B17", "/api%2", Status(400)),
        ("B17", "/%u0061pi", Status(400)),
        ("B17", "/\0", Status(400)),
        ("B17", "/api\0", Status(400)),
        // Pingora would escape what its parser refuses; RFC 9112 §3.2 says that it is refused.
        ("B17", "/a b", Status(400)),
        ("B17", "/api /x", Status(400)),
        ("B17", "/x HTTP/1.1", Status(400)),
        ("B17", "/x\"b", Status(400)),
        ("B17", "/x<b>", Status(400)),
        ("B17", "/x <b>", Status(400)),
        ("B17", "/a{}", Status(400)),
        ("B17", "/a|b", Status(400)),
        ("B17", "/a^b", Status(400)),
        ("B17", "/a`b", Status(400)),
        ("B17", "/caf\u{e9}", Status(400)),
        ("B17", "/caf\u{c3}\u{a9}", Status(400)),
        ("B17", "/%c0%af", Status(400)),
        ("B17", "/\u{7f}", Status(400)),
        ("B17", "/a\tb", Status(400)),
        ("B20", "//api/x", Status(400)),
        ("B20", "/pub//../api", Status(400)),
        ("B20", "///pub", Status(400)),
        ("B20", "/api//", Status(400)),
        ("B20", "//", Status(400)),
        ("B21", "api", Status(400)),
        ("B21", "http://evil/api", Status(400)),
        ("B21", "http://evil/", Status(400)),
        ("B21", "http://gateway.test/api", Status(401)),
        ("B21", "http://gateway.test/x?y", Reaches("/x?y")),
        ("B21", "http://gateway.test", Reaches("/")),
        ("B21", "http://gateway.test/pub/../api", Status(400)),
        ("B21", "http://gateway.test//api", Status(400)),
        ("B21", "http://gateway.test?/api", Status(400)),
        ("B21", "http://user@gateway.test/x", Status(400)),
        ("B21", "http://gateway.test:80@evil/x", Status(400)),
        ("B21", "http:/x", Status(400)),
        ("B21", "http:x", Status(400)),
        ("B21", "ftp://gateway.test/x", Status(400)),
        ("B21", "gateway.test:80", Status(400)),
        ("B21", "*", Status(400)),
        ("B21", "?x", Status(400)),
        ("B21", "/*", Reaches("/*")),
        ("B22", "/api/*", Status(401)),
        ("B22", "/api/%2a", Status(401)),
        ("B22", "/%2a", Reaches("/%2A")),
        ("B24", "/api/", Status(401)),
        ("B24", "/./api", Status(400)),
        ("B24", "/api/.", Status(400)),
        ("B24", "/api?", Status(401)),
        ("-", "/x?a=b c", Status(400)),
        ("-", "/x?a=\"b\"", Reaches("/x?a=%22b%22")),
        ("-", "/x?a=<b>", Reaches("/x?a=%3Cb%3E")),
        ("-", "/x?a=\u{c3}\u{a9}&b=\u{e4}\u{bd}\u{a0}", Reaches("/x?a=%C3%A9&b=%E4%BD%A0")),
        ("-", "/x?a=\u{c4}\u{e3}", Status(400)),
        ("-", "/x?a=%C4%E3", Reaches("/x?a=%C4%E3")),
        ("-", "/x?a=\u{e9}", Status(400)),
        ("-", "/x?a=../api", Reaches("/x?a=../api")),
        ("-", "/x?a=%00", Reaches("/x?a=%00")),
        ("-", "/x??", Reaches("/x??")),
        ("-", "/opt/x", Reaches("/opt/x")),
        ("-", "/auth/../api", Status(400)),
        ("-", "/auth/login/../../api", Status(400)),
        ("-", "/auth%2flogin", Status(400)),
    ]
}

#[test]
fn every_known_disguise_of_a_path_is_refused_or_read_as_the_backend_reads_it() {
    let world = world(OPEN);
    let mut tally = Tally::default();

    for (row, target, expected) in hidden() {
        assert_verdict(&world, row, &get(target), *expected, &mut tally);
    }
    tally.report("paths: hidden");
}

/// B7, B11: what is matched is forwarded, in the same spelling.
#[test]
fn a_signed_in_request_is_forwarded_in_the_spelling_that_was_matched() {
    let world = world(CLOSED);
    let bearer = world.bearer("alice");
    for (sent, forwarded) in [
        ("/api/x", "/api/x"),
        ("/%61pi/x%2D%7e?q=%61", "/api/x-~?q=%61"),
        ("/pub/ap%69/x", "/pub/api/x"),
        ("http://gateway.test/%61pi?q", "/api?q"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b%40", "/a%20b%40"),
    ] {
        assert_eq!(world.get(sent, &bearer).status, 200, "{sent}");
        assert_eq!(world.backend.last().target(), forwarded, "{sent}");
    }
}

/// B12, B13: the host is one name in any spelling; nothing else in `Host` is read.
#[test]
fn the_host_decides_in_one_spelling_only() {
    let world = world(OPEN);
    let mut tally = Tally::default();
    let get = |target: &str, hosts: &[&str]| {
        let lines: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        format!("GET {target} HTTP/1.1\r\n{lines}\r\n").into_bytes()
    };
    let table: &[(&[&str], Verdict)] = &[
        (&["admin.example.com"], Status(401)),
        (&["ADMIN.Example.com"], Status(401)),
        (&["admin.example.com."], Status(401)),
        (&["admin.example.com:443"], Status(401)),
        (&["ADMIN.example.com.:8443"], Status(401)),
        (&["admin.example.com.."], Status(400)),
        (&["admin.example.com:"], Status(400)),
        (&["admin.example.com:99999"], Status(400)),
        (&["admin.example.com:+1"], Status(400)),
        (&[" admin.example.com\t"], Status(401)),
        (&["other.example.com"], Reaches("/x")),
        (&["victim/?"], Status(400)),
        (&["victim/#"], Status(400)),
        (&["victim#"], Status(400)),
        (&["a\"; for=1.2.3.4"], Status(400)),
        (&["a b"], Status(400)),
        (&["a,b"], Status(400)),
        (&["user@admin.example.com"], Status(400)),
        (&["admin.example.com%00"], Status(400)),
        (&["admin%2eexample.com"], Status(400)),
        (&["[::1"], Status(400)),
        (&["[::1]x"], Status(400)),
        (&[""], Status(400)),
        (&["."], Status(400)),
        (&["x..y"], Status(400)),
        (&["\u{e9}"], Status(400)),
        (&[], Status(400)),
        (&["other.example.com", "admin.example.com"], Status(400)),
        (&["other.example.com", "other.example.com"], Status(400)),
        (&["other.example.com, admin.example.com"], Status(400)),
    ];
    for (hosts, expected) in table {
        assert_verdict(&world, "B12", &get("/x", hosts), *expected, &mut tally);
    }
    for (target, host, expected) in [
        ("http://admin.example.com/x", "other.example.com", Status(400)),
        ("http://other.example.com/x", "admin.example.com", Status(400)),
        ("http://admin.example.com/x", "admin.example.com", Status(401)),
        ("http://ADMIN.example.com/x", "ADMIN.example.com", Status(401)),
        ("http://ADMIN.example.com/x", "admin.example.com", Status(400)),
        ("http://admin.example.com:80/x", "admin.example.com", Status(400)),
    ] {
        assert_verdict(&world, "B13", &get(target, &[host]), expected, &mut tally);
    }
    for hidden in ["X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded"] {
        let request =
            format!("GET /x HTTP/1.1\r\nHost: admin.example.com\r\n{hidden}: other.example.com\r\n\r\n");
        assert_verdict(&world, "B13", request.as_bytes(), Status(401), &mut tally);
    }
    tally.report("paths: hosts");
}

/// The backend gets the host that was matched, in the spelling that was matched.
#[test]
fn the_host_is_forwarded_as_it_was_matched() {
    let world = world(OPEN);
    for (target, host) in [
        ("/x", "Other.Example.COM."),
        ("/x", "OTHER.example.com"),
        ("http://other.example.com/x", "other.example.com"),
        ("http://OTHER.example.com/x", "OTHER.example.com"),
    ] {
        let response = world.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));

        assert_eq!(response.status, 200, "{target} {host}");
        let received = world.backend.last();
        assert_eq!(received.header("host"), ["other.example.com"], "{target} {host}");
        assert_eq!(received.header("x-forwarded-host"), ["other.example.com"], "{target} {host}");
        assert_eq!(received.target(), "/x", "{target} {host}");
    }
    for authority in ["other.example.com", "OTHER.example.com.", "Other.Example.Com"] {
        let mut fields = http2::fields("GET", b"/x", &[(b"host", authority.as_bytes())]);
        fields[2].1 = authority.as_bytes();
        let received = Http2::open(world.address()).send(&fields).echoed().unwrap();
        assert_eq!(received.header("host"), ["other.example.com"], "{authority}");
        assert_eq!(received.header("x-forwarded-host"), ["other.example.com"], "{authority}");
    }
    let mut fields = http2::fields("GET", b"/x", &[(b"host", b"OTHER.example.com")]);
    fields[2].1 = b"other.example.com";
    if let Some(received) = Http2::open(world.address()).send(&fields).echoed() {
        assert_eq!(received.header("host"), ["other.example.com"]);
    }
}

/// B12: with many hosts, too.
#[test]
fn more_than_a_hundred_hosts_are_told_apart_in_every_spelling() {
    let mut routes = String::from("routes:\n  - { name: any, path: /, access: public, upstream: backend }\n");
    for index in 0..120 {
        routes += &format!(
            "  - {{ name: h{index}, hosts: [h{index}.example.com], path: /, access: authenticated, upstream: backend }}\n"
        );
    }
    let world = world(&routes);
    let mut tally = Tally::default();
    for index in 0..120 {
        for host in [
            format!("h{index}.example.com"),
            format!("H{index}.EXAMPLE.com"),
            format!("h{index}.example.com."),
            format!("h{index}.example.com:8080"),
        ] {
            let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_verdict(&world, "B12", request.as_bytes(), Status(401), &mut tally);
        }
    }
    tally.report("paths: a hundred hosts and more");
}

/// B14, B15, B16, B18: nothing but the request line and the token decides.
#[test]
fn no_header_makes_a_protected_path_public() {
    let world = world(OPEN);
    let mut tally = Tally::default();
    for line in [
        "X-Forwarded-Uri: /api/health",
        "X-Original-URI: /api/health",
        "X-Original-URL: /api/health",
        "X-Forwarded-Path: /api/health",
        "X-Forwarded-Method: OPTIONS",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Prefix: /api/health",
        "X-Envoy-Original-Path: /api/health",
        "User-Agent: kube-probe/1.0",
        "User-Agent: GoogleHC/1.0",
        "Authorization: Bearer junk",
        "Authorization: Bearer ",
        "Authorization: Basic YTpi",
        "Cookie: session=!!!garbage",
        "Cookie: session=eyJhbGciOi",
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Accept: text/html",
        "Referer: https://gateway.test/api/health",
        "Origin: https://gateway.test\r\nAccess-Control-Request-Method: GET",
    ] {
        let request = format!("GET /api/secret HTTP/1.1\r\nHost: gateway.test\r\n{line}\r\n\r\n");
        assert_verdict(&world, "B14", request.as_bytes(), Status(401), &mut tally);
    }
    let cookie = "x".repeat(8192);
    let request = format!("GET /api HTTP/1.1\r\nHost: gateway.test\r\nCookie: session={cookie}\r\n\r\n");
    assert_verdict(&world, "B18", request.as_bytes(), Status(401), &mut tally);
    tally.report("paths: headers that grant nothing");
}

/// B25: whether a token is needed does not depend on tricks with the method.
#[test]
fn the_method_changes_nothing_but_what_a_route_says_of_it() {
    let world = world(OPEN);
    let table: &[(&str, &str, &str, Verdict)] = &[
        ("GET", "/api", "X-HTTP-Method-Override: OPTIONS", Status(401)),
        ("POST", "/api", "X-HTTP-Method-Override: GET", Status(401)),
        ("HEAD", "/api", "", Status(401)),
        ("OPTIONS", "/api", "", Status(401)),
        ("OPTIONS", "/api", "Origin: a\r\nAccess-Control-Request-Method: GET", Status(401)),
        ("PUT", "/api", "Content-Length: 0", Status(401)),
        ("DELETE", "/api", "", Status(401)),
        ("PATCH", "/api", "", Status(401)),
        ("get", "/api", "", Status(405)),
        ("Get", "/x", "", Status(405)),
        ("PROPFIND", "/api", "", Status(405)),
        ("PROPFIND", "/x", "", Status(405)),
        ("TRACE", "/x", "", Status(405)),
        ("TRACK", "/x", "", Status(405)),
        ("FOO", "/x", "", Status(405)),
        ("PRI", "/x", "", Status(405)),
        ("CONNECT", "/x", "", Status(405)),
        ("CONNECT", "gateway.test:80", "", Status(405)),
        ("CONNECT", "h:1", "", Status(400)),
        ("OPTIONS", "*", "", Status(204)),
        ("HEAD", "*", "", Status(400)),
        ("G\0ET", "/x", "", Status(400)),
        ("GET", "/ro/x", "", Reaches("/ro/x")),
        ("HEAD", "/ro/x", "", Reaches("/ro/x")),
        ("POST", "/ro/x", "Content-Length: 0", Status(401)),
        ("POST", "/ro/x", "Content-Length: 0\r\nX-HTTP-Method-Override: GET", Status(401)),
        ("OPTIONS", "/ro/x", "", Status(401)),
    ];
    let mut tally = Tally::default();
    for (method, target, line, expected) in table {
        let line = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n{line}\r\n");
        let (status, reached) = try_raw(&world, request.as_bytes());
        tally.add(status, usize::from(reached.is_some()));
        match expected {
            // Pingora refuses CONNECT before it looks at the authority, or after: either way it
            // goes nowhere.
            Status(_) if *method == "CONNECT" => assert!(matches!(status, 400 | 405), "{method} {target}"),
            Status(wanted) => assert_eq!(status, *wanted, "{method} {target} {line}"),
            Reaches(target) => assert_eq!(reached.as_deref(), Some(*target), "{method} {target} {line}"),
        }
        if matches!(expected, Status(_)) {
            assert_eq!(reached, None, "{method} {target} {line}");
        }
    }
    tally.report("paths: methods");
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        assert_eq!(world.get("/ro/x", &format!("{name}: POST\r\n")).status, 200);
        assert_eq!(
            world.backend.last().folded(name),
            [""; 0],
            "a route tells methods apart, the backend must not be told"
        );
    }
}

/// B19: a login without a code is no login, and asks WeChat nothing.
#[test]
fn a_login_without_a_code_is_refused() {
    let world = world(OPEN);
    for body in ["", "{}", r#"{"code":""}"#, r#"{"code":null}"#, "[]", "null", "\0", r#"{"code":["a"]}"#] {
        assert_eq!(world.login_with(body).status, 400, "{body:?}");
    }
    assert_eq!(world.exchanges(), 0);
}

/// Separators in every disguise, and what confuses parsers.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "\\", "//", ";", ";x=1", "%3b",
    "%3B", "%25", "%252e", "%252f", "%00", "\0", "#", "%23", "?", "%3f", "%3F", "*", "%2a", "%40", "@",
    "%3a", "%21", "%20", " ", "+", "a", "x", "%61", "%", "2f", "%u002f", "%c0%ae", "%c0%af", "%e0%80%af",
    "%c3%a9", "\u{e9}", "\u{ff}", "%ff", "\t", "\u{7f}", "..;", "/./", "/../", ":",
    "http://gateway.test", "&", "=", "~", "%7e", "%0a", "[", "]",
    "\u{c3}\u{a9}", "%C4%E3", "%a3%af", "%c1%a1",
];

/// Pieces that make hostile paths likely; every character is one byte on the wire.
pub fn hostile_path(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let name = proptest::sample::select(names);
    let piece = proptest::sample::select(PIECES);
    let piece = prop_oneof![3 => piece, 2 => name];
    (prop::bool::weighted(0.9), prop::collection::vec(piece, 0..9))
        .prop_map(|(is_rooted, pieces)| format!("{}{}", if is_rooted { "/" } else { "" }, pieces.concat()))
}

/// Names of a world, plain and in hiding.
#[rustfmt::skip]
pub const NAMES: &[&str] = &[
    "api", "%61pi", "ap%69", "API", "pub", "%70ub", "opt", "v1.0", "v1%2e0", "@me", "%40me", "things", "a:b!c",
    "a%3Ab%21c", "caf%c3%a9", "a%20b", "health", "auth", "login", "secret",
];

/// Sends generated targets; what reaches the backend must be unprotected in every reading.
pub fn search(
    what: &str,
    cases: u32,
    paths: &[(&'static str, bool)],
    is_relaxed: bool,
    mut send: impl FnMut(&str) -> (u16, Option<String>),
) {
    let prefixes: Vec<&str> = paths.iter().map(|(prefix, _)| *prefix).collect();
    let is_protected = |path: &str| {
        let prefix = governing(path, &prefixes).unwrap_or("/");
        paths.iter().any(|(known, is_protected)| known == &prefix && *is_protected)
    };
    let tally = RefCell::new(Tally::default());
    let send = RefCell::new(&mut send);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&hostile_path(NAMES), |target| {
            let (status, reached) = send.borrow_mut()(&target);
            tally.borrow_mut().add(status, usize::from(reached.is_some()));
            let Some(reached) = reached else {
                prop_assert!(status != 200, "{target:?} was answered by nobody");
                return Ok(());
            };
            let path = reached.split('?').next().unwrap_or_default();
            let is_ambiguous = AmbiguousPath::parse(path).is_ok_and(|path| !path.spellings().is_empty());
            assert!(is_relaxed || !is_ambiguous, "{target:?} reached the backend as {reached}");
            let readings = if is_ambiguous { readings_of_an_ambiguous_path(path) } else { readings(path) };
            for reading in readings {
                if is_protected(&reading) {
                    let why = format!(
                        "{target:?} reached the backend as {reached}, which can be read as {reading}"
                    );
                    return Err(TestCaseError::fail(why));
                }
            }
            if is_ambiguous {
                prop_assert!(
                    raw(&target).windows(path.len()).any(|part| part == path.as_bytes()),
                    "{target:?}"
                );
                return Ok(());
            }
            let segments = path.split('/').count();
            prop_assert_eq!(decode(path).split(['/', '\\', ';', '?', '#', '\0']).count(), segments);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    tally.borrow().report(&format!("paths: generated, {what}"));
}

pub fn echoed_target(response: Option<&Response>) -> Option<String> {
    let response = response.filter(|response| response.status == 200)?;
    response.text().split(' ').nth(1).map(str::to_owned)
}

#[test]
fn no_generated_target_reaches_the_backend_as_a_protected_path() {
    for (what, routes, paths) in [("open", OPEN, OPEN_PATHS), ("closed", CLOSED, CLOSED_PATHS)] {
        let world = world(routes);
        let mut connection: Connection = world.connect();
        search(what, 4000, paths, false, |target| send(&world, &mut connection, target));
    }
}

/// Sends a request over a connection that is kept; the answer's status, and what the backend
/// echoed.
pub fn send(world: &World, connection: &mut Connection, target: &str) -> (u16, Option<String>) {
    connection.write(&get(target));
    let response = connection.try_read_response(false);
    if response.as_ref().is_none_or(|response| response.header("connection") == Some("close")) {
        *connection = world.connect();
    }
    (response.as_ref().map_or(0, |response| response.status), echoed_target(response.as_ref()))
}

#[test]
fn over_http2_no_generated_path_reaches_the_backend_as_a_protected_path() {
    for (what, routes, paths) in
        [("open, HTTP/2", OPEN, OPEN_PATHS), ("closed, HTTP/2", CLOSED, CLOSED_PATHS)]
    {
        let world = world(routes);
        let mut connection = Http2::open(world.address());
        search(what, 2000, paths, false, |target| send_over_http2(&world, &mut connection, target));
    }
}

pub fn send_over_http2(world: &World, connection: &mut Http2, target: &str) -> (u16, Option<String>) {
    let outcome = connection.send(&http2::fields("GET", &raw(target), &[]));
    if matches!(outcome, Outcome::GoneAway(_) | Outcome::Closed) {
        *connection = Http2::open(world.address());
    }
    (outcome.status(), outcome.echoed().map(|received| received.target().to_owned()))
}

/// B8, B21 over HTTP/2, where path and authority are separate fields.
#[test]
fn over_http2_a_request_is_what_its_pseudo_headers_say_or_nothing() {
    let world = world(OPEN);
    let mut tally = Tally::default();
    let mut send = |fields: Vec<(&str, &str)>| {
        let fields: http2::Fields<'_> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let outcome = Http2::open(world.address()).send(&fields);
        tally.add(&outcome, usize::from(outcome.echoed().is_some()));
        outcome
    };
    let authority = (":authority", "gateway.test");
    let get = |path| vec![(":method", "GET"), (":scheme", "http"), authority, (":path", path)];

    for (path, status) in [("/x", 200), ("/api", 401), ("/%61pi", 401), ("//api", 400), ("/pub/../api", 400)]
    {
        assert_eq!(send(get(path)).status(), status, "{path}");
    }
    // The HTTP/2 parser drops a fragment before our code sees it: the part before it is matched and
    // forwarded.
    assert_eq!(send(get("/api#/x")).status(), 401);
    if let Some(received) = send(get("/x#/api")).echoed() {
        assert_eq!(received.target(), "/x");
    }
    let twice = |name, value| [get("/x"), vec![(name, value)]].concat();
    for (what, fields) in [
        ("path twice", twice(":path", "/api")),
        ("method twice", twice(":method", "POST")),
        ("authority twice", twice(":authority", "admin.example.com")),
        ("unknown pseudo-header", twice(":x", "1")),
        ("status", twice(":status", "200")),
        ("protocol", twice(":protocol", "websocket")),
        ("other host", twice("host", "admin.example.com")),
        ("two hosts", [twice("host", "gateway.test"), vec![("host", "admin.example.com")]].concat()),
        ("no path", vec![(":method", "GET"), (":scheme", "http"), authority]),
        ("empty path", get("")),
        ("no slash", get("x")),
        ("star", get("*")),
        ("absolute", get("http://evil/x")),
        ("no method", vec![(":scheme", "http"), authority, (":path", "/x")]),
        ("no authority", vec![(":method", "GET"), (":scheme", "http"), (":path", "/x")]),
        (
            "user info",
            vec![(":method", "GET"), (":scheme", "http"), (":authority", "a@gateway.test"), (":path", "/x")],
        ),
        ("CONNECT", vec![(":method", "CONNECT"), authority]),
        ("CONNECT with path", vec![(":method", "CONNECT"), (":scheme", "http"), authority, (":path", "/x")]),
        ("TRACE", vec![(":method", "TRACE"), (":scheme", "http"), authority, (":path", "/x")]),
        ("lower case method", vec![(":method", "get"), (":scheme", "http"), authority, (":path", "/x")]),
        (
            "pseudo-header last",
            vec![(":method", "GET"), (":scheme", "http"), ("a", "b"), authority, (":path", "/x")],
        ),
    ] {
        let before = world.backend.count();
        let outcome = send(fields);
        assert!(!(200..300).contains(&outcome.status()), "{what}: {outcome:?}");
        assert_eq!(world.backend.count(), before, "{what}: {outcome:?}");
    }
    let admin = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "ADMIN.example.com.:80"),
        (":path", "/x"),
    ];
    assert_eq!(send(admin).status(), 401);
    tally.report("paths: HTTP/2, pseudo-headers");
}
