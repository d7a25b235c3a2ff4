//! What the backend is told of who calls: exactly what the gateway knows, whatever the client says.

use crate::common::{APPID, World};

#[test]
fn a_signed_in_request_reaches_the_backend_with_exactly_the_identity_headers() {
    let world = World::new();
    let bearer = world.bearer("alice");

    let response = world.get("/x?y=1", &bearer);

    assert_eq!(response.status, 200, "{}", response.text());
    let received = world.backend.last();
    assert_eq!(received.request_line(), "GET /x?y=1 HTTP/1.1");
    assert_eq!(received.folded("X-WX-OPENID"), [world.emulator.openid(APPID, "alice")]);
    assert_eq!(received.folded("X-WX-UNIONID"), [world.emulator.unionid(APPID, "alice").unwrap()]);
    assert_eq!(received.folded("X-WX-APPID"), [APPID]);
    assert_eq!(received.folded("X-WX-SOURCE"), ["wx_client"]);
    assert!(received.folded("X-WX-ENV").is_empty());
    assert!(received.folded("Authorization").is_empty());
}

#[test]
fn a_request_without_a_token_never_reaches_the_backend() {
    let world = World::new();

    let response = world.get("/x", "");

    assert_eq!(response.status, 401);
    assert_eq!(response.header("www-authenticate"), Some(r#"Bearer realm="menshen""#));
    assert_eq!(response.json()["code"], "no_token");
    assert_eq!(world.backend.count(), 0);
}
