//! A rate of all clients together, of which a share is kept for addresses from which users signed
//! in lately.
//!
//! Addresses that failed often may use one half of it, new ones three quarters, and those from
//! which users signed in all of it. While a flood takes all that it may, what is refilled goes to
//! the users first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::Quota;

use super::bucket::nanos;
use super::standing::Standing;
use crate::clock::Clock;

/// One rate for all clients.
pub(super) struct GlobalRate {
    /// Nanoseconds for one.
    every: u64,
    burst: u32,
    /// When the burst is whole again, in nanoseconds since `start`.
    full_at: AtomicU64,
    clock: Arc<dyn Clock>,
    start: Instant,
}

impl GlobalRate {
    pub(super) fn new(quota: Quota, clock: Arc<dyn Clock>) -> Self {
        Self {
            every: nanos(quota.replenish_interval()).max(1),
            burst: quota.burst_size().get(),
            full_at: AtomicU64::new(0),
            start: clock.instant(),
            clock,
        }
    }

    /// Takes one, or returns the wait until there is one for a client of this standing.
    pub(super) fn take(&self, standing: Standing) -> Result<(), Duration> {
        let now = nanos(self.clock.instant().saturating_duration_since(self.start));
        let size = self.every.saturating_mul(u64::from(usable_burst(self.burst, standing)));
        let mut wait = 0;
        let taken = self.full_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
            let next = full_at.max(now).saturating_add(self.every);
            wait = next.saturating_sub(now.saturating_add(size));
            (wait == 0).then_some(next)
        });
        taken.map(drop).map_err(|_| Duration::from_nanos(wait))
    }
}

/// How much of a burst a client of this standing may use; at least 1.
pub(super) fn usable_burst(burst: u32, standing: Standing) -> u32 {
    let kept = match standing {
        Standing::Known => 0,
        Standing::New => burst / 4,
        Standing::Failing => burst / 2,
    };
    burst.saturating_sub(kept).max(1)
}
