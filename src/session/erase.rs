//! Erasing a person: sessions, list of apps, binding and profile. PIPL art. 47.
//!
//! What stays names no person: a block, and the number of the erasure until no earlier token is
//! valid. Both are stored under keyed hashes.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::warn;

use super::error::SessionError;
use super::person::PersonId;
use super::personal_data::PersonNames;
use super::row::name;
use super::row::person::PersonField;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::Subject;
use crate::store::StoreError;

/// How often the store is asked whether rows can be erased, and how long at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const MOST_LOOKS: u32 = 10;
/// Longest wait until the file has lost the bytes.
const LONGEST_RECLAIM: Duration = Duration::from_secs(30);
/// How often the person is looked for again: another gateway may open a session meanwhile.
const MOST_ROUNDS: u32 = 4;
/// How long the number of an erasure stays beyond the longest session.
const MARGIN: Duration = Duration::from_secs(24 * 3600);

/// A person who was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedPerson {
    /// In how many apps the person was known.
    pub apps: u64,
    /// How many sessions ended.
    pub sessions: u64,
    /// How many bindings were removed.
    pub bindings: u64,
    /// How many blocks outlive the erasure.
    pub blocks: u64,
    /// Whether the file has lost the bytes of the rows too. If not, it will within a while.
    pub is_reclaimed: bool,
    /// Rows that could not be read. Each of them may be of the person.
    pub unreadable_rows: u64,
    /// The subjects: what this node remembers of their sign-ins must be forgotten too.
    pub subjects: BTreeSet<Subject>,
}

/// Why a person was not erased.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EraseError {
    /// A gateway of the previous version runs on the store, and would not know what stays.
    #[error(
        "a gateway of the previous version runs on this store, or ran within the last minute, or one has \
         other `sessions.seal_keys`"
    )]
    OlderGateway,
    /// Part of the person may be left.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Sessions {
    /// Erases the person with these names: in every app, if a unionid is known. A block stays, and
    /// earlier sessions stay ended. When this returns, no row names the person.
    ///
    /// # Errors
    /// [`EraseError`]: part of the person may be left; ask again.
    pub async fn erase(&self, known: &[PersonId], now: Timestamp) -> Result<ErasedPerson, EraseError> {
        self.require_sealed_rows().await?;
        let (mut erased, mut names) = (ErasedPerson::default(), PersonNames::default());
        for round in 0..MOST_ROUNDS {
            // A name that was known before counts, although no row says so any more.
            names.add(self.find_person(known).await.map_err(SessionError::from)?);
            if round > 0 && !self.is_left(&names).await.map_err(SessionError::from)? {
                erased.apps = u64::try_from(erased.subjects.len()).unwrap_or(u64::MAX);
                erased.unreadable_rows = names.unreadable_rows;
                erased.is_reclaimed = self.reclaim().await;
                return Ok(erased);
            }
            self.erase_names(&names, &mut erased, now).await.map_err(SessionError::from)?;
        }
        Err(EraseError::Session(SessionError::Store(StoreError::Busy)))
    }

    /// Lets the store give up the bytes of the rows; whether it did in time.
    async fn reclaim(&self) -> bool {
        match tokio::time::timeout(LONGEST_RECLAIM, self.core.store.reclaim()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                warn!("a person was erased, and the store could not be compacted: {error}");
                false
            }
            Err(_) => false,
        }
    }

    /// Waits until the rows of this store may be of the form that an erasure needs.
    async fn require_sealed_rows(&self) -> Result<(), EraseError> {
        let mut quiet = 0;
        for _ in 0..MOST_LOOKS {
            self.core.forms.look(&mut quiet).await.map_err(SessionError::from)?;
            if self.core.revocations.current().await.map_err(SessionError::from)?.is_sealing() {
                return Ok(());
            }
            if quiet == 0 {
                return Err(EraseError::OlderGateway);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Err(EraseError::OlderGateway)
    }

    async fn erase_names(
        &self,
        names: &PersonNames,
        erased: &mut ErasedPerson,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let core = &self.core;
        for id in names.ids() {
            let (binding, block) = (core.people.binding(&id).await?, core.people.block_number(&id).await?);
            let field = PersonField::from(&id);
            let hashed = core.people.hashed(&field).await?;
            // Sessions that are opened from here on have this number or a higher one.
            let number = core.people.change_revocations(|row| row.erase(&hashed, now)).await?;
            // Before the sessions end: a person who is blocked must not sign in in between.
            core.people.erase(&field, number, self.limits.lifetime.saturating_add(MARGIN)).await?;
            erased.bindings += u64::from(binding.is_some());
            erased.blocks += u64::from(block.is_some());
        }
        for subject in &names.subjects {
            erased.sessions += self.revoke_row(name::locator(subject), None, now).await?;
            erased.subjects.insert(subject.clone());
        }
        for unionid in &names.unionids {
            core.unionids.remove(unionid, core.entropy.as_ref()).await?;
        }
        Ok(())
    }

    /// Whether a row still names the person.
    async fn is_left(&self, names: &PersonNames) -> Result<bool, StoreError> {
        for subject in &names.subjects {
            if self.core.subjects.read(name::locator(subject)).await?.is_some() {
                return Ok(true);
            }
        }
        for unionid in &names.unionids {
            if !self.core.unionids.subjects(unionid).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
