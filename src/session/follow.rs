//! What other nodes revoke, heard of through the store's log.
//!
//! The log is polled: a message from the store only makes the next look come sooner, so that one which is lost costs a
//! quarter of a second. A node that cannot look believes nobody anew.

use std::time::Duration;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{info, warn};

use super::core::Core;
use super::name::Locator;
use crate::clock::Timestamp;
use crate::store::{LogEntries, StoreError};

/// How often the log is looked at, unless it is known to have moved.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the store is asked to write something.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How old the last look may be for what is remembered here to be true.
const LOOK_HOLDS: Duration = Duration::from_secs(2);
/// How long an entry stays in the log: far longer than a node may be away before it must assume anything.
const ENTRY_LASTS: Duration = Duration::from_secs(5 * 60);

/// How far the clock may be set back unnoticed.
const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// Most subjects to tell of later; with one more, everybody is looked up again.
const MOST_UNTOLD: usize = 64;

/// What an entry of the log says: whose sessions may have ended.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(super) enum Heard {
    /// Of this row.
    #[n(0)]
    Subject(#[cbor(n(0), with = "minicbor::bytes")] Locator),
    /// Of anybody.
    #[n(1)]
    Everything,
}

/// When this node last heard, and how far, and what it has still to tell.
#[derive(Debug, Default)]
pub(super) struct Hearing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Number of the last entry of the log that was heard; nothing before the first look.
    last: Option<u64>,
    /// When the last look began that succeeded.
    heard_at: Option<Instant>,
    look_failed: bool,
    ping_failed: bool,
    untold: Untold,
}

/// What changed, or may have, and could not be told.
#[derive(Debug, Default)]
struct Untold {
    subjects: Vec<Locator>,
    everything: bool,
}

/// What the store was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Look,
    Ping,
}

impl Core {
    /// Follows what other nodes revoke, for as long as it is polled, and keeps [`Core::is_available`].
    pub async fn follow(&self) {
        if self.store.is_shared() {
            // Apart: a write may wait for replicas, and nobody must hear later for that.
            tokio::join!(self.keep_looking(), self.keep_asking());
        } else {
            self.keep_asking().await;
        }
    }

    async fn keep_looking(&self) {
        let mut tick = ticks(LOOK_EVERY);
        let mut seen = self.clock.now();
        loop {
            let began = instant();
            seen = self.watch_clock(seen);
            let looked = self.look().await;
            let has_looked = looked.is_ok();
            self.note(Sign::Look, looked, began);
            if has_looked {
                self.tell_untold().await;
            }
            tokio::select! {
                _ = tick.tick() => {}
                () = self.store.log_moved() => {}
            }
        }
    }

    /// Asks for a write: a store that can be read alone opens no session.
    async fn keep_asking(&self) {
        let mut tick = ticks(PING_EVERY);
        loop {
            let began = instant();
            let answer = self.store.ping().await;
            self.note(Sign::Ping, answer, began);
            tick.tick().await;
        }
    }

    /// Ends every lease when the clock goes back: verdicts say by it how long they may be believed, and a node that is
    /// cut off from its store would else believe them for as much longer.
    pub(super) fn watch_clock(&self, seen: Timestamp) -> Timestamp {
        let now = self.clock.now();
        if now.plus(CLOCK_SLACK) < seen {
            warn!("the clock was set back: every session is looked up again");
            self.leases.end_all();
        }
        now
    }

    /// Whether the store answered lately: whether logins can succeed.
    pub fn is_available(&self) -> bool {
        let ping_failed = self.hearing.0.lock().ping_failed;
        !ping_failed && (!self.store.is_shared() || self.hears())
    }

    /// Whether what other nodes revoke reaches this one.
    pub(super) fn hears(&self) -> bool {
        let heard_at = self.hearing.0.lock().heard_at;
        // Real time, whatever clock decides about sessions: a test that advances by a week has not been deaf for one.
        heard_at.is_some_and(|heard_at| instant().saturating_duration_since(heard_at) < LOOK_HOLDS)
    }

    /// Fails where this node would not hear of a revocation.
    pub(super) fn must_hear(&self) -> Result<(), StoreError> {
        if !self.store.is_shared() || self.hears() {
            return Ok(());
        }
        Err(StoreError::Unavailable("what other nodes revoke does not reach this one".into()))
    }

