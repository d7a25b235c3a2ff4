//! How a connection of HTTP/2 ends that is not used, and how many requests its client may take
//! back.

use std::io::Read as _;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

use super::{logged, pass};
use crate::common::http2::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, Outcome, RST_STREAM, encode, fields, frame,
};
use crate::common::{Backend, NO_THROTTLE, PATIENCE, ROUTES, Reply, World, eventually, now};

const H2C: &str = "listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n";

fn world(sections: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}{H2C}{sections}"))
}

fn get() -> crate::common::http2::Fields<'static> {
    fields("GET", b"/pub/x", &[])
}

/// The last stream of a GOAWAY, which must say that nothing is wrong.
fn last_stream(payload: &[u8]) -> u32 {
    assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

#[test]
fn an_idle_connection_says_which_request_was_its_last() {
    let world = world("limits: { h2: { idle_timeout: 500ms } }\n");
    let mut connection = Http2::open(world.address());
    assert_eq!(connection.send(&get()).status(), 200);
    assert_eq!(connection.send(&get()).status(), 200);

    let goaway = connection.next_of(GOAWAY).expect("closed without a word");

    assert_eq!(last_stream(&goaway), 3);
    assert!(connection.is_closed());
}

/// The client is told, and its system does not drop the word because the connection was reset.
#[test]
fn a_request_that_crosses_the_end_was_not_processed_and_its_client_knows() {
    let world = world("limits: { h2: { idle_timeout: 300ms } }\n");
    let mut connection = Http2::open(world.address());
    assert_eq!(connection.send(&get()).status(), 200);
    // The word has arrived, and the client has not read it.
    pass(Duration::from_millis(600));
    let id = connection.begin();
    connection.frame(HEADERS, END_HEADERS | END_STREAM, id, &encode(&get()));
    pass(Duration::from_millis(100));

    assert_eq!(connection.outcome(id), Outcome::GoneAway(0));

    assert!(connection.is_closed());
    assert_eq!(world.backend.count(), 1);
    drop(connection);
    eventually("the connection is over", || world.metric("menshen_open_connections") == 0.0);
}

/// Browsers open connections before they need them.
#[test]
fn a_connection_without_a_first_request_is_told_of_its_end() {
    let world = world("limits: { header_timeout: 500ms }\n");
    let mut connection = Http2::open(world.address());

    let goaway = connection.next_of(GOAWAY).expect("closed without a word");

    assert_eq!(last_stream(&goaway), 0);
    assert!(connection.is_closed());
    assert_eq!(world.metric(r#"menshen_rejected_connections_total{reason="header_timeout"}"#), 1.0);
}

/// A client that is gone, or does not close, does not hold the connection.
#[test]
fn a_client_that_does_not_close_its_side_is_closed_all_the_same() {
    let world = world("limits: { h2: { idle_timeout: 300ms } }\n");
    let mut connection = Http2::open(world.address());
    assert_eq!(connection.send(&get()).status(), 200);

    assert!(connection.next_of(GOAWAY).is_some() && connection.is_closed());

    eventually("the connection is over", || world.metric("menshen_open_connections") == 0.0);
}

/// One connection of a client that retries only what was certainly not processed, as Go and the
/// browsers do.
struct CarefulClient {
    address: SocketAddr,
    sender: Option<SendRequest<Bytes>>,
}

impl CarefulClient {
    async fn connect(&mut self) -> SendRequest<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Sends a `POST`, again if it was not processed; its status.
    async fn post(&mut self) -> Result<u16, h2::Error> {
        for _ in 0..3 {
            let sender = match self.sender.take() {
                Some(sender) => sender,
                None => self.connect().await,
            };
            // Nothing was sent if the connection is known to be at its end.
            let Ok(mut sender) = sender.ready().await else { continue };
            let request = Request::post("http://gateway.test/pub/x").body(()).unwrap();
            let Ok((response, mut stream)) = sender.send_request(request, false) else { continue };
            if stream.send_data(Bytes::from_static(b"order"), true).is_err() {
                continue;
            }
            match response.await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let mut body = response.into_body();
                    while let Some(piece) = body.data().await {
                        piece?;
                    }
                    self.sender = Some(sender);
                    return Ok(status);
                }
                Err(error) if error.is_go_away() && error.reason() == Some(Reason::NO_ERROR) => {}
                Err(error) => return Err(error),
            }
        }
        panic!("three connections in a row were at their end")
    }
}

/// A client that asks about as often as the connection's idle time never sees an error.
#[test]
fn requests_at_the_distance_of_the_idle_time_are_all_answered() {
    const IDLE: Duration = Duration::from_millis(400);
    const CLIENTS: u64 = 24;
    const ROUNDS: u64 = 6;
    let world = world("limits: { h2: { idle_timeout: 400ms } }\n");
    let address = world.address();

    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            thread::spawn(move || {
                let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                threads.block_on(async {
                    let mut client = CarefulClient { address, sender: None };
                    for round in 0..ROUNDS {
                        let answered = tokio::time::timeout(PATIENCE, client.post()).await.unwrap();
                        assert_eq!(answered.unwrap(), 200, "client {number}, round {round}");
                        // From 3 ms before the time to 3 ms after it.
                        let distance = IDLE + Duration::from_micros(number * 250);
                        tokio::time::sleep(distance - Duration::from_millis(3)).await;
                    }
                });
            })
        })
        .collect();

    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(world.backend.count(), usize::try_from(CLIENTS * ROUNDS).unwrap(), "none came twice");
}

