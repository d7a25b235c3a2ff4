//! The calls that give an app its access token: `stable_token`, or `token`.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::api::{self, ApiCall, ApiEndpoint, ReplyText};
use super::error::{ReplyFault, WeChatError};
use super::{App, WeChat, deadline_after};
use crate::config::AppTokenApi;

/// Longest token that is accepted, in bytes. WeChat asks for room for 512 at least.
const MAX_TOKEN_BYTES: usize = 2048;
/// Longest lifetime that is believed. WeChat's tokens live two hours.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// An access token of an app, as WeChat gave it.
#[derive(Clone, Debug)]
pub struct IssuedAppToken {
    /// The token: characters that a query takes as they are.
    pub token: SecretString,
    /// How long it is valid, from the moment before the call.
    pub lifetime: Duration,
}

impl WeChat {
    /// Asks WeChat for the app's access token. It may ask several times while WeChat is busy.
    ///
    /// `is_forced` makes `stable_token` replace a token that is still valid. WeChat permits this 20
    /// times a day, at least 30 s apart. `token` always makes a new one.
    ///
    /// # Errors
    /// Any [`WeChatError`] that is not about a code. [`WeChatError::AddressRefused`] has the
    /// address that WeChat saw.
    pub async fn issue_app_token(&self, app: &App, is_forced: bool) -> Result<IssuedAppToken, WeChatError> {
        let deadline = deadline_after(self.timeout);
        let call = match app.token_api {
            AppTokenApi::StableToken => stable_token(app, is_forced)?,
            AppTokenApi::Token => token(app),
        };
        self.ask_until_not_busy(app, &call, deadline).await
    }
}

fn stable_token(app: &App, is_forced: bool) -> Result<ApiCall<'static, IssuedAppToken>, WeChatError> {
    #[derive(Serialize)]
    struct Body<'a> {
        grant_type: &'static str,
        appid: &'a str,
        secret: &'a str,
        force_refresh: bool,
    }

    let body = Body {
        grant_type: "client_credential",
        appid: app.appid.as_str(),
        secret: app.secret.expose_secret(),
        force_refresh: is_forced,
    };
    let posted = serde_json::to_vec(&body).map_err(|_| WeChatError::UnexpectedReply(ReplyFault::NotJson))?;
    Ok(ApiCall {
        endpoint: ApiEndpoint::StableToken,
        parameters: Vec::new(),
        posted: Some(posted),
        read: read_token,
    })
}

fn token(app: &App) -> ApiCall<'_, IssuedAppToken> {
    ApiCall {
        endpoint: ApiEndpoint::Token,
        parameters: vec![
            ("grant_type", "client_credential"),
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose_secret()),
        ],
        posted: None,
        read: read_token,
    }
}

fn read_token(text: &str) -> Result<IssuedAppToken, WeChatError> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        access_token: Option<ReplyText<'a>>,
        expires_in: Option<u64>,
    }

    let members: Members<'_> = api::members(text)?;
    let fault = || WeChatError::UnexpectedReply(ReplyFault::AccessToken);
    let ReplyText(token) = members.access_token.ok_or_else(fault)?;
    let lifetime = Duration::from_secs(members.expires_in.ok_or_else(fault)?);
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'=');
    if !(1..=MAX_TOKEN_BYTES).contains(&token.len()) || !token.bytes().all(is_plain) || lifetime.is_zero() {
        return Err(fault());
    }
    Ok(IssuedAppToken { token: SecretString::from(&*token), lifetime: lifetime.min(MAX_LIFETIME) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_without_a_usable_token_is_refused() {
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        for (reply, lifetime) in [
            (r#"{"access_token":"66_a-b","expires_in":7200}"#.to_owned(), Some(7200)),
            (r#"{"access_token":"66_a-b","expires_in":345,"new":[1]}"#.to_owned(), Some(345)),
            (r#"{"access_token":"66_a-b","expires_in":9999999}"#.to_owned(), Some(24 * 3600)),
            (r#"{"access_token":"66_a-b","expires_in":0}"#.to_owned(), None),
            (r#"{"access_token":"66_a-b"}"#.to_owned(), None),
            (r#"{"access_token":"","expires_in":7200}"#.to_owned(), None),
            (r#"{"access_token":"a b","expires_in":7200}"#.to_owned(), None),
            (r#"{"access_token":"a&b","expires_in":7200}"#.to_owned(), None),
            (format!(r#"{{"access_token":"{long}","expires_in":7200}}"#), None),
            (r#"{"expires_in":7200}"#.to_owned(), None),
            ("[]".to_owned(), None),
        ] {
            let read = read_token(&reply).map(|issued| issued.lifetime.as_secs()).ok();

            assert_eq!(read, lifetime, "{reply}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let issued = read_token(r#"{"access_token":"66_hidden","expires_in":7200}"#).unwrap();

        assert!(!format!("{issued:?}").contains("hidden"));
    }
}
