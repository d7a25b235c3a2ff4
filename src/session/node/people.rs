//! Reads and writes the rows of people: blocks, and bindings with their claims.
//!
//! A person's row outlives sessions, and is read together with the session that it decides about.
//! The row of revocations says which kinds of people have rows. Rows of other kinds are not read.
//! A person who was erased has a row under a keyed hash, with only the block and the number of the
//! erasure. `blocks` changes blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::attempts::Attempts;
use super::keyring::StoreKeyring;
use super::revocation_cache::RevocationCache;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::identity::User;
use crate::session::error::SessionError;
use crate::session::person::PersonId;
use crate::session::row::envelope::damaged;
use crate::session::row::name::{self, Locator};
use crate::session::row::person::PersonField;
use crate::session::row::person_row::{PersonKinds, PersonRow, UserBinding};
use crate::session::row::revocations::{FOREVER, Revocations};
use crate::session::row::subject::SubjectRow;
use crate::store::{Key, Space, Store, StoreError, Write};

/// How many rows of people are read at once for a list.
const PAGE: usize = 500;

/// The rows of people in the store.
pub(in crate::session) struct PersonRows {
    pub(super) store: Arc<dyn Store>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) revocations: Arc<RevocationCache>,
    pub(super) keyring: Arc<StoreKeyring>,
}

/// What the rows of people say about a session.
#[derive(Default)]
pub(in crate::session) struct SessionPeople {
    is_blocked: bool,
    /// Whether it was just remembered that the subject is blocked with its unionid.
    is_newly_linked: bool,
    /// Sessions with a lower number are of a person who was erased.
    erased_number: Option<u64>,
    user: Option<User>,
}

/// What stands under a person's key.
pub(super) struct StoredPerson {
    key: Key,
    bytes: Option<Bytes>,
    /// The row, a new one if there is none, or why it cannot be read.
    pub(super) row: Result<PersonRow, StoreError>,
}

impl PersonRows {
    pub(super) fn new(
        store: Arc<dyn Store>,
        entropy: Arc<dyn Entropy>,
        revocations: Arc<RevocationCache>,
        keyring: Arc<StoreKeyring>,
    ) -> Self {
        Self { store, entropy, revocations, keyring }
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
        self.keyring.decode(&key, &bytes).await.map(Some)
    }

    /// What counts for the sessions of a row. The row of its subject as a person was read already.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] denies: it is unknown what an unreadable row says.
    pub(in crate::session) async fn of_session(
        &self,
        row: &SubjectRow,
        of_subject: Option<PersonRow>,
        revocations: &Revocations,
    ) -> Result<SessionPeople, StoreError> {
        let subject = PersonField::from(&row.subject());
        let unionid = row.unionid().map(PersonField::from);
        let kinds = revocations.people.unwrap_or_default();
        let of_subject = of_subject.map(|person| person.require_person(&subject)).transpose()?;
        let of_unionid = match &unionid {
            Some(unionid) if kinds.of_unionids => self.read(unionid).await?,
            _ => None,
        };
        let mut people = SessionPeople::default();
        let mut linked = Vec::new();
        for (field, own) in [(Some(&subject), of_subject), (unionid.as_ref(), of_unionid)] {
            let Some(field) = field else { continue };
            self.add_row(&mut people, field, own.as_ref(), revocations).await?;
            linked.extend(own.and_then(|row| row.blocked_with().cloned()));
            if kinds.of_erased() {
                let hashed = self.hashed(field).await?;
                let erased = self.read(&hashed).await?;
                self.add_row(&mut people, &hashed, erased.as_ref(), revocations).await?;
                linked.extend(erased.and_then(|row| row.blocked_with().cloned()));
            }
        }
        for unionid in &linked {
            people.is_blocked = people.is_blocked || self.is_blocked(unionid, revocations).await?;
        }
        if let Some(unionid) = unionid.filter(|_| people.is_blocked) {
            people.is_newly_linked = self.link_if_blocked(&subject, &unionid, &linked, revocations).await;
        }
        Ok(people)
    }

    /// Adds what a row says of a person. The first user counts: the user of the subject, or else
    /// the user of the unionid. The two are never mixed.
    async fn add_row(
        &self,
        people: &mut SessionPeople,
        field: &PersonField,
        row: Option<&PersonRow>,
        revocations: &Revocations,
    ) -> Result<(), StoreError> {
        let own = row.and_then(PersonRow::block_number);
        if self.counted_block(field, own, revocations).await?.is_some() {
            people.is_blocked = true;
        }
        let Some(row) = row else { return Ok(()) };
        people.erased_number = people.erased_number.max(row.erased_number());
        if people.user.is_none() {
            people.user = row.binding()?.map(|binding| binding.user);
        }
        Ok(())
    }

