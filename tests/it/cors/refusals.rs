//! A page of a listed origin can read why its request was refused, whatever refused it.

use std::time::Duration;

use super::{APP, EVIL, H5, fields, origin, preflight, vary};
use crate::balancing::refusing;
use crate::common::{Backend, Reply, Response, World, eventually};

/// Some routes list `H5`, others leave it to the gateway's policy, which lists `APP`.
const ROUTES: &str = "
trusted_proxies: [127.0.0.1]
cors: { origins: ['https://app.example.com'] }
upstreams:
  backend: { servers: ['{backend}'], read_timeout: 200ms }
  gone: { servers: ['{gone}'] }
lists:
  nobody: { members: [] }
routes:
  - { name: api, path: /api, access: authenticated, upstream: backend, cors: { origins: ['https://h5.example.com'] } }
  - { name: shaped, path: /shaped, access: authenticated, upstream: backend, reject: code_200, cors: { origins: ['https://h5.example.com'] } }
  - { name: strict, path: /strict, access: authenticated, require_user: true, upstream: backend, cors: { origins: ['https://h5.example.com'] } }
  - { name: slow, path: /slow, access: public, upstream: backend, cors: { origins: ['https://h5.example.com'] } }
  - { name: gone, path: /gone, access: public, upstream: gone, cors: { origins: ['https://h5.example.com'] } }
  - { name: read, path: /read, methods: [GET], access: public, upstream: backend, cors: { origins: ['https://h5.example.com'] } }
  - name: limited
    path: /limited
    access: public
    upstream: backend
    rate_limits: [{ by: address, rate: 1/h, burst: 1 }]
    cors: { origins: ['https://h5.example.com'] }
  - { name: bare, path: /bare, access: authenticated, upstream: backend }
throttle:
  login: { rate: 1000000/s, burst: 1000000 }
  client_errors: { allowed: 100000 }
";

fn world(changed: &[(&str, &str)]) -> World {
    let backend = Backend::with(|request| match request.target() {
        target if target.starts_with("/slow") => Reply::Take(Box::new(|_| {
            std::thread::park_timeout(Duration::from_secs(1));
        })),
        "/read/garbage" => Reply::Last(b"garbage".to_vec()),
        _ => Reply::ok(b"ok"),
    });
    let mut sections = ROUTES.replace("{gone}", &refusing().to_string());
    for (from, to) in changed {
        assert!(sections.contains(from), "{from}");
        sections = sections.replace(from, to);
    }
    World::with_backend(backend, &sections)
}

/// What is sent, the origin that may read the answer, and the status and word of the refusal.
fn table(bearer: &str) -> Vec<(String, &'static str, u16, &'static str)> {
    let get = |path: &str, lines: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}");
    let post = |path: &str, kind: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n")
    };
    vec![
        (get("/api/x", ""), H5, 401, "no_token"),
        (get("/api/x", "Authorization: Bearer eyJ.x.y\r\n"), H5, 401, "invalid_token"),
        (get("/shaped/x", ""), H5, 200, "no_token"),
        (get("/strict/x", bearer), H5, 403, "user_unbound"),
        (get("/limited/x", ""), H5, 429, "rate_limited"),
        (get("/gone/x", ""), H5, 502, "upstream_unreachable"),
        (get("/read/garbage", ""), H5, 502, "upstream_broke_off"),
        (get("/slow/x", ""), H5, 504, "upstream_timeout"),
        (get("/bare/x", ""), APP, 401, "no_token"),
        (get("/nothing", ""), APP, 404, "route_unknown"),
        (post("/read/x", "text/plain", 0), APP, 405, "method_not_allowed"),
        (get("/a/../b", ""), APP, 400, "path_refused"),
        (get("/api/x", "X_A: b\r\n"), APP, 400, "header_name_refused"),
        (get("/api/x", "no colon\r\n"), APP, 400, "header_line_malformed"),
        (get(&format!("/{}", "x".repeat(9000)), ""), APP, 414, "target_too_long"),
        (get("/api/x", &format!("X-A: {}\r\n", "x".repeat(40_000))), APP, 431, "header_too_large"),
        (get("/api/x", "Expect: more\r\n"), APP, 417, "expectation_failed"),
        (post("/auth/login", "application/json", 100_000), APP, 413, "body_too_large"),
        (post("/auth/login", "text/plain", 0), APP, 415, "media_type_unsupported"),
        (post("/auth/refresh", "application/json", 0), APP, 400, "request_malformed"),
        (get("/auth/refresh", ""), APP, 405, "method_not_allowed"),
        (get("/auth/session", ""), APP, 401, "no_token"),
        (get("/auth/nothing", ""), APP, 404, "endpoint_unknown"),
    ]
}

