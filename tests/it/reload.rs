//! Promises 6 and 7: a bad configuration never replaces a good one, and neither a reload nor a stop
//! loses a request.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{Backend, Connection, NO_THROTTLE, ROUTES, Reply, World, eventually};
use crate::process::{Process, run_to_end};

fn file(world: &World) -> PathBuf {
    world.data.path().join("menshen.yaml")
}

/// Rewrites the configuration file; the text must be there.
fn edit(world: &World, from: &str, to: &str) {
    let text = fs::read_to_string(file(world)).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(file(world), text.replace(from, to)).unwrap();
}

fn reload_metrics(world: &World) -> (f64, f64) {
    (
        world.metric("menshen_config_last_reload_successful"),
        world.metric("menshen_config_last_reload_success_timestamp_seconds"),
    )
}

/// A backend that answers when a test says so.
fn held_backend() -> (Backend, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let backend = Backend::with(move |request| {
        if request.target().starts_with("/pub/slow") {
            _ = released.lock().unwrap().recv_timeout(Duration::from_secs(15));
        }
        Reply::ok(b"answer")
    });
    (backend, release)
}

#[test]
fn a_good_configuration_takes_effect_for_the_next_request() {
    let world = World::new();
    let bearer = world.bearer("alice");
    assert_eq!(world.get("/x", "").status, 401);
    let (_, started) = reload_metrics(&world);
    world.clock.advance(Duration::from_secs(100));

    edit(
        &world,
        "name: protected, path: /, access: authenticated",
        "name: protected, path: /, access: public",
    );
    world.gateway().reload().unwrap();

    assert_eq!(world.get("/x", "").status, 200);
    assert_eq!(reload_metrics(&world), (1.0, started + 100.0));
    edit(
        &world,
        "access: public, upstream: backend }\n  - { name: public",
        "access: authenticated, upstream: backend }\n  - { name: public",
    );
    world.gateway().reload().unwrap();
    assert_eq!(world.get("/x", "").status, 401);
    assert_eq!(world.get("/x", &bearer).status, 200, "tokens of before are good still");
}

#[test]
fn a_connection_kept_alive_follows_a_reload() {
    let world = World::new();
    let mut connection = world.connect();
    let request = b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    assert_eq!(connection.send(request).status, 401);

    edit(
        &world,
        "name: protected, path: /, access: authenticated",
        "name: protected, path: /, access: public",
    );
    world.gateway().reload().unwrap();

    assert_eq!(connection.send(request).status, 200);
}

#[test]
fn a_bad_configuration_changes_nothing_and_every_problem_is_named() {
    let world = World::new();
    let (_, started) = reload_metrics(&world);
    let good = fs::read_to_string(file(&world)).unwrap();
    let bearer = world.bearer("alice");
    for (from, to, said) in [
        ("routes:", "routes: [", ""),
        ("routes:", "roots:", "did you mean `routes`"),
        ("access: optional", "access: sometimes", "routes[2].access"),
        (
            "path: /opt, access: optional, upstream: backend",
            "path: /opt, access: optional, upstream: nowhere",
            "routes[2].upstream",
        ),
        ("path: /opt", "path: opt", "routes[2].path"),
        ("path: /opt,", "path: /opt, apps: [nobody],", "routes[2].apps"),
        ("name: optional", "name: public", "routes[2].name"),
        ("appid: wxe000000000000001", "appid: 'wx 1'", "apps.shop.appid"),
        ("secret: emulator-secret-1", "secret: { file: /nonexistent/secret }", "apps.shop.secret"),
        ("hosts: ['http://", "hosts: ['http://example.com', 'http://", "wechat.hosts[0]"),
        ("rate: 1000000/s", "rate: fast", "throttle.login.rate"),
        ("burst: 1000000", "burst: 0", "throttle.login.burst"),
    ] {
        edit(&world, from, to);

        let report = world.gateway().reload().unwrap_err().to_string();

        println!("{report}");
        assert!(report.contains("menshen.yaml:"), "the file is named");
        assert!(
            report.lines().any(|line| {
                let place: Vec<&str> =
                    line.split("menshen.yaml:").nth(1).unwrap_or_default().split(':').collect();
                place.first().is_some_and(|number| number.parse::<usize>().is_ok())
            }),
            "the line is named"
        );
        assert!(report.contains(said), "{said}");
        assert_eq!(reload_metrics(&world), (0.0, started));
        assert_eq!(world.get("/x", "").status, 401);
        assert_eq!(world.get("/x", &bearer).status, 200);
        assert_eq!(world.get("/opt", "").status, 200);
        fs::write(file(&world), &good).unwrap();
    }
    fs::write(
        file(&world),
        good.replace("path: /opt", "path: opt").replace("appid: wxe000000000000001", "appid: 'wx 1'"),
    )
    .unwrap();
    let report = world.gateway().reload().unwrap_err().to_string();
    assert!(report.contains("routes[2].path") && report.contains("apps.shop.appid"), "all at once: {report}");

    for gone in ["", "# nothing\n"] {
        fs::write(file(&world), gone).unwrap();
        world.gateway().reload().unwrap_err();
    }
    fs::remove_file(file(&world)).unwrap();
    world.gateway().reload().unwrap_err();
    assert_eq!(world.get("/x", &bearer).status, 200);

    fs::write(file(&world), &good).unwrap();
    world.gateway().reload().unwrap();
    assert_eq!(reload_metrics(&world).0, 1.0);
}

