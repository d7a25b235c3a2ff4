//! How many requests may be under way: one address beyond its share waits, and is refused in time,
//! and an address with few requests under way is served all the same.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::exchange::{Kind, OpenExchange, start};
use super::reload::edit;
use super::{SECOND, log_out, world, world_before};
use crate::common::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, encode, fields};
use crate::common::{PATIENCE, Response, Tally, World, eventually, now, times};
use crate::process::Process;
use crate::proxying::{logged, raw};

const ROUTES: &str = "
routes:
  - { name: public, path: /, access: public, upstream: backend }
trusted_proxies: ['127.0.0.1']
";

/// The header line of a client behind the trusted proxy.
fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

fn hold(world: &World, number: usize, address: &str) -> OpenExchange {
    start(world.address(), Kind::Poll, number.is_multiple_of(2), &format!("/poll/{number}"), &from(address))
}

fn quick(world: &World, address: &str) -> Response {
    world.get("/quick", &from(address))
}

fn under_way(world: &World) -> f64 {
    world.metric("menshen_requests_under_way")
}

#[test]
fn an_address_beyond_its_budget_waits_and_is_refused_in_time_and_others_are_served() {
    let limits = "limits: { max_requests_per_address: 8, max_request_wait: 1s }\n";
    let world = world(&format!("{ROUTES}{limits}"));
    let mut held: Vec<_> = (0..8).map(|number| hold(&world, number, "203.0.113.1")).collect();
    eventually("eight are under way", || under_way(&world) == 8.0);

    let began = now();
    let refused = world.get("/quick/refused", &from("203.0.113.1"));

    let time = began.elapsed();
    assert!(time >= SECOND && time < 5 * SECOND, "{time:?}");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["code"], "too_many_under_way_of_address");
    let line = logged(&world, "/quick/refused");
    assert_eq!(line["reason"], "too_many_under_way_of_address");
    let counted = "menshen_refused_requests_total{reason=\"too_many_under_way_of_address\"}";
    assert_eq!(world.metric(counted), 1.0);
    assert_eq!(quick(&world, "203.0.113.2").status, 200);
    // One that ends makes room for one that waits.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| quick(&world, "203.0.113.1").status);
        eventually("one waits", || world.metric("menshen_requests_waiting") == 1.0);
        held.pop();
        waiting.join().unwrap()
    });
    assert_eq!(waiting, 200);
    drop(held);
    eventually("none is under way", || under_way(&world) == 0.0);
}

#[test]
fn a_client_that_has_little_under_way_is_served_though_greedy_addresses_take_all_they_can_get() {
    let limits = "limits: { max_requests: 60, max_request_wait: 300ms }\n";
    let world = world(&format!("{ROUTES}{limits}"));
    let held: Vec<_> =
        (0..120).map(|number| hold(&world, number, &format!("203.0.113.{}", number % 4))).collect();

    eventually("all have entered or been refused", || {
        let ended = held.iter().filter(|exchange| exchange.has_ended()).count();
        ended as f64 + under_way(&world) == 120.0 && world.metric("menshen_requests_waiting") == 0.0
    });
    let taken = under_way(&world);
    assert!((40.0..60.0).contains(&taken), "{taken}");
    for number in 0..20 {
        assert_eq!(quick(&world, &format!("198.51.100.{number}")).status, 200);
    }
    assert_eq!(quick(&world, "203.0.113.1").status, 503, "a greedy one waits in vain");
}

/// Opens streams without end, as many on each connection as the gateway lets a client have.
fn flood(process: &Process, connections: usize, address: &str) -> Vec<Http2> {
    let forwarded: &[(&[u8], &[u8])] = &[(b"x-forwarded-for", address.as_bytes())];
    let header = encode(&fields("POST", b"/poll/flood", forwarded));
    let opened = (0..connections).map(|_| {
        let mut client = Http2::open(process.address);
        for _ in 0..100 {
            let id = client.begin();
            client.frame(HEADERS, END_HEADERS | END_STREAM, id, &header);
        }
        client
    });
    opened.collect()
}

