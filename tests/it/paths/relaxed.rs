//! Routes that accept every spelling: what reaches a backend is on its route in every reading.

use menshen::path::Spelling;

use super::Verdict::{self, Reaches, Status};
use super::{
    CLOSED, CLOSED_PATHS, OPEN, OPEN_PATHS, assert_verdict, get, hidden, search, send, send_over_http2, world,
};
use crate::common::http2::Http2;
use crate::common::{Connection, Tally, World};

/// The same routes, all of which accept every spelling.
pub fn accepting_every_spelling(routes: &str) -> String {
    let names = Vec::from_iter(Spelling::ALL.map(Spelling::name)).join(", ");
    let allow = format!("upstream: backend, paths: {{ allow: [{names}, brackets] }} }}");
    let relaxed = routes.replace("upstream: backend }", &allow);
    assert_eq!(relaxed.matches("paths:").count(), routes.matches("upstream:").count());
    relaxed
}

/// Targets in [`OPEN`], all of whose routes accept every spelling.
const RELAXED: &[(&str, &str, Verdict)] = &[
    // What stands behind the route's own path is forwarded as it came.
    ("B6", "/x/a;jsessionid=1/b", Reaches("/x/a;jsessionid=1/b")),
    ("B6", "/x;", Reaches("/x;")),
    ("B6", "/;x", Reaches("/;x")),
    ("B6", "/%61;B=%61", Reaches("/%61;B=%61")),
    ("B20", "/x//y/", Reaches("/x//y/")),
    ("B20", "//x", Reaches("//x")),
    ("B20", "/x///", Reaches("/x///")),
    ("B3", "/x%2Fy%2fz", Reaches("/x%2Fy%2fz")),
    ("B3", "/x/%2F", Reaches("/x/%2F")),
    ("B3", "/x%23y%3Fz%3bw?q", Reaches("/x%23y%3Fz%3bw?q")),
    ("B17", "/\u{e4}\u{bd}\u{a0}/x?q=1", Reaches("/\u{4f60}/x?q=1")),
    ("B17", "/x/%C4%E3%ba%c3.txt", Reaches("/x/%C4%E3%ba%c3.txt")),
    ("B17", "/x/%c0%af", Reaches("/x/%c0%af")),
    ("B21", "http://gateway.test/%61//b;c", Reaches("/%61//b;c")),
    ("-", "/api/health/x;y", Reaches("/api/health/x;y")),
    ("-", "/api/health//x", Reaches("/api/health//x")),
    ("-", "/opt/x%2Fy", Reaches("/opt/x%2Fy")),
    ("-", "/api/x;y", Status(401)),
    ("-", "/api//x", Status(401)),
    ("-", "/api/x%2Fhealth", Status(401)),
    // Some backend reads another route's path.
    ("B3", "/%2Fapi", Status(400)),
    ("B3", "/x%2F..%2Fapi", Status(400)),
    ("B3", "/api%2Fx", Status(400)),
    ("B3", "/api%3Fx", Status(400)),
    ("B3", "/api%23", Status(400)),
    ("B5", "/api/health%2Fx", Status(400)),
    ("B5", "/api/health/..%2Fx", Status(400)),
    ("B6", "/api;x", Status(400)),
    ("B6", "/;x/api", Status(400)),
    ("B6", "/;/api/health", Status(400)),
    ("B6", "/api;x/health", Status(400)),
    ("B6", "/api/;x/health", Status(400)),
    ("B6", "/x/..;/api", Status(400)),
    ("B6", "/x/%2e%2e;/api", Status(400)),
    ("B6", "/x;/../api", Status(400)),
    ("B11", "/%61pi/x;y", Status(400)),
    ("B11", "/caf\u{c3}\u{a9}/x", Status(400)),
    ("B17", "/%c0%af", Status(400)),
    ("B17", "/caf%e9", Status(400)),
    ("B17", "/a%ffpi", Status(400)),
    ("B17", "/ap%c1%a9", Status(400)),
    ("B17", "/ap%a3%e9", Status(400)),
    ("B20", "//api", Status(400)),
    ("B20", "//x/api", Status(400)),
    ("B20", "/api//health", Status(400)),
    ("B20", "//pub/../api", Status(400)),
    // Of the gateway's own endpoints, nothing is forwarded in any reading.
    ("-", "//auth/login", Status(400)),
    ("-", "/auth//login", Status(400)),
    ("-", "/auth;x/login", Status(400)),
    ("-", "/auth/login;x", Status(400)),
    ("-", "/auth%2Flogin", Status(400)),
    ("-", "//x/auth/login", Status(400)),
    ("-", "/.well-known//jwks.json", Status(400)),
    ("-", "/.well-known/jwks.json;x", Status(400)),
    // What no route can accept.
    ("B2", "/x/%2e%2e/api;y", Status(400)),
    ("B3", "/x%5Cy;z", Status(400)),
    ("B3", "/x%00;z", Status(400)),
    ("B3", "/x%0d%0a;z", Status(400)),
    ("B11", "/%252Fapi", Status(400)),
    ("B11", "/%25%32Fapi;x", Status(400)),
    ("B17", "/x;\\y", Status(400)),
    ("B17", "/x;\"", Status(400)),
    ("B17", "/\u{e4}\u{bd};x", Status(400)),
    ("B17", "/x; y", Status(400)),
];

