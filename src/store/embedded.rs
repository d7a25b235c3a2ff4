//! The embedded engine: one redb file, and one thread that writes it and groups waiting steps into
//! one commit.
//!
//! A commit contains the steps that arrived while the commit before it was written to disk. It does
//! not wait for more steps: a single caller waits for one `fsync`, and many callers share one.
//! Reads see the last commit and do not wait for the next one.

mod backup;
mod compaction;
mod fault;
mod file;
mod gauge;
mod row;
mod step;
mod upkeep;
mod writer;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::fault::Fault;
pub use self::file::FileError;
use self::gauge::Gauges;
use self::row::name_of;
use self::step::Tables;
pub use self::upkeep::{Compacted, ExportError, Verified, compact, export, verify};
use self::writer::{Job, Opened, Pending, Reclaims, Writer, guarded};
use super::operation::Operation;
use super::{
    BackupError, Key, LogEntries, MAX_VALUE_BYTES, ScanCursor, ScanPage, SharedRates, Space, Store,
    StoreError, Write,
};
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::panics;

/// Most steps that wait for the writer. One more fails with [`StoreError::Busy`].
const QUEUE: usize = 4096;
/// Most bytes of values that wait for the writer. More fail with [`StoreError::Busy`].
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// The embedded engine. Dropping it finishes the queued steps and then closes the file.
pub struct Embedded {
    opened: Arc<Opened>,
    clock: Arc<dyn Clock>,
    gauges: Gauges,
    queue: Option<SyncSender<Box<dyn Job>>>,
    /// How many more bytes the queue accepts.
    room: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
    reclaims: Arc<Reclaims>,
}