/// The status of the first answer on any of these connections.
fn first_status(clients: Vec<Http2>) -> u16 {
    let (answered, answers) = mpsc::channel();
    for mut client in clients {
        let answered = answered.clone();
        client.stream.set_read_timeout(None).unwrap();
        // It ends with the gateway.
        std::thread::spawn(move || _ = answered.send(client.next_status()));
    }
    answers.recv_timeout(PATIENCE).unwrap().unwrap().1
}

#[test]
fn streams_of_one_address_do_not_use_up_the_files_of_the_process() {
    const FILES: usize = 1024;
    let mut world = world(ROUTES);
    let process = Process::with_files(&world, FILES);
    let stopped = world.stop();
    assert_eq!(stopped, 0);
    let began = now();

    // 42 in a long run, as in the review that found it.
    let connections = if times() > 1 { 42 } else { 12 };
    let flood = flood(&process, connections, "203.0.113.1");

    let metric = |name: &str| {
        let text = process.admin("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    eventually("some wait", || metric("menshen_requests_waiting") > 100.0);
    let request = format!("GET /quick HTTP/1.1\r\nHost: gateway.test\r\n{}\r\n", from("198.51.100.1"));
    let mut open = 0;
    for _ in 0..50 {
        assert_eq!(process.connect().send(request.as_bytes()).status, 200);
        open = open.max(process.open_files());
    }
    assert!(metric("menshen_requests_under_way") < FILES as f64 / 2.0);
    assert_eq!(first_status(flood), 503);
    let time = began.elapsed();
    assert!(time < Duration::from_secs(15), "{time:?}");
    let remark = format!(
        "first 503 after {time:.1?}, 50 of 50 requests of another address served, at most {open} of {FILES} files open"
    );
    Tally::of(connections * 100, remark).report("floods: streams of one address to a silent backend");
}

#[test]
fn a_request_that_waited_is_decided_again() {
    let routes = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: poll, path: /poll, access: public, upstream: backend }
limits: { max_requests_per_address: 1, max_request_wait: 10s }
";
    for (what, status, code) in [
        ("logout", 401, "session_ended"),
        ("block", 403, "blocked"),
        ("reload", 404, "route_unknown"),
        ("nothing", 200, ""),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let backend = raw::serve(move |mut stream| {
            loop {
                let head = raw::read_head(&mut stream);
                if !head.contains("/quick") {
                    _ = stream.read(&mut [0]);
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let world = world_before(backend, "", routes);
        let bearer = world.bearer("alice");
        let openid = world.get("/auth/session", &bearer).json()["openid"].clone();
        // Leaves a connection to the backend, so that the next request reaches it without delay.
        assert_eq!(world.get("/quick/before", &bearer).status, 200);
        let held = start(world.address(), Kind::Poll, false, "/poll/held", "");
        eventually("one is under way", || under_way(&world) == 1.0);
        let mut waiting = world.connect();
        waiting.write(format!("GET /quick HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n").as_bytes());
        eventually("one waits", || world.metric("menshen_requests_waiting") == 1.0);

        match what {
            "logout" => log_out(&world, &bearer),
            "block" => {
                let who = serde_json::json!({ "app": "shop", "openid": openid });
                assert_eq!(world.control("POST /people/block", &who).status, 200);
            }
            "reload" => {
                edit(&world, "path: /, access: authenticated", "path: /elsewhere, access: authenticated");
                world.gateway().reload().unwrap();
            }
            _ => {}
        }
        drop(held);

        let answer = waiting.read_response(false);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(
            asked.load(Ordering::SeqCst),
            1 + usize::from(status == 200),
            "{what}: the backend was asked"
        );
        assert_eq!(
            logged(&world, "/quick")["reason"],
            if status == 200 { "authenticated" } else { code },
            "{what}"
        );
    }
}
