use std::io;

use http::Method;

use super::*;
use crate::proxy::tests::Bench;

/// A request's header, of these header lines.
fn request(target: &str, lines: &[(&str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build(Method::GET, target.as_bytes(), None).unwrap();
    for (name, value) in lines {
        request.append_header((*name).to_owned(), *value).unwrap();
    }
    request
}

/// What goes on to the backend of what was received.
fn forwarded(received: &RequestHeader, ctx: &Context) -> RequestHeader {
    let mut request = received.clone();
    edit_request(received, &mut request, ctx).unwrap();
    request
}

fn said<'r>(request: &'r RequestHeader, name: &str) -> Option<&'r str> {
    let mut values = request.headers.get_all(name).iter();
    let value = values.next()?.to_str().unwrap();
    assert!(values.next().is_none(), "{name} is said twice");
    Some(value)
}

#[test]
fn the_backend_is_told_the_scheme_that_the_client_used() {
    let bench = Bench::new();
    for (peer_is_trusted, is_https, told, expected) in [
        (false, false, None, "http"),
        (false, true, None, "https"),
        (false, false, Some("https"), "http"),
        (false, true, Some("http"), "https"),
        (true, false, None, "http"),
        (true, true, None, "https"),
        (true, false, Some("https"), "https"),
        (true, true, Some("http"), "http"),
        (true, false, Some("HTTPS"), "http"),
        (true, true, Some("wss"), "https"),
    ] {
        let mut ctx = bench.context_on("/");
        (ctx.caller.peer_is_trusted, ctx.is_https) = (peer_is_trusted, is_https);
        let lines: Vec<(&str, &str)> = told.map(|told| ("x-forwarded-proto", told)).into_iter().collect();

        let request = forwarded(&request("/", &lines), &ctx);

        let case = format!("{peer_is_trusted} {is_https} {told:?}");
        assert_eq!(said(&request, "x-forwarded-proto"), Some(expected), "{case}");
    }
}

#[test]
fn the_backend_is_told_the_host_that_the_client_asked_for() {
    let bench = Bench::new();
    for (peer_is_trusted, told, expected) in [
        (false, None, "a.test:8080"),
        (false, Some("b.test"), "a.test:8080"),
        (true, None, "a.test:8080"),
        (true, Some("b.test"), "b.test"),
        (true, Some("B-1_x.test:443"), "B-1_x.test:443"),
        (true, Some("[::1]:443"), "[::1]:443"),
        (true, Some(""), "a.test:8080"),
        (true, Some("b.test, c.test"), "a.test:8080"),
        (true, Some("b.test/x"), "a.test:8080"),
        (true, Some("u@b.test"), "a.test:8080"),
    ] {
        let mut ctx = bench.context_on("/");
        ctx.caller.peer_is_trusted = peer_is_trusted;
        let mut lines = vec![("host", "a.test:8080")];
        lines.extend(told.map(|told| ("x-forwarded-host", told)));

        let request = forwarded(&request("/", &lines), &ctx);

        assert_eq!(said(&request, "x-forwarded-host"), Some(expected), "{peer_is_trusted} {told:?}");
    }
}

#[test]
fn the_authority_of_http_2_is_the_host_that_was_asked_for() {
    let mut received = request("/", &[]);
    received.set_uri("https://a.test:8443/".parse().unwrap());

    assert_eq!(authority(&received), "a.test:8443");
    assert_eq!(authority(&request("/", &[("host", "b.test")])), "b.test");
    assert_eq!(authority(&request("/", &[])), "");
}

#[test]
fn a_trace_begins_with_the_request_unless_the_client_began_one() {
    let bench = Bench::new();
    let ctx = bench.context_on("/");

    let begun = forwarded(&request("/", &[]), &ctx);
    let gone_on = forwarded(&request("/", &[("traceparent", "00-x-y-01")]), &ctx);

    assert_eq!(said(&begun, "traceparent").map(str::to_owned), ctx.request_id.traceparent());
    assert_eq!(said(&gone_on, "traceparent"), Some("00-x-y-01"));
}

