use http::Method;

use super::super::arrival::RequestArrival;
use super::super::permit::Permit;
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

/// What the backend gets of a request that was received.
fn forwarded(
    received: &RequestHeader,
    bench: &Bench,
    permit: &Permit,
    arrival: &RequestArrival,
) -> RequestHeader {
    let mut request = received.clone();
    edit_request(received, &mut request, permit, arrival, &bench.current).unwrap();
    request
}

fn value_of<'r>(request: &'r RequestHeader, name: &str) -> Option<&'r str> {
    let mut values = request.headers.get_all(name).iter();
    let value = values.next()?.to_str().unwrap();
    assert!(values.next().is_none(), "{name} stands twice");
    Some(value)
}

#[test]
fn the_backend_gets_the_scheme_that_the_client_used() {
    let bench = Bench::behind("10.0.0.1");
    for (peer_is_trusted, is_https, stated, expected) in [
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
        let (permit, mut arrival) = (bench.permit_on("/"), bench.arrival());
        (arrival.client.proxy, arrival.is_https) = (peer_is_trusted.then_some(0), is_https);
        let lines: Vec<(&str, &str)> =
            stated.map(|stated| ("x-forwarded-proto", stated)).into_iter().collect();

        let request = forwarded(&request("/", &lines), &bench, &permit, &arrival);

        let case = format!("{peer_is_trusted} {is_https} {stated:?}");
        assert_eq!(value_of(&request, "x-forwarded-proto"), Some(expected), "{case}");
    }
}

#[test]
fn the_backend_gets_the_host_that_the_client_asked_for() {
    let bench = Bench::behind("10.0.0.1, { from: 10.0.0.2, believe: [X-Forwarded-Host] }");
    let (nobody, plain, believed) = (None, Some(0), Some(1));
    for (proxy, stated, expected) in [
        (nobody, &[][..], "a.test:8080"),
        (nobody, &["b.test"], "a.test:8080"),
        (plain, &["b.test"], "a.test:8080"),
        (believed, &[], "a.test:8080"),
        (believed, &["b.test"], "b.test"),
        (believed, &["B-1_x.test:443"], "B-1_x.test:443"),
        (believed, &["[::1]:443"], "[::1]:443"),
        (believed, &[""], "a.test:8080"),
        (believed, &["b.test, c.test"], "a.test:8080"),
        (believed, &["b.test", "c.test"], "a.test:8080"),
        (believed, &["b.test/x"], "a.test:8080"),
        (believed, &["u@b.test"], "a.test:8080"),
    ] {
        let (permit, mut arrival) = (bench.permit_on("/"), bench.arrival());
        arrival.client.proxy = proxy;
        let mut lines = vec![("host", "a.test:8080")];
        lines.extend(stated.iter().map(|stated| ("x-forwarded-host", *stated)));

        let request = forwarded(&request("/", &lines), &bench, &permit, &arrival);

        assert_eq!(value_of(&request, "x-forwarded-host"), Some(expected), "{proxy:?} {stated:?}");
        let port = expected.rsplit(':').next().filter(|port| !port.contains("test")).unwrap_or("80");
        assert_eq!(value_of(&request, "x-forwarded-port"), Some(port), "{proxy:?} {stated:?}");
    }
}

#[test]
fn the_authority_of_http_2_is_the_requested_host() {
    let mut received = request("/", &[]);
    received.set_uri("https://a.test:8443/".parse().unwrap());

    assert_eq!(authority(&received), "a.test:8443");
    assert_eq!(authority(&request("/", &[("host", "b.test")])), "b.test");
    assert_eq!(authority(&request("/", &[])), "");
}

#[test]
fn a_trace_begins_with_the_request_unless_who_began_one_is_believed() {
    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trusted = "10.0.0.1, { from: 10.0.0.2, believe: [traceparent] }";
    let passing = Bench::with(trusted, "identity_headers: { pass: [traceparent] }");
    let bench = Bench::behind(trusted);
    for (bench, proxy, given, continues) in [
        (&bench, None, &[GIVEN][..], false),
        (&bench, Some(0), &[GIVEN], false),
        (&bench, Some(1), &[GIVEN], true),
        (&bench, Some(1), &[], false),
        (&bench, Some(1), &[GIVEN, GIVEN], false),
        (&bench, Some(1), &["00-x-y-01"], false),
        (&passing, None, &[GIVEN], true),
        (&passing, None, &["00-x-y-01"], false),
    ] {
        let (permit, mut arrival) = (bench.permit_on("/"), bench.arrival());
        arrival.client.proxy = proxy;
        let mut lines = vec![("tracestate", "a=1")];
        lines.extend(given.iter().map(|given| ("traceparent", *given)));

        let request = forwarded(&request("/", &lines), bench, &permit, &arrival);

        let begun = arrival.request_id.traceparent();
        let expected = if continues { Some(GIVEN) } else { begun.as_deref() };
        assert_eq!(value_of(&request, "traceparent"), expected, "{proxy:?} {given:?}");
        let state = continues.then_some("a=1");
        assert_eq!(value_of(&request, "tracestate"), state, "{proxy:?} {given:?}");
    }
}

