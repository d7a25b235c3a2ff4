//! Requests that a backend of HTTP/2 says it did not process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use tokio::net::TcpListener;

use super::edges::before;
use crate::common::{NO_THROTTLE, World};
use crate::proxying::http2::{Client, Server};

/// Answers with the body, after it refused so many streams.
fn refusing(count: usize) -> (Server, Arc<AtomicUsize>) {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let server = Server::with(move |_, mut body, mut respond| {
        let is_refused = counted.fetch_add(1, Ordering::SeqCst) < count;
        async move {
            let mut received = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                _ = body.flow_control().release_capacity(piece.len());
                received.extend_from_slice(&piece);
            }
            if is_refused {
                // After the body: whoever still writes when the reset comes may not learn its
                // reason.
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                return;
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            _ = stream.send_data(received.into(), true);
        }
    });
    (server, tries)
}

#[test]
fn a_refused_stream_is_opened_again_whatever_the_method() {
    for (method, body) in [("GET", ""), ("POST", "body"), ("POST", ""), ("PATCH", "body")] {
        let (server, tries) = refusing(1);
        let world = before(&server);

        let answer =
            Client::connect(world.address()).send(method, "/x", &[], Bytes::from_static(body.as_bytes()));
        let over_http2 = answer.unwrap();
        assert_eq!((over_http2.status, &*over_http2.body), (200, body.as_bytes()), "{method}");
        assert_eq!(tries.load(Ordering::SeqCst), 2, "{method}");

        let (server, tries) = refusing(1);
        let world = before(&server);
        let answer = world.send(&format!(
            "{method} /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{method}");
        assert_eq!(tries.load(Ordering::SeqCst), 2, "{method}");
    }
}

#[test]
fn a_server_that_refuses_every_stream_is_asked_three_times() {
    let (server, tries) = refusing(usize::MAX);
    let world = before(&server);

    assert_eq!(
        world.send("POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1\r\n\r\na").status,
        502
    );

    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_stream_that_is_reset_for_another_reason_is_not_opened_again() {
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL, h2::Reason::ENHANCE_YOUR_CALM] {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let server = Server::with(move |_, _, mut respond| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { respond.send_reset(reason) }
        });
        let world = before(&server);

        assert_eq!(
            world.send("POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n").status,
            502
        );

        assert_eq!(tries.load(Ordering::SeqCst), 1, "{reason:?}");
    }
}

/// A server whose first connection ends with GOAWAY, and the last stream before the request's.
#[test]
fn a_request_after_the_last_stream_of_a_connection_is_sent_over_another_one() {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = threads.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    threads.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                tokio::spawn(go_away(stream));
                continue;
            }
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    _ = respond.send_response(Response::builder().status(201).body(()).unwrap(), true);
                }
            });
        }
    });
    let world = World::with(&format!(
        "routes: [{{ path: /, access: public, upstream: backend }}]\n{NO_THROTTLE}upstreams: {{ backend: {{ servers: ['{address}'], protocol: http2 }} }}\n"
    ));

    let answer = world.send("POST /x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\nbody");

    assert_eq!(answer.status, 201);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

/// Reads a request, and says that no stream was processed.
async fn go_away(mut stream: tokio::net::TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    // Empty SETTINGS, then GOAWAY: last stream 0, no error.
    stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut received = Vec::new();
    while !received.windows(4).any(|part| part == b"body") {
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return;
        }
    }
    stream.write_all(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0").await.unwrap();
    while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {}
}
