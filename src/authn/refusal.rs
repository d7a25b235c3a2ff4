//! Why a request is not authenticated: one word for the access log, the metrics and the answer.

use crate::token::VerifyError;

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request carries no token.
    #[error("no token")]
    NoToken,
    /// The request carries two tokens, or the same place twice.
    #[error("more than one token")]
    SeveralTokens,
    /// What the request carries is no token of ours.
    #[error("not a token")]
    Malformed,
    /// Signed with a key that is not in use.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// The algorithm is not the key's.
    #[error("the algorithm is not the key's")]
    WrongAlgorithm,
    /// The signature is not by the key.
    #[error("the signature is wrong")]
    BadSignature,
    /// Well signed, but what it says makes no sense.
    #[error("the claims are wrong")]
    InvalidClaims,
    /// Issued by another gateway.
    #[error("issued by somebody else")]
    WrongIssuer,
    /// Meant for another audience.
    #[error("meant for somebody else")]
    WrongAudience,
    /// From the future.
    #[error("not valid yet")]
    NotYetValid,
    /// No longer valid.
    #[error("expired")]
    Expired,
    /// Of an app that is not configured.
    #[error("of an unknown app")]
    UnknownApp,
    /// Of an app the route does not admit. The route knows; nobody here refuses for it.
    #[error("of an app this route does not admit")]
    AppNotAdmitted,
}

impl Refusal {
    /// Every refusal, in order.
    pub const ALL: [Self; 13] = [
        Self::NoToken,
        Self::SeveralTokens,
        Self::Malformed,
        Self::UnknownKey,
        Self::WrongAlgorithm,
        Self::BadSignature,
        Self::InvalidClaims,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::NotYetValid,
        Self::Expired,
        Self::UnknownApp,
        Self::AppNotAdmitted,
    ];

    /// The word in the access log and the metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::SeveralTokens => "several_tokens",
            Self::Malformed => "malformed_token",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::InvalidClaims => "invalid_claims",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::UnknownApp => "unknown_app",
            Self::AppNotAdmitted => "app_not_admitted",
        }
    }

    /// The `error` of `WWW-Authenticate`; none where the client showed no credentials at all.
    ///
    /// One word for every bad token: which check failed is the log's business, not a forger's.
    /// See RFC 6750 §3.1.
    pub const fn oauth_error(self) -> Option<&'static str> {
        match self {
            Self::NoToken => None,
            _ => Some("invalid_token"),
        }
    }

    /// Whether the verdict can never change under the same keys, and took a signature check to reach.
    ///
    /// What is refused for less is not worth remembering: refusing it again costs no more than finding it
    /// remembered, and it would let a flood of junk push out the forgeries.
    pub(super) const fn is_worth_remembering(self) -> bool {
        match self {
            Self::BadSignature
            | Self::InvalidClaims
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::UnknownApp => true,
            Self::NoToken
            | Self::SeveralTokens
            | Self::Malformed
            | Self::UnknownKey
            | Self::WrongAlgorithm
            | Self::NotYetValid
            | Self::Expired
            | Self::AppNotAdmitted => false,
        }
    }
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Malformed => Self::Malformed,
            VerifyError::UnknownKey => Self::UnknownKey,
            VerifyError::WrongAlgorithm => Self::WrongAlgorithm,
            VerifyError::BadSignature => Self::BadSignature,
            VerifyError::InvalidClaims => Self::InvalidClaims,
            VerifyError::WrongIssuer => Self::WrongIssuer,
            VerifyError::WrongAudience => Self::WrongAudience,
            VerifyError::NotYetValid => Self::NotYetValid,
            VerifyError::Expired => Self::Expired,
        }
    }
}
