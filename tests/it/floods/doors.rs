//! Idle connections to the listeners that are not for clients, and connections to backends that
//! wait for the next request: neither takes the files that the others need.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::common::client::ask_control;
use crate::common::{
    Backend, Connection, NO_THROTTLE, PATIENCE, ROUTES, Reply, Tally, World, eventually, times,
};
use crate::process::Process;

/// As many files as a process commonly has if it is not allowed more.
const FILES: usize = 1024;
/// Connections that are held open to each door.
const HELD: usize = 700;
const PROGRAM: &str = "crm-token-0123456789";

/// A connection from `127.0.0.<last>`.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn metric(gateway: &Process, name: &str) -> f64 {
    // From an address of its own, as monitoring is.
    let mut connection = Connection::over(connect_from(99, gateway.admin_address));
    let text = connection.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Somebody signs in and calls, monitoring looks, an operator and a program ask.
fn assert_serves(world: &World, gateway: &Process, internal: SocketAddr, when: &str) {
    let bearer = super::sign_in(world, gateway);
    let call = format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n");
    assert_eq!(gateway.connect().send(call.as_bytes()).status, 200, "{when}");
    assert_eq!(metric(gateway, "menshen_store_available"), 1.0, "{when}");
    assert_eq!(ask_control(&gateway.control_socket(), "GET /throttle", "").status, 200, "{when}");
    let token = bearer.trim().rsplit(' ').next().unwrap();
    let body = json!({ "token": token }).to_string();
    let ask = format!(
        "POST /introspect HTTP/1.1\r\nHost: internal\r\nAuthorization: Bearer {PROGRAM}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = Connection::over(connect_from(98, internal)).send(ask.as_bytes());
    assert_eq!((answer.status, &answer.json()["active"]), (200, &true.into()), "{when}");
}

#[test]
fn idle_connections_to_the_doors_stop_neither_them_nor_the_public_listener() {
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}internal: {{ address: 127.0.0.1:0, clients: [{{ name: crm, token: {PROGRAM}, may: [introspect] }}] }}\n"
    ));
    let gateway = Process::with_files(&world, FILES);
    let internal = gateway.internal_address();
    assert_serves(&world, &gateway, internal, "before");
    // The test's own files bound it as well.
    let held = HELD * times().min(3);
    let last = |number: usize| 2 + u8::try_from(number % 5).unwrap();

    let admin: Vec<_> = (0..held).map(|number| connect_from(last(number), gateway.admin_address)).collect();
    assert_serves(&world, &gateway, internal, "with the admin listener flooded");
    let programs: Vec<_> = (0..held).map(|number| connect_from(last(number), internal)).collect();
    assert_serves(&world, &gateway, internal, "with the internal listener flooded");
    let operators: Vec<_> =
        (0..held).map(|_| UnixStream::connect(gateway.control_socket()).unwrap()).collect();
    assert_serves(&world, &gateway, internal, "with the socket of the operators flooded");

    let most = 32 + 64 + 16;
    let counter = r#"menshen_rejected_connections_total{reason="too_many_of_door"}"#;
    eventually("each that was closed is counted", || metric(&gateway, counter) >= (3 * held - most) as f64);
    let open = gateway.open_files();
    assert!(open < FILES / 3, "{open} files are open");
    let remark = format!(
        "the public listener, monitoring, operators and programs all served; {open} of {FILES} files open"
    );
    Tally::of(3 * held, remark).report("floods: idle connections to admin, internal and control");
    drop((admin, programs, operators));
}

/// Many requests at once leave as many connections to the backend, which wait for the next ones.
#[test]
fn connections_that_wait_for_the_next_request_do_not_use_up_the_files() {
    const AT_ONCE: usize = 300;
    let all_are_there = std::sync::Arc::new(std::sync::Barrier::new(AT_ONCE));
    let backend = Backend::with(move |request| {
        if request.target().starts_with("/pub/together") {
            all_are_there.wait();
        }
        Reply::ok(b"fine")
    });
    let world = World::with_backend(backend, &format!("trusted_proxies: [127.0.0.1]\n{ROUTES}{NO_THROTTLE}"));
    let gateway = Process::with_files(&world, FILES);
    let before = gateway.open_files();
    let mut clients: Vec<Connection> = (0..AT_ONCE).map(|_| gateway.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let from = format!("X-Forwarded-For: 203.0.113.{}\r\n", number % 100);
        client.write(format!("GET /pub/together HTTP/1.1\r\nHost: gateway.test\r\n{from}\r\n").as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.read_response(false).status, 200);
    }

    drop(clients);

    eventually("the clients have gone", || metric(&gateway, "menshen_open_connections") == 0.0);
    let mut idle = 0;
    eventually("no more than an eighth of what clients share is kept", || {
        idle = gateway.open_files().saturating_sub(before);
        idle <= 96 + 4
    });
    let remark = format!("{idle} connections to the backend kept");
    Tally::of(AT_ONCE, remark).report("floods: requests at once, and the connections they leave");
}
