//! The errors of other modules, as errors of a sign-in.

use super::{RATE_LIMITED_SECONDS, SignInError, UNREACHABLE_SECONDS};
use crate::authn::AuthnError;
use crate::clock::seconds_rounded_up;
use crate::entropy::NoEntropy;
use crate::session::{RefreshError, SessionError};
use crate::sign_in::call::BodyFault;
use crate::store::StoreError;
use crate::throttle::{ThrottleError, Throttled};
use crate::token::MintError;
use crate::wechat::WeChatError;

impl From<WeChatError> for SignInError {
    fn from(error: WeChatError) -> Self {
        match error {
            WeChatError::CodeInvalid => Self::CodeInvalid,
            WeChatError::CodeAlreadyUsed => Self::CodeAlreadyUsed,
            WeChatError::UserBlocked => Self::UserBlocked,
            WeChatError::SnapshotVisitor => Self::SnapshotVisitor,
            WeChatError::RateLimited => Self::Throttled { retry_after_seconds: RATE_LIMITED_SECONDS },
            WeChatError::QuotaExhausted => Self::QuotaExhausted,
            WeChatError::Busy | WeChatError::TooManyInFlight => Self::WeChatBusy,
            WeChatError::AppMisconfigured { .. } | WeChatError::AddressRefused { .. } => {
                Self::AppMisconfigured
            }
            WeChatError::Unreachable
            | WeChatError::ConnectionLost
            | WeChatError::TimedOut
            | WeChatError::HostRetired => {
                Self::WeChatUnreachable { retry_after_seconds: UNREACHABLE_SECONDS }
            }
            WeChatError::BreakerOpen { retry_after } => {
                Self::WeChatUnreachable { retry_after_seconds: seconds_rounded_up(retry_after) }
            }
            WeChatError::UnexpectedReply(_)
            | WeChatError::RequestRejected { .. }
            | WeChatError::Unknown { .. } => Self::WeChatUnexpected,
        }
    }
}

impl From<AuthnError> for SignInError {
    fn from(refusal: AuthnError) -> Self {
        match refusal {
            AuthnError::SessionEnded => Self::SessionEnded,
            AuthnError::Blocked => Self::UserBlocked,
            AuthnError::CrossSite => Self::CrossSite,
            AuthnError::StoreUnavailable => Self::StoreUnavailable,
            refusal => Self::Unauthenticated(refusal),
        }
    }
}

impl From<StoreError> for SignInError {
    fn from(error: StoreError) -> Self {
        tracing::warn!("the store failed: {error}");
        Self::StoreUnavailable
    }
}

impl From<SessionError> for SignInError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Ended => Self::SessionEnded,
            SessionError::Blocked => Self::UserBlocked,
            SessionError::Store(error) => error.into(),
            SessionError::Internal(reason) => {
                tracing::error!("a session operation failed: {reason}");
                Self::Internal
            }
        }
    }
}

impl From<RefreshError> for SignInError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Invalid
            | RefreshError::AppNotAllowed
            | RefreshError::Session(SessionError::Ended) => Self::RefreshTokenInvalid,
            RefreshError::OfOtherClient(subject) => Self::RefreshTokenOfAnother(subject),
            RefreshError::Reused(subject) => Self::RefreshTokenReused(subject),
            RefreshError::Session(error) => error.into(),
        }
    }
}

impl From<Throttled> for SignInError {
    fn from(throttled: Throttled) -> Self {
        Self::Throttled { retry_after_seconds: throttled.retry_after_seconds() }
    }
}

impl From<ThrottleError> for SignInError {
    fn from(refusal: ThrottleError) -> Self {
        match refusal {
            ThrottleError::Throttled(throttled) => throttled.into(),
            ThrottleError::Store(error) => error.into(),
        }
    }
}

impl From<BodyFault> for SignInError {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge => Self::BodyTooLarge,
            BodyFault::TimedOut => Self::BodyTimedOut,
            BodyFault::Broken => Self::BodyIncomplete,
        }
    }
}

impl From<MintError> for SignInError {
    fn from(error: MintError) -> Self {
        tracing::error!("no token could be issued: {error}");
        Self::Internal
    }
}

impl From<NoEntropy> for SignInError {
    fn from(error: NoEntropy) -> Self {
        tracing::error!("no randomness for a login: {error}");
        Self::Internal
    }
}
