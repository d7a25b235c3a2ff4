//! What other nodes revoke, heard of through the store's log.
//!
//! The log is polled: a message from the store only makes the next look come sooner, so that one which is lost costs a
//! quarter of a second. A node that cannot look believes nobody anew.

use std::time::Duration;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use super::core::Core;
use super::name::Locator;
use crate::store::{LogEntries, StoreError};

/// How often the log is looked at, unless it is known to have moved.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a store of this node alone is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How old the last look may be for what is remembered here to be true.
const LOOK_HOLDS: Duration = Duration::from_secs(2);
/// How long an entry stays in the log: far longer than a node may be away before it must assume anything.
const ENTRY_LASTS: Duration = Duration::from_secs(5 * 60);

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

/// When this node last heard, and how far.
#[derive(Debug, Default)]
pub(super) struct Hearing(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Number of the last entry of the log that was heard; nothing before the first look.
    last: Option<u64>,
    /// When the last look began that succeeded.
    heard_at: Option<Instant>,
    has_failed: bool,
}

impl Core {
    /// Follows what other nodes revoke, for as long as it is polled, and keeps [`Core::is_available`].
    pub async fn follow(&self) {
        let is_shared = self.store.is_shared();
        let mut tick = tokio::time::interval(if is_shared { LOOK_EVERY } else { PING_EVERY });
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            let began = instant();
            let looked = if is_shared { self.look().await } else { self.store.ping().await };
            self.note(looked, began);
            tokio::select! {
                _ = tick.tick() => {}
                () = self.store.log_moved(), if is_shared => {}
            }
        }
    }

    /// Whether the store answered lately: whether logins can succeed.
    pub fn is_available(&self) -> bool {
        if self.store.is_shared() { self.hears() } else { !self.hearing.0.lock().has_failed }
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

    fn note(&self, looked: Result<(), StoreError>, began: Instant) {
        let mut state = self.hearing.0.lock();
        let had_failed = std::mem::replace(&mut state.has_failed, looked.is_err());
        if looked.is_ok() {
            state.heard_at = Some(began);
        }
        drop(state);
        match looked {
            // A shared store says itself that it is away and back.
            Ok(()) if had_failed && !self.store.is_shared() => info!("the store answers again"),
            Err(StoreError::Unavailable(_)) if self.store.is_shared() => {}
            Err(error) if !had_failed => warn!("the store failed: {error}"),
            _ => {}
        }
        self.metrics.store_available.set(i64::from(self.is_available()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "timers of tokio's are compared, and no decision about a session"
)]
fn instant() -> Instant {
    Instant::now()
}
