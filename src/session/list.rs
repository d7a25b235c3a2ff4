//! Listing the sessions of a person.

use super::error::SessionError;
use super::row::limits::SessionLimits;
use super::row::name::{self, Locator};
use super::row::revocations::Revocations;
use super::row::subject::{SessionEntry, SubjectRow};
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Identity, Profile, SessionId, Subject, UnionId};

/// A session in a list. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// The person.
    pub identity: Identity,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, to within a sixteenth of the idle timeout. A refresh is a use.
    pub last_seen_at: Timestamp,
    /// When it was last used for anything but a refresh. Only this is shown to who holds one of its
    /// tokens: a thief must not see when the user's client refreshes.
    pub last_request_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// The client's name for itself, in a few printable characters.
    pub device: Option<String>,
    /// The person's profile.
    pub profile: Profile,
}

impl Sessions {
    /// The sessions of a person in one app, oldest first.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn list_by_subject(
        &self,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        let locator = name::locator(subject);
        let Some((stored, revocations)) = self.core.read_subject(locator).await? else {
            return Ok(Vec::new());
        };
        session_infos(&stored.row, &locator, &self.limits, &revocations, now)
    }

    /// The sessions of a person in every app, by app and then oldest first.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn list_by_unionid(
        &self,
        unionid: &UnionId,
        now: Timestamp,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        let mut sessions = Vec::new();
        for subject in self.core.unionids.subjects(unionid).await? {
            sessions.extend(self.list_by_subject(&subject, now).await?);
        }
        // The unionid's row still lists subjects to whom WeChat has given another unionid since.
        sessions.retain(|session| session.identity.unionid.as_ref() == Some(unionid));
        Ok(sessions)
    }
}

/// The live sessions of a row, oldest first.
pub(super) fn session_infos(
    row: &SubjectRow,
    locator: &Locator,
    limits: &SessionLimits,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<Vec<SessionInfo>, SessionError> {
    let info = |entry: &SessionEntry| {
        Ok(SessionInfo {
            id: name::session_id(locator, &entry.id)?,
            identity: row.identity(),
            created_at: entry.created_at,
            last_seen_at: entry.last_used_at(),
            last_request_at: entry.last_seen_at,
            expires_at: entry.expires_at,
            device: entry.device.clone(),
            profile: row.profile(),
        })
    };
    row.live_entries(limits, revocations, now).map(info).collect()
}
