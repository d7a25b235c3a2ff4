//! People who are blocked: their sessions are not believed, and they cannot open others.
//!
//! They stand in the row of marks, which every node reads four times a second, and whose change ends every lease. Each
//! change has the row's number at which it was made, and what was lifted is remembered for a while: so where a store falls
//! back to an earlier row, or two histories meet, the later change counts. Where nobody knows the later one, a block does.

use std::cmp::Reverse;

use minicbor::{Decode, Encode};

use super::core::Core;
use super::field::Word;
use super::follow::Heard;
use super::marks::Marks;
use super::{SessionError, SessionScope, Sessions};
use crate::clock::Timestamp;
use crate::identity::{AppId, Identity, OpenId, Subject, UnionId};
use crate::store::StoreError;

/// Most people who can be blocked at once.
pub const MOST_BLOCKED: usize = 1000;
/// Most room for them, in bytes: the row must stay below what a store takes. Enough for as many unionids, and for some
/// eight hundred people by appid and openid.
const MOST_BYTES: usize = 52 * 1024;
/// What a change takes besides its identifiers, at most.
const BYTES_OF_CHANGE: usize = 24;
/// How many of the latest that were lifted are remembered.
const MOST_LIFTED: usize = 64;

/// A person, in every app or in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonId {
    /// In every app where this unionid is known of them.
    UnionId(UnionId),
    /// In one app.
    Subject(Subject),
}

/// A person who is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedPerson {
    /// Who.
    pub person: PersonId,
    /// Since when, to within what the clocks of the nodes differ.
    pub since: Timestamp,
}

/// Why a person was not blocked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// There is no room for one more.
    #[error("as many people are blocked as can be")]
    Full,
    /// As [`SessionError::Store`].
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl PersonId {
    /// The person's scope of sessions.
    pub fn scope(&self) -> SessionScope {
        match self {
            Self::UnionId(unionid) => SessionScope::UnionId(unionid.clone()),
            Self::Subject(subject) => SessionScope::Subject(subject.clone()),
        }
    }
}

impl Sessions {
    /// Blocks a person: at once on this node, within a second on every other. Whether they were not blocked before.
    ///
    /// # Errors
    /// [`BlockError`]; with [`BlockError::Session`] they may be blocked all the same.
    pub async fn block(&self, person: &PersonId, now: Timestamp) -> Result<bool, BlockError> {
        let who = Who::from(person);
        let changed =
            self.core.change_blocks(|marks| marks.block(&who, now)).await.map_err(SessionError::from)?;
        changed.ok_or(BlockError::Full)
    }

    /// Lets a person in again: their sessions go on. Whether they were blocked.
    ///
    /// # Errors
    /// [`SessionError::Store`]: they may be let in all the same.
    pub async fn unblock(&self, person: &PersonId, now: Timestamp) -> Result<bool, SessionError> {
        let who = Who::from(person);
        Ok(self.core.change_blocks(|marks| marks.unblock(&who, now)).await?)
    }

    /// Who is blocked, the latest first.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn list_blocked(&self) -> Result<Vec<BlockedPerson>, SessionError> {
        Ok(self.core.current_marks().await?.blocked())
    }
}

impl Core {
    async fn change_blocks<T: Send>(
        &self,
        change: impl Fn(&mut Marks) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let changed = self.change_marks(change).await;
        if changed.is_err() {
            // It may have been made all the same.
            self.marks.store(None);
        }
        // Also where nothing changed: an earlier try may have changed it and told nobody.
        self.leases.end_all();
        self.tell_if_done(changed, &Heard::Everything).await
    }
}

