//! Requests under way: every authenticated one ends with its session, whatever passes through it,
//! and a reload decides again on everything that is open.

mod budget;
pub mod exchange;
mod reload;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use self::exchange::{Kind, OpenExchange, serve, serve_http2, start};
use crate::common::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, encode, fields};
use crate::common::{Connection, NO_THROTTLE, PATIENCE, World, eventually, now};
use crate::proxying::{http2, logged, pass, raw};

const SECOND: Duration = Duration::from_secs(1);
const LISTENERS: &str = "listeners: [{ address: '127.0.0.1:0', h2c: true }]\n";
const ROUTES: &str = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend, websocket: true }
";

fn world(sections: &str) -> World {
    world_before(serve(), "", sections)
}

/// A gateway before this backend; `options` are added to the upstream.
fn world_before(backend: SocketAddr, options: &str, sections: &str) -> World {
    let upstreams = format!("upstreams:\n  backend: {{ servers: ['{backend}']{options} }}\n");
    // No WebSocket goes over HTTP/2 to a backend.
    let speaks_http2 = options.contains("http2");
    let sections = if speaks_http2 { sections.replace(", websocket: true", "") } else { sections.to_owned() };
    World::with(&format!("{LISTENERS}{upstreams}{NO_THROTTLE}{sections}"))
}

fn log_out(world: &World, bearer: &str) {
    let answer = world.send(&format!(
        "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{bearer}\r\n"
    ));
    assert_eq!(answer.status, 204);
}

/// Opens an exchange of each of these kinds, under a path that begins so.
fn open_all(world: &World, kinds: &[(Kind, bool)], name: &str, bearer: &str) -> Vec<(String, OpenExchange)> {
    let opened = kinds.iter().copied().map(|(kind, is_http2)| {
        let path = format!("/{name}/{}/{}", kind.name(), if is_http2 { "h2" } else { "h1" });
        let exchange = start(world.address(), kind, is_http2, &path, bearer);
        (path, exchange)
    });
    opened.collect()
}

/// Opens exchanges of these kinds for several sessions, ends one of the sessions, and sees which of
/// the exchanges end.
fn assert_ends_with_its_session(world: &World, kinds: &[(Kind, bool)]) {
    let (alice, bob) = (world.bearer("alice"), world.bearer("bob"));
    let ended = open_all(world, kinds, "alice", &alice);
    let kept = open_all(world, kinds, "bob", &bob);
    // Of another session of the same user, whose lease ends as well.
    let other_session = open_all(world, kinds, "other", &world.bearer("alice"));
    pass(Duration::from_millis(100));

    let began = now();
    log_out(world, &alice);

    for (path, exchange) in ended {
        exchange.ended();
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
        let line = logged(world, &path);
        assert_eq!(
            (&line["decision"], &line["reason"]),
            (&"refused".into(), &"session_ended".into()),
            "{path}"
        );
    }
    pass(SECOND);
    for (path, exchange) in kept.into_iter().chain(other_session) {
        assert!(!exchange.has_ended(), "{path}: {}", logged(world, &path));
    }
    let counted = world.metric("menshen_refused_requests_total{reason=\"session_ended\"}");
    assert_eq!(counted, kinds.len() as f64);
}

#[test]
fn requests_under_way_end_with_their_session_and_no_others_do() {
    assert_ends_with_its_session(&world(ROUTES), &Kind::all());
}

#[test]
fn whatever_is_under_way_to_a_backend_of_http_2_ends_with_its_session_as_well() {
    let backend = serve_http2();
    let world = world_before(backend.address, ", protocol: http2", ROUTES);

    assert_ends_with_its_session(&world, &Kind::plain().collect::<Vec<_>>());
}

#[test]
fn whatever_is_under_way_ends_when_its_person_is_blocked() {
    let backend = serve_http2();
    let worlds = [world(ROUTES), world_before(backend.address, ", protocol: http2", ROUTES)];
    for (world, kinds) in worlds.iter().zip([Kind::all(), Kind::plain().collect()]) {
        let alice = world.bearer("alice");
        // Long enough to be followed by a task each.
        let ended = open_all(world, &kinds, "alice", &alice);
        pass(SECOND);
        let session = world.get("/auth/session", &alice).json();

        let began = now();
        let who = serde_json::json!({ "app": "shop", "openid": session["openid"] });
        assert_eq!(world.control("POST /people/block", &who).status, 200);

        for (path, exchange) in ended {
            exchange.ended();
            let time = began.elapsed();
            assert!(time < SECOND, "{path}: {time:?}");
            assert_eq!(logged(world, &path)["reason"], "blocked", "{path}");
        }
        let counted = world.metric("menshen_refused_requests_total{reason=\"blocked\"}");
        assert_eq!(counted, kinds.len() as f64);
    }
}

