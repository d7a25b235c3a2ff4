//! A flood of logins with invented codes, from more addresses than a limit by address could hold
//! back.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{FLOODERS, Flooded, reached, sign_in};
use crate::common::{Connection, ROUTES, Tally, World, now, times};
use crate::process::Process;

const ADDRESSES: usize = 4000;

/// E8, E9: calls to WeChat stay within its quota, and signed-in users are served.
#[test]
fn logins_from_many_addresses_stay_within_wechats_quota_and_delay_no_other_client() {
    let world = World::with(&format!(
        "{ROUTES}trusted_proxies: [127.0.0.1]\nthrottle: {{ wechat: {{ rate: 600/min, burst: 100 }}, capacity: 1024 }}\n"
    ));
    let gateway = Process::like(&world);
    let bearer = sign_in(&world, &gateway);
    let (next, begun) = (AtomicUsize::new(0), now());
    let flooded = Flooded::begin(&gateway, &bearer);

    let statuses: Vec<u16> = thread::scope(|scope| {
        let flooders: Vec<_> = (0..FLOODERS).map(|_| scope.spawn(|| guess(&gateway, &next))).collect();
        flooders.into_iter().flat_map(|flooder| flooder.join().unwrap()).collect()
    });

    let mut tally = Tally::default();
    tally.remark = flooded.end();
    for status in statuses {
        assert!(matches!(status, 401 | 429), "{status}");
        tally.add(status, 0);
    }
    tally.reached = reached(&world);
    let allowed = 101 + begun.elapsed().as_secs() * 10 + 10;
    let asked = world.exchanges();
    tally.remark = format!("WeChat was asked {asked} times, {}", tally.remark);
    tally.report("floods: logins from many addresses");
    assert!(u64::try_from(asked).unwrap() <= allowed, "{asked} exchanges, {allowed} allowed");
    assert_eq!(tally.reached, 0);
    assert_eq!(tally.answered(401) + 1, asked, "a guess is what WeChat says it is");
}

/// Guesses from one address after another, until none is left.
fn guess(gateway: &Process, next: &AtomicUsize) -> Vec<u16> {
    let mut connection = Connection::open(gateway.address);
    let mut statuses = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        if number >= ADDRESSES * times() {
            return statuses;
        }
        let body = format!(r#"{{"code":"guess-{number}"}}"#);
        let address = Ipv4Addr::from_bits(0xcb00_0000 + u32::try_from(number).unwrap());
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nX-Forwarded-For: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write(request.as_bytes());
        let response = connection.read_response(false);
        if response.header("connection") == Some("close") {
            connection = Connection::open(gateway.address);
        }
        statuses.push(response.status);
    }
}
