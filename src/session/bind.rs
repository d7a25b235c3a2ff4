//! Binding people to users of the business.
//!
//! A binding belongs to a person in one app, or to a unionid. It is read with the session that it
//! is believed with, and a change of it ends the leases of the person's sessions, as a revocation
//! does.

use super::error::SessionError;
use super::person::PersonId;
use super::row::binding::{BindingKinds, UserBinding};
use super::row::invalidation::Invalidation;
use super::row::name;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::User;
use crate::store::StoreError;

impl Sessions {
    /// Binds a person to a user, in place of the user before: at once on this node, within a second
    /// on every other. Whether the user or the claims are new.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the person may be bound nevertheless.
    pub async fn bind(&self, person: &PersonId, user: &User, now: Timestamp) -> Result<bool, SessionError> {
        // Before the binding, which no node would read otherwise.
        self.add_binding_kind(person, now).await?;
        let written = self.core.bindings.write(person, user, now).await;
        Ok(self.publish_person(person, written).await?)
    }

    /// Removes a person's binding. Whether there was one.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the person may be unbound nevertheless.
    pub async fn unbind(&self, person: &PersonId) -> Result<bool, SessionError> {
        let removed = self.core.bindings.remove(person, self.core.entropy.as_ref()).await;
        Ok(self.publish_person(person, removed).await?)
    }

    /// The binding of exactly this subject or this unionid, whichever of two would count for a
    /// session.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn binding(&self, person: &PersonId) -> Result<Option<UserBinding>, SessionError> {
        let row = self.core.bindings.read(person).await?;
        Ok(row.map(UserBinding::try_from).transpose()?)
    }

    /// Says in the row of revocations that people of this kind are bound.
    async fn add_binding_kind(&self, person: &PersonId, now: Timestamp) -> Result<(), StoreError> {
        let revocations = &self.core.revocations;
        let kinds = BindingKinds::of(person);
        if revocations.current().await?.bindings.is_some_and(|known| known.contains(kinds)) {
            return Ok(());
        }
        let changed = revocations.change(|row| row.add_binding_kinds(kinds, now)).await;
        if changed.is_err() {
            // The change may have been made.
            revocations.clear();
        }
        changed
    }

    /// Ends the leases of a person's sessions, here and on the other nodes.
    async fn publish_person(
        &self,
        person: &PersonId,
        written: Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let core = &self.core;
        let of_subject = |subject| Invalidation::Subject(name::locator(subject));
        let invalidations = match person {
            PersonId::Subject(subject) => vec![of_subject(subject)],
            // Read after the binding was written: a subject that is not listed yet signs in later,
            // and reads what was written.
            PersonId::UnionId(unionid) => match core.unionids.subjects(unionid).await {
                Ok(subjects) => subjects.iter().map(of_subject).collect(),
                Err(_) => vec![Invalidation::Everything],
            },
        };
        let mut outcome = written.clone();
        for invalidation in invalidations {
            match &invalidation {
                Invalidation::Subject(locator) => core.leases.end(locator),
                Invalidation::Everything => core.leases.end_all(),
            }
            let published = core.log.publish_result(written.clone(), &invalidation).await;
            outcome = outcome.and(published);
        }
        outcome
    }
}
