//! What an operator sees of the limits, and lifts.

use std::net::IpAddr;

use super::{Throttle, ThrottledAddress};
use crate::store::StoreError;

impl Throttle {
    /// The addresses that a limit of this node refuses now, the one that was refused most first.
    pub fn list(&self) -> Vec<ThrottledAddress> {
        self.listing.list()
    }

    /// Forgets what was counted of an address: of an IPv6 address, in all networks around it.
    /// Returns how many entries of [`Throttle::list`] that ends.
    ///
    /// Failed logins that nodes count together are forgotten too. What the other nodes count by
    /// themselves is not.
    ///
    /// # Errors
    /// [`StoreError`]: this node has forgotten, the shared count has not.
    pub async fn lift(&self, address: IpAddr) -> Result<usize, StoreError> {
        let networks = self.clients.networks(address);
        self.clear_logins(&networks);
        for buckets in [&self.failed_refresh, &self.sign_in, &self.cross_site] {
            buckets.clear(&networks);
        }
        self.standings.forgive(&networks);
        if let Some(errors) = &self.client_errors {
            networks.iter().for_each(|network| errors.clear(network.key));
        }
        let lifted = networks.iter().map(|network| self.listing.remove(network.name)).sum();
        if let Some(shared) = &self.shared {
            shared.clear(&networks).await?;
        }
        Ok(lifted)
    }
}
