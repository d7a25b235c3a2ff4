//! The edges of HTTP/1.1, and what stands between it and HTTP/1.0 and HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::{everything, parted, with_backend};
use crate::common::{Backend, NO_THROTTLE, Reply, World};
use crate::proxying::http2::{Client, Server};
use crate::websocket;

const H2C: &str = "listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n";

/// A world whose backend speaks HTTP/2.
pub fn before(server: &Server) -> World {
    World::with(&format!(
        "routes: [{{ path: /, access: public, upstream: backend }}]\n{NO_THROTTLE}{H2C}upstreams: {{ backend: {{ servers: ['{}'], protocol: http2 }} }}\n",
        server.address
    ))
}

/// A backend of HTTP/2: `/length` states one, `/unknown` does not, `/trailers` announces trailers.
fn server() -> Server {
    Server::with(|request, _, mut respond| async move {
        let path = request.uri.path();
        let answer = Response::builder();
        let answer = match path {
            "/length" => answer.header("content-length", "5"),
            "/trailers" => answer.header("trailer", "x-sum"),
            "/204" => answer.status(204).header("content-length", "0"),
            _ => answer,
        };
        let has_body = path != "/204" && request.method != "HEAD";
        let mut stream = respond.send_response(answer.body(()).unwrap(), !has_body).unwrap();
        if has_body {
            let ends = path != "/trailers";
            _ = stream.send_data(Bytes::from_static(b"hello"), ends);
            if !ends {
                _ = stream
                    .send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]));
            }
        }
    })
}

#[test]
fn answers_of_a_backend_of_http_2_reach_clients_of_http_1() {
    let server = server();
    let world = before(&server);
    for (method, path, length, body) in [
        ("GET", "/length", Some("content-length: 5"), "hello"),
        ("GET", "/unknown", None, "hello"),
        ("GET", "/trailers", None, "hello"),
        ("GET", "/204", None, ""),
        ("HEAD", "/length", Some("content-length: 5"), ""),
        ("HEAD", "/unknown", None, ""),
    ] {
        for (version, keep) in
            [("1.0", ""), ("1.0", "Connection: keep-alive\r\n"), ("1.1", "Connection: close\r\n")]
        {
            let what = format!("{method} {path} HTTP/{version} {keep}");
            let has_end = length.is_some() || body.is_empty();
            let request = format!("{method} {path} HTTP/{version}\r\nHost: gateway.test\r\n{keep}\r\n");
            if keep == "Connection: keep-alive\r\n" && has_end {
                let mut client = world.connect();
                for _ in 0..2 {
                    let answer = client.send(request.as_bytes());
                    assert_eq!(
                        (answer.text().as_str(), answer.header("connection")),
                        (body, Some("keep-alive")),
                        "{what}"
                    );
                }
                continue;
            }
            let (status, lines, received) = parted(&everything(&world, &request));

            let mut expected = vec!["connection: close".to_owned()];
            expected.extend(length.map(str::to_owned));
            let is_chunked = !has_end && version == "1.1";
            expected.extend(is_chunked.then(|| "transfer-encoding: chunked".to_owned()));
            let chunked = format!("5\r\n{body}\r\n0\r\n\r\n");
            let body = if is_chunked { &*chunked } else { body };
            let code = if path == "/204" { "204 No Content" } else { "200 OK" };
            assert_eq!(
                (status, lines, received),
                (format!("HTTP/1.1 {code}"), expected, body.to_owned()),
                "{what}"
            );
        }
    }
}

#[test]
fn trailers_pass_from_http_2_to_http_2_and_are_announced_nowhere_else() {
    let server = server();
    let world = before(&server);
    let client = Client::connect(world.address());

    let answer = client.get("/trailers", &[]);

    assert_eq!(answer.headers["trailer"], "x-sum");
    assert_eq!(answer.trailers.unwrap()["x-sum"], "1");
    let answer = world.get("/trailers", "");
    assert_eq!((answer.header("trailer"), answer.text().as_str()), (None, "hello"));
}

#[test]
fn interim_answers_are_cleaned_and_never_reach_http_1_0() {
    let sent = b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let world = with_backend(Backend::with(|_| Reply::Bytes(sent.to_vec())), "");

    let modern = everything(&world, "GET / HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n");
    let expected =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert!(modern.starts_with(expected), "{modern}");

    for request in [
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    ] {
        let old = everything(&world, request);
        assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "{old}");
        assert_eq!(world.backend.last().header("expect"), Vec::<String>::new());
    }
}

