//! HTTP/2 on either side: what it carries besides HTTP/1.1, and what becomes of it where the other
//! side has none.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::memory::counting_world;
use super::raw::pattern;
use super::{logged, pass, upstream_failures};
use crate::common::{APPID, Backend, NO_THROTTLE, PATIENCE, ROUTES, Reply, World, eventually};

/// One connection of a client.
pub struct Client {
    threads: Runtime,
    sender: SendRequest<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Client {
    /// Connects with prior knowledge.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
    }

    /// Speaks HTTP/2 over a connection to be made.
    pub fn over<S>(connecting: impl Future<Output = S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let threads = threads();
        let sender = threads.block_on(async {
            let (sender, connection) = h2::client::handshake(connecting.await).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { threads, sender }
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, Bytes::new()).unwrap()
    }

    /// Sends a request and reads the whole answer; the error that ended the stream where it broke
    /// off.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, h2::Error> {
        self.threads.block_on(exchange(self.sender.clone(), request(method, path, headers), body))
    }

    /// Sends as many `GET`s at once; the interim answers and the body of each.
    pub fn get_with_hints(&self, paths: &[String]) -> Vec<(Vec<Response<()>>, Vec<u8>)> {
        self.threads.block_on(async {
            let mut calls = Vec::new();
            for path in paths {
                let mut sender = self.sender.clone().ready().await.unwrap();
                let (response, _) = sender.send_request(request("GET", path, &[]), true).unwrap();
                calls.push(tokio::spawn(tokio::time::timeout(PATIENCE, hinted(response))));
            }
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await.unwrap().expect("no answer in time"));
            }
            answers
        })
    }

    /// Sends as many `GET`s at once.
    fn get_at_once(&self, paths: &[String]) -> Vec<Answer> {
        self.threads.block_on(async {
            let calls: Vec<_> = paths
                .iter()
                .map(|path| {
                    tokio::spawn(exchange(self.sender.clone(), request("GET", path, &[]), Bytes::new()))
                })
                .collect();
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await.unwrap().unwrap());
            }
            answers
        })
    }

    /// Sends so many bytes of a body, as fast as the other side takes them, and not its end; the
    /// status of the answer, or 0 if the stream was reset.
    pub fn send_without_end(&self, path: &str, headers: &[(&str, &str)], length: usize) -> u16 {
        let (response, mut stream) = self.open(path, headers);
        stream.send_data(vec![b'x'; length].into(), false).unwrap();
        let answered = self.threads.block_on(async { tokio::time::timeout(PATIENCE, response).await });
        answered.expect("no answer in time").map_or(0, |answer| answer.status().as_u16())
    }

    /// Opens a stream whose request goes on.
    fn open(&self, path: &str, headers: &[(&str, &str)]) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        self.threads.block_on(async {
            let mut sender = self.sender.clone().ready().await.unwrap();
            sender.send_request(request("POST", path, headers), false).unwrap()
        })
    }
}

fn threads() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://gateway.test{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn exchange(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<Answer, h2::Error> {
    let exchanged = async {
        let mut sender = sender.ready().await?;
        let (response, mut stream) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        let (parts, mut body) = response.await?.into_parts();
        let (body, trailers) = read(&mut body).await?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
    };
    tokio::time::timeout(PATIENCE, exchanged).await.expect("no answer in time")
}

async fn hinted(mut response: h2::client::ResponseFuture) -> (Vec<Response<()>>, Vec<u8>) {
    let mut hints = Vec::new();
    while let Some(hint) = std::future::poll_fn(|context| response.poll_informational(context)).await {
        hints.push(hint.unwrap());
    }
    let (body, _) = read(&mut response.await.unwrap().into_body()).await.unwrap();
    (hints, body)
}

async fn read(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(piece) = read_piece(stream).await? {
        body.extend_from_slice(&piece);
    }
    Ok((body, stream.trailers().await?))
}

async fn read_piece(stream: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(piece) =
        tokio::time::timeout(PATIENCE, stream.data()).await.expect("nothing came").transpose()?
    else {
        return Ok(None);
    };
    stream.flow_control().release_capacity(piece.len())?;
    Ok(Some(piece))
}

/// A server with prior knowledge, each stream given to a handler.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Parts>>>,
    connections: Arc<AtomicUsize>,
    _threads: Runtime,
}

