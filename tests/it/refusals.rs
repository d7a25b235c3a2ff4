//! Every refusal is the gateway's own, whichever layer makes it: it has a problem document, a
//! request id, a line in the access log and a reason in the metrics, and it counts against its
//! client.

use crate::common::http2::{self, Http2};
use crate::common::{Connection, NO_THROTTLE, ROUTES, Response, Tally, World, eventually};

/// What a hostile client sends; the status and the reason it gets.
fn table() -> Vec<(Vec<u8>, u16, &'static str)> {
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
        (line("GET /pub/x?a=\"b\" HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/x?a=<b HTTP/1.1"), 400, "target_malformed"),
        (line("GET /pub/x?a=b> HTTP/1.1"), 400, "target_malformed"),
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
fn every_refusal_is_answered_logged_and_counted_whoever_makes_it() {
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

/// What Pingora refuses over HTTP/2 has a line, a counter and a client as well, though neither
/// method nor path.
#[test]
fn a_refused_request_over_http2_is_logged_and_counted() {
    let listeners = "listeners:\n  - { address: 127.0.0.1:0, h2c: true }\n";
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{listeners}"));
    let counter = r#"menshen_refused_requests_total{reason="request_malformed"}"#;
    let other: (&[u8], &[u8]) = (b"host", b"other.test");
    let own: (&[u8], &[u8]) = (b"host", b"gateway.test");
    for (number, hosts) in [vec![other], vec![own, own]].iter().enumerate() {
        let outcome = Http2::open(world.address()).send(&http2::fields("POST", b"/pub/x", hosts));

        assert!(!(200..300).contains(&outcome.status()), "{hosts:?}: {outcome:?}");
        eventually("it is logged", || access_log(&world).len() == number + 1);
        let line = &access_log(&world)[number];
        assert_eq!((&line["reason"], &line["decision"]), (&"request_malformed".into(), &"refused".into()));
        assert_eq!(line["network.protocol.version"], "2", "{line}");
        assert_eq!(world.metric(counter), (number + 1) as f64);
    }
    assert_eq!(world.backend.count(), 0);
}
