//! The admin listener: metrics for Prometheus, and whether the gateway lives and is ready.
//!
//! Decides what each path answers; who may connect is the operator's choice of address, since it asks for no password.

mod health;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tracing::error;

use crate::problem::{self, Problem};
use crate::telemetry::metrics::Metrics;
pub use health::{Health, HealthState};

/// Prometheus' text format, version 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Answers the admin listener's requests.
pub struct Admin {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    measure: Box<dyn Fn() + Send + Sync>,
}

impl Admin {
    /// Answers from these; `measure` is called before metrics are read, for those that do not keep themselves.
    pub fn new(
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        measure: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { metrics, health, measure: Box::new(measure) }
    }

    /// What a request is answered; the path is without its query.
    pub fn answer(&self, method: &Method, path: &str) -> Response<Vec<u8>> {
        let answer = match Page::at(path) {
            None => Answer::problem(StatusCode::NOT_FOUND, "not_found", None),
            Some(_) if method != Method::GET && method != Method::HEAD => {
                Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", None)
            }
            Some(Page::Metrics) => self.metrics(),
            Some(Page::Live) => Answer::text("ok\n"),
            Some(Page::Ready) => self.ready(),
        };
        answer.into_response(method)
    }

    fn metrics(&self) -> Answer {
        (self.measure)();
        match self.metrics.encode() {
            Ok(body) => Answer { status: StatusCode::OK, content_type: METRICS_TYPE, body },
            Err(error) => {
                error!("metrics could not be written: {error}");
                Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics_unavailable", None)
            }
        }
    }

    fn ready(&self) -> Answer {
        let (code, detail) = match self.health.state() {
            HealthState::Ready => return Answer::text("ready\n"),
            HealthState::Starting => ("starting", "the gateway does not serve requests yet"),
            HealthState::Draining => ("draining", "the gateway is stopping and takes no new requests"),
        };
        Answer::problem(StatusCode::SERVICE_UNAVAILABLE, code, Some(detail))
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("health", &self.health).finish_non_exhaustive()
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        self.answer(&request.method, request.uri.path())
    }
}

/// What there is to ask for.
enum Page {
    Metrics,
    Live,
    Ready,
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }
}

struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn text(text: &str) -> Self {
        Self { status: StatusCode::OK, content_type: TEXT_TYPE, body: text.into() }
    }

    fn problem(status: StatusCode, code: &str, detail: Option<&str>) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        let problem =
            Problem { kind: "about:blank", title, status: status.as_u16(), detail, code, request_id: "" };
        Self { status, content_type: problem::CONTENT_TYPE, body: problem.to_json() }
    }

    /// Adds what every answer carries; a HEAD is told the length of the body it does not get.
    fn into_response(self, method: &Method) -> Response<Vec<u8>> {
        let length = self.body.len();
        let body = if method == Method::HEAD { Vec::new() } else { self.body };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
