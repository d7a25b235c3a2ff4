//! What a user reads who opens a page and does not get it: a page in the user's language, in place
//! of the document that programs get. Every refusal of the gateway's own passes here.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use pingora::http::RequestHeader;

use super::context::Context;
use super::reason::Reason;
use crate::authn::AuthnError;
use crate::page::{Action, Message, Notice};

/// Replaces the document of a refusal by a page, if a user reads the answer. The fields of the
/// header stay, such as `Retry-After`.
pub(super) fn explain_to_user(
    response: &mut Response<Bytes>,
    reason: Reason,
    request: &RequestHeader,
    ctx: &Context,
) {
    if !reason.is_refusal() || !is_document(response) {
        return;
    }
    // A document in the shape `code_200` has the status in its body alone.
    let status = reason.status().unwrap_or_else(|| response.status());
    let notice = notice(reason, status);
    let code = code(response);
    let message = Message {
        wait_seconds: retry_after(response),
        code: code.as_deref(),
        ..Message::new(notice, action(notice, request, ctx), ctx.arrival.request_id.as_str())
    };
    let sign_in = &ctx.current.runtime().sign_in;
    let Some(page) = sign_in.refusal_page(status, &message, request) else { return };
    let (parts, body) = page.into_parts();
    *response.status_mut() = parts.status;
    *response.body_mut() = body;
    for (name, value) in &parts.headers {
        response.headers_mut().insert(name, value.clone());
    }
}

/// Whether an answer is a document for programs: a page, and a redirect, is for users already.
fn is_document(response: &Response<Bytes>) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    media_type.is_some_and(|media_type| media_type.starts_with(b"application/"))
}

/// The word of the document, which says no more about a token than a client may learn.
fn code(response: &Response<Bytes>) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(response.body()).ok()?;
    ["code", "message"].iter().find_map(|member| Some(document.get(member)?.as_str()?.to_owned()))
}

