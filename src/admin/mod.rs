//! The admin listener: metrics for Prometheus, whether the gateway lives and is ready, sessions and people for operators.
//!
//! Decides what each path answers; who may connect is the operator's choice of address, since it asks for no password.

mod answer;
mod binding;
mod body;
pub mod client;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod health;
mod naming;
mod origin;
mod people;
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

use self::answer::Answer;
use self::people::PeoplePage;
use self::session::SessionPage;
use crate::runtime::{Runtime, Shared};
pub use body::BodyFault;
pub use health::{Health, HealthState};

/// Prometheus' text format, version 0.0.4.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers the admin listener's requests.
pub struct Admin {
    shared: Shared,
    health: Arc<Health>,
    current: Box<dyn Fn() -> Arc<Runtime> + Send + Sync>,
}

impl Admin {
    /// Answers from these; `current` gives what the last reload made.
    pub fn new(
        shared: Shared,
        health: Arc<Health>,
        current: impl Fn() -> Arc<Runtime> + Send + Sync + 'static,
    ) -> Self {
        Self { shared, health, current: Box::new(current) }
    }

    /// What a request is answered. Its body is read only where one is wanted.
    pub async fn answer(
        &self,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Response<Vec<u8>> {
        let method = &request.method;
        let answer = match Page::at(request.uri.path()) {
            None => Answer::problem(StatusCode::NOT_FOUND, "not_found", None),
            Some(Page::People(page)) => self.answer_people(page, request, client, body).await,
            Some(Page::Sessions(page)) => self.answer_sessions(page, request, client, body).await,
            Some(_) if method != Method::GET && method != Method::HEAD => {
                Answer::method_not_allowed("GET, HEAD")
            }
            Some(Page::Metrics) => self.metrics(),
            Some(Page::Live) => Answer::text("ok\n"),
            Some(Page::Ready) => self.ready(),
        };
        answer.into_response(method)
    }

    fn metrics(&self) -> Answer {
        // It does not count itself.
        (self.current)().authenticator.count_remembered();
        match self.shared.metrics.encode() {
            Ok(body) => Answer::ok(METRICS_TYPE, body),
            Err(error) => {
                error!("metrics could not be written: {error}");
                Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics_unavailable", None)
            }
        }
    }

    fn ready(&self) -> Answer {
        let (code, detail) = match self.health.state() {
            HealthState::Ready if self.shared.session_core.is_available() => return Answer::text("ready\n"),
            HealthState::Ready => {
                ("store_unavailable", "the store does not answer: nobody can sign in, and sessions run out")
            }
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
        let request = session.req_header().as_owned_parts();
        if !matches!(request.method, Method::GET | Method::HEAD) {
            // Its body may stay unread.
            session.set_keepalive(None);
        }
        let client = session.client_addr().and_then(|address| address.as_inet()).copied();
        self.answer(&request, client, body::read(session)).await
    }
}

/// What there is to ask for.
enum Page {
    Metrics,
    Live,
    Ready,
    Sessions(SessionPage),
    People(PeoplePage),
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/sessions" => Some(Self::Sessions(SessionPage::List)),
            "/people/block" => Some(Self::People(PeoplePage::Block)),
            "/people/unblock" => Some(Self::People(PeoplePage::Unblock)),
            "/people/blocked" => Some(Self::People(PeoplePage::Blocked)),
            "/people/bind" => Some(Self::People(PeoplePage::Bind)),
            "/people/unbind" => Some(Self::People(PeoplePage::Unbind)),
            "/people/bound" => Some(Self::People(PeoplePage::Bound)),
            "/sessions/revoke" => Some(Self::Sessions(SessionPage::Revoke)),
            _ => None,
        }
    }
}
