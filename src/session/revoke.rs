//! RevocableSession sessions: first in the store, then on this node, then on every other.

use super::core::Attempts;
use super::follow::Heard;
use super::name::{self, Locator};
use super::{SessionError, SessionScope, Sessions};
use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId, Subject, UnionId};
use crate::store::StoreError;

impl Sessions {
    /// Ends sessions: at once on this node, within a second on every other. Gives how many ended, where that is known.
    /// RevocableSession what has ended already succeeds.
    ///
    /// # Errors
    /// [`SessionError::Store`]: some or all may go on; ask again.
    pub async fn revoke(&self, scope: &SessionScope, now: Timestamp) -> Result<Option<u64>, SessionError> {
        let result = match scope {
            SessionScope::Session(session) => self.revoke_session(session, now).await.map(Some),
            SessionScope::Subject(subject) => {
                self.revoke_row(name::locator(subject), None, now).await.map(Some)
            }
            SessionScope::UnionId(unionid) => self.revoke_unionid(unionid, None, now).await.map(Some),
            SessionScope::App(_) | SessionScope::OpenedBefore(_) => {
                self.revoke_many(scope, now).await.map(|()| None)
            }
        };
        let result = result.map_err(SessionError::from);
        self.core.metrics.revoked(scope, &result);
        result
    }

    /// Ends every session of a person: in all apps of their unionid, where there is one, and in this app last. As long as
    /// one of the others may go on, so do those of this app: whoever asked with one of them can ask again.
    ///
    /// # Errors
    /// As [`Sessions::revoke`].
    pub async fn revoke_person(&self, identity: &Identity, now: Timestamp) -> Result<u64, SessionError> {
        let own = &identity.subject;
        let scope = identity
            .unionid
            .clone()
            .map_or_else(|| SessionScope::Subject(own.clone()), SessionScope::UnionId);
        let result = self.revoke_own_last(identity, now).await.map_err(SessionError::from);
        self.core.metrics.revoked(&scope, &result.clone().map(Some));
        result
    }

    async fn revoke_own_last(&self, identity: &Identity, now: Timestamp) -> Result<u64, StoreError> {
        let own = &identity.subject;
        let others = match &identity.unionid {
            Some(unionid) => self.revoke_unionid(unionid, Some(own), now).await?,
            None => 0,
        };
        Ok(others + self.revoke_row(name::locator(own), None, now).await?)
    }

    async fn revoke_session(&self, session: &SessionId, now: Timestamp) -> Result<u64, StoreError> {
        let Some((locator, key)) = name::parse(session) else { return Ok(0) };
        let state = self.core.leases.subject(&locator);
        let _turn = state.turn().await?;
        self.remove(locator, &key, now).await
    }

    async fn revoke_unionid(
        &self,
        unionid: &UnionId,
        except: Option<&Subject>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut ended = 0;
        let mut failed = None;
        let listed = self.core.listed(unionid).await?;
        for subject in listed.iter().filter(|subject| Some(*subject) != except) {
            // One row that cannot be changed must not save the others.
            match self.revoke_row(name::locator(subject), Some(unionid), now).await {
                Ok(count) => ended += count,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// Removes a row with all its sessions; only if it is of this unionid, where one is given.
    async fn revoke_row(
        &self,
        locator: Locator,
        unionid: Option<&UnionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let core = &self.core;
        let state = core.leases.subject(&locator);
        let _turn = state.turn().await?;
        let ended = self.remove_row(locator, unionid, now).await;
        if ended == Ok(None) {
            return Ok(0);
        }
        // Also where nothing was left: an earlier try may have removed it and told nobody.
        core.leases.end(&locator);
        core.tell_if_done(ended, &Heard::Subject(locator)).await.map(Option::unwrap_or_default)
    }

    /// How many sessions the row had; nothing where it is of another unionid.
    async fn remove_row(
        &self,
        locator: Locator,
        unionid: Option<&UnionId>,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let core = &self.core;
        let mut attempts = Attempts::default();
        loop {
            let (is_gone, ended) = match core.read(locator).await {
                Ok(None) => return Ok(Some(0)),
                Ok(Some(row)) if unionid.is_some_and(|unionid| row.record.unionid() != Some(unionid)) => {
                    return Ok(None);
                }
                Ok(Some(row)) => {
                    let marks = core.current_marks().await?;
                    let live = row.record.all_live(&self.limits, &marks, now).count();
                    (core.remove(locator, &row).await?, u64::try_from(live).unwrap_or(u64::MAX))
                }
                // Nobody is let in with it, and with it nobody could sign in either.
                Err(StoreError::Damaged(_)) => (core.remove_damaged(&name::row(locator)).await?, 0),
                Err(error) => return Err(error),
            };
            if is_gone {
                return Ok(Some(ended));
            }
            attempts.again(core).await?;
        }
    }

    async fn revoke_many(&self, scope: &SessionScope, now: Timestamp) -> Result<(), StoreError> {
        let core = &self.core;
        let changed = core
            .change_marks(|marks| match scope {
                SessionScope::App(appid) => marks.revoke_app(appid, now),
                SessionScope::OpenedBefore(instant) => marks.revoke_opened_before(*instant, now),
                SessionScope::Session(_) | SessionScope::Subject(_) | SessionScope::UnionId(_) => {}
            })
            .await;
        if changed.is_err() {
            // It may have been made all the same.
            core.marks.store(None);
        }
        core.leases.end_all();
        core.tell_if_done(changed, &Heard::Everything).await
    }
}