impl Server {
    pub fn with<F>(
        handler: impl Fn(Parts, RecvStream, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let threads = threads();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = threads.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Arc::new(handler);
        let (recorded, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        threads.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (recorded, handler) = (Arc::clone(&recorded), Arc::clone(&handler));
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (parts, body) = request.into_parts();
                        recorded.lock().unwrap().push(parts.clone());
                        tokio::spawn(handler(parts, body, respond));
                    }
                });
            }
        });
        Self { address, requests, connections, _threads: threads }
    }

    /// Answers with the request's body, then with trailers as a gRPC server has them.
    fn grpc_echo() -> Self {
        Self::with(|_, mut body, mut respond| async move {
            let header = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut answer = respond.send_response(header, false).unwrap();
            while let Ok(Some(piece)) = read_piece(&mut body).await {
                _ = answer.send_data(piece, false);
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("grpc-message", "fine".parse().unwrap());
            _ = answer.send_trailers(trailers);
        })
    }

    fn last(&self) -> Parts {
        self.requests.lock().unwrap().last().expect("the server was asked nothing").clone()
    }
}

const H2C: &str = "listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n";

fn h2c_world(backend: Backend) -> World {
    World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{H2C}"))
}

/// HTTP/2 on both sides.
fn world_before(server: &Server, options: &str) -> World {
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}{H2C}upstreams: {{ backend: {{ servers: ['{}'], protocol: http2{options} }} }}\n",
        server.address
    ))
}

#[test]
fn one_listener_speaks_http_2_and_http_1_1() {
    let world = h2c_world(Backend::echo());
    let bearer = world.bearer("alice");
    let token = bearer.trim().strip_prefix("Authorization: ").unwrap().to_owned();
    let client = Client::connect(world.address());

    assert_eq!(client.get("/x", &[]).status, 401);
    assert_eq!(world.backend.count(), 0);
    assert_eq!(client.get("/x", &[("authorization", &token)]).status, 200);
    let recorded = world.backend.last();
    assert_eq!(recorded.request_line(), "GET /x HTTP/1.1");
    assert_eq!(recorded.header("host"), ["gateway.test"]);
    assert_eq!(recorded.header("x-wx-appid"), [APPID]);
    assert_eq!(recorded.header("x-wx-openid").len(), 1);
    assert_eq!(recorded.header("authorization"), Vec::<String>::new());

    assert_eq!(world.get("/one", "").status, 401);
    assert_eq!(logged(&world, "/one")["network.protocol.version"], "1.1");
    assert_eq!(world.get("/one", &bearer).status, 200);
}