#[test]
fn a_traceparent_has_the_form_of_the_standard() {
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    for (text, is_valid) in [
        (format!("00-{trace}-{parent}-01"), true),
        (format!("01-{trace}-{parent}-01-more"), true),
        (format!("00-{trace}-{parent}-01-more"), false),
        (format!("ff-{trace}-{parent}-01"), false),
        (format!("00-{trace}-{parent}"), false),
        (format!("00-{}-{parent}-01", "0".repeat(32)), false),
        (format!("00-{trace}-{}-01", "0".repeat(16)), false),
        (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
        (format!("00-{trace}a-{parent}-01"), false),
        (String::new(), false),
    ] {
        assert_eq!(is_traceparent(text.as_bytes()), is_valid, "{text}");
    }
}

#[test]
fn a_token_is_forwarded_only_if_the_route_says_so() {
    let bench = Bench::new();
    let of_a_user = [("authorization", "Basic dTpw")];
    let of_ours = [("authorization", "Bearer eyJ.x.y")];
    for (path, lines, was_read_there, expected) in [
        ("/", of_a_user, true, None),
        ("/", of_a_user, false, Some("Basic dTpw")),
        ("/", of_ours, false, None),
        ("/own", of_ours, true, Some("Bearer eyJ.x.y")),
    ] {
        let (mut permit, arrival) = (bench.permit_on(path), bench.arrival());
        permit.credential.is_in_authorization = was_read_there;

        let request = forwarded(&request(path, &lines), &bench, &permit, &arrival);

        assert_eq!(value_of(&request, "authorization"), expected, "{path} {lines:?} {was_read_there}");
    }
}

#[test]
fn a_token_in_the_query_is_removed_and_the_rest_stays_as_it_was() {
    let bench = Bench::new();
    for (path, target, expected) in [
        ("/ws", "/ws", "/ws"),
        ("/ws", "/ws?token=x", "/ws"),
        ("/ws", "/ws?a=%61&token=x&b", "/ws?a=%61&b"),
        ("/ws", "/ws?%74oken=x&b=1", "/ws?b=1"),
        ("/ws", "/ws?a=1&tokens=x", "/ws?a=1&tokens=x"),
        ("/own", "/own?a=1&token=x", "/own?a=1&token=x"),
    ] {
        let (permit, arrival) = (bench.permit_on(path), bench.arrival());

        let request = forwarded(&request(target, &[]), &bench, &permit, &arrival);

        assert_eq!(request.uri.to_string(), expected, "{target}");
    }
}

#[test]
fn cookies_of_the_gateway_are_never_forwarded() {
    let bench = Bench::new();
    for path in ["/", "/own", "/public", "/grpc"] {
        let (permit, arrival) = (bench.permit_on(path), bench.arrival());
        let lines = [("cookie", "a=1; __Host-menshen=x; b=2")];

        let request = forwarded(&request(path, &lines), &bench, &permit, &arrival);

        assert_eq!(value_of(&request, "cookie"), Some("a=1; b=2"), "{path}");
    }
}

#[test]
fn split_cookies_are_joined_for_a_backend_without_http_2() {
    let bench = Bench::new();
    for (path, version, expected) in [
        ("/", Version::HTTP_2, &["a=1; b=2"][..]),
        ("/", Version::HTTP_11, &["a=1", "b=2"]),
        ("/grpc", Version::HTTP_2, &["a=1", "b=2"]),
    ] {
        let mut received = request(path, &[("cookie", "a=1"), ("cookie", "b=2")]);
        received.set_version(version);

        let request = forwarded(&received, &bench, &bench.permit_on(path), &bench.arrival());

        let cookies: Vec<&HeaderValue> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, expected, "{path} {version:?}");
    }
}

#[test]
fn a_backend_with_http_2_gets_te_trailers_and_no_other_te() {
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

        let (permit, arrival) = (bench.permit_on(path), bench.arrival());

        edit_request(&received, &mut request, &permit, &arrival, &bench.current).unwrap();

        assert_eq!(value_of(&request, "te"), expected, "{path} {te:?}");
    }
}

/// Pingora reads no trailers of a request.
#[test]
fn trailers_that_do_not_pass_are_not_announced() {
    let bench = Bench::new();
    let received = request("/grpc", &[("trailer", "x-checksum"), ("te", "trailers")]);

    let request = forwarded(&received, &bench, &bench.permit_on("/grpc"), &bench.arrival());

    assert_eq!((value_of(&request, "trailer"), value_of(&request, "te")), (None, Some("trailers")));
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
