//! A reload decides again on everything that is open: host, path, method, access, app, rules, and
//! the credential that the caller showed.

use super::exchange::{Kind, OpenExchange, start};
use super::{SECOND, world};
use crate::common::{World, eventually, now};
use crate::proxying::{logged, pass};

/// A client that is silent is not cut off while a test goes on.
const PATIENT: &str = "limits: { read_timeout: 60s, min_body_rate: 0B }\n";

/// The name of a route, what it says before and after a reload, and why a request on it is cut.
type ReloadedRoute = (&'static str, &'static str, &'static str, Option<&'static str>);

/// What each route says before and after a reload, and why a request on it is cut then.
const RELOADED: &[ReloadedRoute] = &[
    ("kept", "path: /kept, access: authenticated", "path: /kept, access: authenticated", None),
    ("elsewhere", "path: /elsewhere, access: authenticated", "path: /elsewhere, access: optional", None),
    ("opened", "path: /opened, access: authenticated", "path: /opened, access: public", None),
    ("gone", "path: /gone, access: authenticated", "path: /other, access: public", Some("route_unknown")),
    (
        "host",
        "path: /host, access: authenticated",
        "path: /host, hosts: [b.test], access: public",
        Some("route_unknown"),
    ),
    (
        "method",
        "path: /method, access: authenticated",
        "path: /method, methods: [DELETE], access: public",
        Some("method_not_allowed"),
    ),
    (
        "app",
        "path: /app, access: authenticated",
        "path: /app, access: authenticated, apps: [other]",
        Some("app_not_admitted"),
    ),
    (
        "rules",
        "path: /rules, access: authenticated",
        "path: /rules, access: authenticated, require_claims: { role: [admin] }",
        Some("claim_missing"),
    ),
    (
        "denied",
        "path: /denied, access: authenticated",
        "path: /denied, access: authenticated, require_user: true",
        Some("user_unbound"),
    ),
    (
        "anonymous",
        "path: /anonymous, access: public",
        "path: /anonymous, access: authenticated",
        Some("no_token"),
    ),
    (
        "optional",
        "path: /optional, access: optional",
        "path: /optional, access: authenticated",
        Some("no_token"),
    ),
    ("vanished", "path: /vanished, access: public", "path: /other2, access: public", Some("route_unknown")),
    ("public", "path: /public, access: public", "path: /public, access: optional", None),
];

/// What each route says besides, before and after the reload.
fn websocket(name: &str) -> [&'static str; 2] {
    // The one route that takes only this away.
    if name == "kept" { [", websocket: true", ""] } else { [", websocket: true"; 2] }
}

/// Reloads, and sees that those exchanges end in time that have a reason, and no others.
fn assert_reload_cuts(world: &World, opened: &[(String, OpenExchange, Option<&str>)]) {
    let began = now();
    world.gateway().reload().unwrap();

    for (path, exchange, reason) in opened {
        let Some(reason) = reason else { continue };
        eventually(&format!("{path} ends"), || exchange.has_ended());
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
        assert_eq!(logged(world, path)["reason"], *reason, "{path}");
    }
    pass(SECOND);
    for (path, exchange, reason) in opened {
        assert!(reason.is_some() || !exchange.has_ended(), "{path} was admitted and is cut");
    }
}

#[test]
fn a_reload_decides_again_on_all_that_is_open_and_cuts_what_it_does_not_admit_and_nothing_else() {
    let routes = |at: usize| {
        let line = |(name, before, after, _): &ReloadedRoute| {
            let (route, websocket) = ([before, after][at], websocket(name)[at]);
            format!("  - {{ name: {name}, upstream: backend, {route}{websocket} }}\n")
        };
        format!("routes:\n{}", RELOADED.iter().map(line).collect::<String>())
    };
    let apps = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  other: { kind: official_account, appid: wxe000000000000005, secret: emulator-secret-5 }
login: { origins: ['https://gateway.test'] }
";
    let world = world(&format!("{PATIENT}{apps}{}", routes(0)));
    let alice = world.bearer("alice");
    let mut opened: Vec<(String, OpenExchange, Option<&str>)> = Vec::new();
    for (name, before, _, reason) in RELOADED {
        let bearer = if before.contains("authenticated") { &alice } else { "" };
        for kind in [Kind::Events, Kind::Poll, Kind::SilentUpload, Kind::WebSocket] {
            for is_http2 in [false, true] {
                if kind == Kind::WebSocket && is_http2 {
                    continue;
                }
                let path = format!("/{name}/{}/{is_http2}", kind.name());
                let reason = match (*reason, kind) {
                    (None, Kind::WebSocket) if *name == "kept" => Some("websocket_not_allowed"),
                    (reason, _) => reason,
                };
                let exchange = start(world.address(), kind, is_http2, &path, bearer);
                opened.push((path, exchange, reason));
            }
        }
    }
    eventually("all are under way", || world.metric("menshen_requests_under_way") == opened.len() as f64);

    edit(&world, &routes(0), &routes(1));
    assert_reload_cuts(&world, &opened);

    let shop = "  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }\n";
    edit(&world, shop, "");
    let began = now();
    world.gateway().reload().unwrap();

    let of_shop = |path: &str| ["/kept/", "/elsewhere/"].into_iter().any(|route| path.starts_with(route));
    for (path, exchange, _) in opened.iter().filter(|(path, _, reason)| of_shop(path) && reason.is_none()) {
        eventually(&format!("{path} ends"), || exchange.has_ended());
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, path)["reason"], "unknown_app", "{path}");
    }
    for (path, exchange, _) in opened.iter().filter(|(path, ..)| path.starts_with("/public/")) {
        assert!(!exchange.has_ended(), "{path} is of no app");
    }
}