    /// What counts for the sessions of a row.
    ///
    /// # Errors
    /// As [`Self::of_session`].
    pub(in crate::session) async fn of_row(
        &self,
        row: &SubjectRow,
        revocations: &Revocations,
    ) -> Result<SessionPeople, StoreError> {
        let locator = name::locator(&row.subject());
        let of_subject = self.read_of_subject(locator, revocations.people).await?;
        self.of_session(row, of_subject, revocations).await
    }

    /// The number of the block that counts, by a person's row and by the row of revocations.
    pub(super) async fn counted_block(
        &self,
        field: &PersonField,
        own: Option<u64>,
        revocations: &Revocations,
    ) -> Result<Option<u64>, StoreError> {
        if !revocations.has_blocks() || (revocations.is_sealing() && own.is_none()) {
            return Ok(own);
        }
        Ok(revocations.block_of(&self.name_in_copy(field, revocations).await?, own))
    }

    /// A person as the row of revocations names them.
    pub(super) async fn name_in_copy(
        &self,
        field: &PersonField,
        revocations: &Revocations,
    ) -> Result<PersonField, StoreError> {
        if revocations.is_sealing() { self.hashed(field).await } else { Ok(field.clone()) }
    }

    /// A person as the keyed hash names them.
    pub(in crate::session) async fn hashed(&self, field: &PersonField) -> Result<PersonField, StoreError> {
        match field {
            PersonField::Hashed(_) => Ok(field.clone()),
            named => Ok(PersonField::Hashed(self.keyring.key().await?.hash(named))),
        }
    }

    /// The binding of exactly this person.
    pub(in crate::session) async fn binding(
        &self,
        person: &PersonId,
    ) -> Result<Option<UserBinding>, StoreError> {
        self.read(&PersonField::from(person)).await?.map_or(Ok(None), |row| row.binding())
    }

