//! A person signs in: the endpoints, what each takes and what it answers.
//!
//! It decides which paths are its own, which requests are worth reading, and what a failure is called towards the
//! client. Bytes and connections are the proxy's, the exchange with WeChat is `wechat`'s, how often somebody may try
//! is the throttle's. A code sent twice is answered once, by `replay`.

mod answer;
mod body;
mod build;
mod error;
mod mini_program;
mod replay;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use tracing::{debug, info};

use self::body::Format;
use self::error::LoginError;
use self::mini_program::Attempt;
use self::replay::Replay;
use crate::clock::{Clock, Timestamp};
use crate::entropy::Entropy;
use crate::session::Sessions;
use crate::telemetry::metrics::Metrics;
use crate::throttle::Throttle;
use crate::token::Tokens;
use crate::wechat::WeChat;

pub use self::answer::Answer;

/// Where a backend finds the keys to verify tokens with. See RFC 8615.
const JWKS_PATH: &str = "/.well-known/jwks.json";
/// Labels of the metrics of logins.
const PROVIDER: &str = "wechat";
const FLOW: &str = "mini_program";

/// The login endpoints.
pub struct Login {
    path_prefix: String,
    max_body_bytes: usize,
    body_timeout: Duration,
    replay: Arc<Replay>,
    parts: Dependencies,
}

/// What the login works with.
#[derive(Clone)]
pub struct Dependencies {
    /// Exchanges codes.
    pub wechat: Arc<WeChat>,
    /// Mints tokens.
    pub tokens: Arc<Tokens>,
    /// Opens sessions.
    pub sessions: Arc<Sessions>,
    /// Limits logins.
    pub throttle: Arc<Throttle>,
    /// Counts logins.
    pub metrics: Arc<Metrics>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Names sessions.
    pub entropy: Arc<dyn Entropy>,
}

/// A path that the login answers; nothing below its prefix is ever forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/auth/login`
    Login,
    /// `/.well-known/jwks.json`
    Jwks,
    /// Below the prefix, and nothing.
    Unknown,
}

/// A request worth reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The body to read before [`Login::respond`]; `None` where none is wanted.
    pub body: Option<BodyLimit>,
}

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimit {
    /// Most bytes; more are [`BodyFault::TooLarge`].
    pub max_bytes: usize,
    /// Longest time for all of it; more is [`BodyFault::TimedOut`].
    pub timeout: Duration,
}

/// Why a body was not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is larger than admitted.
    TooLarge,
    /// It did not arrive in time.
    TimedOut,
    /// The connection broke, or the framing did.
    Broken,
}

impl Login {
    /// Says which endpoint a canonical path belongs to; `None` leaves the path to the routes.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        if path == JWKS_PATH {
            return Some(Endpoint::Jwks);
        }
        match path.strip_prefix(self.path_prefix.as_str())? {
            "/login" => Some(Endpoint::Login),
            rest if rest.is_empty() || rest.starts_with('/') => Some(Endpoint::Unknown),
            // `/authors` is not below `/auth`.
            _ => None,
        }
    }

    /// Decides by the header alone whether a request is worth reading.
    ///
    /// # Errors
    /// The answer to give instead.
    #[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
    pub fn admit(
        &self,
        endpoint: Endpoint,
        request: &Parts,
        client: IpAddr,
        request_id: &str,
    ) -> Result<Admission, Answer> {
        match endpoint {
            Endpoint::Unknown => Err(Answer::not_found(request_id)),
            Endpoint::Jwks if matches!(request.method, Method::GET | Method::HEAD) => {
                Ok(Admission { body: None })
            }
            Endpoint::Jwks => Err(Answer::method_not_allowed(request_id)),
            Endpoint::Login => self.admit_login(request, client).map_err(|error| {
                self.count(error.code());
                debug!(
                    login.outcome = error.code(),
                    http.request.id = request_id,
                    "login refused unread: {error}"
                );
                Answer::refused(&error, request_id)
            }),
        }
    }

    /// Answers an admitted request; `body` is what [`Admission::body`] asked for.
    ///
    /// An exchange that was begun goes on when the future is dropped: a mini program in the background loses the reply
    /// and sends the same code again.
    pub async fn respond(
        self: &Arc<Self>,
        endpoint: Endpoint,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        match endpoint {
            Endpoint::Unknown => Answer::not_found(request_id),
            Endpoint::Jwks => Answer::jwks(self.parts.tokens.jwks(), &request.method),
            Endpoint::Login => self.respond_to_login(request, body, client, now, request_id).await,
        }
    }

    fn admit_login(&self, request: &Parts, client: IpAddr) -> Result<Admission, LoginError> {
        if request.method != Method::POST {
            return Err(LoginError::MethodNotAllowed);
        }
        if declared_length(&request.headers).is_some_and(|length| length > self.max_body_bytes) {
            return Err(LoginError::BodyTooLarge);
        }
        Format::of(&request.headers)?;
        self.parts.throttle.admit_login(client)?;
        Ok(Admission { body: Some(BodyLimit { max_bytes: self.max_body_bytes, timeout: self.body_timeout }) })
    }

    async fn respond_to_login(
        self: &Arc<Self>,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let started = self.parts.clock.instant();
        let attempt = self.read_attempt(request, body, client);
        let app = attempt.as_ref().ok().map(|attempt| attempt.app.clone());
        let result = match attempt {
            Ok(attempt) => self.sign_in(attempt, now).await,
            Err(error) => Err(error),
        };

        let mut answer = match &result {
            Ok(grant) => Answer::granted(grant, self.parts.clock.now()),
            Err(error) => Answer::refused(error, request_id),
        };
        let elapsed = self.parts.clock.instant().saturating_duration_since(started);
        self.count(answer.outcome);
        if let Some(app) = &app {
            self.parts.metrics.login_duration.with_label_values(&[&**app]).observe(elapsed.as_secs_f64());
        }
        answer.app.clone_from(&app);
        let app = app.as_deref().unwrap_or_default();
        let (outcome, duration_ms) = (answer.outcome, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        info!(
            login.outcome = outcome,
            login.flow = FLOW,
            app.name = app,
            duration_ms,
            http.request.id = request_id,
            "a login ended: {outcome}"
        );
        answer
    }

    /// Reads who asks for what; costs WeChat nothing.
    fn read_attempt(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
    ) -> Result<Attempt, LoginError> {
        let body = body?;
        if body.len() > self.max_body_bytes {
            return Err(LoginError::BodyTooLarge);
        }
        let body = Format::of(&request.headers)?.read(&body)?;
        let app = self.choose_app(body.app.as_deref())?;
        let caller = self.replay.caller(client, &request.headers);
        let key = self.replay.code(&app.appid, &body.code);
        Ok(Attempt { app: app.name.clone(), key, code: body.code, client, caller })
    }

    fn count(&self, outcome: &str) {
        self.parts.metrics.logins.with_label_values(&[PROVIDER, FLOW, outcome]).inc();
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("path_prefix", &self.path_prefix).finish_non_exhaustive()
    }
}

/// The length that the header promises; a chunked body promises none and is measured as it is read.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().unwrap_or_default();
    // One that is no number, or beyond any, is larger than every limit.
    Some(text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
