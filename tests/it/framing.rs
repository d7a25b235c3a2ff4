//! Where a request ends: the gateway and the backend never disagree, whatever bytes come.
//!
//! Attacks F1 to F14 of docs/threat-model.md, as literal bytes. The backend keeps everything it was
//! sent; a second request, or a body of another length, would be seen there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::http2::{self, Fields, Http2};
use crate::common::{Backend, Connection, NO_THROTTLE, ROUTES, Reply, Tally, World, eventually};

/// A request that must never be read as one.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\nX-WX-OPENID: victim\r\n\r\n";

fn world() -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}"))
}

fn world_with(sections: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}{sections}"))
}

/// The gateway answers this itself, with 204, and then closes.
const LAST: &[u8] = b"OPTIONS * HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n";

/// What came of raw bytes: the status of every answer until the connection was closed.
///
/// A connection that is kept after the first answer is asked for a last one, which is not counted.
pub fn answers(world: &World, bytes: &[u8]) -> Vec<u16> {
    let mut connection = world.connect();
    connection.write(bytes);
    let Some(first) = connection.try_read_response(bytes.starts_with(b"HEAD ")) else { return Vec::new() };
    // The connection may be closed already.
    _ = connection.stream.write_all(LAST);
    let mut answered = vec![first.status];
    while let Some(response) = connection.try_read_response(false) {
        answered.push(response.status);
    }
    answered.retain(|status| *status != 204);
    answered
}

fn request(head: &str, body: &str) -> Vec<u8> {
    format!("{head}\r\nHost: gateway.test\r\n\r\n{body}").into_bytes()
}

/// The backend was sent nothing it could read as the smuggled request.
fn assert_not_smuggled(world: &World, sent: &[u8]) {
    for received in world.backend.requests() {
        assert!(!received.target().contains("smuggled"), "{}", sent.escape_ascii());
        assert!(!received.head.contains("victim"), "{}", sent.escape_ascii());
    }
}

