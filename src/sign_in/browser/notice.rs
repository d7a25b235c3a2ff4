//! What a person is told of each failure.

use crate::page::Notice;
use crate::sign_in::error::LoginError;

/// The notice of a refusal. Every refusal has one, so that none is ever told in another's words.
pub(super) const fn notice(error: &LoginError) -> Notice {
    match error {
        LoginError::PersonRefused => Notice::Refused,
        LoginError::StateUnknown
        | LoginError::SessionEnded
        | LoginError::RefreshTokenInvalid
        | LoginError::RefreshTokenReused => Notice::Expired,
        LoginError::CodeInvalid | LoginError::CodeAlreadyUsed | LoginError::CodeOfAnother => {
            Notice::CodeInvalid
        }
        LoginError::BrowserMismatch | LoginError::BrowserCookieMissing => Notice::OtherBrowser,
        LoginError::SnapshotVisitor => Notice::SnapshotVisitor,
        LoginError::UserBlocked => Notice::UserBlocked,
        LoginError::Throttled { .. } => Notice::Throttled,
        LoginError::WeChatBusy
        | LoginError::QuotaExhausted
        | LoginError::WeChatUnreachable { .. }
        | LoginError::WeChatUnexpected
        | LoginError::StoreUnavailable
        | LoginError::SessionNotKept => Notice::Unavailable,
        LoginError::AppMisconfigured => Notice::Misconfigured,
        LoginError::NothingToSignInTo | LoginError::AppMissing | LoginError::AppUnknown => {
            Notice::NothingToSignInTo
        }
        LoginError::NotNavigated
        | LoginError::StateMissing
        | LoginError::StateMalformed
        | LoginError::StateOfOtherApp
        | LoginError::StateOfOtherOrigin
        | LoginError::CodeMalformed
        | LoginError::MethodNotAllowed
        | LoginError::MediaTypeUnsupported
        | LoginError::BodyTooLarge
        | LoginError::BodyTimedOut
        | LoginError::BodyIncomplete
        | LoginError::RequestMalformed(_)
        | LoginError::CrossSite
        | LoginError::Unauthenticated(_) => Notice::Malformed,
        LoginError::Internal => Notice::Internal,
    }
}
