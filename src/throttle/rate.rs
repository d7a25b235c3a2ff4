//! Steady rates with room for a burst: governor's GCRA over the gateway's clock and tables.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{NotUntil, Quota, RateLimiter};

use super::client::ClientKey;
use super::table::{Capacity, ClientTable};
use crate::clock::Clock;
use crate::config::{Findings, LoginLimit};

/// Largest burst. Governor multiplies it by the nanoseconds for one token, in 64 bits and without
/// an overflow check.
const MAX_BURST: u32 = 1_000_000;

/// Reads a limit as governor's quota.
pub(super) fn quota(limit: &LoginLimit, path: &str, findings: &mut Findings) -> Option<Quota> {
    let burst = NonZeroU32::new(limit.burst).filter(|burst| burst.get() <= MAX_BURST);
    if burst.is_none() {
        findings
            .error(format!("{path}.burst"), format!("a burst of {} is out of range", limit.burst))
            .hint(format!("write a number from 1 to {MAX_BURST}"));
    }
    let every = limit.rate.per.checked_div(limit.rate.count).and_then(Quota::with_period);
    if every.is_none() {
        findings
            .error(format!("{path}.rate"), format!("a rate of {} is out of range", limit.rate))
            .hint("write at least one an hour and at most 1000000000 a second");
    }
    Some(every?.allow_burst(burst?))
}

/// One rate for each client.
pub(super) struct ClientRate {
    limiter: RateLimiter<ClientKey, AddressBuckets, Monotonic, StateInformationMiddleware>,
    quota: Quota,
}

/// The state of a bucket after one token was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateState {
    /// How many tokens may be taken at once, now.
    pub(super) remaining: u32,
    /// When the bucket is full again, at the latest; too late by the time for one token at most.
    pub(super) full_in: Duration,
}

impl ClientRate {
    pub(super) fn new(quota: Quota, capacity: Capacity, clock: Arc<dyn Clock>) -> Self {
        let limiter = RateLimiter::new(quota, AddressBuckets(ClientTable::new(capacity)), Monotonic(clock));
        Self { limiter, quota }
    }

    /// Takes one token from the client's bucket. Returns what is left, or the wait until the next
    /// token.
    pub(super) fn check(&self, client: ClientKey) -> Result<RateState, Duration> {
        let taken = self.limiter.check_key(&client);
        let remaining = taken.map_err(|until| wait(&until, self.limiter.clock()))?.remaining_burst_capacity();
        let missing = self.quota.burst_size().get().saturating_sub(remaining);
        Ok(RateState { remaining, full_in: self.quota.replenish_interval().saturating_mul(missing) })
    }

    /// Bytes of the table.
    #[cfg(test)]
    pub(super) fn bytes(self) -> usize {
        self.limiter.into_state_store().0.bytes()
    }
}

fn wait(until: &NotUntil<Instant>, clock: &Monotonic) -> Duration {
    until.wait_time_from(clock.0.instant())
}

/// The gateway's clock, as governor reads it.
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Instant;

    fn now(&self) -> Instant {
        self.0.instant()
    }
}

/// When each client's bucket is full again: the "theoretical arrival time" of GCRA.
struct AddressBuckets(ClientTable<Nanos>);

impl StateStore for AddressBuckets {
    type Key = ClientKey;

    /// The bucket that is full first is replaced first: while the table is full, new clients
    /// replace each other.
    fn measure_and_replace<T, F, E>(&self, client: &ClientKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.update(
            *client,
            |full_at| Some(*full_at),
            |full_at| {
                let (outcome, next) = decide(Some(*full_at))?;
                *full_at = next;
                Ok(outcome)
            },
        )
    }
}
