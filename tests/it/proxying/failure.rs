//! What a client sees, and what is written down, when either side fails.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::raw::{self, read_head};
use super::{logged, pass, upstream_failures};
use crate::common::{Backend, NO_THROTTLE, PATIENCE, ROUTES, Reply, World, eventually};

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

fn with_backend(backend: Backend, sections: &str) -> World {
    World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{sections}"))
}

/// Everything a client receives until the connection ends.
fn everything(world: &World, request: &[u8]) -> String {
    let mut client = world.connect();
    client.write(request);
    let mut received = Vec::new();
    // A reset is an end too.
    _ = client.stream.read_to_end(&mut received);
    String::from_utf8_lossy(&received).into_owned()
}

#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    for (name, sent) in [
        ("length", &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"[..]),
        ("chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
        ("in a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nonly this"),
    ] {
        let world = with_backend(Backend::with(move |_| Reply::Last(sent.to_vec())), "");

        let received = everything(&world, GET);

        assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {received}");
        assert!(received.contains("only this"), "{name}: {received}");
        assert!(!received.ends_with("0\r\n\r\n"), "{name}: {received}");
        let line = logged(&world, "/pub/x");
        assert_eq!(
            (&line["decision"], &line["reason"]),
            (&"refused".into(), &"upstream_broke_off".into()),
            "{name}"
        );
        assert_eq!(line["http.response.status_code"], 200);
        assert_eq!(upstream_failures(&world, "upstream_broke_off"), 1.0, "{name}");
    }
}

#[test]
fn a_body_of_unknown_length_that_is_reset_never_looks_whole() {
    let (read, was_read) = mpsc::channel::<()>();
    let was_read = std::sync::Mutex::new(was_read);
    let world = raw::world(
        move |mut stream| {
            let mut start = [0; 16];
            if stream.read_exact(&mut start).is_err() {
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nonly this").unwrap();
            // Closing with the rest of the request unread is a reset.
            _ = was_read.lock().unwrap().recv_timeout(PATIENCE);
        },
        "",
        "",
    );
    let mut client = world.connect();
    client.write(GET);
    assert_eq!(client.read_header().unwrap().status, 200);
    assert_eq!(client.read_chunk(), b"only this");

    read.send(()).unwrap();

    assert!(client.is_closed(), "the body was ended as if it were whole");
    assert_eq!(logged(&world, "/pub/x")["reason"], "upstream_broke_off");
}

/// A backend that answers its first request, and breaks the connection at its second.
fn breaks_second() -> Backend {
    let count = AtomicUsize::new(0);
    Backend::with(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Take(Box::new(|stream| _ = stream.shutdown(Shutdown::Both))),
        _ => Reply::ok(b"ok"),
    })
}

#[test]
fn a_request_on_a_connection_that_had_gone_stale_is_repeated_only_where_that_is_harmless() {
    for (method, is_repeated) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
    ] {
        let world = with_backend(breaks_second(), "");
        let mut client = world.connect();
        assert_eq!(client.send(GET).text(), "ok");

        let length =
            if matches!(method, "PUT" | "POST" | "PATCH") { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        let answer =
            client.send(format!("{method} /pub/again HTTP/1.1\r\nHost: gateway.test\r\n{length}").as_bytes());

        if is_repeated {
            assert_eq!((answer.status, world.backend.count()), (200, 3), "{method}");
            let requests = world.backend.requests();
            assert_eq!(requests[1].body, requests[2].body, "{method}");
            assert_eq!(upstream_failures(&world, "upstream_broke_off"), 0.0, "{method}");
        } else {
            assert_eq!((answer.status, world.backend.count()), (502, 2), "{method}");
            assert_eq!(answer.json()["code"], "upstream_broke_off", "{method}");
            assert_eq!(logged(&world, "/pub/again")["reason"], "upstream_broke_off", "{method}");
        }
    }
}

#[test]
fn a_request_that_breaks_on_a_new_connection_is_not_repeated() {
    for method in ["GET", "POST"] {
        let backend = Backend::with(|_| Reply::Take(Box::new(|stream| _ = stream.shutdown(Shutdown::Both))));
        let world = with_backend(backend, "");

        let answer = world
            .send(&format!("{method} /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n"));

        assert_eq!(answer.status, 502, "{method}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(world.backend.count(), 1, "{method}");
    }
}

#[test]
fn what_is_no_http_from_a_backend_is_a_bad_gateway() {
    for sent in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"",
    ] {
        let world = with_backend(Backend::with(move |_| Reply::Last(sent.to_vec())), "");

        let answer = world.get("/pub/x", "");

        let text = String::from_utf8_lossy(sent);
        assert_eq!(answer.status, 502, "{text}");
        assert_eq!(answer.json()["code"], "upstream_broke_off", "{text}");
        assert!(!answer.text().contains("127.0.0.1"), "no address of a backend in an answer");
        assert_eq!(upstream_failures(&world, "upstream_broke_off"), 1.0, "{text}");
    }
}

