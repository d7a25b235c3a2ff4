//! Follows the store's log: what other nodes change ends verdicts here, and what this node changes
//! is published to them.
//!
//! The log is polled. A message from the store only makes the next read come sooner, so a lost
//! message costs a quarter of a second. A node that cannot read the log believes no session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{info, warn};

use super::lease::Leases;
use super::revocation_cache::RevocationCache;
use crate::clock::{Clock, Timestamp};
use crate::session::row::invalidation::Invalidation;
use crate::session::row::name::Locator;
use crate::store::{LogEntries, Store, StoreError, StoreHealth};

/// How often the log is read, unless the store says that it has moved.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often the store is asked to write something.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long an entry stays in the log: much longer than a node may be away before it must drop
/// every verdict.
const ENTRY_LASTS: Duration = Duration::from_secs(5 * 60);
/// How far the clock may be set back unnoticed.
const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// Most subjects that wait to be published. With one more, everything is published.
const MOST_PENDING: usize = 64;

/// Reads and writes the store's log.
pub(in crate::session) struct LogFollower {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    leases: Arc<Leases>,
    revocations: Arc<RevocationCache>,
    health: Arc<StoreHealth>,
    progress: Mutex<LogProgress>,
}

#[derive(Debug, Default)]
struct LogProgress {
    /// Number of the last entry that was applied; `None` before the first read.
    last: Option<u64>,
    pending: PendingInvalidations,
}

/// What has changed, or may have, and could not be published yet.
#[derive(Debug, Default)]
struct PendingInvalidations {
    subjects: Vec<Locator>,
    everything: bool,
}

impl LogFollower {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        leases: Arc<Leases>,
        revocations: Arc<RevocationCache>,
        health: Arc<StoreHealth>,
    ) -> Self {
        Self { store, clock, leases, revocations, health, progress: Mutex::default() }
    }

    /// Follows what other nodes change, for as long as it is polled, and keeps the store's health.
    pub(super) async fn follow(&self) {
        if self.store.is_shared() {
            // Two loops: a write may wait for replicas, and must not delay the next read of the
            // log.
            tokio::join!(self.keep_polling(), self.keep_pinging());
        } else {
            self.keep_pinging().await;
        }
    }

    async fn keep_polling(&self) {
        let mut tick = ticks(POLL_INTERVAL);
        let mut seen = self.clock.now();
        loop {
            let began = instant();
            seen = self.check_clock(seen);
            let polled = self.poll().await;
            self.health.record_log_read(&polled, began);
            if polled.is_ok() {
                self.publish_pending().await;
            }
            tokio::select! {
                _ = tick.tick() => {}
                () = self.store.log_moved() => {}
            }
        }
    }

    /// Asks for a write: a store that can only be read opens no session.
    async fn keep_pinging(&self) {
        let mut tick = ticks(PING_INTERVAL);
        loop {
            let answer = self.store.ping().await;
            self.health.record_ping(&answer);
            tick.tick().await;
        }
    }

    /// Ends every lease if the clock was set back. A verdict may be used until an instant of the
    /// clock, and a node that is cut off from its store would use it for that much longer.
    pub(in crate::session) fn check_clock(&self, seen: Timestamp) -> Timestamp {
        let now = self.clock.now();
        if now.plus(CLOCK_SLACK) < seen {
            warn!("the clock was set back: every session is looked up again");
            self.leases.end_all();
        }
        now
    }

    /// Tells the other nodes what has changed. The change must already be in the store, because
    /// they read it at once.
    async fn publish(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        self.store.append(invalidation.encode()?.into(), ENTRY_LASTS).await.map(drop)
    }

    /// Publishes what a write has changed. A write that failed may have been made: it is published
    /// later, when the store answers again.
    pub(in crate::session) async fn publish_result<T>(
        &self,
        written: Result<T, StoreError>,
        invalidation: &Invalidation,
    ) -> Result<T, StoreError> {
        let published = match written {
            Ok(_) => self.publish(invalidation).await,
            Err(_) => Ok(()),
        };
        let result = published.and(written);
        if result.is_err() && self.store.is_shared() {
            self.progress.lock().pending.add(invalidation);
        }
        result
    }

    /// Publishes what could not be published before.
    pub(in crate::session) async fn publish_pending(&self) {
        let pending = std::mem::take(&mut self.progress.lock().pending);
        let mut has_failed = false;
        for invalidation in pending.into_invalidations() {
            has_failed = has_failed || self.publish(&invalidation).await.is_err();
            if has_failed {
                self.progress.lock().pending.add(&invalidation);
            }
        }
    }

    /// Reads the log once, and applies what is new.
    pub(in crate::session) async fn poll(&self) -> Result<(), StoreError> {
        let after = self.progress.lock().last;
        let last = match self.store.log_after(after.unwrap_or(0)).await? {
            // No session was believed before the first read, so older entries do not matter.
            LogEntries::All { last, .. } | LogEntries::Gap { last } if after.is_none() => {
                self.invalidate_everything().await?;
                last
            }
            LogEntries::All { entries, last } => {
                self.apply(&entries).await?;
                last
            }
            LogEntries::Gap { last } => {
                info!("entries of the store's log are gone: every session is looked up again");
                self.invalidate_everything().await?;
                last
            }
        };
        // Whatever the log says: the store may lose entries before a node has read them, and
        // revocations are believed from memory without an end. If they changed, every lease ends.
        self.revocations.read().await?;
        // Last: what failed on the way is read again.
        self.progress.lock().last = Some(last);
        Ok(())
    }

    async fn apply(&self, entries: &[Bytes]) -> Result<(), StoreError> {
        let mut is_everything = false;
        for entry in entries {
            match Invalidation::decode(entry) {
                Invalidation::Subject(locator) => self.leases.end(&locator),
                Invalidation::Everything => is_everything = true,
            }
        }
        if is_everything { self.invalidate_everything().await } else { Ok(()) }
    }

    /// Reads the revocations again and ends every lease, in this order: a verdict that is made in
    /// between must not outlast it.
    async fn invalidate_everything(&self) -> Result<(), StoreError> {
        self.revocations.clear();
        let revocations = self.revocations.read().await;
        self.leases.end_all();
        revocations.map(drop)
    }
}

impl PendingInvalidations {
    fn add(&mut self, invalidation: &Invalidation) {
        match invalidation {
            Invalidation::Subject(locator) if self.subjects.len() < MOST_PENDING => {
                self.subjects.push(*locator);
            }
            Invalidation::Subject(_) | Invalidation::Everything => self.everything = true,
        }
    }

    /// "Everything" includes every subject.
    fn into_invalidations(self) -> Vec<Invalidation> {
        if self.everything {
            return vec![Invalidation::Everything];
        }
        self.subjects.into_iter().map(Invalidation::Subject).collect()
    }
}

/// Ticks at this interval; the first tick comes after one interval.
fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(instant() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's timers are compared with it, and it decides nothing about a session"
)]
fn instant() -> Instant {
    Instant::now()
}
