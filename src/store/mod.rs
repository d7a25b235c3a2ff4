//! Rows of bytes that outlive the process, and the atomic steps on them.
//!
//! A row has a key, a value and an end. Each step is atomic and touches one row, or the one log. A
//! step returns only when it is as durable as the engine is configured to make it. A caller can
//! pass several writes in their order, so that an engine that makes them together waits only once.
//! `session`, `app_token`, `sign_in` and `throttle` decide what the bytes mean. A store that does
//! not answer is an error, never an empty answer.

mod backup;
mod embedded;
mod health;
mod operation;
mod redis;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::backup::BackupError;
pub use self::embedded::{Compacted, Embedded, ExportError, FileError, Verified};
pub use self::embedded::{compact, export, verify};
pub use self::health::StoreHealth;
pub use self::redis::Redis;
use crate::clock::{Clock, Timestamp};
use crate::config::{self, Findings};
use crate::telemetry::metrics::Metrics;

/// Longest value of a row, in bytes: a record of 64 sessions takes a quarter of it.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// What kind of row a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// A person in one app, with their sessions.
    Subject,
    /// A person across apps, with the subjects that belong to the person.
    UnionId,
    /// What was revoked for whole apps.
    Revocation,
    /// A login code that a node exchanges.
    Code,
    /// A sign-in that a browser began.
    SignIn,
    /// A person, with the block and the binding.
    Person,
    /// The key of the store itself, sealed.
    Key,
    /// An app's access token, sealed, or the lease of the gateway that fetches it.
    AppToken,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 8] = [
        Self::Subject,
        Self::UnionId,
        Self::Revocation,
        Self::Code,
        Self::SignIn,
        Self::Person,
        Self::Key,
        Self::AppToken,
    ];

    /// The first letter of the keys of the space.
    pub const fn letter(self) -> char {
        match self {
            Self::Subject => 's',
            Self::UnionId => 'u',
            Self::Revocation => 'r',
            Self::Code => 'c',
            Self::SignIn => 'i',
            Self::Person => 'p',
            Self::Key => 'k',
            Self::AppToken => 'a',
        }
    }
}

/// Names a row. The name is a hash or a constant, never a secret or a person's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What kind of row it is.
    pub space: Space,
    /// Which one.
    pub name: [u8; 16],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.space.letter(), u128::from_be_bytes(self.name))
    }
}

/// A row to write if its present value is the expected one.
#[derive(Clone)]
pub struct Write {
    /// Which row.
    pub key: Key,
    /// The value that the row must have; `None` if there must be no row.
    pub expected: Option<Bytes>,
    /// The new value.
    pub value: Bytes,
    /// How long the row lives.
    pub ttl: Duration,
}

/// Why a step failed. Only some errors mean that it was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer, or the connection broke. The step may have been made.
    #[error("the store does not answer: {0}")]
    Unavailable(Arc<str>),
    /// Too many steps are under way. This step was not begun.
    #[error("too many operations under way")]
    Busy,
    /// The step was made, but too few servers confirmed it in time.
    #[error("not replicated in time: {acknowledged} of {wanted}")]
    NotReplicated {
        /// How many confirmed it.
        acknowledged: u32,
        /// How many must confirm it.
        wanted: u32,
    },
    /// The content of the store is not what the gateway wrote.
    #[error("the store is damaged: {0}")]
    Damaged(Arc<str>),
    /// The value is longer than [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes is too long")]
    TooLong(usize),
}

/// Entries of the log after a given number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntries {
    /// All of them, oldest first.
    All {
        /// The entries.
        entries: Vec<Bytes>,
        /// Number of the log's last entry. The next read continues after it.
        last: u64,
    },
    /// Some entries are missing: the reader must assume that anything changed.
    Gap {
        /// Number of the log's last entry. The next read continues after it.
        last: u64,
    },
}

/// Some rows of a space, and where the scan continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// The rows, in no order. A scan can return a row twice.
    pub rows: Vec<(Key, Bytes)>,
    /// Where the scan continues; `None` at its end.
    pub next: Option<ScanCursor>,
}

/// A position in a scan. Only the engine that returned it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor(Bytes);

impl ScanCursor {
    /// Makes a cursor from an engine's own form of the position.
    pub fn new(place: impl Into<Bytes>) -> Self {
        Self(place.into())
    }

    /// The engine's own form of the position.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Rows of bytes with atomic steps. Every implementation passes `tests/it/store/contract.rs`.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads a row; `None` if there is none or it has ended.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Writes a row and replaces any present value.
    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError>;

    /// Writes a row if there is none. Returns whether it did.
    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError>;

    /// Writes a row if its value is still `expected`. Returns whether it did.
    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError>;

    /// Makes the write with [`Store::put_if_absent`] or [`Store::compare_and_set`]. Returns whether
    /// it did.
    async fn write(&self, write: Write) -> Result<bool, StoreError> {
        let Write { key, expected, value, ttl } = write;
        match expected {
            Some(expected) => self.compare_and_set(&key, &expected, value, ttl).await,
            None => self.put_if_absent(&key, value, ttl).await,
        }
    }

