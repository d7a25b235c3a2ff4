//! Reads and writes the rows of unionids.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::identity::{Subject, UnionId};
use crate::session::row::envelope;
use crate::session::row::limits::SessionLimits;
use crate::session::row::name;
use crate::session::row::unionid::UnionIdRow;
use crate::store::{self, Store, StoreError, Write};

/// The rows of unionids in the store.
pub(in crate::session) struct UnionIdRows {
    store: Arc<dyn Store>,
}

impl UnionIdRows {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The subjects that a unionid has or had, by app.
    pub(in crate::session) async fn subjects(&self, unionid: &UnionId) -> Result<Vec<Subject>, StoreError> {
        let Some(bytes) = self.store.get(&name::unionid_key(unionid)).await? else { return Ok(Vec::new()) };
        Ok(UnionIdRow::decode(unionid, &bytes)?.subjects())
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
            Some(bytes) => UnionIdRow::decode(unionid, bytes)?,
            None => UnionIdRow::new(unionid),
        };
        if row.lists(subject, sessions_end) {
            return Ok(None);
        }
        row.add(subject, sessions_end.plus(limits.membership_slack()), now);
        let value = envelope::encode(&key, &row)?;
        let ttl = store::ttl_until(limits.row_end(row.ends_at().unwrap_or(now)), now);
        Ok(Some(Write { key, expected: before, value, ttl }))
    }
}
