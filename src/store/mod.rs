//! Rows of bytes that outlive the process: the few atomic steps that sessions are made of.
//!
//! A row has a key, a value and an end. Each step touches one row, or the one log, and is atomic;
//! an answer is given only once the step is as durable as the engine was configured to make it.
//! Writes of several rows may be asked for in their order, which spares an engine that can make
//! them at once a wait for each. What the bytes mean is left to `session`, `login` and `throttle`.
//! A store that does not answer is an error, never an empty answer.

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
    /// A person across apps: which subjects they are.
    UnionId,
    /// What was revoked for whole apps.
    Revocation,
    /// A login code that some node exchanges.
    Code,
    /// A sign-in that a browser began.
    SignIn,
    /// A person, with the block and the binding.
    Person,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 6] =
        [Self::Subject, Self::UnionId, Self::Revocation, Self::Code, Self::SignIn, Self::Person];

    /// The letter that keys of the space begin with.
    pub const fn letter(self) -> char {
        match self {
            Self::Subject => 's',
            Self::UnionId => 'u',
            Self::Revocation => 'r',
            Self::Code => 'c',
            Self::SignIn => 'i',
            Self::Person => 'p',
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

/// A row to write, where another or none is known to stand.
#[derive(Clone)]
pub struct Write {
    /// Which row.
    pub key: Key,
    /// What must stand there; `None` where nothing may.
    pub expected: Option<Bytes>,
    /// What is to stand there.
    pub value: Bytes,
    /// For how long.
    pub ttl: Duration,
}

/// Why a step was not made, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer, or a connection that broke: the step may have been made, or not.
    #[error("the store does not answer: {0}")]
    Unavailable(Arc<str>),
    /// Too many steps are under way; this one was not begun.
    #[error("too many operations under way")]
    Busy,
    /// The step was made, but not in time as durably as configured.
    #[error("not replicated in time: {acknowledged} of {wanted}")]
    NotReplicated {
        /// How many have it.
        acknowledged: u32,
        /// How many should.
        wanted: u32,
    },
    /// What the store holds cannot be what was put there.
    #[error("the store is damaged: {0}")]
    Damaged(Arc<str>),
    /// The value is longer than [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes is too long")]
    TooLong(usize),
}

/// Entries of the log after some number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntries {
    /// All of them, oldest first, and the number of the last one of the log.
    All {
        /// The entries.
        entries: Vec<Bytes>,
        /// Number of the log's last entry; where to go on.
        last: u64,
    },
    /// Some are gone: the reader must assume anything.
    Gap {
        /// Number of the log's last entry; where to go on.
        last: u64,
    },
}

/// Some rows of a space, and where the next ones are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPage {
    /// The rows, in no order. A row may come twice in a scan.
    pub rows: Vec<(Key, Bytes)>,
    /// Where the scan goes on; `None` at its end.
    pub next: Option<ScanCursor>,
}

/// A place in a scan, as the engine that gave it understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor(Bytes);

impl ScanCursor {
    /// Makes a cursor of what an engine wants to know when the scan goes on.
    pub fn new(place: impl Into<Bytes>) -> Self {
        Self(place.into())
    }

    /// What the engine wanted to know.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Rows of bytes with atomic steps. Every implementation passes `tests/it/store/contract.rs`.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads a row; `None` where there is none, or its time is over.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Writes a row, whatever stood there.
    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError>;

    /// Writes a row where there is none; whether it did.
    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError>;

    /// Writes a row that still says `expected`; whether it did.
    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError>;

    /// As [`Store::put_if_absent`] or [`Store::compare_and_set`]; whether it did.
    async fn write(&self, write: Write) -> Result<bool, StoreError> {
        let Write { key, expected, value, ttl } = write;
        match expected {
            Some(expected) => self.compare_and_set(&key, &expected, value, ttl).await,
            None => self.put_if_absent(&key, value, ttl).await,
        }
    }

    /// Makes these writes in their order, up to the first that finds another row than it expects;
    /// whether it made all. No write is there without those before it. After an error some may be
    /// there, or none.
    async fn write_in_order(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        for write in writes {
            if !self.write(write).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes a row that still says `expected`; whether it did.
    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError>;

    /// Reads some rows of a space: about `limit` at most, and none does not mean that the scan is
    /// over. A row that stands from the first page to the last is on one of them; one that is
    /// written or removed meanwhile may be.
    async fn scan(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError>;

    /// Appends to the log, and gives the entry's number, the first one's being 1. Wakes
    /// [`Store::log_moved`] of every node.
    async fn append(&self, entry: Bytes, ttl: Duration) -> Result<u64, StoreError>;

    /// The log's entries after number `after`. At most 1000 at once: more are a gap.
    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError>;

    /// Ends when the log may have moved: a hint, which may be lost, and never comes where nobody
    /// else writes.
    async fn log_moved(&self);

    /// Asks the store for a sign of life.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Rates counted in the store, where several nodes share it.
    fn shared_rates(&self) -> Option<&dyn SharedRates>;

    /// Whether other nodes write to it.
    fn is_shared(&self) -> bool {
        self.shared_rates().is_some()
    }
}

/// A steady rate with room for a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRate {
    /// Time for one.
    pub every: Duration,
    /// How many at once after a quiet time.
    pub burst: u32,
}

/// Rates that all nodes count together, by the store's own clock.
#[async_trait]
pub trait SharedRates: Send + Sync {
    /// Takes one from the bucket of this name, or says how long until there is one.
    async fn acquire(&self, bucket: &[u8; 16], rate: SharedRate) -> Result<Result<(), Duration>, StoreError>;
}

/// Opens the store that the configuration names; `None` when a finding says why it cannot be.
///
/// The embedded engine opens its file and locks it. The Redis engine connects when it is first
/// asked, on the runtime of whoever asks: a gateway starts without its Redis, and says that it is
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
                    findings.error("store.embedded", error.to_string());
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

/// Finds fault with the section without opening anything: for `menshen check`.
pub fn check(config: &config::Store, metrics: &Metrics, findings: &mut Findings) {
    if config.engine == config::StoreEngine::Redis {
        Redis::build(&config.redis, metrics, findings);
    }
}

/// Where sessions are kept, for people: the file, or the servers without anything secret.
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
    config.file.clone().unwrap_or_else(|| data_dir.join("sessions.redb"))
}

/// A store that is not there and answers nothing: what a configuration is checked with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    /// Whether the one in its place is shared.
    pub is_shared: bool,
}

/// How long until `end`, for a row's time; at least one millisecond, since a row of no time would
/// never be seen.
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
