//! What real backends see behind the gateway, each in the way its language reads a request.
//!
//! The rows A1 to A16, B1 to B25 and the framing of the attack suites, against servers that fold
//! names, decode paths and cut messages as they do. The programs are in `tests/fixtures/backends`;
//! `scripts/test` installs what runs them, and a server that is missing fails its test.

mod asgi;
mod framing;
mod identity;
mod path;
mod seen;
pub mod server;

use crate::common::NO_THROTTLE;

use self::server::{DJANGO, EXPRESS, FLASK, PHP, Program, TOMCAT, UVICORN};

#[test]
fn php_behind_nginx_never_gets_another_identity_or_path() {
    assert_holds(&PHP);
}

#[test]
fn django_under_gunicorn_never_gets_another_identity_or_path() {
    assert_holds(&DJANGO);
}

#[test]
fn flask_never_gets_another_identity_or_path() {
    assert_holds(&FLASK);
}

#[test]
fn express_never_gets_another_identity_or_path() {
    assert_holds(&EXPRESS);
}

#[test]
fn a_servlet_in_tomcat_never_gets_another_identity_or_path() {
    assert_holds(&TOMCAT);
}

#[test]
fn an_asgi_application_under_uvicorn_never_gets_another_identity_or_path() {
    assert_holds(&UVICORN);
}

/// Tomcat writes `;jsessionid=` into the links of its first page itself.
#[test]
fn a_servlet_keeps_its_visitors_where_its_route_accepts_semicolons() {
    let server = TOMCAT.start();
    for (paths, expected) in [("paths: { allow: [semicolon] }", 200), ("paths: { allow: [] }", 400)] {
        let world = server.world(&format!(
            "routes:\n  - {{ path: /shop, access: public, upstream: backend, {paths} }}\n{NO_THROTTLE}"
        ));
        let first = world.get("/shop/", "").text();
        assert!(first.contains("page 1 of this visitor"), "{first}");
        let link = first.split_once("href=\"").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
        assert!(link.starts_with("/shop/cart/items;jsessionid="), "{link}");

        let second = world.get(link, "");

        assert_eq!(second.status, expected, "{link}");
        if expected == 200 {
            assert!(second.text().contains("page 2 of this visitor"), "{}", second.text());
        } else {
            assert!(second.json()["detail"].as_str().unwrap().contains("`routes[0].paths.allow`"));
        }
    }
}

fn assert_holds(program: &'static Program) {
    let server = program.start();
    identity::a_forged_header_works_without_the_gateway(&server);
    identity::exactly_the_one_who_signed_in_is_seen(&server);
    identity::no_spelling_is_seen(&server);
    identity::no_spelling_is_seen_over_http2(&server);
    identity::nothing_removes_the_identity(&server);
    identity::trailers_are_not_seen(&server);
    identity::no_other_method_or_host_is_seen(&server);
    path::no_protected_path_is_seen(&server);
    framing::only_whole_requests_are_seen(&server);
    // Last, for a server may refuse such a path as malformed.
    path::where_every_spelling_is_accepted_no_protected_path_is_seen(&server);
    path::a_protected_path_is_seen_without_the_gateway(&server);
}
