//! Which user a real backend reads from a request: the one who signed in, or none.

use super::seen::Seen;
use super::server::Server;
use crate::common::http2::{self, Http2};
use crate::common::{Connection, NO_THROTTLE, ROUTES, Response, Tally};
use crate::identity::spelling::{VICTIM, aliases, plain};
use crate::identity::{CLOUD_RUN_NAMES, Client, GENEROUS, Kind, LISTENERS, Scene};

/// The members that a program reads, by the headers that carry them.
const MEMBERS: &[(&str, &str)] = &[
    ("X-WX-OPENID", "openid"),
    ("X-WX-UNIONID", "unionid"),
    ("X-WX-APPID", "appid"),
    ("X-WX-SOURCE", "source"),
];

fn scene(server: &Server, header_names: &str) -> Scene {
    let limits = format!("limits: {{ header_names: {header_names}, {GENEROUS} }}\n");
    let sections = format!("{ROUTES}{NO_THROTTLE}{limits}{LISTENERS}{CLOUD_RUN_NAMES}");
    Scene::of(server.world(&sections), false)
}

/// Judges one answer; one that neither the gateway nor the program gave fails the test.
fn judge(scene: &Scene, kind: &Kind, input: &str, (status, seen): (u16, Option<Seen>), tally: &mut Tally) {
    let recorded = seen.as_ref().map(Seen::recorded);
    assert_eq!(status == 200, recorded.is_some(), "{}: {input}: {status}", kind.name);
    assert!(matches!(status, 200 | 400 | 401), "{}: {input}: {status}", kind.name);
    scene.judge(kind, input, status, recorded.as_ref(), tally);
    let Some(seen) = seen else { return };
    assert_eq!(seen.target(), kind.path, "{}: {input}", kind.name);
    for (header, member) in MEMBERS {
        let known = scene.injected.iter().find(|(name, _)| name == header).map(|(_, value)| value.as_str());
        let expected = known.filter(|_| kind.is_identified);
        for read in seen.identity(member) {
            assert_eq!(read, expected, "{}: {input}: {member}", kind.name);
        }
    }
}

fn answer(response: Option<&Response>) -> (u16, Option<Seen>) {
    (response.map_or(0, |response| response.status), response.and_then(Seen::of))
}

fn lines(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}: {VICTIM}\r\n")).collect()
}

fn print(server: &Server, what: &str, tally: &Tally) {
    tally.report(&format!("{}: {what}", server.program.name));
}

/// Without a gateway the program believes the header, and one that folds names believes aliases
/// too: what the others here find is the gateway's doing.
pub fn a_forged_header_works_without_the_gateway(server: &Server) {
    let believed = |name: &str| {
        let request =
            format!("GET /x HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n{name}: {VICTIM}\r\n\r\n");
        let response = Connection::open(server.address).send(request.as_bytes());
        Seen::of(&response).is_some_and(|seen| seen.identity("openid").contains(&Some(VICTIM)))
    };
    assert!(plain("X-WX-OPENID").iter().all(|name| believed(name)));
    let all = aliases("X-WX-OPENID");
    let count = all.iter().filter(|name| believed(name)).count();
    println!("{}: without the gateway, {count} of {} aliases are believed", server.program.name, all.len());
    assert_eq!(count > 0, server.program.folds_names);
}

/// A1, A2: what the gateway knows and no more, on every kind of route.
pub fn exactly_the_one_who_signed_in_is_seen(server: &Server) {
    let scene = scene(server, "refuse");
    let mut client = Client::new(&scene.world);
    let mut tally = Tally::default();
    for kind in scene.kinds() {
        let (status, seen) = answer(client.get(&kind, "", "").as_ref());
        assert_eq!(status, kind.status, "{}", kind.name);
        judge(&scene, &kind, "nothing forged", (status, seen), &mut tally);
    }
    print(server, "nothing forged", &tally);
    assert_eq!(tally.reached, 5);
}

