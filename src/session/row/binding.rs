//! The row of a binding: the business's own user that a person was bound to.

use minicbor::{Decode, Encode};

use super::envelope::damaged;
use super::field::{TextField, millis};
use super::person::PersonField;
use crate::clock::Timestamp;
use crate::identity::{ClaimName, ClaimValue, User, UserId};
use crate::session::person::PersonId;
use crate::store::StoreError;

/// The user that a person is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBinding {
    /// The business's own user, with claims.
    pub user: User,
    /// Since when the person is bound to this user with these claims.
    pub since: Timestamp,
}

/// Which kinds of people are bound, or were bound once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(in crate::session) struct BindingKinds {
    #[n(0)]
    pub(in crate::session) of_subjects: bool,
    #[n(1)]
    pub(in crate::session) of_unionids: bool,
}

impl BindingKinds {
    /// The kind of this person.
    pub(in crate::session) const fn of(person: &PersonId) -> Self {
        let of_subjects = matches!(person, PersonId::Subject(_));
        Self { of_subjects, of_unionids: !of_subjects }
    }

    /// Whether these include the others.
    pub(in crate::session) const fn contains(self, others: Self) -> bool {
        (self.of_subjects || !others.of_subjects) && (self.of_unionids || !others.of_unionids)
    }

    /// Adds the kinds of another row.
    pub(in crate::session) fn merge(&mut self, other: Self) {
        self.of_subjects |= other.of_subjects;
        self.of_unionids |= other.of_unionids;
    }
}

/// The person, the user and the claims.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct BindingRow {
    #[n(0)]
    person: PersonField,
    #[n(1)]
    user: TextField<UserId>,
    #[n(2)]
    claims: Vec<ClaimField>,
    #[cbor(n(3), with = "millis")]
    since: Timestamp,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct ClaimField {
    #[n(0)]
    name: TextField<ClaimName>,
    #[n(1)]
    value: TextField<ClaimValue>,
}

impl BindingRow {
    pub(in crate::session) fn new(person: PersonField, user: &User, since: Timestamp) -> Self {
        let claim = |(name, value): (&ClaimName, &ClaimValue)| ClaimField {
            name: TextField(name.clone()),
            value: TextField(value.clone()),
        };
        let claims = user.claims().map(claim).collect();
        Self { person, user: TextField(user.id().clone()), claims, since }
    }

    /// Returns the row if it is of this person.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: it is of another person.
    pub(in crate::session) fn require_person(self, person: &PersonField) -> Result<Self, StoreError> {
        if self.person == *person { Ok(self) } else { Err(damaged("a binding is of another person")) }
    }
}

impl TryFrom<BindingRow> for UserBinding {
    type Error = StoreError;

    /// Reads the user. Too many claims, or a claim twice, is damage: a user is never read in part.
    fn try_from(row: BindingRow) -> Result<Self, StoreError> {
        let claims = row.claims.into_iter().map(|claim| (claim.name.0, claim.value.0));
        let user = User::new(row.user.0, claims)
            .map_err(|_| damaged("a binding has claims that no user can have"))?;
        Ok(Self { user, since: row.since })
    }
}
