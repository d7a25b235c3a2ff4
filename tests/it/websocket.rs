//! WebSocket: which callers may open a tunnel, what the backend receives, and what passes through
//! it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::balancing::refusing;
use crate::common::{APPID, Backend, Connection, NO_THROTTLE, PATIENCE, Reply, World, eventually};
use crate::proxying::raw::{pattern, read_body, write_body};
use crate::proxying::{logged, pass};

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

const ROUTES: &str = "
routes:
  - { name: socket, path: /ws, access: authenticated, upstream: backend, websocket: true }
  - { name: open, path: /open, access: public, upstream: backend, websocket: true }
  - { name: plain, path: /plain, access: authenticated, upstream: backend }
  - { name: plain-open, path: /plain-open, access: public, upstream: backend }
";

pub fn opening(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

pub fn echo(mut stream: TcpStream) {
    stream.write_all(SWITCH).unwrap();
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Switches protocols where asked to, and answers anything else with 200.
pub fn switching(take: fn(TcpStream)) -> Backend {
    Backend::with(move |request| match request.header("upgrade").as_slice() {
        [upgrade] if upgrade == "websocket" => Reply::Take(Box::new(take)),
        _ => Reply::ok(b"no tunnel"),
    })
}

fn world(backend: Backend, sections: &str) -> World {
    World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{sections}"))
}

/// Opens a tunnel.
pub fn open(world: &World, path: &str, headers: &str) -> Connection {
    let mut client = world.connect();
    client.write(opening(path, headers).as_bytes());
    let answer = client.read_header().unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert_eq!(answer.header("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

#[test]
fn a_tunnel_opens_for_a_signed_in_user_and_carries_bytes_both_ways() {
    let world = world(switching(echo), "");
    let bearer = world.bearer("alice");

    let mut client = open(&world, "/ws/chat?room=1", &format!("{bearer}X-WX-OPENID: forged\r\n"));
    for message in ["hello", "\0\u{1}binary\u{7f}", "GET / HTTP/1.1\r\n\r\n"] {
        client.write(message.as_bytes());
        assert_eq!(client.read_exact(message.len()), message.as_bytes());
    }

    let asked = world.backend.last();
    assert_eq!(asked.target(), "/ws/chat?room=1");
    assert_eq!(asked.header("upgrade"), ["websocket"]);
    assert_eq!(asked.header("connection"), ["Upgrade"]);
    assert_eq!(asked.header("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert_eq!(asked.header("x-wx-appid"), [APPID]);
    let openids = asked.folded("x-wx-openid");
    assert!(openids.len() == 1 && openids[0] != "forged", "{openids:?}");
    assert_eq!(asked.header("authorization"), Vec::<String>::new());
    assert_eq!(world.backend.count(), 1, "what went through the tunnel was read as a request");
    drop(client);
    let line = logged(&world, "/ws/chat");
    assert_eq!((&line["decision"], &line["http.response.status_code"]), (&"forwarded".into(), &101.into()));
}

#[test]
fn a_token_in_the_query_opens_a_tunnel_and_nothing_else() {
    let world = world(switching(echo), "tokens: { sources: { websocket_query: access_token } }\n");
    let token = world.sign_in("alice");

    let mut client = open(&world, &format!("/ws/chat?a=1&access_token={token}&b=2"), "");
    client.write(b"hello");
    assert_eq!(client.read_exact(5), b"hello");
    assert_eq!(world.backend.last().target(), "/ws/chat?a=1&b=2");
    assert_eq!(world.backend.last().header("x-wx-appid"), [APPID]);

    for path in ["/ws/chat", "/plain/x"] {
        assert_eq!(world.get(&format!("{path}?access_token={token}"), "").status, 401, "{path}");
    }
    let on_plain_route = world.send(&opening(&format!("/plain/x?access_token={token}"), ""));
    assert_eq!(on_plain_route.status, 401);
    assert_eq!(world.backend.count(), 1);
}

#[test]
fn an_opening_without_a_good_token_never_reaches_the_backend() {
    let world = world(switching(echo), "tokens: { sources: { websocket_query: access_token } }\n");
    let token = world.sign_in("alice");
    let forged = format!("{}x", &token[..token.len() - 1]);

    for (path, headers) in [
        ("/ws/chat", String::new()),
        ("/ws/chat", format!("Authorization: Bearer {forged}\r\n")),
        ("/ws/chat?access_token=", String::new()),
        ("/plain/x", String::new()),
    ] {
        let mut client = world.connect();
        let answer = client.send(opening(path, &headers).as_bytes());
        assert_eq!(answer.status, 401, "{path} {headers}");
        assert!(answer.header("www-authenticate").is_some());
    }
    let forged_in_query = world.send(&opening(&format!("/ws/chat?access_token={forged}"), ""));
    assert_eq!(forged_in_query.status, 401);
    let two = opening(&format!("/ws/chat?access_token={token}"), &world.bearer("bob"));
    assert_eq!(world.send(&two).status, 401, "two different tokens are no choice");
    assert_eq!(world.backend.connections(), 0);
}

#[test]
fn no_header_that_asks_for_an_upgrade_spares_a_request_its_token() {
    let world = world(Backend::echo(), "");
    for headers in [
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "upgrade: WebSocket\r\nConnection: upgrade\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: TLS/1.2\r\nConnection: Upgrade\r\n",
    ] {
        for method in ["GET", "POST"] {
            for path in ["/ws/x", "/plain/x"] {
                let answer = world.send(&format!(
                    "{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{headers}\r\n"
                ));
                assert_eq!(answer.status, 401, "{method} {path} {headers}");
            }
        }
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn only_a_websocket_opening_on_a_websocket_route_keeps_its_upgrade() {
    let world = world(Backend::echo(), "");

    for (path, headers) in [
        // As curl and Java's client send with a first request.
        (
            "/plain-open",
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        ),
        ("/plain-open", "Upgrade: websocket\r\n"),
        ("/open", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("/open", "Upgrade: TLS/1.2\r\nConnection: Upgrade\r\n"),
        ("/open", "Upgrade: websocket/13\r\nConnection: Upgrade\r\n"),
    ] {
        let mut client = world.connect();
        let answer =
            client.send(format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}\r\n").as_bytes());
        let asked = world.backend.last();
        assert_eq!(answer.status, 200, "{path} {headers}");
        assert_eq!(asked.header("upgrade"), Vec::<String>::new(), "{path} {headers}");
        assert_eq!(asked.header("http2-settings"), Vec::<String>::new(), "{path} {headers}");
    }
}

/// Stripped in silence, the backend would answer a request that it knows nothing of.
#[test]
fn an_opening_on_a_route_without_websocket_is_refused_with_the_key_that_allows_it() {
    let world = world(switching(echo), "");
    let bearer = world.bearer("alice");
    for (path, headers, route) in [("/plain-open/chat", "", 3), ("/plain/chat", &*bearer, 2)] {
        let mut client = world.connect();

        let answer = client.send(opening(path, headers).as_bytes());

        assert_eq!((answer.status, &answer.json()["code"]), (403, &"websocket_not_allowed".into()));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("`routes[{route}].websocket`")), "{detail}");
        let line = logged(&world, path);
        let decision = (&line["decision"], &line["reason"], &line["http.response.status_code"]);
        assert_eq!(decision, (&"refused".into(), &"websocket_not_allowed".into(), &403.into()));
    }
    assert_eq!(world.send(&opening("/plain/chat", "")).status, 401, "who calls is asked first");
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_backend_that_switches_unasked_gets_no_tunnel() {
    let world = world(Backend::with(|_| Reply::Take(Box::new(echo))), "");
    let mut client = world.connect();

    let answer = client.send(b"GET /plain-open HTTP/1.1\r\nHost: gateway.test\r\n\r\n");

    assert_eq!(answer.status, 502);
    assert!(client.is_closed());
}

#[test]
fn bytes_sent_behind_an_opening_that_is_refused_never_reach_the_backend() {
    for status in ["403 Forbidden", "426 Upgrade Required", "200 OK"] {
        let backend = Backend::with(move |request| match request.target() {
            "/ws/refused" => {
                Reply::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").into_bytes())
            }
            _ => Reply::ok(b"smuggled"),
        });
        let world = world(backend, "");
        let bearer = world.bearer("alice");
        let mut client = world.connect();

        // In one write, so that they lie in the gateway's buffer when the backend answers.
        let smuggled = "GET /plain/secret HTTP/1.1\r\nHost: gateway.test\r\nX-WX-OPENID: forged\r\n\r\n";
        client.write(format!("{}{smuggled}", opening("/ws/refused", &bearer)).as_bytes());

        let answer = client.read_response(false);
        assert_eq!(answer.status.to_string(), status[..3], "{status}");
        assert_eq!(answer.text(), "no");
        assert!(client.is_closed(), "{status}: something else was answered");
        assert_eq!(world.backend.count(), 1, "{status}");
        assert_eq!(world.get("/plain-open", "").text(), "smuggled");
        assert_eq!(world.backend.count(), 2, "{status}: bytes were left on a connection to the backend");
    }
}

/// RFC 6455 §4.1: a client waits for the answer. What one sends earlier is never taken for a
/// message or a request.
#[test]
fn bytes_sent_before_the_backend_has_switched_never_reach_it() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (received, arrived) = mpsc::channel();
    let backend = Backend::with(move |_| {
        _ = released.lock().unwrap().recv_timeout(PATIENCE);
        let received = received.clone();
        Reply::Take(Box::new(move |mut stream| {
            _ = stream.write_all(SWITCH);
            let mut all = Vec::new();
            _ = stream.read_to_end(&mut all);
            _ = received.send(all);
        }))
    });
    let world = world(backend, "");
    let mut client = world.connect();
    client.write(opening("/open", "").as_bytes());
    eventually("the backend is asked", || world.backend.count() == 1);

    client.write(b"early");

    assert_eq!(client.read_response(false).status, 400);
    assert!(client.is_closed());
    release.send(()).unwrap();
    assert_eq!(arrived.recv_timeout(PATIENCE).unwrap(), b"");
}

#[test]
fn a_silent_tunnel_outlasts_every_timeout() {
    let world = World::with_backend(
        switching(echo),
        &format!(
            "{NO_THROTTLE}
limits: {{ read_timeout: 300ms, write_timeout: 300ms, header_timeout: 300ms, keepalive_timeout: 1s }}
upstreams: {{ backend: {{ servers: ['{{backend}}'], read_timeout: 300ms, write_timeout: 300ms, idle_timeout: 300ms }} }}
routes:
  - {{ name: open, path: /, access: public, upstream: backend, websocket: true }}
  - {{ name: timed, path: /timed, access: public, upstream: backend, websocket: true, read_timeout: 300ms }}
"
        ),
    );
    let mut tunnels = [open(&world, "/x", ""), open(&world, "/timed", "")];

    for round in 0..2 {
        pass(Duration::from_millis(1700));
        for client in &mut tunnels {
            client.write(b"still there");
            assert_eq!(client.read_exact(11), b"still there", "round {round}");
        }
    }
}

#[test]
fn an_opening_that_the_backend_does_not_answer_is_a_gateway_timeout() {
    for (options, route) in [(", read_timeout: 300ms", "/open"), ("", "/timed")] {
        let backend = Backend::with(|_| Reply::Take(Box::new(|mut stream| _ = stream.read(&mut [0; 9]))));
        let world = World::with_backend(
            backend,
            &format!(
                "{NO_THROTTLE}{ROUTES}  - {{ name: timed, path: /timed, access: public, upstream: backend, websocket: true, read_timeout: 300ms }}
upstreams: {{ backend: {{ servers: ['{{backend}}']{options} }} }}\n"
            ),
        );

        let answer = world.send(&opening(route, ""));

        assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (504, "upstream_timeout"));
    }
}

#[test]
fn an_opening_that_the_backend_does_not_answer_ends_with_its_client() {
    let (ended, has_ended) = mpsc::channel();
    let backend = Backend::with(move |_| {
        let ended = ended.clone();
        Reply::Take(Box::new(move |mut stream| {
            _ = stream.read(&mut [0]);
            _ = ended.send(());
        }))
    });
    let world = world(backend, "");
    let mut client = world.connect();
    client.write(opening("/open", "").as_bytes());
    eventually("the backend is asked", || world.backend.count() == 1);

    drop(client);

    has_ended.recv_timeout(PATIENCE).expect("the backend works for nobody");
    assert_eq!(logged(&world, "/open")["reason"], "client_gone");
}

/// Pingora took the end of the opening's empty body for the end of the tunnel when the backend
/// answered quickly.
#[test]
fn a_tunnel_stays_open_however_quickly_the_backend_answers() {
    let world = world(switching(echo), "");
    for round in 0..300 {
        let mut client = open(&world, "/open", "");
        client.write(b"hello");
        let mut answer = [0; 5];
        client.stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(&answer, b"hello");
    }
}

#[test]
fn no_server_is_passed_over_or_missed_because_a_tunnel_is_asked_for() {
    let refusing = refusing();
    let world = world(
        switching(echo),
        &format!("upstreams: {{ backend: {{ servers: ['{refusing}', '{{backend}}'] }} }}\n"),
    );
    for _ in 0..4 {
        open(&world, "/open", "");
    }
    assert_eq!(world.get("/plain-open", "").text(), "no tunnel");
}

#[test]
fn what_is_on_the_way_arrives_when_the_other_side_has_finished() {
    let (said, heard) = mpsc::channel();
    let backend = Backend::with(move |_| {
        let said = said.clone();
        Reply::Take(Box::new(move |mut stream| {
            stream.write_all(SWITCH).unwrap();
            let mut all = Vec::new();
            _ = stream.read_to_end(&mut all);
            _ = said.send(all);
        }))
    });
    let to_backend = world(backend, "");
    let mut client = open(&to_backend, "/open", "");
    assert!(write_body(&mut client.stream, 300_000, false));
    client.stream.shutdown(Shutdown::Write).unwrap();
    let heard = heard.recv_timeout(PATIENCE).unwrap();
    assert!(
        heard == *pattern(0, 251).iter().cycle().take(300_000).copied().collect::<Vec<u8>>(),
        "{}",
        heard.len()
    );
    assert!(client.is_closed(), "a tunnel with one side gone is of no use");

    let to_client = world(
        switching(|mut stream| {
            stream.write_all(SWITCH).unwrap();
            write_body(&mut stream, 300_000, false);
            _ = stream.shutdown(Shutdown::Write);
        }),
        "",
    );
    let mut client = open(&to_client, "/open", "");
    let expected: Vec<u8> = pattern(0, 251).iter().cycle().take(300_000).copied().collect();
    assert!(client.read_exact(expected.len()) == expected);
    assert!(client.is_closed());
}

#[test]
fn a_tunnel_ends_on_both_sides_when_one_side_closes() {
    let (ended, has_ended) = mpsc::channel();
    let backend = Backend::with(move |request| {
        let ended = ended.clone();
        let leaves = request.target() == "/open/leave";
        Reply::Take(Box::new(move |mut stream| {
            stream.write_all(SWITCH).unwrap();
            if !leaves {
                _ = stream.read(&mut [0]);
                _ = ended.send(());
            }
        }))
    });
    let world = world(backend, "");

    drop(open(&world, "/open/stay", ""));
    has_ended.recv_timeout(PATIENCE).expect("the backend's side stayed open");
    assert!(open(&world, "/open/leave", "").is_closed());

    eventually("no connection is left", || world.metric("menshen_open_connections") == 0.0);
}

#[test]
fn long_messages_pass_whole_both_ways_at_once() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let world = world(switching(echo), "");
    let mut client = open(&world, "/open", "");
    let mut writer = client.stream.try_clone().unwrap();

    let sender = std::thread::spawn(move || write_body(&mut writer, LENGTH, false));
    assert_eq!(read_body(&mut client.stream, Some(LENGTH)), LENGTH);

    assert!(sender.join().unwrap());
}

#[test]
fn an_open_tunnel_is_cut_when_a_stop_has_waited_long_enough() {
    let mut world = world(switching(echo), "drain_timeout: 500ms\n");
    let mut client = open(&world, "/open", "");
    client.write(b"hello");
    assert_eq!(client.read_exact(5), b"hello");

    assert_eq!(world.stop(), 1);

    assert!(client.is_closed());
}

#[test]
fn a_tunnel_ends_with_its_session_and_no_other_does() {
    let world = world(switching(echo), "");
    let (alice, bob) = (world.bearer("alice"), world.bearer("bob"));
    let mut ended = open(&world, "/ws/ended", &alice);
    // Of another session of the same user, whose lease ends as well; of another user; of no user.
    let mut kept = [
        open(&world, "/ws/kept", &world.bearer("alice")),
        open(&world, "/ws/kept", &bob),
        open(&world, "/open", &alice),
    ];
    assert_eq!(world.metric("menshen_watched_tunnels"), 3.0);

    let logout = world.send(&format!(
        "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{alice}\r\n"
    ));
    assert!(matches!(logout.status, 200 | 204), "{}", logout.status);

    ended.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(ended.is_closed());
    for client in &mut kept {
        client.write(b"hello");
        assert_eq!(client.read_exact(5), b"hello");
    }
    let line = logged(&world, "/ws/ended");
    assert_eq!((&line["decision"], &line["reason"]), (&"refused".into(), &"session_ended".into()));
    drop(kept);
    eventually("no tunnel is watched", || world.metric("menshen_watched_tunnels") == 0.0);
}

/// Switches protocols and sends without end, whether or not the other side reads.
fn flood(mut stream: TcpStream) {
    stream.write_all(SWITCH).unwrap();
    while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
}

/// Switches protocols and never reads again; it ends with the gateway's side.
fn ignore(mut stream: TcpStream) {
    stream.write_all(SWITCH).unwrap();
    // A peer that is gone fails a write sooner or later, without a read that would take what was
    // sent.
    while stream.write_all(b"x").is_ok() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_tunnel_that_is_stuck_ends_with_its_session_as_well() {
    for (name, take) in
        [("the client does not read", flood as fn(TcpStream)), ("the backend does not", ignore)]
    {
        let (ended, has_ended) = mpsc::channel();
        let backend = Backend::with(move |_| {
            let ended = ended.clone();
            Reply::Take(Box::new(move |stream| {
                take(stream);
                _ = ended.send(());
            }))
        });
        let world = world(backend, "");
        let alice = world.bearer("alice");
        let client = open(&world, "/ws/stuck", &alice);
        let mut writer = client.stream.try_clone().unwrap();
        if name == "the backend does not" {
            // Until nothing more goes through.
            writer.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            while writer.write(&[b'x'; 64 * 1024]).is_ok() {}
        } else {
            pass(Duration::from_millis(300));
        }

        let logout = world.send(&format!(
            "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{alice}\r\n"
        ));
        assert_eq!(logout.status, 204);

        has_ended.recv_timeout(Duration::from_secs(3)).unwrap_or_else(|_| panic!("{name}: the tunnel stays"));
        eventually("no connection is left", || world.metric("menshen_open_connections") == 0.0);
        let line = logged(&world, "/ws/stuck");
        assert_eq!(
            (&line["decision"], &line["reason"]),
            (&"refused".into(), &"session_ended".into()),
            "{name}"
        );
        assert_eq!(line["http.response.status_code"], 101);
        assert_eq!(world.metric("menshen_refused_requests_total{reason=\"session_ended\"}"), 1.0, "{name}");
        eventually("no tunnel is watched", || world.metric("menshen_watched_tunnels") == 0.0);
        drop(client);
    }
}

#[test]
fn a_tunnel_from_before_a_reload_ends_with_its_session_as_well() {
    let world = world(switching(echo), "sessions: { recheck_after: 20s, max_per_subject: 5 }\n");
    let (alice, bob) = (world.bearer("alice"), world.bearer("bob"));
    let mut before = open(&world, "/ws/before", &alice);
    let mut kept = open(&world, "/ws/kept", &bob);
    let path = world.data.path().join("menshen.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = "sessions: { recheck_after: 25s, max_per_subject: 3, idle_timeout: 1h }";
    let text = text.replace("sessions: { recheck_after: 20s, max_per_subject: 5 }", other);
    assert!(text.contains(other));
    std::fs::write(&path, text).unwrap();

    world.gateway().reload().unwrap();

    // Sessions outlast it, and what happens under the new configuration is heard by what was begun
    // under the old one.
    let mut after = open(&world, "/ws/after", &alice);
    for client in [&mut before, &mut after, &mut kept] {
        client.write(b"hello");
        assert_eq!(client.read_exact(5), b"hello");
    }
    let logout = world.send(&format!(
        "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{alice}\r\n"
    ));
    assert_eq!(logout.status, 204);
    for client in [&mut before, &mut after] {
        client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(client.is_closed());
    }
    assert_eq!(world.send(&opening("/ws/again", &alice)).status, 401);
    kept.write(b"hello");
    assert_eq!(kept.read_exact(5), b"hello");
}
