//! A person signs in, stays signed in, and signs out: the endpoints, what each takes and what it answers.
//!
//! It decides which paths are its own, which requests are worth reading, and what a failure is called towards the
//! client. Bytes and connections are the proxy's, the exchange with WeChat is `wechat`'s, what a session is and when it
//! ends is `session`'s, how often somebody may try is the throttle's. A code becomes a session in `flow`, for a mini
//! program as for a browser, whose way there and back is `browser`'s. A code
//! that is sent twice is exchanged once, by `once`.

mod answer;
mod browser;
mod build;
mod client;
mod error;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod once;
mod program;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use tracing::{debug, info};

pub use self::browser::PageDenial;
use self::browser::{
    AppPath, BrowserGrant, Origin, Origins, is_navigation, is_sent_without_preflight, may_be_cross_site,
};
use self::client::{client_address, client_fields};
use self::error::SignInError;
use self::flow::SignInAttempt;
use self::once::CodeMemory;
use self::program::body::BodyFormat;
use self::program::grant::TokenGrant;
use crate::authn::{Authenticated, Authenticator, Credential, CrossSite, is_cross_site};
use crate::clock::{Clock, Timestamp};
use crate::config::AppKind;
use crate::entropy::Entropy;
use crate::page::Pages;
use crate::session::Sessions;
use crate::store::{Store, StoreHealth};
use crate::telemetry::metrics::Metrics;
use crate::throttle::Throttle;
use crate::token::Tokens;
use crate::wechat::WeChat;

pub use self::answer::SignInAnswer;
pub use self::build::SignInSettings;

/// Where a backend finds the keys to verify tokens with. See RFC 8615.
const JWKS_PATH: &str = "/.well-known/jwks.json";
/// Labels of the metrics of logins.
const PROVIDER: &str = "wechat";

/// The login endpoints.
pub struct SignInService {
    path_prefix: String,
    max_body_bytes: usize,
    body_timeout: Duration,
    /// Where browsers reach the gateway.
    origins: Origins,
    /// Origins of other sites that a sign-in may lead back to.
    return_to: Vec<Origin>,
    program_codes: Arc<CodeMemory<TokenGrant>>,
    browser_codes: Arc<CodeMemory<BrowserGrant>>,
    deps: Arc<SignInDependencies>,
}

/// What the login works with.
#[derive(Clone)]
pub struct SignInDependencies {
    /// Exchanges codes.
    pub wechat: Arc<WeChat>,
    /// Mints tokens.
    pub tokens: Arc<Tokens>,
    /// Opens sessions.
    pub sessions: Arc<Sessions>,
    /// Keeps sign-ins and claims of codes.
    pub store: Arc<dyn Store>,
    /// Says whether a sign-in can succeed.
    pub store_health: Arc<StoreHealth>,
    /// Says who asks to sign out.
    pub authenticator: Arc<Authenticator>,
    /// What people see.
    pub pages: Arc<Pages>,
    /// Limits logins.
    pub throttle: Arc<Throttle>,
    /// Counts logins.
    pub metrics: Arc<Metrics>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Names tokens.
    pub entropy: Arc<dyn Entropy>,
}

/// A path that the login answers; nothing below its prefix is ever forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/auth/login`
    Login,
    /// `/auth/refresh`
    Refresh,
    /// `/auth/logout`
    Logout,
    /// `/auth/session`
    Session,
    /// `/auth/web/{app}/start`
    Start,
    /// `/auth/web/{app}/callback`
    Callback,
    /// `/.well-known/jwks.json`
    Jwks,
    /// Below the prefix, and nothing.
    Unknown,
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

