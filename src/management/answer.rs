//! What is sent back, over whichever door the request came.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use tracing::error;

use crate::problem::{self, Problem};
use crate::session::SessionError;

/// `Retry-After` while the store does not answer, in seconds.
const STORE_RETRY_SECONDS: u64 = 1;

/// An answer, before the headers that every answer has are added.
#[derive(Debug)]
pub struct ManagementAnswer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    allow: Option<&'static str>,
    retry_after_seconds: Option<u64>,
    challenge: Option<Challenge>,
}

/// Which credential is asked for.
#[derive(Clone, Copy, Debug)]
enum Challenge {
    /// A token, as `WWW-Authenticate` says.
    Bearer,
    /// A name and a token, as `Proxy-Authenticate` says.
    Proxy,
}

impl ManagementAnswer {
    /// 200 with this body.
    pub const fn ok(content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body,
            allow: None,
            retry_after_seconds: None,
            challenge: None,
        }
    }

    /// 200 with plain text.
    pub fn text(text: &str) -> Self {
        Self::ok("text/plain; charset=utf-8", text.into())
    }

    /// 200 with JSON.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::ok("application/json", body),
            Err(error) => {
                error!("cannot serialize an answer: {error}");
                Self::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", None)
            }
        }
    }

    /// A problem document.
    pub fn problem(status: StatusCode, code: &str, detail: Option<&str>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let problem =
            Problem { kind: "about:blank", title, status: status.as_u16(), detail, code, request_id: "" };
        Self { status, ..Self::ok(problem::CONTENT_TYPE, problem.to_json()) }
    }

    /// Says that an operation on sessions failed. If the store failed, it may have been done in
    /// part.
    pub(super) fn session_error(operation: &'static str, error: &SessionError) -> Self {
        error!("cannot {operation}: {error}");
        match error {
            SessionError::Store(_) => {
                let detail =
                    "the store did not answer: all, some or none of it may have been done; send it again";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::problem(status, "store_unavailable", Some(detail)).with_retry_after(STORE_RETRY_SECONDS)
            }
            SessionError::Ended | SessionError::Blocked | SessionError::Internal(_) => {
                Self::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", None)
            }
        }
    }

    /// Refuses the method with 405 and an `Allow` header.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let answer = Self::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None);
        Self { allow: Some(allow), ..answer }
    }

    /// Adds a `Retry-After` header.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// Adds that a token is asked for. See RFC 6750 §3.
    #[must_use]
    pub fn with_bearer_challenge(self) -> Self {
        Self { challenge: Some(Challenge::Bearer), ..self }
    }

    /// Adds that a proxy asks for a name and a token. See RFC 9110 §11.7.1.
    #[must_use]
    pub fn with_proxy_challenge(self) -> Self {
        Self { challenge: Some(Challenge::Proxy), ..self }
    }

    /// Adds the methods that are answered.
    #[must_use]
    pub fn with_allow(self, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..self }
    }

    /// Adds the headers that every answer has. The answer to HEAD has the length, but not the body.
    pub fn into_response(self, method: &Method) -> Response<Vec<u8>> {
        let length = self.body.len();
        let body = if method == Method::HEAD { Vec::new() } else { self.body };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A web page can name any address in a `<script>`: the browser must not run this answer.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(challenge) = self.challenge {
            let (name, challenge) = match challenge {
                Challenge::Bearer => (WWW_AUTHENTICATE, "Bearer"),
                Challenge::Proxy => (PROXY_AUTHENTICATE, "Basic realm=\"menshen\""),
            };
            headers.insert(name, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
