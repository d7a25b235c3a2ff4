//! A flood of forged tokens, all different, and a flood of one forged token.

use std::thread;

use super::{FLOODERS, Flooded, reached, sign_in};
use crate::common::{Connection, NO_THROTTLE, ROUTES, Tally, World, times};
use crate::process::Process;

/// Of each flooder.
const TOKENS: usize = 2000;

/// C11: forged tokens are refused, however many there are, and clients with a good token are
/// served.
#[test]
fn forged_tokens_delay_no_other_client() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let gateway = Process::like(&world);
    let bearer = sign_in(&world, &gateway);
    let genuine = bearer.trim_end().to_owned();
    let (message, signature) = genuine.rsplit_once('.').unwrap();

    let tokens = TOKENS * times();
    for (what, is_new) in [("no two alike", true), ("one over and over", false)] {
        let forge = |flooder: usize, number: usize| {
            let number = if is_new { flooder * tokens + number + 1 } else { 1 };
            // The right length, so that the signature is looked at.
            format!("{message}.{number:A>8}{}\r\n", &signature[8..])
        };
        let flooded = Flooded::begin(&gateway, &bearer);
        let statuses: Vec<u16> = thread::scope(|scope| {
            let send = |flooder| {
                let mut connection = Connection::open(gateway.address);
                (0..tokens)
                    .map(|number| {
                        let line = forge(flooder, number);
                        let request = format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\n{line}\r\n");
                        connection.send(request.as_bytes()).status
                    })
                    .collect::<Vec<_>>()
            };
            let flooders: Vec<_> = (0..FLOODERS).map(|flooder| scope.spawn(move || send(flooder))).collect();
            flooders.into_iter().flat_map(|flooder| flooder.join().unwrap()).collect()
        });
        let mut tally = Tally::default();
        tally.remark = flooded.end();
        statuses.into_iter().for_each(|status| tally.add(status, 0));
        tally.reached = reached(&world);
        tally.report(&format!("floods: forged tokens, {what}"));
        assert_eq!((tally.answered(401), tally.reached), (FLOODERS * tokens, 0), "{what}");
    }
}
