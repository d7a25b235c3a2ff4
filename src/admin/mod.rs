//! The admin listener: metrics for Prometheus, liveness and readiness.
//!
//! Decides what each path answers. It changes nothing, so it may be scraped from other machines; it
//! asks for no password. Operators have the door `control`, programs of the business `internal`.

mod health;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tracing::error;

pub use self::health::{GatewayHealth, HealthState};
use crate::management::ManagementAnswer;
use crate::runtime::{Runtime, Shared};

/// Prometheus' text format, version 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers the admin listener's requests.
pub struct Admin {
    shared: Shared,
    health: Arc<GatewayHealth>,
    current: Box<dyn Fn() -> Arc<Runtime> + Send + Sync>,
}

impl Admin {
    /// Makes the listener's service; `current` returns the running configuration.
    pub fn new(
        shared: Shared,
        health: Arc<GatewayHealth>,
        current: impl Fn() -> Arc<Runtime> + Send + Sync + 'static,
    ) -> Self {
        Self { shared, health, current: Box::new(current) }
    }

    /// Answers a request.
    pub fn answer(&self, method: &Method, path: &str) -> Response<Vec<u8>> {
        let answer = match AdminPage::at(path) {
            None => ManagementAnswer::problem(StatusCode::NOT_FOUND, "not_found", None),
            Some(_) if !matches!(*method, Method::GET | Method::HEAD) => {
                ManagementAnswer::method_not_allowed("GET, HEAD")
            }
            Some(AdminPage::Metrics) => self.metrics(),
            Some(AdminPage::Live) => ManagementAnswer::text("ok\n"),
            Some(AdminPage::Ready) => self.ready(),
        };
        answer.into_response(method)
    }

    fn metrics(&self) -> ManagementAnswer {
        // The caches do not keep these gauges up to date themselves.
        (self.current)().authenticator.update_cache_metric();
        match self.shared.metrics.encode() {
            Ok(body) => ManagementAnswer::ok(METRICS_TYPE, body),
            Err(error) => {
                error!("metrics could not be written: {error}");
                ManagementAnswer::problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics_unavailable", None)
            }
        }
    }

    fn ready(&self) -> ManagementAnswer {
        let (code, detail) = match self.health.state() {
            HealthState::Ready if self.shared.store_health.is_available() => {
                return ManagementAnswer::text("ready\n");
            }
            HealthState::Ready => (
                "store_unavailable",
                "the store does not answer: users cannot sign in, and their sessions expire",
            ),
            HealthState::Starting => ("starting", "the gateway does not serve requests yet"),
            HealthState::Draining => ("draining", "the gateway is stopping and takes no new requests"),
        };
        ManagementAnswer::problem(StatusCode::SERVICE_UNAVAILABLE, code, Some(detail))
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
        let request = session.req_header().as_owned_parts();
        if !matches!(request.method, Method::GET | Method::HEAD) {
            // The body stays unread, so the connection cannot be used again.
            session.set_keepalive(None);
        }
        self.answer(&request.method, request.uri.path())
    }
}

/// The pages of the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminPage {
    Metrics,
    Live,
    Ready,
}

impl AdminPage {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }
}
