//! Test support: an embedded store that a test can switch off, delay, or declare to be shared.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::RwLock;

use super::{Key, LogEntries, ScanCursor, ScanPage, SharedRates, Space, Store, StoreError};
use crate::clock::Clock;
use crate::config::{self, Findings};
use crate::telemetry::metrics::Metrics;

/// An embedded store that a test controls.
#[derive(Debug)]
pub(crate) struct SwitchedStore {
    inner: Arc<dyn Store>,
    is_shared: AtomicBool,
    is_away: AtomicBool,
    /// How many more steps succeed before the store goes away.
    steps_left: AtomicU64,
    /// Whether the result of a read waits at the gate.
    pub(crate) is_gated: AtomicBool,
    /// While a test holds it for writing, results of reads wait.
    pub(crate) gate: RwLock<()>,
    /// Reads that reached the gate.
    pub(crate) kept_back: AtomicU32,
    /// Reads of subjects' rows.
    pub(crate) reads: AtomicU32,
}

impl SwitchedStore {
    pub(crate) fn open(folder: &Path, clock: Arc<dyn Clock>) -> Arc<Self> {
        let mut findings = Findings::default();
        let metrics = Metrics::new().unwrap();
        let inner = super::open(&config::Store::default(), folder, clock, &metrics, &mut findings);
        Arc::new(Self {
            inner: inner.unwrap_or_else(|| panic!("{findings:?}")),
            is_shared: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            steps_left: AtomicU64::new(u64::MAX),
            is_gated: AtomicBool::new(false),
            gate: RwLock::default(),
            kept_back: AtomicU32::new(0),
            reads: AtomicU32::new(0),
        })
    }

    pub(crate) fn share(&self) {
        self.is_shared.store(true, Ordering::SeqCst);
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
        self.steps_left.store(u64::MAX, Ordering::SeqCst);
    }

    /// Makes the store fail after this many steps.
    pub(crate) fn set_away_after(&self, steps: u64) {
        self.steps_left.store(steps, Ordering::SeqCst);
    }

    /// Returns the row of a code, even while the store is away.
    pub(crate) async fn dump(&self, key: &Key) -> Option<Bytes> {
        assert_eq!(key.space, Space::Code);
        self.inner.get(key).await.unwrap()
    }

    fn step(&self) -> Result<&dyn Store, StoreError> {
        let left =
            self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() || self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("switched off".into()));
        }
        Ok(&*self.inner)
    }
}

#[async_trait]
impl Store for SwitchedStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        if key.space == Space::Subject {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        let row = self.step()?.get(key).await;
        if self.is_gated.load(Ordering::SeqCst) {
            self.kept_back.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.read().await);
        }
        row
    }

    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        self.step()?.put(key, value, ttl).await
    }

    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.step()?.put_if_absent(key, value, ttl).await
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.step()?.compare_and_set(key, expected, value, ttl).await
    }

    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError> {
        self.step()?.compare_and_delete(key, expected).await
    }

    async fn scan(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        self.step()?.scan(space, from, limit).await
    }

    async fn append(&self, entry: Bytes, ttl: Duration) -> Result<u64, StoreError> {
        self.step()?.append(entry, ttl).await
    }

    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError> {
        self.step()?.log_after(after).await
    }

    async fn log_moved(&self) {
        self.inner.log_moved().await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.step()?.ping().await
    }

    async fn reclaim(&self) -> Result<(), StoreError> {
        self.step()?.reclaim().await
    }

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        None
    }

    fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::SeqCst)
    }
}