#[test]
fn cookies_sent_apart_are_one_line_for_http_1_1() {
    let world = h2c_world(Backend::echo());
    let client = Client::connect(world.address());

    client.get("/pub/x", &[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]);

    assert_eq!(world.backend.last().header("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    const LENGTH: usize = 20 * 1024 * 1024;
    let world = counting_world(H2C);
    let client = Client::connect(world.address());
    let body: Vec<u8> = (0..LENGTH)
        .step_by(64 * 1024)
        .flat_map(|at| pattern(at, (LENGTH - at).min(64 * 1024)))
        .copied()
        .collect();

    let length = LENGTH.to_string();
    let uploaded = client
        .send("PUT", &format!("/pub/plain/{LENGTH}"), &[("content-length", &length)], body.clone().into())
        .unwrap();
    assert_eq!(String::from_utf8(uploaded.body).unwrap(), length);
    let uploaded = client.send("PUT", &format!("/pub/plain/{LENGTH}"), &[], body.clone().into()).unwrap();
    assert_eq!(String::from_utf8(uploaded.body).unwrap(), length, "of a length not said before");
    for kind in ["plain", "chunked"] {
        let downloaded = client.get(&format!("/pub/{kind}/{LENGTH}"), &[]);
        assert!(downloaded.body == body, "{kind}: {} bytes", downloaded.body.len());
    }
}

/// Pingora wrote the last chunk twice where the stream ended with an empty frame; the second one
/// was then the beginning of another client's request.
#[test]
fn a_body_that_ends_with_an_empty_frame_ends_once_for_the_backend() {
    let world = h2c_world(Backend::echo());
    let client = Client::connect(world.address());

    for pieces in [&["one", ""][..], &["one"], &[""], &["one", "", "two", ""], &["", "one", ""]] {
        let (response, mut stream) = client.open("/pub/x", &[]);
        for (at, piece) in pieces.iter().enumerate() {
            stream.send_data(Bytes::from_static(piece.as_bytes()), at + 1 == pieces.len()).unwrap();
        }
        let answer = client.threads.block_on(response).unwrap();
        assert_eq!(answer.status(), 200, "{pieces:?}");
        assert_eq!(world.backend.last().body, pieces.concat().as_bytes(), "{pieces:?}");
        assert_eq!(world.get("/pub/next", "").status, 200, "after {pieces:?}");
    }

    let lines: Vec<String> =
        world.backend.requests().iter().map(|request| request.request_line().to_owned()).collect();
    assert_eq!(lines, ["POST /pub/x HTTP/1.1", "GET /pub/next HTTP/1.1"].repeat(5));
    // A connection is given back a moment after its answer; what matters is that some were used
    // again.
    assert!(world.backend.connections() < 10);
}

#[test]
fn a_body_that_ends_with_an_empty_frame_ends_once_for_the_client() {
    let server = Server::with(|_, _, mut respond| async move {
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        for (piece, is_last) in [("one", false), ("", false), ("two", false), ("", true)] {
            answer.send_data(Bytes::from_static(piece.as_bytes()), is_last).unwrap();
        }
    });
    let world = world_before(&server, "");
    let mut client = world.connect();

    for _ in 0..3 {
        let answer = client.send(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        assert_eq!((answer.status, answer.text().as_str()), (200, "onetwo"));
    }
    client.write(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_response(false).text(), "onetwo");
    assert!(client.is_closed(), "something follows the last answer");
}

#[test]
fn many_requests_of_one_connection_are_under_way_at_once() {
    const STREAMS: usize = 50;
    let arrived = Arc::new(AtomicUsize::new(0));
    let backend = Backend::with(move |request| {
        arrived.fetch_add(1, Ordering::SeqCst);
        // No request is answered before all have arrived.
        eventually("all have come", || arrived.load(Ordering::SeqCst) == STREAMS);
        Reply::ok(request.target().as_bytes())
    });
    let world = h2c_world(backend);
    let client = Client::connect(world.address());
    let paths: Vec<String> = (0..STREAMS).map(|number| format!("/pub/{number}")).collect();

    let answers = client.get_at_once(&paths);

    let bodies: Vec<String> =
        answers.into_iter().map(|answer| String::from_utf8(answer.body).unwrap()).collect();
    assert_eq!(bodies, paths);
}

#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    for sent in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let world = h2c_world(Backend::with(move |_| Reply::Last(sent.to_vec())));
        let client = Client::connect(world.address());

        let answer = client.send("GET", "/pub/x", &[], Bytes::new());

        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(logged(&world, "/pub/x")["reason"], "upstream_broke_off");
    }
}

#[test]
fn an_answer_without_a_body_ends_its_stream() {
    let backend = Backend::with(|request| match request.target() {
        "/pub/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/pub/304" => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec()),
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".to_vec()),
    });
    let world = h2c_world(backend);
    let client = Client::connect(world.address());

    for (method, path, status) in
        [("GET", "/pub/204", 204), ("GET", "/pub/304", 304), ("HEAD", "/pub/head", 200)]
    {
        let answer = client.send(method, path, &[], Bytes::new()).unwrap();
        assert_eq!((answer.status, answer.body), (status, vec![]), "{path}");
        assert!(
            !answer.headers.contains_key("connection") && !answer.headers.contains_key("transfer-encoding")
        );
    }
    assert_eq!(client.send("HEAD", "/pub/head", &[], Bytes::new()).unwrap().headers["content-length"], "500");
}

#[test]
fn a_stream_given_up_frees_the_backend_and_leaves_the_others() {
    let (ended, was_freed) = std::sync::mpsc::channel();
    let backend = Backend::with(move |request| {
        let ended = ended.clone();
        if request.target() != "/pub/wait" {
            return Reply::ok(b"ok");
        }
        Reply::Take(Box::new(move |mut stream| {
            use std::io::Read as _;
            _ = stream.read(&mut [0]);
            _ = ended.send(());
        }))
    });
    let world = h2c_world(backend);
    let client = Client::connect(world.address());
    let (response, mut stream) = client.open("/pub/wait", &[]);
    stream.send_data(Bytes::new(), true).unwrap();
    eventually("the backend is asked", || world.backend.count() == 1);

    stream.send_reset(h2::Reason::CANCEL);
    drop(response);

    was_freed.recv_timeout(PATIENCE).expect("the backend works for nobody");
    assert_eq!(client.get("/pub/x", &[]).body, b"ok");
    assert_eq!(logged(&world, "/pub/wait")["reason"], "client_gone");
}

