//! Reads and writes the rows of people: blocks, and bindings with their claims.
//!
//! A person's row outlives sessions, and is read together with the session that it decides about.
//! The row of revocations says which kinds of people (by openid, by unionid) have rows. Rows of a
//! kind that it does not name are not read.
//!
//! The row of revocations also has a copy of the blocks, as long as there is room. Gateways of the
//! previous version read only this copy, and write there the blocks that they add or lift. Of two
//! statements about a person the later one counts, by the number of the row of revocations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, warn};

use super::attempts::Attempts;
use super::revocation_cache::RevocationCache;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::identity::User;
use crate::session::person::PersonId;
use crate::session::row::envelope::{self, damaged};
use crate::session::row::name::{self, Locator};
use crate::session::row::person::PersonField;
use crate::session::row::person_row::{PersonKinds, PersonRow, UserBinding};
use crate::session::row::revocations::{FOREVER, Revocations};
use crate::session::row::subject::SubjectRow;
use crate::store::{Key, Space, Store, StoreError, Write};

/// How many rows of people are read at once for the list of blocked people.
const PAGE: usize = 500;
/// How often this node looks whether a gateway of the previous version has changed a block.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// The rows of people in the store.
pub(in crate::session) struct PersonRows {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    revocations: Arc<RevocationCache>,
}

/// The rows that decide about a session: of its subject, and of its unionid.
pub(in crate::session) struct SessionPeople {
    subject: Option<PersonRow>,
    unionid: Option<PersonRow>,
}

/// What stands under a person's key.
struct StoredPerson {
    bytes: Option<Bytes>,
    /// The row, a new one if there is none, or why it cannot be read.
    row: Result<PersonRow, StoreError>,
}

impl PersonRows {
    pub(super) fn new(
        store: Arc<dyn Store>,
        entropy: Arc<dyn Entropy>,
        revocations: Arc<RevocationCache>,
    ) -> Self {
        Self { store, entropy, revocations }
    }

    /// The row under a subject's locator. [`PersonRows::of_session`] checks that it is of the
    /// subject. Reads nothing if there never was a row of a subject.
    pub(in crate::session) async fn read_of_subject(
        &self,
        locator: Locator,
        kinds: Option<PersonKinds>,
    ) -> Result<Option<PersonRow>, StoreError> {
        if !kinds.is_some_and(|kinds| kinds.of_subjects) {
            return Ok(None);
        }
        let key = name::subject_person_key(locator);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        envelope::decode(&key, &bytes).map(Some)
    }

    /// The rows that decide about the sessions of a row, of which one was read already.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] denies: it is unknown what an unreadable row says.
    pub(in crate::session) async fn of_session(
        &self,
        row: &SubjectRow,
        of_subject: Option<PersonRow>,
        kinds: Option<PersonKinds>,
    ) -> Result<SessionPeople, StoreError> {
        let subject = match of_subject {
            Some(person) => Some(person.require_person(&PersonField::from(&row.subject()))?),
            None => None,
        };
        let unionid = match row.unionid() {
            Some(unionid) if kinds.is_some_and(|kinds| kinds.of_unionids) => {
                self.read(&PersonId::UnionId(unionid.clone())).await?
            }
            _ => None,
        };
        Ok(SessionPeople { subject, unionid })
    }

    /// Whether the person of a row is blocked.
    pub(in crate::session) async fn is_blocked(
        &self,
        row: &SubjectRow,
        revocations: &Revocations,
    ) -> Result<bool, StoreError> {
        let kinds = revocations.people;
        let of_subject = self.read_of_subject(name::locator(&row.subject()), kinds).await?;
        Ok(self.of_session(row, of_subject, kinds).await?.are_blocked(row, revocations))
    }

    /// The binding of exactly this person.
    pub(in crate::session) async fn binding(
        &self,
        person: &PersonId,
    ) -> Result<Option<UserBinding>, StoreError> {
        self.read(person).await?.map_or(Ok(None), |row| row.binding())
    }

