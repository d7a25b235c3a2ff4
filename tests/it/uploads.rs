//! Uploads that are answered before their body has arrived: the client gets the answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::time::Duration;

use crate::common::{Backend, Connection, NO_THROTTLE, PATIENCE, Reply, World, eventually, now, times};

/// More than a socket takes before its reader reads.
const BODY: usize = 6_000_000;

const ROUTES: &str = "
upstreams:
  backend: { servers: ['{backend}'] }
  gone: { servers: ['127.0.0.1:{port}'] }
routes:
  - { path: /, access: authenticated, upstream: backend }
  - { path: /pub, access: public, upstream: backend }
  - { path: /gone, access: public, upstream: gone }
  - { path: /once, access: public, upstream: backend, rate_limits: [{ by: address, rate: 1/h, burst: 1 }] }
";

fn world(limits: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}limits: {{ {limits} }}\n"))
}

/// Sends a request line and a body as a client does that reads nothing meanwhile.
fn upload(connection: &mut Connection, line: &str, headers: &str, framing: &str) -> std::io::Result<()> {
    let head = format!("{line} HTTP/1.1\r\nHost: gateway.test\r\n{headers}{framing}\r\n");
    let part = vec![b'x'; 60_000];
    connection.stream.write_all(head.as_bytes())?;
    for _ in 0..BODY / part.len() {
        if framing.starts_with("Transfer-Encoding") {
            connection.stream.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
            connection.stream.write_all(&part)?;
            connection.stream.write_all(b"\r\n")?;
        } else {
            connection.stream.write_all(&part)?;
        }
    }
    if framing.starts_with("Transfer-Encoding") {
        connection.stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

#[test]
fn a_client_that_sends_its_whole_body_first_reads_the_answer() {
    let world = world("");
    assert_eq!(world.get("/once", "").status, 200);
    let json = "Content-Type: application/json\r\n";
    let length = format!("Content-Length: {BODY}\r\n");
    for (what, line, headers, status) in [
        ("no token", "POST /x", "", 401),
        ("bad token", "PUT /x", "Authorization: Bearer junk\r\n", 401),
        ("refused path", "POST /pub/../x", "", 400),
        ("refused name", "POST /pub/x", "X_A: 1\r\n", 400),
        ("refused framing", "POST /pub/x", "Content-Length: 5, 6\r\n", 400),
        ("method", "PROPFIND /pub/x", "", 405),
        ("large login", "POST /auth/login", json, 413),
        ("rate limit", "POST /once", "", 429),
        ("no server", "POST /gone", "", 502),
    ] {
        for framing in [&*length, "Transfer-Encoding: chunked\r\n"] {
            let mut connection = world.connect();

            let sent = upload(&mut connection, line, headers, framing);

            assert!(sent.is_ok(), "{what}, {framing}: {sent:?}");
            let response = connection.read_response(false);
            assert_eq!(response.status, status, "{what}, {framing}: {}", response.text());
        }
    }
    assert_eq!(world.backend.count(), 1, "a body was read as a request");
}

#[test]
fn a_client_of_node_that_uploads_with_an_expired_token_reads_the_401() {
    let world = world("");
    let script = r"
        const http = require('http'), agent = new http.Agent({ keepAlive: true })
        const [host, port, times] = process.argv.slice(1)
        const once = () => new Promise((resolve) => {
          const request = http.request({ host, port, agent, method: 'POST', path: '/photos', headers: {
            authorization: 'Bearer expired', 'content-length': 300000 } }, (response) => {
            response.resume().on('end', () => resolve(response.statusCode))
          })
          request.on('error', (error) => resolve(error.code)).end(Buffer.alloc(300000))
        })
        const all = async () => { for (let i = 0; i < times; i++) console.log(await once()); agent.destroy() }
        all()
    ";
    let (host, port) = (world.address().ip().to_string(), world.address().port().to_string());
    let count = 6 * times();

    let output =
        Command::new("node").args(["-e", script, &host, &port, &count.to_string()]).output().unwrap();

    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers, "401\n".repeat(count), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_refused_request_with_a_little_body_leaves_its_connection_open() {
    let world = world("");
    let mut connection = world.connect();
    for _ in 0..3 {
        let head = "POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 65536\r\n\r\n";
        connection.write(head.as_bytes());
        connection.write(&vec![b'x'; 65_536]);
        assert_eq!(connection.read_response(false).status, 401);
    }
    assert_eq!(connection.send(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n").status, 200);
    assert_eq!(world.backend.count(), 1);
}

#[test]
fn a_client_that_waits_to_be_told_to_continue_is_not_waited_for() {
    let world = world("");
    let mut connection = world.connect();
    let head = "POST /x HTTP/1.1\r\nHost: gateway.test\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";

    let response = connection.send(head.as_bytes());

    assert_eq!((response.status, response.header("connection")), (401, Some("close")));
    assert!(connection.is_closed());
}

#[test]
fn what_is_read_after_the_answer_is_bounded_in_bytes_and_in_time() {
    let part = [b'x'; 16 * 1024];
    for (limits, most_bytes, longest) in [
        ("linger_bytes: 1MiB", 32 << 20, Duration::from_secs(15)),
        ("linger_time: 1s", usize::MAX, Duration::from_secs(5)),
        ("linger_time: 0s", usize::MAX, Duration::from_secs(2)),
    ] {
        let world = world(limits);
        let mut connection = world.connect();
        connection.write(b"POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 999999999999\r\n\r\n");
        let (since, mut sent) = (now(), 0);
        while connection.stream.write_all(&part).is_ok() {
            sent += part.len();
            assert!(sent < most_bytes, "{limits}: {sent} bytes");
            assert!(since.elapsed() < longest, "{limits}: {:.1?}", since.elapsed());
            if most_bytes == usize::MAX {
                std::thread::yield_now();
            }
        }
        eventually("nothing is open", || world.metric("menshen_open_connections") == 0.0);
    }
}

#[test]
fn a_silent_client_is_not_waited_for_long() {
    let world = world("linger_time: 1m");
    let mut connection = world.connect();
    let since = now();
    connection.write(b"POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 999999\r\n\r\n");
    assert_eq!(connection.read_response(false).status, 401);

    assert!(connection.is_closed(), "our side ends with the answer");
    assert!(since.elapsed() < Duration::from_secs(4), "{:.1?}", since.elapsed());
    eventually("nothing is open", || world.metric("menshen_open_connections") == 0.0);
    assert!(since.elapsed() < PATIENCE, "{:.1?}", since.elapsed());
}

#[test]
fn a_client_that_ends_its_side_gets_its_answer_if_the_configuration_says_so() {
    for (limits, expected) in [("half_close: true", Some(200)), ("half_close: false", None)] {
        let (answer_now, held) = std::sync::mpsc::channel();
        let held = std::sync::Mutex::new(held);
        let slow = Backend::with(move |_| {
            _ = held.lock().unwrap().recv_timeout(PATIENCE);
            Reply::ok(b"late")
        });
        let world = World::with_backend(slow, &format!("{ROUTES}{NO_THROTTLE}limits: {{ {limits} }}\n"));
        for request in [
            "GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
            "POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 3\r\n\r\nabc",
            "GET /pub/x HTTP/1.0\r\nHost: gateway.test\r\n\r\n",
        ] {
            let mut connection = world.connect();
            connection.write(request.as_bytes());
            connection.stream.shutdown(Shutdown::Write).unwrap();
            let since = now();
            if expected.is_some() {
                eventually("the end was seen", || since.elapsed() > Duration::from_millis(300));
                answer_now.send(()).unwrap();
            }

            let answer = connection.try_read_response(false).map(|response| response.status);

            assert_eq!(answer, expected, "{limits}: {request}");
            if expected.is_none() {
                answer_now.send(()).unwrap();
            }
            let mut rest = Vec::new();
            connection.stream.read_to_end(&mut rest).unwrap();
        }
    }
}
