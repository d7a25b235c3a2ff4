//! Finding a session in order to end it, whether or not its person is let in anywhere: who is blocked must be able to sign
//! out, else whoever has their device is them once they are not.

use super::name::{self, Locator, SessionKey};
use super::record::Record;
use super::{RefreshToken, SessionCookie, SessionError, Sessions};
use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId, Subject};

/// A session that goes on and is to end. Nothing that anybody should be let in by: its person may be blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocableSession {
    /// Its id.
    pub id: SessionId,
    /// Who it belongs to, as the store knows it.
    pub identity: Identity,
}

impl Sessions {
    /// A session to end, by its id.
    ///
    /// # Errors
    /// [`SessionError::Ended`] and [`SessionError::Store`]
    pub async fn find_revocable(
        &self,
        subject: &Subject,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let (locator, key) = name::parse(session).ok_or(SessionError::Ended)?;
        if locator != name::locator(subject) {
            return Err(SessionError::Ended);
        }
        self.find_revocable_session(locator, |_| Some(key), now).await
    }

    /// A session to end, by its cookie.
    ///
    /// # Errors
    /// As [`Sessions::find_revocable`].
    pub async fn find_revocable_by_cookie(
        &self,
        cookie: &SessionCookie,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let (locator, hash) = cookie.parts().ok_or(SessionError::Ended)?;
        self.find_revocable_session(locator, |record| record.of_cookie(&hash), now).await
    }

    /// A session to end, by a refresh token of it: any, since one that was spent ends it as well.
    ///
    /// # Errors
    /// As [`Sessions::find_revocable`].
    pub async fn find_revocable_by_refresh_token(
        &self,
        token: &RefreshToken,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let token = token.parts().ok_or(SessionError::Ended)?;
        let find = |record: &Record| {
            record.entries.iter().find(|entry| entry.family.is_of(&token)).map(|entry| entry.key)
        };
        self.find_revocable_session(token.locator, find, now).await
    }

    async fn find_revocable_session(
        &self,
        locator: Locator,
        find: impl Fn(&Record) -> Option<SessionKey> + Send + Sync,
        now: Timestamp,
    ) -> Result<RevocableSession, SessionError> {
        let core = &self.core;
        let (row, marks) = core.read_with_marks(locator).await?.ok_or(SessionError::Ended)?;
        let key = find(&row.record).ok_or(SessionError::Ended)?;
        row.record.live(&key, &self.limits, &marks, now).ok_or(SessionError::Ended)?;
        Ok(RevocableSession { id: name::session_id(&locator, &key)?, identity: row.record.identity() })
    }
}