/// F3, F4, F6, F11: requests that two readers could end at different places.
pub fn ambiguous() -> Vec<(&'static str, String)> {
    let long_name = format!("Content-Length0{}", "a".repeat(270));
    [
        ("F3", "POST /pub/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("F3", "POST /pub/x HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F4", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("F4", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ("F4", "POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH:0\r\n\r\n0\r\n\r\n"),
        ("F4", "GET /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: \u{c}5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\n: v\r\n\r\n"),
        ("F6", "POST /pub/x HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n X-WX-OPENID: victim\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\tX-WX-OPENID: victim\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\n X-A: 1\r\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\nHost: a\n\n"),
        ("F11", "GET /pub/x HTTP/1.1\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\nX-WX-OPENID: victim\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: 1\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: 1\rX-WX-OPENID: victim\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\rHost: a\r\r"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-WX-OPENID\t: victim\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-WX-OPENID : victim\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1\r\nHost: a\r\nX-\0A: b\r\n\r\n"),
        ("F11", "GET  /pub/x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("F11", "GET\t/pub/x\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        ("F11", " GET /pub/x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.2\r\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x http/1.1\r\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x HTTP/1.1 \r\nHost: a\r\n\r\n"),
        ("F11", "GET /pub/x\r\n\r\n"),
        ("F14", "POST /pub/x HTTP/1.1\r\nHost: a\r\nExpect: y 100-continue\r\nContent-Length: 5\r\n\r\nabcde"),
    ]
    .into_iter()
    .map(|(row, bytes)| (row, bytes.to_owned()))
    .chain([("F6", format!("POST /pub/x HTTP/1.1\r\nHost: a\r\n{long_name}: 5\r\nContent_Length: 5\r\n\r\nabcde"))])
    .collect()
}

/// F3, F4, F6, F11: such a request is refused, and the connection closed.
#[test]
fn a_request_whose_end_is_ambiguous_is_refused_and_the_connection_closed() {
    let table = ambiguous();
    let world = world();

    let mut tally = Tally::default();
    for (row, bytes) in &table {
        let sent = format!("{bytes}{SMUGGLED}");
        let answered = answers(&world, sent.as_bytes());

        let shown = bytes.escape_debug();
        let expected: &[u16] = if *row == "F14" { &[417] } else { &[400] };
        assert!(answered == expected || answered.is_empty(), "{row}: {shown}: {answered:?}");
        assert_eq!(world.backend.count(), 0, "{row}: {shown}: {:?}", world.backend.requests());
        tally.add(&*answered, 0);
    }
    tally.report("framing: ambiguous headers");
}

/// F3d: a request of HTTP/1.0 without a length has no body; what follows is never read as one more.
#[test]
fn a_request_without_a_length_has_no_body_and_nothing_follows_it() {
    let world = world();
    let mut tally = Tally::default();
    for head in [
        "POST /pub/x HTTP/1.0",
        "POST /pub/x HTTP/1.1\r\nConnection: close",
        "GET /pub/x HTTP/1.0\r\nConnection: keep-alive",
        "GET /pub/x HTTP/1.1\r\nConnection: close",
        "DELETE /pub/x HTTP/1.0",
    ] {
        let before = world.backend.count();
        let sent = request(head, SMUGGLED);
        let answered = answers(&world, &sent);

        assert!(answered.len() <= 1, "{head}: {answered:?}");
        eventually("the backend is done", || world.backend.count() - before <= 1);
        assert_not_smuggled(&world, &sent);
        tally.add(&*answered, world.backend.count() - before);
        for received in world.backend.requests() {
            assert_eq!(received.body, b"", "{head}");
        }
    }
    tally.report("framing: requests without a length");
}

/// F1: what is left of a body after an early answer is drained or the connection closed; it is
/// never a request.
#[test]
fn the_body_of_a_request_that_was_answered_early_is_never_a_request() {
    let world = world_with(
        "limits: { max_header: 4KiB, max_uri: 1KiB, read_timeout: 1s, linger_time: 1s }\nlogin: { max_body: 64B }\nlisteners:\n  - { address: 127.0.0.1:0, h2c: true }\n",
    );
    let long = "x".repeat(2000);
    let large = format!("X-Large: {}\r\n", "x".repeat(5000));
    let bearer = "Authorization: Bearer junk\r\n";
    let early: Vec<(&str, String, String, u16)> = vec![
        ("no token", "POST /x".into(), String::new(), 401),
        ("bad token", "POST /x".into(), bearer.into(), 401),
        ("bad token, optional", "POST /opt/x".into(), bearer.into(), 401),
        ("GET with a body", "GET /x".into(), String::new(), 401),
        ("refused path", "POST /pub/../x".into(), String::new(), 400),
        ("refused name", "POST /pub/x".into(), "X_A: 1\r\n".into(), 400),
        ("method", "PROPFIND /pub/x".into(), String::new(), 405),
        ("long target", format!("POST /pub/{long}"), String::new(), 414),
        ("large header", "POST /pub/x".into(), large, 431),
        ("large login", "POST /auth/login".into(), "Content-Type: application/json\r\n".into(), 413),
        ("login by GET", "GET /auth/login".into(), String::new(), 405),
        ("unknown login endpoint", "POST /auth/unknown".into(), String::new(), 404),
        ("server-wide", "OPTIONS *".into(), String::new(), 204),
        ("key set", "GET /.well-known/jwks.json".into(), String::new(), 200),
    ];
    let body = format!("{SMUGGLED}{SMUGGLED}");
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let (mut tally, mut kept) = (Tally::default(), 0);
    for (what, line, headers, status) in &early {
        for (framing, body) in [(&*length, &body), ("Transfer-Encoding: chunked\r\n", &chunked)] {
            let head = format!("{line} HTTP/1.1\r\nHost: gateway.test\r\n{headers}{framing}\r\n");
            // At once, in two parts, and only half of the body.
            for (first, second) in [
                (format!("{head}{body}"), String::new()),
                (head.clone(), body.clone()),
                (format!("{head}{}", &body[..body.len() / 2]), String::new()),
            ] {
                let mut connection = world.connect();
                connection.write(first.as_bytes());
                // The connection may be closed already.
                _ = connection.stream.write_all(second.as_bytes());
                let response = connection.read_response(false);
                assert_eq!(response.status, *status, "{what}: {}", response.text());
                _ = connection
                    .stream
                    .write_all(b"GET /pub/after HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n");
                let mut more = Vec::new();
                while let Some(response) = connection.try_read_response(false) {
                    more.push(response.status);
                }
                assert!(more.is_empty() || more == [200], "{what}: {framing}{more:?}");
                kept += more.len();
                tally.add(response.status, 0);
                assert_not_smuggled(&world, first.as_bytes());
            }
        }
    }
    tally.remark = format!("{kept} connections drained and kept");
    tally.report("framing: bodies left by early answers");
    for received in world.backend.requests() {
        assert_eq!(received.target(), "/pub/after");
    }
}

/// F1: the same where the throttle answers.
#[test]
fn the_body_of_a_throttled_login_is_never_a_request() {
    let world = World::with(&format!("{ROUTES}\nthrottle: {{ login: {{ rate: 1/h, burst: 1 }} }}\n"));
    world.login_with(r#"{"code":"x"}"#);
    let head = "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("code=y&other={SMUGGLED}");
    let sent = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());

    let answered = answers(&world, sent.as_bytes());

    assert_eq!(answered, [429]);
    assert_eq!(world.backend.count(), 0);
}

/// F2, F9, F10, F13: there is a tunnel only after the backend has answered 101 to a WebSocket
/// opening.
#[test]
fn nothing_is_tunnelled_before_the_backend_switches_protocols() {
    let websocket = ROUTES.replace("upstream: backend }", "upstream: backend, websocket: true }");
    let mut tally = Tally::default();
    for (routes, lets_through) in [(ROUTES, false), (&*websocket, true)] {
        let world = World::with(&format!("{routes}{NO_THROTTLE}"));
        for (lines, is_opening) in [
            ("Connection: Upgrade\r\nUpgrade: foo", false),
            ("Connection: Upgrade\r\nUpgrade: h2c", false),
            ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk", false),
            ("Connection: Upgrade\r\nUpgrade: websocket/13", false),
            ("Connection: Upgrade\r\nUpgrade: xwebsocket, h2c", false),
            ("Connection: Upgrade\r\nUpgrade: websocket, h2c", true),
            ("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket", true),
            ("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: foo", true),
            ("Upgrade: websocket", false),
            ("Connection: close\r\nUpgrade: websocket", false),
            ("Connection: Upgrade\r\nUpgrade: TLS/1.0", false),
            ("Connection: Upgrade\r\nUpgrade: websocket", true),
            ("Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 99", true),
        ] {
            let before = world.backend.count();
            let sent = request(&format!("GET /pub/x HTTP/1.1\r\n{lines}"), SMUGGLED);
            let answered = answers(&world, &sent);

            // Where no tunnel is allowed, an opening is refused with a word, and anything else is
            // stripped.
            let is_refused = is_opening && !lets_through;
            assert_eq!(answered.first(), Some(if is_refused { &403 } else { &200 }), "{lines}");
            assert!(answered.len() <= 1, "{lines}: {answered:?}");
            assert_eq!(world.backend.count() - before, usize::from(!is_refused), "{lines}");
            assert_not_smuggled(&world, &sent);
            tally.add(&*answered, 1);
            if is_refused {
                continue;
            }
            let received = world.backend.last();
            let upgrades = received.header("upgrade").len();
            assert_eq!(upgrades, usize::from(lets_through && is_opening), "{lines}: {}", received.head);
            assert!(received.header("http2-settings").is_empty(), "{lines}");
        }
        let before = world.backend.count();
        for connect in ["CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"]
        {
            let answered = answers(&world, format!("{connect}{SMUGGLED}").as_bytes());
            assert!(answered.iter().all(|status| matches!(status, 400 | 405)), "{connect}: {answered:?}");
            assert!(answered.len() <= 1, "{connect}: {answered:?}");
            tally.add(&*answered, 0);
        }
        assert_eq!(world.backend.count(), before);
    }
    tally.report("framing: upgrades and tunnels");
}

/// F10: a WebSocket opening that the backend refuses leaves nothing behind it.
#[test]
fn a_websocket_opening_that_is_refused_ends_with_the_refusal() {
    let routes = ROUTES.replace("upstream: backend }", "upstream: backend, websocket: true }");
    for status in ["403 Forbidden", "426 Upgrade Required", "200 OK"] {
        let backend = Backend::with(move |_| {
            Reply::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").into_bytes())
        });
        let world = World::with_backend(backend, &format!("{routes}{NO_THROTTLE}"));
        let sent = request(
            "GET /pub/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 99",
            SMUGGLED,
        );

        let answered = answers(&world, &sent);

        assert_eq!(answered, [status[..3].parse::<u16>().unwrap()]);
        assert_eq!(world.backend.count(), 1);
        assert_not_smuggled(&world, &sent);
    }
}

/// A WebSocket opening with a body is none: its body is a body, with a body's deadlines.
#[test]
fn a_websocket_opening_has_no_body() {
    let routes = ROUTES.replace("upstream: backend }", "upstream: backend, websocket: true }");
    let world = World::with(&format!("{routes}{NO_THROTTLE}"));
    for framing in [
        format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
    ] {
        let before = world.backend.count();
        let head =
            "GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

        let answered = answers(&world, format!("{head}{framing}").as_bytes());

        assert_eq!(answered, [200], "{framing}");
        assert_eq!(world.backend.count() - before, 1, "{framing}");
        let received = world.backend.last();
        assert_eq!(received.body, SMUGGLED.as_bytes());
        assert!(received.header("upgrade").is_empty(), "{}", received.head);
    }
}

/// F12: chunked bodies, and what they hold; nothing, where a chunk is none.
pub fn chunked_bodies() -> Vec<(&'static str, Option<&'static str>)> {
    vec![
        ("5\r\nhello\r\n0\r\n\r\n", Some("hello")),
        ("005\r\nhello\r\n0\r\n\r\n", Some("hello")),
        ("A\r\n0123456789\r\n0\r\n\r\n", Some("0123456789")),
        ("a\r\n0123456789\r\n0\r\n\r\n", Some("0123456789")),
        ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Some("hello")),
        ("5;a=b\r\nhello\r\n0\r\n\r\n", Some("hello")),
        // Pingora would read these leniently.
        ("5;ext\nXX\r\nhello\r\n0\r\n\r\n", None),
        ("5;\0\r\nhello\r\n0\r\n\r\n", None),
        ("5;\r\nhello\r\n0\r\n\r\n", None),
        ("5 \r\nhello\r\n0\r\n\r\n", None),
        ("5\t\r\nhello\r\n0\r\n\r\n", None),
        ("ffffffffffffffff\r\nhello", None),
        ("\r\nhello\r\n0\r\n\r\n", None),
        ("\r\n\r\n", None),
        (";\r\n", None),
        ("5\nhello\n0\n\n", None),
        ("5\r\nhello\n0\r\n\r\n", None),
        ("0x5\r\nhello\r\n0\r\n\r\n", None),
        ("+5\r\nhello\r\n0\r\n\r\n", None),
        ("-5\r\nhello\r\n0\r\n\r\n", None),
        (" 5\r\nhello\r\n0\r\n\r\n", None),
        ("g\r\nhello\r\n0\r\n\r\n", None),
        ("5\r\nhelloXX0\r\n\r\n", None),
        ("5\r\nhell\r\n0\r\n\r\n", None),
        ("5\r\nhello!\r\n0\r\n\r\n", None),
        ("ffffffffffffffffffffffffffffffffffffffff", None),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", None),
        ("5\rhello\r\n0\r\n\r\n", None),
        ("5\0\r\nhello\r\n0\r\n\r\n", None),
    ]
}

/// F12: a chunked body is chunked again for the backend; an invalid chunk ends the connection.
#[test]
fn a_chunked_body_is_read_strictly_and_framed_again() {
    let world = world();
    let mut tally = Tally::default();
    for (body, data) in chunked_bodies() {
        let before = world.backend.count();
        let sent = format!(
            "POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}{}",
            SMUGGLED
        );
        let answered = answers(&world, sent.as_bytes());

        let shown = body.escape_debug();
        if let Some(data) = data {
            assert_eq!(answered, [200], "{shown}");
            assert_eq!(world.backend.count() - before, 1, "{shown}");
            assert_eq!(world.backend.last().body, data.as_bytes(), "{shown}");
        } else {
            // The header may have reached the backend before the body broke off; a whole request
            // never.
            assert!(answered.iter().all(|status| *status == 400), "{shown}: {answered:?}");
            assert!(answered.len() <= 1, "{shown}: {answered:?}");
            assert_eq!(world.backend.count() - before, 0, "{shown}: {:?}", world.backend.last());
        }
        assert_not_smuggled(&world, sent.as_bytes());
        tally.add(&*answered, world.backend.count() - before);
    }
    tally.report("framing: chunked bodies");
}

/// Chunk extensions and trailers end here.
#[test]
fn nothing_but_the_data_of_chunks_reaches_the_backend() {
    let world = world();
    let mut tally = Tally::default();
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-WX-OPENID: victim\r\nContent-Length: 5\r\n\r\n",
        "5\r\nhello\r\n0;x=victim\r\n\r\n",
    ] {
        let sent =
            format!("POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}");

        let before = world.backend.count();
        let answered = answers(&world, sent.as_bytes());

        assert!(answered == [200] || answered == [400], "{body:?}: {answered:?}");
        if answered == [200] {
            let received = world.backend.last();
            assert_eq!(received.body, b"hello", "{body:?}");
            assert_eq!(received.header("transfer-encoding"), ["chunked"]);
            assert!(received.header("content-length").is_empty());
        }
        assert_not_smuggled(&world, sent.as_bytes());
        tally.add(&*answered, world.backend.count() - before);
    }
    tally.report("framing: chunk extensions and trailers");
}

/// The backend gets one length, whatever the client nominates for removal.
#[test]
fn a_nominated_length_does_not_unframe_the_body() {
    let world = world();
    let mut tally = Tally::default();
    for nominated in ["Content-Length", "Transfer-Encoding", "content-length, transfer-encoding"] {
        for (framing, body) in [
            (format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED.to_owned()),
            ("Transfer-Encoding: chunked".into(), format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())),
        ] {
            let head = format!("POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nConnection: {nominated}\r\n");
            let before = world.backend.count();

            let answered = answers(&world, format!("{head}{framing}\r\n\r\n{body}").as_bytes());

            assert_eq!(answered, [200], "{nominated}: {framing}");
            assert_eq!(world.backend.count() - before, 1, "{nominated}: {framing}");
            let received = world.backend.last();
            assert_eq!(received.body, SMUGGLED.as_bytes(), "{nominated}: {framing}");
            let framings =
                received.header("content-length").len() + received.header("transfer-encoding").len();
            assert_eq!(framings, 1, "{}", received.head);
            tally.add(&*answered, 1);
        }
    }
    tally.report("framing: nominated lengths");
}

