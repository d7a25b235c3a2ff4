//! What clients of each version of HTTP get of a backend's answer, byte for byte.

mod edges;
mod redirects;
mod repeated;

use std::io::Read as _;

use crate::common::{Backend, NO_THROTTLE, Recorded, Reply, World};
use crate::proxying::http2::Client;

pub const ROUTES: &str = "
routes:
  - { name: public, path: /, access: public, upstream: backend, websocket: true }
listeners:
  - { address: 127.0.0.1:0, h2c: true }
";

pub fn with_backend(backend: Backend, sections: &str) -> World {
    World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{sections}"))
}

/// How the client learns where the body ends.
#[derive(Clone, Copy)]
enum End {
    /// By a length.
    Length(usize),
    /// It does not: the body is chunked, or ends with the connection.
    Unknown,
    /// There is no body, and this length of another answer.
    NoBody(Option<usize>),
}

/// An answer of a backend, and what clients get of it.
struct Row {
    what: &'static str,
    method: &'static str,
    sent: &'static str,
    /// `None`: 502.
    expected: Option<(&'static str, End, &'static str)>,
    /// Whether the backend closes the connection.
    closes: bool,
}

const fn row(
    what: &'static str,
    sent: &'static str,
    expected: Option<(&'static str, End, &'static str)>,
) -> Row {
    Row { what, method: "GET", sent, expected, closes: false }
}

const fn of(method: &'static str, row: Row) -> Row {
    Row { method, ..row }
}

const fn closing(row: Row) -> Row {
    Row { closes: true, ..row }
}

const OK: &str = "200 OK";
const HELLO: Option<(&str, End, &str)> = Some((OK, End::Length(5), "hello"));
const PIECES: Option<(&str, End, &str)> = Some((OK, End::Unknown, "hello"));
const NOTHING: Option<(&str, End, &str)> = Some((OK, End::NoBody(None), ""));
const META: Option<(&str, End, &str)> = Some((OK, End::NoBody(Some(5)), ""));
const NOT_MODIFIED: &str = "304 Not Modified";
const NO_CONTENT: Option<(&str, End, &str)> = Some(("204 No Content", End::NoBody(None), ""));

