//! Leases: how long a verdict about a session may be believed.
//!
//! A counter for each subject, and one for all, moves when sessions may have changed. A verdict
//! takes its lease before it reads the store, so a change in between ends the lease.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify};

use crate::session::row::name::Locator;
use crate::store::StoreError;

const SHARDS: usize = 64;
/// Fewest subjects in a shard before it looks for unused ones.
const LEAST_SWEEP: usize = 64;
/// Longest wait for other writers of the same row on this node.
const LONGEST_LOCK_WAIT: Duration = Duration::from_secs(2);

/// Tells whether a verdict still holds, as far as this node knows. Asking costs two loads.
#[derive(Clone, Debug)]
pub struct Lease {
    everything: Arc<ChangeCounter>,
    everything_seen: u64,
    subject: Arc<SubjectState>,
    subject_seen: u64,
}

impl Lease {
    /// Whether nothing has happened since that could have ended the session.
    pub fn is_current(&self) -> bool {
        self.everything.value() == self.everything_seen && self.subject.changes.value() == self.subject_seen
    }

    /// Waits until [`Lease::is_current`] is false. The session must then be looked up again, and
    /// may well be live.
    pub async fn ended(&self) {
        let mut everything = std::pin::pin!(self.everything.moved.notified());
        let mut subject = std::pin::pin!(self.subject.changes.moved.notified());
        // Counters only grow, so one wake-up is enough. Registering before the check misses none.
        everything.as_mut().enable();
        subject.as_mut().enable();
        if self.is_current() {
            tokio::select! {
                () = everything => {}
                () = subject => {}
            }
        }
    }

    /// A lease that never ends, for tests of what is done with one.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Leases::default().lease(&[0; 16])
    }
}

#[derive(Debug, Default)]
struct ChangeCounter {
    value: AtomicU64,
    moved: Notify,
}

impl ChangeCounter {
    fn value(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    fn increment(&self) {
        self.value.fetch_add(1, Ordering::AcqRel);
        self.moved.notify_waiters();
    }
}

/// What this node holds of a subject while it is in use.
#[derive(Debug, Default)]
pub(in crate::session) struct SubjectState {
    changes: ChangeCounter,
    /// Held by the writer of the subject's row: the writers of one node wait here, where waiting
    /// costs the store nothing.
    writer: AsyncMutex<()>,
}

impl SubjectState {
    /// Waits until no other task on this node writes the subject's row.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: the wait took too long.
    pub(in crate::session) async fn lock(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        tokio::time::timeout(LONGEST_LOCK_WAIT, self.writer.lock()).await.map_err(|_| StoreError::Busy)
    }

    /// The lock, if no other task on this node writes the subject's row.
    pub(in crate::session) fn try_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.writer.try_lock().ok()
    }
}

/// Every subject with a lease.
#[derive(Debug)]
pub(in crate::session) struct Leases {
    everything: Arc<ChangeCounter>,
    shards: [Mutex<LeaseShard>; SHARDS],
}

#[derive(Debug)]
struct LeaseShard {
    subjects: HashMap<Locator, Weak<SubjectState>>,
    sweep_at: usize,
}

impl Default for Leases {
    fn default() -> Self {
        let shard = || Mutex::new(LeaseShard { subjects: HashMap::new(), sweep_at: LEAST_SWEEP });
        Self { everything: Arc::default(), shards: std::array::from_fn(|_| shard()) }
    }
}

impl Leases {
    /// A lease of a subject's sessions from now on.
    pub(in crate::session) fn lease(&self, locator: &Locator) -> Lease {
        let everything_seen = self.everything.value();
        let subject = self.subject(locator);
        let subject_seen = subject.changes.value();
        Lease { everything: Arc::clone(&self.everything), everything_seen, subject, subject_seen }
    }

    /// The state of a subject; made if there is none.
    pub(in crate::session) fn subject(&self, locator: &Locator) -> Arc<SubjectState> {
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
    pub(in crate::session) fn end(&self, locator: &Locator) {
        let state = self.shard(locator).and_then(|shard| {
            let shard = shard.lock();
            shard.subjects.get(locator).and_then(Weak::upgrade)
        });
        // Without a state there is no lease to end; a lease that is made from here on reads what
        // has changed.
        if let Some(state) = state {
            state.changes.increment();
        }
    }

    /// Ends every lease.
    pub(in crate::session) fn end_all(&self) {
        self.everything.increment();
    }

    /// How often every lease was ended.
    pub(in crate::session) fn epoch(&self) -> u64 {
        self.everything.value()
    }

    #[cfg(test)]
    pub(in crate::session) fn subject_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().subjects.len()).sum()
    }

    /// A locator is a hash, so its first byte spreads well. There is always a shard: the remainder
    /// is below the length.
    fn shard(&self, locator: &Locator) -> Option<&Mutex<LeaseShard>> {
        self.shards.get(usize::from(locator[0]) % SHARDS)
    }
}