/// F14: the backend asks for a body that waits for 100, or the gateway does not wait for it.
#[test]
fn an_expectation_is_met_by_the_backend_or_refused() {
    let backend = Backend::with(|request| {
        let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        if request.target() == "/pub/final" {
            bytes.clear();
        }
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Reply::Bytes(bytes)
    });
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));
    let head = |path: &str, expect: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nExpect: {expect}\r\nContent-Length: {}\r\n\r\n",
            SMUGGLED.len()
        )
    };

    // No client signs in, so the body is never asked for, and bytes that arrive are no request.
    let sent = format!("{}{SMUGGLED}", head("/x", "100-continue"));
    assert_eq!(answers(&world, sent.as_bytes()), [401]);
    for expect in ["y 100-continue", "200-ok", "100-continue, x", ""] {
        let sent = format!("{}{SMUGGLED}", head("/pub/x", expect));
        assert_eq!(answers(&world, sent.as_bytes()), [417], "{expect}");
    }
    assert_eq!(world.backend.count(), 0);

    let sent = format!("{}{SMUGGLED}", head("/pub/x", "100-Continue"));
    assert_eq!(answers(&world, sent.as_bytes()), [200]);
    assert_eq!(world.backend.last().body, SMUGGLED.as_bytes());
    assert_not_smuggled(&world, sent.as_bytes());
}