#[test]
fn a_token_goes_on_only_where_the_route_says_so() {
    let bench = Bench::new();
    let of_somebody = [("authorization", "Basic dTpw")];
    let of_ours = [("authorization", "Bearer eyJ.x.y")];
    for (path, lines, was_read_there, expected) in [
        ("/", of_somebody, true, None),
        ("/", of_somebody, false, Some("Basic dTpw")),
        ("/", of_ours, false, None),
        ("/own", of_ours, true, Some("Bearer eyJ.x.y")),
    ] {
        let mut ctx = bench.context_on(path);
        ctx.token_in_authorization = was_read_there;

        let request = forwarded(&request(path, &lines), &ctx);

        assert_eq!(said(&request, "authorization"), expected, "{path} {lines:?} {was_read_there}");
    }

    // A request whose route nobody knows is one whose token nobody may have.
    let request = forwarded(&request("/", &of_ours), &bench.context());
    assert_eq!(said(&request, "authorization"), None);
}

#[test]
fn a_token_in_the_query_is_taken_out_and_the_rest_stays_as_it_was() {
    let bench = Bench::new();
    for (path, target, expected) in [
        ("/ws", "/ws", "/ws"),
        ("/ws", "/ws?token=x", "/ws"),
        ("/ws", "/ws?a=%61&token=x&b", "/ws?a=%61&b"),
        ("/ws", "/ws?%74oken=x&b=1", "/ws?b=1"),
        ("/ws", "/ws?a=1&tokens=x", "/ws?a=1&tokens=x"),
        ("/own", "/own?a=1&token=x", "/own?a=1&token=x"),
    ] {
        let ctx = bench.context_on(path);

        let request = forwarded(&request(target, &[]), &ctx);

        assert_eq!(request.uri.to_string(), expected, "{target}");
    }
}

#[test]
fn cookies_of_the_gateway_go_nowhere_whatever_the_route() {
    let bench = Bench::new();
    for path in ["/", "/own", "/public", "/grpc"] {
        let ctx = bench.context_on(path);
        let lines = [("cookie", "a=1; __Host-menshen=x; b=2")];

        let request = forwarded(&request(path, &lines), &ctx);

        assert_eq!(said(&request, "cookie"), Some("a=1; b=2"), "{path}");
    }
}

#[test]
fn cookies_that_came_apart_are_joined_for_a_backend_without_http_2() {
    let bench = Bench::new();
    for (path, version, expected) in [
        ("/", Version::HTTP_2, &["a=1; b=2"][..]),
        ("/", Version::HTTP_11, &["a=1", "b=2"]),
        ("/grpc", Version::HTTP_2, &["a=1", "b=2"]),
    ] {
        let mut received = request(path, &[("cookie", "a=1"), ("cookie", "b=2")]);
        received.set_version(version);

        let request = forwarded(&received, &bench.context_on(path));

        let cookies: Vec<&HeaderValue> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, expected, "{path} {version:?}");
    }
}

#[test]
fn a_backend_with_http_2_learns_that_trailers_are_taken_and_nothing_else() {
    let bench = Bench::new();
    for (path, te, expected) in [
        ("/grpc", Some("trailers"), Some("trailers")),
        ("/grpc", Some("gzip"), None),
        ("/grpc", None, None),
        ("/", Some("trailers"), None),
    ] {
        let lines: Vec<(&str, &str)> = te.map(|te| ("te", te)).into_iter().collect();
        let received = request(path, &lines);
        // As Pingora hands it on: hop-by-hop headers are gone.
        let mut request = request(path, &[]);

        edit_request(&received, &mut request, &bench.context_on(path)).unwrap();

        assert_eq!(said(&request, "te"), expected, "{path} {te:?}");
    }
}

#[test]
fn a_backend_sets_any_cookie_but_those_of_the_gateway() {
    for (lines, expected) in [
        (&["a=1; Path=/", "b=2"][..], &["a=1; Path=/", "b=2"][..]),
        (&["a=1", "__Host-menshen=x; Secure; Path=/", "b=2"], &["a=1", "b=2"]),
        (&["__host-MENSHEN-state=x"], &[]),
        (&["=__Host-menshen=x"], &[]),
        // What stands behind the value is an attribute, and no cookie.
        (&["a=1; Path=/__Host-menshen"], &["a=1; Path=/__Host-menshen"]),
    ] {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for line in lines {
            response.append_header("set-cookie", *line).unwrap();
        }

        drop_own_cookies(&mut response).unwrap();

        let kept: Vec<&HeaderValue> = response.headers.get_all("set-cookie").iter().collect();
        assert_eq!(kept, expected, "{lines:?}");
    }
}

