use super::*;
use crate::proxy::context::{Context, Decision};
use crate::proxy::tests::{Bench, receive};

const HOST: &str = "Host: a.test\r\n";
/// What a browser sends when it opens a page.
const PAGE: &str = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

/// What [`permit`] makes of a request on the route of its path: the status if it is refused, the
/// reason, and the context afterwards.
async fn permitted(bench: &Bench, path: &str, lines: &str) -> (u16, &'static str, Context) {
    let received = receive(&format!("GET {path}"), &format!("{HOST}{lines}")).await;
    let mut ctx = bench.context();
    let request = received.session.req_header();
    let status = match permit(request, bench.routed_on(path), &ctx.arrival, &bench.current).await {
        Ok(permit) => {
            ctx.reason = permit.reason();
            ctx.decision = Decision::Permitted(permit);
            0
        }
        Err(refusal) => bench.answer(refusal, &mut ctx).status().as_u16(),
    };
    (status, ctx.reason.as_str(), ctx)
}

/// Whether the audit log calls the request refused.
fn is_denied(status: u16, ctx: &Context) -> bool {
    ctx.reason.is_denial() && status != 303
}

#[tokio::test]
async fn each_route_permits_the_callers_it_names_and_no_others() {
    let bench = Bench::new();
    let (shop, site) = (bench.sign_in("wxe000000000000001").await, bench.sign_in("wxe000000000000004").await);
    let forged = "Authorization: Bearer eyJ.x.y\r\n";
    let made_up = "Cookie: __Host-menshen=x\r\n";
    for (path, lines, expected, decision) in [
        ("/public", "", (0, "public"), "anonymous"),
        ("/public", &*shop, (0, "public"), "anonymous"),
        ("/", &*shop, (0, "authenticated"), "known"),
        ("/", "", (401, "no_token"), "refused"),
        ("/", forged, (401, "malformed_token"), "refused"),
        ("/", made_up, (401, "malformed_token"), "refused"),
        ("/optional", "", (0, "anonymous"), "anonymous"),
        ("/optional", &*site, (0, "authenticated"), "known"),
        // A client that shows a token is never anonymous; a browser sends a cookie by itself.
        ("/optional", forged, (401, "malformed_token"), "refused"),
        ("/optional", made_up, (0, "anonymous"), "anonymous"),
        ("/shop", &*shop, (0, "authenticated"), "known"),
        ("/shop", &*site, (403, "app_not_admitted"), "refused"),
        ("/unionid", &*shop, (403, "unionid_unknown"), "refused"),
    ] {
        let (status, reason, ctx) = permitted(&bench, path, lines).await;

        let decided = match ctx.decision.permit() {
            Err(_) => "refused",
            Ok(Permit { caller: Caller::Anonymous, .. }) => "anonymous",
            Ok(Permit { caller: Caller::Authenticated(_), .. }) => "known",
        };
        assert_eq!((status, reason), expected, "{path} {lines}");
        assert_eq!(decided, decision, "{path} {lines}");
        assert_eq!(is_denied(status, &ctx), status != 0, "{path} {lines}");
    }
}

#[tokio::test]
async fn no_caller_is_permitted_or_called_a_forger_while_the_store_does_not_answer() {
    let bench = Bench::new();
    let shop = bench.sign_in("wxe000000000000001").await;
    (bench.lose_store)();
    for path in ["/", "/optional"] {
        let (status, reason, ctx) = permitted(&bench, path, &shop).await;

        assert_eq!((status, reason), (503, "store_unavailable"), "{path}");
        assert!(ctx.decision.permit().is_err(), "{path}");
        assert!(!is_denied(status, &ctx), "{path}");
    }
}

#[tokio::test]
async fn a_refused_person_who_is_known_is_named_in_the_log() {
    let bench = Bench::new();
    let site = bench.sign_in("wxe000000000000004").await;
    for path in ["/shop", "/unionid"] {
        let (_, _, ctx) = permitted(&bench, path, &site).await;

        assert_eq!(ctx.decision.app(), Some("site"), "{path}");
        assert!(ctx.decision.subject_hash().is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_person_who_opens_a_page_is_redirected_to_sign_in_if_a_browser_can() {
    let bench = Bench::new();
    let site = bench.sign_in("wxe000000000000004").await;
    let forged = format!("{PAGE}Authorization: Bearer eyJ.x.y\r\n");
    for (path, lines, expected) in [
        ("/", PAGE.to_owned(), 303),
        ("/", String::new(), 401),
        ("/", format!("{PAGE}Cookie: __Host-menshen=x\r\n"), 303),
        ("/", forged, 401),
        // A browser cannot sign in to a mini program.
        ("/shop", PAGE.to_owned(), 401),
        ("/shop", format!("{PAGE}{site}"), 403),
    ] {
        let (status, _, ctx) = permitted(&bench, path, &lines).await;

        assert_eq!(status, expected, "{path} {lines}");
        assert_eq!(is_denied(status, &ctx), status != 303, "{path} {lines}");
    }
}