/// F14: after an answer that comes before the body was sent, neither connection goes on: what the
/// client sends next is no request, and the next request is not read as a body.
#[test]
fn a_final_answer_to_an_expectation_leaves_no_body_behind() {
    for expect in ["Expect: 100-continue\r\n", ""] {
        let (address, connections) = impatient_backend();
        let world = world_with(&format!("upstreams: {{ backend: {{ servers: ['{address}'] }} }}\n"));
        let mut connection = world.connect();
        connection.write(
            format!("POST /pub/x HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: {}\r\n\r\n", SMUGGLED.len())
                .as_bytes(),
        );
        assert_eq!(connection.read_response(false).status, 403);

        _ = connection.stream.write_all(SMUGGLED.as_bytes());
        _ = connection.stream.write_all(LAST);
        let mut more = Vec::new();
        while let Some(response) = connection.try_read_response(false) {
            more.push(response.status);
        }
        assert_eq!(world.get("/pub/next", "").status, 403);

        assert!(more.is_empty() || more == [204], "{more:?}");
        let received: Vec<String> = connections.lock().unwrap().clone();
        let mut requests: Vec<String> = received.iter().flat_map(|bytes| framed(bytes)).collect();
        requests.sort();
        assert_eq!(requests, ["GET /pub/next HTTP/1.1", "POST /pub/x HTTP/1.1"], "{received:?}");
    }
}

