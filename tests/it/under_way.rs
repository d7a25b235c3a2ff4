//! Requests under way: all that somebody is authenticated in ends with the session, whatever passes
//! through it, and a reload decides again on everything that is open.

mod budget;
pub mod exchange;

use std::time::Duration;

use self::exchange::{Kind, OpenExchange, serve, start};
use crate::common::{NO_THROTTLE, World, eventually, now};
use crate::proxying::{logged, pass};

const SECOND: Duration = Duration::from_secs(1);
const LISTENERS: &str = "listeners: [{ address: '127.0.0.1:0', h2c: true }]\n";
const ROUTES: &str = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
";

fn world(sections: &str) -> World {
    let backend = serve();
    let upstreams = format!("upstreams:\n  backend: {{ servers: ['{backend}'] }}\n");
    World::with(&format!("{LISTENERS}{upstreams}{NO_THROTTLE}{sections}"))
}

fn log_out(world: &World, bearer: &str) {
    let answer = world.send(&format!(
        "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n{bearer}\r\n"
    ));
    assert_eq!(answer.status, 204);
}

/// Opens an exchange of each kind over each version of HTTP, under a path that begins so.
fn open_all(world: &World, name: &str, bearer: &str) -> Vec<(String, OpenExchange)> {
    let kinds = Kind::ALL.iter().flat_map(|kind| [(*kind, false), (*kind, true)]);
    let opened = kinds.map(|(kind, is_http2)| {
        let path = format!("/{name}/{}/{}", kind.name(), if is_http2 { "h2" } else { "h1" });
        let exchange = start(world.address(), kind, is_http2, &path, bearer);
        (path, exchange)
    });
    opened.collect()
}

#[test]
fn whatever_is_under_way_ends_with_its_session_and_nobody_elses_does() {
    let world = world(ROUTES);
    let (alice, bob) = (world.bearer("alice"), world.bearer("bob"));
    let ended = open_all(&world, "alice", &alice);
    let kept = open_all(&world, "bob", &bob);
    // Of another session of the same user, whose lease ends as well.
    let other_session = open_all(&world, "other", &world.bearer("alice"));
    pass(Duration::from_millis(100));

    let began = now();
    log_out(&world, &alice);

    for (path, exchange) in ended {
        exchange.ended();
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
        let line = logged(&world, &path);
        assert_eq!(
            (&line["decision"], &line["reason"]),
            (&"refused".into(), &"session_ended".into()),
            "{path}"
        );
    }
    pass(SECOND);
    for (path, exchange) in kept.into_iter().chain(other_session) {
        assert!(!exchange.has_ended(), "{path}");
    }
    let counted = world.metric("menshen_refused_requests_total{reason=\"session_ended\"}");
    assert_eq!(counted, (Kind::ALL.len() * 2) as f64);
}

#[test]
fn whatever_is_under_way_ends_when_its_person_is_blocked() {
    let world = world(ROUTES);
    let alice = world.bearer("alice");
    // Long enough to be followed by a task each.
    let ended = open_all(&world, "alice", &alice);
    pass(SECOND);
    let session = world.get("/auth/session", &alice).json();

    let began = now();
    let who = serde_json::json!({ "app": "shop", "openid": session["openid"] });
    assert_eq!(world.control("POST /people/block", &who).status, 200);

    for (path, exchange) in ended {
        exchange.ended();
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, &path)["reason"], "blocked", "{path}");
    }
}

#[test]
fn a_client_that_still_waits_for_an_answer_is_told_why_it_gets_none() {
    let world = world(ROUTES);
    for (kind, code_200) in [(Kind::Poll, 401), (Kind::Upload, 401), (Kind::SilentUpload, 401)] {
        let alice = world.bearer("alice");
        let path = format!("/told/{}/h1", kind.name());
        let exchange = start(world.address(), kind, false, &path, &alice);
        pass(Duration::from_millis(100));

        log_out(&world, &alice);

        assert_eq!(exchange.ended(), code_200, "{path}");
        assert_eq!(logged(&world, &path)["http.response.status_code"], 401, "{path}");
    }
}

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
        "anonymous",
        "path: /anonymous, access: public",
        "path: /anonymous, access: authenticated",
        Some("no_token"),
    ),
];

