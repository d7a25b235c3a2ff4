//! Notices proxies that are missing in the configuration: all of their clients count as one.

use std::net::IpAddr;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use prometheus::IntGauge;

use super::client_address::{ClientAddress, TrustedProxies};
use crate::address;

/// Peers of internal networks that send `X-Forwarded-For` and are not trusted.
#[derive(Debug, Default)]
pub(super) struct UnbelievedProxies(ArcSwap<Vec<IpAddr>>);

/// Most peers that are remembered. Each costs a line in the log once.
const CAPACITY: usize = 64;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl UnbelievedProxies {
    /// Those that a new configuration does not trust either. They were reported already.
    pub(super) fn still_untrusted(&self, trusted: &TrustedProxies) -> Self {
        let peers = self.0.load();
        let peers = peers.iter().copied().filter(|peer| !trusted.trusts(*peer)).collect();
        Self(ArcSwap::from_pointee(peers))
    }

    /// How many are remembered.
    pub(super) fn count(&self) -> usize {
        self.0.load().len()
    }

    /// Warns the first time that a peer sends `X-Forwarded-For` and is not believed.
    pub(super) fn look_at(&self, client: &ClientAddress, headers: &HeaderMap, count: &IntGauge) {
        if client.proxy.is_some()
            || !address::is_internal(client.peer)
            || !headers.contains_key(&FORWARDED_FOR)
        {
            return;
        }
        let peer = client.peer;
        if self.remember(peer, count) {
            tracing::warn!(
                network.peer.address = %peer,
                "{peer} sends X-Forwarded-For and is not in trusted_proxies, so all its clients count as one: \
                 if it is your proxy, write `trusted_proxies: [{peer}]`"
            );
        }
    }

    /// Remembers a peer; whether it is new.
    fn remember(&self, peer: IpAddr, count: &IntGauge) -> bool {
        if self.0.load().contains(&peer) {
            return false;
        }
        let mut is_new = false;
        let before = self.0.rcu(|known| {
            let mut known = Vec::clone(known);
            is_new = known.len() < CAPACITY && !known.contains(&peer);
            if is_new {
                known.push(peer);
            }
            known
        });
        if is_new {
            count.set(i64::try_from(before.len() + 1).unwrap_or(i64::MAX));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_new_once_and_their_number_is_bounded() {
        let (proxies, count) = (UnbelievedProxies::default(), IntGauge::new("a", "b").unwrap());
        let peer = |last: u8| IpAddr::from([10, 0, 0, last]);

        assert!(proxies.remember(peer(1), &count) && proxies.remember(peer(2), &count));
        assert!(!proxies.remember(peer(1), &count));
        assert_eq!(count.get(), 2);

        let new = (0..=255).filter(|last| proxies.remember(peer(*last), &count)).count();
        assert_eq!((new, count.get()), (CAPACITY - 2, 64));
        assert!(!proxies.remember(peer(200), &count));
    }

    #[test]
    fn only_an_internal_peer_that_is_not_trusted_and_names_a_client_is_remembered() {
        let mut named = HeaderMap::new();
        named.insert("x-forwarded-for", http::HeaderValue::from_static("1.2.3.4"));
        for (peer, proxy, headers, expected) in [
            ([10, 0, 0, 1], None, &named, 1),
            ([127, 0, 0, 1], None, &named, 1),
            ([10, 0, 0, 1], Some(0), &named, 0),
            ([203, 0, 113, 1], None, &named, 0),
            ([10, 0, 0, 1], None, &HeaderMap::new(), 0),
        ] {
            let (proxies, count) = (UnbelievedProxies::default(), IntGauge::new("a", "b").unwrap());
            let peer = IpAddr::from(peer);

            proxies.look_at(&ClientAddress { peer, proxy, client: peer }, headers, &count);

            assert_eq!(count.get(), expected, "{peer} {proxy:?}");
        }
    }
}
