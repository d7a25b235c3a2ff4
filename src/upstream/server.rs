//! One server of an upstream: its address, its failures, and the requests in progress to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::clock::Timestamp;

/// One server, shared by all requests to it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    pub(super) weight: usize,
    in_flight: AtomicUsize,
    /// Milliseconds since the epoch; 0 if it never failed.
    failed_until: AtomicU64,
}

/// A request in progress to a server. Counts until dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Server>);

impl Server {
    pub(super) const fn new(address: SocketAddr, weight: usize) -> Self {
        Self { address, weight, in_flight: AtomicUsize::new(0), failed_until: AtomicU64::new(0) }
    }

    /// Passes the server over until then.
    pub(super) fn record_failure(&self, until: Timestamp) {
        self.failed_until.store(until.millis(), Ordering::Relaxed);
    }

    /// Whether the server is not passed over for a failure.
    pub(super) fn is_healthy(&self, now: Timestamp) -> bool {
        self.failed_until.load(Ordering::Relaxed) <= now.millis()
    }

    /// Counts a request in progress.
    pub(super) fn count(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests in progress for the server's weight, in thousandths.
    pub(super) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed).saturating_mul(1000) / self.weight.max(1)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
