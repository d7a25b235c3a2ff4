//! Which sessions are listed or revoked.

use crate::clock::Timestamp;
use crate::identity::{AppId, SessionId, Subject, UnionId, UserId};

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionScope {
    /// One session.
    Session(SessionId),
    /// All sessions of a person in one app.
    Subject(Subject),
    /// All sessions of a person in every app.
    UnionId(UnionId),
    /// All sessions of every person who is bound to this user.
    User(UserId),
    /// All sessions of an app.
    App(AppId),
    /// All sessions that were opened before this instant.
    OpenedBefore(Timestamp),
}

impl SessionScope {
    /// The scope's name in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
            Self::UnionId(_) => "unionid",
            Self::User(_) => "user",
            Self::App(_) => "app",
            Self::OpenedBefore(_) => "opened_before",
        }
    }
}
