//! The embedded store, with a switch and a gate before its answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::RwLock;

use crate::store::{Key, LogEntries, SharedRates, Space, Store, StoreError};

use super::*;

#[derive(Debug)]
pub(super) struct Gated {
    pub(super) store: Arc<dyn Store>,
    pub(super) is_away: AtomicBool,
    /// Whether what is read from here on passes the gate.
    pub(super) is_gated: AtomicBool,
    /// Whoever holds it keeps back what was read.
    pub(super) gate: RwLock<()>,
    /// Reads that came to the gate.
    pub(super) kept_back: AtomicU32,
    /// Rows of subjects that were read.
    pub(super) reads: AtomicU32,
}

impl Gated {
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let mut findings = Findings::default();
        let metrics = Metrics::new().unwrap();
        let store = crate::store::open(&config::Store::default(), folder, clock, &metrics, &mut findings);
        let store = store.unwrap_or_else(|| panic!("{findings:?}"));
        Self {
            store,
            is_away: AtomicBool::default(),
            is_gated: AtomicBool::default(),
            gate: RwLock::default(),
            kept_back: AtomicU32::default(),
            reads: AtomicU32::default(),
        }
    }

    fn ask(&self) -> Result<&dyn Store, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("switched off".into()));
        }
        Ok(&*self.store)
    }
}

#[async_trait]
impl Store for Gated {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        if key.space == Space::Subject {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        let row = self.ask()?.get(key).await;
        if self.is_gated.load(Ordering::SeqCst) {
            self.kept_back.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.read().await);
        }
        row
    }

    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        self.ask()?.put(key, value, ttl).await
    }

    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.ask()?.put_if_absent(key, value, ttl).await
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.ask()?.compare_and_set(key, expected, value, ttl).await
    }

    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError> {
        self.ask()?.compare_and_delete(key, expected).await
    }

    async fn take(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.ask()?.take(key).await
    }

    async fn increment(&self, key: &Key, ttl: Duration) -> Result<u64, StoreError> {
        self.ask()?.increment(key, ttl).await
    }

    async fn append(&self, entry: Bytes, ttl: Duration) -> Result<u64, StoreError> {
        self.ask()?.append(entry, ttl).await
    }

    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError> {
        self.ask()?.log_after(after).await
    }

    async fn log_moved(&self) {
        self.store.log_moved().await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask()?.ping().await
    }

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        self.store.shared_rates()
    }
}
