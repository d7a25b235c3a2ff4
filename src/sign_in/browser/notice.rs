//! The notice that a user sees for each error.

use super::BrowserError;
use crate::page::Notice;
use crate::sign_in::error::SignInError;

/// The notice of an error. Every error has one, so that no error is shown in the words of another.
pub(super) const fn notice(error: &BrowserError) -> Notice {
    match error {
        BrowserError::PersonRefused => Notice::Refused,
        BrowserError::StateUnknown => Notice::Expired,
        BrowserError::BrowserMismatch | BrowserError::BrowserCookieMissing => Notice::OtherBrowser,
        BrowserError::NothingToSignInTo => Notice::NothingToSignInTo,
        BrowserError::OriginUnknown => Notice::OriginUnknown,
        BrowserError::TicketUnknown => Notice::TicketUnknown,
        BrowserError::NotNavigated
        | BrowserError::TicketMalformed
        | BrowserError::StateMissing
        | BrowserError::StateMalformed
        | BrowserError::StateOfOtherApp
        | BrowserError::StateOfOtherOrigin
        | BrowserError::CodeMalformed => Notice::Malformed,
        BrowserError::SignIn(error) => sign_in_notice(error),
    }
}

const fn sign_in_notice(error: &SignInError) -> Notice {
    match error {
        SignInError::SessionEnded
        | SignInError::RefreshTokenInvalid
        | SignInError::RefreshTokenOfAnother(_)
        | SignInError::RefreshTokenReused(_) => Notice::Expired,
        SignInError::CodeInvalid
        | SignInError::CodeAlreadyUsed
        | SignInError::CodeOfAnother
        | SignInError::CodeOfAnotherUser => Notice::CodeInvalid,
        SignInError::SnapshotVisitor => Notice::SnapshotVisitor,
        SignInError::UserBlocked | SignInError::UnionIdUnknown | SignInError::HandOverRefused => {
            Notice::UserBlocked
        }
        SignInError::Throttled { .. } => Notice::Throttled,
        SignInError::WeChatBusy
        | SignInError::QuotaExhausted
        | SignInError::WeChatUnreachable { .. }
        | SignInError::WeChatUnexpected
        | SignInError::StoreUnavailable
        | SignInError::SessionNotKept => Notice::Unavailable,
        SignInError::AppMisconfigured => Notice::Misconfigured,
        SignInError::AppMissing | SignInError::AppUnknown => Notice::NothingToSignInTo,
        SignInError::MethodNotAllowed
        | SignInError::MediaTypeUnsupported
        | SignInError::BodyTooLarge
        | SignInError::BodyTimedOut
        | SignInError::BodyIncomplete
        | SignInError::RequestMalformed(_)
        | SignInError::SessionKeyStale
        | SignInError::CrossSite
        | SignInError::Unauthenticated(_) => Notice::Malformed,
        SignInError::Internal => Notice::Internal,
    }
}
