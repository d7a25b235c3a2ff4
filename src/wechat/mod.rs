//! The client of WeChat's API: exchanges a login code for the user's identity.
//!
//! Only this module knows WeChat's wire format. It decides which host is called, how long a call
//! may take, how often it is retried, and when WeChat is not called at all. A code is good for one
//! exchange, and WeChat offers no way to ask whether it happened, so a request is not sent again if
//! a byte of it may have arrived. The login decides what a failure means to the user, and exchanges
//! a code once if the client sends it twice. The throttle limits how often clients may cause a
//! call.

mod api;
mod api_path;
mod app_token;
mod breaker;
mod build;
mod call;
mod credentials;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod mask;
mod page;
mod relay;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{HistogramVec, IntCounterVec};
use reqwest::Url;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant as Deadline;

use self::breaker::{Breaker, BreakerCause, BreakerPermit, CallVerdict};
use crate::clock::Clock;
use crate::config::{AppKind, AppTokenApi, BrowserCheck, OAuthScope};
use crate::entropy::Entropy;
use crate::identity::AppId;

pub use self::api::{Code, CodeExchange, InvalidCode, InvalidSessionKey, SessionKey};
pub use self::api_path::{ApiPath, RefusedApiPath};
pub use self::app_token::IssuedAppToken;
pub use self::error::{ReplyFault, WeChatError};
pub use self::page::{PageExchange, QrCodeWidget, Visit};
pub use self::relay::{RelayAnswer, RelayBody, RelayBodyError, RelayRequest, errcode_label, failure_label};

/// The client of WeChat's API, for all configured apps.
#[derive(Debug)]
pub struct WeChat {
    apps: BTreeMap<Arc<str>, App>,
    hosts: Vec<Url>,
    pages: Box<str>,
    widget: Option<Box<str>>,
    client: reqwest::Client,
    timeout: Duration,
    busy_retries: u8,
    max_reply_bytes: usize,
    in_flight: Semaphore,
    /// For calls of programs, so that they do not take the places of sign-ins.
    relays: Arc<Semaphore>,
    request_duration: HistogramVec,
    errors: IntCounterVec,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl App {
    /// Whether users sign in to this app for whom WeChat gives no unionid. A page that brings a
    /// code has chosen the scope itself.
    pub fn admits_unknown_unionid(&self) -> bool {
        self.kind == AppKind::OfficialAccount
            && (self.scope == OAuthScope::Base || self.code_login)
            && !self.refuses_unknown_unionid
    }

    /// How the app's access token is asked for.
    pub const fn token_api(&self) -> AppTokenApi {
        self.token_api
    }

    /// Whether WeChat gives the app an access token of its own.
    pub fn has_token(&self) -> bool {
        !matches!(self.kind, AppKind::Website | AppKind::Mobile)
    }

    /// Whether a program may bring a code of this app.
    pub fn permits_code_login(&self) -> bool {
        matches!(self.kind, AppKind::MiniProgram | AppKind::Mobile) || self.code_login
    }
}

/// A configured WeChat app.
pub struct App {
    /// The app's name in the configuration.
    pub name: Arc<str>,
    /// The app's id at WeChat.
    pub appid: AppId,
    /// The app's kind at WeChat.
    pub kind: AppKind,
    /// The name that users see.
    pub title: Arc<str>,
    /// Whether a sign-in can be finished only in the browser that started it.
    pub browser_check: BrowserCheck,
    /// Whether a page of another origin may bring a code of this official account.
    code_login: bool,
    /// Whether a user is refused for whom WeChat gives no unionid.
    pub refuses_unknown_unionid: bool,
    /// Whether its sessions can be handed over to a web-view.
    pub hands_over: bool,
    /// The scope that an official account asks the user for.
    scope: OAuthScope,
    /// How the app's access token is asked for.
    token_api: AppTokenApi,
    secret: SecretString,
    breaker: Breaker,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("name", &self.name)
            .field("appid", &self.appid)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl WeChat {
    /// Finds an app by its name in the configuration, or by its appid.
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.get(name).or_else(|| self.apps.values().find(|app| app.appid.as_str() == name))
    }

    /// Every app, by name.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values()
    }

    /// The longest time that an exchange of either kind takes.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Exchanges a mini program's login code for the user's identity.
    ///
    /// WeChat answers a code once. After [`WeChatError::TimedOut`] and
    /// [`WeChatError::ConnectionLost`] the gateway cannot know whether the code was used. The
    /// future may be dropped at any time; the client remains usable.
    ///
    /// # Errors
    /// Any [`WeChatError`]; the breaker and the limit on calls under way answer without asking
    /// WeChat.
    pub async fn exchange_code(&self, app: &App, code: &Code) -> Result<CodeExchange, WeChatError> {
        let leave = self.acquire(app)?;
        let call = api::code_exchange(app, code);
        let result = self.ask_until_not_busy(app, &call, leave.deadline).await;
        leave.record(result.as_ref().err(), self.clock.instant());
        result
    }

    /// Permits an exchange, or returns why it is refused.
    fn acquire<'a>(&'a self, app: &'a App) -> Result<ExchangePermit<'a>, WeChatError> {
        let slot = self.in_flight.try_acquire().map_err(|_| WeChatError::TooManyInFlight)?;
        let permit = app.breaker.acquire(self.clock.instant()).map_err(|refusal| match refusal.cause {
            BreakerCause::Failures => WeChatError::BreakerOpen { retry_after: refusal.retry_after },
            BreakerCause::Misconfigured { errcode } => WeChatError::AppMisconfigured { errcode },
        })?;
        Ok(ExchangePermit { permit, deadline: deadline_after(self.timeout), _slot: slot })
    }
}

/// A permit for one exchange, with all the calls that it makes until its deadline.
struct ExchangePermit<'a> {
    permit: BreakerPermit<'a>,
    deadline: Deadline,
    _slot: SemaphorePermit<'a>,
}

impl ExchangePermit<'_> {
    /// Records the result of the exchange in the breaker.
    fn record(self, error: Option<&WeChatError>, now: Instant) {
        self.permit.record(verdict(error), now);
    }
}

/// What an exchange's result says about WeChat, for the breaker: an error that the user caused
/// shows that WeChat works.
fn verdict(error: Option<&WeChatError>) -> CallVerdict {
    match error {
        Some(&WeChatError::AppMisconfigured { errcode }) => CallVerdict::Misconfigured { errcode },
        Some(
            WeChatError::Unreachable
            | WeChatError::TimedOut
            | WeChatError::ConnectionLost
            | WeChatError::UnexpectedReply(_)
            | WeChatError::HostRetired
            | WeChatError::RequestRejected { .. },
        ) => CallVerdict::Failed,
        _ => CallVerdict::Succeeded,
    }
}

/// The end of a wait from now, by the clock of tokio's timers, since timeouts of sockets use no
/// other.
#[expect(clippy::disallowed_methods, reason = "a deadline for I/O, not a decision")]
fn deadline_after(wait: Duration) -> Deadline {
    Deadline::now() + wait
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