impl SignInService {
    /// Says which endpoint a canonical path belongs to; `None` leaves the path to the routes.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        if path == JWKS_PATH {
            return Some(Endpoint::Jwks);
        }
        match path.strip_prefix(self.path_prefix.as_str())? {
            "/login" => Some(Endpoint::Login),
            "/refresh" => Some(Endpoint::Refresh),
            "/logout" => Some(Endpoint::Logout),
            "/session" => Some(Endpoint::Session),
            rest if rest.is_empty() || rest.starts_with('/') => {
                Some(AppPath::parse(rest).map_or(Endpoint::Unknown, |path| path.endpoint))
            }
            // `/authors` is not below `/auth`.
            _ => None,
        }
    }

    /// Decides by the header alone whether a request is worth reading; returns the limits of the body to read before
    /// [`SignInService::respond`], or `None` if the endpoint reads no body.
    ///
    /// # Errors
    /// The answer to give instead.
    #[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
    pub fn precheck(
        &self,
        endpoint: Endpoint,
        request: &Parts,
        client: IpAddr,
        request_id: &str,
    ) -> Result<Option<BodyLimit>, SignInAnswer> {
        match endpoint {
            Endpoint::Unknown => Err(SignInAnswer::not_found(request_id)),
            Endpoint::Jwks | Endpoint::Session if matches!(request.method, Method::GET | Method::HEAD) => {
                Ok(None)
            }
            Endpoint::Jwks | Endpoint::Session => {
                Err(SignInAnswer::method_not_allowed("GET, HEAD", request_id))
            }
            Endpoint::Start | Endpoint::Callback if request.method == Method::GET => {
                Self::precheck_page(request, request_id)
            }
            // A HEAD would spend the code that comes with it, and tell nobody.
            Endpoint::Start | Endpoint::Callback => Err(SignInAnswer::method_not_allowed("GET", request_id)),
            Endpoint::Login if self.is_sign_in_page(request) => Self::precheck_page(request, request_id),
            Endpoint::Refresh => self
                .precheck_refresh(request, client)
                .map_err(|error| SignInAnswer::refused(&error, request_id)),
            Endpoint::Logout => self
                .precheck_post(request)
                .map_err(|error| SignInAnswer::refused_as_problem(&error, request_id)),
            Endpoint::Login => self.precheck_login(request, client).map_err(|error| {
                self.count(AppKind::MiniProgram, error.code());
                debug!(
                    login.outcome = error.code(),
                    http.request.id = request_id,
                    "login refused unread: {error}"
                );
                let answer = SignInAnswer::refused(&error, request_id);
                let has_page = error == SignInError::MethodNotAllowed && self.has_sign_in_page(request);
                if has_page { answer.with_allow("GET, POST") } else { answer }
            }),
        }
    }

    /// Answers a request that passed [`SignInService::precheck`]; `body` is what that asked for.
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
    ) -> SignInAnswer {
        match endpoint {
            Endpoint::Unknown => SignInAnswer::not_found(request_id),
            Endpoint::Jwks => SignInAnswer::jwks(self.deps.tokens.jwks(), &request.method),
            Endpoint::Start => self.respond_to_start(request, client, now, request_id).await,
            Endpoint::Callback => self.respond_to_callback(request, client, now, request_id).await,
            Endpoint::Login if self.is_sign_in_page(request) => {
                self.respond_with_sign_in_page(request, client, now, request_id).await
            }
            Endpoint::Login => self.respond_to_login(request, body, client, request_id).await,
            Endpoint::Refresh => self.respond_to_refresh(request, body, client, now, request_id).await,
            Endpoint::Logout => self.respond_to_logout(request, body, client, now, request_id).await,
            Endpoint::Session => self.respond_to_session(request, now, request_id).await,
        }
    }

    /// Admits a person who opens a page, before anything is counted: pictures in a page of another site, and what it has their
    /// browser fetch ahead, come unseen, and must not lock out everybody at their address.
    #[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
    fn precheck_page(request: &Parts, request_id: &str) -> Result<Option<BodyLimit>, SignInAnswer> {
        if !is_navigation(request) {
            return Err(SignInAnswer::refused_as_problem(&SignInError::NotNavigated, request_id));
        }
        Ok(None)
    }

    fn precheck_login(&self, request: &Parts, client: IpAddr) -> Result<Option<BodyLimit>, SignInError> {
        let body_limit = self.precheck_post(request)?;
        check_asked(request)?;
        self.deps.throttle.check_login(client)?;
        Ok(body_limit)
    }

    fn precheck_refresh(&self, request: &Parts, client: IpAddr) -> Result<Option<BodyLimit>, SignInError> {
        let body_limit = self.precheck_post(request)?;
        check_asked(request)?;
        self.deps.throttle.check_refresh(client)?;
        Ok(body_limit)
    }

    /// Admits a person who begins a sign-in. Those whom a page of another site may have led here are counted apart: it must not
    /// keep those at its visitor's address from signing in who came by themselves, as everybody does who tries again.
    fn check_sign_in_limit(&self, request: &Parts, client: IpAddr) -> Result<(), SignInError> {
        let throttle = &self.deps.throttle;
        let checked = if may_be_cross_site(&request.headers) {
            throttle.check_cross_site_sign_in(client)
        } else {
            throttle.check_sign_in(client)
        };
        Ok(checked?)
    }

    /// Admits a request whose body is worth reading.
    fn precheck_post(&self, request: &Parts) -> Result<Option<BodyLimit>, SignInError> {
        if request.method != Method::POST {
            return Err(SignInError::MethodNotAllowed);
        }
        if declared_length(&request.headers).is_some_and(|length| length > self.max_body_bytes) {
            return Err(SignInError::BodyTooLarge);
        }
        BodyFormat::of(&request.headers)?;
        Ok(Some(BodyLimit { max_bytes: self.max_body_bytes, timeout: self.body_timeout }))
    }

    async fn respond_to_login(
        self: &Arc<Self>,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
        request_id: &str,
    ) -> SignInAnswer {
        let started = self.deps.clock.instant();
        let attempt = self.read_attempt(request, body, client);
        let app = attempt.as_ref().ok().map(|attempt| attempt.app.clone());
        let result = match attempt {
            Ok(attempt) => flow::sign_in(&self.deps, &self.program_codes, attempt).await,
            Err(error) => Err(error),
        };

        let mut answer = match &result {
            Ok(grant) => SignInAnswer::granted("ok", grant, self.deps.clock.now()),
            Err(error) => SignInAnswer::refused(error, request_id),
        };
        answer.app = app;
        self.ended(AppKind::MiniProgram, started, &answer, request_id);
        answer
    }

    /// Counts and logs a login that was answered.
    fn ended(&self, flow: AppKind, started: Instant, answer: &SignInAnswer, request_id: &str) {
        let elapsed = self.deps.clock.instant().saturating_duration_since(started);
        self.count(flow, answer.outcome);
        if let Some(app) = &answer.app {
            self.deps.metrics.login_duration.with_label_values(&[&**app]).observe(elapsed.as_secs_f64());
        }
        let app = answer.app.as_deref().unwrap_or_default();
        let (outcome, duration_ms) = (answer.outcome, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        info!(
            login.outcome = outcome,
            login.flow = flow.as_str(),
            app.name = app,
            duration_ms,
            http.request.id = request_id,
            "a login ended: {outcome}"
        );
    }

    /// Reads who asks for what; costs WeChat nothing.
    fn read_attempt(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
        client: IpAddr,
    ) -> Result<SignInAttempt, SignInError> {
        let (format, body) = self.read(request, body)?;
        let body = format.read_login(&body)?;
        let app = self.choose_app(body.app.as_deref())?;
        let address = client_address(client);
        let client_fields = client_fields(&address, &request.headers);
        Ok(SignInAttempt::new(app, body.code, &client_fields, request, client))
    }

    /// The body as it arrived, and how it is to be read.
    fn read(
        &self,
        request: &Parts,
        body: Result<Bytes, BodyFault>,
    ) -> Result<(BodyFormat, Bytes), SignInError> {
        let body = body?;
        if body.len() > self.max_body_bytes {
            return Err(SignInError::BodyTooLarge);
        }
        Ok((BodyFormat::of(&request.headers)?, body))
    }

    /// The token or session cookie of a request, wherever a route would take one, and that no page of another site sent.
    fn credential<'a>(&self, request: &'a Parts) -> Result<Option<Credential<'a>>, SignInError> {
        Ok(self.deps.authenticator.credential(request, false, CrossSite::Refuse)?)
    }

    /// Finds out who asks.
    async fn authenticate(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, SignInError> {
        Ok(self.deps.authenticator.verify(credential, now).await?)
    }

    fn count(&self, flow: AppKind, outcome: &str) {
        self.deps.metrics.logins.with_label_values(&[PROVIDER, flow.as_str(), outcome]).inc();
    }
}

impl fmt::Debug for SignInService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInService").field("path_prefix", &self.path_prefix).finish_non_exhaustive()
    }
}

/// Refuses what a page of another site has a visitor's browser send: its codes and tokens are made up, and every one of them
/// would count as a failure of all who share the visitor's address. About JSON the browser asks first, which nobody here
/// allows; anything else it sends unasked, whatever the page wants of the answer.
fn check_asked(request: &Parts) -> Result<(), SignInError> {
    let is_json = BodyFormat::of(&request.headers)? == BodyFormat::Json;
    let is_asked = is_json && request.headers.contains_key(header::CONTENT_TYPE);
    if is_sent_without_preflight(&request.headers) || !is_asked && is_cross_site(request, false) {
        return Err(SignInError::CrossSite);
    }
    Ok(())
}

/// The length that the header promises; a chunked body promises none and is measured as it is read.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().unwrap_or_default();
    // One that is no number, or beyond any, is larger than every limit.
    Some(text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
