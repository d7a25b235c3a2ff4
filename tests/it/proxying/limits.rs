//! How many connections, and for how long.

use std::time::{Duration, Instant};

use super::pass;
use crate::common::http2::PREFACE;
use crate::common::{Connection, NO_THROTTLE, ROUTES, World, eventually, now};

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

fn limited(limits: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}limits: {{ {limits} }}\n"))
}

/// Waits until the other side closes; how long that took.
fn closes_after(connection: &mut Connection, since: Instant) -> Duration {
    assert!(connection.is_closed(), "something was answered");
    since.elapsed()
}

#[test]
fn a_connection_too_many_is_closed_and_counted_and_makes_room_when_another_ends() {
    let world = limited("max_connections: 2");
    let (mut first, mut second) = (world.connect(), world.connect());
    assert_eq!((first.send(GET).status, second.send(GET).status), (200, 200));

    let mut third = world.connect();
    assert!(third.is_closed());
    assert_eq!(world.metric(r#"menshen_rejected_connections_total{reason="too_many"}"#), 1.0);
    assert_eq!((first.send(GET).status, second.send(GET).status), (200, 200));
    assert_eq!(world.metric("menshen_open_connections"), 2.0);

    drop(first);
    eventually("there is room again", || world.metric("menshen_open_connections") == 1.0);
    assert_eq!(world.connect().send(GET).status, 200);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let world = limited("keepalive_timeout: 1s");
    let mut client = world.connect();
    assert_eq!(client.send(GET).status, 200);

    let idle = closes_after(&mut client, now());

    assert!(idle > Duration::from_millis(800) && idle < Duration::from_secs(5), "{idle:?}");
    assert_eq!(world.metric(r#"menshen_rejected_connections_total{reason="header_timeout"}"#), 0.0);
}

#[test]
fn a_header_must_be_whole_in_time_however_it_trickles() {
    for h2c in [false, true] {
        let world = limited("header_timeout: 500ms, keepalive_timeout: 1s");
        let world = if h2c { with_h2c("header_timeout: 500ms, keepalive_timeout: 1s") } else { world };
        let sent: &[&[u8]] = match h2c {
            false => &[b"", b"G", b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n"],
            true => {
                &[b"", b"G", b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n", PREFACE, b"PRI * HTTP/2.0\r\n"]
            }
        };
        for &sent_before in sent {
            let mut client = world.connect();
            let since = now();
            client.write(sent_before);
            let mut stream = client.stream.try_clone().unwrap();
            let trickle = std::thread::spawn(move || {
                use std::io::Write as _;
                // A byte at a time, each before any timer for silence runs out.
                while !sent_before.is_empty()
                    && sent_before != PREFACE
                    && since.elapsed() < Duration::from_secs(8)
                {
                    pass(Duration::from_millis(50));
                    if stream.write_all(b"a").is_err() {
                        return;
                    }
                }
            });
            // HTTP/2 begins with the server's settings.
            _ = std::io::copy(&mut client.stream, &mut std::io::sink());
            let open = since.elapsed();
            drop(client);
            trickle.join().unwrap();
            let name = String::from_utf8_lossy(sent_before);
            assert!(
                open > Duration::from_millis(400) && open < Duration::from_secs(5),
                "h2c {h2c}, {name:?}: {open:?}"
            );
        }
        let counted = world.metric(r#"menshen_rejected_connections_total{reason="header_timeout"}"#);
        assert!(counted >= 3.0, "h2c {h2c}: {counted} were counted");
    }
}

#[test]
fn a_header_on_a_used_connection_may_not_trickle_either() {
    let world = limited("header_timeout: 300ms, keepalive_timeout: 1s");
    let mut client = world.connect();
    assert_eq!(client.send(GET).status, 200);
    let since = now();
    let mut stream = client.stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        use std::io::Write as _;
        while since.elapsed() < Duration::from_secs(8) && stream.write_all(b"G").is_ok() {
            pass(Duration::from_millis(50));
        }
    });

    let open = closes_after(&mut client, since);

    drop(client);
    trickle.join().unwrap();
    assert!(open < Duration::from_secs(5), "{open:?}");
}

#[test]
fn a_slow_body_is_no_slow_header() {
    let world = limited("header_timeout: 300ms, keepalive_timeout: 1s");
    let mut client = world.connect();
    client.write(b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        pass(Duration::from_millis(100));
        client.write(b"a");
    }

    assert_eq!(client.read_response(false).status, 200);
}

fn with_h2c(limits: &str) -> World {
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}limits: {{ {limits} }}\nlisteners:\n  - {{ address: 127.0.0.1:0, h2c: true }}\n"
    ))
}
