//! Sessions: opened by a login, looked up by every token, renewed by refresh tokens, ended by whoever may.
//!
//! A person in one app has one row in the store, with all their sessions in it; a session is what that row says it is.
//! Every change is one compare-and-set of that row, so that no store needs more than one atomic row. Verdicts that other
//! modules remember hold a [`Lease`], which ends when the row may have changed. Who may revoke, and what a client is told,
//! are decided elsewhere.

mod binding;
mod block;
mod build;
mod check;
mod cookie;
mod core;
mod custody;
mod device;
mod ending;
mod field;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod lease;
mod limits;
mod listing;
mod marks;
mod metrics;
mod name;
mod open;
mod record;
mod refresh;
mod refresh_token;
mod revoke;
mod row;
mod seal;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use self::binding::UserBinding;
pub use self::block::{BlockError, BlockedPerson, MOST_BLOCKED, PersonId};
pub use self::cookie::{InvalidSessionCookie, SessionCookie};
pub use self::core::Core;
use self::custody::SealKeys;
pub use self::ending::RevocableSession;
pub use self::lease::Lease;
use self::limits::Limits;
pub use self::refresh_token::{InvalidRefreshToken, RefreshToken};
use crate::clock::Timestamp;
use crate::identity::{AppId, Identity, Profile, SessionId, Subject, UnionId, User};
use crate::store::StoreError;

/// The sessions, under one configuration.
pub struct Sessions {
    core: Arc<Core>,
    limits: Limits,
    keys: SealKeys,
}

/// A login that succeeded.
pub struct NewSession<'a> {
    /// Who signed in.
    pub identity: &'a Identity,
    /// What WeChat shares with the gateway for this person's data.
    pub session_key: Option<&'a Zeroizing<[u8; 16]>>,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
    /// What the person calls themselves, where the login brought it.
    pub profile: Option<&'a Profile>,
}

/// A session that a browser holds, in the store.
#[derive(Clone, Debug)]
pub struct OpenedBrowserSession {
    /// Its id: names the row and the session in it.
    pub id: SessionId,
    /// Good for as long as the session goes on.
    pub cookie: SessionCookie,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A session that is in the store.
#[derive(Clone, Debug)]
pub struct OpenedSession {
    /// Its id: names the row and the session in it.
    pub id: SessionId,
    /// Good for one [`Sessions::refresh`].
    pub refresh_token: RefreshToken,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A refresh token was taken, and this is the next.
#[derive(Clone, Debug)]
pub struct RefreshedSession {
    /// Whose it is.
    pub identity: Identity,
    /// The session, with its next refresh token.
    pub session: OpenedSession,
}

/// A session that goes on.
#[derive(Clone, Debug)]
pub struct CheckedSession {
    /// Its id.
    pub id: SessionId,
    /// Ends when the session must be looked up again before it is believed.
    pub lease: Lease,
    /// When it must be looked up again whatever happens. Never after the session's end.
    pub recheck_at: Timestamp,
    /// When the session ends at the latest.
    pub expires_at: Timestamp,
    /// Who it belongs to, as the store knows it: the unionid may be newer than the token's.
    pub identity: Identity,
    /// What the person calls themselves, as the store knows it.
    pub profile: Profile,
    /// The business's own user whom they were bound to.
    pub user: Option<User>,
}

/// What a session is called where it is listed. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub identity: Identity,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, to within a sixteenth of the idle timeout.
    pub last_seen_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// What the client called itself, in a few printable characters.
    pub device: Option<String>,
    /// What the person calls themselves.
    pub profile: Profile,
}

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionScope {
    /// This one.
    Session(SessionId),
    /// All of a person in one app.
    Subject(Subject),
    /// All of a person, in every app.
    UnionId(UnionId),
    /// All of an app.
    App(AppId),
    /// All that were opened before this instant.
    OpenedBefore(Timestamp),
}

impl SessionScope {
    /// The scope's name, in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
            Self::UnionId(_) => "unionid",
            Self::App(_) => "app",
            Self::OpenedBefore(_) => "opened_before",
        }
    }
}

/// Why there is no session to speak of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It was revoked, has expired, or never was.
    #[error("the session has ended")]
    Ended,
    /// Its person is blocked; it goes on when they no longer are.
    #[error("the person is blocked")]
    Blocked,
    /// The store did not say; nobody is to be believed, or told that it worked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway itself failed.
    #[error("the gateway failed: {0}")]
    Internal(Arc<str>),
}

/// Why a refresh token was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// Its session has ended, or there never was such a token.
    #[error("the refresh token is not valid")]
    Invalid,
    /// It was spent before, so somebody else has it; its session was ended. See RFC 9700 §4.14.2.
    #[error("the refresh token was used twice")]
    Reused,
    /// It is good, and of an app that the caller asked not to refresh; it was not spent.
    #[error("the refresh token is of an app that is not admitted")]
    AppNotAllowed,
    /// As [`SessionError::Store`] and [`SessionError::Internal`].
    #[error(transparent)]
    Session(SessionError),
}

impl Sessions {
    /// What all configurations share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// How long a verdict is believed at most before its session is looked up again.
    pub fn recheck_after(&self) -> Duration {
        self.limits.recheck_after
    }

    /// How long a refresh token gets the same answer again.
    pub fn refresh_grace(&self) -> Duration {
        self.limits.refresh_grace
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("core", &self.core).finish_non_exhaustive()
    }
}