/// Who is blocked, and who no longer is: by person, each once.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct Blocks(#[n(0)] Vec<Change>);

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
struct Change {
    #[n(0)]
    who: Who,
    /// The number of the row with it: at least the time in milliseconds.
    #[n(1)]
    number: u64,
    #[n(2)]
    is_lifted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(super) enum Who {
    #[n(0)]
    UnionId(#[n(0)] Word<UnionId>),
    #[n(1)]
    Subject(#[n(0)] Word<AppId>, #[n(1)] Word<OpenId>),
}

impl Blocks {
    /// Whether a person is blocked, by their unionid or in this app.
    pub(super) fn include(&self, person: &Identity) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let unionid = person.unionid.clone().map(|unionid| Who::UnionId(Word(unionid)));
        self.has(&Who::from(&person.subject)) || unionid.is_some_and(|unionid| self.has(&unionid))
    }

    fn has(&self, who: &Who) -> bool {
        self.find(who).is_ok_and(|at| self.0.get(at).is_some_and(|change| !change.is_lifted))
    }

    fn find(&self, who: &Who) -> Result<usize, usize> {
        self.0.binary_search_by(|change| change.who.cmp(who))
    }

    /// Puts what was read into the order in which it is searched.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|one, other| one.who.cmp(&other.who));
    }

    fn of(&self, is_lifted: bool) -> impl Iterator<Item = &Change> {
        self.0.iter().filter(move |change| change.is_lifted == is_lifted)
    }

    fn has_room_for(&self, who: &Who) -> bool {
        let bytes: usize = self.of(false).map(|change| change.who.bytes()).sum();
        self.of(false).count() < MOST_BLOCKED && bytes + who.bytes() <= MOST_BYTES
    }

    /// Takes a change, unless a later one of the same person is known. Of two that are as late a block counts.
    fn take(&mut self, change: Change) {
        match self.find(&change.who) {
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

    /// Adds what another row says.
    pub(super) fn merge(&mut self, other: &Self) {
        for change in &other.0 {
            self.take(change.clone());
        }
        self.forget();
    }

    /// Forgets who was let in again long ago.
    fn forget(&mut self) {
        let mut lifted: Vec<u64> = self.of(true).map(|change| change.number).collect();
        lifted.sort_unstable_by_key(|number| Reverse(*number));
        if let Some(last) = lifted.get(MOST_LIFTED) {
            let last = *last;
            self.0.retain(|change| !change.is_lifted || change.number > last);
        }
    }
}

impl Marks {
    /// Whether a person is blocked.
    pub(super) fn block_out(&self, person: &Identity) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.include(person))
    }

    /// Whether that was new; nothing where there is no room.
    fn block(&mut self, who: &Who, now: Timestamp) -> Option<bool> {
        let blocks = self.blocks.get_or_insert_default();
        if blocks.has(who) {
            return Some(false);
        }
        if !blocks.has_room_for(who) {
            return None;
        }
        self.change(who, false, now);
        Some(true)
    }

    fn unblock(&mut self, who: &Who, now: Timestamp) -> bool {
        let was_blocked = self.blocks.as_ref().is_some_and(|blocks| blocks.has(who));
        if was_blocked {
            self.change(who, true, now);
        }
        was_blocked
    }

    fn change(&mut self, who: &Who, is_lifted: bool, now: Timestamp) {
        self.found(now);
        self.count(now);
        let blocks = self.blocks.get_or_insert_default();
        blocks.take(Change { who: who.clone(), number: self.number, is_lifted });
        blocks.forget();
    }

    fn blocked(&self) -> Vec<BlockedPerson> {
        let changes = self.blocks.iter().flat_map(|blocks| blocks.of(false));
        let mut blocked: Vec<BlockedPerson> = changes.map(BlockedPerson::from).collect();
        blocked.sort_by_key(|blocked| Reverse(blocked.since));
        blocked
    }
}

impl Who {
    fn bytes(&self) -> usize {
        BYTES_OF_CHANGE
            + match self {
                Self::UnionId(unionid) => unionid.0.as_str().len(),
                Self::Subject(appid, openid) => appid.0.as_str().len() + openid.0.as_str().len(),
            }
    }
}

impl From<&PersonId> for Who {
    fn from(person: &PersonId) -> Self {
        match person {
            PersonId::UnionId(unionid) => Self::UnionId(Word(unionid.clone())),
            PersonId::Subject(subject) => Self::from(subject),
        }
    }
}

impl From<&Subject> for Who {
    fn from(subject: &Subject) -> Self {
        Self::Subject(Word(subject.appid.clone()), Word(subject.openid.clone()))
    }
}

impl From<&Change> for BlockedPerson {
    fn from(change: &Change) -> Self {
        let person = match &change.who {
            Who::UnionId(unionid) => PersonId::UnionId(unionid.0.clone()),
            Who::Subject(appid, openid) => {
                PersonId::Subject(Subject { appid: appid.0.clone(), openid: openid.0.clone() })
            }
        };
        Self { person, since: Timestamp::from_millis(change.number) }
    }
}
