//! Which path a real backend serves: the one that was matched.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::seen::Seen;
use super::server::Server;
use crate::common::{Connection, NO_THROTTLE, Response, Tally};
use menshen::path::AmbiguousPath;

use crate::paths::reading::governing;
use crate::paths::relaxed::accepting_every_spelling;
use crate::paths::{CLOSED, CLOSED_PATHS, NAMES, OPEN, OPEN_PATHS, get, hidden, hostile_path, raw};

/// What some server takes for a `/`, or cuts a path at; every character is one byte on the wire.
#[rustfmt::skip]
const JOINS: &[&str] = &[
    "/", "%2f", "%2F", "\\", "%5c", "%5C", "//", "///", ";/", "/;/", "/;x=1/", "%3b/", "%252f", "%255c", "%25252f",
    "%c0%af", "%e0%80%af", "%c1%9c", "%u002f", "%ef%bc%8f", "\u{ef}\u{bc}\u{8f}", "/./", "/%2e/", "%00/", "\0/",
    "%23/", "%3f/", "#/", "?/", "%0a/", "%0d%0a/", "%09/", "%20/", " /", "/%20/", "/*/", "&/",
];
/// What some server takes for `..`.
#[rustfmt::skip]
const UPS: &[&str] = &[
    "..", "%2e%2e", ".%2e", "%2e.", "%2E%2E", "%252e%252e", "%25%32%65.", "%c0%ae%c0%ae", "%e0%80%ae.", "%u002e%u002e",
    "%ef%bc%8e%ef%bc%8e", "..;", "..;x=1", ";..", "..%3b", "..%00", ".%00.", "..%20", "..%0a", "...", ". .",
];
const GENERATED: usize = 700;

/// Ways out of the public paths into the protected ones.
fn targets(prefixes: &[&str]) -> Vec<String> {
    let mut targets: Vec<String> = hidden().iter().map(|(_, target, _)| (*target).to_owned()).collect();
    for prefix in prefixes {
        for join in JOINS {
            for name in ["api", "%61pi", "API", "api%00", "api;x", "api%20"] {
                targets.push(format!("{prefix}{join}{name}"));
                targets.push(format!("{join}{name}"));
                targets.push(format!("/{name}{join}x"));
            }
            for up in UPS {
                targets.push(format!("{prefix}{join}{up}{join}api"));
                targets.push(format!("{prefix}/{up}{join}api/x"));
            }
        }
    }
    let mut runner = TestRunner::deterministic();
    let paths = hostile_path(NAMES);
    targets.extend((0..GENERATED).map(|_| paths.new_tree(&mut runner).unwrap().current()));
    targets.retain(|target| !raw(target).iter().any(|byte| matches!(byte, b'\r' | b'\n')));
    targets.sort();
    targets.dedup();
    targets
}

/// How the program reads this request, where that is a protected path.
fn protected(seen: &Seen, paths: &[(&'static str, bool)]) -> Option<String> {
    let prefixes: Vec<&str> = paths.iter().map(|(prefix, _)| *prefix).collect();
    seen.paths().into_iter().find_map(|(how, path)| {
        let prefix = governing(path, &prefixes).unwrap_or("/");
        paths.contains(&(prefix, true)).then(|| format!("{how} {path:?}"))
    })
}

/// Routes, which of their paths are protected, and the public ones to start from.
type WorldOfPaths = (&'static str, &'static str, &'static [(&'static str, bool)], &'static [&'static str]);

const WORLDS: &[WorldOfPaths] = &[
    ("open", OPEN, OPEN_PATHS, &["/opt", "/api/health"]),
    ("closed", CLOSED, CLOSED_PATHS, &["/pub", "/opt/x"]),
];

