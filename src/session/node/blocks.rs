//! Changes blocks, and moves the blocks that the previous version wrote.
//!
//! As long as gateways of the previous version may run, the row of revocations holds a copy of the
//! blocks, as many as there is room for, and the blocks that such gateways add or lift. Of two
//! statements about a person the later one counts, by the number of the row of revocations. After
//! that the row holds only lifted blocks, as keyed hashes.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::attempts::Attempts;
use super::people::PersonRows;
use crate::clock::Timestamp;
use crate::session::person::PersonId;
use crate::session::row::person::PersonField;
use crate::session::row::person_row::{PersonKinds, PersonRow};
use crate::session::row::revocations::Revocations;
use crate::store::StoreError;

/// How often this node looks whether a gateway of the previous version has changed a block.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

impl PersonRows {
    /// Blocks a person, even if the row cannot be read; whether the person was not blocked before.
    pub(in crate::session) async fn block(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let field = PersonField::from(person);
        if self.block_of_erased(&field).await?.is_some() {
            return Ok(false);
        }
        let known = match self.stored(&field).await?.row {
            Ok(row) => row.block_number(),
            Err(_) => None,
        };
        let hashed = self.hashed_if_sealing(&field).await?;
        // First, since it gives the number. Other nodes that find no room for one more person here
        // see the block once it is in the person's row.
        let (is_new, number) = self
            .change_revocations(|row| row.block(&field, in_copy(row, &field, &hashed), known, now))
            .await?;
        self.settle_block(&field, Some(number)).await?;
        Ok(is_new)
    }

    /// Lifts a block; whether the person was blocked.
    pub(in crate::session) async fn unblock(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let field = PersonField::from(person);
        let of_erased = self.block_of_erased(&field).await?;
        let known = self.stored(&field).await?.row?.block_number();
        let hashed = self.hashed_if_sealing(&field).await?;
        let known = known.max(of_erased);
        let was_blocked =
            self.change_revocations(|row| row.unblock(in_copy(row, &field, &hashed), known, now)).await?;
        self.settle_block(&field, None).await?;
        if of_erased.is_some() {
            self.settle_block(&self.hashed(&field).await?, None).await?;
        }
        Ok(was_blocked)
    }

    /// Whether the block of exactly this person counts, who may have been erased.
    pub(super) async fn is_blocked(
        &self,
        field: &PersonField,
        revocations: &Revocations,
    ) -> Result<bool, StoreError> {
        let own = self.stored(field).await?.row?.block_number();
        let own = self.counted_block(field, own, revocations).await?;
        Ok(own.max(self.block_of_erased(field).await?).is_some())
    }

    /// Remembers in the row of a subject that it is blocked with its unionid, if it is: WeChat may
    /// give no unionid when the person signs in the next time. Whether that is new. A failure is
    /// tried again at the next request: the person is refused in any case.
    pub(super) async fn link_if_blocked(
        &self,
        subject: &PersonField,
        unionid: &PersonField,
        linked: &[PersonField],
        revocations: &Revocations,
    ) -> bool {
        let link = async {
            if linked.contains(unionid) || !self.is_blocked(unionid, revocations).await? {
                return Ok(false);
            }
            self.link(subject, unionid, true).await
        };
        link.await.unwrap_or_else(|error: StoreError| {
            debug!("a subject of a blocked person could not be remembered: {error}");
            false
        })
    }

