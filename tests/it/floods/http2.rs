//! Floods of HTTP/2: frames that cost their sender little and a server much. E11, E12.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use super::{FLOODERS, Flooded, reached, sign_in};
use crate::common::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, encode, fields, frame,
};
use crate::common::{NO_THROTTLE, ROUTES, Tally, World, times};
use crate::process::Process;

/// Connections of one flooder, one after another.
const ROUNDS: usize = 2;
/// Frames, or streams with what belongs to them, that one connection tries to send.
const UNITS: usize = 2000;
/// Streams that a connection may have under way.
const STREAMS: usize = 100;
const BATCH: usize = 50;
/// A flooder that cannot write for so long is held back.
const HELD_BACK: Duration = Duration::from_secs(2);

/// What is sent again and again, made for the next stream.
type Unit<'u> = &'u (dyn Fn(u32) -> Vec<u8> + Sync);

struct Scene {
    world: World,
    gateway: Process,
    bearer: String,
}

impl Scene {
    fn new() -> Self {
        let world = World::with(&format!(
            "{ROUTES}{NO_THROTTLE}listeners:\n  - {{ address: 127.0.0.1:0, h2c: true }}\n"
        ));
        let gateway = Process::like(&world);
        let bearer = sign_in(&world, &gateway);
        Self { world, gateway, bearer }
    }

    /// Floods over several connections at once, each begun with `first`; the counts.
    fn flood(&self, what: &str, first: &[u8], unit: Unit<'_>) -> Tally {
        let before = reached(&self.world);
        let flooded = Flooded::begin(&self.gateway, &self.bearer);
        let rounds = || (0..ROUNDS * times()).map(|_| flood(&self.gateway, first, unit)).collect::<Vec<_>>();
        let floods: Vec<(usize, Option<Outcome>)> = thread::scope(|scope| {
            let flooders: Vec<_> = (0..FLOODERS).map(|_| scope.spawn(rounds)).collect();
            flooders.into_iter().flat_map(|flooder| flooder.join().unwrap()).collect()
        });
        let mut tally = Tally::default();
        for (sent, outcome) in floods {
            match outcome {
                Some(outcome) => tally.add(&outcome, 0),
                None => tally.add("held back", 0),
            }
            tally.inputs += sent - 1;
        }
        tally.remark = flooded.end();
        tally.reached = reached(&self.world) - before;
        tally.report(&format!("floods: HTTP/2, {what}"));
        assert!(tally.reached <= STREAMS * connections(), "{what}: {tally:?}");
        tally
    }

    fn assert_ends_the_connection(&self, what: &str, first: &[u8], unit: Unit<'_>) -> Tally {
        let tally = self.flood(what, first, unit);
        assert_eq!(
            tally.answered("gone away") + tally.answered("closed"),
            connections(),
            "{what}: {tally:?}"
        );
        tally
    }
}

fn connections() -> usize {
    FLOODERS * ROUNDS * times()
}

/// One flooder: how many units it got rid of, and what came of a last request; none where it could
/// not send one.
fn flood(gateway: &Process, first: &[u8], unit: Unit<'_>) -> (usize, Option<Outcome>) {
    let mut connection = Http2::open(gateway.address);
    connection.stream.set_write_timeout(Some(HELD_BACK)).unwrap();
    _ = connection.stream.write_all(first);
    let mut sent = 0;
    while sent < UNITS {
        let batch: Vec<u8> = (0..BATCH).flat_map(|_| unit(connection.begin())).collect();
        sent += BATCH;
        match connection.stream.write_all(&batch) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                return (sent, None);
            }
            Err(_) => break,
        }
    }
    (sent, Some(connection.send(&get())))
}

fn get() -> crate::common::http2::Fields<'static> {
    fields("GET", b"/pub/flood", &[])
}

fn opened(flags: u8, others: &[(&[u8], &[u8])], stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &encode(&fields("POST", b"/pub/flood", others)))
}

/// E12, CVE-2023-44487.
#[test]
fn streams_that_the_client_resets_at_once_end_the_connection() {
    let scene = Scene::new();
    let cancel = 8_u32.to_be_bytes();

    scene.assert_ends_the_connection("streams taken back at once", b"", &|stream| {
        [opened(END_STREAM, &[], stream), frame(RST_STREAM, 0, stream, &cancel)].concat()
    });
}

