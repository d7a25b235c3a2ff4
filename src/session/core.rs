//! What all configurations of a gateway share, and the reading and writing of a subject's row.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::follow::Hearing;
use super::lease::Leases;
use super::limits::Limits;
use super::marks::Marks;
use super::metrics::SessionMetrics;
use super::name::{self, Locator};
use super::record::Record;
use super::row;
use crate::clock::{Clock, Timestamp};
use crate::entropy::{self, Entropy};
use crate::store::{self, Key, Store, StoreError, Write};
use crate::telemetry::metrics::Metrics;

/// What all configurations of a gateway share: the store, and what this node follows in it.
pub struct Core {
    pub(super) store: Arc<dyn Store>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) metrics: SessionMetrics,
    pub(super) leases: Leases,
    pub(super) hearing: Hearing,
    /// As last heard of; nothing where they were never read, or are known to be old.
    pub(super) marks: ArcSwapOption<Marks>,
    /// The newest that were ever read or made here, for a store that loses them.
    pub(super) remembered_marks: ArcSwapOption<Marks>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A subject's row, with the bytes it was read from.
pub(super) struct Row {
    bytes: Bytes,
    pub(super) record: Record,
}

/// How often a step is tried that somebody else was faster with.
pub(super) struct Attempts {
    left: u32,
}

impl Core {
    /// Follows sessions in this store.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            entropy,
            metrics: SessionMetrics::new(&metrics),
            leases: Leases::default(),
            hearing: Hearing::default(),
            marks: ArcSwapOption::empty(),
            remembered_marks: ArcSwapOption::empty(),
            clock,
        }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Moves when every verdict on this node must be made anew.
    pub fn epoch(&self) -> u64 {
        self.leases.epoch()
    }

    /// Reads a subject's row, and checks that it stands where it belongs.
    pub(super) async fn read(&self, locator: Locator) -> Result<Option<Row>, StoreError> {
        let key = name::row(locator);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        let record: Record = row::decode(&key, &bytes)?;
        if name::locator(&record.subject()) != locator {
            return Err(row::damaged("a row is of another subject"));
        }
        Ok(Some(Row { bytes, record }))
    }

    /// Reads a subject's row and then the marks, which so are at least as new as every session in it. Marks that were read
    /// before know less than a session which another node opened since, and would take it for one of a lost history.
    pub(super) async fn read_with_marks(
        &self,
        locator: Locator,
    ) -> Result<Option<(Row, Arc<Marks>)>, StoreError> {
        let Some(row) = self.read(locator).await? else { return Ok(None) };
        Ok(Some((row, self.current_marks().await?)))
    }

    /// Puts a record where `before` stood, and removes one that has nothing in it; `false` when something else stands
    /// there by now.
    pub(super) async fn replace(
        &self,
        locator: Locator,
        before: Option<&Row>,
        record: &Record,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if record.has_nothing() {
            return match before {
                Some(before) => self.remove(locator, before).await,
                None => Ok(true),
            };
        }
        self.store.write(replacement(locator, before, record, limits, now)?).await
    }

    /// Removes a row; `false` when something else stands there by now.
    pub(super) async fn remove(&self, locator: Locator, row: &Row) -> Result<bool, StoreError> {
        self.store.compare_and_delete(&name::row(locator), &row.bytes).await
    }

    /// Removes a row that nobody can read any more; `false` when something else stands there by now.
    pub(super) async fn remove_damaged(&self, key: &Key) -> Result<bool, StoreError> {
        match self.store.get(key).await? {
            Some(bytes) => self.store.compare_and_delete(key, &bytes).await,
            None => Ok(true),
        }
    }
}

/// What puts a record where `before` stood.
pub(super) fn replacement(
    locator: Locator,
    before: Option<&Row>,
    record: &Record,
    limits: &Limits,
    now: Timestamp,
) -> Result<Write, StoreError> {
    let key = name::row(locator);
    let value = row::encode(&key, record)?;
    let ttl = store::ttl_until(limits.row_end(record.end(limits)), now);
    Ok(Write { key, expected: before.map(|before| before.bytes.clone()), value, ttl })
}

impl Default for Attempts {
    fn default() -> Self {
        Self { left: 16 }
    }
}

impl Attempts {
    /// Waits for a moment, a longer one each time, or gives up.
    pub(super) async fn again(&mut self, core: &Core) -> Result<(), StoreError> {
        if self.left == 0 {
            return Err(StoreError::Busy);
        }
        self.left -= 1;
        let longest: u8 = 2 << (16 - self.left).min(5);
        // Without randomness all wait alike, which costs attempts and nothing else.
        let [random] = entropy::bytes::<1>(core.entropy.as_ref()).unwrap_or([u8::MAX]);
        tokio::time::sleep(Duration::from_millis(u64::from(random % longest))).await;
        Ok(())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("store", &self.store).finish_non_exhaustive()
    }
}