    /// Makes the rows of a unionid's subjects say whether they are blocked with it.
    ///
    /// Looks again when they do: of two operators, one who blocks and one who lifts the block, the
    /// later one must count for the subjects too.
    pub(in crate::session) async fn settle_links(
        &self,
        unionid: &PersonField,
        subjects: &[PersonField],
    ) -> Result<(), StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let revocations = self.revocations.current().await?;
            let is_blocked = self.is_blocked(unionid, &revocations).await?;
            for subject in subjects {
                self.link(subject, unionid, is_blocked).await?;
            }
            let revocations = self.revocations.current().await?;
            if self.is_blocked(unionid, &revocations).await? == is_blocked {
                return Ok(());
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// Writes in a subject's row that it is blocked with a unionid, or that it is not; whether that
    /// is new. If the person was erased, both stand there as keyed hashes.
    async fn link(
        &self,
        subject: &PersonField,
        unionid: &PersonField,
        is_blocked: bool,
    ) -> Result<bool, StoreError> {
        // A gateway of the previous version would go on refusing the subject after it has lifted
        // the block: it does not know this.
        if is_blocked && !self.revocations.current().await?.is_sealing() {
            return Ok(false);
        }
        let is_erased = self.block_of_erased(unionid).await?.is_some();
        let (subject, unionid) = if is_erased {
            (self.hashed(subject).await?, self.hashed(unionid).await?)
        } else {
            (subject.clone(), unionid.clone())
        };
        let kinds = PersonKinds::of(&subject);
        // Before the row, which no node would read otherwise.
        if is_blocked && !self.revocations.current().await?.people.is_some_and(|known| known.contains(kinds))
        {
            let now = Timestamp::default();
            self.change_revocations(|row| row.add_person_kinds(kinds, now)).await?;
        }
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(&subject).await?;
            let row = match &stored.row {
                Ok(row) => row.clone(),
                // It denies as it is.
                Err(StoreError::Damaged(_)) => return Ok(false),
                Err(error) => return Err(error.clone()),
            };
            if (row.blocked_with() == Some(&unionid)) == is_blocked {
                return Ok(false);
            }
            let linked = is_blocked.then(|| unionid.clone());
            if self.replace(&stored, row.with_block_of(linked)).await? {
                return Ok(true);
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// The number of the block of a person who was erased.
    pub(super) async fn block_of_erased(&self, field: &PersonField) -> Result<Option<u64>, StoreError> {
        let revocations = self.revocations.current().await?;
        if !revocations.people.is_some_and(PersonKinds::of_erased) {
            return Ok(None);
        }
        let hashed = self.hashed(field).await?;
        let own = self.stored(&hashed).await?.row?.block_number();
        self.counted_block(&hashed, own, &revocations).await
    }

    async fn hashed_if_sealing(&self, field: &PersonField) -> Result<Option<PersonField>, StoreError> {
        if self.revocations.current().await?.is_sealing() {
            self.hashed(field).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Writes to a person's row which block counts: that of the row, `added`, or that of the row of
    /// revocations.
    ///
    /// Reads again after each write. A node that lifts the block meanwhile first writes this to the
    /// row of revocations, and then reads this row. So one of the two sees what the other wrote.
    pub(in crate::session) async fn settle_block(
        &self,
        field: &PersonField,
        added: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(field).await?;
            let revocations = self.revocations.current().await?;
            let row = match (&stored.row, added) {
                (Ok(row), _) => row.clone(),
                // An unreadable row denies. Only a block may replace it.
                (Err(_), Some(_)) => PersonRow::new(field.clone()),
                (Err(error), None) => return Err(error.clone()),
            };
            let counts = self.counted_block(field, row.block_number().max(added), &revocations).await?;
            if stored.row.is_ok() && counts == row.block_number() {
                return Ok(());
            }
            if !self.replace(&stored, row.with_block(counts)).await? {
                attempts.wait(self.entropy.as_ref()).await?;
            }
        }
    }

    /// Moves the blocks in the row of revocations into the rows of people: at the start, and,
    /// with a shared store, whenever a gateway of the previous version has changed it. Ends when
    /// there is nothing more to move.
    pub(in crate::session) async fn follow(&self) {
        let mut settled: Option<Arc<Revocations>> = None;
        loop {
            match self.settle_changes(settled.as_deref()).await {
                Ok(revocations) => {
                    if settled.is_none() && revocations.is_copy_incomplete() {
                        warn!(
                            "more people are blocked than the previous version can store: it would let some of \
                             them in, so do not run it with this store again"
                        );
                    }
                    settled = Some(revocations);
                    if !self.store.is_shared() {
                        return;
                    }
                }
                // The store says itself that it does not answer.
                Err(error) => debug!("blocks could not be moved yet: {error}"),
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    pub(in crate::session) async fn settle_changes(
        &self,
        settled: Option<&Revocations>,
    ) -> Result<Arc<Revocations>, StoreError> {
        let revocations = self.revocations.cached().await?;
        let changed = match settled {
            Some(settled) => revocations.changed_people(settled),
            None => revocations.block_changes().map(|change| change.person.clone()).collect(),
        };
        for field in &changed {
            if matches!(field, PersonField::Hashed(_)) {
                continue;
            }
            let row = match self.stored(field).await?.row {
                Ok(row) => row,
                // It denies, whatever the copy says.
                Err(StoreError::Damaged(reason)) => {
                    warn!("the row of a person cannot be read: {reason}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let counts = self.counted_block(field, row.block_number(), &revocations).await?;
            if counts == row.block_number() {
                continue;
            }
            let kinds = PersonKinds::of(field);
            if !self.revocations.cached().await?.people.is_some_and(|known| known.contains(kinds)) {
                let now = Timestamp::default();
                self.change_revocations(|row| row.add_person_kinds(kinds, now)).await?;
            }
            self.settle_block(field, None).await?;
        }
        Ok(revocations)
    }
}

/// A person as the row of revocations names them.
fn in_copy<'a>(
    row: &Revocations,
    field: &'a PersonField,
    hashed: &'a Option<PersonField>,
) -> &'a PersonField {
    hashed.as_ref().filter(|_| row.is_sealing()).unwrap_or(field)
}
