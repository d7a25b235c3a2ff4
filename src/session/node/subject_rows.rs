//! Reads and writes the rows of subjects.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::session::row::envelope::{self, damaged};
use crate::session::row::limits::SessionLimits;
use crate::session::row::name::{self, Locator};
use crate::session::row::subject::SubjectRow;
use crate::store::{self, Store, StoreError, Write};

/// The rows of subjects in the store.
pub(in crate::session) struct SubjectRows {
    store: Arc<dyn Store>,
}

/// A subject's row, with the bytes it was read from.
pub(in crate::session) struct StoredSubject {
    bytes: Bytes,
    pub(in crate::session) row: SubjectRow,
}

impl SubjectRows {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Reads a row, and checks that it stands under its own key.
    pub(in crate::session) async fn read(
        &self,
        locator: Locator,
    ) -> Result<Option<StoredSubject>, StoreError> {
        let key = name::subject_key(locator);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        let row: SubjectRow = envelope::decode(&key, &bytes)?;
        if name::locator(&row.subject()) != locator {
            return Err(damaged("a row is of another subject"));
        }
        Ok(Some(StoredSubject { bytes, row }))
    }

    /// Replaces `before` by a row, or removes it if the row is empty; `false` if another writer was
    /// faster.
    pub(in crate::session) async fn replace(
        &self,
        locator: Locator,
        before: Option<&StoredSubject>,
        row: &SubjectRow,
        limits: &SessionLimits,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if row.is_empty() {
            return match before {
                Some(before) => self.remove(locator, before).await,
                None => Ok(true),
            };
        }
        self.store.write(replacement(locator, before, row, limits, now)?).await
    }

    /// Removes a row; `false` if another writer was faster.
    pub(in crate::session) async fn remove(
        &self,
        locator: Locator,
        before: &StoredSubject,
    ) -> Result<bool, StoreError> {
        self.store.compare_and_delete(&name::subject_key(locator), &before.bytes).await
    }

    /// Removes a row that cannot be read; `false` if another writer was faster.
    pub(in crate::session) async fn remove_damaged(&self, locator: Locator) -> Result<bool, StoreError> {
        let key = name::subject_key(locator);
        match self.store.get(&key).await? {
            Some(bytes) => self.store.compare_and_delete(&key, &bytes).await,
            None => Ok(true),
        }
    }
}

/// The write that replaces `before` by a row.
pub(in crate::session) fn replacement(
    locator: Locator,
    before: Option<&StoredSubject>,
    row: &SubjectRow,
    limits: &SessionLimits,
    now: Timestamp,
) -> Result<Write, StoreError> {
    let key = name::subject_key(locator);
    let value = envelope::encode(&key, row)?;
    let ttl = store::ttl_until(limits.row_end(row.ends_at(limits)), now);
    Ok(Write { key, expected: before.map(|before| before.bytes.clone()), value, ttl })
}
