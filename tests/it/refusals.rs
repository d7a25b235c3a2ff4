//! Every refusal is the gateway's own, whichever layer makes it: it has a problem document, a
//! request id, a line in the access log and a reason in the metrics, and it counts against its
//! client.

use crate::common::http2::{self, Fields, Http2, Outcome};
use crate::common::{Connection, NO_THROTTLE, ROUTES, Response, Tally, World, eventually};

/// What a hostile client sends; the status and the reason it gets.
pub fn table() -> Vec<(Vec<u8>, u16, &'static str)> {
    let get = |lines: &str| format!("GET /pub/x HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
    let post = |lines: &str| format!("POST /pub/x HTTP/1.1\r\nHost: a\r\n{lines}\r\nabcde").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    let chunked = |body: &str| {
        format!("POST /pub/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    };
    vec![
        // The request line.
        (line("GET\t/pub/x\tHTTP/1.1"), 400, "request_line_malformed"),
        (line("GET /pub/x\tHTTP/1.1"), 400, "request_line_malformed"),
        (line("GET /pub/x HTTP/1.2"), 400, "request_line_malformed"),
        (line("GET /pub/x HTTP/2.0"), 400, "request_line_malformed"),
        (line("GET /pub/x http/1.1"), 400, "request_line_malformed"),
        (line("GET /pub/x HTTP/1.1 "), 400, "request_line_malformed"),
        (line("G\u{1}T /pub/x HTTP/1.1"), 400, "request_line_malformed"),
        (line("G(T /pub/x HTTP/1.1"), 400, "request_line_malformed"),
        (line(" GET /pub/x HTTP/1.1"), 400, "request_line_malformed"),
        (b"GET /pub/x\r\n\r\n".to_vec(), 400, "request_line_malformed"),
        (b"GET /pub/x HTTP/1.1\nHost: a\n\n".to_vec(), 400, "line_ending_malformed"),
        (line("CONNECT a:1 HTTP/1.1"), 405, "method_not_admitted"),
        // The target.
        (line("GET /pub/a b HTTP/1.1"), 400, "target_malformed"),
        (line("GET  /pub/x HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/a\tb HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/a\0b HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/a\u{7f}b HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/x?a=b c HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/<x> HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/\"x\" HTTP/1.1"), 400, "path_refused"),
        // Fields.
        (get("X-A : b\r\n"), 400, "header_name_refused"),
        (get("X-A\t: b\r\n"), 400, "header_name_refused"),
        (get("X A: b\r\n"), 400, "header_name_refused"),
        (get("X-\0A: b\r\n"), 400, "header_name_refused"),
        (get("no colon\r\n"), 400, "header_line_malformed"),
        (get(": b\r\n"), 400, "header_line_malformed"),
        (get("X-A: b\r\n X-WX-OPENID: victim\r\n"), 400, "header_line_malformed"),
        (get("X-A: b\r\n\tfolded\r\n"), 400, "header_line_malformed"),
        (get("X-A: a\0b\r\n"), 400, "header_value_malformed"),
        (get("X-A: a\u{1}b\r\n"), 400, "header_value_malformed"),
        (get("X-A: a\u{7f}b\r\n"), 400, "header_value_malformed"),
        (get("X-A: a\rX-WX-OPENID: victim\r\n"), 400, "header_value_malformed"),
        (get("X-A: b\nX-WX-OPENID: victim\r\n"), 400, "line_ending_malformed"),
        (get(&"X-A: b\r\n".repeat(254)), 431, "header_too_large"),
        (get(&"X-A: b\r\n".repeat(300)), 431, "header_too_large"),
        (get(&format!("X-A: {}\r\n", "x".repeat(1 << 20))), 431, "header_too_large"),
        // The host.
        (get("Host: b\r\n"), 400, "host_malformed"),
        (get("Host: a\r\n"), 400, "host_malformed"),
        (b"GET /pub/x HTTP/1.1\r\n\r\n".to_vec(), 400, "host_malformed"),
        (b"GET /pub/x HTTP/1.1\r\nHost: u@a\r\n\r\n".to_vec(), 400, "host_malformed"),
        (b"GET http://b/pub/x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, "host_malformed"),
        // The frame of the body.
        (post("Content-Length: +3\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length: 5, 6\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length: 5, 5\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length:\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length: 18446744073709551621\r\n"), 400, "framing_ambiguous"),
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "framing_ambiguous"),
        (post("Transfer-Encoding: gzip\r\n"), 400, "framing_ambiguous"),
        (post("Transfer-Encoding: chunked, identity\r\n"), 400, "framing_ambiguous"),
        (
            b"POST /pub/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            400,
            "framing_ambiguous",
        ),
        // Chunks, in the same packet as the header.
        (chunked("5;ext\nXX\r\nhello\r\n0\r\n\r\n"), 400, "chunk_malformed"),
        (chunked("5;\0\r\nhello\r\n0\r\n\r\n"), 400, "chunk_malformed"),
        (chunked("\r\n\r\n"), 400, "chunk_malformed"),
        (chunked(";\r\n\r\n"), 400, "chunk_malformed"),
        (chunked("5 \r\nhello\r\n0\r\n\r\n"), 400, "chunk_malformed"),
        (chunked("5;\r\nhello\r\n0\r\n\r\n"), 400, "chunk_malformed"),
        (chunked("5;a=\"\r\nhello\r\n0\r\n\r\n"), 400, "chunk_malformed"),
        (chunked("ffffffffffffffff\r\nhello"), 400, "chunk_malformed"),
        (chunked("5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n"), 400, "chunk_malformed"),
        // What is no HTTP at all.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, "tls_on_plain_listener"),
        (b"\x00\x01\x02\r\n\r\n".to_vec(), 400, "request_line_malformed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), 400, "request_line_malformed"),
    ]
}

fn access_log(world: &World) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(world.data.path().join("access.log")).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The answer to bytes, after which the connection is closed.
fn refused(world: &World, bytes: &[u8]) -> Response {
    let mut connection = Connection::open(world.address());
    // The gateway may answer before it has read all of it.
    _ = std::io::Write::write_all(&mut connection.stream, bytes);
    let response = connection.read_response(bytes.starts_with(b"HEAD "));
    // Where the end of a request is known, its connection may go on.
    if response.header("connection") == Some("close") {
        assert!(connection.is_closed(), "{}", bytes.escape_ascii());
    } else {
        let reason = response.json()["code"].as_str().unwrap().to_owned();
        let has_an_end =
            matches!(&*reason, "path_refused" | "header_too_large" | "host_malformed" | "target_malformed");
        assert!(has_an_end, "{}: {reason}", bytes.escape_ascii());
    }
    response
}

#[test]
fn every_refusal_is_answered_logged_and_counted_whatever_makes_it() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut tally = Tally::default();
    for (bytes, status, reason) in table() {
        let shown: String = bytes.escape_ascii().to_string().chars().take(200).collect();
        let counter = format!(r#"menshen_refused_requests_total{{reason="{reason}"}}"#);
        let (lines, counted) = (access_log(&world).len(), world.metric(&counter));

        let response = refused(&world, &bytes);

        assert_eq!(response.status, status, "{shown}: {}", response.text());
        assert_eq!(response.header("server"), Some("menshen"), "{shown}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{shown}");
        let document = response.json();
        assert_eq!(document["code"], reason, "{shown}: {document}");
        let id = response.header("x-request-id").unwrap();
        assert_eq!(document["request_id"], id, "{shown}");
        eventually(&format!("{shown} is logged"), || access_log(&world).len() > lines);
        let logged = access_log(&world);
        assert_eq!(logged.len(), lines + 1, "{shown}: {:?}", &logged[lines..]);
        let line = &logged[lines];
        assert_eq!((&line["reason"], &line["request_id"]), (&reason.into(), &id.into()), "{shown}: {line}");
        assert_eq!((&line["decision"], &line["client.address"]), (&"refused".into(), &"127.0.0.1".into()));
        assert_eq!(line["http.response.status_code"], status, "{shown}: {line}");
        assert!(!line.to_string().contains("refused.invalid"), "{line}");
        assert_eq!(world.metric(&counter), counted + 1.0, "{shown}");
        assert_eq!(world.backend.count(), 0, "{shown}: {:?}", world.backend.requests());
        tally.add(response.status, 0);
    }
    tally.report("refusals: hostile framings");
}

#[test]
fn a_chunk_that_arrives_later_is_read_as_strictly() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    for (first, second) in [
        ("5\r\nhello\r\n", "\r\n\r\n"),
        ("5\r\nhello\r\n", ";\r\n\r\n"),
        ("5\r\nhel", "lo\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("", "5;\0\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut connection = world.connect();
        let head =
            "POST /pub/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write(head.replace("Expect: 100-continue\r\n", "").as_bytes());
        connection.write(first.as_bytes());
        // The header was read once the backend has it, or soon after.
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        let lines = access_log(&world).len();
        connection.write(second.as_bytes());

        let response = connection.read_response(false);

        assert_eq!(response.status, 400, "{second:?}: {}", response.text());
        assert_eq!(response.json()["code"], "chunk_malformed", "{second:?}");
        assert!(connection.is_closed(), "{second:?}");
        eventually("it is logged", || access_log(&world).len() == lines + 1);
        assert_eq!(access_log(&world)[lines]["reason"], "chunk_malformed");
        assert_eq!(world.backend.count(), 0);
    }
}

/// A client that probes is locked out for it, and only that client: behind a trusted proxy it is
/// the one that the proxy names.
#[test]
fn malformed_requests_count_against_their_client() {
    let throttle = "throttle:\n  client_errors: { allowed: 5 }\n";
    let world = World::with(&format!("{ROUTES}{throttle}trusted_proxies: [127.0.0.1]\n"));
    let hostile = |client: &str| {
        let bytes = format!("GET /pub/x HTTP/1.2\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        refused(&world, bytes.as_bytes()).status
    };

    let mut statuses: Vec<u16> = (0..8).map(|_| hostile("203.0.113.7")).collect();
    statuses.dedup();

    assert_eq!(statuses, [400, 429]);
    assert_eq!(hostile("203.0.113.8"), 400);
    assert_eq!(world.get("/pub/x", "X-Forwarded-For: 203.0.113.7\r\n").status, 429);
    assert_eq!(world.get("/pub/x", "X-Forwarded-For: 203.0.113.8\r\n").status, 200);
}

/// A body that the gateway reads itself is read as strictly, and its connection ends: what follows
/// a chunk that is none could be data to another reader, and would be a request to this one.
#[test]
fn nothing_after_a_broken_chunk_is_read_as_a_request() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let head = "HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    for path in ["/auth/login", "/auth/refresh", "/auth/logout", "/x", "/pub/x"] {
        for (first, second) in [
            ("ffffffffffffffff\r\n", ""),
            ("", "ffffffffffffffff\r\n"),
            ("6\r\n{\"code\r\n", "0000000000000001\r\nx\r\n"),
            ("6\r\n{\"code\r\n", "1;\nx\r\n0\r\n\r\n"),
            ("6\r\n{\"code\r\n", "\r\n\r\n"),
            ("6\r\n{\"codeX", ""),
        ] {
            let mut connection = world.connect();
            connection.write(format!("POST {path} {head}{first}").as_bytes());
            std::thread::park_timeout(std::time::Duration::from_millis(20));
            // The connection may be closed already.
            _ = std::io::Write::write_all(&mut connection.stream, second.as_bytes());
            _ = std::io::Write::write_all(
                &mut connection.stream,
                b"GET /pub/smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            );

            let what = format!("{path} {first:?} {second:?}");
            let response = connection.read_response(false);
            // `/x` is refused before its body is read.
            let expected = if path == "/x" { &[400, 401][..] } else { &[400][..] };
            assert!(expected.contains(&response.status), "{what}: {} {}", response.status, response.text());
            if response.status == 400 {
                assert_eq!(response.json()["code"], "chunk_malformed", "{what}");
            }
            assert!(connection.is_closed(), "{what}");
        }
    }
    assert_eq!(world.backend.count(), 0, "{:?}", world.backend.requests());
}

const H2C: &str = "listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n";
const MALFORMED: &str = r#"menshen_refused_requests_total{reason="request_malformed"}"#;

/// Requests of HTTP/2 that Pingora refuses, and those that the HTTP/2 library does: each has a
/// line, a counter and a client, though neither method nor path.
/// The value may be a secret.
#[test]
fn a_refused_header_is_named_without_its_value() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let get = |lines: &str| format!("GET /pub/x HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    for (lines, expected) in [
        ("access_token: secret\r\n", "`access_token`"),
        ("X-A: b\r\nX_B: secret\r\nY_C: secret\r\n", "`x_b`"),
        ("X(A): secret\r\n", "`X(A)`"),
        ("X-\u{e9}`\\\"<b>: secret\r\n", r#"`X-\xc3\xa9`\\\"<b>`"#),
        ("X-A: secret\u{1}\r\n", "`X-A`"),
    ] {
        let answer = world.send(&get(lines));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 400, "{lines:?}");
        assert!(detail.contains(expected), "{lines:?}: {detail}");
        assert!(!detail.contains("secret"), "{lines:?}: {detail}");
    }
    let long = world.send(&get(&format!("X_{}: secret\r\n", "a".repeat(5000))));
    assert!(long.json()["detail"].as_str().unwrap().len() < 300);
}

#[test]
fn a_refused_request_over_http2_is_logged_and_counted() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{H2C}"));
    let large = "x".repeat(200_000);
    let with = |field: (&'static [u8], &'static [u8])| http2::fields("POST", b"/pub/x", &[field]);
    let without = |name: &[u8]| {
        let fields = http2::fields("POST", b"/pub/x", &[]);
        fields.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>()
    };
    let table: Vec<(&str, Fields<'_>)> = vec![
        ("another host", with((b"host", b"other.test"))),
        (
            "two hosts",
            http2::fields("POST", b"/pub/x", &[(b"host", b"gateway.test"), (b"host", b"gateway.test")]),
        ),
        ("upper case in a name", with((b"X-A", b"b"))),
        ("a space in a name", with((b"x a", b"b"))),
        ("a line break in a value", with((b"x-a", b"b\r\nx-wx-openid: victim"))),
        ("a header of a connection", with((b"connection", b"close"))),
        ("transfer-encoding", with((b"transfer-encoding", b"chunked"))),
        ("a length without a body", with((b"content-length", b"5"))),
        (
            "two lengths",
            http2::fields("POST", b"/pub/x", &[(b"content-length", b"5"), (b"content-length", b"6")]),
        ),
        ("no method", without(b":method")),
        ("no path", without(b":path")),
        ("a pseudo-header field of answers", with((b":status", b"200"))),
        (
            "a pseudo-header field after others",
            [with((b"x-a", b"b")), vec![(b":path".as_slice(), b"/".as_slice())]].concat(),
        ),
        ("a space in the path", http2::fields("POST", b"/pub/a b", &[])),
        ("too large a header", http2::fields("POST", b"/pub/x", &[(b"x-a", large.as_bytes())])),
    ];
    let mut tally = Tally::default();
    for (number, (what, fields)) in table.iter().enumerate() {
        let mut connection = Http2::open(world.address());
        let outcome = connection.send_large(fields);

        assert!(!(200..300).contains(&outcome.status()), "{what}: {outcome:?}");
        eventually(&format!("{what} is logged"), || access_log(&world).len() > number);
        let lines = access_log(&world);
        assert_eq!(lines.len(), number + 1, "{what}: {:?}", lines.last());
        let line = &lines[number];
        assert_eq!(
            (&line["reason"], &line["decision"]),
            (&"request_malformed".into(), &"refused".into()),
            "{what}"
        );
        assert_eq!(line["network.protocol.version"], "2", "{what}: {line}");
        assert_eq!(line["client.address"], "127.0.0.1", "{what}: {line}");
        assert_eq!(world.metric(MALFORMED), (number + 1) as f64, "{what}");
        tally.add(&outcome, 0);
    }
    assert_eq!(world.backend.count(), 0);
    tally.report("refusals: hostile requests over HTTP/2");
}

/// Over HTTP/1 it is in the table above.
#[test]
fn connect_over_http2_is_refused_by_the_gateway_itself() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{H2C}"));
    let fields: Fields<'_> = vec![(b":method", b"CONNECT"), (b":authority", b"a:443")];

    let Outcome::Answered(405, body) = Http2::open(world.address()).send(&fields) else { panic!("no 405") };

    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["code"], "method_not_admitted");
    eventually("it is logged", || access_log(&world).len() == 1);
    let line = &access_log(&world)[0];
    assert_eq!(
        (&line["reason"], &line["http.request.method"]),
        (&"method_not_admitted".into(), &"_OTHER".into())
    );
    assert_eq!(world.backend.count(), 0);
}