#[test]
fn a_silent_backend_is_a_gateway_timeout() {
    let world = raw::world(
        |mut stream| {
            read_head(&mut stream);
            _ = stream.read(&mut [0]);
        },
        ", read_timeout: 300ms",
        "",
    );

    for (method, path) in [("GET", "/pub/get"), ("POST", "/pub/post")] {
        let answer = world
            .send(&format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n"));

        assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (504, "upstream_timeout"));
        assert_eq!(logged(&world, path)["reason"], "upstream_timeout");
    }
    assert_eq!(upstream_failures(&world, "upstream_timeout"), 2.0);
}

#[test]
fn a_backend_that_falls_silent_within_a_body_breaks_it_off() {
    let backend = Backend::with(|_| {
        Reply::Take(Box::new(|mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").unwrap();
            _ = stream.read(&mut [0]);
        }))
    });
    let world =
        with_backend(backend, "upstreams: { backend: { servers: ['{backend}'], read_timeout: 300ms } }\n");

    let received = everything(&world, GET);

    assert!(received.ends_with("only this"), "{received}");
    assert_eq!(logged(&world, "/pub/x")["reason"], "upstream_timeout");
}

#[test]
fn a_route_may_wait_longer_than_its_upstream_says() {
    let backend = Backend::with(|_| {
        Reply::Take(Box::new(|mut stream| {
            pass(Duration::from_millis(600));
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }))
    });
    let world = World::with_backend(
        backend,
        &format!(
            "upstreams: {{ backend: {{ servers: ['{{backend}}'], read_timeout: 200ms }} }}
routes:
  - {{ name: patient, path: /patient, access: public, upstream: backend, read_timeout: 10s }}
  - {{ name: hasty, path: /hasty, access: public, upstream: backend }}
{NO_THROTTLE}"
        ),
    );

    assert_eq!(world.get("/patient", "").status, 200);
    assert_eq!(world.get("/hasty", "").status, 504);
}

/// A stream of events, or a long poll.
#[test]
fn a_route_may_wait_for_ever() {
    let backend = Backend::with(|_| {
        Reply::Take(Box::new(|mut stream| {
            pass(Duration::from_millis(700));
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
                .unwrap();
            pass(Duration::from_millis(700));
            _ = stream.write_all(b"data: 2\n\n");
        }))
    });
    let world = World::with_backend(
        backend,
        &format!(
            "upstreams: {{ backend: {{ servers: ['{{backend}}'], read_timeout: 200ms }} }}
routes:
  - {{ path: /events, access: public, upstream: backend, read_timeout: 0s }}
  - {{ path: /hasty, access: public, upstream: backend }}
{NO_THROTTLE}"
        ),
    );

    let events = world.get("/events", "");

    assert_eq!((events.status, events.text().as_str()), (200, "data: 1\n\ndata: 2\n\n"));
    assert_eq!(world.get("/hasty", "").status, 504);
}

/// What ends it then: the client hangs up, or its machine is gone, which the system finds out.
#[test]
fn a_request_that_may_wait_for_ever_ends_with_its_client() {
    let (ended, was_ended) = mpsc::channel();
    let backend = Backend::with(move |_| {
        let ended = ended.clone();
        Reply::Take(Box::new(move |mut stream| {
            _ = stream.read(&mut [0]);
            _ = ended.send(());
        }))
    });
    let world = World::with_backend(
        backend,
        &format!(
            "routes: [{{ path: /events, access: public, upstream: backend, read_timeout: 0s }}]\n{NO_THROTTLE}"
        ),
    );
    let mut client = world.connect();
    client.write(b"GET /events HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the backend is asked", || world.backend.count() == 1);
    let ports = [client.stream.local_addr().unwrap(), world.backend.address()].map(|address| address.port());
    assert!(ports.iter().all(|port| is_probed(*port)), "the system asks neither side whether it is there");

    drop(client);

    was_ended.recv_timeout(PATIENCE).expect("the backend works for nobody");
    assert_eq!(logged(&world, "/events")["reason"], "client_gone");
}

/// Whether the connection of this process to that port at the other end has the timer of TCP's
/// keep-alive.
fn is_probed(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[2].ends_with(&remote) && columns[3] == "01" && columns[5].starts_with("02")
    })
}

#[test]
fn a_backend_that_reads_no_body_is_a_gateway_timeout() {
    let world = raw::world(
        |mut stream| {
            read_head(&mut stream);
            pass(Duration::from_secs(5));
        },
        ", write_timeout: 300ms, read_timeout: 300ms",
        "",
    );
    let mut client = world.connect();
    client.write(b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100000000\r\n\r\n");
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || raw::write_body(&mut stream, 100_000_000, false));

    let answer = client.read_response(false);

    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (504, "upstream_timeout"));
    drop(client);
    sender.join().unwrap();
}