    /// Tells the other nodes. What they are told must stand in the store by now, as they look at once.
    pub(super) async fn tell(&self, heard: &Heard) -> Result<(), StoreError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let mut entry = Vec::new();
        minicbor::encode(heard, &mut entry)
            .map_err(|_| StoreError::Damaged("an entry cannot be written".into()))?;
        self.store.append(entry.into(), ENTRY_LASTS).await.map(drop)
    }

    /// Tells the other nodes what was done. What may have been done they are told later, when the store answers again.
    pub(super) async fn tell_if_done<T>(
        &self,
        done: Result<T, StoreError>,
        heard: &Heard,
    ) -> Result<T, StoreError> {
        let told = match done {
            Ok(_) => self.tell(heard).await,
            Err(_) => Ok(()),
        };
        let result = told.and(done);
        if result.is_err() && self.store.is_shared() {
            self.hearing.0.lock().untold.add(heard);
        }
        result
    }

    pub(super) async fn tell_untold(&self) {
        let untold = std::mem::take(&mut self.hearing.0.lock().untold);
        let mut has_failed = false;
        for heard in untold.all() {
            has_failed = has_failed || self.tell(&heard).await.is_err();
            if has_failed {
                self.hearing.0.lock().untold.add(&heard);
            }
        }
    }

    /// One look at the log.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        let after = self.hearing.0.lock().last;
        let last = match self.store.log_after(after.unwrap_or(0)).await? {
            // Nothing was believed before the first look, so that what went before it is of no interest.
            LogEntries::All { last, .. } | LogEntries::Gap { last } if after.is_none() => {
                self.hear_anything().await?;
                last
            }
            LogEntries::All { entries, last } => {
                self.hear(&entries).await?;
                last
            }
            LogEntries::Gap { last } => {
                info!("entries of the store's log are gone: every session is looked up again");
                self.hear_anything().await?;
                last
            }
        };
        // Whatever the log says: it may lose entries that nobody has read yet, and marks are believed from memory without
        // an end. Where they changed every lease ends.
        self.read_marks().await?;
        // Only now: what failed on the way is heard again.
        self.hearing.0.lock().last = Some(last);
        Ok(())
    }

    async fn hear(&self, entries: &[Bytes]) -> Result<(), StoreError> {
        let mut is_everything = false;
        for entry in entries {
            match minicbor::decode(entry) {
                Ok(Heard::Subject(locator)) => self.leases.end(&locator),
                // What a newer version says may be anything.
                Ok(Heard::Everything) | Err(_) => is_everything = true,
            }
        }
        if is_everything { self.hear_anything().await } else { Ok(()) }
    }

    /// Reads the marks anew and ends every lease, in this order: a verdict that is made in between must not outlast it.
    async fn hear_anything(&self) -> Result<(), StoreError> {
        self.marks.store(None);
        let marks = self.read_marks().await;
        self.leases.end_all();
        marks.map(drop)
    }

    fn note(&self, sign: Sign, answer: Result<(), StoreError>, began: Instant) {
        let mut state = self.hearing.0.lock();
        let had_failed = state.has_failed();
        match sign {
            Sign::Look => state.look_failed = answer.is_err(),
            Sign::Ping => state.ping_failed = answer.is_err(),
        }
        if sign == Sign::Look && answer.is_ok() {
            state.heard_at = Some(began);
        }
        let has_failed = state.has_failed();
        drop(state);
        match answer {
            // A shared store says itself that it is away and back.
            Ok(()) if had_failed && !has_failed && !self.store.is_shared() => {
                info!("the store answers again")
            }
            Err(StoreError::Unavailable(_)) if self.store.is_shared() => {}
            Err(error) if !had_failed => warn!("the store failed: {error}"),
            _ => {}
        }
        self.metrics.store_available.set(i64::from(self.is_available()));
    }
}

impl State {
    const fn has_failed(&self) -> bool {
        self.look_failed || self.ping_failed
    }
}

impl Untold {
    fn add(&mut self, heard: &Heard) {
        match heard {
            Heard::Subject(locator) if self.subjects.len() < MOST_UNTOLD => self.subjects.push(*locator),
            Heard::Subject(_) | Heard::Everything => self.everything = true,
        }
    }

    /// Everything says it all.
    fn all(self) -> Vec<Heard> {
        if self.everything {
            return vec![Heard::Everything];
        }
        self.subjects.into_iter().map(Heard::Subject).collect()
    }
}

/// Ticks from then on: the first time is now.
fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(instant() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[expect(
    clippy::disallowed_methods,
    reason = "timers of tokio's are compared, and no decision about a session"
)]
fn instant() -> Instant {
    Instant::now()
}
