//! The probes of load balancers at `listeners[].health`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::common::{Backend, Connection, NO_THROTTLE, PATIENCE, ROUTES, Reply, World, eventually};
use crate::proxying::http2::Client;
use crate::proxying::logged;

fn world(listeners: &str) -> World {
    World::with(&format!("{ROUTES}{NO_THROTTLE}listeners:\n{listeners}"))
}

const ONE: &str = "  - { address: '127.0.0.1:0', health: /healthz, h2c: true }\n";

/// Everything that the gateway sends until it closes.
fn everything(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    received
}

#[test]
fn a_probe_is_answered_by_every_version_of_http_with_any_host_or_none() {
    let world = world(ONE);
    for (request, has_body) in [
        // LVS and others, HAProxy's `option httpchk`, and the balancers of clouds.
        ("GET /healthz HTTP/1.0\r\n\r\n", true),
        ("HEAD /healthz HTTP/1.0\r\n\r\n", false),
        ("OPTIONS /healthz HTTP/1.0\r\n\r\n", true),
        ("GET /healthz HTTP/1.0\r\nHost: 10.0.0.1:8080\r\n\r\n", true),
        ("HEAD /healthz HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", false),
        ("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", true),
        ("GET /healthz?x=1 HTTP/1.1\r\nHost: any_thing!\r\nConnection: close\r\n\r\n", true),
    ] {
        let answer = everything(&world, request);

        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{request:?}: {answer}");
        assert_eq!(answer.ends_with("\r\n\r\nok\n"), has_body, "{request:?}: {answer}");
    }
    let line = logged(&world, "/healthz");
    assert_eq!((&line["decision"], &line["reason"]), (&"answered".into(), &"health".into()));
    assert!(!world.metrics().contains("menshen_refused_requests_total{"), "a probe counts as refused");
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_connection_of_a_prober_is_kept_and_serves_requests_too() {
    let world = world(ONE);
    let mut client = world.connect();
    for _ in 0..3 {
        assert_eq!(client.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok\n");
        assert_eq!(client.send(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n").status, 200);
    }
    assert_eq!(world.backend.count(), 3);
}

#[test]
fn only_the_path_of_the_listener_itself_is_a_probe() {
    let world = world(&format!(
        "{ONE}  - {{ address: '127.0.0.1:0', health: /alive }}\n  - {{ address: '127.0.0.1:0' }}\n"
    ));
    let status = |listener: usize, request: &str| {
        let mut client = Connection::open(world.gateway().addresses()[listener]);
        client.send(request.as_bytes()).status
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n\r\n");
    for (listener, path, expected) in [
        (0, "/healthz", 200),
        (0, "/alive", 400),
        (1, "/alive", 200),
        (1, "/healthz", 400),
        (2, "/healthz", 400),
        (0, "/healthz/", 400),
        (0, "/healthz/x", 400),
        (0, "/HEALTHZ", 400),
        (0, "/%68ealthz", 400),
        (0, "//healthz", 400),
        (0, "/x/../healthz", 400),
        (0, "http://a.test/healthz", 400),
    ] {
        assert_eq!(status(listener, &get(path)), expected, "{listener} {path}");
    }
    for (method, expected) in [("POST", 401), ("PUT", 401), ("DELETE", 401), ("TRACE", 405)] {
        let request =
            format!("{method} /healthz HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status(0, &request), expected, "{method}");
    }
    // A request that is malformed is no probe.
    assert_eq!(status(0, "GET /healthz HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"), 400);
}

#[test]
fn a_probe_over_http2_is_answered() {
    let world = world(ONE);
    let answer = Client::connect(world.address()).get("/healthz", &[]);
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok\n"[..]));
}

#[test]
fn a_balancer_with_the_proxy_protocol_probes_with_its_header_or_as_local() {
    let world = world("  - { address: '127.0.0.1:0', health: /healthz, proxy_protocol: [127.0.0.1] }\n");
    for header in ["PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", "PROXY UNKNOWN\r\n"] {
        let answer = everything(&world, &format!("{header}GET /healthz HTTP/1.0\r\n\r\n"));
        assert!(answer.ends_with("\r\n\r\nok\n"), "{header:?}: {answer}");
    }
}

#[test]
fn a_gateway_that_drains_answers_no_probe_with_200() {
    // A request under way keeps the gateway from ending.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let mut world = World::with_backend(
        Backend::with(move |_| {
            _ = released.lock().unwrap().recv_timeout(PATIENCE);
            Reply::ok(b"late")
        }),
        &format!("{ROUTES}{NO_THROTTLE}listeners:\n{ONE}"),
    );
    let probe = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut prober = world.connect();
    assert_eq!(prober.send(probe).status, 200);
    let mut busy = world.connect();
    busy.write(b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the request is under way", || world.backend.count() == 1);
    let address = world.address();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| world.stop());
        eventually("the gateway drains", || TcpStream::connect(address).is_err());
        assert!(prober.send_unless_gone(probe).is_none_or(|answer| answer.status == 503));
        release.send(()).unwrap();
        assert_eq!(busy.read_response(false).text(), "late");
        assert_eq!(stopping.join().unwrap(), 0);
    });
}