/// The request lines that a backend reads if it keeps to the lengths in the headers.
fn framed(mut bytes: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = bytes.split_once("\r\n\r\n") {
        lines.push(head.lines().next().unwrap().to_owned());
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        bytes = rest.get(length..).unwrap_or_default();
    }
    lines
}

/// A backend that answers 403 as soon as it has a header; what it was sent, by connection.
fn impatient_backend() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || {
                let (mut received, mut buffer, mut place) = (String::new(), [0; 4096], None);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    received += &String::from_utf8_lossy(&buffer[..count]);
                    let mut kept = kept.lock().unwrap();
                    let place = *place.get_or_insert_with(|| {
                        kept.push(String::new());
                        kept.len() - 1
                    });
                    kept[place].clone_from(&received);
                    drop(kept);
                    if received.ends_with("\r\n\r\n") {
                        _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
                    }
                }
            });
        }
    });
    (address, connections)
}

/// Requests sent ahead are served one by one or not at all, never mixed.
#[test]
fn requests_sent_ahead_are_each_judged_alone() {
    let world = world();
    let bearer = world.bearer("alice");
    let sent = format!(
        "GET /x HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\nGET /second HTTP/1.1\r\nHost: gateway.test\r\nX-WX-OPENID: victim\r\n\r\n"
    );

    let answered = answers(&world, sent.as_bytes());

    assert_eq!(answered.first(), Some(&200));
    assert!(answered.len() == 1 || answered == [200, 401], "{answered:?}");
    assert_eq!(world.backend.count(), 1);
    assert!(!world.backend.last().head.contains("victim"));
}

