//! Ending sessions: first in the store, then on this node, then on every other.

use super::error::SessionError;
use super::node::attempts::Attempts;
use super::person::PersonId;
use super::row::invalidation::Invalidation;
use super::row::name::{self, EntryId, Locator};
use super::scope::SessionScope;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId, Subject, UnionId, UserId};
use crate::store::StoreError;

impl Sessions {
    /// Ends sessions: at once on this node, within a second on every other. Returns how many ended,
    /// if that is known. Ending a session that has already ended succeeds.
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
            SessionScope::User(user) => self.revoke_user(user, now).await.map(Some),
            SessionScope::App(_) | SessionScope::OpenedBefore(_) => {
                self.revoke_many(scope, now).await.map(|()| None)
            }
        };
        let result = result.map_err(SessionError::from);
        self.core.metrics.count_revocation(scope, &result);
        result
    }

    /// Ends every session of a person: in all apps of the person's unionid if there is one, and in
    /// this app last. As long as one of the other sessions may go on, so do those of this app: the
    /// client that asked with one of them can ask again.
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
        self.core.metrics.count_revocation(&scope, &result.clone().map(Some));
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
        let Some((locator, id)) = name::parse_session_id(session) else { return Ok(0) };
        let state = self.core.leases.subject(&locator);
        let _lock = state.lock().await?;
        self.remove_session(locator, &id, now).await
    }

    async fn revoke_unionid(
        &self,
        unionid: &UnionId,
        except: Option<&Subject>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut ended = 0;
        let mut failed = None;
        let subjects = self.core.unionids.subjects(unionid).await?;
        for subject in subjects.iter().filter(|subject| Some(*subject) != except) {
            // A row that cannot be changed must not save the others.
            match self.revoke_row(name::locator(subject), Some(unionid), now).await {
                Ok(count) => ended += count,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// Ends the sessions of every person who is bound to a user.
    async fn revoke_user(&self, user: &UserId, now: Timestamp) -> Result<u64, StoreError> {
        let (mut ended, mut failed) = (0, None);
        for (person, binding) in self.core.people.bindings().await? {
            if binding.user.id() != user {
                continue;
            }
            let revoked = match &person {
                PersonId::Subject(subject) => self.revoke_row(name::locator(subject), None, now).await,
                PersonId::UnionId(unionid) => self.revoke_unionid(unionid, None, now).await,
            };
            match revoked {
                Ok(count) => ended += count,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// Removes a row with all its sessions. If a unionid is given, the row must have it.
    pub(super) async fn revoke_row(
        &self,
        locator: Locator,
        unionid: Option<&UnionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let core = &self.core;
        let state = core.leases.subject(&locator);
        let _lock = state.lock().await?;
        let ended = self.remove_row(locator, unionid, now).await;
        if ended == Ok(None) {
            return Ok(0);
        }
        // Also if nothing was left: an earlier try may have removed it without telling the other
        // nodes.
        core.leases.end(&locator);
        let invalidation = Invalidation::Subject(locator);
        core.log.publish_result(ended, &invalidation).await.map(Option::unwrap_or_default)
    }

    /// Returns how many sessions the row had; `None` if it has another unionid.
    async fn remove_row(
        &self,
        locator: Locator,
        unionid: Option<&UnionId>,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let core = &self.core;
        let mut attempts = Attempts::default();
        loop {
            let (is_gone, ended) = match core.subjects.read(locator).await {
                Ok(None) => return Ok(Some(0)),
                Ok(Some(stored)) if unionid.is_some_and(|unionid| stored.row.unionid() != Some(unionid)) => {
                    return Ok(None);
                }
                Ok(Some(stored)) => {
                    let revocations = core.revocations.current().await?;
                    let live = stored.row.live_entries(&self.limits, &revocations, now).count();
                    (core.subjects.remove(locator, &stored).await?, u64::try_from(live).unwrap_or(u64::MAX))
                }
                // A damaged row lets no client in, and no client could sign in as long as it
                // stands.
                Err(StoreError::Damaged(_)) => (core.subjects.remove_damaged(locator).await?, 0),
                Err(error) => return Err(error),
            };
            if is_gone {
                return Ok(Some(ended));
            }
            attempts.wait(core.entropy.as_ref()).await?;
        }
    }

    async fn revoke_many(&self, scope: &SessionScope, now: Timestamp) -> Result<(), StoreError> {
        let core = &self.core;
        let changed = core
            .revocations
            .change(|revocations| match scope {
                SessionScope::App(appid) => revocations.revoke_app(appid, now),
                SessionScope::OpenedBefore(instant) => revocations.revoke_opened_before(*instant, now),
                SessionScope::Session(_)
                | SessionScope::Subject(_)
                | SessionScope::UnionId(_)
                | SessionScope::User(_) => {}
            })
            .await;
        if changed.is_err() {
            // The change may have been made.
            core.revocations.clear();
        }
        core.leases.end_all();
        core.log.publish_result(changed, &Invalidation::Everything).await
    }

    /// Removes one session from its row, and tells every node. Returns how many there were. The
    /// caller holds the subject's lock.
    pub(super) async fn remove_session(
        &self,
        locator: Locator,
        id: &EntryId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let removed = self.remove_from_row(locator, id, now).await;
        // Also if nothing was left: an earlier try may have removed it without telling the other
        // nodes.
        self.core.leases.end(&locator);
        self.core.log.publish_result(removed, &Invalidation::Subject(locator)).await
    }

    async fn remove_from_row(
        &self,
        locator: Locator,
        id: &EntryId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let core = &self.core;
        let mut attempts = Attempts::default();
        while let Some(stored) = core.subjects.read(locator).await? {
            let mut row = stored.row.clone();
            if !row.remove(id) {
                break;
            }
            if core.subjects.replace(locator, Some(&stored), &row, &self.limits, now).await? {
                return Ok(1);
            }
            attempts.wait(core.entropy.as_ref()).await?;
        }
        Ok(0)
    }
}
