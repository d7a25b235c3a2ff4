//! Why a request is not authenticated: one word for the access log, the metrics and the answer.

use crate::session::SessionError;
use crate::token::VerifyError;

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// The request carries no token.
    #[error("no token")]
    NoToken,
    /// The request carries two tokens, or the same place twice.
    #[error("more than one token")]
    SeveralTokens,
    /// The request carries a token that is not a valid one of this gateway.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The token is of an app that is not configured.
    #[error("of an unknown app")]
    UnknownApp,
    /// The token is valid, and its session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The session has not ended, and the person is blocked.
    #[error("the person is blocked")]
    Blocked,
    /// The session could not be looked up in the store. The request is refused, but not as a
    /// forgery.
    #[error("the session could not be looked up")]
    StoreUnavailable,
    /// The credential is a cookie, and a page of another site made the request.
    #[error("made by a page of another site")]
    CrossSite,
    /// The token is of an app that the route does not permit. This module never returns it; `proxy`
    /// does.
    #[error("of an app that this route does not permit")]
    AppNotPermitted,
}

impl AuthnError {
    /// Every error, in order.
    pub const ALL: [Self; 17] = [
        Self::NoToken,
        Self::SeveralTokens,
        Self::Token(VerifyError::Malformed),
        Self::Token(VerifyError::UnknownKey),
        Self::Token(VerifyError::WrongAlgorithm),
        Self::Token(VerifyError::BadSignature),
        Self::Token(VerifyError::InvalidClaims),
        Self::Token(VerifyError::WrongIssuer),
        Self::Token(VerifyError::WrongAudience),
        Self::Token(VerifyError::NotYetValid),
        Self::Token(VerifyError::Expired),
        Self::UnknownApp,
        Self::SessionEnded,
        Self::Blocked,
        Self::StoreUnavailable,
        Self::CrossSite,
        Self::AppNotPermitted,
    ];

    /// The word in the access log and the metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::SeveralTokens => "several_tokens",
            Self::Token(VerifyError::Malformed) => "malformed_token",
            Self::Token(VerifyError::UnknownKey) => "unknown_key",
            Self::Token(VerifyError::WrongAlgorithm) => "wrong_algorithm",
            Self::Token(VerifyError::BadSignature) => "bad_signature",
            Self::Token(VerifyError::InvalidClaims) => "invalid_claims",
            Self::Token(VerifyError::WrongIssuer) => "wrong_issuer",
            Self::Token(VerifyError::WrongAudience) => "wrong_audience",
            Self::Token(VerifyError::NotYetValid) => "not_yet_valid",
            Self::Token(VerifyError::Expired) => "expired",
            Self::UnknownApp => "unknown_app",
            Self::SessionEnded => "session_ended",
            Self::Blocked => "blocked",
            Self::StoreUnavailable => "store_unavailable",
            Self::CrossSite => "cross_site",
            Self::AppNotPermitted => "app_not_admitted",
        }
    }

    /// The `error` of `WWW-Authenticate`; `None` if the client showed no credentials, or they could
    /// not be checked.
    ///
    /// One word for every bad token: the log says which check failed, and a forger does not learn
    /// it.
    /// See RFC 6750 §3.1.
    pub const fn oauth_error(self) -> Option<&'static str> {
        match self {
            Self::NoToken | Self::StoreUnavailable | Self::CrossSite | Self::Blocked => None,
            _ => Some("invalid_token"),
        }
    }

    /// Whether the verdict can never change under the same keys, and took a signature check or a
    /// look at the store.
    ///
    /// Other errors are not remembered: to check again costs no more than to look up the memory,
    /// and a flood of junk must not evict the forgeries. A session that has ended never comes back.
    pub(super) const fn is_cacheable(self) -> bool {
        match self {
            Self::Token(
                VerifyError::BadSignature
                | VerifyError::InvalidClaims
                | VerifyError::WrongIssuer
                | VerifyError::WrongAudience,
            )
            | Self::UnknownApp
            | Self::SessionEnded => true,
            Self::Token(
                VerifyError::Malformed
                | VerifyError::UnknownKey
                | VerifyError::WrongAlgorithm
                | VerifyError::NotYetValid
                | VerifyError::Expired,
            )
            | Self::NoToken
            | Self::SeveralTokens
            | Self::Blocked
            | Self::StoreUnavailable
            | Self::CrossSite
            | Self::AppNotPermitted => false,
        }
    }
}

impl From<SessionError> for AuthnError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Ended => Self::SessionEnded,
            SessionError::Blocked => Self::Blocked,
            SessionError::Store(_) | SessionError::Internal(_) => Self::StoreUnavailable,
        }
    }
}
