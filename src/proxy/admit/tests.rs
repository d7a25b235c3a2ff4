use super::*;
use crate::proxy::context::Context;
use crate::proxy::respond;
use crate::proxy::tests::{Bench, receive};

const HOST: &str = "Host: a.test\r\n";

/// Admits a request as the decision does; its status and reason if it is refused.
fn admitted(session: &mut Session, ctx: &mut Context) -> Result<Admitted, (u16, &'static str)> {
    let (current, arrival) = (&ctx.current, &mut ctx.arrival);
    let identified = arrival.identify_client(session, &current.trusted_proxies);
    identified.and_then(|()| admit(session, &current.admission)).map_err(|refusal| {
        let status = refusal.reason.status().unwrap().as_u16();
        (status, refusal.reason.as_str())
    })
}

#[tokio::test]
async fn an_admitted_request_has_one_canonical_host_and_target() {
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

        let admitted = admitted(&mut received.session, &mut ctx).unwrap();

        let request = received.session.req_header();
        let sent = (request.uri.path_and_query().unwrap().as_str(), authority_of(request), &*admitted.host);
        assert_eq!(sent, expected, "{target}");
        assert!(!ctx.arrival.is_https);
    }
}

fn authority_of(request: &RequestHeader) -> &str {
    request.headers.get(header::HOST).unwrap().to_str().unwrap()
}

#[tokio::test]
async fn a_request_that_is_not_admitted_is_refused_and_only_a_method_with_those_that_are() {
    let bench = Bench::new();
    for (line, lines, expected, names_methods) in [
        ("TRACE /", HOST, (405, "method_not_admitted"), true),
        ("GET /a/../b", HOST, (400, "path_refused"), false),
        ("GET /", "", (400, "host_malformed"), false),
    ] {
        let mut received = receive(line, lines).await;
        let mut ctx = bench.context();

        let refusal = admit(&mut received.session, &ctx.current.admission).unwrap_err();

        let answer = bench.answer(refusal, &mut ctx);
        assert_eq!(answer.headers().contains_key(header::ALLOW), names_methods, "{line}");
        assert_eq!((answer.status().as_u16(), ctx.reason.as_str()), expected, "{line}");
    }
}

#[tokio::test]
async fn options_of_the_server_itself_is_answered_with_the_methods() {
    let bench = Bench::new();
    let mut received = receive("OPTIONS *", HOST).await;

    let admitted = admitted(&mut received.session, &mut bench.context()).unwrap();

    let answer = respond::options(&bench.context().current);
    assert!(admitted.is_about_server && answer.headers().contains_key(header::ALLOW));
    assert_eq!((answer.status().as_u16(), Reason::Options.as_str()), (204, "options"));
}

#[tokio::test]
async fn only_a_proxy_that_is_believed_gives_a_request_its_id() {
    const TWICE: &str = "X-Request-Id: given-2\r\n";
    for (trusted, more, is_given, client) in [
        ("", "", false, "127.0.0.1"),
        ("127.0.0.1", "", false, "203.0.113.9"),
        ("{ from: 127.0.0.1, believe: [X-Request-Id] }", "", true, "127.0.0.1"),
        ("{ from: 127.0.0.1, believe: [X-Request-Id] }", TWICE, false, "127.0.0.1"),
        ("{ from: [127.0.0.1], believe: [x-request-id, x-forwarded-for] }", "", true, "203.0.113.9"),
        ("{ from: 127.0.0.1, client_address: X-Real-IP }", "", false, "203.0.113.8"),
    ] {
        let bench = Bench::behind(trusted);
        let forwarded = "X-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.8\r\n";
        let given = format!("{HOST}X-Request-Id: given-1\r\n{forwarded}{more}");
        let mut received = receive("GET /", &given).await;
        let mut ctx = bench.context();

        admitted(&mut received.session, &mut ctx).unwrap();

        assert_eq!(ctx.arrival.request_id.as_str() == "given-1", is_given, "{trusted:?}");
        assert_eq!(ctx.arrival.client.client.to_string(), client, "{trusted:?}");
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
