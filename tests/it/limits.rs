//! Limits on requests: which requests count together, what clients get, and lock-outs for errors.

use std::time::Duration;

use crate::common::{APPID, Backend, Connection, NO_THROTTLE, Reply, Response, Tally, World, eventually};
use crate::proxying::logged;
use crate::websocket;

const ROUTES: &str = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - name: address
    path: /address
    access: public
    upstream: backend
    rate_limits: [{ by: address, rate: 1/s, burst: 3 }]
  - name: subject
    path: /subject
    access: authenticated
    upstream: backend
    rate_limits: [{ by: subject, rate: 1/min, burst: 3 }]
  - name: app
    path: /app
    access: authenticated
    upstream: backend
    rate_limits: [{ by: app, rate: 1/s, burst: 3 }]
  - name: optional
    path: /optional
    access: optional
    upstream: backend
    rate_limits: [{ by: subject, rate: 1/s, burst: 3 }]
  - name: shaped
    path: /shaped
    access: authenticated
    upstream: backend
    reject: code_200
    rate_limits: [{ by: address, rate: 1/s, burst: 5 }, { by: subject, rate: 1/s, burst: 3 }]
  - name: socket
    path: /socket
    access: public
    upstream: backend
    websocket: true
    rate_limits: [{ by: address, rate: 1/s, burst: 1 }]
";

fn world() -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}"))
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    let named: Vec<_> = response.headers.iter().filter(|(known, _)| known == name).collect();
    assert!(named.len() <= 1, "{named:?}");
    response.header(name)
}

#[track_caller]
fn assert_limited(response: &Response, policy: &str, state: &str, retry_after: &str) {
    assert_eq!(response.status, 429, "{}", response.text());
    assert_eq!(header(response, "retry-after"), Some(retry_after));
    assert_eq!(header(response, "ratelimit-policy"), Some(policy));
    assert_eq!(header(response, "ratelimit"), Some(state));
    assert_eq!(header(response, "cache-control"), Some("no-store"));
    assert_eq!(header(response, "content-type"), Some("application/problem+json"));
    let body = response.json();
    assert_eq!((&body["status"], &body["code"]), (&429.into(), &"rate_limited".into()));
}

/// How many of some requests pass.
fn passed(tries: usize, mut send: impl FnMut(usize) -> Response) -> usize {
    let passes = |status| match status {
        200 => true,
        429 => false,
        status => panic!("{status}"),
    };
    (0..tries).filter(|number| passes(send(*number).status)).count()
}

