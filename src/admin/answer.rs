//! What the admin listener sends back.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use tracing::error;

use crate::problem::{self, Problem};

/// An answer, before what every answer carries is added.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    allow: Option<&'static str>,
    retry_after_seconds: Option<u64>,
}

impl Answer {
    pub(super) const fn ok(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, content_type, body, allow: None, retry_after_seconds: None }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::ok("text/plain; charset=utf-8", text.into())
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::ok("application/json", body),
            Err(error) => {
                error!("an answer could not be written: {error}");
                Self::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", None)
            }
        }
    }

    pub(super) fn problem(status: StatusCode, code: &str, detail: Option<&str>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let problem =
            Problem { kind: "about:blank", title, status: status.as_u16(), detail, code, request_id: "" };
        Self { status, ..Self::ok(problem::CONTENT_TYPE, problem.to_json()) }
    }

    /// Says which methods there are instead.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let answer = Self::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None);
        Self { allow: Some(allow), ..answer }
    }

    /// Says that the same request may succeed so many seconds later.
    pub(super) fn after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// Adds what every answer carries; a HEAD is told the length of the body it does not get.
    pub(super) fn into_response(self, method: &Method) -> Response<Vec<u8>> {
        let length = self.body.len();
        let body = if method == Method::HEAD { Vec::new() } else { self.body };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A web page may name any address in a `<script>`; what is no script is then not run, and not read.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
