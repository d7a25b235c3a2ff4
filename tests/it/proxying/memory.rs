//! Promise 8 for bodies and connections: what passes through is never kept.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::raw::{self, read_body, read_head, write_body};
use crate::common::{Connection, PATIENCE, World, eventually, now};
use crate::process::Process;

const MIB: usize = 1024 * 1024;
const BODY: usize = 100 * MIB;
const GROWTH: usize = 32 * MIB;

/// `PUT /n` is answered with the length of its body, `GET /n` with a body of n bytes.
pub fn counting_world(sections: &str) -> World {
    raw::world(
        |mut stream| loop {
            let head = read_head(&mut stream);
            let Some(target) = head.split(' ').nth(1) else { return };
            let kind = target.rsplit('/').nth(1).unwrap().to_owned();
            let count: usize = target.rsplit('/').next().unwrap().parse().unwrap();
            if head.starts_with("GET") {
                let chunked = kind == "chunked";
                let framing = match chunked {
                    true => "Transfer-Encoding: chunked".to_owned(),
                    false => format!("Content-Length: {count}"),
                };
                write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").unwrap();
                if !write_body(&mut stream, count, chunked) {
                    return;
                }
            } else {
                let length = head.to_lowercase().contains("content-length").then_some(count);
                let answer = read_body(&mut stream, length).to_string();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
                    .unwrap();
            }
        },
        "",
        sections,
    )
}

fn upload(connection: &mut Connection, length: usize, chunked: bool) {
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {length}"),
    };
    connection.write(
        format!("PUT /pub/plain/{length} HTTP/1.1\r\nHost: gateway.test\r\n{framing}\r\n\r\n").as_bytes(),
    );
    assert!(write_body(&mut connection.stream, length, chunked));
    let answer = connection.read_response(false);
    assert_eq!((answer.status, answer.text()), (200, length.to_string()));
}

fn download(connection: &mut Connection, length: usize, kind: &str) {
    connection.write(format!("GET /pub/{kind}/{length} HTTP/1.1\r\nHost: gateway.test\r\n\r\n").as_bytes());
    let head = read_head(&mut connection.stream);
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    assert_eq!(is_chunked, kind == "chunked", "{head}");
    assert_eq!(read_body(&mut connection.stream, (!is_chunked).then_some(length)), length);
}

#[test]
fn bodies_of_100_mb_pass_whole_both_ways_in_constant_memory() {
    let world = counting_world("");
    let gateway = Process::like(&world);
    let mut connection = gateway.connect();
    for chunked in [false, true] {
        upload(&mut connection, MIB, chunked);
    }
    download(&mut connection, MIB, "plain");
    download(&mut connection, MIB, "chunked");
    let before = gateway.memory("VmHWM");

    for chunked in [false, true] {
        upload(&mut connection, BODY, chunked);
    }
    download(&mut connection, BODY, "plain");
    download(&mut connection, BODY, "chunked");

    let growth = gateway.memory("VmHWM").saturating_sub(before);
    assert!(growth < GROWTH, "the gateway grew by {growth} bytes");
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let world = raw::world(
        move |mut stream| {
            if read_head(&mut stream).is_empty() {
                return;
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").unwrap();
            for at in 0..BODY / MIB * 16 {
                if stream.write_all(raw::pattern(at * MIB / 16, MIB / 16)).is_err() {
                    return;
                }
                counter.fetch_add(MIB / 16, Ordering::SeqCst);
            }
        },
        "",
        "",
    );
    let gateway = Process::like(&world);
    let mut connection = gateway.connect();
    let before = gateway.memory("VmHWM");

    connection.write(b"GET /pub/plain/0 HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    let held_back = stands_still(&sent);

    assert!(held_back < BODY / 2, "{held_back} bytes were taken from the backend");
    let growth = gateway.memory("VmHWM").saturating_sub(before);
    assert!(growth < GROWTH, "the gateway grew by {growth} bytes");
    read_head(&mut connection.stream);
    assert_eq!(read_body(&mut connection.stream, Some(BODY)), BODY);
}

#[test]
fn a_backend_that_does_not_read_holds_the_client_back() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let world = raw::world(
        move |mut stream| {
            if read_head(&mut stream).is_empty() {
                return;
            }
            _ = released.lock().unwrap().recv_timeout(PATIENCE);
            let answer = read_body(&mut stream, Some(BODY)).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        },
        "",
        "",
    );
    let gateway = Process::like(&world);
    let mut connection = gateway.connect();
    let before = gateway.memory("VmHWM");
    connection.write(
        format!("PUT /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {BODY}\r\n\r\n").as_bytes(),
    );
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let mut stream = connection.stream.try_clone().unwrap();
    let client = std::thread::spawn(move || {
        for at in 0..BODY / MIB * 16 {
            stream.write_all(raw::pattern(at * MIB / 16, MIB / 16)).unwrap();
            counter.fetch_add(MIB / 16, Ordering::SeqCst);
        }
    });

    let held_back = stands_still(&sent);

    assert!(held_back < BODY / 2, "{held_back} bytes were taken from the client");
    let growth = gateway.memory("VmHWM").saturating_sub(before);
    assert!(growth < GROWTH, "the gateway grew by {growth} bytes");
    release.send(()).unwrap();
    client.join().unwrap();
    assert_eq!(connection.read_response(false).text(), BODY.to_string());
}

/// Waits until a count has grown and then not moved for a while; the count.
fn stands_still(count: &AtomicUsize) -> usize {
    let (mut last, mut since) = (0, now());
    eventually("the sender is held back", || {
        let current = count.load(Ordering::SeqCst);
        if current != last {
            (last, since) = (current, now());
        }
        current > 0 && since.elapsed() > Duration::from_millis(700)
    });
    last
}

#[test]
fn an_idle_connection_costs_little_memory() {
    const CONNECTIONS: usize = 300;
    let world = World::new();
    let gateway = Process::like(&world);
    let request = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    let open = |count: usize| -> Vec<Connection> {
        let mut connections: Vec<Connection> = (0..count).map(|_| gateway.connect()).collect();
        for connection in &mut connections {
            assert_eq!(connection.send(request).status, 200);
        }
        connections
    };
    let warm = open(50);
    let before = gateway.memory("VmRSS");

    let idle = open(CONNECTIONS);

    let each = gateway.memory("VmRSS").saturating_sub(before) / CONNECTIONS;
    // Most of it is the connection to the backend, which is kept, too.
    assert!(each < 48 * 1024, "{each} bytes for each idle connection");
    drop((warm, idle));
}
