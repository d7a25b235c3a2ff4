//! Blocking people: their sessions are not accepted, and they cannot open others.
//!
//! A block belongs to a person in one app, or to a unionid. It is in the person's row, next to the
//! binding, and is read together with the session. A change of it ends the leases of the person's
//! sessions.

use std::cmp::Reverse;

use super::error::SessionError;
use super::person::PersonId;
use super::row::person::PersonField;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Subject, UnionId};
use crate::store::StoreError;

/// A person who is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedPerson {
    /// The person.
    pub person: BlockedName,
    /// Since when, as exactly as the clocks of the nodes agree.
    pub since: Timestamp,
}

/// How a person is known who is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockedName {
    /// By name.
    Person(PersonId),
    /// Only by a keyed hash, because the person was erased. An operator who knows the name can lift
    /// the block.
    Erased([u8; 16]),
}

impl Sessions {
    /// Blocks a person: at once on this node, within a second on every other. Whether the person
    /// was not blocked before.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the person may be blocked nevertheless.
    pub async fn block(&self, person: &PersonId, now: Timestamp) -> Result<bool, SessionError> {
        let written = self.core.people.block(person, now).await;
        let written = self.settle_subjects(person, written).await;
        Ok(self.core.publish_person(person, written).await?)
    }

    /// Lifts a block: the person's sessions are good again. Whether the person was blocked.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the block may be lifted nevertheless. A row that cannot be read
    /// must be bound again or unbound first.
    pub async fn unblock(&self, person: &PersonId, now: Timestamp) -> Result<bool, SessionError> {
        let written = self.core.people.unblock(person, now).await;
        let written = self.settle_subjects(person, written).await;
        Ok(self.core.publish_person(person, written).await?)
    }

    /// Lets a block of a unionid count for every subject that is known of the person, and no longer
    /// once it is lifted.
    async fn settle_subjects(
        &self,
        person: &PersonId,
        written: Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let (PersonId::UnionId(unionid), Ok(_)) = (person, &written) else { return written };
        // After the block: a subject that is not listed yet finds it when its session is opened.
        let subjects = self.core.unionids.subjects(unionid).await?;
        let subjects: Vec<PersonField> = subjects.iter().map(PersonField::from).collect();
        self.core.people.settle_links(&PersonField::from(unionid), &subjects).await?;
        written
    }

    /// The subjects that are known of a unionid: a block of the unionid is theirs too.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn subjects_of(&self, unionid: &UnionId) -> Result<Vec<Subject>, SessionError> {
        Ok(self.core.unionids.subjects(unionid).await?)
    }

    /// The people who are blocked, the latest first. Reads the row of every person.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn list_blocked(&self) -> Result<Vec<BlockedPerson>, SessionError> {
        let blocked = self.core.people.blocked().await?;
        let mut blocked: Vec<BlockedPerson> = blocked
            .into_iter()
            .map(|(field, number)| BlockedPerson {
                person: BlockedName::from(&field),
                since: Timestamp::from_millis(number),
            })
            .collect();
        blocked.sort_by_key(|blocked| Reverse(blocked.since));
        Ok(blocked)
    }
}

impl From<&PersonField> for BlockedName {
    fn from(field: &PersonField) -> Self {
        match (field, field.person_id()) {
            (_, Some(person)) => Self::Person(person),
            (PersonField::Hashed(hash), None) => Self::Erased(*hash),
            (_, None) => Self::Erased([0; 16]),
        }
    }
}
