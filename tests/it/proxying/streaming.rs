//! Answers and bodies that take their time, and answers of unusual shape.

use std::io::{Read as _, Write as _};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::raw::{self, read_head};
use super::{logged, pass};
use crate::common::{Backend, Connection, NO_THROTTLE, PATIENCE, ROUTES, Recorded, Reply, World, eventually};

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
const SHORT_PATIENCE: &str = "limits: { read_timeout: 200ms, write_timeout: 2s }\n";

/// A backend whose every answer is what arrives on a channel, piece by piece, until the channel is
/// closed.
fn piecemeal() -> (Backend, mpsc::Sender<Vec<u8>>) {
    let (send, pieces) = mpsc::channel::<Vec<u8>>();
    let pieces = std::sync::Arc::new(Mutex::new(pieces));
    let backend = Backend::with(move |_| {
        let pieces = std::sync::Arc::clone(&pieces);
        Reply::Take(Box::new(move |mut stream| {
            let pieces = pieces.lock().unwrap();
            while let Ok(piece) = pieces.recv_timeout(PATIENCE) {
                if stream.write_all(&piece).is_err() {
                    return;
                }
            }
        }))
    });
    (backend, send)
}

fn with_backend(backend: Backend, sections: &str) -> World {
    World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{sections}"))
}

#[test]
fn events_arrive_one_by_one_as_the_backend_sends_them() {
    let (backend, pieces) = piecemeal();
    let world = with_backend(backend, "");
    let mut client = world.connect();
    client.write(GET);

    pieces
        .send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec(),
        )
        .unwrap();
    assert_eq!(client.read_header().unwrap().header("content-type"), Some("text/event-stream"));
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        pieces.send(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()).unwrap();
        assert_eq!(String::from_utf8(client.read_chunk()).unwrap(), event);
    }
    pieces.send(b"0\r\n\r\n".to_vec()).unwrap();

    assert_eq!(client.read_chunk(), b"");
    drop(pieces);
}

#[test]
fn a_body_that_ends_with_the_connection_arrives_as_it_comes_and_is_whole() {
    let (backend, pieces) = piecemeal();
    let world = with_backend(backend, "");
    let mut client = world.connect();
    client.write(GET);

    pieces.send(b"HTTP/1.1 200 OK\r\n\r\none".to_vec()).unwrap();
    let header = client.read_header().unwrap();
    assert_eq!(header.header("transfer-encoding"), Some("chunked"), "so that its end can be told");
    assert_eq!(client.read_chunk(), b"one");
    pieces.send(b"two".to_vec()).unwrap();
    assert_eq!(client.read_chunk(), b"two");
    drop(pieces);

    assert_eq!(client.read_chunk(), b"");
}

#[test]
fn a_long_poll_outlasts_what_a_client_may_be_silent_for() {
    let (backend, pieces) = piecemeal();
    let world = with_backend(backend, SHORT_PATIENCE);
    let mut client = world.connect();
    client.write(GET);
    eventually("the backend is asked", || world.backend.count() == 1);

    pass(Duration::from_millis(700));
    pieces.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnews".to_vec()).unwrap();

    assert_eq!(client.read_response(false).text(), "news");
}

#[test]
fn an_upload_passes_piece_by_piece_while_it_is_sent() {
    let (send, received) = mpsc::channel();
    let world = raw::world(
        move |mut stream| {
            if read_head(&mut stream).is_empty() {
                return;
            }
            let mut piece = [0; 4];
            for _ in 0..5 {
                stream.read_exact(&mut piece).unwrap();
                send.send(piece).unwrap();
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        },
        ", read_timeout: 1s",
        "limits: { read_timeout: 1s }\n",
    );
    let mut client = world.connect();
    client.write(b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 20\r\n\r\n");

    // Longer in all than either side may be silent for.
    for piece in [b"abcd", b"efgh", b"ijkl", b"mnop", b"qrst"] {
        pass(Duration::from_millis(300));
        client.write(piece);
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), *piece);
    }

    assert_eq!(client.read_response(false).status, 204);
}

#[test]
fn many_requests_share_one_connection_on_either_side() {
    let world = World::new();
    let mut client = world.connect();

    for number in 0..50 {
        let body = "x".repeat(number * 100);
        let framed = match number % 3 {
            0 => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            1 => format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            _ => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        };
        let body = if number % 3 == 0 { String::new() } else { body };
        let answer =
            client.send(format!("POST /pub/{number} HTTP/1.1\r\nHost: gateway.test\r\n{framed}").as_bytes());
        assert_eq!(answer.status, 200);
        assert_eq!(world.backend.last().body, body.as_bytes());
    }

    assert_eq!(world.backend.count(), 50);
    assert_eq!(world.backend.connections(), 1);
}

