//! Leaky buckets of networks: what a client took leaks away at a steady rate, or is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::Quota;

use super::client::Network;
use super::table::{Capacity, ClientTable};
use crate::clock::Clock;

/// One bucket for each network.
pub(super) struct Buckets {
    /// When each bucket is empty again, in nanoseconds since `start`.
    table: ClientTable<u64>,
    leak: Leak,
    clock: Arc<dyn Clock>,
    start: Instant,
}

/// How fast a bucket leaks, and how much it holds.
#[derive(Clone, Copy)]
struct Leak {
    /// Nanoseconds until one has leaked away.
    every: u64,
    /// Nanoseconds until a full bucket is empty.
    size: u64,
}

/// A bucket that is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullBucket {
    pub(super) network: Network,
    /// How long until one has leaked away.
    pub(super) wait: Duration,
}

impl Buckets {
    pub(super) fn new(quota: Quota, capacity: Capacity, clock: Arc<dyn Clock>) -> Self {
        let every = nanos(quota.replenish_interval()).max(1);
        let size = every.saturating_mul(u64::from(quota.burst_size().get()));
        Self { table: ClientTable::new(capacity), leak: Leak { every, size }, start: clock.instant(), clock }
    }

    /// Takes one from the bucket of each of these networks, or from none of them.
    pub(super) fn take(&self, networks: &[Network]) -> Result<(), FullBucket> {
        let now = self.now();
        for (position, network) in networks.iter().enumerate() {
            if let Err(wait) = self.take_one(network, now) {
                self.give_back(networks.get(..position).unwrap_or_default());
                return Err(FullBucket { network: *network, wait });
            }
        }
        Ok(())
    }

    /// Gives back what [`Buckets::take`] took.
    pub(super) fn give_back(&self, networks: &[Network]) {
        for network in networks {
            let every = self.leak_of(network).every;
            self.table.update_known(network.key, |empty_at| *empty_at = empty_at.saturating_sub(every));
        }
    }

    /// Takes one from each bucket that is not full.
    pub(super) fn take_what_is_left(&self, networks: &[Network]) {
        let now = self.now();
        for network in networks {
            let _full = self.take_one(network, now);
        }
    }

    /// Fills a bucket so that there is nothing to take for this time.
    pub(super) fn fill(&self, network: &Network, wait: Duration) {
        let Leak { every, size } = self.leak_of(network);
        let full = self.now().saturating_add(size).saturating_add(nanos(wait)).saturating_sub(every);
        self.table.update(network.key, worth, |empty_at| *empty_at = full.max(*empty_at));
    }

    /// The first of these buckets that is full, if one is.
    pub(super) fn full(&self, networks: &[Network]) -> Option<FullBucket> {
        let now = self.now();
        networks.iter().find_map(|network| {
            let wait = self.leak_of(network).after(self.table.read(network.key), now).err()?;
            Some(FullBucket { network: *network, wait })
        })
    }

    /// Empties the buckets of these networks.
    pub(super) fn clear(&self, networks: &[Network]) {
        for network in networks {
            self.table.update_known(network.key, |empty_at| *empty_at = 0);
        }
    }

    fn take_one(&self, network: &Network, now: u64) -> Result<(), Duration> {
        let leak = self.leak_of(network);
        self.table.update(network.key, worth, |empty_at| {
            *empty_at = leak.after(*empty_at, now)?;
            Ok(())
        })
    }

    /// The bucket of a network with several times the budget leaks as many times faster.
    fn leak_of(&self, network: &Network) -> Leak {
        let Leak { every, size } = self.leak;
        Leak { every: (every / u64::from(network.share.max(1))).max(1), size }
    }

    fn now(&self) -> u64 {
        nanos(self.clock.instant().saturating_duration_since(self.start))
    }

    /// Bytes of the table.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

impl Leak {
    /// When a bucket is empty after one more was taken; the wait if it is full.
    fn after(self, empty_at: u64, now: u64) -> Result<u64, Duration> {
        let next = empty_at.max(now).saturating_add(self.every);
        match next.saturating_sub(now.saturating_add(self.size)) {
            0 => Ok(next),
            wait => Err(Duration::from_nanos(wait)),
        }
    }
}

/// The bucket that is empty first is worth least. A bucket of this kind can always be replaced.
#[expect(clippy::unnecessary_wraps, reason = "as the table asks for it")]
fn worth(empty_at: &u64) -> Option<u64> {
    Some(*empty_at)
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
