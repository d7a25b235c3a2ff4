//! Binding people to users of the business.
//!
//! A binding belongs to a person in one app, or to a unionid. It is read together with the session,
//! and a change of it ends the leases of the person's sessions, as a revocation does.

use super::error::SessionError;
use super::person::PersonId;
use super::row::person_row::UserBinding;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::User;

impl Sessions {
    /// Binds a person to a user, in place of the user before: at once on this node, within a second
    /// on every other. Whether the user or the claims are new.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the person may be bound nevertheless.
    pub async fn bind(&self, person: &PersonId, user: &User, now: Timestamp) -> Result<bool, SessionError> {
        let written = self.core.people.bind(person, user, now).await;
        Ok(self.core.publish_person(person, written).await?)
    }

    /// Removes a person's binding. Whether there was one.
    ///
    /// # Errors
    /// [`SessionError::Store`]: the person may be unbound nevertheless.
    pub async fn unbind(&self, person: &PersonId) -> Result<bool, SessionError> {
        let removed = self.core.people.unbind(person).await;
        Ok(self.core.publish_person(person, removed).await?)
    }

    /// The binding of exactly this subject or this unionid, whichever of two would count for a
    /// session.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn binding(&self, person: &PersonId) -> Result<Option<UserBinding>, SessionError> {
        Ok(self.core.people.binding(person).await?)
    }
}
