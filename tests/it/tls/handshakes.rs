//! Few addresses cannot keep the others from a TLS handshake, nor from the admin listener.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;

const HANDSHAKES: usize = 8;

/// A connection from `127.0.0.<last>`.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn world(authority: &Authority) -> World {
    authority.issue("first", &["gateway.test"], 1);
    let limits = format!("limits: {{ max_handshakes: {HANDSHAKES} }}\n");
    World::with(&format!("{ROUTES}{NO_THROTTLE}{limits}{}", authority.listeners(&["first"])))
}

/// The first message of a handshake.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from("gateway.test").unwrap();
    let mut client = ClientConnection::new(authority.client(ALL, &[]), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn silent_connections_take_no_place_for_handshakes() {
    let authority = Authority::new();
    let world = world(&authority);
    let hello = hello(&authority);

    // Nothing, one byte, all but one: from five addresses, fewer than 1,000 each.
    let silent = (20 * HANDSHAKES * times()).min(4750);
    let held: Vec<TcpStream> = (0..silent)
        .map(|number| {
            let mut stream = connect_from(2 + u8::try_from(number % 5).unwrap(), world.address());
            let sent = [0, 1, hello.len() - 1][number % 3];
            stream.write_all(&hello[..sent]).unwrap();
            stream
        })
        .collect();
    eventually("all are open", || world.metric("menshen_open_connections") == held.len() as f64);

    let config = authority.client(ALL, &[]);
    let since = now();
    for _ in 0..3 {
        assert_eq!(serial(world.address(), &config, "gateway.test"), Ok(1));
    }
    assert_eq!(world.metric(r#"menshen_rejected_connections_total{reason="too_many_handshakes"}"#), 0.0);
    let remark = format!("3 of 3 others let in within {:.0?}", since.elapsed());
    Tally::of(silent, remark).report("floods: silent connections to a listener with TLS");
}

#[test]
fn a_silent_connection_is_closed_soon() {
    let authority = Authority::new();
    let world = world(&authority);
    let since = now();

    let mut silent = connect_from(2, world.address());

    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    // `limits.header_timeout` is ten seconds.
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    assert_eq!(world.metric(r#"menshen_rejected_connections_total{reason="header_timeout"}"#), 1.0);
}

#[test]
fn of_handshakes_that_stall_the_oldest_of_the_address_that_has_most_ends() {
    let authority = Authority::new();
    let world = world(&authority);
    let hello = hello(&authority);
    let stall = |last: u8| {
        let mut stream = connect_from(last, world.address());
        stream.write_all(&hello).unwrap();
        // The server's answer: the handshake has begun, and the client goes on no further.
        stream.read_exact(&mut [0; 5]).unwrap();
        stream
    };
    let mut patient = stall(9);
    let held: Vec<TcpStream> =
        (0..3 * HANDSHAKES).map(|number| stall(2 + u8::try_from(number % 5).unwrap())).collect();

    let config = authority.client(ALL, &[]);
    for _ in 0..3 {
        assert_eq!(serial(world.address(), &config, "gateway.test"), Ok(1));
    }

    let ended = world.metric(r#"menshen_rejected_connections_total{reason="too_many_handshakes"}"#);
    assert!(ended > HANDSHAKES as f64, "{ended}");
    let remark = format!("3 of 3 others let in, {ended} handshakes ended for others");
    Tally::of(held.len() + 1, remark).report("floods: TLS handshakes that stall");
    // An address with one handshake keeps it while others have two.
    patient.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = vec![0; 64 * 1024];
    loop {
        match patient.read(&mut answer) {
            Ok(0) => panic!("the handshake of an address with one has ended"),
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ));
                break;
            }
        }
    }
    drop(held);
}

/// The admin listener has connections of its own: they leave the public ones theirs, and a peer
/// that has most of them loses its oldest, so that others can still read the metrics.
#[test]
fn idle_connections_to_the_admin_listener_stop_neither_it_nor_the_public_one() {
    const HELD: usize = 700;
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let admin = world.gateway().admin_address();
    let mut scraper = connect_from(9, admin);
    let scrape = |scraper: &mut TcpStream| {
        scraper.write_all(b"GET /livez HTTP/1.1\r\nHost: admin\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        scraper.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        scraper.set_nonblocking(true).unwrap();
        while matches!(scraper.read(&mut [0; 1024]), Ok(1..)) {}
        scraper.set_nonblocking(false).unwrap();
    };
    scrape(&mut scraper);

    let mut held: Vec<TcpStream> =
        (0..HELD).map(|number| connect_from(2 + u8::try_from(number % 5).unwrap(), admin)).collect();

    let counter = r#"menshen_rejected_connections_total{reason="too_many_of_door"}"#;
    eventually("the oldest are closed", || world.metric(counter) >= (HELD - 128) as f64);
    scrape(&mut scraper);
    assert_eq!(world.get("/pub/x", "").status, 200);
    let remark = "an older connection and the public listener answer".to_owned();
    Tally::of(HELD, remark).report("floods: idle connections to the admin listener");
    let is_open = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    eventually("no more than its share is open", || {
        let open = held.iter_mut().filter_map(|stream| is_open(stream).then_some(())).count();
        open <= 128
    });
}
