//! Where a real backend sees a request end: where the gateway does.

use super::seen::Seen;
use super::server::Server;
use crate::common::{Connection, NO_THROTTLE, ROUTES, Tally, World, eventually};
use crate::framing::{SMUGGLED, ambiguous, answers, chunked_bodies};

/// F1 to F14, as far as a server may see them: every message it gets is whole, and there are none
/// but those meant.
pub fn only_whole_requests_are_seen(server: &Server) {
    let world = server.world(&format!("{ROUTES}{NO_THROTTLE}"));
    let before = server.position();
    let mut received = Received::default();
    an_ambiguous_request_is_not_seen(server, &world, &mut received);
    an_early_answer_leaves_nothing(server, &world, &mut received);
    a_body_is_never_a_request(server, &world, &mut received);
    assert_eq!(server.malformed(), 0, "{} was sent what it could not read", server.program.name);
    a_body_that_breaks_off_is_never_whole(server, &world, &mut received);
    received.counts.reached = server.seen_since(before).len();
    received.counts.report(&format!("{}: framing", server.program.name));
    assert_malformed_requests_are_seen(server);
}

/// The server does record what it cannot read.
fn assert_malformed_requests_are_seen(server: &Server) {
    let before = server.malformed();
    let mut connection = Connection::open(server.address);
    connection.write(b"GET /x XTTP/1.1\r\nHost: a\r\n\r\n");
    connection.try_read_response(false);
    eventually("the server reports what it cannot read", || server.malformed() > before);
}

/// What a server received, and what it reported late.
#[derive(Default)]
struct Received {
    counts: Tally,
    /// Targets of requests without an end that the program had not seen when the next was answered.
    late: Vec<String>,
}

impl Received {
    fn add(&mut self, answered: &[u16]) {
        self.counts.add(answered, 0);
    }

    /// Whether this is one of those requests, seen at last: once, and without a body.
    fn is_late(&mut self, target: &str, body: &str) -> bool {
        let at = self.late.iter().position(|late| late == target && body.is_empty());
        at.map(|at| self.late.swap_remove(at)).is_some()
    }
}

/// What came to the program since then: targets and bodies.
fn seen_since(server: &Server, before: usize) -> Vec<(String, String)> {
    let read = |seen: &Seen| (seen.target().to_owned(), String::from_utf8_lossy(&seen.body()).into_owned());
    server.seen_since(before).iter().map(read).collect()
}

fn an_ambiguous_request_is_not_seen(server: &Server, world: &World, received: &mut Received) {
    let before = server.position();
    for (row, bytes) in ambiguous() {
        let answered = answers(world, format!("{bytes}{SMUGGLED}").as_bytes());
        assert!(answered.len() <= 1 && !answered.contains(&200), "{row}: {bytes:?}: {answered:?}");
        received.add(&answered);
    }
    assert_eq!(seen_since(server, before), []);
}

/// F1: what follows an answer of the gateway's own is drained, or the connection closed.
fn an_early_answer_leaves_nothing(server: &Server, world: &World, received: &mut Received) {
    let body = SMUGGLED.repeat(3);
    let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let cut = format!("Content-Length: {}\r\n\r\n{SMUGGLED}", body.len());
    let before = server.position();
    for head in [
        "POST /x HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\nAuthorization: Bearer junk\r\n",
        "POST /opt/x HTTP/1.1\r\nAuthorization: Bearer junk\r\n",
        "GET /x HTTP/1.1\r\n",
        "POST /pub/../x HTTP/1.1\r\n",
        "POST /pub/x HTTP/1.1\r\nX_A: 1\r\n",
        "PROPFIND /pub/x HTTP/1.1\r\n",
    ] {
        for rest in [&length, &chunked] {
            let answered = answers(world, format!("{head}Host: gateway.test\r\n{rest}").as_bytes());
            assert_eq!(answered.len(), 1, "{head}{rest}");
            received.add(&answered);
        }
        let mut connection = world.connect();
        connection.write(format!("{head}Host: gateway.test\r\n{cut}").as_bytes());
        received.add(&[connection.read_response(false).status]);
    }
    assert_eq!(seen_since(server, before), []);
}

/// F12: a body holds what looks like a request, in every framing; the next request, over the same
/// connection to the server, is what it says.
fn a_body_is_never_a_request(server: &Server, world: &World, received: &mut Received) {
    let size = format!("{:x}", SMUGGLED.len());
    let chunked = |chunks: &str| format!("Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let whole = [
        format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
        chunked(&format!("{size}\r\n{SMUGGLED}\r\n0\r\n\r\n")),
        chunked(&format!("000{size}\r\n{SMUGGLED}\r\n000\r\n\r\n")),
        chunked(&format!("{size};a=b\r\n{SMUGGLED}\r\n0;a=\"b\"\r\n\r\n")),
        chunked(&format!("1\r\nG\r\n{:x}\r\n{}\r\n0\r\n\r\n", SMUGGLED.len() - 1, &SMUGGLED[1..])),
    ];
    for method in ["POST", "GET"] {
        for framing in &whole {
            see(server, world, received, method, framing, Some(SMUGGLED));
        }
    }
    for (body, data) in chunked_bodies().into_iter().filter(|(_, data)| data.is_some()) {
        see(server, world, received, "POST", &chunked(&format!("{body}{SMUGGLED}")), data);
    }
}

/// F12: what is no chunk ends the connection on both sides, and the server cannot take what came
/// for all there is.
fn a_body_that_breaks_off_is_never_whole(server: &Server, world: &World, received: &mut Received) {
    let before = server.malformed();
    let bodies = chunked_bodies();
    let broken: Vec<&str> = bodies.iter().filter(|(_, data)| data.is_none()).map(|(body, _)| *body).collect();
    for body in &broken {
        let framing = format!("Transfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}");
        see(server, world, received, "POST", &framing, None);
    }
    // Some complain of the end that did not come, some of them late; nothing comes after it.
    assert!(server.malformed() <= before + broken.len());
}

/// Sends a request with this framing and body, and another after it; the program sees the two, or
/// the second alone where the first has no end.
fn see(
    server: &Server,
    world: &World,
    received: &mut Received,
    method: &str,
    framing: &str,
    body: Option<&str>,
) {
    let before = server.position();
    // A target of its own: where a body broke off, a program that does not read it may see the
    // request late.
    let number = received.counts.inputs;
    let (target, after) = (format!("/pub/x{number}"), format!("/pub/after{number}"));
    let request = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n{framing}");
    let answered = answers(world, request.as_bytes());
    assert_eq!(world.get(&after, "").status, 200);
    received.add(&answered);

    let mut seen = seen_since(server, before);
    seen.retain(|(target, body)| !received.is_late(target, body));
    let next = seen.iter().position(|(target, _)| *target == after).map(|at| seen.remove(at));
    assert_eq!(next, Some((after, String::new())), "{request:?}");
    // A program that reads no such body sees a request without one, whatever becomes of its end.
    let is_read = framing.starts_with("Content-Length") || server.program.reads_chunked;
    let expected = if is_read { body } else { Some("") };
    let meant: Vec<(String, String)> =
        expected.iter().map(|body| (target.clone(), (*body).to_owned())).collect();
    assert!(!answered.contains(&200) || !seen.is_empty(), "{request:?}: {answered:?}");
    assert!(
        seen == meant || seen.is_empty() && body.is_none(),
        "{request:?} was read as {seen:?}: {answered:?}"
    );
    if seen.is_empty() && expected.is_some() {
        received.late.push(target);
    }
}
