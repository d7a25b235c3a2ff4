//! One request after another on a connection: where one ends and the next begins, however the bytes
//! come.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::Duration;

use super::pass;
use super::raw::{self, read_head};
use crate::common::http2::{self, Http2, PREFACE};
use crate::common::{Connection, NO_THROTTLE, ROUTES, World, eventually, now};

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
const POST: &[u8] = b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\nbody";

fn limited(limits: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}limits: {{ {limits} }}\n"))
}

/// Answers until the connection ends.
fn answers(connection: &mut Connection) -> Vec<u16> {
    std::iter::from_fn(|| connection.try_read_response(false)).map(|response| response.status).collect()
}

/// Its keep-alive time is over, and a request that crosses its goodbye is lost: gunicorn waits 2
/// seconds, Node and uvicorn 5. By default the gateway gives the connection up before.
#[test]
fn no_request_is_sent_to_a_backend_whose_keep_alive_time_is_over() {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let world = raw::world(
        |mut stream| {
            loop {
                let idle_since = now();
                if read_head(&mut stream).is_empty() || now() - idle_since > KEEP_ALIVE {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        },
        "",
        "",
    );
    let clients: Vec<_> = [0, 1000, 1900, 2000, 2050, 2500]
        .into_iter()
        .map(|pause| {
            let mut client = world.connect();
            std::thread::spawn(move || {
                for _ in 0..2 {
                    let answer = client
                        .send(b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n");
                    assert_eq!(answer.status, 200, "after {pause} ms");
                    pass(Duration::from_millis(pause));
                }
            })
        })
        .collect();

    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn requests_follow_one_another_however_their_bytes_come() {
    let world = World::new();
    let mut connection = world.connect();
    for request in [GET, POST, GET] {
        assert_eq!(connection.send(request).status, 200, "whole");
    }
    for request in [GET, POST] {
        for split in 1..request.len() {
            let (first, second) = request.split_at(split);
            connection.write(first);
            connection.write(second);

            assert_eq!(connection.read_response(false).status, 200, "split at {split}");
        }
    }
    for request in [GET, POST] {
        for byte in request {
            connection.write(&[*byte]);
        }
        assert_eq!(connection.read_response(false).status, 200, "byte by byte");
    }
    let received = world.backend.requests();
    assert_eq!(received.len(), 3 + GET.len() - 1 + POST.len() - 1 + 2);
    assert_eq!(received.iter().filter(|request| request.body == b"body").count(), 1 + POST.len() - 1 + 1);
}

#[test]
fn empty_lines_before_a_request_are_none_of_it() {
    let world = World::new();
    for lines in [&b"\r\n"[..], b"\r\n\r\n", b"\r\n\r\n\r\n"] {
        let mut connection = world.connect();
        for _ in 0..2 {
            connection.write(lines);
            pass(Duration::from_millis(20));
            assert_eq!(connection.send(GET).status, 200);
            assert_eq!(connection.send(&[lines, GET].concat()).status, 200);
        }
    }
    assert_eq!(world.backend.count(), 12);
}

/// Nothing is lost of a header that is larger than what is read at once, nor of the body behind it.
#[test]
fn a_large_header_and_what_follows_it_arrive_whole() {
    let world = World::new();
    let mut connection = world.connect();
    for length in [3000, 4050, 4096, 5000, 8192, 20_000, 30_000] {
        let padding = "x".repeat(length);
        let request = format!(
            "POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nX-Padding: {padding}\r\nContent-Length: 9000\r\n\r\n{}",
            "y".repeat(9000)
        );

        assert_eq!(connection.send(request.as_bytes()).status, 200, "{length}");

        let received = world.backend.last();
        assert_eq!(received.header("x-padding"), [padding]);
        assert_eq!(received.body, "y".repeat(9000).into_bytes());
    }
}

/// Requests sent ahead are not served, and no part of one is taken for another: the connection ends
/// after the first, whose answer says so.
#[test]
fn what_is_sent_ahead_of_an_answer_is_no_request() {
    let world = World::new();
    let second = b"GET /pub/second HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    for (what, sent) in [
        ("two at once", [GET, second].concat()),
        ("three at once", [GET, second, second].concat()),
        ("one and a half", [GET, &second[..20]].concat()),
        ("one with a body and another", [POST, second].concat()),
        ("one and an empty line", [GET, b"\r\n"].concat()),
    ] {
        let before = world.backend.count();
        let mut connection = world.connect();
        connection.write(&sent);

        let first = connection.read_response(false);
        assert_eq!((first.status, first.header("connection")), (200, Some("close")), "{what}");
        assert!(answers(&mut connection).is_empty(), "{what}");
        assert_eq!(world.backend.count(), before + 1, "{what}");
    }
    for split in [1, 10, second.len() - 1] {
        let mut connection = world.connect();
        connection.write(&[GET, &second[..split]].concat());
        _ = connection.stream.write_all(&second[split..]);
        assert_eq!(answers(&mut connection), [200], "split at {split}");
    }
    assert!(world.backend.requests().iter().all(|request| request.target() == "/pub/x"));
}

/// What comes ahead of an answer never costs the client that answer.
#[test]
fn a_request_sent_while_another_waits_for_its_answer_does_not_cost_it() {
    for (body, refused) in [("", false), ("Content-Length: 4\r\n\r\nbody", false), ("", true)] {
        let (asked, is_asked) = std::sync::mpsc::channel();
        let (answer, answers_now) = std::sync::mpsc::channel::<()>();
        let (asked, answers_now) = (std::sync::Mutex::new(asked), std::sync::Mutex::new(answers_now));
        let world = raw::world(
            move |mut stream| {
                let mut received = Vec::new();
                while !received.ends_with(b"body") && !received.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if std::io::Read::read(&mut stream, &mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    received.push(byte[0]);
                }
                asked.lock().unwrap().send(()).unwrap();
                _ = answers_now.lock().unwrap().recv();
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            },
            "",
            "",
        );
        let mut client = world.connect();
        if refused {
            client.write(&[b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n", GET].concat());
            let answer = client.read_response(false);
            assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
            assert!(client.is_closed());
            continue;
        }
        let end = if body.is_empty() { "\r\n" } else { body };
        client.write(format!("POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\n{end}").as_bytes());
        is_asked.recv().unwrap();
        client.write(GET);
        // The gateway has read it when a request on another connection was served after it.
        assert_eq!(world.get("/x", "").status, 401);
        answer.send(()).unwrap();

        let answered = client.read_response(false);

        assert_eq!((answered.status, answered.text().as_str()), (200, "ok"), "{body:?}");
        assert!(client.is_closed(), "{body:?}");
    }
}

#[test]
fn a_used_connection_has_the_header_s_time_from_its_first_byte() {
    let world = limited("header_timeout: 400ms, keepalive_timeout: 20s");
    let slow = r#"menshen_rejected_connections_total{reason="header_timeout"}"#;
    let mut patient = world.connect();
    let mut trickling = world.connect();
    assert_eq!((patient.send(GET).status, trickling.send(GET).status), (200, 200));

    let since = now();
    trickling.write(b"GET");
    assert!(trickling.is_closed());
    let open = since.elapsed();

    assert!(open > Duration::from_millis(300) && open < Duration::from_secs(5), "{open:?}");
    assert_eq!(world.metric(slow), 1.0);
    // The idle time is another, and over with the first byte.
    assert_eq!(patient.send(GET).status, 200);
}

#[test]
fn a_client_that_leaves_leaves_nothing_behind() {
    let world = World::new();
    for sent in [&b""[..], b"\r\n", b"GET /pub"] {
        for used in [false, true] {
            for half in [false, true] {
                let mut connection = world.connect();
                if used {
                    assert_eq!(connection.send(GET).status, 200);
                }
                connection.write(sent);
                if half {
                    connection.stream.shutdown(Shutdown::Write).unwrap();
                    assert!(connection.is_closed(), "{sent:?}");
                }
            }
        }
    }
    eventually("none is open", || world.metric("menshen_open_connections") == 0.0);
    assert_eq!(world.metric(r#"menshen_rejected_connections_total{reason="header_timeout"}"#), 0.0);
}

#[test]
fn a_stop_ends_connections_that_wait_whatever_for() {
    let mut world = limited("header_timeout: 1h, keepalive_timeout: 1h");
    let mut waiting = Vec::new();
    for (used, sent) in
        [(false, &b""[..]), (false, b"GET /pub"), (true, b""), (true, b"\r\n"), (true, b"GET /pub")]
    {
        let mut connection = world.connect();
        if used {
            assert_eq!(connection.send(GET).status, 200);
        }
        connection.write(sent);
        waiting.push(connection);
    }
    eventually("all are open", || world.metric("menshen_open_connections") == 5.0);

    let since = now();
    assert_eq!(world.stop(), 0);

    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(waiting.iter_mut().all(Connection::is_closed));
}

#[test]
fn http_2_is_recognized_however_its_first_bytes_arrive() {
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}listeners:\n  - {{ address: '127.0.0.1:0', h2c: true }}\n"
    ));
    for split in 1..PREFACE.len() {
        let stream = Pieces { stream: world.connect().stream, split };
        let mut connection = Http2::over(stream);

        assert_eq!(connection.send(&http2::fields("GET", b"/pub", &[])).status(), 200, "split at {split}");
    }
    let mut connection = world.connect();
    assert_eq!((connection.send(GET).status, connection.send(POST).status), (200, 200));
    // HTTP/2 is what a connection begins with, or nothing.
    connection.write(PREFACE);
    assert_eq!(answers(&mut connection), [400]);
    let mut broken = world.connect();
    broken.write(b"PRI * HTTP/2.0\r\n\r\nno\r\n\r\n");
    assert!(broken.try_read_response(false).is_none_or(|response| response.status == 400));
}

/// Writes the first bytes in two pieces.
struct Pieces {
    stream: std::net::TcpStream,
    split: usize,
}

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let first = std::mem::take(&mut self.split);
        if first > 0 && first < bytes.len() {
            self.stream.write_all(&bytes[..first])?;
            pass(Duration::from_millis(5));
            return Ok(first);
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl std::io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}
