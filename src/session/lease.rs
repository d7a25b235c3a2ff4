//! What was heard on this node: a number for each subject whose sessions somebody believes in, and one for all.
//!
//! A verdict takes its lease before it reads the store, so that what changes in between ends it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify};

use super::name::Locator;
use crate::store::StoreError;

const SHARDS: usize = 64;
/// Fewest subjects a shard knows before it looks for those that nobody asks for any more.
const LEAST_SWEEP: usize = 64;
/// Longest wait for others on this node who write the same row.
const LONGEST_TURN: Duration = Duration::from_secs(2);

/// Whether what was looked up still holds, for all that is known here; asking costs two loads.
#[derive(Clone, Debug)]
pub struct Lease {
    everybody: Arc<Counter>,
    everybody_seen: u64,
    subject: Arc<SubjectState>,
    subject_seen: u64,
}

impl Lease {
    /// Whether nothing was heard since that could have ended the session.
    pub fn is_current(&self) -> bool {
        self.everybody.now() == self.everybody_seen && self.subject.heard.now() == self.subject_seen
    }

    /// Waits until [`Lease::is_current`] is false: the session must be looked up again, and may well go on.
    pub async fn ended(&self) {
        let mut everybody = std::pin::pin!(self.everybody.moved.notified());
        let mut subject = std::pin::pin!(self.subject.heard.moved.notified());
        // Counters only grow, so one wakening is enough; to be registered before the look misses none.
        everybody.as_mut().enable();
        subject.as_mut().enable();
        if self.is_current() {
            tokio::select! {
                () = everybody => {}
                () = subject => {}
            }
        }
    }

    /// A lease that never ends, for tests of what is done with one.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Leases::default().take(&[0; 16])
    }
}

#[derive(Debug, Default)]
struct Counter {
    value: AtomicU64,
    moved: Notify,
}

impl Counter {
    fn now(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    fn bump(&self) {
        self.value.fetch_add(1, Ordering::AcqRel);
        self.moved.notify_waiters();
    }
}

/// What this node knows of a subject while anybody asks for them.
#[derive(Debug, Default)]
pub(super) struct SubjectState {
    heard: Counter,
    /// Held by whoever writes the subject's row: writers of one node wait here, where it costs the store nothing.
    writing: AsyncMutex<()>,
}

impl SubjectState {
    /// Waits for its turn to write the subject's row.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        tokio::time::timeout(LONGEST_TURN, self.writing.lock()).await.map_err(|_| StoreError::Busy)
    }

    /// The turn, if nobody else has it.
    pub(super) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.writing.try_lock().ok()
    }
}

/// Every subject that somebody holds a lease of.
#[derive(Debug)]
pub(super) struct Leases {
    everybody: Arc<Counter>,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug)]
struct Shard {
    subjects: HashMap<Locator, Weak<SubjectState>>,
    sweep_at: usize,
}

impl Default for Leases {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { subjects: HashMap::new(), sweep_at: LEAST_SWEEP });
        Self { everybody: Arc::default(), shards: std::array::from_fn(|_| shard()) }
    }
}

impl Leases {
    pub(super) fn take(&self, locator: &Locator) -> Lease {
        let everybody_seen = self.everybody.now();
        let subject = self.subject(locator);
        let subject_seen = subject.heard.now();
        Lease { everybody: Arc::clone(&self.everybody), everybody_seen, subject, subject_seen }
    }

    pub(super) fn subject(&self, locator: &Locator) -> Arc<SubjectState> {
        let Some(shard) = self.shard(locator) else { return Arc::default() };
        let mut shard = shard.lock();
        if let Some(state) = shard.subjects.get(locator).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::default();
        shard.subjects.insert(*locator, Arc::downgrade(&state));
        if shard.subjects.len() >= shard.sweep_at {
            shard.subjects.retain(|_, state| state.strong_count() > 0);
            shard.sweep_at = LEAST_SWEEP.max(shard.subjects.len().saturating_mul(2));
        }
        state
    }

    /// Ends the leases of a subject.
    pub(super) fn end(&self, locator: &Locator) {
        let state = self.shard(locator).and_then(|shard| {
            let shard = shard.lock();
            shard.subjects.get(locator).and_then(Weak::upgrade)
        });
        // Where nobody holds a lease there is none to end; who takes one from here on reads what changed.
        if let Some(state) = state {
            state.heard.bump();
        }
    }

    /// Ends every lease.
    pub(super) fn end_all(&self) {
        self.everybody.bump();
    }

    pub(super) fn epoch(&self) -> u64 {
        self.everybody.now()
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().subjects.len()).sum()
    }

    /// A locator is a hash, so its first byte spreads well. Always there: a byte has a remainder below the length.
    fn shard(&self, locator: &Locator) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(locator[0]) % SHARDS)
    }
}