/// As a browser does whose user leaves a page of pictures.
#[test]
fn a_client_that_takes_thirty_requests_back_at_once_keeps_its_connection() {
    let backend = Backend::with(|request| match request.target() {
        "/pub/picture" => Reply::Take(Box::new(|mut stream| {
            _ = stream.read(&mut [0]);
        })),
        _ => Reply::ok(b"ok"),
    });
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{H2C}"));
    let mut connection = Http2::open(world.address());
    let picture = encode(&fields("GET", b"/pub/picture", &[]));
    let cancel = 8_u32.to_be_bytes();

    for is_at_once in [true, true, false, false, true] {
        let ids: Vec<u32> = (0..30).map(|_| connection.begin()).collect();
        let before = world.backend.count();
        let opened: Vec<u8> =
            ids.iter().flat_map(|id| frame(HEADERS, END_HEADERS | END_STREAM, *id, &picture)).collect();
        let reset: Vec<u8> = ids.iter().flat_map(|id| frame(RST_STREAM, 0, *id, &cancel)).collect();
        if is_at_once {
            connection.write(&[opened, reset].concat());
        } else {
            connection.write(&opened);
            eventually("all are under way", || world.backend.count() >= before + 30);
            connection.write(&reset);
        }
        pass(Duration::from_millis(400));
        assert_eq!(connection.send(&get()), Outcome::Answered(200, "ok".into()));
    }

    assert_eq!(logged(&world, "/pub/picture")["reason"], "client_gone");
}

#[test]
fn a_client_that_takes_back_all_that_it_asks_for_is_closed() {
    let world = world("");
    let mut connection = Http2::open(world.address());
    let block = encode(&get());
    let cancel = 8_u32.to_be_bytes();
    let deadline = now() + PATIENCE;

    // One after the other, so that none waits to be accepted.
    let closed = loop {
        let id = connection.begin();
        connection.frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
        connection.frame(RST_STREAM, 0, id, &cancel);
        if let Some(code) = connection.given_up_with() {
            break code;
        }
        assert!(now() < deadline, "it goes on for ever");
    };

    assert_eq!(closed, u32::from(Reason::ENHANCE_YOUR_CALM));
    eventually("the connection is over", || world.metric("menshen_open_connections") == 0.0);
}
