//! Who a connection belongs to, and how many there may be of one client.

use std::time::Duration;

use crate::common::{Connection, NO_THROTTLE, ROUTES, World, eventually};

const GET: &[u8] = b"GET /pub/x HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x08\xc0\x00\x02\x01\xdc\x04\x01\xbb";

fn behind_balancer(balancers: &str, sections: &str) -> World {
    World::with(&format!(
        "{ROUTES}{NO_THROTTLE}{sections}listeners:\n  - {{ address: '127.0.0.1:0', proxy_protocol: {balancers} }}\n"
    ))
}

fn rejected(world: &World, reason: &str) -> f64 {
    world.metric(&format!(r#"menshen_rejected_connections_total{{reason="{reason}"}}"#))
}

fn client_seen(world: &World) -> Vec<String> {
    world.backend.last().header("x-forwarded-for")
}

#[test]
fn a_balancer_says_who_the_client_is() {
    let world = behind_balancer("[127.0.0.0/8]", "");
    for (header, client) in [
        (V1, "203.0.113.7"),
        (V2, "203.0.113.8"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".as_slice(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".as_slice(), "127.0.0.1"),
    ] {
        let mut connection = world.connect();

        let response = connection.send(&[header, GET].concat());

        assert_eq!((response.status, client_seen(&world)), (200, vec![client.to_owned()]));
        // The whole connection is the client's, not its first request alone.
        assert_eq!((connection.send(GET).status, client_seen(&world)), (200, vec![client.to_owned()]));
    }
}

#[test]
fn a_header_in_pieces_is_one_header() {
    let world = behind_balancer("[127.0.0.1]", "");
    for header in [V1, V2] {
        let mut connection = world.connect();
        for byte in header {
            connection.write(&[*byte]);
        }

        assert_eq!(connection.send(GET).status, 200);
        assert_ne!(client_seen(&world), ["127.0.0.1"]);
    }
}

#[test]
fn a_client_that_is_no_balancer_is_not_served_on_a_listener_for_balancers() {
    let world = behind_balancer("[192.0.2.1]", "");
    for sent in [[V1, GET].concat(), [V2, GET].concat(), GET.to_vec()] {
        let mut connection = world.connect();
        connection.write(&sent);

        assert!(connection.is_closed());
    }
    assert_eq!(world.backend.count(), 0);
    assert_eq!(rejected(&world, "proxy_protocol"), 3.0);
}

#[test]
fn a_balancer_that_names_no_client_is_not_served() {
    let world = behind_balancer("[127.0.0.1]", "");
    for sent in [GET.to_vec(), [b"PROXY TCP4 1.2.3.4\r\n".as_slice(), GET].concat(), vec![b'P'; 200]] {
        let mut connection = world.connect();
        connection.write(&sent);

        assert!(connection.is_closed(), "{sent:?}");
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_header_of_the_proxy_protocol_means_nothing_to_other_listeners() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    for header in [V1, V2] {
        let mut connection = world.connect();

        let answer = connection.send_unless_gone(&[header, GET].concat());

        assert_ne!(answer.map(|answer| answer.status), Some(200));
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn two_headers_are_one_header_and_a_broken_request() {
    let world = behind_balancer("[127.0.0.1]", "");

    let answer = world.connect().send_unless_gone(&[V1, V1, GET].concat());

    assert_ne!(answer.map(|answer| answer.status), Some(200));
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_header_that_never_ends_is_a_slow_header() {
    let world = behind_balancer("[127.0.0.1]", "limits: { header_timeout: 300ms }\n");
    let mut connection = world.connect();
    connection.write(b"PROXY TCP4 ");

    assert!(connection.is_closed());
    assert_eq!(rejected(&world, "header_timeout"), 1.0);
}

#[test]
fn one_client_has_its_share_of_connections_and_no_more() {
    let world = behind_balancer("[127.0.0.1]", "limits: { max_connections_per_address: 2 }\n");
    let open = |header: &[u8]| {
        let mut connection = world.connect();
        let answer = connection.send_unless_gone(&[header, GET].concat());
        (connection, answer.map(|answer| answer.status))
    };
    let (first, second) = (open(V1), open(V1));
    assert_eq!((first.1, second.1), (Some(200), Some(200)));

    assert_eq!(open(V1).1, None);
    assert_eq!(rejected(&world, "too_many_of_address"), 1.0);
    assert_eq!(open(V2).1, Some(200), "another client is not concerned");
    drop(first);
    eventually("a closed connection makes room", || open(V1).1 == Some(200));
}

#[test]
fn a_trusted_proxy_may_have_any_number_of_connections() {
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}trusted_proxies: [127.0.0.1]\nlimits: {{ max_connections_per_address: 1 }}\n"
    ));
    let mut connections: Vec<Connection> = (0..5).map(|_| world.connect()).collect();

    assert!(connections.iter_mut().all(|connection| connection.send(GET).status == 200));
}

#[test]
fn a_body_that_trickles_is_broken_off_and_one_that_does_not_is_not() {
    let post = |length: usize| {
        format!("POST /pub/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {length}\r\n\r\n")
    };
    for (sections, bytes, is_slow) in [
        ("", 999_usize, true),
        ("", 1100, false),
        ("limits: { min_body_rate: 0B }\n", 1, false),
        ("limits: { min_body_rate: 1KiB }\n", 1100, true),
    ] {
        let world = World::with(&format!("{ROUTES}{NO_THROTTLE}{sections}"));
        let mut connection = world.connect();
        connection.write(post(bytes + 1).as_bytes());
        connection.write(&vec![b'x'; bytes]);
        eventually("the request is on its way", || world.backend.connections() > 0);
        world.clock.advance(Duration::from_secs(11));
        connection.write(b"y");

        let status = connection.try_read_response(false).map(|response| response.status);

        assert_eq!(status, Some(if is_slow { 408 } else { 200 }), "{sections}{bytes}");
    }
}
