//! The row of revocations: the not-before marks of whole apps, and a copy of the blocks for
//! gateways of the previous version.
//!
//! The row counts its changes. A session holds the number that the row had when the session was
//! opened; a mark holds the number at which its app was revoked. So a session is judged by what
//! came before it, whatever the clocks of the nodes say.
//!
//! No session holds the number 0: the first session initializes the row. A lost row therefore ends
//! every session and revives none. A store may also fall back to an earlier row, for example when a
//! replica without the latest write takes over. Then a node puts back what it remembers, and a
//! number that was used once is never used again.

use std::time::Duration;

use minicbor::{Decode, Encode};

use super::block::{BlockChange, Blocks};
use super::envelope;
use super::field::{TextField, millis};
use super::name::REVOCATIONS_KEY;
use super::person::PersonField;
use super::person_row::PersonKinds;
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::store::StoreError;

/// The lifetime of the row. If the row ended and counted from 0 again, a mark would not end the
/// sessions that hold a higher number.
pub(in crate::session) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Clone, Default, PartialEq, Encode, Decode)]
pub(in crate::session) struct Revocations {
    /// Grows with each change. At least the time in milliseconds, so that a number that the store
    /// lost is not given to another change.
    #[n(0)]
    pub(in crate::session) number: u64,
    #[n(1)]
    apps: Vec<AppRevocation>,
    /// Ends every session of every app that holds a lower number.
    #[n(2)]
    everything: u64,
    #[cbor(n(3), with = "millis")]
    opened_before: Timestamp,
    /// A copy of the blocks in the rows of people, with the changes of gateways of the previous
    /// version.
    #[n(4)]
    blocks: Option<Blocks>,
    /// `None` if no person was ever blocked or bound. No node reads rows of people until then.
    #[n(5)]
    pub(in crate::session) people: Option<PersonKinds>,
    /// Whether a blocked person is missing in the copy because it had no room.
    #[n(6)]
    is_copy_incomplete: Option<bool>,
    /// The form in which rows are written; `None` if gateways of the previous version may read
    /// them.
    #[n(7)]
    form: Option<RowForm>,
}

/// The form in which rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
enum RowForm {
    /// Rows that name people are sealed. Some of an earlier form may be left.
    #[n(0)]
    Sealed,
    /// No row of an earlier form is left.
    #[n(1)]
    SealedThroughout,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct AppRevocation {
    #[n(0)]
    appid: TextField<AppId>,
    #[n(1)]
    number: u64,
}

impl Revocations {
    /// Reads the row; an absent one is empty.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub(in crate::session) fn decode(bytes: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let mut revocations: Self = envelope::decode(&REVOCATIONS_KEY, bytes)?;
        if let Some(blocks) = &mut revocations.blocks {
            blocks.sort();
        }
        Ok(revocations)
    }

    /// Whether a session of this app was revoked, by its number and the time it was opened.
    ///
    /// A number that is still to come is of a history that this row has lost: such a session is not
    /// believed.
    pub(in crate::session) fn has_revoked(&self, appid: &AppId, number: u64, created_at: Timestamp) -> bool {
        self.is_older_than(number)
            || number < self.everything
            || created_at < self.opened_before
            || self.apps.iter().any(|app| app.appid.0 == *appid && number < app.number)
    }

    /// Whether a session with this number was opened after changes that this row lacks.
    pub(in crate::session) const fn is_older_than(&self, number: u64) -> bool {
        number > self.number
    }

    pub(in crate::session) const fn is_initialized(&self) -> bool {
        self.number > 0
    }

    /// Starts to count. Sessions that were opened before have lost their history, and end.
    pub(in crate::session) fn initialize(&mut self, now: Timestamp) {
        if !self.is_initialized() {
            self.advance(now);
            self.everything = self.number;
        }
    }

    fn advance(&mut self, now: Timestamp) {
        self.number = self.number.saturating_add(1).max(now.millis());
    }

    /// These with what another row adds; `None` if it adds nothing. The numbers do not show it: a
    /// row that continues an earlier one has a higher number, and lacks what was lost.
    pub(in crate::session) fn extended_by(&self, other: &Self) -> Option<Self> {
        if self == other {
            return None;
        }
        let mut both = self.clone();
        both.merge(other);
        (both != *self).then_some(both)
    }

