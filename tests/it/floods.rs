//! Floods over loopback, each of a fixed size: how the flooder is answered, what reaches the
//! backend, and how people who call meanwhile fare.

mod doors;
mod http2;
mod login;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::{Connection, World, now};
use crate::process::Process;

/// Connections that flood at once.
const FLOODERS: usize = 4;
/// How much a flood may add to the memory of a gateway: bodies, of which an HTTP/2 connection may
/// hold 1 MiB, and which go a while after their connection has gone.
const GROWTH: usize = 128 * 1024 * 1024;
/// Fewest calls of one person, whose times are to say something.
const CALLS: usize = 50;
/// Where people call, who have signed in.
const GOOD: &str = "/good";

/// A gateway in a process of its own, with people who call while it is flooded.
struct Flooded<'w> {
    gateway: &'w Process,
    memory: usize,
    people: Vec<JoinHandle<Vec<Duration>>>,
    is_over: Arc<AtomicBool>,
}

impl<'w> Flooded<'w> {
    fn begin(gateway: &'w Process, bearer: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let request = format!("GET {GOOD} HTTP/1.1\r\nHost: gateway.test\r\n{bearer}\r\n");
        let people = (0..2).map(|_| {
            let (address, request, is_over) = (gateway.address, request.clone(), Arc::clone(&is_over));
            thread::spawn(move || call_until(&is_over, address, &request))
        });
        Self { gateway, memory: gateway.memory("VmHWM"), people: people.collect(), is_over }
    }

    /// How the people fared, all of whose calls were answered, and what the flood cost the gateway.
    fn end(self) -> String {
        self.is_over.store(true, Ordering::SeqCst);
        let mut times: Vec<Duration> = self
            .people
            .into_iter()
            .flat_map(|person| person.join().expect("somebody was not served"))
            .collect();
        times.sort();
        let p99 = times[times.len() * 99 / 100];
        let grown = self.gateway.memory("VmHWM").saturating_sub(self.memory);
        assert!(grown < GROWTH, "the gateway has grown by {grown} bytes");
        format!("{} good calls all answered, p99 {p99:.0?}, {} KiB more memory", times.len(), grown / 1024)
    }
}

fn call_until(is_over: &AtomicBool, address: SocketAddr, request: &str) -> Vec<Duration> {
    let mut connection = Connection::open(address);
    let mut times = Vec::new();
    while times.len() < CALLS || !is_over.load(Ordering::SeqCst) {
        let begun = now();
        let response = connection.send(request.as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
        times.push(begun.elapsed());
    }
    times
}

/// Signs a person in at this gateway; the header line that says so.
fn sign_in(world: &World, gateway: &Process) -> String {
    let body = format!(r#"{{"code":"{}"}}"#, world.code("alice"));
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = gateway.connect().send(request.as_bytes());
    format!("Authorization: Bearer {}\r\n", response.json()["access_token"].as_str().unwrap())
}

/// How many requests reached the backend that are no good person's.
fn reached(world: &World) -> usize {
    world.backend.requests().iter().filter(|request| request.target() != GOOD).count()
}