/// A client that does not read, and a backend that does not: nothing moves at the gateway.
#[test]
fn what_is_stuck_ends_with_its_session_as_well() {
    let backend = raw::serve(|mut stream| {
        if raw::read_head(&mut stream).contains("/unread/") {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
            while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        } else {
            // It reads nothing, and says nothing.
            std::thread::park_timeout(PATIENCE);
        }
    });
    let world = world_before(backend, "", ROUTES);
    let alice = world.bearer("alice");
    let paths = ["/unread/h1", "/unread/h2", "/stuck"];
    let _unread = begin(&world, "GET", paths[0], &alice);
    let mut unread = Http2::open(world.address());
    let id = unread.begin();
    let token = alice.trim().split_once(": ").unwrap().1;
    let fields = fields("GET", paths[1].as_bytes(), &[(b"authorization", token.as_bytes())]);
    unread.frame(HEADERS, END_HEADERS | END_STREAM, id, &encode(&fields));
    let mut stuck = begin(&world, "POST", paths[2], &alice);
    // Until nothing more goes through.
    stuck.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let piece = [&b"10000\r\n"[..], &[b'x'; 0x1_0000], b"\r\n"].concat();
    while stuck.stream.write(&piece).is_ok_and(|count| count == piece.len()) {}

    let began = now();
    log_out(&world, &alice);

    for path in paths {
        assert_eq!(logged(&world, path)["reason"], "session_ended", "{path}");
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
    }
    eventually("none is under way", || world.metric("menshen_requests_under_way") == 0.0);
}

/// Begins a request over HTTP/1.1, with a body if its method is `POST`; reads nothing.
fn begin(world: &World, method: &str, path: &str, bearer: &str) -> Connection {
    let framing = if method == "POST" { "Transfer-Encoding: chunked\r\n" } else { "" };
    let mut client = world.connect();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n{bearer}{framing}\r\n");
    client.write(request.as_bytes());
    client
}

#[test]
fn a_client_that_still_waits_for_an_answer_is_told_why_it_gets_none() {
    let backend = serve_http2();
    for world in [world(ROUTES), world_before(backend.address, ", protocol: http2", ROUTES)] {
        for kind in [Kind::Poll, Kind::Upload, Kind::SilentUpload] {
            let alice = world.bearer("alice");
            let path = format!("/told/{}/h1", kind.name());
            let exchange = start(world.address(), kind, false, &path, &alice);
            pass(Duration::from_millis(100));

            log_out(&world, &alice);

            assert_eq!(exchange.ended(), 401, "{path}");
            assert_eq!(logged(&world, &path)["http.response.status_code"], 401, "{path}");
        }
    }
}

#[test]
fn a_silent_body_is_not_waited_for_longer_than_the_limit_and_the_client_is_to_blame() {
    let world = world(&format!("{ROUTES}limits: {{ read_timeout: 1s }}\n"));
    let alice = world.bearer("alice");
    for is_http2 in [false, true] {
        let path = format!("/silent/{is_http2}");

        let began = now();
        start(world.address(), Kind::SilentUpload, is_http2, &path, &alice).ended();

        let time = began.elapsed();
        assert!(time > Duration::from_millis(900) && time < 4 * SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, &path)["reason"], "client_timeout", "{path}");
    }
    assert_eq!(world.metric("menshen_refused_requests_total{reason=\"client_timeout\"}"), 2.0);
}

/// A client that has sent much may wait for the backend. It does not if the backend has taken all.
#[test]
fn a_client_that_is_silent_and_one_that_waits_for_the_backend_are_told_apart() {
    // More than the system takes on the way.
    const LENGTH: usize = 64 * 1024 * 1024;
    let reads = raw::serve(|mut stream| while matches!(stream.read(&mut [0; 64 * 1024]), Ok(1..)) {});
    let reads_not = raw::serve(|mut stream| {
        raw::read_head(&mut stream);
        std::thread::park_timeout(PATIENCE);
    });
    let limits = "limits: { read_timeout: 1s, min_body_rate: 0B }\n";
    for (backend, length, reason, least, most) in [
        (reads, LENGTH, "client_timeout", 1, 5),
        (reads, 100 * 1024, "client_timeout", 1, 5),
        (reads_not, LENGTH, "upstream_timeout", 6, 18),
    ] {
        let world =
            world_before(backend, ", write_timeout: 6s, read_timeout: 7s", &format!("{ROUTES}{limits}"));
        let bearer = world.bearer("alice");
        let token = bearer.trim().split_once(": ").unwrap().1;
        let client = http2::Client::connect(world.address());

        let began = now();
        client.send_without_end("/upload", &[("authorization", token)], length);

        let time = began.elapsed();
        assert_eq!(logged(&world, "/upload")["reason"], reason, "{length}");
        assert!(time >= least * SECOND && time < most * SECOND, "{reason}, {length}: {time:?}");
    }
}

#[test]
fn a_body_that_has_come_too_slowly_is_given_up_though_nothing_more_of_it_comes() {
    let world = world(&format!("{ROUTES}limits: {{ read_timeout: 60s }}\n"));
    let alice = world.bearer("alice");
    let began = now();
    let exchanges = [false, true].map(|is_http2| {
        let path = format!("/slow/{is_http2}");
        (start(world.address(), Kind::SilentUpload, is_http2, &path, &alice), path)
    });

    for (exchange, path) in exchanges {
        exchange.ended();

        let time = began.elapsed();
        assert!(time > 9 * SECOND && time < 15 * SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, &path)["reason"], "client_timeout", "{path}");
    }
}