/// The rows of the table in `docs/headers.md`, and more.
const ROWS: &[Row] = &[
    row("a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    row(
        "a length of HTTP/1.0",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        HELLO,
    ),
    row("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", PIECES),
    row(
        "chunks in capitals",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PIECES,
    ),
    closing(row(
        "chunks of HTTP/1.0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PIECES,
    )),
    closing(row("the end of the connection", "HTTP/1.1 200 OK\r\n\r\nhello", PIECES)),
    closing(row("the end of a connection of HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", PIECES)),
    row("no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some((OK, End::Length(0), ""))),
    row("a length twice", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", HELLO),
    row("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", HELLO),
    row("a length with a zero", "HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\nhello", HELLO),
    row(
        "lengths that differ",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        None,
    ),
    row("a list of lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!", None),
    row("a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", None),
    row("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello", None),
    row(
        "a length that is too long",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        None,
    ),
    row(
        "chunked twice",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PIECES,
    ),
    row(
        "chunked twice in a list",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PIECES,
    ),
    row(
        "chunks and a length",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PIECES,
    ),
    row(
        "identity and a length",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        None,
    ),
    closing(row("identity alone", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello", None)),
    row(
        "another coding and chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        None,
    ),
    row(
        "another coding after chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        None,
    ),
    row(
        "a coding with a parameter",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        None,
    ),
    row("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", NO_CONTENT),
    row("204 with the length of a body", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", NO_CONTENT),
    row("204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", NO_CONTENT),
    row(
        "304 with a length",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        Some((NOT_MODIFIED, End::NoBody(Some(5)), "")),
    ),
    row(
        "304 with chunks",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        Some((NOT_MODIFIED, End::NoBody(None), "")),
    ),
    of("HEAD", row("a length of HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", META)),
    of(
        "HEAD",
        row(
            "a length of HEAD twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            META,
        ),
    ),
    of("HEAD", row("chunks of HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", NOTHING)),
    of("HEAD", row("HEAD without a length", "HTTP/1.1 200 OK\r\n\r\n", NOTHING)),
    row(
        "trailers",
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        PIECES,
    ),
    row(
        "fields of the connection",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5, max=100\r\nX-Hop: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nTE: trailers\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        HELLO,
    ),
    closing(row(
        "a connection that ends",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        HELLO,
    )),
    row(
        "interim answers",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        HELLO,
    ),
];

fn table() -> World {
    let backend = Backend::with(|request: &Recorded| {
        let number: usize = request.target().trim_start_matches('/').parse().unwrap_or(0);
        let row = &ROWS[number];
        let bytes = row.sent.as_bytes().to_vec();
        if row.closes { Reply::Last(bytes) } else { Reply::Bytes(bytes) }
    });
    with_backend(backend, "")
}

/// Everything that a client receives until the connection ends.
pub fn everything(world: &World, request: &str) -> String {
    let mut client = world.connect();
    client.write(request.as_bytes());
    let mut received = Vec::new();
    client.stream.read_to_end(&mut received).expect("the connection stays open");
    String::from_utf8(received).unwrap()
}

/// An answer's header lines in order of their names, without its date, and the rest.
fn parted(answer: &str) -> (String, Vec<String>, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let status = lines.next().unwrap();
    let mut lines: Vec<String> = lines.filter(|line| !line.starts_with("date: ")).collect();
    lines.iter_mut().for_each(|line| *line = line.to_lowercase());
    lines.retain(|line| !line.starts_with("date: "));
    lines.sort();
    (status, lines, body.to_owned())
}

/// What a client of HTTP/1 gets.
fn expected_of_http1(
    (status, end, body): (&str, End, &str),
    keeps: bool,
    has_chunks: bool,
) -> (String, Vec<String>, String) {
    let mut lines = vec![format!("connection: {}", if keeps { "keep-alive" } else { "close" })];
    let mut body = body.to_owned();
    match end {
        End::Length(length) | End::NoBody(Some(length)) => lines.push(format!("content-length: {length}")),
        End::Unknown if has_chunks => {
            lines.push("transfer-encoding: chunked".to_owned());
            body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        }
        End::Unknown | End::NoBody(None) => {}
    }
    (format!("HTTP/1.1 {status}"), lines, body)
}

#[test]
fn a_client_of_http_1_1_gets_each_answer_framed_anew() {
    let world = table();
    for (number, row) in ROWS.iter().enumerate() {
        let request =
            format!("{} /{number} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n", row.method);
        let mut received = everything(&world, &request);
        if row.what == "interim answers" {
            received = received.strip_prefix("HTTP/1.1 102 Processing\r\n\r\n").unwrap().to_owned();
        }
        match row.expected {
            Some(expected) => {
                assert_eq!(parted(&received), expected_of_http1(expected, false, true), "{}", row.what);
            }
            None => assert!(received.starts_with("HTTP/1.1 502 "), "{}: {received}", row.what),
        }
        // A kept connection stays in step.
        let mut client = world.connect();
        let kept = format!("{} /{number} HTTP/1.1\r\nHost: gateway.test\r\n\r\n", row.method);
        let answer = client.send(kept.as_bytes());
        if row.expected.is_some() {
            let next = client.send(b"GET /0 HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
            assert_eq!((next.status, next.text()), (200, "hello".to_owned()), "{}", row.what);
        } else {
            assert_eq!(answer.status, 502, "{}", row.what);
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks_and_is_told_when_the_connection_ends() {
    let world = table();
    for (number, row) in ROWS.iter().enumerate() {
        let request = format!("{} /{number} HTTP/1.0\r\nHost: gateway.test\r\n\r\n", row.method);
        let received = everything(&world, &request);
        let Some(expected) = row.expected else {
            assert!(received.starts_with("HTTP/1.1 502 "), "{}: {received}", row.what);
            continue;
        };
        assert_eq!(parted(&received), expected_of_http1(expected, false, false), "{}", row.what);

        let keeping = request.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n");
        if matches!(expected.1, End::Unknown) {
            let received = everything(&world, &keeping);
            assert_eq!(parted(&received), expected_of_http1(expected, false, false), "{}", row.what);
            continue;
        }
        let mut client = world.connect();
        for _ in 0..2 {
            let answer = client.send(keeping.as_bytes());
            assert_eq!(answer.header("connection"), Some("keep-alive"), "{}", row.what);
            assert_eq!(answer.text(), expected.2, "{}", row.what);
        }
    }
}

#[test]
fn a_client_of_http_2_gets_each_answer_without_fields_of_the_connection() {
    let world = table();
    let client = Client::connect(world.address());
    for (number, row) in ROWS.iter().enumerate() {
        let answer = client.send(row.method, &format!("/{number}"), &[], bytes::Bytes::new());
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", row.what));
        let Some((status, end, body)) = row.expected else {
            assert_eq!(answer.status, 502, "{}", row.what);
            continue;
        };
        assert_eq!(answer.status.to_string(), status[..3], "{}", row.what);
        assert_eq!(answer.body, body.as_bytes(), "{}", row.what);
        let mut names: Vec<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        let has_length = matches!(end, End::Length(_) | End::NoBody(Some(_)));
        let expected: &[&str] = if has_length { &["content-length", "date"] } else { &["date"] };
        assert_eq!(names, expected, "{}", row.what);
        assert!(answer.headers.get_all("content-length").iter().count() <= 1, "{}", row.what);
    }
}
