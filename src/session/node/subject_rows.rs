//! Reads and writes the rows of subjects.

use std::sync::Arc;

use bytes::Bytes;

use super::keyring::StoreKeyring;
use crate::clock::Timestamp;
use crate::session::row::envelope::damaged;
use crate::session::row::limits::SessionLimits;
use crate::session::row::name::{self, Locator};
use crate::session::row::subject::SubjectRow;
use crate::store::{self, ScanCursor, Space, Store, StoreError, Write};

/// How many rows are read at once when all are.
const PAGE: usize = 500;

/// The rows of subjects in the store.
pub(in crate::session) struct SubjectRows {
    store: Arc<dyn Store>,
    keyring: Arc<StoreKeyring>,
}

/// A subject's row, with the bytes it was read from.
pub(in crate::session) struct StoredSubject {
    bytes: Bytes,
    pub(in crate::session) row: SubjectRow,
}

/// Some of the subjects with a row.
pub(in crate::session) struct SubjectPage {
    pub(in crate::session) rows: Vec<SubjectRow>,
    pub(in crate::session) unreadable: u64,
    pub(in crate::session) next: Option<ScanCursor>,
}

impl SubjectRows {
    pub(super) fn new(store: Arc<dyn Store>, keyring: Arc<StoreKeyring>) -> Self {
        Self { store, keyring }
    }

    /// Reads a row, and checks that it stands under its own key.
    pub(in crate::session) async fn read(
        &self,
        locator: Locator,
    ) -> Result<Option<StoredSubject>, StoreError> {
        let key = name::subject_key(locator);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        let row: SubjectRow = self.keyring.decode(&key, &bytes).await?;
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
        self.store.write(self.replacement(locator, before, row, limits, now).await?).await
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

    /// The write that replaces `before` by a row.
    pub(in crate::session) async fn replacement(
        &self,
        locator: Locator,
        before: Option<&StoredSubject>,
        row: &SubjectRow,
        limits: &SessionLimits,
        now: Timestamp,
    ) -> Result<Write, StoreError> {
        let key = name::subject_key(locator);
        let value = self.keyring.encode(&key, row).await?;
        let ttl = store::ttl_until(limits.row_end(row.ends_at(limits)), now);
        Ok(Write { key, expected: before.map(|before| before.bytes.clone()), value, ttl })
    }

    /// Some of the subjects with a row, from a place on. A row that cannot be read is counted: it
    /// may be of any person.
    pub(in crate::session) async fn page(
        &self,
        from: Option<&ScanCursor>,
    ) -> Result<SubjectPage, StoreError> {
        let page = self.store.scan(Space::Subject, from, PAGE).await?;
        let mut rows =
            SubjectPage { rows: Vec::with_capacity(page.rows.len()), unreadable: 0, next: page.next };
        for (key, bytes) in page.rows {
            match self.keyring.decode::<SubjectRow>(&key, &bytes).await {
                Ok(row) => rows.rows.push(row),
                Err(StoreError::Damaged(_)) => rows.unreadable += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }
}
