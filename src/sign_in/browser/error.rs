//! Why a browser is refused, and the one table of what its user gets for it.

use crate::sign_in::error::{ErrorReply, SignInError, reply};
use crate::store::StoreError;
use crate::throttle::Throttled;

/// Why a browser is refused: a reason that only a browser can meet, or the common error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::sign_in) enum BrowserError {
    #[error("no app to sign in to at this address")]
    NothingToSignInTo,
    #[error("the host is not one of login.origins")]
    OriginUnknown,
    #[error("no page was asked for")]
    NotNavigated,
    #[error("no state")]
    StateMissing,
    #[error("not a state")]
    StateMalformed,
    #[error("the state expired, came with another code, or never existed")]
    StateUnknown,
    #[error("the state is of a sign-in to another app")]
    StateOfOtherApp,
    #[error("the state is of a sign-in at another origin")]
    StateOfOtherOrigin,
    #[error("another browser began the sign-in")]
    BrowserMismatch,
    #[error("the browser has lost its cookie")]
    BrowserCookieMissing,
    #[error("the person refused")]
    PersonRefused,
    #[error("not a code")]
    CodeMalformed,
    #[error("not one ticket")]
    TicketMalformed,
    #[error("the ticket was used, is too old, or never existed")]
    TicketUnknown,
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

impl BrowserError {
    pub(in crate::sign_in) fn reply(&self) -> ErrorReply {
        match self {
            Self::NothingToSignInTo => reply(
                404,
                "invalid_request",
                "nothing_to_sign_in_to",
                "no app that a browser signs in to is offered at this address",
            ),
            Self::OriginUnknown => reply(
                404,
                "invalid_request",
                "origin_unknown",
                "browsers cannot sign in at this host: it is not one of `login.origins`",
            ),
            Self::NotNavigated => reply(
                403,
                "access_denied",
                "not_navigated",
                "a user must open this address: do not embed it, prefetch it, or call it from a script",
            ),
            Self::StateMissing => reply(400, "invalid_request", "state_missing", "`state` is missing"),
            Self::StateMalformed => reply(
                400,
                "invalid_request",
                "state_malformed",
                "`state` must occur exactly once: 1 to 128 letters and digits",
            ),
            Self::StateUnknown => reply(
                403,
                "access_denied",
                "state_unknown",
                "the sign-in began too long ago, or is finished: begin again",
            ),
            Self::StateOfOtherApp => reply(
                403,
                "access_denied",
                "state_of_other_app",
                "the sign-in began with another app: begin again",
            ),
            Self::StateOfOtherOrigin => reply(
                403,
                "access_denied",
                "state_of_other_origin",
                "the sign-in began at another address: begin again",
            ),
            Self::BrowserMismatch => reply(
                403,
                "access_denied",
                "browser_mismatch",
                "the sign-in began in another browser: begin again",
            ),
            Self::BrowserCookieMissing => reply(
                403,
                "access_denied",
                "browser_cookie_missing",
                "the browser lost its cookie, or the sign-in began in another browser: begin again",
            ),
            Self::PersonRefused => {
                reply(403, "access_denied", "person_refused", "the person did not agree to sign in")
            }
            Self::CodeMalformed => reply(
                400,
                "invalid_request",
                "code_malformed",
                "`code` must occur exactly once: 1 to 128 letters, digits, `-` or `_`",
            ),
            Self::TicketMalformed => {
                reply(400, "invalid_request", "ticket_malformed", "`t` must occur exactly once")
            }
            Self::TicketUnknown => reply(
                403,
                "access_denied",
                "ticket_unknown",
                "the ticket was used, is too old, or never existed: ask for another one",
            ),
            Self::SignIn(error) => error.reply(),
        }
    }
}

impl From<StoreError> for BrowserError {
    fn from(error: StoreError) -> Self {
        Self::SignIn(error.into())
    }
}

impl From<Throttled> for BrowserError {
    fn from(throttled: Throttled) -> Self {
        Self::SignIn(throttled.into())
    }
}