impl Embedded {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// [`FileError`]: the file cannot be used. The message says what the operator can do.
    pub fn open(
        path: &Path,
        config: &config::EmbeddedStore,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, FileError> {
        let cache_bytes = config.cache.as_usize();
        let database = file::open(path, cache_bytes, &*clock)?;
        let opened = Arc::new(RwLock::new(Ok(Arc::new(database))));
        let (queue, queued) = sync_channel(QUEUE);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let reclaims = Arc::<Reclaims>::default();
        let writer = Writer {
            path: path.to_owned(),
            cache_bytes,
            clock: Arc::clone(&clock),
            opened: Arc::clone(&opened),
            commit_duration: metrics.store_commit_duration.clone(),
            reclaims: Arc::clone(&reclaims),
            compacting: RefCell::default(),
            removed_bytes: Cell::default(),
            owes_compaction: Cell::default(),
            rests_until: Cell::default(),
        };
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&queued))
            .map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        Ok(Self {
            opened,
            clock,
            gauges: Gauges::new(metrics),
            queue: Some(queue),
            room,
            writer: Some(writer),
            reclaims,
        })
    }

    /// Sends a step to the writer and waits until it is on disk.
    async fn change<T: Send + 'static>(
        &self,
        operation: Operation,
        bytes: usize,
        step: impl FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let began = self.clock.instant();
        let (waiting, answered) = oneshot::channel();
        let queued = self.reserve_room(bytes).and_then(|room| {
            let step = move |tables: &mut Tables<'_>| {
                let _room = room;
                step(tables)
            };
            self.enqueue(Box::new(Pending::new(step, waiting)))
        });
        let outcome = match queued {
            // No answer means that the writer's thread has ended. The step may have been made.
            Ok(()) => answered.await.unwrap_or_else(|_| Err(writer_gone())),
            Err(error) => Err(error),
        };
        self.gauges.observe(operation, self.clock.instant().saturating_duration_since(began), &outcome);
        outcome
    }

    fn reserve_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        let bytes = u32::try_from(bytes).map_err(|_| StoreError::TooLong(bytes))?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| StoreError::Busy)
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(writer_gone)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => writer_gone(),
        })
    }

    /// Reads the last commit on the caller's thread. The pages are usually in memory, so the read
    /// takes less time than passing it to another thread.
    fn read<T>(
        &self,
        operation: Operation,
        read: impl FnOnce(&Database, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let (began, now) = (self.clock.instant(), self.clock.now());
        let database = self.opened.read().clone();
        // The database is dropped inside `guarded`: if the writer has given it up, this read closes
        // it.
        let outcome = database.and_then(|database| guarded(move || read(&database, now)));
        self.gauges.observe(operation, self.clock.instant().saturating_duration_since(began), &outcome);
        outcome
    }

    /// Reads the last commit on a thread that may block.
    async fn read_elsewhere<T: Send + 'static>(
        &self,
        operation: Operation,
        read: impl FnOnce(&Database, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let began = self.clock.instant();
        let (opened, now) = (Arc::clone(&self.opened), self.clock.now());
        let reading = tokio::task::spawn_blocking(move || {
            let database = opened.read().clone()?;
            guarded(move || read(&database, now))
        });
        let outcome =
            reading.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the read was cut short".into())));
        self.gauges.observe(operation, self.clock.instant().saturating_duration_since(began), &outcome);
        outcome
    }

    fn end(&self, ttl: Duration) -> Timestamp {
        self.clock.now().plus(ttl)
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let name = name_of(key);
        self.read(Operation::Get, |database, now| step::get(database, &name, now))
    }

    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let (name, end) = (name_of(key), self.end(ttl));
        check_length(&value)?;
        self.change(Operation::Put, value.len(), move |tables| tables.put(&name, &value, end)).await
    }

    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let (name, end) = (name_of(key), self.end(ttl));
        check_length(&value)?;
        self.change(Operation::PutIfAbsent, value.len(), move |tables| {
            tables.put_if_absent(&name, &value, end)
        })
        .await
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let (name, end, expected) = (name_of(key), self.end(ttl), Bytes::copy_from_slice(expected));
        check_length(&value)?;
        let bytes = value.len() + expected.len();
        self.change(Operation::CompareAndSet, bytes, move |tables| {
            tables.compare_and_set(&name, &expected, &value, end)
        })
        .await
    }

    /// Makes the writes in one transaction: they reach the disk together, after one wait.
    async fn write_in_order(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        let mut bytes = 0;
        for Write { value, expected, .. } in &writes {
            check_length(value)?;
            bytes += value.len() + expected.as_ref().map_or(0, Bytes::len);
        }
        let now = self.clock.now();
        self.change(Operation::WriteInOrder, bytes, move |tables| {
            for Write { key, expected, value, ttl } in writes {
                if !tables.write_if(&name_of(&key), expected.as_deref(), &value, now.plus(ttl))? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError> {
        let (name, expected) = (name_of(key), Bytes::copy_from_slice(expected));
        let bytes = expected.len();
        self.change(Operation::CompareAndDelete, bytes, move |tables| {
            tables.compare_and_delete(&name, &expected)
        })
        .await
    }

    async fn scan(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        let after = match from {
            Some(cursor) => Some(cursor.as_bytes().try_into().map_err(|_| foreign_cursor())?),
            None => None,
        };
        self.read_elsewhere(Operation::Scan, move |database, now| {
            step::scan(database, space, after, limit, now)
        })
        .await
    }

    async fn append(&self, entry: Bytes, ttl: Duration) -> Result<u64, StoreError> {
        let end = self.end(ttl);
        check_length(&entry)?;
        self.change(Operation::Append, entry.len(), move |tables| tables.append(&entry, end)).await
    }

    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError> {
        self.read_elsewhere(Operation::LogAfter, move |database, now| step::log_after(database, after, now))
            .await
    }

    async fn log_moved(&self) {
        std::future::pending().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.change(Operation::Ping, 0, |_| Ok(())).await
    }

    async fn reclaim(&self) -> Result<(), StoreError> {
        let (waiting, answered) = oneshot::channel();
        self.reclaims.lock().push(waiting);
        // Wakes the writer.
        self.ping().await?;
        answered.await.unwrap_or_else(|_| Err(writer_gone()))
    }

    fn back_up(&self, to: &Path) -> Result<u64, BackupError> {
        let database = self.opened.read().clone()?;
        let written = backup::write(&database, to, self.clock.now());
        // If the writer has given the file up, this closes it, and redb can panic on a damaged
        // file.
        let _ = panics::catch(|| drop(database));
        written
    }

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        None
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked cannot finish more steps.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

fn foreign_cursor() -> StoreError {
    StoreError::Unavailable("the scan was begun on another store".into())
}

fn check_length(value: &Bytes) -> Result<(), StoreError> {
    if value.len() > MAX_VALUE_BYTES { Err(StoreError::TooLong(value.len())) } else { Ok(()) }
}

fn writer_gone() -> StoreError {
    StoreError::Unavailable("the writer has ended".into())
}

#[cfg(test)]
mod tests;
