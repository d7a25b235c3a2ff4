//! Answers that the gateway gives itself, and the one way they reach the client.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::admission::{AdmissionError, refused_name};
use super::current::Current;
use super::grpc;
use super::handover::RefusedHeader;
use super::limits;
use super::reason::Reason;
use super::refusal::RefusalAnswer;
use super::request_id::RequestId;
use super::routed::Routed;
use crate::authn;
use crate::problem::{self, Problem};
use crate::route::Reject;

/// Answers `OPTIONS *`.
pub(super) fn options(current: &Current) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, current.admission.allow().clone());
    response
}

/// Answers a probe of a balancer. While the gateway drains, it sends its clients elsewhere.
pub(super) fn health(is_draining: bool) -> Response<Bytes> {
    let (status, text) =
        if is_draining { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } else { (StatusCode::OK, "ok\n") };
    document_of(status, "text/plain", text.as_bytes().to_vec())
}

/// Longest name of a refused header, in bytes, that its document repeats.
const MAX_NAME: usize = 100;

/// What the document of a request that is not admitted says about it. A header that is refused is
/// named, never shown with its value.
pub(super) fn admission_detail(
    reason: Reason,
    refused: Option<&RefusedHeader>,
    headers: &HeaderMap,
) -> Option<String> {
    let Reason::Admission(error) = reason else { return None };
    let name = match (refused, error) {
        (Some(refused), _) => refused.field.as_deref(),
        (None, AdmissionError::HeaderName) => refused_name(headers).map(|name| name.as_str().as_bytes()),
        _ => None,
    };
    let Some(name) = name else { return Some(error.to_string()) };
    let name = name.get(..MAX_NAME).unwrap_or(name);
    Some(format!("{error}: `{}`", name.escape_ascii()))
}

/// Answers a refused request, in the shape that its route asks for. `request_detail` is what
/// [`admission_detail`] says.
pub(super) fn refusal(
    reason: Reason,
    answer: RefusalAnswer,
    request_detail: Option<String>,
    routed: Option<&Routed>,
    is_grpc: bool,
    current: &Current,
    request_id: &RequestId,
) -> Response<Bytes> {
    let (retry_after, allow) = match answer {
        RefusalAnswer::Page(page) if !is_grpc => return *page,
        RefusalAnswer::RetryAfter(seconds) => (Some(seconds), None),
        RefusalAnswer::Allow(methods) => (None, Some(*methods)),
        RefusalAnswer::Document | RefusalAnswer::Page(_) => (None, None),
    };
    let is_of_method = reason == Reason::Admission(AdmissionError::Method);
    let allow = allow.or_else(|| is_of_method.then(|| current.admission.allow().clone()));
    let shape = match routed {
        _ if is_grpc => Shape::Grpc,
        Some(routed) => Shape::Route(&routed.route.reject),
        None => Shape::Route(&Reject::Problem),
    };
    let request_detail = request_detail.or_else(|| route_detail(reason, routed));
    let mut response = document(reason, shape, request_detail.as_deref(), request_id);
    let headers = response.headers_mut();
    if let Some(methods) = allow {
        headers.insert(header::ALLOW, methods);
    }
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reason == Reason::RateLimited
        && let Some((routed, allowance)) = routed.and_then(|routed| Some((routed, routed.allowance?)))
    {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(allowance.reset_seconds()));
        headers.extend(limits::fields(routed.route.index, &allowance, current).filter_map(named));
    }
    if is_grpc {
        grpc::add_pushback(headers);
    }
    response
}

/// Answers a request that was not forwarded or not answered in the end, with a problem document or
/// in gRPC's words.
pub(super) fn failure(reason: Reason, is_grpc: bool, request_id: &RequestId) -> Response<Bytes> {
    document(reason, if is_grpc { Shape::Grpc } else { Shape::Route(&Reject::Problem) }, None, request_id)
}

/// The trailers that end the answer of a call of gRPC that was cut off or has failed; `None` if
/// there is no client to read them.
pub(super) fn grpc_trailers(reason: Reason) -> Option<HeaderMap> {
    grpc::trailers_of(reason, &words(reason, None))
}

/// The shape of an answer.
#[derive(Clone, Copy)]
enum Shape<'a> {
    Grpc,
    Route(&'a Reject),
}

/// What a refusal is called, and what its client can do about it, in one line.
fn words(reason: Reason, request_detail: Option<&str>) -> String {
    let code = public_code(reason);
    match request_detail.or_else(|| detail(reason)) {
        Some(detail) => format!("{code}: {detail}"),
        None => code.to_owned(),
    }
}

/// What the document says about the route that refuses.
fn route_detail(reason: Reason, routed: Option<&Routed>) -> Option<String> {
    match (reason, routed) {
        (Reason::PathRefused(refusal), _) => Some(refusal.to_string()),
        (Reason::WebSocketNotAllowed, Some(routed)) => Some(format!(
            "this route accepts no WebSocket: `routes[{}].websocket` is not set in the gateway's configuration",
            routed.route.index
        )),
        _ => None,
    }
}