    /// Binds a person, whatever the row holds, even if it cannot be read. Whether the user or the
    /// claims are new.
    pub(in crate::session) async fn bind(
        &self,
        person: &PersonId,
        user: &User,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let kinds = PersonKinds::of(&PersonField::from(person));
        // Before the row, which no node would read otherwise.
        if !self.revocations.current().await?.people.is_some_and(|known| known.contains(kinds)) {
            self.change_revocations(|row| row.add_person_kinds(kinds, now)).await?;
        }
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(person).await?;
            let is_damaged = stored.row.is_err();
            let row = stored.row.clone().unwrap_or_else(|_| PersonRow::new(PersonField::from(person)));
            let same = row.binding()?.filter(|before| before.user == *user);
            let since = same.as_ref().map_or(now, |before| before.since);
            // Also if it says the same: an earlier write may have reached too few servers, or the
            // other nodes may not have been told.
            if self.replace(person, &stored, row.with_user(user, since)).await? {
                if is_damaged {
                    self.settle_block(person, None).await?;
                }
                return Ok(same.is_none());
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// Removes a person's binding, even if the row cannot be read; whether there was one.
    pub(in crate::session) async fn unbind(&self, person: &PersonId) -> Result<bool, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(person).await?;
            let is_damaged = stored.row.is_err();
            let row = stored.row.clone().unwrap_or_else(|_| PersonRow::new(PersonField::from(person)));
            if !is_damaged && row.binding()?.is_none() {
                return Ok(false);
            }
            if self.replace(person, &stored, row.without_user()).await? {
                if is_damaged {
                    self.settle_block(person, None).await?;
                }
                return Ok(true);
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// Blocks a person, even if the row cannot be read; whether the person was not blocked before.
    pub(in crate::session) async fn block(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let field = PersonField::from(person);
        let known = match self.stored(person).await?.row {
            Ok(row) => row.block_number(),
            Err(_) => None,
        };
        // First, since it gives the number. Other nodes that find no room for one more person here
        // see the block once it is in the person's row.
        let (is_new, number) = self.change_revocations(|row| row.block(&field, known, now)).await?;
        self.settle_block(person, Some(number)).await?;
        Ok(is_new)
    }

    /// Lifts a block; whether the person was blocked.
    pub(in crate::session) async fn unblock(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let field = PersonField::from(person);
        let known = self.stored(person).await?.row?.block_number();
        let was_blocked = self.change_revocations(|row| row.unblock(&field, known, now)).await?;
        self.settle_block(person, None).await?;
        Ok(was_blocked)
    }

    /// Writes to a person's row which block counts: that of the row, `added`, or that of the row of
    /// revocations.
    ///
    /// Reads again after each write. A node that lifts the block meanwhile first writes this to the
    /// row of revocations, and then reads this row. So one of the two sees what the other wrote.
    pub(in crate::session) async fn settle_block(
        &self,
        person: &PersonId,
        added: Option<u64>,
    ) -> Result<(), StoreError> {
        let field = PersonField::from(person);
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(person).await?;
            let revocations = self.revocations.current().await?;
            let row = match (&stored.row, added) {
                (Ok(row), _) => row.clone(),
                // An unreadable row denies. Only a block may replace it.
                (Err(_), Some(_)) => PersonRow::new(field.clone()),
                (Err(error), None) => return Err(error.clone()),
            };
            let counts = revocations.block_of(&field, row.block_number().max(added));
            if stored.row.is_ok() && counts == row.block_number() {
                return Ok(());
            }
            if !self.replace(person, &stored, row.with_block(counts)).await? {
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
                            "more people are blocked than the previous version can store: it would let some \
                             of them in, so do not run it with this store again"
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
            let person = PersonId::from(field);
            let row = match self.stored(&person).await?.row {
                Ok(row) => row,
                // It denies, whatever the copy says.
                Err(StoreError::Damaged(reason)) => {
                    warn!("the row of a person cannot be read: {reason}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let counts = revocations.block_of(field, row.block_number());
            if counts == row.block_number() {
                continue;
            }
            let kinds = PersonKinds::of(field);
            if !self.revocations.cached().await?.people.is_some_and(|known| known.contains(kinds)) {
                let now = Timestamp::default();
                self.change_revocations(|row| row.add_person_kinds(kinds, now)).await?;
            }
            self.settle_block(&person, None).await?;
        }
        Ok(revocations)
    }

    async fn change_revocations<T: Send>(
        &self,
        change: impl Fn(&mut Revocations) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        self.revocations.change(change).await.inspect_err(|_| self.revocations.forget())
    }

    /// The blocked people, each with the number of the block.
    pub(in crate::session) async fn blocked(&self) -> Result<Vec<(PersonId, u64)>, StoreError> {
        let revocations = self.revocations.current().await?;
        let mut blocked: BTreeMap<PersonField, u64> = revocations.blocks().collect();
        let mut next = None;
        while revocations.people.is_some() {
            let page = self.store.scan(Space::Person, next.as_ref(), PAGE).await?;
            for (key, bytes) in page.rows {
                let row: PersonRow = envelope::decode(&key, &bytes)?;
                let field = PersonField::from(&row.person());
                let row = row.require_person(&field)?;
                if name::person_key(&row.person()) != key {
                    return Err(damaged("a row is of another person"));
                }
                if let Some(number) = revocations.block_of(&field, row.block_number()) {
                    blocked.insert(field, number);
                }
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(blocked.into_iter().map(|(field, number)| (PersonId::from(&field), number)).collect())
    }

    async fn read(&self, person: &PersonId) -> Result<Option<PersonRow>, StoreError> {
        let stored = self.stored(person).await?;
        let row = stored.row?;
        Ok(stored.bytes.map(|_| row))
    }

    async fn stored(&self, person: &PersonId) -> Result<StoredPerson, StoreError> {
        let (key, field) = (name::person_key(person), PersonField::from(person));
        let bytes = self.store.get(&key).await?;
        let row = match &bytes {
            Some(bytes) => {
                envelope::decode::<PersonRow>(&key, bytes).and_then(|row| row.require_person(&field))
            }
            None => Ok(PersonRow::new(field)),
        };
        Ok(StoredPerson { bytes, row })
    }

    /// Replaces what was read by a row, or removes it if the row is empty; `false` if another
    /// writer was faster.
    async fn replace(
        &self,
        person: &PersonId,
        stored: &StoredPerson,
        row: PersonRow,
    ) -> Result<bool, StoreError> {
        let key: Key = name::person_key(person);
        let expected = stored.bytes.clone();
        if row.is_empty() {
            return match expected {
                Some(expected) => self.store.compare_and_delete(&key, &expected).await,
                None => Ok(true),
            };
        }
        let value = envelope::encode(&key, &row)?;
        self.store.write(Write { key, expected, value, ttl: FOREVER }).await
    }
}

impl SessionPeople {
    /// Whether the person is blocked, in this app or by unionid.
    pub(in crate::session) fn are_blocked(&self, row: &SubjectRow, revocations: &Revocations) -> bool {
        let number = |person: &Option<PersonRow>| person.as_ref().and_then(PersonRow::block_number);
        let (of_subject, of_unionid) = (number(&self.subject), number(&self.unionid));
        if of_subject.is_none() && of_unionid.is_none() && !revocations.has_blocks() {
            return false;
        }
        let is_blocked =
            |field: PersonField, number: Option<u64>| revocations.block_of(&field, number).is_some();
        is_blocked(PersonField::from(&row.subject()), of_subject)
            || row.unionid().is_some_and(|unionid| is_blocked(PersonField::from(unionid), of_unionid))
    }

    /// The user of a session: the user of its subject, or else the user of its unionid. The two are
    /// never mixed.
    pub(in crate::session) fn user(&self) -> Result<Option<User>, StoreError> {
        for person in [&self.subject, &self.unionid].into_iter().flatten() {
            if let Some(binding) = person.binding()? {
                return Ok(Some(binding.user));
            }
        }
        Ok(None)
    }
}