#[test]
fn a_client_that_falls_silent_within_its_body_is_timed_out() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}limits: {{ read_timeout: 300ms }}\n"));
    let mut client = world.connect();
    client.write(b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 10\r\n\r\nabc");

    let answer = client.read_response(false);

    assert_eq!((answer.status, answer.json()["code"].as_str().unwrap()), (408, "client_timeout"));
    assert!(client.is_closed());
    assert_eq!(logged(&world, "/pub/x")["reason"], "client_timeout");
    assert_eq!(world.backend.count(), 0, "the backend saw a whole request");
}

#[test]
fn a_client_that_hangs_up_during_an_upload_never_makes_a_whole_request() {
    let world = World::new();
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = world.connect();
        client.write(format!("POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\n{framing}").as_bytes());
        drop(client);
        eventually("the connection is given up", || world.metric("menshen_open_connections") == 0.0);
    }

    assert_eq!(world.backend.count(), 0);
    assert_eq!(logged(&world, "/pub/x")["reason"], "client_gone");
}

#[test]
fn a_client_that_hangs_up_during_a_download_frees_the_backend() {
    let (ended, was_freed) = mpsc::channel();
    let world = raw::world(
        move |mut stream| {
            if read_head(&mut stream).is_empty() {
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            while stream.write_all(b"5\r\nagain\r\n").is_ok() {
                pass(Duration::from_millis(1));
            }
            _ = ended.send(());
        },
        "",
        "",
    );
    let mut client = world.connect();
    client.write(GET);
    assert_eq!(client.read_header().unwrap().status, 200);
    client.read_chunk();

    drop(client);

    was_freed.recv_timeout(PATIENCE).expect("the backend goes on for nobody");
    assert_eq!(logged(&world, "/pub/x")["reason"], "client_gone");
    eventually("the connection is forgotten", || world.metric("menshen_open_connections") == 0.0);
}

#[test]
fn a_client_that_hangs_up_while_it_waits_frees_the_backend() {
    let (ended, was_freed) = mpsc::channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let world = raw::world(
        move |mut stream| {
            if read_head(&mut stream).is_empty() {
                return;
            }
            count.fetch_add(1, Ordering::SeqCst);
            // Returns when the gateway closes its side.
            _ = stream.read(&mut [0]);
            _ = ended.send(());
        },
        "",
        "",
    );
    let mut client = world.connect();
    client.write(GET);
    eventually("the backend is asked", || asked.load(Ordering::SeqCst) == 1);

    drop(client);

    was_freed.recv_timeout(PATIENCE).expect("the backend works for nobody");
    assert_eq!(logged(&world, "/pub/x")["reason"], "client_gone");
}

/// What a backend does after answering an upload it has not read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Closing,
    Reading,
    Idling,
}

#[test]
fn an_answer_before_the_end_of_an_upload_reaches_the_client() {
    for after in [After::Closing, After::Reading, After::Idling] {
        let world = raw::world(
            move |mut stream| {
                if read_head(&mut stream).is_empty() {
                    return;
                }
                stream
                    .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large")
                    .unwrap();
                match after {
                    After::Closing => {}
                    After::Reading => while stream.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {},
                    After::Idling => pass(Duration::from_secs(5)),
                }
            },
            ", write_timeout: 500ms",
            "limits: { read_timeout: 500ms }\n",
        );
        let mut client = world.connect();
        client.write(b"POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100000000\r\n\r\n");
        let mut stream = client.stream.try_clone().unwrap();
        // A slow client: some of the body, then nothing more.
        let sender = std::thread::spawn(move || raw::write_body(&mut stream, 8_000_000, false));

        let answer = client.read_response(false);

        assert_eq!((answer.status, answer.text()), (413, "too large".to_owned()), "{after:?}");
        assert!(client.is_closed(), "{after:?}: the rest of the body could be read as a request");
        sender.join().unwrap();
        eventually("the connection is given up", || world.metric("menshen_open_connections") == 0.0);
    }
}

/// Closing with unread bytes is a reset, which takes with it what the client has not read yet.
#[test]
fn a_refusal_reaches_a_client_that_goes_on_sending_its_body() {
    let world = World::new();
    for round in 0..20 {
        let mut client = world.connect();
        client.write(b"POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 8000000\r\n\r\n");
        let mut stream = client.stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || raw::write_body(&mut stream, 8_000_000, false));

        let answer = client.try_read_response(false);

        assert_eq!(answer.map(|answer| answer.status), Some(401), "round {round}");
        sender.join().unwrap();
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn an_early_answer_does_not_let_a_client_trickle_its_upload_for_ever() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}limits: {{ linger_time: 500ms }}\n"));
    let mut client = world.connect();
    client.write(b"POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100000000\r\n\r\n");

    assert_eq!(client.read_response(false).status, 401);

    let mut stream = client.stream.try_clone().unwrap();
    eventually("the connection is given up although it is not silent", || {
        pass(Duration::from_millis(50));
        stream.write_all(b"a").is_err()
    });
    assert_eq!(world.backend.count(), 0);
}