/// The document of a refusal in each shape, with the header fields that belong to its reason.
fn document(
    reason: Reason,
    shape: Shape<'_>,
    request_detail: Option<&str>,
    request_id: &RequestId,
) -> Response<Bytes> {
    let status = reason.status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (code, request_id) = (public_code(reason), request_id.as_str());
    let mut response = match shape {
        Shape::Grpc => grpc::answer(reason, status, &words(reason, request_detail)),
        Shape::Route(Reject::Code200) => {
            let body =
                serde_json::json!({ "code": status.as_u16(), "message": code, "request_id": request_id });
            document_of(StatusCode::OK, "application/json", body.to_string().into_bytes())
        }
        Shape::Route(Reject::Template(template)) => {
            let body = template.body.render(&|name| match name {
                "code" => code.into(),
                "message" => request_detail.or_else(|| detail(reason)).unwrap_or(code).into(),
                "status" => status.as_u16().into(),
                "request_id" => request_id.into(),
                _ => serde_json::Value::Null,
            });
            document_of(template.status.unwrap_or(status), "application/json", body)
        }
        Shape::Route(Reject::Problem) => {
            let document = Problem {
                kind: "about:blank",
                title: status.canonical_reason().unwrap_or("Error"),
                status: status.as_u16(),
                detail: request_detail.or_else(|| detail(reason)),
                code,
                request_id,
            };
            document_of(status, problem::CONTENT_TYPE, document.to_json())
        }
    };
    let is_unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    match reason {
        Reason::Authentication(authn::AuthnError::StoreUnavailable) => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Reason::OriginUnknown if !matches!(shape, Shape::Grpc) => {
            headers.insert(header::WWW_AUTHENTICATE, challenge(authn::AuthnError::NoToken));
        }
        // RFC 9110 §15.5.2 wants it in every 401.
        Reason::Authentication(refusal) if is_unauthorized => {
            headers.insert(header::WWW_AUTHENTICATE, challenge(refusal));
        }
        _ => {}
    }
    response
}

/// The word of a refusal in its document. Only the access log says which check a token failed: the
/// author of a forged one must not learn it.
fn public_code(reason: Reason) -> &'static str {
    match reason {
        Reason::Authentication(refusal) if reason.status() == Some(StatusCode::UNAUTHORIZED) => {
            refusal.oauth_error().unwrap_or("no_token")
        }
        _ => reason.as_str(),
    }
}

/// What a client can do about a refusal.
fn detail(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Authentication(authn::AuthnError::StoreUnavailable) => {
            Some("sessions cannot be looked up: wait, then send this request again")
        }
        Reason::Authentication(_) if reason.status() == Some(StatusCode::UNAUTHORIZED) => {
            Some("sign in and send the access token")
        }
        Reason::OriginUnknown => {
            Some("browsers cannot sign in at this host: add its origin to `login.origins`, or open another")
        }
        Reason::RateLimited
        | Reason::TooManyErrors
        | Reason::TooManyUnderWay
        | Reason::TooManyUnderWayOfAddress => {
            Some("wait as long as `Retry-After` says, then send this request again")
        }
        _ => None,
    }
}

/// The challenge of a 401. RFC 6750 §3.1: no error code if the request had no credentials at all.
const fn challenge(refusal: authn::AuthnError) -> HeaderValue {
    match refusal.oauth_error() {
        Some(_) => HeaderValue::from_static(r#"Bearer realm="menshen", error="invalid_token""#),
        None => HeaderValue::from_static(r#"Bearer realm="menshen""#),
    }
}

fn named((name, value): (&'static str, HeaderValue)) -> Option<(header::HeaderName, HeaderValue)> {
    Some((header::HeaderName::from_static(name), value))
}

fn document_of(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends an answer with the request's id. If bytes of the request's body are still to come, the
/// connection closes after it, so that they are never read as another request.
pub(super) async fn send(
    session: &mut Session,
    response: Response<Bytes>,
    request_id: &RequestId,
) -> pingora::Result<()> {
    let (parts, body) = response.into_parts();
    let is_head = session.req_header().method == http::Method::HEAD;
    let is_grpc = grpc::is_trailers_only(&parts.headers);
    let has_no_body = is_head || parts.status == StatusCode::NO_CONTENT || is_grpc;

    let mut header = ResponseHeader::build(parts.status, Some(parts.headers.len() + 3))?;
    for (name, value) in &parts.headers {
        header.append_header(name, value)?;
    }
    header.insert_header("x-request-id", request_id.as_str())?;
    header.insert_header(header::SERVER, "menshen")?;
    if is_grpc && let ServerSession::H2(http2) = session.as_downstream_mut() {
        // The header is the trailers, so the stream ends with it. Pingora's own function would end
        // it with an empty frame of data.
        return http2.write_response_header(Box::new(header), true);
    }
    if parts.status != StatusCode::NO_CONTENT {
        header.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    session.write_response_header(Box::new(header), has_no_body).await?;
    if !has_no_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
