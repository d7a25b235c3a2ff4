//! Servers that are down, names that do not resolve, and what is said of them: in the log once, and
//! in the metrics.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::common::{Backend, NO_THROTTLE, ROUTES, Reply, World, eventually, leaks};
use crate::process;

fn world(servers: &str, options: &str) -> World {
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}upstreams: {{ backend: {{ servers: [{servers}]{options} }} }}\n"
    ))
}

/// The lines of the log at this level that contain this text.
fn lines_of(level: &str, text: &str) -> Vec<String> {
    let log = String::from_utf8(leaks::logged_since(0)).unwrap();
    log.lines().filter(|line| line.contains(level) && line.contains(text)).map(str::to_owned).collect()
}

fn up(world: &World, server: &str) -> Option<u8> {
    let name = format!(r#"menshen_upstream_server_up{{server="{server}",upstream="backend"}} "#);
    world.metrics().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

/// An address where no program listens until the test does; no other test uses a port of it.
fn reserve() -> SocketAddr {
    TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap()
}

#[test]
fn an_outage_is_one_warning_and_its_end_one_message() {
    let address = reserve();
    let server = address.to_string();
    let world = world(&format!("'{server}'"), "");
    assert_eq!(up(&world, &server), Some(1));

    for _ in 0..5 {
        assert_eq!(world.get("/pub/x", "").status, 502);
    }
    assert_eq!(up(&world, &server), Some(0));
    let warnings = lines_of(" WARN ", &server);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected = format!("server {server} of upstream `backend` is down: connection refused");
    assert!(warnings[0].contains(&expected), "{warnings:?}");

    let _backend = Backend::at(address, |_| Reply::ok(b"back"));
    for _ in 0..5 {
        assert_eq!(world.get("/pub/x", "").text(), "back");
    }
    assert_eq!(up(&world, &server), Some(1));
    let messages = lines_of(" INFO ", &format!("server {server} of upstream `backend`"));
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("is up again"), "{messages:?}");
    assert_eq!(lines_of(" WARN ", &server).len(), 1);
}

#[test]
fn a_server_that_is_back_is_noticed_without_a_request() {
    let address = reserve();
    let server = address.to_string();
    let world = world(&format!("'{server}'"), ", failed_for: 5s");
    assert_eq!(world.get("/pub/x", "").status, 502);
    let backend = Backend::at(address, |_| Reply::ok(b"back"));
    assert_eq!(up(&world, &server), Some(0));

    world.clock.advance(Duration::from_secs(5));

    eventually("the server is up", || up(&world, &server) == Some(1));
    assert_eq!(backend.count(), 0, "no request was needed");
    assert_eq!(lines_of(" INFO ", &format!("{server} of upstream `backend` is up again")).len(), 1);
}

#[test]
fn a_reload_says_nothing_again_of_a_server_that_is_down_and_forgets_one_that_is_gone() {
    let (address, gone) = (reserve().to_string(), reserve().to_string());
    let world = world(&format!("'{address}', '{gone}'"), "");
    assert_eq!(world.get("/pub/x", "").status, 502);
    assert_eq!((up(&world, &address), up(&world, &gone)), (Some(0), Some(0)));

    let file = world.data.path().join("menshen.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&format!(", '{gone}'"), "")).unwrap();
    world.gateway().reload().unwrap();

    assert_eq!((up(&world, &address), up(&world, &gone)), (Some(0), None));
    assert_eq!(world.get("/pub/x", "").status, 502);
    assert_eq!(lines_of(" WARN ", &address).len(), 1);
}

#[test]
fn a_name_that_does_not_resolve_delays_no_other_server_and_is_looked_up_again() {
    let name = "no-such-host-here.invalid:80";
    let backend = Backend::with(|_| Reply::ok(b"other"));
    let world = world(&format!("'{name}', '{}'", backend.address()), "");

    let warnings: Vec<String> = world.gateway().warnings().findings().map(ToString::to_string).collect();
    assert!(
        warnings.iter().any(|warning| warning.contains(&format!("`{name}` does not resolve"))),
        "{warnings:?}"
    );
    assert_eq!(world.get("/pub/x", "").text(), "other");
    assert_eq!((up(&world, name), up(&world, &backend.address().to_string())), (Some(0), Some(1)));
}

#[test]
fn serve_starts_with_a_name_that_does_not_resolve_and_ends_with_1_for_what_lies_in_the_surroundings() {
    let away = "/no/such/mount";
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let yaml = std::fs::read_to_string(world.data.path().join("menshen.yaml")).unwrap();
    let data = world.data.path().to_str().unwrap();
    let backend = world.backend.address().to_string();
    for (from, to, code, expected) in [
        (format!("'{backend}'"), "'http://127.0.0.1:1'".to_owned(), 2, "is a URL, not `host:port`"),
        (
            format!("servers: ['{backend}']"),
            format!("servers: ['{backend}'], tls: {{ server_name: a.test, ca_file: {away}/ca.pem }}"),
            1,
            "/no/such/mount/ca.pem` cannot be read",
        ),
        (
            "secret: emulator-secret-1".to_owned(),
            format!("secret: {{ file: {away}/s }}"),
            1,
            "cannot be read",
        ),
        (format!("file: '{data}/access.log'"), format!("file: {away}/access.log"), 1, "cannot be written"),
        (
            "  - address: 127.0.0.1:0\n".to_owned(),
            format!(
                "  - address: 127.0.0.1:0\n    tls: {{ certificates: [{{ certificate: {away}/c, key: {away}/k }}] }}\n"
            ),
            1,
            "cannot be read",
        ),
        (
            "secret: emulator-secret-1".to_owned(),
            format!("secret: {{ file: {away}/s }}, secrte: x"),
            2,
            "secrte",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let changed = yaml.replace(&from, &to);
        assert_ne!(changed, yaml, "{from}");
        let changed = changed.replace(data, folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("menshen.yaml"), changed).unwrap();

        let (actual, said) = process::run_to_end(folder.path());

        assert_eq!(actual, Some(code), "{to}: {said}");
        assert!(said.contains(expected), "{to}: {said}");
    }
}

#[test]
fn a_name_is_up_if_one_of_its_addresses_is() {
    let backend = Backend::with(|_| Reply::ok(b"by name"));
    // On many machines it is `::1` too, where this backend does not listen.
    let name = format!("localhost:{}", backend.address().port());
    let world = world(&format!("'{name}'"), "");

    eventually("the name is used", || world.get("/pub/x", "").text() == "by name");
    assert_eq!(up(&world, &name), Some(1));
}