/// Limits: too long a target 414, too large a header 431, and the connection does not go on with
/// the rest.
#[test]
fn a_header_over_the_limits_is_refused_with_its_own_status() {
    let world = world_with("limits: { max_header: 8KiB, max_header_fields: 50, max_uri: 2KiB }\n");
    let fields = |count: usize| -> String { (0..count).map(|index| format!("X-{index}: 1\r\n")).collect() };
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let path = |length: usize| format!("/pub/{}", "x".repeat(length));
    let mut tally = Tally::default();
    for (what, sent, status) in [
        ("a target that fits", get(&path(2000), ""), 200),
        ("a target over 2 KiB", get(&path(2048), ""), 414),
        ("a query over 2 KiB", get(&format!("/pub?{}", "x".repeat(2048)), ""), 414),
        ("a target over what is read at all", get(&path(100_000), ""), 431),
        ("a header over what is read at all", get("/pub", &format!("X-A: {}\r\n", "x".repeat(2 << 20))), 431),
        ("a header that fits", get("/pub", &format!("X-A: {}\r\n", "x".repeat(7000))), 200),
        ("a header over 8 KiB", get("/pub", &format!("X-A: {}\r\n", "x".repeat(8192))), 431),
        ("many headers over 8 KiB", get("/pub", &format!("X-A: {}\r\n", "x".repeat(300)).repeat(30)), 431),
        ("fields that fit", get("/pub", &fields(49)), 200),
        ("one field too many", get("/pub", &fields(50)), 431),
    ] {
        let before = world.backend.count();
        assert_eq!(answers(&world, sent.as_bytes()), [status], "{what}");
        tally.add(status, world.backend.count() - before);
    }
    let too_large = r#"menshen_rejected_connections_total{reason="header_too_large"}"#;
    assert_eq!(world.metric(too_large), 2.0);
    // Pingora reads no more than 256 fields; the answer is the same.
    let before = world.backend.count();
    assert_eq!(answers(&world, get("/pub", &fields(300)).as_bytes()), [431]);
    tally.add(431, 0);
    assert_eq!(world.backend.count(), before);
    tally.report("framing: long targets and large headers");
}

