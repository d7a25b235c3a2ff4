//! Methods of WebDAV and QUERY: only where a route names them, and as they came.

use crate::common::{NO_THROTTLE, Response, World};
use crate::proxying::logged;

const NAMED: [&str; 22] = [
    "ACL",
    "BASELINE-CONTROL",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REPORT",
    "SEARCH",
    "UNCHECKOUT",
    "UNLOCK",
    "VERSION-CONTROL",
];

fn world() -> World {
    let named = NAMED.join(", ");
    World::with(&format!(
        "{NO_THROTTLE}
routes:
  - {{ name: dav, path: /dav, access: public, upstream: backend, methods: [GET, PUT, {named}] }}
  - {{ name: secret, path: /dav/secret, access: authenticated, upstream: backend, methods: [GET, PUT, {named}] }}
  - {{ name: few, path: /few, access: public, upstream: backend, methods: [GET, PROPFIND] }}
  - {{ name: rest, path: /, access: public, upstream: backend }}
"
    ))
}

fn send(world: &World, method: &str, path: &str, headers: &str, body: &str) -> Response {
    world.send(&format!(
        "{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_method_that_a_route_names_is_forwarded_as_it_came() {
    let world = world();
    for method in NAMED {
        let body = format!("<{method}/>");
        let path = format!("/dav/{method}");
        let headers = "Depth: 1\r\nDestination: http://gateway.test/dav/to\r\nIf: (<opaquelocktoken:x>)\r\n";

        let answer = send(&world, method, &path, headers, &body);

        assert_eq!(answer.status, 200, "{method}: {}", answer.text());
        let received = world.backend.last();
        assert_eq!(received.request_line(), format!("{method} {path} HTTP/1.1"));
        assert_eq!(received.body, body.as_bytes(), "{method}");
        assert_eq!(received.header("destination"), ["http://gateway.test/dav/to"]);
        assert_eq!(received.header("depth"), ["1"]);
        let line = logged(&world, &path);
        assert_eq!((&line["http.request.method"], &line["http.route"]), (&method.into(), &"dav".into()));
    }
}

#[test]
fn a_method_is_refused_where_no_route_names_it_and_the_answer_says_which_are_served() {
    let world = world();
    for (method, path, allow) in [
        ("PROPFIND", "/other", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned()),
        ("MKCOL", "/few", "GET, PROPFIND".to_owned()),
        ("POST", "/few/x", "GET, PROPFIND".to_owned()),
        ("DELETE", "/dav/x", format!("GET, PUT, {}", NAMED.join(", "))),
    ] {
        let answer = send(&world, method, path, "", "");

        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (405, Some("method_not_allowed")),
            "{method}"
        );
        assert_eq!(answer.header("allow"), Some(&*allow), "{method} {path}");
        assert_eq!(logged(&world, path)["http.request.method"], method);
    }
    for method in ["TRACE", "FOO", "propfind", "BIND"] {
        let answer = send(&world, method, "/dav/x", "", "");
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (405, Some("method_not_admitted")),
            "{method}"
        );
        assert!(answer.header("allow").unwrap().contains("PROPFIND"), "{:?}", answer.header("allow"));
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn a_gateway_whose_routes_name_none_of_them_admits_none() {
    let world = World::new();
    for method in NAMED {
        let answer = send(&world, method, "/pub/x", "", "");
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (405, Some("method_not_admitted")),
            "{method}"
        );
        assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn nothing_is_copied_or_moved_to_a_path_of_another_route() {
    let world = world();
    let bearer = world.bearer("someone");
    for method in ["COPY", "MOVE"] {
        for (destination, reaches) in [
            ("/dav/b", true),
            ("http://gateway.test/dav/b", true),
            ("https://gateway.test/dav/b", true),
            ("/dav/secret/b", false),
            ("http://gateway.test/dav/secret/b", false),
            ("/dav/%73ecret/b", false),
            ("/dav/x/../secret/b", false),
            ("/dav//secret/b", false),
            ("/dav/secret;x/b", false),
            ("/other", false),
            ("/auth/login", false),
            ("http://other.test/dav/b", false),
            ("dav/b", false),
            ("", false),
        ] {
            let before = world.backend.count();
            let answer =
                send(&world, method, "/dav/a", &format!("{bearer}Destination: {destination}\r\n"), "");

            let expected = if reaches { 200 } else { 400 };
            assert_eq!(answer.status, expected, "{method} {destination:?}: {}", answer.text());
            assert_eq!(world.backend.count() - before, usize::from(reaches), "{method} {destination:?}");
            if !reaches {
                assert_eq!(answer.json()["code"], "destination_refused");
                assert_eq!(logged(&world, "/dav/a")["reason"], "destination_refused");
            }
        }
        let twice = "Destination: /dav/b\r\nDestination: /dav/secret\r\n";
        assert_eq!(send(&world, method, "/dav/a", twice, "").status, 400);
        assert_eq!(send(&world, method, "/dav/a", "", "").status, 400, "without a destination");
    }
}
