//! What reaches the backend through a proxy that passes on what its client wrote.

use super::front::{Front, Kind};
use crate::common::{NO_THROTTLE, ROUTES, Tally, World};

const VICTIM: &str = "victim";

/// What a client writes; nginx itself writes only `X-Real-IP`, `X-Forwarded-For` and
/// `X-Forwarded-Proto`.
const CLAIMS: &[&str] = &[
    "Remote-User",
    "X-Forwarded-User",
    "X-Auth-Request-User",
    "X-Goog-Authenticated-User-Email",
    "CF-Access-Authenticated-User-Email",
    "X-Consumer-Username",
    "X-Real-IP",
    "True-Client-IP",
    "Forwarded",
    "X-Original-Host",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Request-Id",
    "X-SSL-Client-Verify",
    "traceparent",
    "X-WX-OPENID",
];

#[test]
fn nothing_that_a_client_claims_gets_through_nginx_and_the_gateway() {
    let world = World::with(&format!("{ROUTES}{NO_THROTTLE}trusted_proxies: [127.0.0.1]\n"));
    let nginx = Front::start(Kind::Nginx, world.address());
    let token = world.bearer("alice");
    let mut tally = Tally::default();

    for name in CLAIMS {
        for (path, lines) in [("/x", &*token), ("/pub/x", ""), ("/opt/x", "")] {
            let response = nginx.get(path, &format!("{lines}{name}: {VICTIM}\r\n"));
            assert_eq!(response.status, 200, "{path} {name}");
            let request = world.backend.last();
            assert!(!request.head.contains(VICTIM), "{path} {name}: {}", request.head);
            assert_eq!(request.header("X-Forwarded-Host"), ["gateway.test"], "{path} {name}");
            assert_eq!(request.header("X-Real-IP"), ["127.0.0.1"], "{path} {name}");
            tally.add(response.status, 1);
        }
    }
    tally.report("fronts: claims through nginx");
}

#[test]
fn what_nginx_is_believed_about_is_what_nginx_wrote() {
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}trusted_proxies: [{{ from: 127.0.0.1, believe: [x-forwarded-proto], client_address: X-Real-IP }}]\n"
    ));
    let nginx = Front::start(Kind::Nginx, world.address());

    let forged = "X-Real-IP: 203.0.113.9\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(nginx.get("/pub/x", forged).status, 200);

    let request = world.backend.last();
    for (name, expected) in
        [("X-Real-IP", "127.0.0.1"), ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "http")]
    {
        assert_eq!(request.header(name), [expected], "{name}");
    }
}