/// A1 to A6: every spelling of every managed name, on every kind of route.
pub fn no_spelling_is_seen(server: &Server) {
    for header_names in ["refuse", "strip", "pass"] {
        let scene = scene(server, header_names);
        let mut client = Client::new(&scene.world);
        let mut tally = Tally::default();
        let plain: Vec<String> = scene.managed.iter().flat_map(|name| plain(name)).collect();
        let aliases: Vec<String> = scene.managed.iter().flat_map(|name| aliases(name)).collect();
        let refuses = header_names == "refuse";
        for kind in scene.kinds() {
            for batch in plain.chunks(4) {
                let forged = lines(batch);
                for (before, after) in [(&*forged, ""), ("", &*forged), (&*forged, &*forged)] {
                    let (status, seen) = answer(client.get(&kind, before, after).as_ref());
                    assert_eq!(status, kind.status, "{}: {forged}", kind.name);
                    judge(&scene, &kind, &forged, (status, seen), &mut tally);
                }
            }
            // A name is refused before the route is known: all of them on one route, some on the
            // others.
            let step = if kind.name == "public without" { 1 } else { 61 };
            let batches: Vec<&[String]> = if refuses {
                aliases.chunks(1).step_by(step).collect()
            } else {
                aliases.chunks(60).collect()
            };
            for batch in batches {
                let forged = lines(batch);
                let (status, seen) = answer(client.get(&kind, "", &forged).as_ref());
                assert_eq!(status, if refuses { 400 } else { kind.status }, "{}: {forged}", kind.name);
                judge(&scene, &kind, &forged, (status, seen), &mut tally);
            }
        }
        print(server, &format!("{} spellings, {header_names}", plain.len() + aliases.len()), &tally);
        assert!(aliases.len() > 3000 && tally.reached > 400, "{tally:?}");
    }
}

/// A3 to A6 over HTTP/2, where names come in lower case.
pub fn no_spelling_is_seen_over_http2(server: &Server) {
    for header_names in ["strip", "pass"] {
        let scene = scene(server, header_names);
        let mut connection = Http2::open(scene.world.address());
        let mut tally = Tally::default();
        let all = scene.managed.iter().flat_map(|name| [plain(name), aliases(name)].concat());
        let lower: Vec<String> =
            all.filter(|name| !name.bytes().any(|byte| byte.is_ascii_uppercase())).collect();
        for kind in scene.kinds() {
            let token = kind.authorization.trim().strip_prefix("Authorization: ").unwrap_or_default();
            for batch in lower.chunks(60) {
                let mut forged: http2::Fields<'_> =
                    batch.iter().map(|name| (name.as_bytes(), VICTIM.as_bytes())).collect();
                if !token.is_empty() {
                    forged.push((b"authorization", token.as_bytes()));
                }
                let outcome = connection.send(&http2::fields("GET", kind.path.as_bytes(), &forged));
                assert_eq!(outcome.status(), kind.status, "{}: {batch:?}: {outcome:?}", kind.name);
                let seen = outcome.echoed().and_then(|echoed| Seen::parse(echoed.head.as_bytes()));
                judge(&scene, &kind, &format!("{batch:?}"), (outcome.status(), seen), &mut tally);
            }
        }
        print(server, &format!("{} spellings, HTTP/2, {header_names}", lower.len()), &tally);
        assert!(tally.reached > 100, "{tally:?}");
    }
}