/// Slow headers: a client has so long for a whole header, however it spreads it.
#[test]
fn a_header_that_does_not_end_in_time_ends_the_connection() {
    const SHORT: &str = "limits: { header_timeout: 300ms, keepalive_timeout: 1s }\n";
    for (h2c, name) in [(false, "HTTP/1"), (true, "HTTP/1 where HTTP/2 is spoken too")] {
        let listeners = format!("listeners:\n  - {{ address: 127.0.0.1:0, h2c: {h2c} }}\n");
        let world = world_with(&format!("{SHORT}{listeners}"));
        for start in [
            "",
            "G",
            "PR",
            "PRI",
            "PRI * HTTP/2.0\r\n",
            "GET /pub HTTP/1.1\r\n",
            "GET /pub HTTP/1.1\r\nHost: a\r\nX-A: ",
        ] {
            let mut silent = world.connect();
            silent.write(start.as_bytes());
            let mut connection = world.connect();
            connection.write(start.as_bytes());

            // A preface of HTTP/2 may be refused at once; everything else waits for the deadline.
            let answered = silent.try_read_response(false).map_or(400, |response| response.status);
            assert_eq!(answered, 400, "{name}, {start:?}, then nothing");
            assert!(silent.is_closed(), "{name}, {start:?}, then nothing");
            trickle_until_closed(&mut connection, &format!("{name}, {start:?}"));
        }
        let slow = r#"menshen_rejected_connections_total{reason="header_timeout"}"#;
        assert!(world.metric(slow) >= 5.0, "{}: {}", name, world.metric(slow));

        // A connection that has carried a request has the idle time besides.
        let mut connection = world.connect();
        assert_eq!(connection.send(b"GET /pub HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
        connection.write(b"GET /pub HTTP/1.1\r\nHost: a\r\nX-A: ");
        trickle_until_closed(&mut connection, &format!("{name}, kept alive"));

        // The shortest requests are not waited on.
        let mut connection = world.connect();
        assert_eq!(connection.send(b"GET /pub HTTP/1.0\r\n\r\n").status, 400);
    }
}

/// Sends a byte now and then until the other side has closed.
fn trickle_until_closed(connection: &mut Connection, what: &str) {
    connection.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut is_closed = false;
    eventually(&format!("{what} is closed"), || {
        _ = connection.stream.write_all(b"x");
        let mut byte = [0];
        is_closed |= match connection.stream.read(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => {
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            }
        };
        is_closed
    });
}

/// The same over HTTP/2: neither a preface, nor an empty connection, nor an endless header block
/// holds one for ever.
#[test]
fn an_http2_connection_on_which_no_request_begins_is_closed() {
    let world = world_with(
        "limits: { header_timeout: 300ms }\nlisteners:\n  - { address: 127.0.0.1:0, h2c: true }\n",
    );

    assert!(Http2::open(world.address()).is_closed(), "after the preface");

    let mut connection = Http2::open(world.address());
    let block = http2::encode(&http2::fields("GET", b"/pub", &[]));
    connection.frame(http2::HEADERS, http2::END_STREAM, 1, &block);
    assert!(connection.is_closed(), "after a header block that goes on");

    // From the first request on, the idle time counts.
    let world = world_with(
        "limits: { h2: { idle_timeout: 300ms } }\nlisteners:\n  - { address: 127.0.0.1:0, h2c: true }\n",
    );
    let mut connection = Http2::open(world.address());
    assert_eq!(connection.send(&http2::fields("GET", b"/pub", &[])).status(), 200);
    assert!(connection.is_closed(), "after a request");
    assert_eq!(world.backend.count(), 1);
}

/// F7, F8: what HTTP/2 carries and HTTP/1.1 could not is refused, never written into a request.
#[test]
fn what_http2_could_smuggle_into_http1_is_refused() {
    let world = world_with("listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n");
    let own = |others: &[(&'static [u8], &'static [u8])]| http2::fields("POST", b"/pub/x", others);
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let with_path = |path: &'static [u8]| http2::fields("GET", path, &[]);
    let mut authority = own(&[]);
    authority[2].1 = b"gateway.test\r\nX-WX-OPENID: victim";
    let mut method = own(&[]);
    method[0].1 = b"GET /smuggled HTTP/1.1\r\nX: ";
    let mut scheme = own(&[]);
    scheme[1].1 = b"http\r\nX-WX-OPENID: victim";
    let table: Vec<(&str, Fields<'_>)> = vec![
        ("transfer-encoding", own(&[(b"transfer-encoding", b"chunked")])),
        ("Transfer-Encoding", own(&[(b"Transfer-Encoding", b"chunked")])),
        ("connection", own(&[(b"connection", b"close")])),
        ("keep-alive", own(&[(b"keep-alive", b"1")])),
        ("proxy-connection", own(&[(b"proxy-connection", b"close")])),
        ("upgrade", own(&[(b"upgrade", b"h2c")])),
        ("te", own(&[(b"te", b"chunked")])),
        ("CR LF in a value", own(&[(b"foo", b"x\r\nbar: y")])),
        ("LF in a value", own(&[(b"foo", b"x\nbar: y")])),
        ("CR in a value", own(&[(b"foo", b"x\rbar: y")])),
        ("NUL in a value", own(&[(b"foo", b"x\0y")])),
        ("colon in a name", own(&[(b"foo: bar", b"x")])),
        ("space in a name", own(&[(b"foo bar", b"x")])),
        ("CR LF in a name", own(&[(b"foo\r\nx-wx-openid", b"victim")])),
        ("no name", own(&[(b"", b"victim")])),
        ("upper case in a name", own(&[(b"X-Wx-Openid", b"victim")])),
        ("space in the path", with_path(b"/pub/a b")),
        ("a request in the path", with_path(b"/pub/x HTTP/1.1\r\nX-WX-OPENID: victim\r\n\r\n")),
        ("LF in the path", with_path(b"/pub/x\nX: y")),
        ("NUL in the path", with_path(b"/pub/\0")),
        ("CR LF in the authority", authority),
        ("a request in the method", method),
        ("CR LF in the scheme", scheme),
        ("two lengths", own(&[(b"content-length", b"5"), (b"content-length", b"35")])),
        ("a list of lengths", own(&[(b"content-length", b"5, 5")])),
        ("no number", own(&[(b"content-length", b"+36")])),
        ("too short a length", own(&[(b"content-length", b"5")])),
        ("too long a length", own(&[(b"content-length", b"100")])),
        ("expect", own(&[(b"expect", b"y 100-continue")])),
    ];
    let mut tally = Tally::default();
    for (what, fields) in &table {
        let before = world.backend.count();

        let outcome = Http2::open(world.address()).send_with(fields, smuggled, &vec![]);

        assert!(!(200..300).contains(&outcome.status()), "{what}: {outcome:?}");
        assert_eq!(world.backend.count(), before, "{what}: {:?}", world.backend.requests().last());
        assert_not_smuggled(&world, smuggled);
        tally.add(&outcome, 0);
    }
    // F7: the length is said and the stream ends with the header.
    let outcome = Http2::open(world.address()).send(&own(&[(b"content-length", b"100")]));
    assert!(!(200..300).contains(&outcome.status()), "{outcome:?}");
    // A broken request costs its stream or its connection, and the upstream connection is not used
    // again.
    let mut connection = Http2::open(world.address());
    assert_eq!(connection.send(&with_path(b"/pub/after")).echoed().unwrap().target(), "/pub/after");
    assert_not_smuggled(&world, smuggled);
    tally.report("framing: HTTP/2");

    // If the length says that there is no body, none is read, and the backend gets none.
    Http2::open(world.address()).send_with(&own(&[(b"content-length", b"0")]), smuggled, &vec![]);
    let world = world_with("listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n");
    let mut connection = Http2::open(world.address());
    let body = own(&[(b"content-length", b"35"), (b"te", b"trailers")]);
    assert_eq!(connection.send_with(&body, smuggled, &vec![]).status(), 200);
    let received = world.backend.last();
    assert_eq!(received.body.len(), 35);
    assert!(received.header("te").is_empty() && received.header("transfer-encoding").is_empty());
    assert_eq!(connection.send_with(&own(&[]), smuggled, &vec![]).status(), 200);
    let received = world.backend.last();
    assert_eq!(received.header("transfer-encoding"), ["chunked"]);
    assert_eq!(received.body, smuggled);
    assert_not_smuggled(&world, smuggled);
}

/// Limits over HTTP/2: the same statuses, and an endless header block is not collected.
#[test]
fn over_http2_a_header_over_the_limits_is_refused() {
    let world = world_with(
        "limits: { max_header: 8KiB, max_header_fields: 50, max_uri: 2KiB }\nlisteners:\n  - { address: 127.0.0.1:0, h2c: true }\n",
    );
    let long = format!("/pub/{}", "x".repeat(2048));
    let value = "x".repeat(9000);
    let names: Vec<String> = (0..60).map(|index| format!("x-{index}")).collect();
    let many: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_bytes(), &b"1"[..])).collect();
    let get = |path: &'static str| http2::fields("GET", path.as_bytes(), &[]);

    assert_eq!(Http2::open(world.address()).send(&http2::fields("GET", long.as_bytes(), &[])).status(), 414);
    let large = http2::fields("GET", b"/pub", &[(b"x-a", value.as_bytes())]);
    assert_eq!(Http2::open(world.address()).send(&large).status(), 431);
    assert_eq!(Http2::open(world.address()).send(&http2::fields("GET", b"/pub", &many)).status(), 431);

    // CONTINUATION without end.
    let mut connection = Http2::open(world.address());
    connection.frame(http2::HEADERS, http2::END_STREAM, 1, &http2::encode(&get("/pub")));
    let more: Vec<(&[u8], &[u8])> = vec![(b"x-a", &value.as_bytes()[..8000])];
    for _ in 0..100 {
        connection.frame(http2::CONTINUATION, 0, 1, &http2::encode(&more));
    }
    let outcome = connection.outcome(1);
    assert!(!(200..300).contains(&outcome.status()), "{outcome:?}");
    assert_eq!(world.backend.count(), 0);
}
