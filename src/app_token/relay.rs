//! A call of WeChat's API with the app's token, made again once if WeChat refused the token.

use std::sync::Arc;

use super::{AppTokenError, AppTokens};
use crate::wechat::{RelayAnswer, RelayBody, RelayRequest, WeChatError};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// There is no token, so WeChat was not called.
    #[error("no access token: {0}")]
    NoToken(#[from] AppTokenError),
    /// The call failed. It may have been made.
    #[error(transparent)]
    Call(#[from] WeChatError),
}

impl AppTokens {
    /// Makes a call with the token of the app with this name. If WeChat refuses the token, the next
    /// call has another one, and a body that is whole is sent again, once. What WeChat answers then
    /// is the answer.
    ///
    /// # Errors
    /// [`RelayError`], by variant.
    pub async fn relay(
        self: &Arc<Self>,
        app: &str,
        request: &RelayRequest<'_>,
        body: RelayBody,
    ) -> Result<RelayAnswer, RelayError> {
        let again = if let RelayBody::Whole(bytes) = &body { Some(bytes.clone()) } else { None };
        let token = self.token(app).await?;
        let (configured, _) = self.app(app)?;
        let answer = self.wechat.relay(configured, request, body, token.expose()).await?;
        if !answer.says_stale_token() {
            return Ok(answer);
        }
        match (self.renew(app, &token).await, again) {
            (Ok(next), Some(bytes)) => {
                // Its place is free for the next call.
                drop(answer);
                let body = RelayBody::Whole(bytes);
                Ok(self.wechat.relay(configured, request, body, next.expose()).await?)
            }
            _ => Ok(answer),
        }
    }
}
