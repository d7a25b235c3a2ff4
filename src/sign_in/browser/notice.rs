//! The notice that a user sees for each error.

use crate::page::Notice;
use crate::sign_in::error::SignInError;

/// The notice of an error. Every error has one, so that no error is shown in the words of another.
pub(super) const fn notice(error: &SignInError) -> Notice {
    match error {
        SignInError::PersonRefused => Notice::Refused,
        SignInError::StateUnknown
        | SignInError::SessionEnded
        | SignInError::RefreshTokenInvalid
        | SignInError::RefreshTokenReused => Notice::Expired,
        SignInError::CodeInvalid | SignInError::CodeAlreadyUsed | SignInError::CodeOfAnother => {
            Notice::CodeInvalid
        }
        SignInError::BrowserMismatch | SignInError::BrowserCookieMissing => Notice::OtherBrowser,
        SignInError::SnapshotVisitor => Notice::SnapshotVisitor,
        SignInError::UserBlocked => Notice::UserBlocked,
        SignInError::Throttled { .. } => Notice::Throttled,
        SignInError::WeChatBusy
        | SignInError::QuotaExhausted
        | SignInError::WeChatUnreachable { .. }
        | SignInError::WeChatUnexpected
        | SignInError::StoreUnavailable
        | SignInError::SessionNotKept => Notice::Unavailable,
        SignInError::AppMisconfigured => Notice::Misconfigured,
        SignInError::NothingToSignInTo | SignInError::AppMissing | SignInError::AppUnknown => {
            Notice::NothingToSignInTo
        }
        SignInError::NotNavigated
        | SignInError::StateMissing
        | SignInError::StateMalformed
        | SignInError::StateOfOtherApp
        | SignInError::StateOfOtherOrigin
        | SignInError::CodeMalformed
        | SignInError::MethodNotAllowed
        | SignInError::MediaTypeUnsupported
        | SignInError::BodyTooLarge
        | SignInError::BodyTimedOut
        | SignInError::BodyIncomplete
        | SignInError::RequestMalformed(_)
        | SignInError::CrossSite
        | SignInError::Unauthenticated(_) => Notice::Malformed,
        SignInError::Internal => Notice::Internal,
    }
}
