//! Rates that all nodes count together, after the limits of one node have passed.
//!
//! A node asks the store only after its own buckets have passed, so a flood on one node costs the
//! store no more than the configured rate.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Limit;
use crate::config::LoginLimit;
use crate::digest::sha256;
use crate::store::{SharedRate, Store, StoreError};

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

    /// Takes one token from a client's bucket of logins. `client` is the client's network.
    pub(super) async fn check_login(&self, client: IpAddr) -> Result<Result<(), Duration>, StoreError> {
        self.check(Limit::Login, &client.to_string(), self.login).await
    }

    /// Takes one token from the bucket of all exchanges.
    pub(super) async fn check_exchange(&self) -> Result<Result<(), Duration>, StoreError> {
        self.check(Limit::WeChat, "", self.wechat).await
    }

    async fn check(
        &self,
        limit: Limit,
        whose: &str,
        rate: SharedRate,
    ) -> Result<Result<(), Duration>, StoreError> {
        match self.store.shared_rates() {
            Some(rates) => rates.acquire(&bucket(limit, whose), rate).await,
            None => Err(StoreError::Unavailable("the store counts no rates".into())),
        }
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
/// out which addresses signed in recently.
fn bucket(limit: Limit, whose: &str) -> [u8; 16] {
    let text = format!("menshen throttle {} {whose}", limit.as_str());
    let mut name = [0; 16];
    name.iter_mut().zip(sha256(&[text.as_bytes()])).for_each(|(to, from)| *to = from);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_is_the_same_on_every_node_and_of_every_version() {
        let name = u128::from_be_bytes(bucket(Limit::Login, "192.0.2.1"));

        assert_eq!(format!("{name:032x}"), "793b07d2ce9f4cbd246a2f95d0542608");
    }

    #[test]
    fn each_limit_and_client_has_its_own_bucket() {
        let login = bucket(Limit::Login, "192.0.2.1");

        assert_ne!(login, bucket(Limit::Login, "192.0.2.2"));
        assert_ne!(login, bucket(Limit::WeChat, "192.0.2.1"));
        assert_ne!(bucket(Limit::Login, ""), bucket(Limit::WeChat, ""));
    }
}