    /// Makes these writes in their order and stops at the first whose row is not the expected one.
    /// Returns whether it made all of them. A write is never in the store without the writes before
    /// it. After an error the store may have none, some or all of them.
    async fn write_in_order(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        for write in writes {
            if !self.write(write).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes a row if its value is still `expected`. Returns whether it did.
    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError>;

    /// Reads some rows of a space, about `limit` at most. An empty page is not the end of the scan.
    /// A row that exists from the first page to the last is on one of them. A row that is written
    /// or removed during the scan may be missing.
    async fn scan(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError>;

    /// Appends to the log and returns the entry's number. The first entry has number 1. Wakes
    /// [`Store::log_moved`] on every node.
    async fn append(&self, entry: Bytes, ttl: Duration) -> Result<u64, StoreError>;

    /// Returns the log's entries after number `after`. More than 1000 entries are a gap.
    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError>;

    /// Returns when the log may have new entries. This is a hint and can be lost. If no other node
    /// writes to the store, this never returns.
    async fn log_moved(&self);

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Whether a gateway of the previous version wrote its sign of life within the last minute.
    async fn has_older_peer(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Gives back the room of rows that are gone, and their bytes with it, if the engine keeps
    /// them. Returns when that is done.
    async fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Writes a copy to a new file, and returns how many bytes it has. It blocks for as long as the
    /// disk needs; other operations do not wait for it.
    ///
    /// # Errors
    /// [`BackupError`], by variant. Nothing is overwritten.
    fn back_up(&self, _to: &Path) -> Result<u64, BackupError> {
        Err(BackupError::NotAFile)
    }

    /// Rates that the store counts for all nodes; `None` if nodes do not share it.
    fn shared_rates(&self) -> Option<&dyn SharedRates>;

    /// Whether other nodes write to it.
    fn is_shared(&self) -> bool {
        self.shared_rates().is_some()
    }
}

/// A steady rate with room for a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRate {
    /// Time between two acquisitions at the steady rate.
    pub every: Duration,
    /// How many acquisitions succeed at once after a pause.
    pub burst: u32,
}

/// Rates that all nodes count together, by the store's own clock.
#[async_trait]
pub trait SharedRates: Send + Sync {
    /// Acquires one from the bucket of this name. The inner error is the time until one is free.
    async fn acquire(&self, bucket: &[u8; 16], rate: SharedRate) -> Result<Result<(), Duration>, StoreError>;

    /// Makes the bucket of this name as if nothing had been acquired from it.
    async fn reset(&self, bucket: &[u8; 16]) -> Result<(), StoreError>;
}

/// Opens the store that the configuration names; `None` if it cannot, and a finding says why.
///
/// The embedded engine opens its file and locks it. The Redis engine connects on its first
/// operation, in the caller's runtime: a gateway starts without its Redis, and reports that it is
/// not ready.
pub fn open(
    config: &config::Store,
    data_dir: &Path,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
    findings: &mut Findings,
) -> Option<Arc<dyn Store>> {
    match config.engine {
        config::StoreEngine::Embedded => {
            let path = embedded_path(&config.embedded, data_dir);
            match Embedded::open(&path, &config.embedded, clock, metrics) {
                Ok(store) => Some(Arc::new(store)),
                Err(error) => {
                    findings.error("store.embedded", error.to_string()).of_surroundings();
                    None
                }
            }
        }
        config::StoreEngine::Redis => {
            let store = Redis::build(&config.redis, metrics, findings)?;
            Some(Arc::new(store))
        }
    }
}

/// Checks the section without opening anything, for `menshen check`.
pub fn check(config: &config::Store, metrics: &Metrics, findings: &mut Findings) {
    if config.engine == config::StoreEngine::Redis {
        Redis::build(&config.redis, metrics, findings);
    }
}

/// Names the place of the sessions for the operator: the file, or the servers without secrets.
pub fn place(config: &config::Store, data_dir: &Path) -> String {
    match config.engine {
        config::StoreEngine::Embedded => {
            format!("the file {}", embedded_path(&config.embedded, data_dir).display())
        }
        config::StoreEngine::Redis => {
            let servers = match config.redis.topology {
                config::RedisTopology::Standalone => "the Redis at",
                config::RedisTopology::Sentinel => "the Redis of the sentinels at",
                config::RedisTopology::Cluster => "the Redis Cluster at",
            };
            format!("{servers} {}", config.redis.addresses.join(", "))
        }
    }
}

/// The file of the embedded engine.
pub fn embedded_path(config: &config::EmbeddedStore, data_dir: &Path) -> std::path::PathBuf {
    config.file.as_deref().map_or_else(|| data_dir.join("sessions.redb"), Path::to_owned)
}

/// A store that is never open and refuses every step. A configuration is checked with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    /// Whether the store that the configuration names is shared.
    pub is_shared: bool,
}

/// Returns the time until `end`, for the lifetime of a row. At least one millisecond: a row with no
/// lifetime is never visible.
pub fn ttl_until(end: Timestamp, now: Timestamp) -> Duration {
    end.since(now).max(Duration::from_millis(1))
}

#[async_trait]
impl Store for Closed {
    fn is_shared(&self) -> bool {
        self.is_shared
    }

    async fn get(&self, _: &Key) -> Result<Option<Bytes>, StoreError> {
        Err(closed())
    }

    async fn put(&self, _: &Key, _: Bytes, _: Duration) -> Result<(), StoreError> {
        Err(closed())
    }

    async fn put_if_absent(&self, _: &Key, _: Bytes, _: Duration) -> Result<bool, StoreError> {
        Err(closed())
    }

    async fn compare_and_set(&self, _: &Key, _: &[u8], _: Bytes, _: Duration) -> Result<bool, StoreError> {
        Err(closed())
    }

    async fn compare_and_delete(&self, _: &Key, _: &[u8]) -> Result<bool, StoreError> {
        Err(closed())
    }

    async fn scan(&self, _: Space, _: Option<&ScanCursor>, _: usize) -> Result<ScanPage, StoreError> {
        Err(closed())
    }

    async fn append(&self, _: Bytes, _: Duration) -> Result<u64, StoreError> {
        Err(closed())
    }

    async fn log_after(&self, _: u64) -> Result<LogEntries, StoreError> {
        Err(closed())
    }

    async fn log_moved(&self) {
        std::future::pending().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Err(closed())
    }

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        None
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("no store is open".into())
}