fn assert_readable(response: &Response, from: &str, case: &str) {
    let exposed =
        "expose-headers: Retry-After, X-Request-Id, WWW-Authenticate, RateLimit, RateLimit-Policy".to_owned();
    assert_eq!(fields(response), [format!("allow-origin: {from}"), exposed], "{case}");
}

#[test]
fn every_refusal_can_be_read_by_listed_pages_alone() {
    let world = world(&[]);
    let bearer = world.bearer("alice");
    assert_eq!(world.get("/limited/x", "").status, 200);
    for (request, readable_by, status, code) in table(&bearer) {
        for from in [H5, APP, EVIL, "null", ""] {
            let line = if from.is_empty() { String::new() } else { origin(from) };
            let case = format!("{code} from `{from}`: {}", request.lines().next().unwrap());

            let response = world.send(&format!("{request}{line}\r\n"));

            assert_eq!(response.status, status, "{case}: {}", response.text());
            let document = response.json();
            let word = if status == 200 { &document["message"] } else { &document["code"] };
            assert_eq!(word, code, "{case}");
            assert!(vary(&response).contains(&"Origin".to_owned()), "{case}: {:?}", response.headers);
            if from == readable_by {
                assert_readable(&response, from, &case);
            } else {
                assert_eq!(fields(&response), Vec::<String>::new(), "{case}");
            }
        }
    }
}

/// A page sees the answer to its request only if the preflight before it succeeds.
#[test]
fn page_that_is_locked_out_or_limited_learns_how_long() {
    let world = world(&[("allowed: 100000", "allowed: 2, lockout: 10s, max_lockout: 10s, forget_after: 1m")]);
    let h5 = origin(H5);
    eventually("the client is locked out", || world.get("/api/x", "").status == 429);

    for (path, from) in [("/api/x", H5), ("/nothing", APP), ("/auth/session", APP)] {
        let lines = format!("{}Access-Control-Request-Method: GET\r\n", origin(from));
        let asked = preflight(&world, path, &lines);
        assert_eq!(asked.status, 204, "{path}");
        assert_eq!(asked.header("access-control-allow-origin"), Some(from), "{path}");
        let refused = world.get(path, &origin(from));
        assert_eq!((refused.status, &refused.json()["code"]), (429, &"too_many_errors".into()), "{path}");
        assert_readable(&refused, from, path);
        assert_eq!(refused.header("retry-after"), Some("10"), "{path}");
    }
    assert_eq!(fields(&world.get("/api/x", &origin(EVIL))), Vec::<String>::new());
    assert_eq!(fields(&world.get("/nothing", &h5)), Vec::<String>::new());
}

/// Otherwise a page of another site could lock out its visitors.
#[test]
fn refused_preflight_counts_against_no_client() {
    let world = world(&[("allowed: 100000", "allowed: 2, lockout: 10s, max_lockout: 10s, forget_after: 1m")]);
    for path in ["/api/x", "/nothing", "/auth/login"] {
        for _ in 0..10 {
            let lines = format!("{}Access-Control-Request-Method: PUT\r\n", origin(EVIL));
            assert_eq!(preflight(&world, path, &lines).status, 204, "{path}");
        }
    }
    assert_eq!(world.get("/read/x", "").status, 200);
    assert_eq!(world.metric(r#"menshen_refused_requests_total{reason="preflight_origin_refused"}"#), 30.0);
}

#[test]
fn request_beyond_the_limit_of_those_under_way_can_be_read_too() {
    let world = world(&[(
        "trusted_proxies: [127.0.0.1]\n",
        "limits: { max_requests: 1, max_requests_per_address: 1, max_request_wait: 10ms }\n",
    )]);
    let held = std::thread::scope(|scope| {
        let slow = scope.spawn(|| world.get("/slow/x", "").status);
        eventually("a request is under way", || world.backend.count() == 1);
        let response = world.get("/read/x", &origin(H5));
        assert_eq!(response.status, 503, "{}", response.text());
        assert_readable(&response, H5, "503");
        slow.join().unwrap()
    });
    assert_eq!(held, 504);
}