#[test]
fn a_change_to_what_needs_a_restart_is_refused_and_said_so() {
    let world = World::new();
    let good = fs::read_to_string(file(&world)).unwrap();
    for (from, to, key) in [
        ("listeners:\n  - address: 127.0.0.1:0", "listeners:\n  - address: 127.0.0.1:1", "listeners"),
        (
            "listeners:\n  - address: 127.0.0.1:0",
            "listeners:\n  - address: 127.0.0.1:0\n    h2c: true",
            "listeners",
        ),
        ("admin: { address: 127.0.0.1:0 }", "admin: { address: 127.0.0.1:2 }", "admin"),
        ("/state'", "/other'", "data_dir"),
        ("routes:", "worker_threads: 3\nroutes:", "worker_threads"),
        ("routes:", "drain_timeout: 3s\nroutes:", "drain_timeout"),
        ("routes:", "limits: { max_connections: 3 }\nroutes:", "limits.max_connections"),
        ("target: file, file:", "buffer: 2MiB, target: file, file:", "telemetry"),
    ] {
        edit(&world, from, to);

        let report = world.gateway().reload().unwrap_err().to_string();

        assert!(report.contains(key) && report.contains("restart"), "{key}: {report}");
        assert_eq!(world.metric("menshen_config_last_reload_successful"), 0.0);
        assert_eq!(world.get("/pub", "").status, 200);
        fs::write(file(&world), &good).unwrap();
    }
}

#[test]
fn a_request_under_way_keeps_the_server_that_it_began_with() {
    let (backend, release) = held_backend();
    let upstreams =
        "upstreams:\n  backend: { servers: ['{backend}'] }\n  other: { servers: ['127.0.0.1:1'] }\n";
    let world = World::with_backend(backend, &format!("{upstreams}{ROUTES}{NO_THROTTLE}"));
    let mut slow = world.connect();
    slow.write(b"GET /pub/slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the backend is asked", || world.backend.count() == 1);

    edit(
        &world,
        "path: /pub, access: public, upstream: backend",
        "path: /pub, access: public, upstream: other",
    );
    for _ in 0..3 {
        world.gateway().reload().unwrap();
    }
    assert_eq!(world.get("/pub/x", "").status, 502);
    release.send(()).unwrap();

    let response = slow.read_response(false);
    assert_eq!((response.status, response.text().as_str()), (200, "answer"));
}

