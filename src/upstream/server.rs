//! One server of an upstream: its address, whether it is down, and the requests in progress to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// How long after a warning no other is written of the same server. Behind one address there may be
/// several servers, of which one fails.
const QUIET: Duration = Duration::from_secs(10);

/// One server, shared by all requests to it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    pub(super) weight: usize,
    in_flight: AtomicUsize,
    /// Milliseconds since the epoch; 0 if it never failed.
    failed_until: AtomicU64,
    /// Whether the last connection failed. Changes only together with `outage`.
    is_down: AtomicBool,
    outage: Mutex<Outage>,
    /// Whether a connection is tried now for no request.
    is_probed: AtomicBool,
}

/// What the log says of a server that is down.
#[derive(Debug, Default)]
struct Outage {
    last_warning: Option<Timestamp>,
    /// Whether the log says that it is down.
    is_warned_of: bool,
}

/// What follows from the news of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// It was up and is down, or the other way around.
    pub(super) is_change: bool,
    /// The log should say it.
    pub(super) is_for_log: bool,
}

/// A request in progress to a server. Counts until dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Server>);

impl Server {
    pub(super) fn new(address: SocketAddr, weight: usize) -> Self {
        Self {
            address,
            weight,
            in_flight: AtomicUsize::new(0),
            failed_until: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            outage: Mutex::default(),
            is_probed: AtomicBool::new(false),
        }
    }

    /// Whether the last connection failed.
    pub fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Passes the server over until then, because no connection was made.
    pub(super) fn record_failure(&self, now: Timestamp, until: Timestamp) -> News {
        let mut outage = self.outage.lock();
        self.failed_until.store(until.millis(), Ordering::Relaxed);
        let is_change = !self.is_down.swap(true, Ordering::Relaxed);
        let is_quiet = outage.last_warning.is_some_and(|last| now < last.plus(QUIET));
        let is_for_log = !outage.is_warned_of && !is_quiet;
        if is_for_log {
            *outage = Outage { last_warning: Some(now), is_warned_of: true };
        }
        News { is_change, is_for_log }
    }

    /// Notes that a connection was made.
    pub(super) fn record_connection(&self) -> News {
        let mut outage = self.outage.lock();
        self.failed_until.store(0, Ordering::Relaxed);
        let is_change = self.is_down.swap(false, Ordering::Relaxed);
        News { is_change, is_for_log: is_change && std::mem::take(&mut outage.is_warned_of) }
    }

    /// Whether the server is not passed over for a failure.
    pub(super) fn is_healthy(&self, now: Timestamp) -> bool {
        self.failed_until.load(Ordering::Relaxed) <= now.millis()
    }

    /// Begins to try a connection for no request: if the server is down, it is not passed over, and
    /// no other try is under way.
    pub(super) fn begin_probe(&self, now: Timestamp) -> bool {
        self.is_down() && self.is_healthy(now) && !self.is_probed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn end_probe(&self) {
        self.is_probed.store(false, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_warning_and_its_end_one_message() {
        let server = Server::new(([127, 0, 0, 1], 1).into(), 1);
        let at = Timestamp::from_seconds;
        let both = News { is_change: true, is_for_log: true };
        let silent = News { is_change: true, is_for_log: false };

        assert_eq!(server.record_failure(at(100), at(110)), both);
        assert_eq!(server.record_failure(at(101), at(111)), News::default());
        assert_eq!(server.record_connection(), both);
        assert_eq!(server.record_connection(), News::default());
        // It fails again soon: the log says nothing, of its return neither.
        assert_eq!(server.record_failure(at(102), at(112)), silent);
        assert_eq!(server.record_connection(), silent);
        assert_eq!(server.record_failure(at(103), at(113)), silent);
        // It stays down, so the log says it in the end.
        assert_eq!(server.record_failure(at(110), at(120)), News { is_change: false, is_for_log: true });
        assert_eq!(server.record_connection(), both);
    }

    #[test]
    fn a_server_is_probed_only_while_it_is_down_and_not_passed_over() {
        let server = Server::new(([127, 0, 0, 1], 1).into(), 1);
        let at = Timestamp::from_seconds;

        assert!(!server.begin_probe(at(100)), "it is up");
        server.record_failure(at(100), at(110));
        assert!(!server.begin_probe(at(109)), "it is passed over");
        assert!(server.begin_probe(at(110)));
        assert!(!server.begin_probe(at(111)), "it is probed already");
        server.end_probe();
        assert!(server.begin_probe(at(111)));
    }
}
