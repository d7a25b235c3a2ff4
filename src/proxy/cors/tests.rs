use super::*;
use crate::proxy::admit::admit;
use crate::proxy::tests::{Bench, receive};

const SECTIONS: &str = "  - { path: /api, access: authenticated, upstream: backend, paths: { allow: [empty_segment] }, cors: { origins: ['https://a.example'] } }
  - { name: split, path: /split, methods: [GET], access: public, upstream: backend, cors: { origins: ['https://a.example'] } }
  - { name: other, path: /split, methods: [PUT], access: authenticated, upstream: backend }
  - { path: /asked, access: authenticated, upstream: backend, cors: { origins: ['https://a.example'], preflight: backend } }
";
const GATEWAY: &str = "cors: { origins: ['https://b.example'] }\n";
const HOST: &str = "Host: a.test\r\n";

/// What becomes of a preflight, in one word.
async fn outcome(bench: &Bench, line: &str, lines: &str) -> String {
    let mut received = receive(line, &format!("{HOST}{lines}")).await;
    let admitted = admit(&mut received.session, &bench.current.admission).unwrap();
    match step(&mut received.session, &admitted, &bench.current) {
        PreflightStep::NotOurs => "not ours".into(),
        PreflightStep::Forward(method) => format!("forwarded as {method}"),
        PreflightStep::Answer(answer) => {
            assert_eq!(answer.response.status(), 204, "{line}");
            let route = answer.route.map_or_else(String::new, |route| format!(" on {}", route.name));
            format!("{}{route}", answer.reason.as_str())
        }
    }
}

fn preflight(origin: &str, method: &str) -> String {
    format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n")
}

#[tokio::test]
async fn preflight_is_answered_by_the_policy_of_the_route_that_the_request_will_take() {
    const A: &str = "https://a.example";
    const B: &str = "https://b.example";
    let bare = Bench::with("", SECTIONS);
    let both = Bench::with("", &format!("{SECTIONS}{GATEWAY}"));
    for (path, origin, method, of_routes_alone, of_both) in [
        ("/api/x", A, "PUT", "preflight on /api", None),
        ("/api/x", B, "PUT", "preflight_origin_refused on /api", None),
        ("/api/x", "null", "GET", "preflight_origin_refused on /api", None),
        ("/api/x", A, "BREW", "preflight_method_refused on /api", None),
        // Each method its own route.
        ("/split", A, "GET", "preflight on split", None),
        ("/split", A, "PUT", "not ours", None),
        // Where no route serves the method, as for a path without a route, the gateway answers.
        ("/split", B, "DELETE", "not ours", Some("preflight_method_refused")),
        ("/split", B, "POST", "not ours", Some("preflight")),
        // As before, where no policy is about the route.
        ("/public", B, "GET", "not ours", None),
        ("/", B, "GET", "not ours", None),
        // A path with several readings has the policy of the route that it has in all of them.
        ("/api/x//y", A, "PUT", "preflight on /api", None),
        ("/api/x;y", A, "PUT", "not ours", Some("preflight_origin_refused")),
        ("//api/x", B, "POST", "not ours", Some("preflight")),
        ("/auth//login", B, "POST", "not ours", Some("preflight")),
        // The gateway's own.
        ("/auth/login", B, "POST", "not ours", Some("preflight")),
        ("/auth/nothing", B, "POST", "not ours", Some("preflight")),
        ("/auth/login", A, "POST", "not ours", Some("preflight_origin_refused")),
        ("/.well-known/jwks.json", B, "GET", "not ours", Some("preflight")),
        // The backend answers, but to listed origins alone.
        ("/asked", A, "PUT", "forwarded as PUT", None),
        ("/asked", B, "PUT", "preflight_origin_refused on /asked", None),
    ] {
        let (line, lines) = (format!("OPTIONS {path}"), preflight(origin, method));
        assert_eq!(outcome(&bare, &line, &lines).await, of_routes_alone, "{path} {origin} {method}");
        let of_both = of_both.unwrap_or(of_routes_alone);
        assert_eq!(outcome(&both, &line, &lines).await, of_both, "{path} {origin} {method}");
    }
}

#[tokio::test]
async fn what_is_no_preflight_of_a_browser_is_never_forwarded_without_an_identity() {
    let bench = Bench::with("", SECTIONS);
    let good = preflight("https://a.example", "PUT");
    for (line, lines, expected) in [
        ("OPTIONS /asked", good.clone(), "forwarded as PUT"),
        ("PUT /asked", good.clone(), "not ours"),
        ("GET /asked", good.clone(), "not ours"),
        ("OPTIONS /asked", "Origin: https://a.example\r\n".to_owned(), "not ours"),
        ("OPTIONS /asked", "Access-Control-Request-Method: PUT\r\n".to_owned(), "not ours"),
        ("OPTIONS /asked", format!("{good}Content-Length: 5\r\n"), "not ours"),
        ("OPTIONS /asked", format!("{good}Transfer-Encoding: chunked\r\n"), "not ours"),
        (
            "OPTIONS /asked",
            format!("{good}Origin: https://a.example\r\n"),
            "preflight_origin_refused on /asked",
        ),
        ("OPTIONS *", good.clone(), "not ours"),
    ] {
        assert_eq!(outcome(&bench, line, &lines).await, expected, "{line} {lines}");
    }
}

#[test]
fn policy_replaces_what_the_backend_says() {
    let bench = Bench::with("", SECTIONS);
    let route = |path: &str| Arc::clone(&bench.routed_on(path).route);
    let says = [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Allow-Private-Network", "true"),
        ("Access-Control-Allow-Methods", "BREW"),
        ("Access-Control-Max-Age", "5"),
        ("X-Total", "1"),
    ];
    let ours = "access-control-allow-origin: https://a.example";
    let backends = ["access-control-allow-methods: BREW", "access-control-max-age: 5"];
    for (origin, is_preflight, expected) in [
        ("https://a.example", false, vec![ours, "x-total: 1"]),
        ("https://evil.example", false, vec!["x-total: 1"]),
        ("https://a.example", true, vec![backends[0], ours, backends[1], "x-total: 1"]),
    ] {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in says {
            response.append_header(name, value).unwrap();
        }
        let request = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        let route = route("/api");
        edit_response(&mut response, route.cors.as_ref().unwrap(), &request, is_preflight).unwrap();

        let shown =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<String> = response.headers.iter().map(shown).collect();
        lines.sort();
        assert_eq!(lines, expected, "{origin} {is_preflight}");
    }
}
