//! How often each client calls each prefix, at this gateway. The counts outlive a reload.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Rate;

/// How many buckets are kept before empty ones are removed. A configuration has fewer; those of
/// earlier configurations add up.
const MANY: usize = 4096;

/// One bucket for each client and prefix: when it is empty again.
#[derive(Default)]
pub(super) struct CallRates(Mutex<HashMap<(String, String), Instant>>);

impl CallRates {
    /// Takes one call. As many as the rate's number may come at once.
    ///
    /// # Errors
    /// The time until one is free.
    pub(super) fn take(&self, client: &str, prefix: &str, rate: Rate, now: Instant) -> Result<(), Duration> {
        let every = rate.per.checked_div(rate.count).unwrap_or(rate.per);
        let mut buckets = self.0.lock();
        if buckets.len() >= MANY {
            buckets.retain(|_, empty_at| *empty_at > now);
        }
        let empty_at = buckets.entry((client.to_owned(), prefix.to_owned())).or_insert(now);
        let next = (*empty_at).max(now) + every;
        let wait = next.saturating_duration_since(now + rate.per);
        if !wait.is_zero() {
            return Err(wait);
        }
        *empty_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    #[test]
    fn each_client_and_prefix_has_a_rate_of_its_own() {
        let (rates, clock) = (CallRates::default(), ManualClock::start_now());
        let rate = Rate { count: 3, per: Duration::from_secs(60) };
        let take = |client, prefix| rates.take(client, prefix, rate, clock.instant());

        for _ in 0..3 {
            assert_eq!(take("crm", "/wxa/msg"), Ok(()));
        }
        assert_eq!(take("crm", "/wxa/msg"), Err(Duration::from_secs(20)));
        assert_eq!((take("crm", "/wxa/other"), take("shop", "/wxa/msg")), (Ok(()), Ok(())));
        clock.advance(Duration::from_secs(20));
        assert_eq!(take("crm", "/wxa/msg"), Ok(()));
        assert_eq!(take("crm", "/wxa/msg"), Err(Duration::from_secs(20)));
    }
}
