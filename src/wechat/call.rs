//! Makes calls: selects the host, retries, measures and logs. A request is not sent again if a byte
//! of it may have arrived.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::Url;
use tokio::time::{Instant as Deadline, sleep, timeout_at};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::api::{ApiCall, ApiEndpoint, ApiReply};
use super::error::{self, ReplyFault, WeChatError};
use super::{App, WeChat, deadline_after};
use crate::entropy;

/// First wait before a retry after "system busy". It doubles with each retry, and is shortened by a
/// random part.
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(100);

impl WeChat {
    /// Retries while WeChat answers "system busy"; it has not used the code then.
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

    /// Calls the first host that accepts a connection and is still one of WeChat's. A retired
    /// address does not use the code. The calls it refuses also keep the connection to it alive, so
    /// the gateway must leave it for the next host.
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
        let outcome = timeout_at(deadline, self.send(call.url(host), call.posted.clone()))
            .await
            .unwrap_or(Err(WeChatError::TimedOut));
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

    /// Sends one request and reads the whole reply.
    async fn send(&self, url: Url, posted: Option<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, WeChatError> {
        let request = match posted {
            None => self.client.get(url),
            Some(body) => self.client.post(url).header(CONTENT_TYPE, "application/json").body(body),
        };
        let mut response = request.send().await.map_err(|error| error::from_transport(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(WeChatError::UnexpectedReply(ReplyFault::Status(response.status().as_u16())));
        }
        // The buffer has room for any real reply: a buffer that grows leaves copies of a key or a
        // token in memory.
        let mut body = Zeroizing::new(Vec::with_capacity(2048));
        while let Some(chunk) = response.chunk().await.map_err(|error| error::from_transport(&error))? {
            if body.len() + chunk.len() > self.max_reply_bytes {
                return Err(WeChatError::UnexpectedReply(ReplyFault::TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Returns half to all of a wait that doubles with each retry, so that calls refused together
    /// are not retried together.
    pub(super) fn retry_wait(&self, retries: u8) -> Duration {
        let full = FIRST_RETRY_WAIT * 2_u32.saturating_pow(retries.into());
        // Without randomness the full wait is used; the wait need not be secret.
        let share = entropy::bytes::<1>(&*self.entropy).map_or(u8::MAX, |[byte]| byte);
        full / 2 + full / 2 * u32::from(share) / u32::from(u8::MAX)
    }
}

/// Logs why a call failed. `rid` is WeChat's id of the call; WeChat's console explains the error by
/// it.
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
        // The user signs in without a profile.
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
        _ if matches!(endpoint, ApiEndpoint::StableToken | ApiEndpoint::Token) => {
            log_missing_token(host, app, api, error, errcode, rid);
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

/// Logs that WeChat gave no access token. The address that WeChat saw is what the operator must add
/// in WeChat's console.
fn log_missing_token(host: &str, app: &str, api: &str, error: &WeChatError, errcode: i64, rid: Option<&str>) {
    let address = match error {
        WeChatError::AddressRefused { address, .. } => address.map(tracing::field::display),
        _ => None,
    };
    match error {
        WeChatError::AddressRefused { .. }
        | WeChatError::AppMisconfigured { .. }
        | WeChatError::QuotaExhausted => {
            let document = error::document(errcode);
            error!(
                app.name = app,
                wechat.api = api,
                wechat.errcode = errcode,
                wechat.rid = rid,
                wechat.seen_address = address,
                "wechat gave no access token to app {app}: {error}; see {document}"
            );
        }
        _ => {
            warn!(
                app.name = app,
                server.address = host,
                wechat.api = api,
                wechat.errcode = errcode,
                wechat.rid = rid,
                "wechat gave no access token to app {app}: {error}"
            );
        }
    }
}
