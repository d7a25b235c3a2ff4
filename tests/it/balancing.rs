//! Which of several servers answers, and what happens when some of them do not.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{Backend, Connection, NO_THROTTLE, PATIENCE, ROUTES, Reply, World, eventually};
use crate::proxying::{logged, upstream_failures};

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

/// Servers that answer with a number of their own.
fn numbered(count: usize) -> Vec<Backend> {
    (0..count).map(|number| Backend::with(move |_| Reply::ok(number.to_string().as_bytes()))).collect()
}

/// An address where no program listens; no other test uses a port of it.
pub fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap()
}

fn world(servers: &[String], options: &str) -> World {
    let servers = servers.join(", ");
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}upstreams: {{ backend: {{ servers: [{servers}]{options} }} }}\n"
    ))
}

fn plain(address: SocketAddr) -> String {
    format!("'{address}'")
}

fn weighted(address: SocketAddr, weight: usize) -> String {
    format!("{{ address: '{address}', weight: {weight} }}")
}

/// How often each body was answered.
fn count(client: &mut Connection, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let answer = client.send(GET);
        assert_eq!(answer.status, 200);
        *counts.entry(answer.text()).or_default() += 1;
    }
    counts
}

#[test]
fn servers_take_turns_by_their_weight() {
    let backends = numbered(3);
    let servers: Vec<String> =
        backends.iter().zip([1, 2, 3]).map(|(backend, weight)| weighted(backend.address(), weight)).collect();
    let world = world(&servers, "");

    let counts = count(&mut world.connect(), 60);

    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10, 20, 30]);
}

#[test]
fn the_server_with_the_fewest_requests_under_way_is_next() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let slow = Backend::with(move |_| {
        _ = released.lock().unwrap().recv_timeout(PATIENCE);
        Reply::ok(b"slow")
    });
    let quick = numbered(2);
    let servers = [plain(slow.address()), plain(quick[0].address()), plain(quick[1].address())];
    let world = world(&servers, ", balance: least_connections");
    // Until the slow server has one request, whichever it is.
    let mut waiting = Vec::new();
    eventually("the slow server is asked", || {
        let mut client = world.connect();
        client.write(GET);
        waiting.push(client);
        let asked = |backend: &Backend| backend.count();
        eventually("somebody is asked", || {
            asked(&slow) + asked(&quick[0]) + asked(&quick[1]) >= waiting.len()
        });
        slow.count() == 1
    });

    let counts = count(&mut world.connect(), 40);

    assert_eq!(slow.count(), 1, "the slow server was asked again");
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [20, 20], "the idle ones do not share");
    drop(release);
    assert_eq!(waiting.pop().unwrap().read_response(false).text(), "slow");
    let counts = count(&mut world.connect(), 30);
    assert_eq!(counts.len(), 3, "a server that has caught up gets its share: {counts:?}");
}

#[test]
fn idle_servers_share_by_weight_where_the_fewest_requests_decide() {
    let backends = numbered(2);
    let servers = [weighted(backends[0].address(), 1), weighted(backends[1].address(), 3)];
    let world = world(&servers, ", balance: least_connections");

    let counts = count(&mut world.connect(), 40);

    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10, 30]);
}

#[test]
fn one_person_is_always_served_by_the_same_server() {
    let backends = numbered(4);
    let servers: Vec<String> = backends.iter().map(|backend| plain(backend.address())).collect();
    let world = world(&servers, ", balance: consistent_hash");
    let mut used = std::collections::BTreeSet::new();

    for person in 0..20 {
        let person = format!("person-{person}");
        let ask = |bearer: &str| world.get("/x", bearer).text();
        let first = world.bearer(&person);
        let server = ask(&first);
        // Another token, another connection, the same person.
        let second = world.bearer(&person);
        assert_eq!((ask(&first), ask(&second)), (server.clone(), server.clone()), "{person}");
        used.insert(server);
    }

    assert!(used.len() > 1, "everybody is on one server");
    let counts = count(&mut world.connect(), 10);
    assert_eq!(counts.len(), 1, "a stranger is known by his address: {counts:?}");
}

