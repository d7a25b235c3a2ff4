//! Reads and writes the rows of unionids.

use std::sync::Arc;

use bytes::Bytes;

use super::attempts::Attempts;
use super::keyring::StoreKeyring;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::identity::{Subject, UnionId};
use crate::session::row::limits::SessionLimits;
use crate::session::row::name;
use crate::session::row::unionid::UnionIdRow;
use crate::store::{self, Store, StoreError, Write};

/// The rows of unionids in the store.
pub(in crate::session) struct UnionIdRows {
    store: Arc<dyn Store>,
    keyring: Arc<StoreKeyring>,
}

impl UnionIdRows {
    pub(super) fn new(store: Arc<dyn Store>, keyring: Arc<StoreKeyring>) -> Self {
        Self { store, keyring }
    }

    /// The subjects that a unionid has or had, by app.
    pub(in crate::session) async fn subjects(&self, unionid: &UnionId) -> Result<Vec<Subject>, StoreError> {
        let Some(bytes) = self.store.get(&name::unionid_key(unionid)).await? else { return Ok(Vec::new()) };
        Ok(self.decode(unionid, &bytes).await?.subjects())
    }

    async fn decode(&self, unionid: &UnionId, bytes: &Bytes) -> Result<UnionIdRow, StoreError> {
        let row: UnionIdRow = self.keyring.decode(&name::unionid_key(unionid), bytes).await?;
        row.require_unionid(unionid)
    }

    /// Removes a row, even if it cannot be read; whether there was one.
    pub(in crate::session) async fn remove(
        &self,
        unionid: &UnionId,
        entropy: &dyn Entropy,
    ) -> Result<bool, StoreError> {
        let key = name::unionid_key(unionid);
        let mut attempts = Attempts::default();
        let mut had_row = false;
        while let Some(bytes) = self.store.get(&key).await? {
            had_row = true;
            if self.store.compare_and_delete(&key, &bytes).await? {
                break;
            }
            attempts.wait(entropy).await?;
        }
        Ok(had_row)
    }

    /// The write that lists a subject until its sessions end at the latest; `None` if the row lists
    /// it long enough.
    pub(in crate::session) async fn write_for(
        &self,
        unionid: &UnionId,
        subject: &Subject,
        sessions_end: Timestamp,
        limits: &SessionLimits,
        now: Timestamp,
    ) -> Result<Option<Write>, StoreError> {
        let key = name::unionid_key(unionid);
        let before = self.store.get(&key).await?;
        let mut row = match &before {
            Some(bytes) => self.decode(unionid, bytes).await?,
            None => UnionIdRow::new(unionid),
        };
        if row.lists(subject, sessions_end) {
            return Ok(None);
        }
        row.add(subject, sessions_end.plus(limits.membership_slack()), now);
        let value = self.keyring.encode(&key, &row).await?;
        let ttl = store::ttl_until(limits.row_end(row.ends_at().unwrap_or(now)), now);
        Ok(Some(Write { key, expected: before, value, ttl }))
    }
}