fn retry_after(response: &Response<Bytes>) -> Option<u64> {
    response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// What a user is told. The status decides, except where its words would be wrong.
fn notice(reason: Reason, status: StatusCode) -> Notice {
    match reason {
        Reason::OriginUnknown => Notice::OriginUnknown,
        Reason::Authentication(AuthnError::CrossSite) | Reason::SignInRefused("cross_site", _) => {
            Notice::CrossSite
        }
        Reason::Authentication(AuthnError::Blocked) | Reason::SignInRefused("user_blocked", _) => {
            Notice::UserBlocked
        }
        Reason::Authentication(AuthnError::StoreUnavailable)
        | Reason::SignInRefused("store_unavailable", _) => Notice::Unavailable,
        _ => notice_of_status(status),
    }
}

fn notice_of_status(status: StatusCode) -> Notice {
    match status {
        StatusCode::UNAUTHORIZED => Notice::NotSignedIn,
        StatusCode::FORBIDDEN => Notice::NotPermitted,
        StatusCode::NOT_FOUND => Notice::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Notice::MethodNotAllowed,
        StatusCode::REQUEST_TIMEOUT => Notice::TimedOut,
        StatusCode::PAYLOAD_TOO_LARGE => Notice::TooLarge,
        StatusCode::TOO_MANY_REQUESTS => Notice::Throttled,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Notice::HeaderTooLarge,
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Notice::BackendUnavailable,
        StatusCode::SERVICE_UNAVAILABLE => Notice::Busy,
        status if status.is_client_error() => Notice::Malformed,
        _ => Notice::Internal,
    }
}

/// What the user can do. A form is not sent again, because the link would open its address without
/// what it sent.
fn action(notice: Notice, request: &RequestHeader, ctx: &Context) -> Action<'static> {
    let is_home = request.uri.path() == "/" && ctx.refused.is_none();
    let may_succeed_later = matches!(
        notice,
        Notice::Throttled
            | Notice::HeaderTooLarge
            | Notice::TimedOut
            | Notice::Unavailable
            | Notice::Busy
            | Notice::BackendUnavailable
            | Notice::Internal
    );
    if notice.leads_home() && !is_home {
        Action::Home
    } else if may_succeed_later && request.method == Method::GET {
        Action::Reload("/")
    } else {
        Action::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::super::reason::tests::table;
    use super::super::refusal::Refusal;
    use super::super::tests::{Bench, receive};
    use super::*;

    const HOST: &str = "Host: a.test\r\n";
    const NAVIGATE: &str = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    const HTML: &str = "Accept: text/html,*/*;q=0.8\r\n";
    const LANGUAGES: [(&str, &str); 2] = [("zh-CN", "zh-CN"), ("en-US,en;q=0.9", "en")];

    /// How a request with this method and these lines is answered if it is refused for this reason.
    async fn answer(bench: &Bench, reason: Reason, method: &str, lines: &str) -> Response<Bytes> {
        let received = receive(&format!("{method} /x"), &format!("{HOST}{lines}")).await;
        let mut ctx = bench.context();
        let mut response = bench.answer(Refusal::without_route(reason), &mut ctx);
        explain_to_user(&mut response, reason, received.session.req_header(), &ctx);
        response
    }

    fn field<'r>(response: &'r Response<Bytes>, name: &str) -> Option<&'r str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn each_refusal_is_a_page_for_users_and_a_document_for_programs() {
        let bench = Bench::new();
        let mut refusals = 0;
        for (reason, status, word) in table() {
            // A sign-in endpoint writes its document itself.
            let is_own = !matches!(reason, Reason::SignInRefused(..));
            let Some(status) = status.filter(|_| is_own && reason.is_refusal()) else { continue };
            refusals += 1;
            for (asked, language) in LANGUAGES {
                for lines in [NAVIGATE, HTML] {
                    let lines = format!("{lines}Accept-Language: {asked}\r\n");
                    let page = answer(&bench, reason, "GET", &lines).await;

                    assert_eq!(page.status(), status, "{word}");
                    assert_eq!(field(&page, "content-type"), Some("text/html; charset=utf-8"), "{word}");
                    assert_eq!(field(&page, "content-language"), Some(language), "{word}");
                    assert_eq!(field(&page, "cache-control"), Some("no-store"), "{word}");
                    for name in [
                        "content-security-policy",
                        "x-frame-options",
                        "x-content-type-options",
                        "referrer-policy",
                    ] {
                        assert!(page.headers().contains_key(name), "{word}: {name}");
                    }
                    let html = std::str::from_utf8(page.body()).unwrap();
                    assert!(html.contains("<code>"), "{word}: the request's id");
                    let shown =
                        if status == 401 && reason != Reason::OriginUnknown { "_token" } else { word };
                    assert!(html.contains(shown), "{word}: its word, to report");
                }
            }
            for lines in [
                "",
                "Accept: application/json\r\n",
                "Accept: */*\r\n",
                "Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n",
            ] {
                let document = answer(&bench, reason, "GET", lines).await;

                assert_eq!(document.status(), status, "{word}");
                assert_eq!(field(&document, "content-type"), Some("application/problem+json"), "{word}");
            }
        }
        assert!(refusals > 50, "{refusals}");
    }

    #[tokio::test]
    async fn a_page_keeps_the_fields_of_the_document() {
        let bench = Bench::new();
        let mut ctx = bench.context();
        let received = receive("GET /x", &format!("{HOST}{NAVIGATE}Accept-Language: en\r\n")).await;
        let refusal = Refusal {
            answer: super::super::refusal::RefusalAnswer::RetryAfter(130),
            ..Refusal::without_route(Reason::TooManyErrors)
        };
        let mut response = bench.answer(refusal, &mut ctx);

        explain_to_user(&mut response, Reason::TooManyErrors, received.session.req_header(), &ctx);

        assert_eq!(field(&response, "retry-after"), Some("130"));
        assert!(std::str::from_utf8(response.body()).unwrap().contains("Wait 3 minutes"));
        let no_token = Reason::Authentication(AuthnError::NoToken);
        let page = answer(&bench, no_token, "GET", NAVIGATE).await;
        assert_eq!(field(&page, "www-authenticate"), Some("Bearer realm=\"menshen\""));
    }

    #[tokio::test]
    async fn a_form_gets_a_page_only_if_the_browser_says_that_a_user_sent_it() {
        let bench = Bench::new();
        for (method, lines, is_page) in [
            ("POST", NAVIGATE, true),
            ("POST", HTML, false),
            ("HEAD", HTML, true),
            ("GET", HTML, true),
            ("GET", "Accept: text/html\r\nX-Requested-With: XMLHttpRequest\r\n", false),
            ("GET", "Accept: text/html\r\nSec-Purpose: prefetch\r\n", false),
        ] {
            let answer = answer(&bench, Reason::RouteUnknown, method, lines).await;

            let is_html = field(&answer, "content-type") == Some("text/html; charset=utf-8");
            assert_eq!(is_html, is_page, "{method} {lines}");
        }
    }

    #[tokio::test]
    async fn a_refusal_in_the_shape_code_200_has_its_status_on_a_page() {
        let bench = Bench::new();
        let received = receive("GET /x", &format!("{HOST}{NAVIGATE}")).await;
        let mut response = Response::new(Bytes::from_static(b"{}"));
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);

        let no_token = Reason::Authentication(AuthnError::NoToken);
        explain_to_user(&mut response, no_token, received.session.req_header(), &bench.context());

        assert_eq!(response.status(), 401);
    }
}