    /// The number of the block that counts of exactly this person, who may have been erased.
    pub(in crate::session) async fn block_number(
        &self,
        person: &PersonId,
    ) -> Result<Option<u64>, StoreError> {
        let field = PersonField::from(person);
        let revocations = self.revocations.current().await?;
        let own = self.stored(&field).await?.row?.block_number();
        let own = self.counted_block(&field, own, &revocations).await?;
        Ok(own.max(self.block_of_erased(&field).await?))
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
        let field = PersonField::from(person);
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(&field).await?;
            let is_damaged = stored.row.is_err();
            let row = stored.row.clone().unwrap_or_else(|_| PersonRow::new(field.clone()));
            let same = row.binding()?.filter(|before| before.user == *user);
            let since = same.as_ref().map_or(now, |before| before.since);
            // Also if it says the same: an earlier write may have reached too few servers, or the
            // other nodes may not have been told.
            if self.replace(&stored, row.with_user(user, since)).await? {
                if is_damaged {
                    self.settle_block(&field, None).await?;
                }
                return Ok(same.is_none());
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// Removes a person's binding, even if the row cannot be read; whether there was one.
    pub(in crate::session) async fn unbind(&self, person: &PersonId) -> Result<bool, StoreError> {
        let field = PersonField::from(person);
        let mut attempts = Attempts::default();
        loop {
            let stored = self.stored(&field).await?;
            let is_damaged = stored.row.is_err();
            let row = stored.row.clone().unwrap_or_else(|_| PersonRow::new(field.clone()));
            if !is_damaged && row.binding()?.is_none() {
                return Ok(false);
            }
            if self.replace(&stored, row.without_user()).await? {
                if is_damaged {
                    self.settle_block(&field, None).await?;
                }
                return Ok(true);
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    pub(in crate::session) async fn change_revocations<T: Send>(
        &self,
        change: impl Fn(&mut Revocations) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        self.revocations.change(change).await.inspect_err(|_| self.revocations.forget())
    }

    /// The blocked people, each with the number of the block.
    pub(in crate::session) async fn blocked(&self) -> Result<Vec<(PersonField, u64)>, StoreError> {
        let revocations = self.revocations.current().await?;
        let mut blocked: BTreeMap<PersonField, u64> = revocations.blocks().collect();
        for row in self.rows(&revocations).await? {
            let counts = self.counted_block(row.person(), row.block_number(), &revocations).await?;
            if let Some(number) = counts {
                blocked.insert(row.person().clone(), number);
            }
        }
        Ok(blocked.into_iter().collect())
    }

    /// Every binding, in the order of the people.
    pub(in crate::session) async fn bindings(&self) -> Result<Vec<(PersonId, UserBinding)>, StoreError> {
        let revocations = self.revocations.current().await?;
        let mut bindings = BTreeMap::new();
        for row in self.rows(&revocations).await? {
            if let Some(binding) = row.binding()?
                && let Some(person) = row.person().person_id()
            {
                bindings.insert(row.person().clone(), (person, binding));
            }
        }
        Ok(bindings.into_values().collect())
    }

    /// The row of every person.
    async fn rows(&self, revocations: &Revocations) -> Result<Vec<PersonRow>, StoreError> {
        let (mut rows, mut next) = (Vec::new(), None);
        while revocations.people.is_some() {
            let page = self.store.scan(Space::Person, next.as_ref(), PAGE).await?;
            for (key, bytes) in page.rows {
                let row: PersonRow = self.keyring.decode(&key, &bytes).await?;
                let field = row.person().clone();
                if field.row_key() != key {
                    return Err(damaged("a row is of another person"));
                }
                rows.push(row.require_person(&field)?);
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok(rows)
    }

    async fn read(&self, field: &PersonField) -> Result<Option<PersonRow>, StoreError> {
        let stored = self.stored(field).await?;
        let row = stored.row?;
        Ok(stored.bytes.map(|_| row))
    }

    pub(super) async fn stored(&self, field: &PersonField) -> Result<StoredPerson, StoreError> {
        let key = field.row_key();
        let bytes = self.store.get(&key).await?;
        let row = match &bytes {
            Some(bytes) => match self.keyring.decode::<PersonRow>(&key, bytes).await {
                Ok(row) => row.require_person(field),
                Err(error @ StoreError::Damaged(_)) => Err(error),
                // Not known to be damaged, so nothing may be written in its place.
                Err(error) => return Err(error),
            },
            None => Ok(PersonRow::new(field.clone())),
        };
        Ok(StoredPerson { key, bytes, row })
    }

    /// Replaces what was read by a row, or removes it if the row is empty; `false` if another
    /// writer was faster.
    pub(super) async fn replace(&self, stored: &StoredPerson, row: PersonRow) -> Result<bool, StoreError> {
        self.replace_for(stored, row, FOREVER).await
    }

    async fn replace_for(
        &self,
        stored: &StoredPerson,
        row: PersonRow,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let (key, expected) = (stored.key.clone(), stored.bytes.clone());
        if row.is_empty() {
            return match expected {
                Some(expected) => self.store.compare_and_delete(&key, &expected).await,
                None => Ok(true),
            };
        }
        let value = self.keyring.encode(&key, &row).await?;
        self.store.write(Write { key, expected, value, ttl }).await
    }

    /// Keeps only the data that outlives an erasure, under the keyed hash: the block, and the
    /// number of the erasure for as long as a token may be valid.
    pub(in crate::session) async fn erase(
        &self,
        field: &PersonField,
        number: u64,
        lasts: Duration,
    ) -> Result<(), StoreError> {
        let revocations = self.revocations.current().await?;
        let hashed = self.hashed(field).await?;
        let mut attempts = Attempts::default();
        loop {
            let named = self.stored(field).await?;
            // It is not known whether a row that cannot be read is a block.
            let own = named.row.clone()?.block_number();
            let block = self.counted_block(field, own, &revocations).await?;
            let kept = self.stored(&hashed).await?;
            let row = kept.row.clone()?;
            let block = row.block_number().max(block);
            let linked = named.row.clone()?.blocked_with().cloned();
            let linked = match linked {
                Some(unionid) if self.is_blocked(&unionid, &revocations).await? => {
                    Some(self.hashed(&unionid).await?)
                }
                _ => row.blocked_with().cloned(),
            };
            let outlasts = block.is_some() || linked.is_some();
            let row = row.with_block(block).with_block_of(linked).with_erasure(number);
            let ttl = if outlasts { FOREVER } else { lasts };
            // First: until it is there, the other row counts.
            let is_kept = self.replace_for(&kept, row, ttl).await?;
            if is_kept && self.replace(&named, PersonRow::new(field.clone())).await? {
                return Ok(());
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }
}

impl SessionPeople {
    /// Whether the person is blocked, in this app or by unionid.
    pub(in crate::session) const fn are_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether it was just remembered that the subject is blocked with its unionid.
    pub(in crate::session) const fn is_newly_linked(&self) -> bool {
        self.is_newly_linked
    }

    /// The user of a session with this number.
    ///
    /// # Errors
    /// [`SessionError::Blocked`], and [`SessionError::Ended`] if the session was opened before the
    /// person was erased.
    pub(in crate::session) fn user_of(self, number: u64) -> Result<Option<User>, SessionError> {
        if self.is_blocked {
            return Err(SessionError::Blocked);
        }
        if self.erased_number.is_some_and(|erased| number < erased) {
            return Err(SessionError::Ended);
        }
        Ok(self.user)
    }
}
