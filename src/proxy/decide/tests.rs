use authn::AuthnError as R;

use super::*;
use crate::proxy::tests::{Bench, receive};

const HOST: &str = "Host: a.test\r\n";
/// What a browser says that opens a page.
const PAGE: &str = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

/// The status of an answer and the word for it; `None` where the request goes on.
fn answered(answer: Option<Response<Bytes>>, ctx: &Context) -> Option<(u16, &'static str)> {
    answer.map(|answer| (answer.status().as_u16(), ctx.outcome.reason))
}

/// What [`authenticate`] makes of a request by the route of its path, in words, and its status where it is answered.
async fn authenticated(bench: &Bench, path: &str, lines: &str) -> (u16, &'static str, Context) {
    let received = receive(&format!("GET {path}"), &format!("{HOST}{lines}")).await;
    let mut ctx = bench.context_on(path);
    ctx.host = "a.test".into();
    let answer = authenticate(received.session.req_header(), &mut ctx).await;
    (answer.map_or(0, |answer| answer.status().as_u16()), ctx.outcome.reason, ctx)
}

#[tokio::test]
async fn a_request_goes_on_with_its_one_host_and_target() {
    let bench = Bench::new();
    for (target, host, expected) in [
        ("/a?b", "a.test:80", ("/a?b", "a.test:80", "a.test")),
        ("/%61?b=%61", "A.TEST.:80", ("/a?b=%61", "a.test:80", "a.test")),
        ("/%61", "a.test", ("/a", "a.test", "a.test")),
        ("/a", "A.test", ("/a", "a.test", "a.test")),
        ("http://a.test/x", "a.test", ("/x", "a.test", "a.test")),
    ] {
        let mut received = receive(&format!("GET {target}"), &format!("Host: {host}\r\n")).await;
        let mut ctx = bench.context();

        let answer = admit(&mut received.session, &mut ctx);

        let request = received.session.req_header();
        let sent = (request.uri.path_and_query().unwrap().as_str(), authority_of(request), &*ctx.host);
        assert_eq!(answered(answer, &ctx), None, "{target}");
        assert_eq!(sent, expected, "{target}");
        assert!(!ctx.is_https);
    }
}

fn authority_of(request: &RequestHeader) -> &str {
    request.headers.get(header::HOST).unwrap().to_str().unwrap()
}

