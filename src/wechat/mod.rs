//! The only place that knows WeChat's wire: turns a login code into who signed in.
//!
//! It decides which host is called, for how long, how often again, and when not to call at all. A code is worth one
//! exchange and WeChat offers no way to ask whether one happened, so nothing is sent twice once a byte of it may have
//! arrived. What a failure means to the person who signs in is left to the login; limits on who may ask are the
//! throttle's, and asking once for a code sent twice is the login's.

mod api;
mod breaker;
mod build;
mod call;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod page;

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
use crate::config::{AppKind, BrowserCheck, OAuthScope};
use crate::entropy::Entropy;
use crate::identity::AppId;

pub use self::api::{Code, CodeExchange, InvalidCode, InvalidSessionKey, SessionKey};
pub use self::error::{ReplyFault, WeChatError};
pub use self::page::{PageExchange, QrCodeWidget, Visit};

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
    request_duration: HistogramVec,
    errors: IntCounterVec,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// A configured WeChat app.
pub struct App {
    /// The name the configuration gives it.
    pub name: Arc<str>,
    /// Its id at WeChat.
    pub appid: AppId,
    /// What it is at WeChat.
    pub kind: AppKind,
    /// What people know it as.
    pub title: Arc<str>,
    /// Whether a sign-in is finished only in the browser that began it.
    pub browser_check: BrowserCheck,
    /// How much an official account asks of a person.
    scope: OAuthScope,
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
    /// Finds an app by the name the configuration gives it.
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.get(name)
    }

    /// Every app, by name.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values()
    }

    /// Longest that an exchange takes, of either kind.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Exchanges a mini program's login code for the person who signed in.
    ///
    /// WeChat gives one answer for a code; after [`WeChatError::TimedOut`] and [`WeChatError::ConnectionLost`] nobody can know
    /// whether it was spent. Dropping the future leaves the client fit for the next call.
    ///
    /// # Errors
    /// Any [`WeChatError`]; the breaker and the limit on calls under way answer without asking WeChat.
    pub async fn exchange_code(&self, app: &App, code: &Code) -> Result<CodeExchange, WeChatError> {
        let leave = self.acquire(app)?;
        let call = api::code_exchange(app, code);
        let result = self.ask_until_not_busy(app, &call, leave.deadline).await;
        leave.record(result.as_ref().err(), self.clock.instant());
        result
    }

    /// Lets an exchange begin, or says why not.
    fn acquire<'a>(&'a self, app: &'a App) -> Result<ExchangePermit<'a>, WeChatError> {
        let slot = self.in_flight.try_acquire().map_err(|_| WeChatError::TooManyInFlight)?;
        let permit = app.breaker.acquire(self.clock.instant()).map_err(|refusal| match refusal.cause {
            BreakerCause::Failures => WeChatError::BreakerOpen { retry_after: refusal.retry_after },
            BreakerCause::Misconfigured { errcode } => WeChatError::AppMisconfigured { errcode },
        })?;
        Ok(ExchangePermit { permit, deadline: deadline_after(self.timeout), _slot: slot })
    }
}

/// ExchangePermit to make one exchange, with however many calls it takes until its deadline.
struct ExchangePermit<'a> {
    permit: BreakerPermit<'a>,
    deadline: Deadline,
    _slot: SemaphorePermit<'a>,
}

impl ExchangePermit<'_> {
    /// Tells the breaker how the exchange went.
    fn record(self, error: Option<&WeChatError>, now: Instant) {
        self.permit.record(verdict(error), now);
    }
}

/// What an exchange's result says of WeChat, for the breaker: a person's mistake says it works.
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

/// When a wait from now on is over, by the clock that tokio's timers go by: sockets know no other.
#[expect(clippy::disallowed_methods, reason = "a deadline for I/O, not a decision")]
fn deadline_after(wait: Duration) -> Deadline {
    Deadline::now() + wait
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