#[test]
fn where_every_spelling_is_accepted_a_path_reaches_the_route_that_it_has_in_every_reading() {
    let world = world(&accepting_every_spelling(OPEN));
    let mut tally = Tally::default();
    for (row, target, expected) in RELAXED {
        assert_verdict(&world, row, &get(target), *expected, &mut tally);
    }
    tally.report("paths: every spelling accepted");
}

/// What is refused or protected where nothing is accepted reaches no protected path where every
/// spelling is.
#[test]
fn where_every_spelling_is_accepted_no_known_disguise_works() {
    let world = world(&accepting_every_spelling(OPEN));
    let mut tally = Tally::default();
    for (row, target, expected) in hidden() {
        match target {
            // Paths of the public route in every reading.
            &"/x%2f" | &"/x%2F" | &"/users/1%2Fadmin" | &"/foo/secret%23/bar" | &"///pub" | &"//" => {}
            // A path of the protected route in every reading.
            &"/api//" => assert_verdict(&world, row, &get(target), Status(401), &mut tally),
            _ => assert_verdict(&world, row, &get(target), *expected, &mut tally),
        }
    }
    tally.report("paths: hidden, every spelling accepted");
}

#[test]
fn where_every_spelling_is_accepted_no_generated_target_reaches_the_backend_as_a_protected_path() {
    for (what, routes, paths) in [("open", OPEN, OPEN_PATHS), ("closed", CLOSED, CLOSED_PATHS)] {
        let world = world(&accepting_every_spelling(routes));
        let mut connection: Connection = world.connect();
        search(&format!("{what}, every spelling accepted"), 4000, paths, true, |target| {
            send(&world, &mut connection, target)
        });
        let mut connection = Http2::open(world.address());
        search(&format!("{what}, every spelling accepted, HTTP/2"), 1500, paths, true, |target| {
            send_over_http2(&world, &mut connection, target)
        });
    }
}

/// What the route itself accepts counts, not what another route, host or method does.
#[test]
fn an_accepted_spelling_is_of_its_route_alone() {
    let world = world(
        "
routes:
  - { name: root, path: /, access: public, upstream: backend }
  - { name: shop, path: /shop, access: public, upstream: backend, paths: { allow: [semicolon] } }
  - { name: cart, path: /shop/cart, access: public, upstream: backend }
  - { name: read, path: /ro, methods: [GET], access: public, upstream: backend, paths: { allow: [semicolon] } }
  - { name: write, path: /ro, access: public, upstream: backend }
  - { name: host, hosts: [h.example.com], path: /, access: public, upstream: backend, paths: { allow: [semicolon] } }
listeners:
  - { address: 127.0.0.1:0, h2c: true }
",
    );
    for (line, host, expected) in [
        ("GET /shop/x;y", "a.test", 200),
        ("GET /shop/cart/x;y", "a.test", 400),
        ("GET /shop/x;y/cart", "a.test", 200),
        ("GET /x;y", "a.test", 400),
        ("GET /shop/x;y%2Fz", "a.test", 400),
        ("GET /ro/x;y", "a.test", 200),
        ("DELETE /ro/x;y", "a.test", 400),
        ("GET /x;y", "h.example.com", 200),
        ("GET /shop/cart/x;y", "h.example.com", 200),
        ("GET /x//y", "h.example.com", 400),
    ] {
        let answer = world.send(&format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));

        assert_eq!(answer.status, expected, "{line} {host}");
    }
}

/// A client reads what is wrong, and an operator what to write.
#[test]
fn a_refused_path_names_what_would_let_it_through() {
    let world = world(OPEN);
    for (target, detail) in [
        (
            "/x;y",
            "the path has a `;`, which backends read in different ways: to accept it, add `semicolon` to `routes[0].paths.allow`",
        ),
        (
            "/opt/a%2Fb//c",
            "the path has an empty segment (`//`) and a `%2F`, which backends read in different ways: to accept it, add `empty_segment` and `encoded_slash` to `routes[8].paths.allow`",
        ),
        (
            "//api",
            "the path has an empty segment (`//`), and not all backends read it as a path of the same route: `routes[].paths.allow` cannot change that",
        ),
        ("/x/..;/api", "the path has a dot segment"),
    ] {
        let answer = world.get(target, "");

        assert_eq!(answer.status, 400, "{target}");
        assert_eq!(answer.json()["code"], "path_refused", "{target}");
        assert_eq!(answer.json()["detail"], detail, "{target}");
    }
    assert_eq!(world.get("/a[b]/[...c]?d[]=e", "").status, 200);
    assert_eq!(world.backend.last().target(), "/a[b]/[...c]?d[]=e");
}

#[test]
fn a_world_with_one_route_accepts_two_slashes_at_the_start() {
    // `baseUrl + '/' + '/orders'`, the commonest slip of mini programs.
    let world: World = world(
        "
routes:
  - { path: /, access: public, upstream: backend, paths: { allow: [empty_segment] } }
listeners:
  - { address: 127.0.0.1:0, h2c: true }
",
    );
    for target in ["//orders", "//orders/7", "///orders", "/v1//orders/"] {
        assert_eq!(world.get(target, "").status, 200, "{target}");
        assert_eq!(world.backend.last().target(), target);
    }
}
