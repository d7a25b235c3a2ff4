//! Mistakes in a login's body: each has its error, and none causes a call to WeChat.

use std::net::Shutdown;

use super::{assert_refused, logins};
use crate::common::{Connection, Response, Tally, World};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn a_body_that_is_no_login_is_refused_without_asking_wechat() {
    let world = World::new();
    let long = format!(r#"{{"code":"{}"}}"#, "a".repeat(129));
    let deep = format!(r#"{{"x":{}}}"#, "[".repeat(2000));
    let bodies: Vec<(&str, &[u8])> = vec![
        (JSON, b""),
        (JSON, b" "),
        (JSON, b"{}"),
        (JSON, b"[]"),
        (JSON, b"null"),
        (JSON, b"\"code\""),
        (JSON, b"1"),
        (JSON, b"code=abc"),
        (JSON, b"{\"code\":\"abc\""),
        (JSON, b"{\"code\":\"abc\"}{\"code\":\"abc\"}"),
        (JSON, b"{\"code\":\"abc\"} x"),
        (JSON, b"{\"code\":\"abc\",}"),
        (JSON, b"{'code':'abc'}"),
        (JSON, b"\xef\xbb\xbf{\"code\":\"abc\"}x"),
        (JSON, b"{\"code\":\"\"}"),
        (JSON, b"{\"code\":null}"),
        (JSON, b"{\"code\":1}"),
        (JSON, b"{\"code\":[\"abc\"]}"),
        (JSON, b"{\"code\":{\"code\":\"abc\"}}"),
        (JSON, b"{\"Code\":\"abc\"}"),
        (JSON, b"{\"code\":\"abc\",\"app\":1}"),
        (JSON, b"{\"code\":\"abc\",\"app\":null}"),
        (JSON, b"{\"code\":\"abc\",\"code\":\"abc\"}"),
        (JSON, b"{\"code\":\"abc\",\"cod\\u0065\":\"abd\"}"),
        (JSON, b"{\"code\":\"abc\",\"app\":\"shop\",\"app\":\"shop\"}"),
        (JSON, b"{\"code\":\"abc\",\"x\":1,\"x\":2}"),
        (JSON, b"{\"code\":\"\xff\xfe\"}"),
        (JSON, b"{\"code\":\"abc\",\"x\":\"\xc3\x28\"}"),
        (JSON, b"{\"code\":\"\\ud800\"}"),
        (JSON, "{\"code\":\"абв\"}".as_bytes()),
        (JSON, b"{\"code\":\"abc&appid=wxe000000000000002\"}"),
        (JSON, b"{\"code\":\"abc%26secret=x\"}"),
        (JSON, b"{\"code\":\"abc#\"}"),
        (JSON, b"{\"code\":\"abc\\r\\nHost: x\"}"),
        (JSON, b"{\"code\":\"abc\\u0000\"}"),
        (JSON, b"{\"code\":\" abc\"}"),
        (JSON, b"{\"code\":\"../token\"}"),
        (JSON, long.as_bytes()),
        (JSON, deep.as_bytes()),
        (FORM, b""),
        (FORM, b"{\"code\":\"abc\"}"),
        (FORM, b"code"),
        (FORM, b"code="),
        (FORM, b"code=abc&code=abc"),
        (FORM, b"code=abc&%63ode=abd"),
        (FORM, b"code=abc%26secret%3Dx"),
        (FORM, b"code=abc%26appid%3Dwxe000000000000002"),
        (FORM, b"code=%ff%fe"),
        (FORM, b"code=abc%00"),
        (FORM, b"code=a+b"),
        (FORM, b"code[]=abc"),
    ];

    let mut tally = Tally::default();
    for (content_type, body) in &bodies {
        let response = post(&world, content_type, body);

        println!("{content_type}: {}", String::from_utf8_lossy(body));
        assert_refused(&response, 400, "invalid_request", "request_malformed");
        tally.add(response.status, 0);
    }
    tally.report("login: bodies that are none");

    assert_eq!(world.exchanges(), 0);
    assert_eq!(logins(&world, "request_malformed"), bodies.len() as f64);
}

#[test]
fn a_code_of_every_length_up_to_128_is_asked_for_as_it_is() {
    let world = World::new();
    for length in [1, 32, 127, 128] {
        let code = "aZ09-_x".chars().cycle().take(length).collect::<String>();

        assert_refused(&super::login(&world, &code), 401, "invalid_grant", "code_invalid");

        let calls = world.emulator.calls();
        let query = &calls.last().unwrap().query;
        assert_eq!(query["js_code"], code);
        assert_eq!(query.keys().collect::<Vec<_>>(), ["appid", "grant_type", "js_code", "secret"]);
    }
}

#[test]
fn a_content_type_that_is_neither_json_nor_a_form_is_refused() {
    let world = World::new();
    for types in [
        "Content-Type: text/plain\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/xml\r\n",
        "Content-Type: text/json\r\n",
        "Content-Type: \r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/json\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json, text/plain\r\n",
        "Content-Type: \x7f\r\n",
        "",
    ] {
        let response = world.send(&format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\n{types}Content-Length: 14\r\n\r\n{{\"code\":\"abc\"}}"
        ));

        println!("{types:?}");
        if types.contains('\x7f') {
            assert!(matches!(response.status, 400 | 415));
        } else {
            assert_refused(&response, 415, "invalid_request", "media_type_unsupported");
        }
    }
    assert_eq!(world.exchanges(), 0);
}

#[test]
fn a_body_of_more_than_4_kib_is_refused_however_it_is_framed() {
    let world = World::new();
    let body = |length: usize| {
        let mut body = format!(r#"{{"code":"abc","x":"{}"}}"#, "x".repeat(length));
        body.truncate(length);
        body
    };
    let chunked = |body: &str| {
        world.send(&format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {JSON}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ))
    };

    for response in [
        post(&world, JSON, body(4097).as_bytes()),
        chunked(&body(4097)),
        // Refused by what it announces: the body is not waited for.
        world.send(&format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {JSON}\r\nContent-Length: 99999999999\r\n\r\n"
        )),
    ] {
        assert_refused(&response, 413, "invalid_request", "body_too_large");
    }
    // One byte less is read, and found wrong.
    for response in [post(&world, JSON, body(4096).as_bytes()), chunked(&body(4096))] {
        assert_refused(&response, 400, "invalid_request", "request_malformed");
    }
    assert_eq!(world.exchanges(), 0);
}

#[test]
fn a_login_in_chunks_of_one_byte_is_a_login() {
    let world = World::new();
    let body = format!(r#"{{"code":"{}"}}"#, world.code("alice"));
    let chunks: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();

    let response = world.send(&format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {JSON}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    ));

    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    let world = World::new();
    for (framing, sent) in [
        ("Content-Length: 50", "{\"code\":\"abc\"}"),
        ("Transfer-Encoding: chunked", "32\r\n{\"code\":\"abc\"}"),
        ("Transfer-Encoding: chunked", "e\r\n{\"code\":\"abc\"}\r\n"),
    ] {
        let mut connection = world.connect();
        connection.write(begin(framing, sent).as_bytes());
        connection.stream.shutdown(Shutdown::Write).unwrap();

        let response = connection.read_response(false);

        println!("{framing}");
        assert_refused(&response, 400, "invalid_request", "body_incomplete");
    }
    assert_eq!(world.exchanges(), 0);
}

#[test]
fn a_body_that_comes_too_slowly_is_not_waited_for() {
    let world = World::with(
        "
login: { body_timeout: 200ms }
routes:
  - { path: /, access: authenticated, upstream: backend }
",
    );
    for framing in ["Content-Length: 50", "Transfer-Encoding: chunked"] {
        let mut connection = world.connect();
        connection.write(
            begin(framing, if framing.starts_with('C') { "{\"code\":" } else { "8\r\n{\"c" }).as_bytes(),
        );

        let response = connection.read_response(false);

        assert_refused(&response, 408, "invalid_request", "body_timed_out");
        assert!(connection.is_closed(), "what is still to come must not be read as a request");
    }
    assert_eq!(logins(&world, "body_timed_out"), 2.0);
    assert_eq!(world.exchanges(), 0);
}

#[test]
fn what_follows_a_refused_body_is_never_read_as_a_request() {
    let world = World::new();
    let smuggled = "GET /pub/smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    for (content_type, length) in [("text/plain", smuggled.len()), (JSON, smuggled.len()), (JSON, 5000)] {
        let mut connection = world.connect();
        connection.write(
            format!(
                "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{smuggled}"
            )
            .as_bytes(),
        );

        assert!(connection.read_response(false).status >= 400);

        if length == smuggled.len() {
            // The connection may go on or not; if it does, with what comes after the body.
            _ = std::io::Write::write_all(
                &mut connection.stream,
                b"GET /pub/next HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
            );
            _ = connection.try_read_response(false);
        }
    }
    assert!(world.backend.requests().iter().all(|request| request.target() == "/pub/next"));
}

fn begin(framing: &str, sent: &str) -> String {
    format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {JSON}\r\n{framing}\r\n\r\n{sent}"
    )
}

fn post(world: &World, content_type: &str, body: &[u8]) -> Response {
    let mut request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    Connection::open(world.address()).send(&request)
}