#[test]
fn a_grpc_call_passes_with_te_and_trailers() {
    let server = Server::grpc_echo();
    let world = world_before(&server, "");
    let bearer = world.sign_in("alice");
    let client = Client::connect(world.address());

    let answer = client
        .send(
            "POST",
            "/shop.Orders/Get",
            &[
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("authorization", &format!("Bearer {bearer}")),
                ("x-wx-openid", "forged"),
            ],
            Bytes::from_static(b"\0\0\0\0\x05hello"),
        )
        .unwrap();

    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"\0\0\0\0\x05hello"[..]));
    let trailers = answer.trailers.expect("the trailers were lost");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"0".parse().unwrap(), &"fine".parse().unwrap())
    );
    let received = server.last();
    assert_eq!(received.headers["te"], "trailers");
    assert_eq!(received.headers["x-wx-appid"], APPID);
    assert_ne!(received.headers["x-wx-openid"], "forged");
    assert!(!received.headers.contains_key("authorization"));
    assert_eq!(received.uri.path(), "/shop.Orders/Get");
    assert_eq!(received.uri.authority().unwrap(), "gateway.test");
    assert_eq!(client.get("/shop.Orders/Get", &[]).status, 401);
}

#[test]
fn a_grpc_error_without_a_body_reaches_the_client() {
    let server = Server::with(|_, _, mut respond| async move {
        let header = Response::builder().header("grpc-status", "5").body(()).unwrap();
        respond.send_response(header, true).unwrap();
    });
    let world = world_before(&server, "");

    let answer = Client::connect(world.address())
        .send("POST", "/pub/x", &[("te", "trailers")], Bytes::from_static(b"\0\0\0\0\0"))
        .unwrap();

    assert_eq!((answer.status, &answer.headers["grpc-status"]), (200, &"5".parse().unwrap()));
}

#[test]
fn messages_stream_both_ways_one_at_a_time() {
    let server = Server::grpc_echo();
    let world = world_before(&server, "");
    let client = Client::connect(world.address());
    let (response, mut upwards) = client.open("/pub/chat", &[("te", "trailers")]);

    let trailers = client.threads.block_on(async {
        let mut downwards = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
        for number in 0..5 {
            let message = Bytes::from(format!("message {number}"));
            upwards.send_data(message.clone(), false).unwrap();
            assert_eq!(read_piece(&mut downwards).await.unwrap(), Some(message));
        }
        upwards.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read_piece(&mut downwards).await.unwrap(), None);
        downwards.trailers().await.unwrap().unwrap()
    });

    assert_eq!(trailers["grpc-status"], "0");
}

