//! Looking a session up.

use std::sync::Arc;

use super::error::SessionError;
use super::node::attempts::Attempts;
use super::node::core::Core;
use super::node::lease::Lease;
use super::row::cookie::SessionCookie;
use super::row::limits::SessionLimits;
use super::row::name::{self, EntryId, Locator};
use super::row::revocations::Revocations;
use super::row::subject::{SessionEntry, SubjectRow};
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Identity, Profile, SessionId, Subject, User};
use crate::store::StoreError;

/// A live session.
#[derive(Clone, Debug)]
pub struct CheckedSession {
    /// Its id.
    pub id: SessionId,
    /// Ends when the session must be looked up again before it is believed.
    pub lease: Lease,
    /// When it must be looked up again in any case. Never after the session's end.
    pub recheck_at: Timestamp,
    /// When the session ends at the latest.
    pub expires_at: Timestamp,
    /// The identity in the store: its unionid may be newer than the token's.
    pub identity: Identity,
    /// The profile in the store.
    pub profile: Profile,
    /// The business's own user that the person is bound to.
    pub user: Option<User>,
    /// The session of a program that this one was handed over from, if a web-view holds this one.
    pub parent: Option<SessionId>,
}

impl Sessions {
    /// Looks a session up, and writes down now and then that it is in use.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn check(
        &self,
        subject: &Subject,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<CheckedSession, SessionError> {
        let checked = match name::locate(subject, session) {
            Ok((locator, id)) => self.look_up(locator, |_| Some(id), now).await,
            Err(error) => Err(error),
        };
        self.core.metrics.count_check(&checked);
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
        let checked = match cookie.decode() {
            Some((locator, hash)) => self.look_up(locator, |row| row.find_by_cookie(&hash), now).await,
            None => Err(SessionError::Ended),
        };
        self.core.metrics.count_check(&checked);
        checked
    }

    /// Whose session a browser's cookie opens, even if the person is blocked; `None` if it opens
    /// none, or if the store does not answer.
    pub async fn subject_of_cookie(&self, cookie: &SessionCookie) -> Option<Subject> {
        let (locator, hash) = cookie.decode()?;
        let stored = self.core.subjects.read(locator).await.ok()??;
        stored.row.find_by_cookie(&hash).map(|_| stored.row.subject())
    }

    /// Looks up the session that `find` selects in a row.
    async fn look_up(
        &self,
        locator: Locator,
        find: impl Fn(&SubjectRow) -> Option<EntryId> + Send + Sync,
        now: Timestamp,
    ) -> Result<CheckedSession, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        core.health.require_log()?;
        let lease = core.leases.lease(&locator);
        // After the lease and before the rows are read: a block or a binding that is written from
        // here on ends the lease.
        let kinds = core.revocations.cached().await?.people;
        let (stored, of_subject) =
            tokio::join!(core.subjects.read(locator), core.people.read_of_subject(locator, kinds));
        let stored = stored?.ok_or(SessionError::Ended)?;
        let row = &stored.row;
        let id = find(row).ok_or(SessionError::Ended)?;
        let revocations = core.revocations.at_least(row.revocation_number(&id)).await?;
        let entry = row.live_entry(&id, limits, &revocations, now).ok_or(SessionError::Ended)?;
        let people = core.people.of_session(row, of_subject?, &revocations).await?;
        let user = people.user_of(entry.revocation_number)?;

        let is_written = now.since(entry.last_seen_at) < limits.use_interval;
        let end_of = |entry: &SessionEntry| {
            let last_used_at = if is_written { entry.last_used_at() } else { now };
            entry.expires_at.min(limits.idle_end(last_used_at))
        };
        let parent = row.parent_of(entry);
        let end = parent.map_or(end_of(entry), |parent| end_of(entry).min(end_of(parent)));
        if !is_written {
            let core = Arc::clone(core);
            let limits = *limits;
            // No request waits for this write. If it fails, the next look-up makes it.
            tokio::spawn(async move { record_use(&core, locator, id, &limits, now).await });
        }
        Ok(CheckedSession {
            id: name::session_id(&locator, &id)?,
            lease,
            recheck_at: now.plus(limits.recheck_after).min(end),
            expires_at: parent.map_or(entry.expires_at, |parent| entry.expires_at.min(parent.expires_at)),
            identity: row.identity(),
            profile: row.profile(),
            user,
            parent: parent.map(|parent| name::session_id(&locator, &parent.id)).transpose()?,
        })
    }
}

/// Writes down that a session was used, unless another task on this node writes its row.
async fn record_use(
    core: &Core,
    locator: Locator,
    id: EntryId,
    limits: &SessionLimits,
    now: Timestamp,
) -> Result<(), StoreError> {
    let state = core.leases.subject(&locator);
    let Some(_lock) = state.try_lock() else { return Ok(()) };
    let revocations = core.revocations.cached().await?;
    let mut attempts = Attempts::default();
    loop {
        let Some(stored) = core.subjects.read(locator).await? else { return Ok(()) };
        let Some(row) = touched(&stored.row, &id, limits, &revocations, now) else { return Ok(()) };
        if core.subjects.replace(locator, Some(&stored), &row, limits, now).await? {
            return Ok(());
        }
        attempts.wait(core.entropy.as_ref()).await?;
    }
}

/// The row with the use written down; `None` if it is already, or if the session has ended.
fn touched(
    row: &SubjectRow,
    id: &EntryId,
    limits: &SessionLimits,
    revocations: &Revocations,
    now: Timestamp,
) -> Option<SubjectRow> {
    let is_due = |entry: &&SessionEntry| now.since(entry.last_seen_at) >= limits.use_interval;
    row.live_entry(id, limits, revocations, now).filter(is_due)?;
    let mut row = row.clone();
    row.touch(id, now);
    Some(row)
}