#[test]
fn an_address_has_its_burst_and_then_its_rate_and_every_answer_says_so() {
    let world = world();
    let policy = r#""address";q=3;w=3"#;

    for state in [r#""address";r=2;t=1"#, r#""address";r=1;t=2"#, r#""address";r=0;t=3"#] {
        let response = world.get("/address/x", "");
        assert_eq!(response.status, 200);
        assert_eq!(header(&response, "ratelimit-policy"), Some(policy));
        assert_eq!(header(&response, "ratelimit"), Some(state));
        assert_eq!(header(&response, "retry-after"), None);
    }
    assert_limited(&world.get("/address/x", ""), policy, r#""address";r=0;t=1"#, "1");

    assert_eq!(world.backend.count(), 3);
    assert_eq!(world.metric(r#"menshen_throttled_total{limit="request"}"#), 1.0);
    assert_eq!(world.metric(r#"menshen_refused_requests_total{reason="rate_limited"}"#), 1.0);
    eventually("all four are logged", || {
        let log = std::fs::read_to_string(world.data.path().join("access.log")).unwrap();
        let refused =
            log.lines().filter(|line| line.contains(r#""decision":"refused","reason":"rate_limited""#));
        log.lines().count() == 4 && refused.count() == 1
    });
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(passed(3, |_| world.get("/address/x", "")), 1);
    }
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(passed(9, |_| world.get("/address/x", "")), 3);
}

#[test]
fn other_routes_are_neither_limited_nor_slowed() {
    let world = world();
    let bearer = world.bearer("alice");
    assert_eq!(passed(9, |_| world.get("/address", "")), 3);

    let response = world.get("/other", &bearer);

    assert_eq!(response.status, 200);
    assert_eq!((header(&response, "ratelimit"), header(&response, "ratelimit-policy")), (None, None));
    assert_eq!(passed(9, |_| world.get("/subject", &bearer)), 3);
    assert_eq!(passed(9, |_| world.get("/app", &bearer)), 3);
}

#[test]
fn a_user_has_one_bucket_for_all_sessions_and_addresses() {
    let world = World::with(&format!("trusted_proxies: [127.0.0.1]\n{ROUTES}{NO_THROTTLE}"));
    let (phone, desk, bob) = (world.bearer("alice"), world.bearer("alice"), world.bearer("bob"));
    let from = |number: usize| format!("X-Forwarded-For: 203.0.113.{number}\r\n");

    assert_eq!(passed(2, |number| world.get("/subject", &format!("{phone}{}", from(number)))), 2);
    assert_eq!(passed(9, |number| world.get("/subject", &format!("{desk}{}", from(number)))), 1);
    let refused = world.get("/subject/refused", &phone);
    assert_limited(&refused, r#""subject";q=3;w=180"#, r#""subject";r=0;t=60"#, "60");
    let line = logged(&world, "/subject/refused");
    assert_eq!((&line["reason"], &line["app"]), (&"rate_limited".into(), &"shop".into()));
    assert!(line["user.hash"].is_string(), "it is known who was refused");

    assert_eq!(passed(9, |_| world.get("/subject", &bob)), 3);
    for _ in 0..9 {
        assert_eq!(world.get("/subject", "").status, 401, "who is nobody spends nothing of anybody");
    }
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(passed(9, |_| world.get("/subject", &desk)), 1);
}

#[test]
fn the_people_of_an_app_share_a_bucket_and_those_of_another_have_their_own() {
    let world = World::with(&format!(
        "
apps:
  one: {{ kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }}
  two: {{ kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }}
{ROUTES}{NO_THROTTLE}"
    ));
    let bearer = |app: &str, appid: &str, person: &str| {
        let code = world.emulator.wx_login(appid, person).unwrap();
        let response = world.login_with(&format!(r#"{{"code":"{code}","app":"{app}"}}"#));
        format!("Authorization: Bearer {}\r\n", response.json()["access_token"].as_str().unwrap())
    };
    let people = [bearer("one", APPID, "alice"), bearer("one", APPID, "bob"), bearer("one", APPID, "carol")];
    let other = bearer("two", "wxe000000000000002", "alice");

    assert_eq!(passed(9, |number| world.get("/app", &people[number % 3])), 3);
    assert_limited(&world.get("/app", &people[0]), r#""app";q=3;w=3"#, r#""app";r=0;t=1"#, "1");
    assert_eq!(passed(9, |_| world.get("/app", &other)), 3);
}

#[test]
fn where_a_token_is_optional_strangers_count_by_address_and_people_by_name() {
    let world = World::with(&format!("trusted_proxies: [127.0.0.1]\n{ROUTES}{NO_THROTTLE}"));
    let alice = world.bearer("alice");
    let stranger = |address: &str| world.get("/optional", &format!("X-Forwarded-For: {address}\r\n"));

    assert_eq!(passed(9, |_| stranger("203.0.113.1")), 3);
    assert_eq!(passed(9, |_| stranger("203.0.113.2")), 3);
    assert_limited(&stranger("203.0.113.1"), r#""subject";q=3;w=3"#, r#""subject";r=0;t=1"#, "1");
    let signed_in = format!("X-Forwarded-For: 203.0.113.1\r\n{alice}");
    assert_eq!(passed(9, |_| world.get("/optional", &signed_in)), 3);
    assert_eq!(stranger("203.0.113.3").status, 200);
}

#[test]
fn forged_tokens_are_not_judged_beyond_the_limit_of_their_address() {
    let world = world();
    let judged = |world: &World| {
        let metrics = world.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with("menshen_token_verifications_total"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };

    for number in 0..20 {
        world.get("/shaped", &format!("Authorization: Bearer forged.{number}.token\r\n"));
    }

    assert_eq!(judged(&world), 5.0);
}

#[test]
fn a_refusal_has_the_shape_that_the_route_asks_for() {
    let world = world();
    let alice = world.bearer("alice");
    assert_eq!(passed(3, |_| world.get("/shaped", &alice)), 3);

    let response = world.get("/shaped", &alice);

    assert_eq!(response.status, 200);
    assert_eq!(
        (&response.json()["code"], &response.json()["message"]),
        (&429.into(), &"rate_limited".into())
    );
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert_eq!(header(&response, "ratelimit-policy"), Some(r#""address";q=5;w=5, "subject";q=3;w=3"#));
    assert_eq!(header(&response, "ratelimit"), Some(r#""subject";r=0;t=1"#));
    assert_eq!(world.backend.count(), 3);
}

#[test]
fn of_a_thousand_requests_at_once_no_more_than_the_burst_pass() {
    let world = World::with(&format!(
        "
routes:
  - {{ path: /, access: public, upstream: backend, rate_limits: [{{ by: address, rate: 1/h, burst: 10 }}] }}
{NO_THROTTLE}"
    ));
    let mut connections: Vec<Connection> = (0..200).map(|_| world.connect()).collect();
    let mut tally = Tally::default();
    for _ in 0..5 {
        for connection in &mut connections {
            connection.write(b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        }
        for connection in &mut connections {
            tally.add(connection.read_response(false).status, 0);
        }
    }

    tally.reached = world.backend.count();
    tally.report("limits: requests at once");
    assert_eq!((tally.answered(200), tally.answered(429)), (10, 990));
    assert_eq!(tally.reached, 10);
}

#[test]
fn no_address_that_a_client_claims_and_no_spelling_of_a_path_is_a_bucket_of_its_own() {
    let world = world();
    assert_eq!(world.get("/address/x", "").status, 200);
    assert_eq!(world.get("/address", "").status, 200);
    assert_eq!(world.get("/address/", "").status, 200);
    let mut tally = Tally::default();

    for headers in [
        "X-Forwarded-For: 203.0.113.9\r\n",
        "X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n",
        "Forwarded: for=203.0.113.9\r\n",
        "X-Real-IP: 203.0.113.9\r\n",
        "CF-Connecting-IP: 203.0.113.9\r\n",
        "RateLimit: \"address\";r=9;t=9\r\n",
    ] {
        let status = world.get("/address/x", headers).status;
        assert_eq!(status, 429, "{headers}");
        tally.add(status, 0);
    }
    for target in [
        "/address",
        "/address/",
        "/address/y?z",
        "/address?x",
        "/addres%73/x",
        "/%61ddress",
        "/address/../address",
        "//address",
        "/address//x",
        "/address;x",
        "/address%2fx",
        "http://gateway.test/address",
    ] {
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS"] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n");
            let status = world.send(&request).status;
            assert!(matches!(status, 400 | 401 | 404 | 429), "{method} {target}: {status}");
            tally.add(status, 0);
        }
    }
    for target in ["/address/x?y", "/addres%73/x"] {
        assert_eq!(world.get(target, "").status, 429, "{target}");
    }
    tally.report("limits: claimed addresses and spellings");
    assert_eq!(world.backend.count(), 3);
}

#[test]
fn a_backend_with_limits_of_its_own_speaks_for_itself() {
    let backend = Backend::with(|request| match request.target() {
        "/address/own" => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nRateLimit: \"mine\";r=1;t=1\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        _ => Reply::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
    });
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));

    let own = world.get("/address/own", "");
    let none = world.get("/address/none", "");

    assert_eq!(header(&own, "ratelimit"), Some(r#""mine";r=1;t=1"#));
    assert_eq!(header(&own, "ratelimit-policy"), None);
    assert_eq!(header(&none, "ratelimit"), Some(r#""address";r=1;t=2"#), "whatever the status");
}

#[test]
fn opening_a_tunnel_is_one_request() {
    let world = World::with_backend(websocket::switching(websocket::echo), &format!("{ROUTES}{NO_THROTTLE}"));

    let mut client = websocket::open(&world, "/socket", "");
    for _ in 0..20 {
        client.write(b"hello");
        assert_eq!(client.read_exact(5), b"hello");
    }

    assert_eq!(world.get("/socket", "").status, 429);
}

#[test]
fn a_refused_upload_leaves_nothing_that_is_read_as_a_request() {
    let world = world();
    assert_eq!(passed(3, |_| world.get("/address", "")), 3);
    let mut connection = world.connect();

    connection.write(b"POST /address HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 60\r\n\r\n");
    assert_eq!(connection.read_response(false).status, 429);
    let request = "GET /optional HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    let body = format!("{request}{}", "x".repeat(60 - request.len()));
    connection.write(format!("{body}{}", request.replace("/optional", "/optional/next")).as_bytes());

    assert_eq!(connection.read_response(false).status, 200);
    assert_eq!(world.backend.count(), 4, "the body was read as a request");
    assert_eq!(world.backend.last().target(), "/optional/next");
}

#[test]
fn a_reload_keeps_the_counts_of_limits_that_stay_as_they_are() {
    let world = world();
    let alice = world.bearer("alice");
    assert_eq!(passed(9, |_| world.get("/address", "")), 3);
    assert_eq!(passed(9, |_| world.get("/subject", &alice)), 3);
    let file = world.data.path().join("menshen.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let reload = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        world.gateway().reload()
    };

    reload("rate: 1/min, burst: 3", "rate: 1/min, burst: 4").unwrap();
    assert_eq!(world.get("/address", "").status, 429);
    assert_eq!(passed(9, |_| world.get("/subject", &alice)), 4, "another limit, which counts anew");
    let refused = reload("by: address, rate: 1/s, burst: 3", "by: app, rate: 1/s, burst: 3").unwrap_err();
    assert!(refused.to_string().contains("routes[1].rate_limits[0].by"), "{refused}");
    assert_eq!(world.get("/address", "").status, 429);
    reload("rate_limits: [{ by: address, rate: 1/s, burst: 3 }]", "").unwrap();
    assert_eq!(passed(9, |_| world.get("/address", "")), 9);
}

/// Two errors allowed, then 10 s, 20 s …
const CLIENT_ERRORS: &str = "
trusted_proxies: [127.0.0.1]
routes:
  - { name: public, path: /, access: public, upstream: backend }
  - { name: me, path: /me, access: authenticated, upstream: backend }
  - { name: shaped, path: /shaped, access: authenticated, upstream: backend, reject: code_200 }
  - { name: limited, path: /limited, access: public, upstream: backend, rate_limits: [{ by: address, rate: 1/h, burst: 1 }] }
throttle:
  login: { rate: 1000000/s, burst: 1000000 }
  client_errors: { allowed: 2, lockout: 10s, max_lockout: 1m, forget_after: 10m }
";

fn guessed() -> World {
    let backend = Backend::with(|request| match request.target() {
        "/found" => Reply::ok(b"here"),
        "/broken" => Reply::Bytes(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => Reply::Bytes(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
    });
    World::with_backend(backend, CLIENT_ERRORS)
}

/// `GET` over one connection, so that each answer is counted before the next request is read.
fn all(world: &World, from: &str, targets: &[&str]) -> Vec<u16> {
    let mut connection = world.connect();
    let request =
        |target| format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\nX-Forwarded-For: {from}\r\n\r\n");
    targets.iter().map(|target| connection.send(request(target).as_bytes()).status).collect()
}

#[test]
fn client_with_many_errors_is_locked_out_of_every_route_for_a_while() {
    let world = guessed();

    let statuses = all(&world, "203.0.113.1", &["/a", "/me", "/b", "/c", "/found", "/me", "/limited"]);

    assert_eq!(statuses, [404, 401, 404, 429, 429, 429, 429]);
    assert_eq!(world.backend.count(), 2);
    let from = "X-Forwarded-For: 203.0.113.1\r\n";
    let refused = world.get("/found", from);
    assert_eq!(header(&refused, "retry-after"), Some("10"));
    assert_eq!(refused.json()["code"], "too_many_errors");
    assert_eq!(header(&refused, "ratelimit"), None);
    let login =
        world.post_login(&format!(r#"{{"code":"{}"}}"#, world.code("alice")), "application/json", from);
    assert_eq!((login.status, &login.json()["code"]), (429, &"too_many_errors".into()));
    assert_eq!(all(&world, "203.0.113.1", &["/x/../y"]), [429], "whatever is wrong with a request besides");
    assert_eq!(all(&world, "::ffff:203.0.113.1", &["/found"]), [429]);
    assert_eq!(world.metric(r#"menshen_throttled_total{limit="client_error"}"#), 8.0);
    assert_eq!(world.metric(r#"menshen_refused_requests_total{reason="too_many_errors"}"#), 8.0);

    assert_eq!(
        all(&world, "203.0.113.2", &["/found", "/me", "/found"]),
        [200, 401, 200],
        "others are served"
    );
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(all(&world, "203.0.113.1", &["/a", "/found"]), [404, 429]);
    assert_eq!(header(&world.get("/", from), "retry-after"), Some("20"), "twice as long");
}

#[test]
fn answers_that_are_not_the_clients_fault_lock_no_client_out() {
    let world = guessed();

    assert_eq!(
        all(&world, "203.0.113.1", &["/a", "/found", "/b", "/found", "/c", "/found"]),
        [404, 200, 404, 200, 404, 200]
    );
    assert_eq!(all(&world, "203.0.113.1", &["/broken"; 9]), [500; 9]);
    let limited = all(&world, "203.0.113.1", &["/limited"; 9]);
    assert_eq!((limited[0], &limited[1..]), (404, &[429; 8][..]));
    assert_eq!(all(&world, "203.0.113.1", &["/found"]), [200]);
}

#[test]
fn refusals_count_before_they_find_a_route_and_in_every_shape() {
    for (guess, route) in [("/x/../y", ""), ("/shaped", "shaped"), ("/auth/nothing", "")] {
        let world = guessed();
        let series = format!("menshen_http_request_duration_seconds_count{{route=\"{route}\"}}");
        for number in 1..=3 {
            // Each over a connection of its own, because a malformed request may close it.
            let status = all(&world, "203.0.113.1", &[guess])[0];
            assert!(matches!(status, 200 | 400 | 404), "{guess}: {status}");
            eventually("it was counted", || world.metric(&series) == f64::from(number));
        }
        assert_eq!(all(&world, "203.0.113.1", &["/found"]), [429], "{guess}");
        assert_eq!(all(&world, "203.0.113.2", &["/found"]), [200]);
    }
}

#[test]
fn no_client_is_locked_out_for_errors_unless_configured() {
    let world = world();
    let mut connection = world.connect();

    for _ in 0..50 {
        assert_eq!(connection.send(b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n").status, 401);
    }
}