/// A stream is reset if its trailers have a pseudo-header field, in every form, RFC 9113 §8.1. The
/// other streams of the connection go on.
#[test]
fn trailers_with_a_pseudo_header_field_are_a_stream_error() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{H2C}"));
    let fields = http2::fields("POST", b"/pub/x", &[]);
    let mut connection = Http2::open(world.address());
    let begin = |connection: &mut Http2| {
        let id = connection.begin();
        connection.frame(http2::HEADERS, http2::END_HEADERS, id, &http2::encode(&fields));
        connection.frame(http2::DATA, 0, id, b"body");
        id
    };
    for (what, block) in [
        ("as it is", http2::encode(&vec![(&b":path"[..], &b"/pub/y"[..])])),
        ("after a field", http2::encode(&vec![(&b"x-a"[..], &b"b"[..]), (b":method", b"GET")])),
        ("of the static table", b"\x82".to_vec()),
        ("with a name of the static table", b"\x04\x02/y".to_vec()),
        ("with a name in Huffman code", b"\x00\x84\xb9\x58\xd3\x3f\x02/y".to_vec()),
        ("of answers", http2::encode(&vec![(&b":status"[..], &b"200"[..])])),
    ] {
        let id = begin(&mut connection);
        connection.frame(http2::HEADERS, http2::END_HEADERS | http2::END_STREAM, id, &block);

        assert_eq!(connection.outcome(id), Outcome::Reset(1), "{what}");
    }
    let id = begin(&mut connection);
    let trailers = http2::encode(&vec![(&b"x-a"[..], &b"b"[..])]);
    connection.frame(http2::HEADERS, http2::END_HEADERS | http2::END_STREAM, id, &trailers);
    assert_eq!(connection.outcome(id).status(), 200);
    assert_eq!(world.backend.last().body, b"body");
    eventually("each is logged", || access_log(&world).len() == 7);
    let lines = access_log(&world);
    let (malformed, good): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["reason"] == "request_malformed");
    assert_eq!((malformed.len(), good.len()), (6, 1), "{lines:?}");
    assert!(lines.iter().all(|line| line["url.path"] == "/pub/x"), "{lines:?}");
    assert_eq!(world.metric(MALFORMED), 6.0);
}

