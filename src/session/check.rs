//! Looking a session up, and noting now and then that it is in use.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::core::{Attempts, Core, Row};
use super::limits::Limits;
use super::marks::Marks;
use super::name::{self, Locator, SessionKey};
use super::record::{Entry, Record};
use super::{CheckedSession, SessionCookie, SessionError, SessionInfo, Sessions};
use crate::clock::Timestamp;
use crate::identity::{SessionId, Subject, UnionId};
use crate::store::StoreError;

impl Sessions {
    /// Looks a session up, and notes now and then that it is in use.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn check(
        &self,
        subject: &Subject,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<CheckedSession, SessionError> {
        let checked = match locate(subject, session) {
            Ok((locator, key)) => self.look_up(locator, |_| Some(key), now).await,
            Err(error) => Err(error),
        };
        self.core.metrics.checked(&checked);
        checked
    }

    /// Looks up the session of a browser's cookie, as [`Sessions::check`] does.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn check_cookie(
        &self,
        cookie: &SessionCookie,
        now: Timestamp,
    ) -> Result<CheckedSession, SessionError> {
        let checked = match cookie.parts() {
            Some((locator, hash)) => self.look_up(locator, |record| record.of_cookie(&hash), now).await,
            None => Err(SessionError::Ended),
        };
        self.core.metrics.checked(&checked);
        checked
    }

    /// Looks up the session that `find` tells from the others of a row.
    async fn look_up(
        &self,
        locator: Locator,
        find: impl Fn(&Record) -> Option<SessionKey> + Send + Sync,
        now: Timestamp,
    ) -> Result<CheckedSession, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        core.must_hear()?;
        let lease = core.leases.take(&locator);
        // Before the rows are read, after the lease: who is bound from here on ends it.
        let bindings = core.marks().await?.bindings;
        let (row, own) = tokio::join!(core.read(locator), core.binding_of_subject(locator, bindings));
        let row = row?.ok_or(SessionError::Ended)?;
        let record = &row.record;
        let key = find(record).ok_or(SessionError::Ended)?;
        let marks = core.marks_since(record.number(&key)).await?;
        let entry = record.live(&key, limits, &marks, now).ok_or(SessionError::Ended)?;
        if marks.block_out(&record.identity()) {
            return Err(SessionError::Blocked);
        }
        // One that cannot be read denies: nobody knows what it said.
        let user = core.user_of(record, own?, bindings).await?;

        let is_noted = now.since(entry.last_seen_at) < limits.note_after;
        let last_seen_at = if is_noted { entry.last_seen_at } else { now };
        let end = entry.ends_at.min(limits.idle_end(last_seen_at));
        if !is_noted {
            let core = Arc::clone(core);
            let limits = *limits;
            // No request waits for this write. If it fails the next look makes it.
            tokio::spawn(async move { core.note_use(locator, key, &limits, now).await });
        }
        Ok(CheckedSession {
            id: name::session_id(&locator, &key)?,
            lease,
            recheck_at: now.plus(limits.recheck_after).min(end),
            expires_at: entry.ends_at,
            identity: record.identity(),
            profile: record.profile(),
            user,
        })
    }

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
        let Some((row, marks)) = self.core.read_with_marks(locator).await? else { return Ok(Vec::new()) };
        row.record.infos(&locator, &self.limits, &marks, now)
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
        for subject in self.core.listed(unionid).await? {
            sessions.extend(self.list_by_subject(&subject, now).await?);
        }
        // The list goes on naming those to whom WeChat has given another unionid since.
        sessions.retain(|session| session.identity.unionid.as_ref() == Some(unionid));
        Ok(sessions)
    }

    /// What WeChat shares with the gateway for a person's data, if that is what this session's login brought.
    /// Sealed anew on the way when the key that seals has changed.
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
        let (locator, key) = locate(subject, session)?;
        let (row, marks) = core.read_with_marks(locator).await?.ok_or(SessionError::Ended)?;
        row.record.live(&key, limits, &marks, now).ok_or(SessionError::Ended)?;
        if marks.block_out(&row.record.identity()) {
            return Err(SessionError::Blocked);
        }
        let Some(sealed) = row.record.sealed.as_ref().filter(|sealed| sealed.session == key) else {
            return Ok(None);
        };
        let (secret, anew) = self.keys.open(subject, &locator, sealed, core.entropy.as_ref())?;
        if let Some(anew) = anew {
            let mut record = row.record.clone();
            record.sealed = Some(anew);
            // Whoever was faster, or a store that fails, leaves what still opens.
            let _ = core.replace(locator, Some(&row), &record, limits, now).await;
        }
        Ok(Some(secret))
    }
}

impl Core {
    /// Writes down that a session was used, unless somebody on this node is writing its row.
    async fn note_use(
        &self,
        locator: Locator,
        key: SessionKey,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let state = self.leases.subject(&locator);
        let Some(_turn) = state.try_turn() else { return Ok(()) };
        let marks = self.marks().await?;
        let mut attempts = Attempts::default();
        loop {
            let Some(row) = self.read(locator).await? else { return Ok(()) };
            let Some(record) = seen(&row, &key, limits, &marks, now) else { return Ok(()) };
            if self.replace(locator, Some(&row), &record, limits, now).await? {
                return Ok(());
            }
            attempts.again(self).await?;
        }
    }
}

/// The row with the use written down; nothing where it stands there by now, or the session has ended.
fn seen(row: &Row, key: &SessionKey, limits: &Limits, marks: &Marks, now: Timestamp) -> Option<Record> {
    let is_due = |entry: &&Entry| now.since(entry.last_seen_at) >= limits.note_after;
    row.record.live(key, limits, marks, now).filter(is_due)?;
    let mut record = row.record.clone();
    record.entry_mut(key)?.see(now);
    Some(record)
}

/// Where a session is, if it can be one of this subject.
fn locate(subject: &Subject, session: &SessionId) -> Result<(Locator, SessionKey), SessionError> {
    let (locator, key) = name::parse(session).ok_or(SessionError::Ended)?;
    if locator != name::locator(subject) {
        return Err(SessionError::Ended);
    }
    Ok((locator, key))
}