#[test]
fn a_reload_decides_again_on_all_that_is_open_and_cuts_what_it_does_not_admit_and_nothing_else() {
    let routes = |line: fn(&ReloadedRoute) -> &'static str| {
        let lines = RELOADED
            .iter()
            .map(|row| format!("  - {{ name: {}, upstream: backend, {} }}\n", row.0, line(row)));
        format!("routes:\n{}", lines.collect::<String>())
    };
    let apps = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  other: { kind: official_account, appid: wxe000000000000005, secret: emulator-secret-5 }
login: { origins: ['https://gateway.test'] }
";
    let world = world(&format!("{apps}{}", routes(|row| row.1)));
    let alice = world.bearer("alice");
    let opened: Vec<_> = RELOADED
        .iter()
        .flat_map(|(name, before, _, reason)| {
            let bearer = if before.contains("public") { "" } else { &alice };
            // On a public route a request is decided again when something passes.
            let kinds: &[Kind] =
                if before.contains("public") { &[Kind::Events] } else { &[Kind::Events, Kind::Poll] };
            kinds
                .iter()
                .flat_map(|kind| [(*kind, false), (*kind, true)])
                .map(|(kind, is_http2)| {
                    let path = format!("/{name}/{}/{is_http2}", kind.name());
                    (start(world.address(), kind, is_http2, &path, bearer), path, *reason)
                })
                .collect::<Vec<_>>()
        })
        .collect();
    pass(Duration::from_millis(100));

    let path = world.data.path().join("menshen.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(&routes(|row| row.1), &routes(|row| row.2));
    std::fs::write(&path, &text).unwrap();
    let began = now();
    world.gateway().reload().unwrap();

    for (exchange, path, reason) in &opened {
        let Some(reason) = reason else { continue };
        eventually(&format!("{path} ends"), || exchange.has_ended());
        let time = began.elapsed();
        assert!(time < SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, path)["reason"], *reason, "{path}");
    }
    pass(SECOND);
    for (exchange, path, reason) in &opened {
        assert!(reason.is_some() || !exchange.has_ended(), "{path} was admitted and is cut");
    }

    let shop = "  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }\n";
    assert!(text.contains(shop));
    std::fs::write(&path, text.replace(shop, "")).unwrap();
    world.gateway().reload().unwrap();

    for (exchange, path, _) in opened.iter().filter(|(_, path, _)| path.starts_with("/kept/")) {
        eventually(&format!("{path} ends"), || exchange.has_ended());
        assert_eq!(logged(&world, path)["reason"], "unknown_app", "{path}");
    }
}

#[test]
fn a_silent_body_is_not_waited_for_longer_than_the_limit_and_the_client_is_to_blame() {
    let world = world(&format!("{ROUTES}limits: {{ read_timeout: 1s }}\n"));
    let alice = world.bearer("alice");
    for is_http2 in [false, true] {
        let path = format!("/silent/{is_http2}");

        let began = now();
        start(world.address(), Kind::SilentUpload, is_http2, &path, &alice).ended();

        let time = began.elapsed();
        assert!(time > Duration::from_millis(900) && time < 4 * SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, &path)["reason"], "client_timeout", "{path}");
    }
    assert_eq!(world.metric("menshen_refused_requests_total{reason=\"client_timeout\"}"), 2.0);
}

#[test]
fn a_body_that_has_come_too_slowly_is_given_up_though_nothing_more_of_it_comes() {
    let world = world(&format!("{ROUTES}limits: {{ read_timeout: 60s }}\n"));
    let alice = world.bearer("alice");
    let began = now();
    let exchanges = [false, true].map(|is_http2| {
        let path = format!("/slow/{is_http2}");
        (start(world.address(), Kind::SilentUpload, is_http2, &path, &alice), path)
    });

    for (exchange, path) in exchanges {
        exchange.ended();

        let time = began.elapsed();
        assert!(time > 9 * SECOND && time < 15 * SECOND, "{path}: {time:?}");
        assert_eq!(logged(&world, &path)["reason"], "client_timeout", "{path}");
    }
}