/// B1 to B24: no client signs in; what reaches the program is a public path, however the program
/// reads it, and it reads what the gateway forwarded.
pub fn no_protected_path_is_seen(server: &Server) {
    let name = server.program.name;
    for (what, routes, paths, prefixes) in WORLDS {
        let targets = targets(prefixes);
        let world = server.world(&format!("{routes}{NO_THROTTLE}"));
        let mut connection = world.connect();
        let mut tally = Tally::default();
        for target in &targets {
            connection.write(&get(target));
            let response = connection.try_read_response(false);
            if response.as_ref().is_none_or(|response| response.header("connection") == Some("close")) {
                connection = world.connect();
            }
            let status = response.as_ref().map_or(0, |response| response.status);
            let seen = response.as_ref().and_then(Seen::of);
            tally.add(status, usize::from(seen.is_some()));
            let Some(seen) = seen else {
                let is_ours = response.as_ref().is_none_or(is_of_the_gateway);
                assert!(is_ours, "{name}: {target:?}: {status} is the server's own answer");
                continue;
            };
            assert_eq!(protected(&seen, paths), None, "{name}: {target:?} reached it as {}", seen.target());
            for (how, path) in seen.paths() {
                assert_eq!(path, seen.decoded_path(), "{name}: {target:?}: {how}");
            }
        }
        tally.report(&format!("{name}: paths, {what}"));
        assert!(tally.inputs > 2000 && tally.reached > 20, "{tally:?}");
    }
}

/// The same where each route accepts every spelling. The program may refuse a path itself, and may
/// read it in ways that differ, but in none as a protected path.
pub fn where_every_spelling_is_accepted_no_protected_path_is_seen(server: &Server) {
    let name = server.program.name;
    for (what, routes, paths, prefixes) in WORLDS {
        let mut targets = targets(prefixes);
        for prefix in *prefixes {
            for special in SPECIAL {
                targets.push(format!("{prefix}/{special}"));
                targets.push(format!("{prefix}/x{special}/api"));
                targets.push(format!("{prefix}/{special}/y{special}"));
            }
        }
        let world = server.world(&format!("{}{NO_THROTTLE}", accepting_every_spelling(routes)));
        let mut connection = world.connect();
        let mut tally = Tally::default();
        let mut relaxed = 0;
        for target in &targets {
            connection.write(&get(target));
            let response = connection.try_read_response(false);
            if response.as_ref().is_none_or(|response| response.header("connection") == Some("close")) {
                connection = world.connect();
            }
            let seen = response.as_ref().and_then(Seen::of);
            tally.add(response.as_ref().map_or(0, |response| response.status), usize::from(seen.is_some()));
            let Some(seen) = seen else { continue };
            assert_eq!(protected(&seen, paths), None, "{name}: {target:?} reached it as {}", seen.target());
            let path = target.split('?').next().unwrap();
            relaxed += usize::from(AmbiguousPath::parse(path).is_ok_and(|path| !path.spellings().is_empty()));
        }
        tally.report(&format!("{name}: paths, {what}, every spelling accepted"));
        assert!(relaxed > 20, "{relaxed} of {tally:?}");
    }
}

/// What each name in `paths.allow` is for.
const SPECIAL: &[&str] = &[
    ";jsessionid=1",
    ";",
    "/",
    "//",
    "%2F",
    "%2f%2F",
    "%23",
    "%3Fa",
    "%3B",
    "[a]",
    "\u{e4}\u{bd}\u{a0}",
    "%C4%E3",
    "%ff",
    "%c0%af",
    ";%2F",
    "%2F;",
    "%3F;",
    ";a//b",
];

/// Whether the gateway answered, or its parser, which says nothing but 400; a server has words of
/// its own.
fn is_of_the_gateway(response: &Response) -> bool {
    let is_bare = response.body.is_empty() && matches!(response.status, 204 | 400);
    is_bare || response.header("content-type") == Some("application/problem+json")
}

/// Without a gateway the program takes many of these for a protected path: what is not seen above
/// is not for want of trying.
pub fn a_protected_path_is_seen_without_the_gateway(server: &Server) {
    let targets: Vec<String> = targets(&["/opt", "/api/health"]).into_iter().step_by(4).collect();
    let mut count = 0;
    for target in &targets {
        let mut connection = Connection::open(server.address);
        connection.write(
            &[b"GET ", &raw(target)[..], b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat(),
        );
        let seen = connection.try_read_response(false).as_ref().and_then(Seen::of);
        count += usize::from(seen.is_some_and(|seen| protected(&seen, OPEN_PATHS).is_some()));
    }
    let name = server.program.name;
    println!("{name}: without the gateway, {count} of {} are read as a protected path", targets.len());
    assert!(count > 10);
}