/// What ends a connection of HTTP/2 has a line too, if it is the client's mistake.
#[test]
fn a_violation_of_http2_is_logged_and_a_connection_that_ends_is_not() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{H2C}"));
    let whole = http2::encode(&http2::fields("GET", b"/pub/x", &[]));
    let garbage: Vec<Vec<u8>> = vec![
        [http2::PREFACE, b"\0\0\x01\x04\0\0\0\0\x01x"].concat(),
        [http2::PREFACE, &http2::frame(http2::SETTINGS, 0, 0, &[]), &http2::frame(http2::DATA, 0, 1, b"x")]
            .concat(),
        [
            http2::PREFACE,
            &http2::frame(http2::SETTINGS, 0, 0, &[]),
            &http2::frame(http2::HEADERS, 5, 1, b"\xff\xff\xff"),
        ]
        .concat(),
        [
            http2::PREFACE,
            &http2::frame(http2::SETTINGS, 0, 0, &[]),
            &http2::frame(http2::HEADERS, 5, 2, &whole),
        ]
        .concat(),
        b"PRI * HTTP/2.0\r\n\r\nFOO\r\n\r\n".to_vec(),
    ];
    for (number, bytes) in garbage.iter().enumerate() {
        let mut connection = world.connect();
        connection.write(bytes);
        _ = std::io::Read::read_to_end(&mut connection.stream, &mut Vec::new());
        eventually("it is logged", || access_log(&world).len() > number);
        assert_eq!(access_log(&world).len(), number + 1, "{}", bytes.escape_ascii());
        assert_eq!(access_log(&world)[number]["reason"], "request_malformed");
    }

    drop(Http2::open(world.address()));
    let mut connection = Http2::open(world.address());
    assert_eq!(connection.send(&http2::fields("GET", b"/pub/x", &[])).status(), 200);
    drop(connection);
    // A browser that cancels requests makes no mistake, even if both arrive at once.
    let mut connection = Http2::open(world.address());
    let mut cancelled = Vec::new();
    for _ in 0..10 {
        let id = connection.begin();
        cancelled.extend(http2::frame(http2::HEADERS, http2::END_HEADERS | http2::END_STREAM, id, &whole));
        cancelled.extend(http2::frame(http2::RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    std::io::Write::write_all(&mut connection.stream, &cancelled).unwrap();
    assert_eq!(connection.send(&http2::fields("GET", b"/pub/x", &[])).status(), 200);
    let mut last = Http2::open(world.address());
    assert_eq!(last.send(&http2::fields("GET", b"/pub/x", &[])).status(), 200);
    eventually("all are logged", || access_log(&world).len() == garbage.len() + 13);
    assert_eq!(world.metric(MALFORMED), garbage.len() as f64);
}

/// A client that probes over HTTP/2 is locked out as one that probes over HTTP/1 is. One that opens
/// more streams than it may does not know the limit yet, which is no mistake.
#[test]
fn malformed_requests_over_http2_count_against_their_client() {
    let limits =
        "throttle: { client_errors: { allowed: 5 } }\nlimits: { h2: { max_concurrent_streams: 1 } }\n";
    let world = World::with(&format!("{ROUTES}{limits}{H2C}"));
    let good = http2::fields("GET", b"/pub/x", &[]);
    let mut connection = Http2::open(world.address());
    let first = connection.begin();
    connection.frame(
        http2::HEADERS,
        http2::END_HEADERS,
        first,
        &http2::encode(&http2::fields("POST", b"/pub/x", &[])),
    );
    for _ in 0..20 {
        let id = connection.begin();
        connection.frame(http2::HEADERS, http2::END_HEADERS | http2::END_STREAM, id, &http2::encode(&good));
        assert_eq!(connection.outcome(id), Outcome::Reset(7));
    }
    connection.frame(http2::DATA, http2::END_STREAM, first, b"");
    assert_eq!(connection.outcome(first).status(), 200);
    assert_eq!(world.metric(MALFORMED), 0.0);

    for _ in 0..10 {
        let outcome = connection.send(&http2::fields("GET", b"/pub/x", &[(b"connection", b"close")]));
        assert_eq!(outcome, Outcome::Reset(1));
    }

    eventually("it is locked out", || Http2::open(world.address()).send(&good).status() == 429);
}