#[test]
fn a_client_of_http_1_1_is_served_by_a_backend_of_http_2() {
    let server = Server::grpc_echo();
    let world = world_before(&server, "");
    let mut client = world.connect();

    for body in ["", "one", "another"] {
        let answer = client.send(
            format!(
                "POST /pub/x?q=1 HTTP/1.1\r\nHost: gateway.test\r\nCookie: a=1; b=2\r\nConnection: keep-alive, te, x-hop\r\nTE: trailers\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
        let received = server.last();
        assert_eq!(received.uri.path_and_query().unwrap(), "/pub/x?q=1");
        assert_eq!(received.uri.authority().unwrap(), "gateway.test");
        assert_eq!(received.headers["te"], "trailers");
        assert!(!received.headers.contains_key("x-hop") && !received.headers.contains_key("connection"));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// Pingora opens a connection for each request that finds none ready at that moment: up to one each
/// at first.
#[test]
fn a_path_that_its_route_accepts_reaches_a_backend_of_http_2_as_it_came() {
    let server = Server::grpc_echo();
    let routes = ROUTES.replace("upstream: backend }", "upstream: backend, paths: { allow: [ALL] } }");
    let all = menshen::path::Spelling::ALL.map(menshen::path::Spelling::name).join(", ");
    let world = World::with(&format!(
        "{}{NO_THROTTLE}{H2C}upstreams: {{ backend: {{ servers: ['{}'], protocol: http2 }} }}\n",
        routes.replace("ALL", &all),
        server.address
    ));
    let over_http2 = Client::connect(world.address());
    for target in ["/pub/%61;b//c%2Fd%23e", "/pub/你好/%3Bx?q=1", "/pub/%C4%E3//", "/pub/a[b]?c[]=d"] {
        assert_eq!(world.get(target, "").status, 200, "{target}");
        assert_eq!(server.last().uri.path_and_query().unwrap(), target);
        assert_eq!(over_http2.get(target, &[]).status, 200, "{target}");
        assert_eq!(server.last().uri.path_and_query().unwrap(), target);
    }
    assert_eq!(over_http2.get("/pub;x", &[]).status, 400);
    assert_eq!(over_http2.get("//pub/x", &[]).status, 400);
}

#[test]
fn requests_at_once_are_answered_by_a_backend_of_http_2_and_their_connections_are_used_again() {
    let server = Server::grpc_echo();
    let world = world_before(&server, "");
    let client = Client::connect(world.address());
    let connections = || server.connections.load(Ordering::SeqCst);

    let paths: Vec<String> = (0..30).map(|number| format!("/pub/{number}")).collect();
    assert!(client.get_at_once(&paths).iter().all(|answer| answer.status == 200));
    let opened = connections();
    for _ in 0..60 {
        assert_eq!(client.get("/pub/x", &[]).status, 200);
    }

    assert!(opened <= 30, "{opened} connections");
    // A connection is given back a moment after its answer, so a few requests may miss it; most
    // must not.
    assert!(connections() < opened + 30, "{} connections", connections());
}

#[test]
fn failures_of_a_backend_of_http_2_have_reasons_of_their_own() {
    let server = Server::with(|parts, _, mut respond| async move {
        match parts.uri.path() {
            "/pub/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            "/pub/mid" => {
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                answer.send_data(Bytes::from_static(b"only this"), false).unwrap();
                tokio::task::yield_now().await;
                answer.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            _ => std::future::pending().await,
        }
    });
    let world = world_before(&server, ", read_timeout: 500ms");
    let client = Client::connect(world.address());

    assert_eq!(client.get("/pub/silent", &[]).status, 504);
    assert_eq!(logged(&world, "/pub/silent")["reason"], "upstream_timeout");
    assert_eq!(client.get("/pub/reset", &[]).status, 502);
    assert_eq!(logged(&world, "/pub/reset")["reason"], "upstream_broke_off");
    assert!(client.send("GET", "/pub/mid", &[], Bytes::new()).is_err());
    assert_eq!(upstream_failures(&world, "upstream_timeout"), 1.0);
}

/// Pingora has no timer for the silence of a client of HTTP/2; the backend, which waits too, has.
#[test]
fn a_client_silent_within_its_body_holds_a_stream_no_longer_than_the_backend_may_be_silent() {
    let http2 = Server::grpc_echo();
    for backend in
        ["servers: ['{backend}']".to_owned(), format!("servers: ['{}'], protocol: http2", http2.address)]
    {
        let world = World::with(&format!(
            "{ROUTES}{NO_THROTTLE}{H2C}upstreams: {{ backend: {{ {backend}, read_timeout: 500ms }} }}\n"
        ));
        let client = Client::connect(world.address());
        let (response, mut stream) = client.open("/pub/x", &[]);
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();

        client.threads.block_on(async {
            let ended = async {
                match response.await {
                    Ok(response) => read(&mut response.into_body()).await.map(|_| ()),
                    Err(error) => Err(error),
                }
            };
            _ = tokio::time::timeout(PATIENCE, ended).await.expect("the stream is still open");
        });

        assert_eq!(logged(&world, "/pub/x")["reason"], "upstream_timeout", "{backend}");
    }
}

#[test]
fn a_connection_without_requests_is_closed_after_its_time() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{H2C}limits: {{ h2: {{ idle_timeout: 1s }} }}\n"));
    let client = Client::connect(world.address());
    assert_eq!(client.get("/pub/x", &[]).status, 200);

    eventually("the connection is closed", || {
        pass(Duration::from_millis(50));
        world.metric("menshen_open_connections") == 0.0
    });
}