#[test]
fn each_way_to_fail_has_its_status_and_its_word() {
    use ErrorType as E;

    let unreachable = (Some(502), "upstream_unreachable");
    let tls_failed = (Some(502), "upstream_tls_failed");
    let gone = (None, "client_gone");
    for (error, expected) in [
        (Error::new_down(E::HTTPStatus(413)), (Some(413), "refused_by_server")),
        (Error::new_up(E::ConnectTimedout), (Some(504), "upstream_connect_timeout")),
        (Error::new_up(E::TLSHandshakeTimedout), (Some(504), "upstream_connect_timeout")),
        (Error::new_up(E::ReadTimedout), (Some(504), "upstream_timeout")),
        (Error::new_up(E::WriteTimedout), (Some(504), "upstream_timeout")),
        (Error::new_up(E::ReadError), (Some(502), "upstream_broke_off")),
        (Error::new_up(E::ConnectRefused), unreachable),
        (Error::new_up(E::ConnectNoRoute), unreachable),
        (Error::new_in(E::ConnectNoRoute), unreachable),
        (Error::new_up(E::TLSHandshakeFailure), tls_failed),
        (Error::new_up(E::InvalidCert), tls_failed),
        (Error::new_up(E::InvalidHTTPHeader), (Some(502), "upstream_broke_off")),
        (Error::new_down(E::ReadTimedout), (Some(408), "client_timeout")),
        (Error::new_down(E::WriteTimedout), gone),
        (Error::new_down(E::ConnectionClosed), gone),
        (Error::new_down(E::H2Error), gone),
        (Error::new_down(E::InvalidHTTPHeader), (Some(400), "request_malformed")),
        (Error::new_in(E::InternalError), (Some(500), "internal_error")),
        (Error::new(E::InternalError), (Some(500), "internal_error")),
    ] {
        let (status, reason) = failure(&error);

        assert_eq!((status.map(|status| status.as_u16()), reason), expected, "{error}");
    }
}

#[test]
fn a_connection_that_timed_out_is_told_from_one_that_broke() {
    for (kind, expected) in [
        (io::ErrorKind::TimedOut, (Some(StatusCode::GATEWAY_TIMEOUT), "upstream_timeout")),
        (io::ErrorKind::ConnectionReset, (Some(StatusCode::BAD_GATEWAY), "upstream_broke_off")),
    ] {
        let mut error = Error::because(ErrorType::ReadError, "reading", io::Error::from(kind));
        error.as_up();

        assert_eq!(failure(&error), expected, "{kind}");
    }
}

#[test]
fn what_went_wrong_is_told_without_what_was_sent() {
    let mut quoting = Error::explain(ErrorType::InvalidHTTPHeader, "Set-Cookie: secret");
    quoting.as_up();
    let refused = io::Error::from_raw_os_error(111);
    let mut with_code = Error::because(ErrorType::ConnectRefused, "connecting to 10.0.0.1", refused);
    with_code.as_up();

    assert_eq!(described(&quoting), "Upstream InvalidHTTPHeader");
    assert_eq!(described(&with_code), "Upstream ConnectRefused: Connection refused (os error 111)");
}

#[test]
fn an_answer_to_a_cookie_is_kept_to_one_person_unless_the_backend_speaks_of_caches() {
    for (line, expected) in [
        (None, Some("private, no-cache")),
        (Some(("etag", "\"1\"")), Some("private, no-cache")),
        (Some(("cache-control", "max-age=60")), Some("max-age=60")),
        (Some(("expires", "0")), None),
    ] {
        let mut response = ResponseHeader::build(200, None).unwrap();
        if let Some((name, value)) = line {
            response.insert_header(name, value).unwrap();
        }

        keep_to_one_person(&mut response).unwrap();

        let told = response.headers.get("cache-control").map(|value| value.to_str().unwrap());
        assert_eq!(told, expected, "{line:?}");
    }
}
