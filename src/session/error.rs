//! Why there is no session, or no new refresh token.

use std::fmt;
use std::sync::Arc;

use crate::identity::Subject;
use crate::store::StoreError;

/// Why a session is not believed, found or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It was revoked, has expired, or never existed.
    #[error("the session has ended")]
    Ended,
    /// The person is blocked. The session is good again when the block is lifted.
    #[error("the person is blocked")]
    Blocked,
    /// The store did not answer: the session is not believed, and an answer must not say that the
    /// request succeeded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway itself failed.
    #[error("the gateway failed: {0}")]
    Internal(Arc<str>),
}

/// Why a refresh token gives no new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// Its session has ended, or the token never existed.
    #[error("the refresh token is not valid")]
    Invalid,
    /// It was spent before, so it was stolen; the session of this person was ended. See RFC 9700
    /// §4.14.2.
    #[error("the refresh token was used twice")]
    Reused(Box<Subject>),
    /// It was spent a moment ago by another client than the one that shows it now, and the next one
    /// is unused. The session of this person goes on.
    #[error("the refresh token was spent by another client")]
    OfOtherClient(Box<Subject>),
    /// It is good, but of an app that the caller did not allow. It was not spent.
    #[error("the refresh token is of an app that is not allowed")]
    AppNotAllowed,
    /// As [`SessionError::Blocked`], [`SessionError::Store`] and [`SessionError::Internal`].
    #[error(transparent)]
    Session(SessionError),
}

/// The error for a failure of the gateway itself.
pub(super) fn internal(error: impl fmt::Display) -> SessionError {
    SessionError::Internal(error.to_string().into())
}

impl From<SessionError> for RefreshError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Ended => Self::Invalid,
            error => Self::Session(error),
        }
    }
}

impl From<StoreError> for RefreshError {
    fn from(error: StoreError) -> Self {
        Self::Session(SessionError::Store(error))
    }
}