/// E12, CVE-2025-8671: a client makes the gateway reset its streams; they still count as the
/// client's.
#[test]
fn streams_that_the_gateway_must_reset_end_the_connection() {
    let scene = Scene::new();
    let over = 0x7fff_ffff_u32.to_be_bytes();

    for (what, unit) in [
        (
            "windows that overflow",
            &(|stream| [opened(0, &[], stream), frame(WINDOW_UPDATE, 0, stream, &over)].concat()) as Unit<'_>,
        ),
        ("data after the end", &|stream| {
            [opened(END_STREAM, &[], stream), frame(DATA, 0, stream, b"late")].concat()
        }),
        ("bodies longer than they say", &|stream| {
            [opened(0, &[(b"content-length", b"1")], stream), frame(DATA, END_STREAM, stream, b"longer")]
                .concat()
        }),
        ("names in upper case", &|stream| opened(END_STREAM, &[(b"X-A", b"1")], stream)),
        ("streams that depend on themselves", &|stream| {
            let itself = [&stream.to_be_bytes()[..], &[0]].concat();
            [opened(0, &[], stream), frame(PRIORITY, 0, stream, &itself)].concat()
        }),
        ("windows that do not open", &|stream| {
            [opened(0, &[], stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        }),
    ] {
        scene.assert_ends_the_connection(what, b"", unit);
    }
}

/// E12: a header block without end is given up before it is collected.
#[test]
fn header_blocks_without_end_end_the_connection() {
    let scene = Scene::new();
    let first = frame(HEADERS, END_STREAM, 1, &encode(&get()));
    let field = encode(&vec![(b"x-a", b"1")]);
    let large = encode(&vec![(b"x-a", &[b'a'; 8000])]);

    for (what, payload) in
        [("empty continuations", &[][..]), ("small continuations", &field), ("large continuations", &large)]
    {
        let tally = scene.assert_ends_the_connection(what, &first, &|_| frame(CONTINUATION, 0, 1, payload));
        assert_eq!(tally.reached, 0, "{what}");
    }
}

/// E11: a field of the compression table, named by one byte again and again, while nothing of an
/// answer is taken.
#[test]
fn fields_named_by_one_byte_are_counted_as_long_as_they_are() {
    let scene = Scene::new();
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    // A literal with incremental indexing, and then the first entry of the dynamic table.
    let mut block = encode(&get());
    block.extend([0x40, 3]);
    block.extend(b"x-a");
    block.extend([0x7f, 0xc1, 0x1e]);
    block.extend([b'a'; 4000]);
    block.extend([0xbe; 8000]);

    let tally = scene.flood("fields named by one byte", &no_window, &|stream| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    });

    assert_eq!(tally.reached, tally.answered(200), "{tally:?}");
}

/// Frames that an idle connection may send without end cost the gateway no memory, and delay no
/// other client.
#[test]
fn frames_that_ask_for_little_delay_no_other_client() {
    let scene = Scene::new();
    let window = |size: u32| [&[0, 4][..], &size.to_be_bytes()].concat();
    let body = opened(0, &[], 1);

    for (what, first, unit) in [
        ("settings", &b""[..], &(|_| frame(SETTINGS, 0, 0, &[])) as Unit<'_>),
        ("windows that change", &body, &|stream| frame(SETTINGS, 0, 0, &window(stream))),
        ("pings", b"", &|_| frame(PING, 0, 0, &[7; 8])),
        ("small windows", b"", &|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("priorities", b"", &|stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16])),
        ("unknown frames", b"", &|_| frame(0xfa, 0, 0, &[0; 64])),
        ("empty data", &body, &|_| frame(DATA, 0, 1, &[])),
        ("data of one byte", &body, &|_| frame(DATA, 0, 1, b"x")),
    ] {
        let tally = scene.flood(what, first, unit);
        assert!(tally.reached <= 2 * connections(), "{what}: {tally:?}");
    }
}

#[test]
fn streams_without_an_end_are_no_more_than_a_connection_may_have() {
    let scene = Scene::new();

    scene.flood("streams without an end", b"", &|stream| opened(0, &[], stream));
}