#[tokio::test]
async fn what_is_not_admitted_is_answered_and_only_a_method_with_those_that_are() {
    let bench = Bench::new();
    for (line, lines, expected, names_methods) in [
        ("TRACE /", HOST, (405, "method_not_admitted"), true),
        ("GET /a//b", HOST, (400, "path_refused"), false),
        ("GET /", "", (400, "host_malformed"), false),
        ("OPTIONS *", HOST, (204, "options"), true),
    ] {
        let mut received = receive(line, lines).await;
        let mut ctx = bench.context();

        let answer = admit(&mut received.session, &mut ctx).unwrap();

        assert_eq!(answer.headers().get(header::ALLOW), names_methods.then_some(&ALLOW), "{line}");
        assert_eq!((answer.status().as_u16(), ctx.outcome.reason), expected, "{line}");
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_from_a_trusted_proxy_alone() {
    let given = format!("{HOST}X-Request-Id: given-1\r\nX-Forwarded-For: 203.0.113.9\r\n");
    for (trusted, is_taken, client) in [("", false, "127.0.0.1"), ("127.0.0.1", true, "203.0.113.9")] {
        let bench = Bench::behind(trusted);
        let mut received = receive("GET /", &given).await;
        let mut ctx = bench.context();

        admit(&mut received.session, &mut ctx);

        assert_eq!(ctx.request_id.as_str() == "given-1", is_taken, "{trusted:?}");
        assert_eq!(ctx.caller.client.to_string(), client, "{trusted:?}");
    }
}

#[tokio::test]
async fn a_request_goes_by_the_route_of_its_path_and_method_or_nowhere() {
    let bench = Bench::new();
    for (line, expected, upstream) in [
        ("GET /public/x", None, Some("backend")),
        ("GET /grpc", None, Some("grpc")),
        ("GET /read", None, Some("backend")),
        ("POST /read", Some((405, "method_not_allowed")), None),
    ] {
        let mut received = receive(line, HOST).await;
        let mut ctx = bench.context();
        admit(&mut received.session, &mut ctx);

        let answer = find_route(&received.session, &mut ctx);

        assert_eq!(answered(answer, &ctx), expected, "{line}");
        assert_eq!(ctx.upstream.as_deref().map(|upstream| &*upstream.name), upstream, "{line}");
        assert_eq!(ctx.route.is_some(), upstream.is_some(), "{line}");
    }
}

#[tokio::test]
async fn a_tunnel_is_asked_for_by_the_opening_handshake_alone() {
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
        ("GET /ws", "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", false),
        ("GET /ws", "Upgrade: websocket\r\nConnection: close\r\nConnection: upgrade\r\n", true),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n", false),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n", false),
    ] {
        let mut received = receive(line, &format!("{HOST}{lines}")).await;
        let mut ctx = bench.context();
        assert_eq!(answered(admit(&mut received.session, &mut ctx), &ctx), None, "{line} {lines}");

        find_route(&received.session, &mut ctx);

        assert_eq!(ctx.is_websocket, expected, "{line} {lines}");
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

#[tokio::test]
async fn a_request_without_a_route_is_refused_whoever_makes_it() {
    let bench = Bench::new();
    let received = receive("GET /", HOST).await;
    let mut ctx = bench.context();

    let answer = authenticate(received.session.req_header(), &mut ctx).await;

    assert_eq!(answered(answer, &ctx), Some((500, "undecided")));
    assert!(matches!(ctx.decision, Decision::Undecided));
}

#[tokio::test]
async fn each_route_lets_in_whom_it_says_and_nobody_else() {
    let bench = Bench::new();
    let (shop, site) = (bench.sign_in("wxe000000000000001").await, bench.sign_in("wxe000000000000004").await);
    let forged = "Authorization: Bearer eyJ.x.y\r\n";
    let made_up = "Cookie: __Host-menshen=x\r\n";
    for (path, lines, expected, decision) in [
        ("/public", "", (0, "public"), "nobody"),
        ("/public", &*shop, (0, "public"), "nobody"),
        ("/", &*shop, (0, "authenticated"), "somebody"),
        ("/", "", (401, "no_token"), "undecided"),
        ("/", forged, (401, "malformed_token"), "undecided"),
        ("/", made_up, (401, "malformed_token"), "undecided"),
        ("/optional", "", (0, "anonymous"), "nobody"),
        ("/optional", &*site, (0, "authenticated"), "somebody"),
        // Whoever shows a token is never taken for somebody without one; a cookie goes on being sent by itself.
        ("/optional", forged, (401, "malformed_token"), "undecided"),
        ("/optional", made_up, (0, "anonymous"), "nobody"),
        ("/shop", &*shop, (0, "authenticated"), "somebody"),
        ("/shop", &*site, (403, "app_not_admitted"), "undecided"),
        ("/unionid", &*shop, (403, "unionid_unknown"), "undecided"),
    ] {
        let (status, reason, ctx) = authenticated(&bench, path, lines).await;

        let decided = match ctx.decision {
            Decision::Undecided => "undecided",
            Decision::Public => "nobody",
            Decision::Authenticated(_) => "somebody",
        };
        assert_eq!((status, reason), expected, "{path} {lines}");
        assert_eq!(decided, decision, "{path} {lines}");
        assert_eq!(ctx.is_denied, status != 0, "{path} {lines}");
    }
}

#[tokio::test]
async fn where_nobody_can_be_looked_up_nobody_is_let_in_and_nobody_called_a_forger() {
    let bench = Bench::new();
    let shop = bench.sign_in("wxe000000000000001").await;
    (bench.take_store_away)();
    for path in ["/", "/optional"] {
        let (status, reason, ctx) = authenticated(&bench, path, &shop).await;

        assert_eq!((status, reason), (503, "store_unavailable"), "{path}");
        assert!(matches!(ctx.decision, Decision::Undecided), "{path}");
        assert!(!ctx.is_denied, "{path}");
    }
}

#[tokio::test]
async fn whoever_is_known_and_turned_away_stands_in_the_log() {
    let bench = Bench::new();
    let site = bench.sign_in("wxe000000000000004").await;
    for path in ["/shop", "/unionid"] {
        let (_, _, ctx) = authenticated(&bench, path, &site).await;

        assert_eq!(ctx.app(), Some("site"), "{path}");
        assert!(ctx.subject_hash().is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_person_who_opens_a_page_is_led_to_sign_in_where_a_browser_can() {
    let bench = Bench::new();
    let site = bench.sign_in("wxe000000000000004").await;
    let forged = format!("{PAGE}Authorization: Bearer eyJ.x.y\r\n");
    for (path, lines, expected) in [
        ("/", PAGE.to_owned(), 303),
        ("/", String::new(), 401),
        ("/", format!("{PAGE}Cookie: __Host-menshen=x\r\n"), 303),
        ("/", forged, 401),
        // Nobody signs in to a mini program in a browser.
        ("/shop", PAGE.to_owned(), 401),
        ("/shop", format!("{PAGE}{site}"), 403),
    ] {
        let (status, _, ctx) = authenticated(&bench, path, &lines).await;

        assert_eq!(status, expected, "{path} {lines}");
        assert_eq!(ctx.is_denied, status != 303, "{path} {lines}");
    }
}

#[tokio::test]
async fn where_a_token_stood_is_remembered_for_taking_it_out() {
    let bench = Bench::new();
    for (lines, expected) in
        [("Authorization: Bearer eyJ.x.y\r\n", true), ("Cookie: __Host-menshen=x\r\n", false), ("", false)]
    {
        let (_, _, ctx) = authenticated(&bench, "/", lines).await;

        assert_eq!(ctx.token_in_authorization, expected, "{lines}");
    }
}

#[test]
fn the_host_is_rewritten_in_every_place_that_says_it() {
    let target = || "/a?b".parse().ok();
    let mut request = RequestHeader::build("GET", b"/%61?b", None).unwrap();
    request.insert_header("host", "A.test").unwrap();
    rewrite(&mut request, target(), Some("a.test".into())).unwrap();
    assert_eq!((request.uri.to_string(), authority_of(&request)), ("/a?b".to_owned(), "a.test"));

    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.set_uri("https://A.test/%61?b".parse().unwrap());
    rewrite(&mut request, target(), Some("a.test".into())).unwrap();
    assert_eq!(request.uri.to_string(), "https://a.test/a?b");
    // HTTP/2 has no `Host` of its own, and gets none.
    assert!(!request.headers.contains_key(header::HOST));

    let mut request = RequestHeader::build("GET", b"/x", None).unwrap();
    assert_eq!(rewrite(&mut request, None, Some("a b".into())), Some(()));
    request.set_uri("https://A.test/".parse().unwrap());
    assert_eq!(rewrite(&mut request, None, Some("a b".into())), None, "no authority that cannot be one");
}

/// The refusals of which something holds, by their words.
fn words(holds: impl Fn(R) -> bool) -> Vec<&'static str> {
    R::ALL.into_iter().filter(|refusal| holds(*refusal)).map(R::reason).collect()
}

#[test]
fn a_person_is_led_to_sign_in_only_where_that_lets_them_in() {
    let mended = |shown: Shown| words(|refusal| shown.is_mended_by_sign_in(refusal));

    assert_eq!(mended(Shown::Nothing), ["no_token"]);
    let of_a_cookie = ["malformed_token", "unknown_app", "session_ended", "app_not_admitted"];
    assert_eq!(mended(Shown::SessionCookie), of_a_cookie);
    assert!(mended(Shown::Token).is_empty());
}

#[test]
fn nobody_is_who_shows_nothing_or_the_cookie_of_a_session_that_is_none() {
    let of_nobody = |shown: Shown| words(|refusal| shown.is_of_nobody(refusal));

    assert_eq!(of_nobody(Shown::Nothing), ["no_token"]);
    assert_eq!(of_nobody(Shown::SessionCookie), ["malformed_token", "unknown_app", "session_ended"]);
    assert!(of_nobody(Shown::Token).is_empty());
}
