//! Answers the gateway gives itself, and the one way they reach the client.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::authn;
use crate::config::RejectShape;
use crate::problem::{self, Problem};

/// A problem document as an answer.
pub(super) fn problem(
    status: StatusCode,
    code: &str,
    detail: Option<&str>,
    request_id: &str,
) -> Response<Bytes> {
    let document = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        code,
        request_id,
    };
    json(status, problem::CONTENT_TYPE, document.to_json())
}

/// The refusal of a request that must prove who it is, and did not. Which check a token failed stands in the access
/// log alone: whoever forges one must not be told how far it came.
pub(super) fn unauthenticated(
    refusal: &authn::AuthnError,
    shape: RejectShape,
    request_id: &str,
) -> Response<Bytes> {
    let code = refusal.oauth_error().unwrap_or("no_token");
    if shape == RejectShape::Code200 {
        let body = serde_json::json!({ "code": 401, "message": code, "request_id": request_id });
        return json(StatusCode::OK, "application/json", body.to_string().into_bytes());
    }
    let detail = "sign in and send the access token";
    let mut response = problem(StatusCode::UNAUTHORIZED, code, Some(detail), request_id);
    // RFC 6750 §3.1: no error code where the request had no credentials at all.
    let challenge = match refusal.oauth_error() {
        Some(_) => HeaderValue::from_static(r#"Bearer realm="menshen", error="invalid_token""#),
        None => HeaderValue::from_static(r#"Bearer realm="menshen""#),
    };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// The refusal of a request of which nobody can say at the moment who sent it.
pub(super) fn unavailable(reason: &str, shape: RejectShape, request_id: &str) -> Response<Bytes> {
    let mut response = match shape {
        RejectShape::Code200 => {
            let body = serde_json::json!({ "code": 503, "message": reason, "request_id": request_id });
            json(StatusCode::OK, "application/json", body.to_string().into_bytes())
        }
        RejectShape::Problem => {
            let detail = "sessions cannot be looked up: wait, then send this request again";
            problem(StatusCode::SERVICE_UNAVAILABLE, reason, Some(detail), request_id)
        }
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The refusal of a person whom the route does not admit.
pub(super) fn forbidden(shape: RejectShape, reason: &str, request_id: &str) -> Response<Bytes> {
    match shape {
        RejectShape::Code200 => {
            let body = serde_json::json!({ "code": 403, "message": reason, "request_id": request_id });
            json(StatusCode::OK, "application/json", body.to_string().into_bytes())
        }
        RejectShape::Problem => problem(StatusCode::FORBIDDEN, reason, None, request_id),
    }
}

/// The refusal of a request beyond a limit.
pub(super) fn too_many(
    reason: &str,
    retry_after_seconds: u64,
    shape: RejectShape,
    request_id: &str,
) -> Response<Bytes> {
    let mut response = match shape {
        RejectShape::Code200 => {
            let body = serde_json::json!({ "code": 429, "message": reason, "request_id": request_id });
            json(StatusCode::OK, "application/json", body.to_string().into_bytes())
        }
        RejectShape::Problem => {
            let detail = "wait as long as `Retry-After` says, then send this request again";
            problem(StatusCode::TOO_MANY_REQUESTS, reason, Some(detail), request_id)
        }
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
    response
}

fn json(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends an answer. Where body bytes of the request are still to come, the connection closes after it, so that
/// they are never read as another request.
pub(super) async fn send(session: &mut Session, response: Response<Bytes>) -> pingora::Result<()> {
    let (parts, body) = response.into_parts();
    let is_head = session.req_header().method == http::Method::HEAD;
    let has_no_body = is_head || parts.status == StatusCode::NO_CONTENT;

    let mut header = ResponseHeader::build(parts.status, Some(parts.headers.len() + 2))?;
    for (name, value) in &parts.headers {
        header.append_header(name, value)?;
    }
    if parts.status != StatusCode::NO_CONTENT {
        header.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    header.insert_header(header::SERVER, "menshen")?;
    session.write_response_header(Box::new(header), has_no_body).await?;
    if !has_no_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
