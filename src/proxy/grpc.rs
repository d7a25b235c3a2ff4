//! Answers of the gateway's own to calls of gRPC, in gRPC's words: a status of gRPC instead of one
//! of HTTP, and a message instead of a document. A library of gRPC reads nothing else.
//!
//! See `doc/PROTOCOL-HTTP2.md` and `doc/http-grpc-status-mapping.md` of gRPC, and A6 of its
//! proposals. gRPC-Web is not among it: its clients run in browsers and read statuses of HTTP.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pingora::http::RequestHeader;

use super::reason::Reason;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Milliseconds that a client waits before it sends a call again.
const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// What is escaped in a message: all but printable ASCII, and `%`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// A status of gRPC: those that the gateway answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrpcStatus {
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Aborted = 10,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a request is a call of gRPC, or says so.
pub(super) fn is_call(request: &RequestHeader) -> bool {
    request.method == Method::POST && has_grpc_body(&request.headers)
}

/// Whether a body has messages of gRPC.
pub(super) fn has_grpc_body(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let name = CONTENT_TYPE;
    let Some((start, rest)) = value.as_bytes().split_at_checked(name.len()) else { return false };
    start.eq_ignore_ascii_case(name.as_bytes()) && matches!(rest, [] | [b'+' | b';' | b' ', ..])
}

/// An answer of trailers alone: what would be the trailers is in the header.
pub(super) fn answer(reason: Reason, status: StatusCode, message: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.extend(trailers(of(reason, status), message));
    response
}

/// Whether an answer is one of trailers alone.
pub(super) fn is_trailers_only(response: &HeaderMap) -> bool {
    response.contains_key(STATUS)
}

/// Says in gRPC's words when a call may be sent again, if the answer says it in HTTP's.
pub(super) fn add_pushback(headers: &mut HeaderMap) {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        headers.insert(RETRY_PUSHBACK, HeaderValue::from(seconds.saturating_mul(1000)));
    }
}

/// The trailers that end an answer which has begun; `None` if there is no client to read them.
pub(super) fn trailers_of(reason: Reason, message: &str) -> Option<HeaderMap> {
    let status = match reason {
        Reason::UserChanged => GrpcStatus::Aborted,
        _ => of(reason, reason.status()?),
    };
    Some(trailers(status, message))
}

fn trailers(status: GrpcStatus, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, HeaderValue::from(status as u16));
    let message = utf8_percent_encode(message, ESCAPED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

/// The status of gRPC for an answer that has this one in HTTP. `docs/http-api.md` has the table.
fn of(reason: Reason, status: StatusCode) -> GrpcStatus {
    use GrpcStatus as G;

    if reason == Reason::UpstreamConnectTimeout {
        // The call was not sent to a server: it may be sent again, which this status says.
        return G::Unavailable;
    }
    match status {
        StatusCode::UNAUTHORIZED => G::Unauthenticated,
        StatusCode::FORBIDDEN => G::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => G::Unimplemented,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => G::DeadlineExceeded,
        StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        | StatusCode::TOO_MANY_REQUESTS => G::ResourceExhausted,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => G::Unavailable,
        StatusCode::BAD_REQUEST
        | StatusCode::URI_TOO_LONG
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::EXPECTATION_FAILED
        | StatusCode::INTERNAL_SERVER_ERROR => G::Internal,
        _ => G::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::AuthnError;
    use crate::proxy::admission::AdmissionError;

    #[test]
    fn a_call_is_a_post_with_the_content_type_of_grpc() {
        for (method, content_type, expected) in [
            ("POST", Some("application/grpc"), true),
            ("POST", Some("application/grpc+proto"), true),
            ("POST", Some("Application/gRPC+json"), true),
            ("POST", Some("application/grpc; charset=utf-8"), true),
            ("POST", Some("application/grpc-web"), false),
            ("POST", Some("application/grpc-web+proto"), false),
            ("POST", Some("application/grpcx"), false),
            ("POST", Some("application/json"), false),
            ("POST", Some("x"), false),
            ("POST", None, false),
            ("GET", Some("application/grpc"), false),
        ] {
            let mut request = RequestHeader::build(method, b"/", None).unwrap();
            if let Some(content_type) = content_type {
                request.insert_header(header::CONTENT_TYPE, content_type).unwrap();
            }
            assert_eq!(is_call(&request), expected, "{method} {content_type:?}");
        }
    }

    #[test]
    fn each_answer_has_the_status_of_grpc_that_its_libraries_know() {
        for (reason, expected) in [
            (Reason::Authentication(AuthnError::NoToken), "16"),
            (Reason::Authentication(AuthnError::SessionEnded), "16"),
            (Reason::Authentication(AuthnError::Blocked), "7"),
            (Reason::Authentication(AuthnError::StoreUnavailable), "14"),
            (Reason::RateLimited, "8"),
            (Reason::TooManyErrors, "8"),
            (Reason::RouteUnknown, "12"),
            (Reason::MethodNotAllowed, "12"),
            (Reason::UpstreamUnreachable, "14"),
            (Reason::UpstreamTlsFailed, "14"),
            (Reason::UpstreamBrokeOff, "14"),
            (Reason::UpstreamConnectTimeout, "14"),
            (Reason::UpstreamTimeout, "4"),
            (Reason::TooManyUnderWay, "14"),
            (Reason::ClientTimeout, "4"),
            (Reason::Admission(AdmissionError::HeaderName), "13"),
            (Reason::Admission(AdmissionError::HeaderTooLarge), "8"),
            (Reason::Admission(AdmissionError::TargetTooLong), "13"),
            (Reason::RefusedByServer(413), "8"),
            (Reason::InternalError, "13"),
        ] {
            let status = reason.status().unwrap();
            let answer = answer(reason, status, "why");
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["grpc-status"], expected, "{reason:?}");
            let trailers = trailers_of(reason, "why").unwrap();
            assert_eq!(trailers["grpc-status"], expected, "{reason:?}");
        }
        assert_eq!(trailers_of(Reason::UserChanged, "why").unwrap()["grpc-status"], "10");
        assert!(trailers_of(Reason::ClientGone, "why").is_none());
    }

    #[test]
    fn a_message_is_escaped_as_grpc_reads_it() {
        let trailers = trailers_of(Reason::RouteUnknown, "100% `é`\n 好").unwrap();

        assert_eq!(trailers["grpc-message"], "100%25 `%C3%A9`%0A %E5%A5%BD");
    }

    #[test]
    fn a_wait_is_said_in_milliseconds_too() {
        let mut headers = HeaderMap::new();
        add_pushback(&mut headers);
        assert!(headers.is_empty());
        headers.insert(header::RETRY_AFTER, HeaderValue::from(3));

        add_pushback(&mut headers);

        assert_eq!(
            (&headers["grpc-retry-pushback-ms"], &headers["retry-after"]),
            (&"3000".parse().unwrap(), &"3".parse().unwrap())
        );
    }
}
