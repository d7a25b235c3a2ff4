//! The admin listener: metrics for Prometheus, liveness and readiness, sessions and people for
//! operators.
//!
//! Decides what each path answers. The listener asks for no password: the operator decides who can
//! connect, by the address that the listener is bound to.

mod answer;
mod audit;
mod binding;
mod body;
pub mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod health;
mod origin;
mod people;
mod scope_request;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tracing::error;

use self::answer::AdminAnswer;
use self::origin::OriginError;
use crate::runtime::{Runtime, Shared};
pub use body::AdminBodyError;
pub use health::{GatewayHealth, HealthState};

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

    /// Answers a request. The body is read only if the page is one that changes something.
    pub async fn answer(
        &self,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, AdminBodyError>>,
    ) -> Response<Vec<u8>> {
        let answer = self.answer_page(request, client, body).await.unwrap_or_else(|refused| refused);
        answer.into_response(&request.method)
    }

    /// The answer of the page; `Err` if the request is refused.
    async fn answer_page(
        &self,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, AdminBodyError>>,
    ) -> Result<AdminAnswer, AdminAnswer> {
        let Some(page) = AdminPage::at(request.uri.path()) else {
            return Err(AdminAnswer::problem(StatusCode::NOT_FOUND, "not_found", None));
        };
        if page.is_about_people() {
            origin::check(request).map_err(OriginError::answer)?;
        }
        page.check_method(&request.method)?;
        let query = request.uri.query().unwrap_or_default();
        let body = if page.is_change() { read_json(request, body).await? } else { Bytes::new() };
        match page {
            AdminPage::Metrics => Ok(self.metrics()),
            AdminPage::Live => Ok(AdminAnswer::text("ok\n")),
            AdminPage::Ready => Ok(self.ready()),
            AdminPage::Sessions => self.list_sessions(query, client).await,
            AdminPage::RevokeSessions => self.revoke_sessions(&body, client).await,
            AdminPage::Blocked => self.list_blocked(query, client).await,
            AdminPage::Block => self.change_block(true, &body, client).await,
            AdminPage::Unblock => self.change_block(false, &body, client).await,
            AdminPage::Bound => self.show_binding(query, client).await,
            AdminPage::Bind => self.bind(&body, client).await,
            AdminPage::Unbind => self.unbind(&body, client).await,
        }
    }

    fn metrics(&self) -> AdminAnswer {
        // The caches do not keep these gauges up to date themselves.
        (self.current)().authenticator.update_cache_metric();
        match self.shared.metrics.encode() {
            Ok(body) => AdminAnswer::ok(METRICS_TYPE, body),
            Err(error) => {
                error!("metrics could not be written: {error}");
                AdminAnswer::problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics_unavailable", None)
            }
        }
    }

    fn ready(&self) -> AdminAnswer {
        let (code, detail) = match self.health.state() {
            HealthState::Ready if self.shared.store_health.is_available() => {
                return AdminAnswer::text("ready\n");
            }
            HealthState::Ready => (
                "store_unavailable",
                "the store does not answer: users cannot sign in, and their sessions expire",
            ),
            HealthState::Starting => ("starting", "the gateway does not serve requests yet"),
            HealthState::Draining => ("draining", "the gateway is stopping and takes no new requests"),
        };
        AdminAnswer::problem(StatusCode::SERVICE_UNAVAILABLE, code, Some(detail))
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
            // The body may stay unread, so the connection cannot be used again.
            session.set_keepalive(None);
        }
        let client = session.client_addr().and_then(|address| address.as_inet()).copied();
        self.answer(&request, client, body::read(session)).await
    }
}

/// Reads the body of a request that changes something.
async fn read_json(
    request: &Parts,
    body: impl Future<Output = Result<Bytes, AdminBodyError>>,
) -> Result<Bytes, AdminAnswer> {
    origin::check_json(&request.headers).map_err(OriginError::answer)?;
    body.await.map_err(AdminBodyError::answer)
}

/// The pages of the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminPage {
    Metrics,
    Live,
    Ready,
    Sessions,
    RevokeSessions,
    Block,
    Unblock,
    Blocked,
    Bind,
    Unbind,
    Bound,
}

impl AdminPage {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/sessions" => Some(Self::Sessions),
            "/sessions/revoke" => Some(Self::RevokeSessions),
            "/people/block" => Some(Self::Block),
            "/people/unblock" => Some(Self::Unblock),
            "/people/blocked" => Some(Self::Blocked),
            "/people/bind" => Some(Self::Bind),
            "/people/unbind" => Some(Self::Unbind),
            "/people/bound" => Some(Self::Bound),
            _ => None,
        }
    }

    /// Whether the page shows or changes people and their sessions: web pages may not ask for it.
    const fn is_about_people(self) -> bool {
        !matches!(self, Self::Metrics | Self::Live | Self::Ready)
    }

    /// Whether the page changes something: it needs POST and a JSON body.
    const fn is_change(self) -> bool {
        matches!(self, Self::RevokeSessions | Self::Block | Self::Unblock | Self::Bind | Self::Unbind)
    }

    fn check_method(self, method: &Method) -> Result<(), AdminAnswer> {
        if self.is_change() {
            return if method == Method::POST {
                Ok(())
            } else {
                Err(AdminAnswer::method_not_allowed("POST"))
            };
        }
        match *method {
            Method::GET | Method::HEAD => Ok(()),
            _ => Err(AdminAnswer::method_not_allowed("GET, HEAD")),
        }
    }
}