#[test]
fn a_login_under_way_is_answered_and_remembered_over_a_reload() {
    use menshen::emulator::{Effect, InjectedFault};

    let world = World::new();
    world.emulator.inject(InjectedFault::new(Effect::DelayBefore("500ms".parse().unwrap())).times(1));
    let body = format!(r#"{{"code":"{}"}}"#, world.code("alice"));
    let mut first = world.connect();
    first.write(
        format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    eventually("the exchange begins", || world.exchanges() == 1);

    world.gateway().reload().unwrap();
    let during = world.login_with(&body);
    world.gateway().reload().unwrap();
    let after = world.login_with(&body);

    let tokens = [first.read_response(false), during, after]
        .map(|response| response.json()["access_token"].to_string());
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(tokens[1], tokens[2]);
    assert_eq!(world.exchanges(), 1);
}

#[test]
fn a_reload_ends_no_lock_out() {
    let world = World::with(ROUTES);
    let status = || world.login_with(r#"{"code":"guess"}"#).status;
    while status() != 429 {}

    world.gateway().reload().unwrap();

    assert_eq!(status(), 429);
}

#[test]
fn reloads_under_load_lose_no_request() {
    let world = World::new();
    let bearer = world.bearer("alice");
    let is_over = std::sync::atomic::AtomicBool::new(false);

    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = world.connect();
                    let request = format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n");
                    let mut answered = 0;
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(connection.send(request.as_bytes()).status, 200);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for _ in 0..20 {
            world.gateway().reload().unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(clients.into_iter().all(|client| client.join().unwrap() > 0));
    });
}

#[test]
fn sighup_loads_the_configuration_again_and_a_bad_one_is_said_on_standard_error() {
    let world = World::new();
    let mut process = Process::like(&world);
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        process.connect().send(request.as_bytes()).status
    };
    let good = fs::read_to_string(process.config()).unwrap();
    assert_eq!(get("/x"), 401);

    fs::write(process.config(), good.replace("path: /, access: authenticated", "path: /, acces: public"))
        .unwrap();
    process.signal("HUP");
    eventually("the problem is named", || process.stderr().contains("did you mean `access`"));
    assert!(process.stderr().contains("menshen.yaml:"), "{}", process.stderr());
    assert_eq!(get("/x"), 401);

    fs::write(process.config(), good.replace("path: /, access: authenticated", "path: /, access: public"))
        .unwrap();
    process.signal("HUP");
    eventually("the good one is in force", || get("/x") == 200);
    assert!(process.is_running());
}

#[test]
fn sigterm_lets_a_request_under_way_finish_and_closes_idle_connections() {
    let (backend, release) = held_backend();
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    let mut idle = process.connect();
    assert_eq!(idle.send(b"GET /pub HTTP/1.1\r\nHost: gateway.test\r\n\r\n").status, 200);
    let mut untouched = process.connect();
    let mut slow = process.connect();
    slow.write(b"GET /pub/slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the backend is asked", || world.backend.count() == 2);

    process.signal("TERM");
    assert!(idle.is_closed());
    eventually("nobody new is taken in", || std::net::TcpStream::connect(process.address).is_err());
    assert!(process.is_running(), "a request is under way");
    release.send(()).unwrap();

    let response = slow.read_response(false);
    assert_eq!((response.status, response.text().as_str()), (200, "answer"));
    assert!(untouched.is_closed());
    assert_eq!(process.wait(), Some(0), "{}", process.stderr());
    let log = process.read("access.log");
    assert_eq!(log.lines().count(), 2, "the last line is written too: {log}");
}

#[test]
fn a_stop_waits_no_longer_than_it_may() {
    let (backend, _release) = held_backend();
    let world = World::with_backend(backend, &format!("drain_timeout: 300ms\n{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    let mut slow = process.connect();
    slow.write(b"GET /pub/slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the backend is asked", || world.backend.count() == 1);

    process.signal("TERM");

    assert_eq!(process.wait(), Some(0));
    assert!(process.stderr().contains("1 connections cut"), "{}", process.stderr());
}

#[test]
fn sigint_does_not_wait() {
    let (backend, _release) = held_backend();
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    let mut slow = process.connect();
    slow.write(b"GET /pub/slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the backend is asked", || world.backend.count() == 1);

    process.signal("INT");

    assert_eq!(process.wait(), Some(0));
}

#[test]
fn an_address_in_use_ends_the_start_with_one_plain_message() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let yaml = fs::read_to_string(file(&world)).unwrap();
    for (from, to) in [
        ("- address: 127.0.0.1:0".to_owned(), format!("- address: {address}")),
        ("admin: { address: 127.0.0.1:0 }".to_owned(), format!("admin: {{ address: {address} }}")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let yaml = yaml.replace(&from, &to);
        let yaml = yaml.replace(world.data.path().to_str().unwrap(), folder.path().to_str().unwrap());
        fs::File::create(folder.path().join("menshen.yaml")).unwrap().write_all(yaml.as_bytes()).unwrap();

        let (code, said) = run_to_end(folder.path());

        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_bad_configuration_ends_the_start_with_2_and_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("menshen.yaml"), "worker_threads: two\ndrain_timeout: 30\n").unwrap();

    let (code, said) = run_to_end(folder.path());

    assert_eq!(code, Some(2));
    assert!(said.contains("menshen.yaml:1:17: error: worker_threads: "), "{said}");
    assert!(said.contains("menshen.yaml:2:16: error: drain_timeout: "), "{said}");
}

#[test]
fn a_draining_gateway_is_alive_and_not_ready() {
    let (backend, release) = held_backend();
    let world = World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    let status = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        Connection::open(process.admin_address).send(request.as_bytes()).status
    };
    assert_eq!([status("/livez"), status("/readyz"), status("/metrics"), status("/x")], [200, 200, 200, 404]);
    let mut slow = process.connect();
    slow.write(b"GET /pub/slow HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    eventually("the backend is asked", || world.backend.count() == 1);

    process.signal("TERM");
    eventually("it says that it is stopping", || status("/readyz") == 503);
    assert_eq!([status("/livez"), status("/metrics")], [200, 200], "what happens meanwhile can be watched");
    release.send(()).unwrap();

    assert_eq!(slow.read_response(false).status, 200);
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn a_signing_key_that_is_gone_is_no_reason_to_end_every_token() {
    let world = World::new();
    let bearer = world.bearer("alice");
    let key = world.data.path().join("state/signing-key.pem");
    fs::remove_file(&key).unwrap();

    let report = world.gateway().reload().unwrap_err().to_string();

    assert!(report.contains("signing-key.pem` is missing"), "{report}");
    assert!(!key.exists(), "a new key was made");
    assert_eq!(world.get("/x", &bearer).status, 200);
}
