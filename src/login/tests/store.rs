//! The embedded store, as nodes of a cluster would see it, and one that goes away when told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::ManualClock;
use crate::config::{self, Findings};
use crate::store::{self, Key, LogEntries, SharedRates, Space, Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// An embedded store with a switch.
#[derive(Debug)]
pub(super) struct Switch {
    inner: Arc<dyn Store>,
    is_shared: AtomicBool,
    is_away: AtomicBool,
    /// How many more steps succeed before the store goes away.
    steps_left: AtomicU64,
}

impl Switch {
    pub(super) fn open(folder: &Path, clock: &ManualClock) -> Arc<Self> {
        let (config, clock) = (config::Store::default(), Arc::new(clock.clone()));
        let mut findings = Findings::default();
        let inner = store::open(&config, folder, clock, &Metrics::new().unwrap(), &mut findings);
        Arc::new(Self {
            inner: inner.unwrap_or_else(|| panic!("{findings:?}")),
            is_shared: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            steps_left: AtomicU64::new(u64::MAX),
        })
    }

    pub(super) fn share(&self) {
        self.is_shared.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
        self.steps_left.store(u64::MAX, Ordering::SeqCst);
    }

    /// Goes away after so many steps.
    pub(super) fn set_away_after(&self, steps: u64) {
        self.steps_left.store(steps, Ordering::SeqCst);
    }

    /// What stands in the row of a code, where there is but one.
    pub(super) async fn dump(&self, key: &Key) -> Option<Bytes> {
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
impl Store for Switch {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.step()?.get(key).await
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

    async fn take(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.step()?.take(key).await
    }

    async fn increment(&self, key: &Key, ttl: Duration) -> Result<u64, StoreError> {
        self.step()?.increment(key, ttl).await
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

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        None
    }

    fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::SeqCst)
    }
}
