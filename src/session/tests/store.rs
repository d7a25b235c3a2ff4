//! A store that nodes of one process can share, and that fails on demand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::store::{
    Key, LogEntries, ScanCursor, ScanPage, SharedRate, SharedRates, Space, Store, StoreError,
};

#[derive(Debug)]
pub(super) struct TestStore {
    clock: ManualClock,
    is_shared: bool,
    pub(super) rows: Mutex<HashMap<Key, (Bytes, Timestamp)>>,
    log: Mutex<Vec<Bytes>>,
    pub(super) fails: AtomicBool,
    pub(super) append_fails: AtomicBool,
    pub(super) ping_fails: AtomicBool,
    /// Writes of rows are made, but their answers are lost.
    pub(super) writes_fail: AtomicBool,
    /// How many writes of rows are answered before that happens.
    answers_left: AtomicU64,
    /// If not 0, the delay of answers is drawn from it.
    jitter: AtomicU64,
    pub(super) log_is_gone: AtomicBool,
    pub(super) writes: AtomicU64,
    pub(super) bindings_read: AtomicU64,
    /// Whether a gateway of the previous version runs.
    pub(super) has_older_peer: AtomicBool,
}

impl TestStore {
    pub(super) fn new(clock: ManualClock, is_shared: bool) -> Self {
        Self {
            clock,
            is_shared,
            rows: Mutex::default(),
            log: Mutex::default(),
            fails: AtomicBool::new(false),
            append_fails: AtomicBool::new(false),
            ping_fails: AtomicBool::new(false),
            writes_fail: AtomicBool::new(false),
            answers_left: AtomicU64::new(u64::MAX),
            jitter: AtomicU64::new(0),
            log_is_gone: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            bindings_read: AtomicU64::new(0),
            has_older_peer: AtomicBool::new(false),
        }
    }

    pub(super) fn set_failing(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Loses the answers of all writes after this many.
    pub(super) fn lose_answers_after(&self, writes: u64) {
        self.answers_left.store(writes, Ordering::SeqCst);
    }

    pub(super) fn set_jitter(&self, seed: u64) {
        self.jitter.store(seed, Ordering::SeqCst);
    }

    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    pub(super) fn entries(&self) -> usize {
        self.log.lock().len()
    }

    async fn work(&self) -> Result<(), StoreError> {
        // A real store answers later: other tasks run in between.
        for _ in 0..=self.delay() {
            tokio::task::yield_now().await;
        }
        if self.fails.load(Ordering::SeqCst) { Err(failed()) } else { Ok(()) }
    }

    /// How often other tasks run before an answer: mostly seldom, sometimes often.
    fn delay(&self) -> u64 {
        let seed = self.jitter.load(Ordering::SeqCst);
        let mut next = seed;
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.jitter.store(next, Ordering::SeqCst);
        if next.is_multiple_of(4) { next / 4 % 60 } else { next / 4 % 3 }
    }

    fn answer(&self, is_done: bool) -> Result<bool, StoreError> {
        let left =
            self.answers_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() || self.writes_fail.load(Ordering::SeqCst) { Err(failed()) } else { Ok(is_done) }
    }

    fn read(&self, key: &Key) -> Option<Bytes> {
        let rows = self.rows.lock();
        rows.get(key).filter(|(_, end)| *end > self.clock.now()).map(|(value, _)| value.clone())
    }

    fn write(&self, key: &Key, value: Bytes, ttl: Duration) {
        assert!(value.len() <= crate::store::MAX_VALUE_BYTES);
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.rows.lock().insert(key.clone(), (value, self.clock.now().plus(ttl)));
    }
}

#[async_trait]
impl Store for TestStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.bindings_read.fetch_add(u64::from(key.space == Space::Person), Ordering::SeqCst);
        self.work().await?;
        Ok(self.read(key))
    }

    async fn put(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        self.work().await?;
        self.write(key, value, ttl);
        self.answer(true).map(drop)
    }

    async fn put_if_absent(&self, key: &Key, value: Bytes, ttl: Duration) -> Result<bool, StoreError> {
        self.work().await?;
        let is_absent = self.read(key).is_none();
        if is_absent {
            self.write(key, value, ttl);
        }
        self.answer(is_absent)
    }

    async fn compare_and_set(
        &self,
        key: &Key,
        expected: &[u8],
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.work().await?;
        let is_same = self.read(key).is_some_and(|found| found == expected);
        if is_same {
            self.write(key, value, ttl);
        }
        self.answer(is_same)
    }

    async fn compare_and_delete(&self, key: &Key, expected: &[u8]) -> Result<bool, StoreError> {
        self.work().await?;
        let is_same = self.read(key).is_some_and(|found| found == expected);
        if is_same {
            self.rows.lock().remove(key);
        }
        self.answer(is_same)
    }

    async fn scan(
        &self,
        space: Space,
        from: Option<&ScanCursor>,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        self.work().await?;
        let now = self.clock.now();
        let after = |key: &Key| from.is_none_or(|from| key.name[..] > *from.as_bytes());
        let rows = self.rows.lock();
        let mut found: Vec<(Key, Bytes)> = rows
            .iter()
            .filter(|(key, (_, end))| key.space == space && *end > now && after(key))
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let is_last = found.len() <= limit;
        found.truncate(limit);
        let last = found.last().map(|(key, _)| ScanCursor::new(key.name.to_vec()));
        Ok(ScanPage { rows: found, next: last.filter(|_| !is_last) })
    }

    async fn append(&self, entry: Bytes, _: Duration) -> Result<u64, StoreError> {
        self.work().await?;
        if self.append_fails.load(Ordering::SeqCst) {
            return Err(failed());
        }
        let mut log = self.log.lock();
        log.push(entry);
        Ok(log.len() as u64)
    }

    async fn log_after(&self, after: u64) -> Result<LogEntries, StoreError> {
        self.work().await?;
        let log = self.log.lock();
        let last = log.len() as u64;
        if self.log_is_gone.swap(false, Ordering::SeqCst) {
            return Ok(LogEntries::Gap { last });
        }
        Ok(LogEntries::All { entries: log.iter().skip(after as usize).cloned().collect(), last })
    }

    async fn log_moved(&self) {
        std::future::pending().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.work().await?;
        if self.ping_fails.load(Ordering::SeqCst) { Err(failed()) } else { Ok(()) }
    }

    async fn has_older_peer(&self) -> Result<bool, StoreError> {
        Ok(self.has_older_peer.load(Ordering::SeqCst))
    }

    fn shared_rates(&self) -> Option<&dyn SharedRates> {
        self.is_shared.then_some(self)
    }
}

#[async_trait]
impl SharedRates for TestStore {
    async fn acquire(&self, _: &[u8; 16], _: SharedRate) -> Result<Result<(), Duration>, StoreError> {
        unreachable!("sessions limit nothing")
    }

    async fn reset(&self, _: &[u8; 16]) -> Result<(), StoreError> {
        unreachable!("sessions limit nothing")
    }
}

fn failed() -> StoreError {
    StoreError::Unavailable("told to fail".into())
}
