//! How the requests of an upstream are distributed over its servers.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use pingora::lb::selection::{BackendIter, BackendSelection, Consistent, RoundRobin};
use pingora::lb::{Backend, Backends, LoadBalancer};

use super::server::Server;
use crate::config::Balance;

/// Chooses servers.
pub(super) enum Balancer {
    RoundRobin(LoadBalancer<RoundRobin>),
    ConsistentHash(LoadBalancer<Consistent>),
    LeastConnections(LoadBalancer<RoundRobin>),
}

impl Balancer {
    pub(super) fn new(balance: Balance, backends: Backends) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(LoadBalancer::from_backends(backends)),
            Balance::ConsistentHash => Self::ConsistentHash(LoadBalancer::from_backends(backends)),
            Balance::LeastConnections => Self::LeastConnections(LoadBalancer::from_backends(backends)),
        }
    }

    /// Whether it chooses by the requests in progress, which must be counted then.
    pub(super) const fn counts_requests(&self) -> bool {
        matches!(self, Self::LeastConnections(_))
    }

    /// Chooses among the servers that `accept` accepts. `key` is what a consistent hash follows.
    pub(super) fn select(
        &self,
        key: &[u8],
        servers: &HashMap<SocketAddr, Arc<Server>>,
        accept: &dyn Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        match self {
            Self::RoundRobin(balancer) => select(balancer, key, accept),
            Self::ConsistentHash(balancer) => select(balancer, key, accept),
            Self::LeastConnections(balancer) => select_least_busy(balancer, servers, accept),
        }
    }

    /// Takes over the addresses of the servers' names, and returns them with their weights.
    pub(super) fn update(&self) -> Arc<BTreeSet<Backend>> {
        match self {
            Self::RoundRobin(balancer) | Self::LeastConnections(balancer) => update(balancer),
            Self::ConsistentHash(balancer) => update(balancer),
        }
    }
}

/// Our discovery neither awaits nor fails, so the update is complete after its first poll.
fn update<S>(balancer: &LoadBalancer<S>) -> Arc<BTreeSet<Backend>>
where
    S: BackendSelection + 'static + Send + Sync,
    S::Iter: BackendIter,
{
    if let Some(Err(error)) = balancer.update().now_or_never() {
        tracing::error!("the servers' addresses were not taken over: {error}");
    }
    balancer.backends().get_backend()
}

fn select<S>(
    balancer: &LoadBalancer<S>,
    key: &[u8],
    accept: &dyn Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr>
where
    S: BackendSelection + 'static + Send + Sync,
    S::Iter: BackendIter,
{
    /// Servers that are tried before none is chosen; more than any sensible upstream has.
    const MAX_ITERATIONS: usize = 256;

    let backend =
        balancer.select_with(key, MAX_ITERATIONS, |backend, _| backend.addr.as_inet().is_some_and(accept))?;
    backend.addr.as_inet().copied()
}

/// Chooses the server with the fewest requests in progress for its weight; equally busy ones in
/// turn.
fn select_least_busy(
    balancer: &LoadBalancer<RoundRobin>,
    servers: &HashMap<SocketAddr, Arc<Server>>,
    accept: &dyn Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr> {
    // Read once, because the counts change during the choice.
    let loads: Vec<(SocketAddr, usize)> = servers
        .values()
        .filter(|server| accept(&server.address))
        .map(|server| (server.address, server.load()))
        .collect();
    let least = loads.iter().map(|(_, load)| *load).min()?;
    select(balancer, &[], &|address| loads.contains(&(*address, least)))
}