#[test]
fn a_person_whose_server_is_gone_is_served_by_one_other() {
    let backends = numbered(2);
    let gone = refusing();
    let servers = [plain(backends[0].address()), plain(gone), plain(backends[1].address())];
    let world = world(&servers, ", balance: consistent_hash, failed_for: 1h");

    for person in 0..12 {
        let bearer = world.bearer(&format!("person-{person}"));
        let answers: Vec<(u16, String)> =
            (0..3).map(|_| world.get("/x", &bearer)).map(|answer| (answer.status, answer.text())).collect();
        assert!(answers.iter().all(|answer| answer.0 == 200 && *answer == answers[0]), "{answers:?}");
    }
}

#[test]
fn servers_that_refuse_connections_are_passed_over_and_no_request_is_lost() {
    for balance in ["round_robin", "least_connections", "consistent_hash"] {
        let good = Backend::echo();
        let servers = [plain(refusing()), plain(good.address()), plain(refusing())];
        let world = world(&servers, &format!(", balance: {balance}"));

        for number in 0..20 {
            let answer = world.send(&format!(
                "POST /pub/{number} HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\nbody"
            ));
            assert_eq!(answer.status, 200, "{balance}, request {number}");
            assert_eq!(good.last().body, b"body");
        }
        assert_eq!(good.count(), 20, "{balance}: a request was sent twice");
        assert_eq!(logged(&world, "/pub/19")["upstream.address"], good.address().to_string());
    }
}

#[test]
fn a_server_that_refused_is_asked_again_after_its_time_and_no_sooner() {
    let good = numbered(1);
    let refused = refusing();
    let servers = [plain(refused), plain(good[0].address())];
    let world = world(&servers, ", failed_for: 10s");
    assert_eq!(count(&mut world.connect(), 10).len(), 1);
    let listener = TcpListener::bind(refused).unwrap();
    listener.set_nonblocking(true).unwrap();

    assert_eq!(count(&mut world.connect(), 10).len(), 1);
    assert!(listener.accept().is_err(), "it was asked too soon");

    world.clock.advance(Duration::from_secs(11));
    let mut client = world.connect();
    let mut other = world.connect();
    client.write(GET);
    other.write(GET);
    eventually("it is asked again", || {
        listener.accept().is_ok_and(|(mut stream, _)| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
        })
    });
}

#[test]
fn a_connection_that_breaks_leaves_its_server_in_service() {
    let breaking = Backend::with(|request| match request.target() {
        "/pub/break" => Reply::Last(Vec::new()),
        _ => Reply::ok(b"still here"),
    });
    let world = world(&[plain(breaking.address())], "");

    assert_eq!(world.get("/pub/break", "").status, 502);
    assert_eq!(world.get("/pub/x", "").text(), "still here");
}

#[test]
fn if_no_server_answers_the_client_gets_an_error_and_the_reason_is_counted() {
    let servers = [plain(refusing()), plain(refusing())];
    let world = world(&servers, "");

    for number in 0..3 {
        let path = format!("/pub/{number}");
        let answer = world.get(&path, "");
        assert_eq!((answer.status, answer.header("content-type")), (502, Some("application/problem+json")));
        let problem = answer.json();
        assert_eq!((&problem["code"], &problem["status"]), (&"upstream_unreachable".into(), &502.into()));
        assert_eq!(problem["request_id"], answer.header("x-request-id").unwrap());
        assert!(!answer.text().contains("127.0.0."), "no address of a backend in an answer");
        let line = logged(&world, &path);
        assert_eq!((&line["decision"], &line["reason"]), (&"refused".into(), &"upstream_unreachable".into()));
        assert_eq!(line["upstream.name"], "backend");
    }
    assert_eq!(upstream_failures(&world, "upstream_unreachable"), 3.0);
}
