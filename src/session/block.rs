//! Blocking people: their sessions are not believed, and they cannot open others.
//!
//! Blocked people stand in the row of revocations. Every node reads it four times a second, and a
//! change of it ends every lease.

use super::error::SessionError;
use super::person::PersonId;
use super::row::block::BlockedPerson;
use super::row::invalidation::Invalidation;
use super::row::person::PersonField;
use super::row::revocations::Revocations;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::store::StoreError;

/// Why a person was not blocked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// There is no room for one more.
    #[error("as many people are blocked as possible")]
    Full,
    /// As [`SessionError::Store`].
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Sessions {
    /// Blocks a person: at once on this node, within a second on every other. Whether the person
    /// was not blocked before.
    ///
    /// # Errors
    /// [`BlockError`]; with [`BlockError::Session`] the person may be blocked nevertheless.
    pub async fn block(&self, person: &PersonId, now: Timestamp) -> Result<bool, BlockError> {
        let person = PersonField::from(person);
        let changed = self.change_blocks(|revocations| revocations.block(&person, now)).await;
        changed.map_err(SessionError::from)?.ok_or(BlockError::Full)
    }

    /// Lifts a block: the person's sessions are good again. Whether the person was blocked.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the block may be lifted nevertheless.
    pub async fn unblock(&self, person: &PersonId, now: Timestamp) -> Result<bool, SessionError> {
        let person = PersonField::from(person);
        Ok(self.change_blocks(|revocations| revocations.unblock(&person, now)).await?)
    }

    /// The people who are blocked, the latest first.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn list_blocked(&self) -> Result<Vec<BlockedPerson>, SessionError> {
        Ok(self.core.revocations.current().await?.blocked_people())
    }

    async fn change_blocks<T: Send>(
        &self,
        change: impl Fn(&mut Revocations) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let core = &self.core;
        let changed = core.revocations.change(change).await;
        if changed.is_err() {
            // The change may have been made.
            core.revocations.clear();
        }
        // Also if nothing changed: an earlier try may have changed it without telling the other
        // nodes.
        core.leases.end_all();
        core.log.publish_result(changed, &Invalidation::Everything).await
    }
}