#[test]
fn each_early_hint_reaches_its_own_request_over_http_2() {
    let world = with_backend(
        Backend::with(|request| {
            let path = request.target();
            Reply::Bytes(
                format!("HTTP/1.1 103 Early Hints\r\nLink: <{path}>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Long: {}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", "x".repeat(300), path.len())
                    .into_bytes(),
            )
        }),
        "",
    );
    let client = Client::connect(world.address());
    let paths: Vec<String> = (0..80).map(|number| format!("/{number}")).collect();

    for (path, (hints, body)) in paths.iter().zip(client.get_with_hints(&paths)) {
        assert_eq!(body, path.as_bytes());
        assert_eq!(hints.len(), 2, "{path}");
        assert_eq!(hints[0].status(), 103);
        assert_eq!(hints[0].headers()["link"], *format!("<{path}>"));
        assert_eq!(hints[0].headers().len(), 1, "{path}: {:?}", hints[0].headers());
        assert_eq!(hints[1].headers()["x-long"].len(), 300);
    }
    assert_eq!(client.get("/after", &[]).status, 200);
}

#[test]
fn a_request_whose_method_expects_a_body_says_that_it_has_none() {
    let world = with_backend(Backend::echo(), "");
    let client = Client::connect(world.address());
    for (method, expected) in
        [("POST", 1), ("PUT", 1), ("PATCH", 1), ("GET", 0), ("DELETE", 0), ("OPTIONS", 0)]
    {
        let expected = vec!["0"; expected];

        assert_eq!(client.send(method, "/", &[], Bytes::new()).unwrap().status, 200);
        assert_eq!(world.backend.last().header("content-length"), expected, "{method}");
        assert!(world.backend.last().header("transfer-encoding").is_empty(), "{method}");
        for version in ["1.0", "1.1"] {
            let answer = world.send(&format!("{method} / HTTP/{version}\r\nHost: gateway.test\r\n\r\n"));
            assert_eq!(answer.status, 200, "{method}");
            assert_eq!(world.backend.last().header("content-length"), expected, "{method} {version}");
        }
    }
    assert_eq!(client.send("POST", "/", &[], Bytes::from_static(b"body")).unwrap().status, 200);
    assert_eq!(world.backend.last().body, b"body");
}

#[test]
fn a_cookie_in_parts_is_one_field_over_http_2() {
    let world = with_backend(Backend::echo(), "limits: { max_header_fields: 10, max_header: 2KiB }\n");
    let client = Client::connect(world.address());
    let crumbs = vec![("cookie", "a=1"); 60];

    let answer = client.get("/", &crumbs);

    assert_eq!(answer.status, 200);
    assert_eq!(world.backend.last().header("cookie"), [vec!["a=1"; 60].join("; ")]);
    let others = vec![("x-a", "1"); 60];
    assert_eq!(client.get("/", &others).status, 431);
    let long = vec![("cookie", "a=1234567890123456789012345678901234567890"); 60];
    assert_eq!(client.get("/", &long).status, 431);
    // A client of HTTP/1.1 sends one field, RFC 6265 §5.4.
    let lines = "Cookie: a=1\r\n".repeat(60);
    assert_eq!(world.send(&format!("GET / HTTP/1.1\r\nHost: gateway.test\r\n{lines}\r\n")).status, 431);
}

#[test]
fn what_a_proxy_in_front_makes_of_an_opening_is_one() {
    let world = with_backend(websocket::switching(websocket::echo), "");
    for lines in [
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n",
        "upgrade: WEBSOCKET\r\nconnection: upgrade\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
        "Upgrade: websocket, foo\r\nConnection: Upgrade\r\n",
        "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\n",
    ] {
        let mut client = world.connect();
        client.write(
            format!(
                "GET /ws HTTP/1.1\r\nHost: gateway.test\r\n{lines}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        let answer = client.read_header().unwrap();
        assert_eq!(answer.status, 101, "{lines}");
        assert_eq!(answer.header("upgrade"), Some("websocket"), "{lines}");
        assert_eq!(answer.header("connection"), Some("Upgrade"), "{lines}");
        client.write(b"hello");
        assert_eq!(client.read_exact(5), b"hello", "{lines}");
        let asked = world.backend.last();
        assert_eq!(asked.header("connection"), ["Upgrade"], "{lines}");
        assert_eq!(asked.header("upgrade"), ["websocket"], "{lines}");
        assert!(asked.header("content-length").is_empty(), "{lines}");
        assert!(asked.header("x-hop").is_empty(), "{lines}");
    }
}

#[test]
fn a_query_reaches_backends_as_it_is_documented() {
    let world = with_backend(Backend::echo(), "");
    let client = Client::connect(world.address());
    for (query, expected) in [
        ("q=你好", "q=%E4%BD%A0%E5%A5%BD"),
        ("a[]=1|2^3`4{5}\\6", "a[]=1|2^3`4{5}\\6"),
        ("a=%20%22%zz", "a=%20%22%zz"),
        ("a=1;b=%2e%2E", "a=1;b=%2e%2E"),
        ("q=\"a\"&<b>", "q=%22a%22&%3Cb%3E"),
    ] {
        let answer = world.send(&format!("GET /x?{query} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!(world.backend.last().target(), format!("/x?{expected}"));
        if query.contains('"') {
            // The HTTP/2 library reads no such `:path`.
            continue;
        }
        assert_eq!(client.get(&format!("/x?{query}"), &[]).status, 200, "{query}");
        assert_eq!(world.backend.last().target(), format!("/x?{expected}"));
    }
}
