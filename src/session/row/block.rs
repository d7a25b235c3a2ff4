//! The copy of the blocks in the row of revocations, for gateways of the previous version.
//!
//! Each change has the row's number at which it was made, and a lifted block is remembered for a
//! while. If the store falls back to an earlier row, or two histories meet, the later change
//! counts. If the later change is unknown, the block counts.

use std::cmp::Reverse;

use minicbor::{Decode, Encode};

use super::person::PersonField;

/// Maximum number of people in the copy, as in the previous version.
pub(in crate::session) const MOST_COPIED: usize = 1000;
/// Most bytes for them, because the row must stay below the longest value of a store. Enough for
/// [`MOST_COPIED`] unionids, or for about eight hundred people by appid and openid.
const MOST_BYTES: usize = 52 * 1024;
/// Most bytes of a change besides its identifiers.
const BYTES_OF_CHANGE: usize = 24;
/// How many of the latest lifted blocks are remembered.
const MOST_LIFTED: usize = 64;

/// The latest change of each person, in the order of the people.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub(in crate::session) struct Blocks(#[n(0)] Vec<BlockChange>);

/// A person was blocked, or a block was lifted.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(in crate::session) struct BlockChange {
    #[n(0)]
    pub(in crate::session) person: PersonField,
    /// The number of the row with this change: at least the time in milliseconds.
    #[n(1)]
    pub(in crate::session) number: u64,
    #[n(2)]
    pub(in crate::session) is_lifted: bool,
}

impl Blocks {
    /// The latest change of a person.
    pub(in crate::session) fn change_of(&self, person: &PersonField) -> Option<&BlockChange> {
        self.find(person).ok().and_then(|at| self.0.get(at))
    }

    /// Whether a person is blocked here.
    pub(in crate::session) fn contains(&self, person: &PersonField) -> bool {
        self.change_of(person).is_some_and(|change| !change.is_lifted)
    }

    /// Whether there is no change of any person.
    pub(in crate::session) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every change.
    pub(in crate::session) fn iter(&self) -> impl Iterator<Item = &BlockChange> {
        self.0.iter()
    }

    fn find(&self, person: &PersonField) -> Result<usize, usize> {
        self.0.binary_search_by(|change| change.person.cmp(person))
    }

    /// Keeps only lifted blocks, and puts hashes in the place of people. Blocks stand in the rows
    /// of people alone from then on.
    pub(in crate::session) fn hash_lifted(&mut self, hash: impl Fn(&PersonField) -> [u8; 16]) {
        self.0.retain(|change| change.is_lifted);
        for change in &mut self.0 {
            change.person = PersonField::Hashed(hash(&change.person));
        }
        self.sort();
    }

    /// Drops what names a person.
    pub(in crate::session) fn drop_named(&mut self) {
        self.0.retain(|change| matches!(change.person, PersonField::Hashed(_)));
    }

    /// Restores the order of the people, which the search needs.
    pub(in crate::session) fn sort(&mut self) {
        self.0.sort_by(|one, other| one.person.cmp(&other.person));
    }

    fn changes(&self, is_lifted: bool) -> impl Iterator<Item = &BlockChange> {
        self.0.iter().filter(move |change| change.is_lifted == is_lifted)
    }

    /// Whether one more person can be blocked.
    pub(in crate::session) fn has_room_for(&self, person: &PersonField) -> bool {
        let size = |person: &PersonField| BYTES_OF_CHANGE + person.byte_len();
        let bytes: usize = self.changes(false).map(|change| size(&change.person)).sum();
        self.changes(false).count() < MOST_COPIED && bytes + size(person) <= MOST_BYTES
    }

    /// Adds a change made here.
    pub(in crate::session) fn add(&mut self, change: BlockChange) {
        self.apply(change);
        self.forget_old_lifts();
    }

    /// Adds the changes of another row.
    pub(in crate::session) fn merge(&mut self, other: &Self) {
        for change in &other.0 {
            self.apply(change.clone());
        }
        self.forget_old_lifts();
    }

    /// Keeps the later of two changes of a person. If both have the same number, the block counts.
    fn apply(&mut self, change: BlockChange) {
        match self.find(&change.person) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at)
                    && (change.number, !change.is_lifted) > (known.number, !known.is_lifted)
                {
                    *known = change;
                }
            }
            Err(at) => self.0.insert(at, change),
        }
    }

    fn forget_old_lifts(&mut self) {
        let mut lifted: Vec<u64> = self.changes(true).map(|change| change.number).collect();
        lifted.sort_unstable_by_key(|number| Reverse(*number));
        if let Some(last) = lifted.get(MOST_LIFTED) {
            let last = *last;
            self.0.retain(|change| !change.is_lifted || change.number > last);
        }
    }
}
