//! Taking a refresh token and giving the next. See RFC 9700 §4.14.2.

use tracing::warn;

use super::core::{Attempts, Row};
use super::follow::Heard;
use super::metrics::Refreshing;
use super::name::{self, SessionKey};
use super::record::{Entry, Record};
use super::refresh_token::{Parts, RefreshToken, Use};
use super::{OpenedSession, RefreshError, RefreshedSession, SessionError, Sessions};
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::store::StoreError;

impl Sessions {
    /// Takes a refresh token and gives the next; a retry within the grace time gets the same next one.
    ///
    /// # Errors
    /// [`RefreshError`], by variant.
    pub async fn refresh(
        &self,
        token: &RefreshToken,
        now: Timestamp,
    ) -> Result<RefreshedSession, RefreshError> {
        self.refresh_if(token, |_| true, now).await
    }

    /// As [`Sessions::refresh`], of the apps alone that `admits` says: a token of another stays as it is.
    ///
    /// # Errors
    /// [`RefreshError`], by variant.
    pub async fn refresh_if(
        &self,
        token: &RefreshToken,
        admits: impl Fn(&AppId) -> bool + Send + Sync,
        now: Timestamp,
    ) -> Result<RefreshedSession, RefreshError> {
        let result = self.take(token, admits, now).await;
        self.core.metrics.refreshed(match &result {
            Ok((_, outcome)) => *outcome,
            Err(error) => Refreshing::from(error),
        });
        result.map(|(refreshed, _)| refreshed)
    }

    /// Whether a refresh token is the one that its session would take now: nobody has refreshed or ended it since.
    ///
    /// # Errors
    /// [`SessionError::Blocked`] and [`SessionError::Store`]
    pub async fn is_unspent(&self, token: &RefreshToken, now: Timestamp) -> Result<bool, SessionError> {
        let Some(token) = token.parts() else { return Ok(false) };
        let Some((row, marks)) = self.core.read_with_marks(token.locator).await? else { return Ok(false) };
        let mut live = row.record.all_live(&self.limits, &marks, now);
        let Some(entry) = live.find(|entry| entry.family.is_of(&token)) else { return Ok(false) };
        if marks.block_out(&row.record.identity()) {
            return Err(SessionError::Blocked);
        }
        let judged = entry.family.judge(&token, &entry.key, self.limits.refresh_grace, now)?;
        Ok(matches!(judged, Use::Current))
    }

    async fn take(
        &self,
        token: &RefreshToken,
        admits: impl Fn(&AppId) -> bool + Send + Sync,
        now: Timestamp,
    ) -> Result<(RefreshedSession, Refreshing), RefreshError> {
        let (core, limits) = (&self.core, &self.limits);
        let token = token.parts().ok_or(RefreshError::Invalid)?;
        let state = core.leases.subject(&token.locator);
        let _turn = state.turn().await?;
        let mut attempts = Attempts::default();
        let mut is_kept = false;
        loop {
            let (row, marks) = core.read_with_marks(token.locator).await?.ok_or(RefreshError::Invalid)?;
            let mut live = row.record.all_live(limits, &marks, now);
            // Who does not know the family is nobody to the session, and must not be able to end it.
            let entry = live.find(|entry| entry.family.is_of(&token)).ok_or(RefreshError::Invalid)?;
            if marks.block_out(&row.record.identity()) {
                // The token stays as it is: it is good again when the person is.
                return Err(RefreshError::Session(SessionError::Blocked));
            }
            let judged = entry.family.judge(&token, &entry.key, limits.refresh_grace, now)?;
            match judged {
                // A token used twice is a theft of whatever app it is.
                Use::Reused => return Err(self.end_reused(&row, entry.key, now).await),
                _ if !admits(&row.record.subject().appid) => return Err(RefreshError::AppNotAllowed),
                // Once the row says that the token is spent, its successor may have been told, and who shows the token later
                // than the grace time ends the session. A store that keeps no writes, or answers none, would so end the
                // session of everybody who refreshes meanwhile. So it must first keep the row as it is.
                Use::Current if !is_kept => {
                    is_kept = core.replace(token.locator, Some(&row), &row.record, limits, now).await?;
                    if !is_kept {
                        attempts.again(core).await?;
                    }
                    continue;
                }
                Use::Current => {}
                Use::Repeated(next) => {
                    // Whoever spent the token may have been told that this is not on enough servers yet. Written once
                    // more it is, or this is an error too.
                    if core.store.is_shared()
                        && !core.replace(token.locator, Some(&row), &row.record, limits, now).await?
                    {
                        attempts.again(core).await?;
                        continue;
                    }
                    return Ok((refreshed(&row.record, entry, &next)?, Refreshing::Repeated));
                }
            }
            let mut record = row.record.clone();
            let entry = record.entry_mut(&entry.key).ok_or(RefreshError::Invalid)?;
            let next = entry.family.rotate(&token, &entry.key, core.entropy.as_ref(), now)?;
            entry.see(now);
            let answer = refreshed(&row.record, entry, &next)?;
            record.tidy(limits, &marks, now);
            if core.replace(token.locator, Some(&row), &record, limits, now).await? {
                return Ok((answer, Refreshing::Rotated));
            }
            attempts.again(core).await?;
        }
    }

    /// Ends the session of a token that was used twice.
    async fn end_reused(&self, row: &Row, key: SessionKey, now: Timestamp) -> RefreshError {
        let locator = name::locator(&row.record.subject());
        warn!("a refresh token was used twice: its session of {} is ended", row.record.subject().appid);
        let mut removed = self.remove(locator, &key, now).await;
        for _ in 0..2 {
            // Whoever asks again is told that the session is unknown, so this is the time to insist.
            if removed.is_ok() {
                break;
            }
            removed = self.remove(locator, &key, now).await;
        }
        let result = removed.map(Some).map_err(SessionError::from);
        self.core.metrics.revoked_for_reuse(&result);
        match result {
            Ok(_) => RefreshError::Reused,
            Err(error) => RefreshError::Session(error),
        }
    }

    /// Removes a session from its row, whoever it is of, and tells everybody; how many there were. The caller has the turn.
    pub(super) async fn remove(
        &self,
        locator: name::Locator,
        key: &SessionKey,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let removed = self.remove_from_row(locator, key, now).await;
        // Also where nothing was left: an earlier try may have removed it and told nobody.
        self.core.leases.end(&locator);
        self.core.tell_if_done(removed, &Heard::Subject(locator)).await
    }

    async fn remove_from_row(
        &self,
        locator: name::Locator,
        key: &SessionKey,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let core = &self.core;
        let mut attempts = Attempts::default();
        while let Some(row) = core.read(locator).await? {
            let mut record = row.record.clone();
            if !record.remove(key) {
                break;
            }
            if core.replace(locator, Some(&row), &record, &self.limits, now).await? {
                return Ok(1);
            }
            attempts.again(core).await?;
        }
        Ok(0)
    }
}

fn refreshed(record: &Record, entry: &Entry, next: &Parts) -> Result<RefreshedSession, SessionError> {
    let id = name::session_id(&next.locator, &entry.key)?;
    let session = OpenedSession { id, refresh_token: next.token(), expires_at: entry.ends_at };
    Ok(RefreshedSession { identity: record.identity(), session })
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
