//! Reading WeChat's `session_key`s, and joining the unionid that data under them name.

use tracing::warn;
use zeroize::Zeroizing;

use super::error::SessionError;
use super::node::attempts::Attempts;
use super::row::name;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{SessionId, Subject, UnionId};

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

    /// WeChat's newest `session_key`s of a subject, the newest first: at most two. Any live session
    /// of the subject may use them, because WeChat has one at a time for a user and an app.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn newest_session_keys(
        &self,
        subject: &Subject,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Vec<Zeroizing<[u8; 16]>>, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let (locator, id) = name::locate(subject, session)?;
        let (stored, revocations) = core.read_subject(locator).await?.ok_or(SessionError::Ended)?;
        let entry = stored.row.live_entry(&id, limits, &revocations, now).ok_or(SessionError::Ended)?;
        core.people.of_row(&stored.row, &revocations).await?.user_of(entry.revocation_number)?;
        // One whose seal key is gone is as one that was never kept: the user signs in again.
        let open = |sealed| match self.keys.open(subject, &locator, sealed, core.entropy.as_ref()) {
            Ok((secret, _)) => Some(secret),
            Err(error) => {
                warn!("a session_key of {} does not open: {error}", subject.appid);
                None
            }
        };
        Ok(stored.row.session_keys().filter_map(open).collect())
    }

    /// Writes down the unionid of a subject, which WeChat gave after the sign-in. The next look-up
    /// of each session of the subject finds it.
    ///
    /// # Errors
    /// [`SessionError`], by variant. [`SessionError::Blocked`]: the person of the unionid is
    /// blocked.
    pub async fn join_unionid(
        &self,
        subject: &Subject,
        session: &SessionId,
        unionid: &UnionId,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let (locator, id) = name::locate(subject, session)?;
        let state = core.leases.subject(&locator);
        let _lock = state.lock().await?;
        let mut attempts = Attempts::default();
        loop {
            let (stored, revocations) = core.read_subject(locator).await?.ok_or(SessionError::Ended)?;
            stored.row.live_entry(&id, limits, &revocations, now).ok_or(SessionError::Ended)?;
            if stored.row.unionid() == Some(unionid) {
                return Ok(());
            }
            let mut row = stored.row.clone();
            if row.set_unionid(Some(unionid)) {
                warn!("WeChat gave a person of {} another unionid: the new one counts", subject.appid);
            }
            self.refuse_blocked(&row, &revocations).await?;
            // Before the row: a session that no unionid lists could not be ended by unionid.
            let listing = core.unionids.write_for(unionid, subject, row.latest_end(), limits, now).await?;
            let write = core.subjects.replacement(locator, Some(&stored), &row, limits, now).await?;
            if core.store.write_in_order(listing.into_iter().chain([write]).collect()).await? {
                // An operator who blocked the unionid meanwhile did not find this subject in the
                // list.
                let revocations = core.revocations.current().await?;
                core.leases.end(&locator);
                return self.refuse_blocked(&row, &revocations).await;
            }
            attempts.wait(core.entropy.as_ref()).await?;
        }
    }
}
