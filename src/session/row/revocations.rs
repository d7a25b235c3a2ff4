//! The row of revocations: the not-before marks of whole apps, and the blocked people.
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

use super::binding::BindingKinds;
use super::block::{BlockChange, BlockedPerson, Blocks};
use super::envelope;
use super::field::{TextField, millis};
use super::name::REVOCATIONS_KEY;
use super::person::PersonField;
use crate::clock::Timestamp;
use crate::identity::{AppId, Identity};
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
    /// `None` if no person was ever blocked, or if a gateway without blocks wrote the row.
    #[n(4)]
    pub(in crate::session) blocks: Option<Blocks>,
    /// `None` if no person was ever bound. No node reads bindings until then.
    #[n(5)]
    pub(in crate::session) bindings: Option<BindingKinds>,
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

    /// These with what another row adds; `None` if it adds nothing. The numbers do not tell: a row
    /// that went on from an earlier one has a higher number, and lacks what was lost.
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
        if let Some(bindings) = other.bindings {
            self.bindings.get_or_insert_default().merge(bindings);
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

    /// Revokes every session that was opened before an instant, and never a session that is still
    /// to be opened: otherwise an operator who mistypes a year would lock every user out. "Up to
    /// now" is recorded as a number because clocks differ: by a slow clock, a session that is still
    /// to be opened would be of before.
    pub(in crate::session) fn revoke_opened_before(&mut self, instant: Timestamp, now: Timestamp) {
        self.initialize(now);
        self.advance(now);
        if instant >= now {
            self.everything = self.number;
        } else {
            self.opened_before = self.opened_before.max(instant);
        }
    }

    /// Whether an identity is blocked.
    pub(in crate::session) fn blocks_identity(&self, identity: &Identity) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.contains_identity(identity))
    }

    /// Blocks a person; whether that is new, and `None` if there is no room.
    pub(in crate::session) fn block(&mut self, person: &PersonField, now: Timestamp) -> Option<bool> {
        let blocks = self.blocks.get_or_insert_default();
        if blocks.contains(person) {
            return Some(false);
        }
        if !blocks.has_room_for(person) {
            return None;
        }
        self.change_block(person, false, now);
        Some(true)
    }

    /// Lifts a block; whether the person was blocked.
    pub(in crate::session) fn unblock(&mut self, person: &PersonField, now: Timestamp) -> bool {
        let was_blocked = self.blocks.as_ref().is_some_and(|blocks| blocks.contains(person));
        if was_blocked {
            self.change_block(person, true, now);
        }
        was_blocked
    }

    fn change_block(&mut self, person: &PersonField, is_lifted: bool, now: Timestamp) {
        self.initialize(now);
        self.advance(now);
        let change = BlockChange { person: person.clone(), number: self.number, is_lifted };
        self.blocks.get_or_insert_default().add(change);
    }

    /// The people who are blocked, the latest first.
    pub(in crate::session) fn blocked_people(&self) -> Vec<BlockedPerson> {
        self.blocks.as_ref().map(Blocks::list).unwrap_or_default()
    }

    /// Says that people of this kind are bound.
    pub(in crate::session) fn add_binding_kinds(&mut self, kinds: BindingKinds, now: Timestamp) {
        self.initialize(now);
        // Of two rows the one with the higher number is kept.
        self.advance(now);
        self.bindings.get_or_insert_default().merge(kinds);
    }
}