#[test]
fn an_answer_without_a_body_leaves_the_connection_in_step() {
    let backend = Backend::with(|request| {
        let header = match request.target() {
            "/pub/head" => "200 OK\r\nContent-Length: 500",
            "/pub/chunked-head" => "200 OK\r\nTransfer-Encoding: chunked",
            "/pub/204" => "204 No Content",
            "/pub/304" => "304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 500",
            "/pub/205" => "205 Reset Content\r\nContent-Length: 0",
            _ => return Reply::ok(b"body"),
        };
        Reply::Bytes(format!("HTTP/1.1 {header}\r\nX-From: backend\r\n\r\n").into_bytes())
    });
    let world = with_backend(backend, "");
    let mut client = world.connect();

    for (method, path, status) in [
        ("HEAD", "/pub/head", 200),
        ("HEAD", "/pub/chunked-head", 200),
        ("HEAD", "/pub/304", 304),
        ("GET", "/pub/204", 204),
        ("DELETE", "/pub/204", 204),
        ("GET", "/pub/304", 304),
        ("GET", "/pub/205", 205),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        let answer = client.send(request.as_bytes());
        assert_eq!((answer.status, answer.body), (status, vec![]), "{method} {path}");
        assert_eq!(client.send(GET).text(), "body", "after {method} {path}");
    }
    assert_eq!(world.backend.connections(), 1);
}

#[test]
fn interim_answers_reach_the_client_before_the_final_one() {
    let backend = Backend::with(|_| {
        Reply::Bytes(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let world = with_backend(backend, "");
    let mut client = world.connect();
    client.write(GET);

    let interim = client.read_header().unwrap();
    assert_eq!((interim.status, interim.header("link")), (103, Some("</a.css>; rel=preload")));
    assert_eq!(client.read_response(false).text(), "ok");
    assert_eq!(logged(&world, "/pub/x")["http.response.status_code"], 200);
}

#[test]
fn a_large_answer_header_passes_with_every_line_in_its_order() {
    let cookies: Vec<String> = (0..100).map(|number| format!("c{number}={}", "v".repeat(300))).collect();
    let lines: String = cookies.iter().map(|cookie| format!("Set-Cookie: {cookie}\r\n")).collect();
    let backend = Backend::with(move |_| {
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok").into_bytes())
    });
    let world = with_backend(backend, "");

    let answer = world.get("/pub/x", "");

    let received: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(received, cookies);
    assert_eq!(answer.text(), "ok");
}

#[test]
fn an_upload_that_waits_for_100_continue_gets_it_from_the_backend() {
    let world = raw::world(
        |mut stream| {
            while !read_head(&mut stream).is_empty() {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                let mut body = [0; 5];
                stream.read_exact(&mut body).unwrap();
                assert_eq!(&body, b"hello");
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        },
        "",
        "",
    );

    for _ in 0..2 {
        let mut client = world.connect();
        client.write(EXPECTING);
        assert_eq!(client.read_header().unwrap().status, 100);
        client.write(b"hello");
        let answer = client.read_response(false);
        assert_eq!(answer.text(), "ok");
        // Pingora ends the connection after an interim answer within an upload, and says so.
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

const EXPECTING: &[u8] =
    b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[test]
fn an_upload_that_the_backend_refuses_unseen_is_never_read_as_a_request() {
    let world = raw::world(
        |mut stream| {
            while !read_head(&mut stream).is_empty() {
                stream.write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        },
        "",
        "limits: { read_timeout: 300ms }\n",
    );
    let mut client = world.connect();

    assert_eq!(client.send(EXPECTING).status, 417);

    // A client that sends no body now has a connection that is of no more use.
    assert!(client.is_closed());
}

#[test]
fn answers_are_whole_for_a_client_of_http_1_0() {
    let world = with_backend(
        Backend::with(|_| {
            Reply::Bytes(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
                    .to_vec(),
            )
        }),
        "",
    );
    let mut client = world.connect();

    client.write(b"GET /pub/x HTTP/1.0\r\nHost: gateway.test\r\n\r\n");
    let answer = client.read_response(false);

    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.text(), "onetwo");
}

#[test]
fn one_thread_serves_slow_and_quick_requests_together() {
    let (backend, pieces) = piecemeal();
    let quick = Backend::echo();
    let address = backend.address();
    let world = World::with_backend(
        quick,
        &format!(
            "worker_threads: 1
upstreams: {{ backend: {{ servers: ['{{backend}}'] }}, slow: {{ servers: ['{address}'] }} }}
routes:
  - {{ name: quick, path: /, access: public, upstream: backend }}
  - {{ name: slow, path: /slow, access: public, upstream: slow }}
{NO_THROTTLE}"
        ),
    );
    let mut slow = world.connect();
    slow.write(b"GET /slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the slow backend is asked", || backend.count() == 1);
    let mut upload = world.connect();
    upload.write(b"POST /up HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\nab");

    let clients: Vec<_> = (0..8)
        .map(|_| {
            let address = world.address();
            std::thread::spawn(move || {
                let mut client = Connection::open(address);
                (0..20).all(|_| client.send(b"GET /q HTTP/1.1\r\nHost: gateway.test\r\n\r\n").status == 200)
            })
        })
        .collect();

    assert!(clients.into_iter().all(|client| client.join().unwrap()));
    pieces.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow".to_vec()).unwrap();
    assert_eq!(slow.read_response(false).text(), "slow");
    upload.write(b"cd");
    assert_eq!(upload.read_response(false).status, 200);
    let recorded: Recorded =
        world.backend.requests().into_iter().find(|request| request.target() == "/up").unwrap();
    assert_eq!(recorded.body, b"abcd");
}