/// Writes another configuration, in which this text is replaced.
pub fn edit(world: &World, from: &str, to: &str) {
    let path = world.data.path().join("menshen.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

const KEYS: [&str; 3] = [
    "keys: [{ kid: old, algorithm: HS256, secret: 0123456789abcdef0123456789abcdef }]",
    "keys: [{ kid: new, algorithm: HS256, secret: fedcba9876543210fedcba9876543210 }, { kid: old, algorithm: HS256, secret: 0123456789abcdef0123456789abcdef }]",
    "keys: [{ kid: new, algorithm: HS256, secret: fedcba9876543210fedcba9876543210 }]",
];
const SOURCES: [&str; 2] = [
    "sources: { bearer: true, raw_authorization: true, header: X-Token, cookie: token, websocket_query: token }",
    "sources: { bearer: true, cookie: token }",
];

/// What a request shows of its caller, and why it is cut off by a reload that takes sources, a key
/// and `allow_cross_site` away.
struct Shown {
    name: &'static str,
    /// Header lines.
    headers: String,
    query: String,
    reason: Option<&'static str>,
}

/// What a client can show with an older token and a newer one.
fn shown(old: &str, new: &str) -> Vec<Shown> {
    let row = |name, headers: String, reason| Shown { name, headers, query: String::new(), reason };
    let cookie = format!("Cookie: token={new}\r\n");
    vec![
        row("bearer", format!("Authorization: Bearer {new}\r\n"), None),
        row("raw", format!("Authorization: {new}\r\n"), Some("no_token")),
        row("header", format!("X-Token: {new}\r\n"), Some("no_token")),
        row("both", format!("Authorization: Bearer {new}\r\nX-Token: {new}\r\n"), None),
        row("cookie", cookie.clone(), None),
        row("own-site", format!("{cookie}Sec-Fetch-Site: same-origin\r\n"), None),
        row("other-site", format!("{cookie}Sec-Fetch-Site: cross-site\r\n"), Some("cross_site")),
        row("old-key", format!("Authorization: Bearer {old}\r\n"), Some("unknown_key")),
        Shown {
            name: "query",
            headers: String::new(),
            query: format!("?token={new}"),
            reason: Some("no_token"),
        },
    ]
}

#[test]
fn what_a_reload_takes_from_a_credential_ends_what_was_opened_with_it_and_nothing_else() {
    let tokens = |keys: &str, sources: &str| format!("tokens:\n  {keys}\n  {sources}\n");
    let cross_site = ", websocket: true, allow_cross_site: true }";
    let routes = format!(
        "
routes:
  - {{ name: protected, path: /, access: authenticated, upstream: backend{cross_site}
"
    );
    let world = world(&format!("{PATIENT}{}{routes}", tokens(KEYS[0], SOURCES[0])));
    let old = world.sign_in("alice");
    edit(&world, KEYS[0], KEYS[1]);
    world.gateway().reload().unwrap();
    let new = world.sign_in("bob");
    let mut opened: Vec<(String, OpenExchange, Option<&str>)> = Vec::new();
    for Shown { name, headers, query, reason } in shown(&old, &new) {
        for (kind, is_http2) in [
            (Kind::BothWays, false),
            (Kind::BothWays, true),
            (Kind::SilentUpload, false),
            (Kind::SilentUpload, true),
            (Kind::WebSocket, false),
        ] {
            if !query.is_empty() && kind != Kind::WebSocket {
                continue;
            }
            let path = format!("/{name}/{}/{is_http2}", kind.name());
            let exchange = start(world.address(), kind, is_http2, &format!("{path}{query}"), &headers);
            opened.push((path, exchange, reason));
        }
    }
    eventually("all are under way", || world.metric("menshen_requests_under_way") == opened.len() as f64);

    edit(&world, KEYS[1], KEYS[2]);
    edit(&world, SOURCES[0], SOURCES[1]);
    edit(&world, cross_site, ", websocket: true }");
    assert_reload_cuts(&world, &opened);
}
