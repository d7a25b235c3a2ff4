//! Reads and writes the bindings of people.
//!
//! A binding has a row of its own and outlives sessions. The row of revocations says whether any
//! person was ever bound: until then no binding is read.

use std::sync::Arc;

use super::attempts::Attempts;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::identity::User;
use crate::session::person::PersonId;
use crate::session::row::binding::{BindingKinds, BindingRow, UserBinding};
use crate::session::row::envelope;
use crate::session::row::name::{self, Locator};
use crate::session::row::person::PersonField;
use crate::session::row::revocations::FOREVER;
use crate::session::row::subject::SubjectRow;
use crate::store::{Store, StoreError};

/// The bindings in the store.
pub(in crate::session) struct Bindings {
    store: Arc<dyn Store>,
}

impl Bindings {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The binding of exactly this person.
    pub(in crate::session) async fn read(&self, person: &PersonId) -> Result<Option<BindingRow>, StoreError> {
        let key = name::binding_key(person);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        envelope::decode::<BindingRow>(&key, &bytes)?.require_person(&PersonField::from(person)).map(Some)
    }

    /// Writes a binding, whatever the row holds, even if it cannot be read. Whether the user or the
    /// claims are new.
    pub(in crate::session) async fn write(
        &self,
        person: &PersonId,
        user: &User,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let before = match self.read(person).await {
            Err(StoreError::Damaged(_)) => None,
            read => read?.and_then(|row| UserBinding::try_from(row).ok()),
        };
        let same = before.filter(|before| before.user == *user);
        let since = same.as_ref().map_or(now, |before| before.since);
        // Also if it says the same: an earlier write may have reached too few servers, or the other
        // nodes may not have been told.
        let key = name::binding_key(person);
        let value = envelope::encode(&key, &BindingRow::new(PersonField::from(person), user, since))?;
        self.store.put(&key, value, FOREVER).await?;
        Ok(same.is_none())
    }

    /// Removes a binding, even if it cannot be read; whether there was one.
    pub(in crate::session) async fn remove(
        &self,
        person: &PersonId,
        entropy: &dyn Entropy,
    ) -> Result<bool, StoreError> {
        let key = name::binding_key(person);
        let mut attempts = Attempts::default();
        while let Some(bytes) = self.store.get(&key).await? {
            if self.store.compare_and_delete(&key, &bytes).await? {
                return Ok(true);
            }
            attempts.wait(entropy).await?;
        }
        Ok(false)
    }

    /// The binding under a subject's locator. The caller checks that it is of this subject, with
    /// [`Bindings::user_of`]. Reads nothing if no subject was ever bound.
    pub(in crate::session) async fn read_of_subject(
        &self,
        locator: Locator,
        kinds: Option<BindingKinds>,
    ) -> Result<Option<BindingRow>, StoreError> {
        if !kinds.is_some_and(|kinds| kinds.of_subjects) {
            return Ok(None);
        }
        let key = name::subject_binding_key(locator);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        envelope::decode(&key, &bytes).map(Some)
    }

    /// The user of a session: the user of its subject, or else the user of its unionid. The two are
    /// never mixed.
    pub(in crate::session) async fn user_of(
        &self,
        row: &SubjectRow,
        of_subject: Option<BindingRow>,
        kinds: Option<BindingKinds>,
    ) -> Result<Option<User>, StoreError> {
        let has_unionids = kinds.is_some_and(|kinds| kinds.of_unionids);
        let binding = match (of_subject, row.unionid()) {
            (Some(binding), _) => Some(binding.require_person(&PersonField::from(&row.subject()))?),
            (None, Some(unionid)) if has_unionids => self.read(&PersonId::UnionId(unionid.clone())).await?,
            (None, _) => None,
        };
        Ok(binding.map(UserBinding::try_from).transpose()?.map(|binding| binding.user))
    }
}
