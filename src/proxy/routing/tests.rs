use super::*;
use crate::proxy::admit::admit;
use crate::proxy::tests::{Bench, receive};

const HOST: &str = "Host: a.test\r\n";

/// Admits and routes a request.
async fn routed(bench: &Bench, line: &str, lines: &str) -> Result<Routed, Refusal> {
    let mut received = receive(line, lines).await;
    let admitted = admit(&mut received.session, &bench.current.admission).unwrap();
    route(received.session.req_header(), &admitted, &bench.current)
}

#[tokio::test]
async fn a_request_takes_the_route_of_its_path_and_method_or_none() {
    let bench = Bench::new();
    for (line, expected, upstream) in [
        ("GET /public/x", None, Some("backend")),
        ("GET /grpc", None, Some("grpc")),
        ("GET /read", None, Some("backend")),
        ("POST /read", Some((405, "method_not_allowed")), None),
        ("GET /public/x;y", None, Some("backend")),
        ("GET /public/x//y", Some((400, "path_refused")), None),
        ("GET /public//x", Some((400, "path_refused")), None),
        ("GET /own;x", Some((400, "path_refused")), None),
        ("GET /auth;x/login", Some((400, "path_refused")), None),
    ] {
        let routed = routed(&bench, line, HOST).await;

        let found = routed.as_ref().ok().map(|routed| &*routed.upstream.name);
        let refused = routed.as_ref().err().map(|refusal| refusal.reason);
        let refused =
            refused.map(|reason| (reason.status().map_or(0, |status| status.as_u16()), reason.as_str()));
        assert_eq!(refused, expected, "{line}");
        assert_eq!(found, upstream, "{line}");
    }
}

#[tokio::test]
async fn only_the_opening_handshake_asks_for_a_tunnel() {
    const UPGRADE: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n";
    let bench = Bench::new();
    for (line, lines, expected) in [
        ("GET /ws", UPGRADE, true),
        ("GET /own", UPGRADE, false),
        ("POST /ws", UPGRADE, false),
        ("GET /ws", "", false),
        ("GET /ws", "Upgrade: websocket\r\n", false),
        ("GET /ws", "Connection: Upgrade\r\n", false),
        ("GET /ws", "Upgrade: h2c\r\nConnection: Upgrade\r\n", false),
        ("GET /ws", "Upgrade: websocket\r\nConnection: x-upgrade\r\n", false),
        ("GET /ws", "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", true),
        ("GET /ws", "Upgrade: h2c, WebSocket\r\nConnection: Upgrade\r\n", true),
        ("GET /ws", "Upgrade: h2c\r\nUpgrade: websocket , foo\r\nConnection: Upgrade\r\n", true),
        ("GET /ws", "Upgrade: websocket/13\r\nConnection: Upgrade\r\n", false),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n", true),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n", true),
        ("GET /ws", "Upgrade: websocket\r\nConnection: close\r\nConnection: upgrade\r\n", true),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n", false),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n", false),
    ] {
        let routed = routed(&bench, line, &format!("{HOST}{lines}")).await.unwrap();

        assert_eq!(routed.is_websocket, expected, "{line} {lines}");
    }
}

#[tokio::test]
async fn no_tunnel_is_opened_over_another_version_of_http() {
    for version in [Version::HTTP_10, Version::HTTP_2] {
        let received = receive("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\n").await;
        let mut request = received.session.req_header().clone();
        assert!(is_websocket_opening(&request));

        request.set_version(version);

        assert!(!is_websocket_opening(&request), "{version:?}");
    }
}
