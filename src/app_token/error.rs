//! Why there is no token to call WeChat's API with.

use crate::store::StoreError;
use crate::wechat::WeChatError;

/// Why there is no token to call WeChat's API with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppTokenError {
    /// No app of this name is configured, or its kind has no access token.
    #[error("the app has no access token")]
    NoSuchToken,
    /// The store did not answer, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// WeChat gave no token.
    #[error(transparent)]
    WeChat(#[from] WeChatError),
    /// WeChat refuses the token and gives no other one, and the quota of forced refreshes does not
    /// allow one now.
    #[error("wechat refuses the token and gives no other one")]
    StillRefused,
    /// Another gateway has asked for the token for too long.
    #[error("another gateway asks for the token")]
    Busy,
    /// The gateway failed.
    #[error("{0}")]
    Internal(&'static str),
}
