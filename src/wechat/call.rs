//! How a call is made: to which host, how often again, measured and logged. Nothing is sent twice once a byte of it may
//! have arrived.

use std::time::Duration;

use reqwest::Url;
use tokio::time::{Instant as Deadline, sleep, timeout_at};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::api::{ApiCall, ApiEndpoint, ApiReply};
use super::error::{self, ReplyFault, WeChatError};
use super::{App, WeChat, deadline_after};
use crate::entropy;

/// First wait before WeChat is asked again after "system busy"; it doubles, and a random part of it is left out.
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(100);

impl WeChat {
    /// Asks until WeChat is not "busy"; a busy WeChat has not looked at the code.
    pub(super) async fn ask_until_not_busy<T>(
        &self,
        app: &App,
        call: &ApiCall<'_, T>,
        deadline: Deadline,
    ) -> Result<T, WeChatError> {
        let mut retries = 0;
        loop {
            let result = self.ask(app, call, deadline).await;
            if retries >= self.busy_retries || !matches!(result, Err(WeChatError::Busy)) {
                return result;
            }
            let wait = self.retry_wait(retries);
            if deadline_after(wait) >= deadline {
                return result;
            }
            sleep(wait).await;
            retries += 1;
        }
    }

    /// Asks the first host that accepts a connection and is one of WeChat's still. A retired address looks at no code, and
    /// connections to it are kept alive by the very calls it refuses: it would never be left.
    pub(super) async fn ask<T>(
        &self,
        app: &App,
        call: &ApiCall<'_, T>,
        deadline: Deadline,
    ) -> Result<T, WeChatError> {
        let mut last = WeChatError::Unreachable;
        for host in &self.hosts {
            match self.ask_host(host, app, call, deadline).await {
                Err(error @ (WeChatError::Unreachable | WeChatError::HostRetired)) => last = error,
                settled => return settled,
            }
        }
        Err(last)
    }

    /// Makes one call, measured and counted.
    async fn ask_host<T>(
        &self,
        host: &Url,
        app: &App,
        call: &ApiCall<'_, T>,
        deadline: Deadline,
    ) -> Result<T, WeChatError> {
        let started = self.clock.instant();
        let outcome =
            timeout_at(deadline, self.send(call.url(host))).await.unwrap_or(Err(WeChatError::TimedOut));
        let elapsed = self.clock.instant().saturating_duration_since(started);
        self.request_duration
            .with_label_values(&[&*app.name, call.endpoint.name()])
            .observe(elapsed.as_secs_f64());

        let reply = outcome.map_or_else(ApiReply::from, |body| call.reply(&body));
        if let Err(error) = &reply.result {
            self.errors.with_label_values(&[&*app.name, &error::label(reply.errcode, error)]).inc();
            let host = host.host_str().unwrap_or_default();
            log_failure(host, app, call.endpoint, error, reply.errcode, reply.rid.as_deref());
        }
        reply.result
    }

    /// Sends one request and reads the whole answer.
    async fn send(&self, url: Url) -> Result<Zeroizing<Vec<u8>>, WeChatError> {
        let mut response =
            self.client.get(url).send().await.map_err(|error| error::from_transport(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(WeChatError::UnexpectedReply(ReplyFault::Status(response.status().as_u16())));
        }
        // Room for any real reply at once: a buffer that grows leaves copies of a key or a token behind.
        let mut body = Zeroizing::new(Vec::with_capacity(2048));
        while let Some(chunk) = response.chunk().await.map_err(|error| error::from_transport(&error))? {
            if body.len() + chunk.len() > self.max_reply_bytes {
                return Err(WeChatError::UnexpectedReply(ReplyFault::TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Half to all of a wait that doubles: those who were refused together do not come back together.
    pub(super) fn retry_wait(&self, retries: u8) -> Duration {
        let full = FIRST_RETRY_WAIT * 2_u32.saturating_pow(retries.into());
        // Without randomness the full wait is as good; nothing depends on it being secret.
        let share = entropy::bytes::<1>(&*self.entropy).map_or(u8::MAX, |[byte]| byte);
        full / 2 + full / 2 * u32::from(share) / u32::from(u8::MAX)
    }
}

/// Says why a call failed. `rid` is WeChat's own id of the call, which its console explains.
fn log_failure(
    host: &str,
    app: &App,
    endpoint: ApiEndpoint,
    error: &WeChatError,
    errcode: i64,
    rid: Option<&str>,
) {
    let app = &*app.name;
    let api = endpoint.name();
    match error {
        // Whoever signs in does so without a profile.
        _ if matches!(endpoint, ApiEndpoint::TokenRefresh | ApiEndpoint::UserInfo) => {
            warn!(
                app.name = app,
                server.address = host,
                wechat.api = api,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "wechat gave no profile to app {app}: {api}: {error}"
            );
        }
        WeChatError::CodeInvalid
        | WeChatError::CodeAlreadyUsed
        | WeChatError::UserBlocked
        | WeChatError::SnapshotVisitor
        | WeChatError::RateLimited => {
            info!(
                app.name = app,
                wechat.api = api,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "wechat refused a code of app {app}: {error}"
            );
        }
        WeChatError::AppMisconfigured { .. } | WeChatError::QuotaExhausted => {
            let document = error::document(errcode);
            error!(
                app.name = app,
                wechat.api = api,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "wechat refused app {app}: {error}; see {document}"
            );
        }
        _ => {
            warn!(
                app.name = app,
                server.address = host,
                wechat.api = api,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "a call to {host} for app {app} failed: {error}"
            );
        }
    }
}