/// A7, A9, A10: neither `Connection` nor repetition, nor the two together.
pub fn nothing_removes_the_identity(server: &Server) {
    for header_names in ["refuse", "pass"] {
        let scene = scene(server, header_names);
        let mut client = Client::new(&scene.world);
        let mut tally = Tally::default();
        for kind in scene.kinds() {
            for (name, _) in MEMBERS {
                let alias = name.replace('-', "_");
                let dotted = name.replace('-', ".");
                for lines in [
                    format!("Connection: close, {name}\r\n"),
                    format!("Connection: keep-alive\r\nConnection: {name}\r\n{name}: {VICTIM}\r\n"),
                    format!("Connection: {name}, {alias}\r\n{name}: {VICTIM}\r\n{alias}: {VICTIM}\r\n"),
                    format!("Connection: {name}\r\n{dotted}: {VICTIM}\r\n"),
                    format!("Connection: {alias}\r\n{alias}: {VICTIM}\r\n"),
                    format!("Keep-Alive: {name}\r\nProxy-Connection: {name}\r\nTE: {name}\r\n"),
                    format!("{name}: {VICTIM}\r\n{name}: {VICTIM}\r\n{name}:\r\n"),
                    format!("{name}: {VICTIM}, {VICTIM}\r\n{alias}: {VICTIM}\r\n{dotted}: {VICTIM}\r\n"),
                    format!("{name}: \r\n{alias}: \r\n"),
                ] {
                    let (status, seen) = answer(client.get(&kind, "", &lines).as_ref());
                    assert!([kind.status, 400].contains(&status), "{}: {lines}: {status}", kind.name);
                    judge(&scene, &kind, &lines, (status, seen), &mut tally);
                }
            }
        }
        print(server, &format!("nominated or repeated, {header_names}"), &tally);
        assert!(tally.reached > 40, "{tally:?}");
    }
}

/// A16: nor what comes after a body.
pub fn trailers_are_not_seen(server: &Server) {
    let scene = scene(server, "pass");
    let mut tally = Tally::default();
    for kind in scene.kinds() {
        for name in ["X-WX-OPENID", "X_WX_OPENID", "x.wx.openid", "Authorization", "X-Forwarded-For"] {
            let Kind { path, authorization, .. } = &kind;
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: gateway.test\r\n{authorization}Transfer-Encoding: chunked\r\n\
                 Trailer: {name}\r\n\r\n1\r\nx\r\n0\r\n{name}: {VICTIM}\r\n\r\n"
            );
            let response = scene.world.connect().send(request.as_bytes());
            assert_eq!(response.status, kind.status, "{}: {name}", kind.name);
            judge(&scene, &kind, name, answer(Some(&response)), &mut tally);
        }
    }
    print(server, "trailers", &tally);
}

/// A11, B12, B25: the request line says method and path, and one `Host` the host.
pub fn no_other_method_or_host_is_seen(server: &Server) {
    let routes = "
routes:
  - { name: read, path: /, methods: [GET], access: public, upstream: backend }
  - { name: write, path: /, access: authenticated, upstream: backend }
";
    let limits = format!("limits: {{ header_names: pass, {GENEROUS} }}\n");
    let world = server.world(&format!("{routes}{NO_THROTTLE}{limits}"));
    let overrides = [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-URI",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
    ];
    let mut tally = Tally::default();
    for name in overrides {
        for spelled in [plain(name), aliases(name)].concat().chunks(20) {
            let forged: String = spelled.iter().map(|name| format!("{name}: DELETE\r\n")).collect();
            let response = world.get("/x", &forged);
            let (status, seen) = answer(Some(&response));
            let recorded = seen.unwrap_or_else(|| panic!("{forged}: {status}")).recorded();
            assert_eq!(recorded.request_line(), "GET /x HTTP/1.1", "{forged}");
            assert!(!recorded.head.contains("DELETE"), "{forged}{}", recorded.head);
            tally.add(status, 1);
        }
    }
    let before = server.position();
    for hosts in [
        "Host: gateway.test\r\nHost: victim.test",
        "Host: gateway.test\r\nHost: gateway.test",
        "Host: gateway.test\r\nhost : victim.test",
        "Host: gateway.test, victim.test",
        "Host: gateway.test\r\n Host: victim.test",
        "Host: victim.test@gateway.test",
        "X-Host: gateway.test",
    ] {
        let request = format!("GET /x HTTP/1.1\r\n{hosts}\r\n\r\n");
        let mut connection = world.connect();
        connection.write(request.as_bytes());
        let (status, _) = answer(connection.try_read_response(false).as_ref());
        assert_eq!(status, 400, "{hosts}");
        tally.add(status, 0);
    }
    assert!(server.seen_since(before).is_empty());
    print(server, "other methods, paths and hosts in headers", &tally);
}
