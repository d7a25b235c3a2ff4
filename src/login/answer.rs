//! Answers as they go to the client: RFC 6749 for logins, RFC 9457 for the rest.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use super::error::LoginError;
use super::mini_program::Grant;
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::problem::{self, Problem};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer, with what the access log says of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the client receives. A successful one holds a token.
    pub response: Response<Bytes>,
    /// `ok`, or the machine word of what was refused.
    pub outcome: &'static str,
    /// Name of the app that was signed in to, or would have been.
    pub app: Option<Arc<str>>,
    /// Who signed in.
    pub identity: Option<Identity>,
}

/// A successful login. See RFC 6749 §5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    openid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unionid: Option<&'a str>,
}

/// A refused login. See RFC 6749 §5.2; `code` and `request_id` are ours.
#[derive(Serialize)]
struct ErrorResponse<'a> {
    error: &'a str,
    error_description: &'a str,
    code: &'a str,
    request_id: &'a str,
}

impl Answer {
    /// The tokens of a login. One answered again says how long the token is valid from now on.
    pub(super) fn granted(grant: &Grant, now: Timestamp) -> Self {
        let document = TokenResponse {
            access_token: grant.token.expose(),
            token_type: "Bearer",
            expires_in: grant.token.expires_at.since(now).as_secs(),
            openid: grant.identity.subject.openid.as_str(),
            unionid: grant.identity.unionid.as_ref().map(|unionid| unionid.as_str()),
        };
        let mut answer = Self::json(StatusCode::OK, "ok", &document);
        answer.identity = Some(grant.identity.clone());
        answer
    }

    /// A refused login.
    pub(super) fn refused(error: &LoginError, request_id: &str) -> Self {
        let row = error.row();
        let document = ErrorResponse {
            error: row.error,
            error_description: row.description,
            code: row.code,
            request_id,
        };
        let mut answer = Self::json(row.status, row.code, &document);
        if let Some(seconds) = row.retry_after_seconds {
            answer.set(header::RETRY_AFTER, seconds.into());
        }
        match row.status {
            StatusCode::METHOD_NOT_ALLOWED => answer.set(header::ALLOW, HeaderValue::from_static("POST")),
            // RFC 9110 §15.5.2 wants it in every 401.
            StatusCode::UNAUTHORIZED => {
                answer.set(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => {}
        }
        answer
    }

    /// The keys that verify tokens. See RFC 7517 §8.5.
    pub(super) fn jwks(jwks: Bytes, method: &Method) -> Self {
        let body = if method == Method::HEAD { Bytes::new() } else { jwks };
        let mut answer = Self::new(StatusCode::OK, "ok", body);
        answer.set(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        answer
    }

    /// A path below the prefix that is no endpoint.
    pub(super) fn not_found(request_id: &str) -> Self {
        Self::problem(StatusCode::NOT_FOUND, "Not Found", "endpoint_unknown", request_id)
    }

    /// A method that the keys are not asked for with.
    pub(super) fn method_not_allowed(request_id: &str) -> Self {
        let title = "Method Not Allowed";
        let mut answer =
            Self::problem(StatusCode::METHOD_NOT_ALLOWED, title, "method_not_allowed", request_id);
        answer.set(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    }

    fn problem(status: StatusCode, title: &str, code: &'static str, request_id: &str) -> Self {
        let kind = "about:blank";
        let document = Problem { kind, title, status: status.as_u16(), detail: None, code, request_id };
        let mut answer = Self::new(status, code, document.to_json().into());
        answer.set(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    fn json(status: StatusCode, outcome: &'static str, document: &impl Serialize) -> Self {
        // Structs of strings and numbers cannot fail to serialise; an empty body would still carry the status.
        let body = serde_json::to_vec(document).unwrap_or_default();
        let mut answer = Self::new(status, outcome, body.into());
        answer.set(header::CONTENT_TYPE, JSON);
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.set(header::PRAGMA, HeaderValue::from_static("no-cache"));
        answer
    }

    fn new(status: StatusCode, outcome: &'static str, body: Bytes) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self { response, outcome, app: None, identity: None }
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.response.headers_mut().insert(name, value);
    }
}
