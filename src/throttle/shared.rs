//! Rates that all nodes count together: failed logins, and exchanges with WeChat.
//!
//! A node tells the store of a login only when it failed, and asks it for an exchange only after
//! its own count has allowed the exchange. A flood on one node therefore costs the store no more
//! than the configured rate, and a login that succeeds costs it nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Limit;
use super::bucket::FullBucket;
use super::client::Network;
use super::global::usable_burst;
use super::login::Lane;
use super::standing::Standing;
use crate::config::LoginLimit;
use crate::digest::sha256;
use crate::store::{SharedRate, SharedRates, Store, StoreError};

/// The buckets that nodes share.
pub(super) struct SharedBuckets {
    store: Arc<dyn Store>,
    login: SharedRate,
    wechat: SharedRate,
}

impl SharedBuckets {
    /// Buckets in this store; `None` if no other node writes to the store, or if a rate is not
    /// valid.
    pub(super) fn new(store: Arc<dyn Store>, login: &LoginLimit, wechat: &LoginLimit) -> Option<Self> {
        let (login, wechat) = (shared_rate(login)?, shared_rate(wechat)?);
        store.is_shared().then_some(Self { store, login, wechat })
    }

    /// Counts a failed login of these networks. Returns the networks for which all nodes together
    /// counted too many. If the store does not answer, each node goes on with its own count.
    pub(super) async fn record_failure(&self, lane: Lane, networks: &[Network]) -> Vec<FullBucket> {
        let mut full = Vec::new();
        for network in networks {
            let rate = SharedRate {
                every: self.login.every.checked_div(network.share).unwrap_or(self.login.every),
                burst: self.login.burst.saturating_mul(network.share),
            };
            let bucket = bucket(&lane.name(), &network.name.to_string());
            match self.acquire(&bucket, rate).await {
                Ok(Ok(())) => {}
                Ok(Err(wait)) => full.push(FullBucket { network: *network, wait }),
                Err(error) => tracing::debug!("a failed login was not counted by all nodes: {error}"),
            }
        }
        full
    }

    /// Takes one from the bucket of all exchanges.
    pub(super) async fn check_exchange(
        &self,
        standing: Standing,
    ) -> Result<Result<(), Duration>, StoreError> {
        let burst = usable_burst(self.wechat.burst, standing);
        let rate = SharedRate { burst, ..self.wechat };
        self.acquire(&bucket(Limit::WeChat.as_str(), ""), rate).await
    }

    /// Empties the buckets of these networks.
    pub(super) async fn clear(&self, networks: &[Network]) -> Result<(), StoreError> {
        for network in networks {
            for lane in Lane::of_address() {
                let bucket = bucket(&lane.name(), &network.name.to_string());
                self.rates()?.reset(&bucket).await?;
            }
        }
        Ok(())
    }

    async fn acquire(&self, bucket: &[u8; 16], rate: SharedRate) -> Result<Result<(), Duration>, StoreError> {
        self.rates()?.acquire(bucket, rate).await
    }

    fn rates(&self) -> Result<&dyn SharedRates, StoreError> {
        self.store.shared_rates().ok_or_else(|| StoreError::Unavailable("the store counts no rates".into()))
    }
}

impl fmt::Debug for SharedBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuckets").finish_non_exhaustive()
    }
}

fn shared_rate(limit: &LoginLimit) -> Option<SharedRate> {
    let every = limit.rate.per.checked_div(limit.rate.count)?;
    Some(SharedRate { every, burst: limit.burst })
}

/// The bucket's name, the same on every node.
///
/// The hash has no key: an address has too few bits for a hash to hide it, and a key must be the
/// same on all nodes through every rotation. An attacker who can read the store can therefore find
/// out from which addresses logins failed recently.
fn bucket(limit: &str, whose: &str) -> [u8; 16] {
    let text = format!("menshen throttle {limit} {whose}");
    let mut name = [0; 16];
    name.iter_mut().zip(sha256(&[text.as_bytes()])).for_each(|(to, from)| *to = from);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_is_the_same_on_every_node_and_of_every_version() {
        let name = u128::from_be_bytes(bucket(&Lane::First.name(), "192.0.2.1"));

        assert_eq!(format!("{name:032x}"), "793b07d2ce9f4cbd246a2f95d0542608");
    }

    #[test]
    fn each_limit_and_client_has_its_own_bucket() {
        let login = bucket("login", "192.0.2.1");

        assert_ne!(login, bucket("login", "192.0.2.2"));
        assert_ne!(login, bucket(&Lane::Returning(1).name(), "192.0.2.1"));
        assert_ne!(login, bucket("wechat", "192.0.2.1"));
        assert_ne!(bucket("login", ""), bucket("wechat", ""));
    }
}
