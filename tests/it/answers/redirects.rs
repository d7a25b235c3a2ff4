//! Redirects of a backend to itself.

use super::ROUTES;
use crate::common::{Backend, NO_THROTTLE, Reply, World};
use crate::proxying::http2::Client;

/// Redirects to what the query says, with `{own}` for its own address.
fn redirecting() -> Backend {
    Backend::with(|request| {
        let to = request.target().split_once('?').map_or("", |(_, query)| query);
        Reply::Bytes(
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        )
    })
}

fn world(options: &str) -> World {
    let trusted = "trusted_proxies: [{ from: 127.0.0.1, believe: [X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host] }]\n";
    World::with_backend(
        redirecting(),
        &format!(
            "{ROUTES}{NO_THROTTLE}{trusted}upstreams: {{ backend: {{ servers: ['{{backend}}']{options} }} }}\n"
        ),
    )
}

#[test]
fn a_redirect_of_the_backend_to_itself_leads_to_where_the_client_came_from() {
    let world = world("");
    let own = world.backend.address();
    let client = Client::connect(world.address());
    for (lines, from) in [
        (&[][..], "http://gateway.test"),
        (&[("x-forwarded-proto", "https")], "https://gateway.test"),
        (&[("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.test:8443")], "https://shop.test:8443"),
    ] {
        for (to, expected) in [
            (format!("http://{own}/a?b"), format!("{from}/a?b")),
            (format!("https://{own}/a"), format!("{from}/a")),
            (format!("http://gateway.test:{}/a", own.port()), format!("{from}/a")),
            (format!("http://{own}"), from.to_owned()),
            ("/a".to_owned(), "/a".to_owned()),
            ("http://gateway.test/a".to_owned(), "http://gateway.test/a".to_owned()),
            ("http://127.0.0.1:1/a".to_owned(), "http://127.0.0.1:1/a".to_owned()),
            ("https://other.test/a".to_owned(), "https://other.test/a".to_owned()),
        ] {
            let headers: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let answer = world.get(&format!("/x?{to}"), &headers);
            assert_eq!(answer.header("location"), Some(&*expected), "{lines:?} {to}");
            let answer = client.get(&format!("/x?{to}"), lines);
            assert_eq!(answer.headers["location"], *expected, "{lines:?} {to}");
        }
    }
}

#[test]
fn a_redirect_stays_as_it_is_where_the_upstream_says_so() {
    let world = world(", map_redirects: false");
    let to = format!("http://{}/a", world.backend.address());

    assert_eq!(world.get(&format!("/x?{to}"), "").header("location"), Some(&*to));
}
