//! The row of a person: since when the person is blocked, and the business's own user that the
//! person is bound to.
//!
//! A row with a user and without a block is, byte for byte, what the previous version wrote for a
//! binding. That version reads the user of a row with both. It cannot read a row with a block
//! alone, and refuses the person, who is blocked; so a lifted block leaves nothing in the row.

use minicbor::{Decode, Encode};

use super::envelope::damaged;
use super::field::{TextField, millis};
use super::person::PersonField;
use crate::clock::Timestamp;
use crate::identity::{ClaimName, ClaimValue, User, UserId};
use crate::store::StoreError;

/// The user that a person is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBinding {
    /// The business's own user, with claims.
    pub user: User,
    /// Since when the person is bound to this user with these claims.
    pub since: Timestamp,
}

/// The kinds of people who have rows, or had rows once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(in crate::session) struct PersonKinds {
    #[n(0)]
    pub(in crate::session) of_subjects: bool,
    #[n(1)]
    pub(in crate::session) of_unionids: bool,
    /// Whether a person was erased: their rows have keyed hashes for names.
    #[n(2)]
    of_erased: Option<bool>,
}

impl PersonKinds {
    /// The kind of this person.
    pub(in crate::session) fn of(person: &PersonField) -> Self {
        let of_subjects = matches!(person, PersonField::Subject(..));
        let of_unionids = matches!(person, PersonField::UnionId(_));
        let of_erased = matches!(person, PersonField::Hashed(_)).then_some(true);
        Self { of_subjects, of_unionids, of_erased }
    }

    /// Whether there are rows of people who were erased.
    pub(in crate::session) fn of_erased(self) -> bool {
        self.of_erased == Some(true)
    }

    /// Whether these include the others.
    pub(in crate::session) fn contains(self, others: Self) -> bool {
        (self.of_subjects || !others.of_subjects)
            && (self.of_unionids || !others.of_unionids)
            && (self.of_erased() || !others.of_erased())
    }

    /// Adds the kinds of another row.
    pub(in crate::session) fn merge(&mut self, other: Self) {
        self.of_subjects |= other.of_subjects;
        self.of_unionids |= other.of_unionids;
        self.of_erased = self.of_erased.max(other.of_erased);
    }
}

/// The person, the block, the user, and when the person was erased. Never without all of them.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct PersonRow {
    #[n(0)]
    person: PersonField,
    #[n(1)]
    user: Option<TextField<UserId>>,
    #[n(2)]
    claims: Vec<ClaimField>,
    /// When the person was bound; the start of time if there is no user.
    #[cbor(n(3), with = "millis")]
    bound_at: Timestamp,
    /// The number that the row of revocations had at the block; `None` if the person is not
    /// blocked.
    #[n(4)]
    block_number: Option<u64>,
    /// The number that the row of revocations had when the person was erased. It ends sessions with
    /// a lower number, which a store that falls back to an earlier state could bring back.
    #[n(5)]
    erased_number: Option<u64>,
    /// The unionid by which a subject was known when that unionid was blocked. Its block is the
    /// subject's too, even if WeChat gives no unionid at a later sign-in.
    #[n(6)]
    blocked_with: Option<PersonField>,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct ClaimField {
    #[n(0)]
    name: TextField<ClaimName>,
    #[n(1)]
    value: TextField<ClaimValue>,
}

impl PersonRow {
    /// A row that says nothing yet.
    pub(in crate::session) fn new(person: PersonField) -> Self {
        Self {
            person,
            user: None,
            claims: Vec::new(),
            bound_at: Timestamp::default(),
            block_number: None,
            erased_number: None,
            blocked_with: None,
        }
    }

    /// The person whom the row says it is of.
    pub(in crate::session) const fn person(&self) -> &PersonField {
        &self.person
    }

    /// Returns the row if it is of this person, and says what a row can say.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub(in crate::session) fn require_person(self, person: &PersonField) -> Result<Self, StoreError> {
        if self.person != *person {
            return Err(damaged("a row is of another person"));
        }
        if self.is_empty() || (self.user.is_none() && !self.claims.is_empty()) {
            return Err(damaged("a row says neither that its person is blocked nor bound"));
        }
        if matches!(person, PersonField::Hashed(_)) && self.user.is_some() {
            return Err(damaged("a row of a person who was erased has a user"));
        }
        // A user is never read in part.
        self.binding()?;
        Ok(self)
    }

    /// Whether the row says nothing of its person.
    pub(in crate::session) const fn is_empty(&self) -> bool {
        self.user.is_none()
            && self.block_number.is_none()
            && self.erased_number.is_none()
            && self.blocked_with.is_none()
    }

    /// The number of the block.
    pub(in crate::session) const fn block_number(&self) -> Option<u64> {
        self.block_number
    }

    /// The number at which the person was erased.
    pub(in crate::session) const fn erased_number(&self) -> Option<u64> {
        self.erased_number
    }

    /// The person whose block is this subject's too.
    pub(in crate::session) const fn blocked_with(&self) -> Option<&PersonField> {
        self.blocked_with.as_ref()
    }

    /// The same row, blocked with this person, or with none.
    pub(in crate::session) fn with_block_of(self, blocked_with: Option<PersonField>) -> Self {
        Self { blocked_with, ..self }
    }

    /// The same row, of a person who was erased at this number.
    pub(in crate::session) fn with_erasure(self, number: u64) -> Self {
        Self { erased_number: self.erased_number.max(Some(number)), ..self }
    }

    /// The same row with this block, or without one.
    pub(in crate::session) fn with_block(self, block_number: Option<u64>) -> Self {
        Self { block_number, ..self }
    }

    /// The same row with this user in place of the user before.
    pub(in crate::session) fn with_user(self, user: &User, bound_at: Timestamp) -> Self {
        let claim = |(name, value): (&ClaimName, &ClaimValue)| ClaimField {
            name: TextField(name.clone()),
            value: TextField(value.clone()),
        };
        let claims = user.claims().map(claim).collect();
        Self { user: Some(TextField(user.id().clone())), claims, bound_at, ..self }
    }

    /// The same row without a user.
    pub(in crate::session) fn without_user(self) -> Self {
        Self { user: None, claims: Vec::new(), bound_at: Timestamp::default(), ..self }
    }

    /// The user that the person is bound to.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: too many claims, or a claim twice.
    pub(in crate::session) fn binding(&self) -> Result<Option<UserBinding>, StoreError> {
        let Some(user) = &self.user else { return Ok(None) };
        let claims = self.claims.iter().map(|claim| (claim.name.0.clone(), claim.value.0.clone()));
        let user = User::new(user.0.clone(), claims)
            .map_err(|_| damaged("a binding has claims that no user can have"))?;
        Ok(Some(UserBinding { user, since: self.bound_at }))
    }
}
