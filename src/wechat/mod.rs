//! The only place that knows WeChat's wire: turns a login code into who signed in.
//!
//! It decides which host is called, for how long, how often again, and when not to call at all. A code is worth one
//! exchange and WeChat offers no way to ask whether one happened, so nothing is sent twice once a byte of it may have
//! arrived. What a failure means to the person who signs in is left to the login; limits on who may ask are the
//! throttle's, and asking once for a code sent twice is the login's.

mod api;
mod breaker;
mod build;
mod error;
mod page;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};
use reqwest::Url;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant as Deadline, sleep, timeout_at};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use self::breaker::{Breaker, Cause, Verdict};
use crate::clock::Clock;
use crate::config::{AppKind, BrowserCheck};
use crate::entropy::{self, Entropy};
use crate::identity::AppId;

pub use self::api::{Code, CodeExchange, InvalidCode, InvalidSessionKey, SessionKey};
pub use self::error::{Error, Fault};
pub use self::page::{PageExchange, Visit, Widget};

/// First wait before WeChat is asked again after "system busy"; it doubles, and a random part of it is left out.
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(100);

/// The client of WeChat's API, for all configured apps.
#[derive(Debug)]
pub struct WeChat {
    apps: BTreeMap<Arc<str>, App>,
    hosts: Vec<Url>,
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

    /// Longest that [`WeChat::exchange_code`] takes.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Exchanges a mini program's login code for the person who signed in.
    ///
    /// WeChat gives one answer for a code; after [`Error::TimedOut`] and [`Error::ConnectionLost`] nobody can know
    /// whether it was spent. Dropping the future leaves the client fit for the next call.
    ///
    /// # Errors
    /// Any [`Error`]; the breaker and the limit on calls under way answer without asking WeChat.
    pub async fn exchange_code(&self, app: &App, code: &Code) -> Result<CodeExchange, Error> {
        let _slot = self.in_flight.try_acquire().map_err(|_| Error::TooManyInFlight)?;
        let permit = app.breaker.admit(self.clock.instant()).map_err(|refusal| match refusal.cause {
            Cause::Failures => Error::BreakerOpen { retry_after: refusal.retry_after },
            Cause::Misconfigured { errcode } => Error::AppMisconfigured { errcode },
        })?;

        let deadline = in_time(self.timeout);
        let result = self.exchange_until(app, code, deadline).await;

        permit.record(verdict(result.as_ref().err()), self.clock.instant());
        result
    }

    /// Asks until WeChat is not "busy"; a busy WeChat has not looked at the code.
    async fn exchange_until(
        &self,
        app: &App,
        code: &Code,
        deadline: Deadline,
    ) -> Result<CodeExchange, Error> {
        let mut retries = 0;
        loop {
            let result = self.exchange_on_any_host(app, code, deadline).await;
            if retries >= self.busy_retries || !matches!(result, Err(Error::Busy)) {
                return result;
            }
            let wait = self.retry_wait(retries);
            if in_time(wait) >= deadline {
                return result;
            }
            sleep(wait).await;
            retries += 1;
        }
    }

    /// Asks the first host that accepts a connection and is one of WeChat's still. A retired address looks at no code, and
    /// connections to it are kept alive by the very calls it refuses: it would never be left.
    async fn exchange_on_any_host(
        &self,
        app: &App,
        code: &Code,
        deadline: Deadline,
    ) -> Result<CodeExchange, Error> {
        let mut last = Error::Unreachable;
        for host in &self.hosts {
            match self.exchange_on(host, app, code, deadline).await {
                Err(error @ (Error::Unreachable | Error::HostRetired)) => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }

    /// Makes one call, measured and counted.
    async fn exchange_on(
        &self,
        host: &Url,
        app: &App,
        code: &Code,
        deadline: Deadline,
    ) -> Result<CodeExchange, Error> {
        let started = self.clock.instant();
        let url = api::code_exchange_url(host, app, code);

        let outcome = timeout_at(deadline, self.call(url)).await.unwrap_or(Err(Error::TimedOut));
        let elapsed = self.clock.instant().saturating_duration_since(started);
        self.request_duration
            .with_label_values(&[&*app.name, api::CODE_EXCHANGE])
            .observe(elapsed.as_secs_f64());

        let reply = match &outcome {
            Ok(body) => api::CodeReply::parse(body),
            Err(error) => Err(error.clone()),
        };
        let (errcode, rid) = reply.as_ref().map_or((0, None), |reply| (reply.errcode, reply.rid()));
        let result = reply.and_then(api::CodeReply::into_result);
        if let Err(error) = &result {
            self.errors.with_label_values(&[&*app.name, &error::label(errcode, error)]).inc();
            log_failure(host, app, error, errcode, rid.as_deref());
        }
        result
    }

    /// Sends one request and reads the whole answer.
    async fn call(&self, url: Url) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut response = self.client.get(url).send().await.map_err(|error| error::of_transport(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(Error::UnexpectedReply(Fault::Status(response.status().as_u16())));
        }
        // Room for any real reply at once: a buffer that grows leaves copies of the session key behind.
        let mut body = Zeroizing::new(Vec::with_capacity(1024));
        while let Some(chunk) = response.chunk().await.map_err(|error| error::of_transport(&error))? {
            if body.len() + chunk.len() > self.max_reply_bytes {
                return Err(Error::UnexpectedReply(Fault::TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Half to all of a wait that doubles: those who were refused together do not come back together.
    fn retry_wait(&self, retries: u8) -> Duration {
        let full = FIRST_RETRY_WAIT * 2_u32.saturating_pow(retries.into());
        // Without randomness the full wait is as good; nothing depends on it being secret.
        let share = entropy::bytes::<1>(&*self.entropy).map_or(u8::MAX, |[byte]| byte);
        full / 2 + full / 2 * u32::from(share) / u32::from(u8::MAX)
    }
}

/// What an exchange's result says of WeChat, for the breaker: a person's mistake says it works.
fn verdict(error: Option<&Error>) -> Verdict {
    match error {
        Some(&Error::AppMisconfigured { errcode }) => Verdict::Misconfigured { errcode },
        Some(
            Error::Unreachable
            | Error::TimedOut
            | Error::ConnectionLost
            | Error::UnexpectedReply(_)
            | Error::HostRetired
            | Error::RequestRejected { .. },
        ) => Verdict::Failed,
        _ => Verdict::Succeeded,
    }
}

/// Says why a call failed. `rid` is WeChat's own id of the call, which its console explains.
fn log_failure(host: &Url, app: &App, error: &Error, errcode: i64, rid: Option<&str>) {
    let app = &*app.name;
    let host = host.host_str().unwrap_or_default();
    match error {
        Error::CodeInvalid | Error::CodeAlreadyUsed | Error::UserBlocked | Error::RateLimited => {
            info!(
                app.name = app,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "wechat refused a code of app {app}: {error}"
            );
        }
        Error::AppMisconfigured { .. } | Error::QuotaExhausted => {
            let document = error::document(errcode);
            error!(
                app.name = app,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "wechat refused app {app}: {error}; see {document}"
            );
        }
        _ => {
            warn!(
                app.name = app,
                server.address = host,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "a call to {host} for app {app} failed: {error}"
            );
        }
    }
}

#[cfg(test)]
pub(crate) mod fake;
/// When a wait from now on is over, by the clock that tokio's timers go by: sockets know no other.
#[expect(clippy::disallowed_methods, reason = "a deadline for I/O, not a decision")]
fn in_time(wait: Duration) -> Deadline {
    Deadline::now() + wait
}

#[cfg(test)]
mod tests;
