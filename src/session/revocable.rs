//! Finding a session in order to end it, even if its person is blocked. A blocked person must be
//! able to sign out: otherwise the holder of the person's device would be signed in when the block
//! is lifted.

use super::error::SessionError;
use super::row::cookie::SessionCookie;
use super::row::name::{self, EntryId, Locator};
use super::row::refresh_token::RefreshToken;
use super::row::subject::SubjectRow;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId, Subject};

/// A live session that is to be ended. It lets no request in: its person may be blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocableSession {
    /// Its id.
    pub id: SessionId,
    /// The identity in the store.
    pub identity: Identity,
}

impl Sessions {
    /// Finds a session by its id.
    ///
    /// # Errors
    /// [`SessionError::Ended`] and [`SessionError::Store`]
    pub async fn find_revocable(
        &self,
        subject: &Subject,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let (locator, id) = name::locate(subject, session)?;
        self.find_live(locator, |_| Some(id), now).await
    }

    /// Finds a session by its cookie.
    ///
    /// # Errors
    /// As [`Sessions::find_revocable`].
    pub async fn find_revocable_by_cookie(
        &self,
        cookie: &SessionCookie,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let (locator, hash) = cookie.decode().ok_or(SessionError::Ended)?;
        self.find_live(locator, |row| row.find_by_cookie(&hash), now).await
    }

    /// Finds a session by any refresh token of it, even a spent one.
    ///
    /// # Errors
    /// As [`Sessions::find_revocable`].
    pub async fn find_revocable_by_refresh_token(
        &self,
        token: &RefreshToken,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let token = token.decode().ok_or(SessionError::Ended)?;
        let find = |row: &SubjectRow| {
            row.entries.iter().find(|entry| entry.family.contains(&token)).map(|entry| entry.id)
        };
        self.find_live(token.locator, find, now).await
    }

    async fn find_live(
        &self,
        locator: Locator,
        find: impl Fn(&SubjectRow) -> Option<EntryId> + Send + Sync,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let (stored, revocations) = self.core.read_subject(locator).await?.ok_or(SessionError::Ended)?;
        let row = &stored.row;
        let id = find(row).ok_or(SessionError::Ended)?;
        row.live_entry(&id, &self.limits, &revocations, now).ok_or(SessionError::Ended)?;
        Ok(RevocableSession { id: name::session_id(&locator, &id)?, identity: row.identity() })
    }
}
