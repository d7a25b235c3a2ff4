//! Listed pages and the session cookie: those of the same site may use it, others never.

use menshen::emulator::Config;

use super::{EVIL, H5, origin, vary};
use crate::common::{Backend, Reply, Site, Visitor};
use crate::websocket::{echo, opening};

const SAME: &str = "Sec-Fetch-Site: same-site\r\n";
const CROSS: &str = "Sec-Fetch-Site: cross-site\r\n";

/// A site whose policies list `H5`, with and without credentials.
fn site() -> Site {
    let backend = Backend::with(|request| match request.header("upgrade").as_slice() {
        [upgrade] if upgrade == "websocket" => Reply::Take(Box::new(echo)),
        _ => Reply::ok(b"ok"),
    });
    let cors = "cors: { origins: ['https://h5.example.com'], credentials: true }";
    let routes = format!(
        "\n{cors}\nroutes:\n  - {{ name: with, path: /with, access: authenticated, upstream: backend, websocket: true, {cors} }}\n  - {{ name: without, path: /without, access: authenticated, upstream: backend, websocket: true, {} }}\n",
        cors.replace(", credentials: true", "")
    );
    Site::with_parts(Config::default(), backend, &[("\nroutes:\n", &routes)])
}

#[test]
fn listed_page_of_the_same_site_changes_something_with_the_cookie_and_no_other_does() {
    let site = site();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    let h5 = origin(H5);
    let own_host = |port: u16| format!("Origin: http://127.0.0.1:{port}\r\n");
    for (path, headers, expected) in [
        ("/with/x", format!("{h5}{SAME}"), 200),
        ("/with/x", format!("{h5}{CROSS}"), 403),
        ("/with/x", format!("{h5}{SAME}{SAME}"), 403),
        ("/with/x", h5.clone(), 403),
        ("/with/x", format!("{}{SAME}", origin(EVIL)), 403),
        ("/with/x", format!("{}{SAME}", origin("null")), 403),
        ("/with/x", format!("{h5}{h5}{SAME}"), 403),
        ("/with/x", SAME.to_owned(), 403),
        // A neighbour on the same machine, which is not listed.
        ("/with/x", format!("{}{SAME}", own_host(1)), 403),
        ("/without/x", format!("{h5}{SAME}"), 403),
        ("/other", format!("{h5}{SAME}"), 403),
        ("/auth/logout", format!("{h5}{CROSS}Content-Type: application/json\r\n"), 403),
        ("/auth/logout", format!("{}{SAME}Content-Type: application/json\r\n", origin(EVIL)), 403),
        ("/auth/logout", format!("{h5}{SAME}Content-Type: application/json\r\n"), 204),
    ] {
        let response = visitor.send_only("POST", path, &headers, "{}");

        assert_eq!(response.status, expected, "{path} {headers}: {}", response.text());
        if expected == 403 {
            assert_eq!(response.json()["code"], "cross_site", "{path} {headers}");
        }
        // The gateway's own policy has credentials, for the route that has none.
        let is_readable = headers.matches(H5).count() == 1;
        let (allowed, credentials) = ("access-control-allow-origin", "access-control-allow-credentials");
        assert_eq!(response.header(allowed), is_readable.then_some(H5), "{path} {headers}");
        let has_credentials = is_readable && path != "/without/x";
        assert_eq!(response.header(credentials), has_credentials.then_some("true"), "{path} {headers}");
    }
}

#[test]
fn listed_page_reads_with_the_cookie_if_the_policy_has_credentials() {
    let site = site();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    for (path, credentials) in
        [("/with/x", Some("true")), ("/without/x", None), ("/auth/session", Some("true"))]
    {
        let response = visitor.send_only("GET", path, &format!("{}{SAME}", origin(H5)), "");

        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.header("access-control-allow-origin"), Some(H5), "{path}");
        assert_eq!(response.header("access-control-allow-credentials"), credentials, "{path}");
        assert!(vary(&response).contains(&"Origin".to_owned()), "{path}");
    }
}

/// No page asks before it opens a WebSocket: the gateway alone can refuse it.
#[test]
fn websocket_with_the_cookie_opens_for_the_own_origin_and_for_listed_ones_of_the_same_site() {
    let site = site();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    let cookie = visitor.cookie_line();
    let own = origin(&site.origin());
    for (path, headers, expected) in [
        ("/with/ws", own.clone(), 101),
        ("/with/ws", format!("{}{SAME}", origin(H5)), 101),
        ("/with/ws", format!("{}{CROSS}", origin(H5)), 403),
        ("/with/ws", origin(H5), 403),
        ("/with/ws", format!("{}{SAME}", origin(EVIL)), 403),
        ("/with/ws", origin(EVIL), 403),
        ("/with/ws", origin("null"), 403),
        ("/without/ws", own, 101),
        ("/without/ws", format!("{}{SAME}", origin(H5)), 403),
    ] {
        let request = opening(path, &format!("{cookie}{headers}")).replace("gateway.test", &visitor.host);
        let mut client = site.world.connect();
        client.write(request.as_bytes());

        let answer = client.read_header().unwrap();

        assert_eq!(answer.status, expected, "{path} {headers}");
    }
}