    /// Adds what another row says.
    pub(in crate::session) fn merge(&mut self, other: &Self) {
        self.number = self.number.max(other.number);
        self.everything = self.everything.max(other.everything);
        self.opened_before = self.opened_before.max(other.opened_before);
        if let Some(blocks) = &other.blocks {
            self.blocks.get_or_insert_default().merge(blocks);
        }
        if let Some(people) = other.people {
            self.people.get_or_insert_default().merge(people);
        }
        self.is_copy_incomplete = self.is_copy_incomplete.max(other.is_copy_incomplete);
        self.form = self.form.max(other.form);
        if self.is_sealing() {
            // One of the two rows is older.
            self.drop_copy();
        }
        for theirs in &other.apps {
            match self.apps.iter_mut().find(|ours| ours.appid == theirs.appid) {
                Some(ours) => ours.number = ours.number.max(theirs.number),
                None => self.apps.push(theirs.clone()),
            }
        }
    }

    /// Revokes every session of an app.
    pub(in crate::session) fn revoke_app(&mut self, appid: &AppId, now: Timestamp) {
        self.initialize(now);
        self.advance(now);
        self.apps.retain(|app| app.appid.0 != *appid);
        self.apps.push(AppRevocation { appid: TextField(appid.clone()), number: self.number });
    }

    /// Revokes every session that was opened before an instant, and never a session that is opened
    /// later: otherwise an operator who mistypes a year would lock every user out. "Up to now" is
    /// recorded as a number because clocks differ: a node with a slow clock would give a later
    /// session a time before the instant.
    pub(in crate::session) fn revoke_opened_before(&mut self, instant: Timestamp, now: Timestamp) {
        self.initialize(now);
        self.advance(now);
        if instant >= now {
            self.everything = self.number;
        } else {
            self.opened_before = self.opened_before.max(instant);
        }
    }

    /// Whether rows that name people are sealed, and this row names no person.
    pub(in crate::session) const fn is_sealing(&self) -> bool {
        self.form.is_some()
    }

    /// Whether every row that names people is sealed.
    pub(in crate::session) fn is_sealed_throughout(&self) -> bool {
        self.form == Some(RowForm::SealedThroughout)
    }

    /// Says that every row that names people is sealed.
    pub(in crate::session) fn mark_sealed_throughout(&mut self) {
        self.form = Some(RowForm::SealedThroughout);
    }

    /// Lets rows be sealed from now on, if all blocks here were `settled` into the rows of people;
    /// whether they were.
    pub(in crate::session) fn start_sealing(
        &mut self,
        settled: &Self,
        hash: impl Fn(&PersonField) -> [u8; 16],
        now: Timestamp,
    ) -> bool {
        if self.is_sealing() {
            return true;
        }
        if !self.changed_people(settled).is_empty() {
            return false;
        }
        self.initialize(now);
        if let Some(blocks) = &mut self.blocks {
            blocks.hash_lifted(hash);
        }
        self.form = Some(RowForm::Sealed);
        self.drop_copy();
        true
    }

    /// Drops the copy for gateways of the previous version, which names people.
    fn drop_copy(&mut self) {
        self.blocks.iter_mut().for_each(Blocks::drop_named);
        self.blocks = self.blocks.take().filter(|blocks| !blocks.is_empty());
        self.is_copy_incomplete = None;
    }

    /// Records that a person was erased; the number of the erasure.
    pub(in crate::session) fn erase(&mut self, person: &PersonField, now: Timestamp) -> u64 {
        self.initialize(now);
        self.advance(now);
        self.people.get_or_insert_default().merge(PersonKinds::of(person));
        self.number
    }

    /// Whether people are blocked who do not stand in the copy.
    pub(in crate::session) fn is_copy_incomplete(&self) -> bool {
        self.is_copy_incomplete == Some(true)
    }

    /// Every person with a change in the copy, and whether the block is lifted.
    pub(in crate::session) fn block_changes(&self) -> impl Iterator<Item = &BlockChange> {
        self.blocks.iter().flat_map(Blocks::iter)
    }

