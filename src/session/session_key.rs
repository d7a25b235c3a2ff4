//! Reading WeChat's `session_key` of a session.

use zeroize::Zeroizing;

use super::error::SessionError;
use super::row::name;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{SessionId, Subject};

impl Sessions {
    /// WeChat's `session_key`, if this session's sign-in brought the subject's newest one. If
    /// another key than the first seal key opens it, the row gets it sealed with the first.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn session_key(
        &self,
        subject: &Subject,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Option<Zeroizing<[u8; 16]>>, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let (locator, id) = name::locate(subject, session)?;
        let (stored, revocations) = core.read_subject(locator).await?.ok_or(SessionError::Ended)?;
        let entry = stored.row.live_entry(&id, limits, &revocations, now).ok_or(SessionError::Ended)?;
        core.people.of_row(&stored.row, &revocations).await?.user_of(entry.revocation_number)?;
        let Some(sealed) = stored.row.session_key.as_ref().filter(|sealed| sealed.session == id) else {
            return Ok(None);
        };
        let (secret, resealed) = self.keys.open(subject, &locator, sealed, core.entropy.as_ref())?;
        if let Some(resealed) = resealed {
            let mut row = stored.row.clone();
            row.session_key = Some(resealed);
            // If another writer is faster or the store fails, the row keeps what still opens.
            let _ = core.subjects.replace(locator, Some(&stored), &row, limits, now).await;
        }
        Ok(Some(secret))
    }
}