    /// Whether this row says anything about blocks.
    pub(in crate::session) fn has_blocks(&self) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| !blocks.is_empty())
    }

    /// The number of a person's block, by the person's row and by this row. The later statement
    /// counts. If both have the same number, the block counts.
    pub(in crate::session) fn block_of(&self, person: &PersonField, in_own_row: Option<u64>) -> Option<u64> {
        match self.blocks.as_ref().and_then(|blocks| blocks.change_of(person)) {
            None => in_own_row,
            Some(change) if change.is_lifted => in_own_row.filter(|number| *number >= change.number),
            Some(change) => in_own_row.max(Some(change.number)),
        }
    }

    /// The blocks in this row, with their numbers.
    pub(in crate::session) fn blocks(&self) -> impl Iterator<Item = (PersonField, u64)> {
        let changes = self.blocks.iter().flat_map(Blocks::iter);
        changes.filter(|change| !change.is_lifted).map(|change| (change.person.clone(), change.number))
    }

    /// The people about whose blocks this row and another say different things.
    pub(in crate::session) fn changed_people(&self, other: &Self) -> Vec<PersonField> {
        let has = |row: &Self, change: &BlockChange| {
            row.blocks.as_ref().and_then(|blocks| blocks.change_of(&change.person)) == Some(change)
        };
        let only_in = |one: &Self, other: &Self| -> Vec<PersonField> {
            let changes = one.blocks.iter().flat_map(Blocks::iter);
            changes.filter(|change| !has(other, change)).map(|change| change.person.clone()).collect()
        };
        let mut people = only_in(self, other);
        people.extend(only_in(other, self));
        people.sort();
        people.dedup();
        people
    }

    /// Whether this row and another differ in more than blocks and the number.
    pub(in crate::session) fn differs_beyond_blocks(&self, other: &Self) -> bool {
        self.apps != other.apps
            || self.everything != other.everything
            || self.opened_before != other.opened_before
            || self.people != other.people
            || self.form.is_some() != other.form.is_some()
    }

    /// Records that a person is blocked, in the copy if there is one and there is room: whether
    /// that is new, and the number of the block. `in_copy` is the person as this row names them,
    /// `in_own_row` what the person's row says.
    pub(in crate::session) fn block(
        &mut self,
        person: &PersonField,
        in_copy: &PersonField,
        in_own_row: Option<u64>,
        now: Timestamp,
    ) -> (bool, u64) {
        self.initialize(now);
        let before = self.block_of(in_copy, in_own_row);
        let number = before.unwrap_or_else(|| {
            self.advance(now);
            self.number
        });
        self.people.get_or_insert_default().merge(PersonKinds::of(person));
        if self.is_sealing() {
            return (before.is_none(), number);
        }
        let blocks = self.blocks.get_or_insert_default();
        if blocks.contains(person) || blocks.has_room_for(person) {
            blocks.add(BlockChange { person: person.clone(), number, is_lifted: false });
        } else {
            self.is_copy_incomplete = Some(true);
        }
        (before.is_none(), number)
    }

    /// Records that a block is lifted; whether the person was blocked.
    pub(in crate::session) fn unblock(
        &mut self,
        person: &PersonField,
        in_own_row: Option<u64>,
        now: Timestamp,
    ) -> bool {
        let Some(number) = self.block_of(person, in_own_row) else { return false };
        self.initialize(now);
        self.number = self.number.max(number);
        self.advance(now);
        // A row that names no person learns only hashes; the person's own row says the same.
        if !self.is_sealing() || matches!(person, PersonField::Hashed(_)) {
            let change = BlockChange { person: person.clone(), number: self.number, is_lifted: true };
            self.blocks.get_or_insert_default().add(change);
        }
        true
    }

    /// Says that there are rows of people of these kinds.
    pub(in crate::session) fn add_person_kinds(&mut self, kinds: PersonKinds, now: Timestamp) {
        self.initialize(now);
        // Of two rows the one with the higher number is kept.
        self.advance(now);
        self.people.get_or_insert_default().merge(kinds);
    }
}
