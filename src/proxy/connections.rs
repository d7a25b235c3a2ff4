//! How many connections there may be: in all, of one client address, and in the middle of a TLS
//! handshake.
//!
//! A connection beyond a limit is closed without an answer: the answer would cost more than the
//! connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};

use crate::address::client_network;
use crate::config;
use crate::places::{Place, Places};
use crate::telemetry::metrics::Metrics;

/// Counts connections, for all listeners together.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    most: usize,
    of_address: Mutex<HashMap<IpAddr, usize>>,
    most_of_address: usize,
    handshakes: Arc<Places<IpAddr>>,
    gauge: IntGauge,
    rejected: RejectedConnections,
}

/// Counters of closed connections, one for each reason of the metric.
#[derive(Debug)]
pub(super) struct RejectedConnections {
    too_many: IntCounter,
    too_many_of_address: IntCounter,
    too_many_handshakes: IntCounter,
    pub(super) slow_header: IntCounter,
    pub(super) large_header: IntCounter,
    pub(super) tls_failed: IntCounter,
    pub(super) proxy_protocol: IntCounter,
}

impl Connections {
    /// Starts with none open. At most `most` may be: as many as `limits` says, or fewer if the
    /// system has no room.
    pub fn new(limits: &config::Limits, most: usize, metrics: &Metrics) -> Self {
        let rejected = |reason| metrics.rejected_connections.with_label_values(&[reason]);
        Self {
            open: AtomicUsize::new(0),
            most,
            of_address: Mutex::default(),
            most_of_address: limits.max_connections_per_address,
            handshakes: Places::new(limits.max_handshakes),
            gauge: metrics.open_connections.clone(),
            rejected: RejectedConnections {
                too_many: rejected("too_many"),
                too_many_of_address: rejected("too_many_of_address"),
                too_many_handshakes: rejected("too_many_handshakes"),
                slow_header: rejected("header_timeout"),
                large_header: rejected("header_too_large"),
                tls_failed: rejected("tls_failed"),
                proxy_protocol: rejected("proxy_protocol"),
            },
        }
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) const fn rejected(&self) -> &RejectedConnections {
        &self.rejected
    }

    /// Counts a connection until the value is dropped; `None` if there are too many.
    pub(super) fn open_connection(self: &Arc<Self>) -> Option<OpenConnection> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let connection = OpenConnection { connections: Arc::clone(self), address: None };
        self.gauge.inc();
        if before < self.most {
            return Some(connection);
        }
        self.rejected.too_many.inc();
        None
    }

    /// Gives a client's handshake a place until the value is dropped. If all are taken, another
    /// handshake loses its own.
    pub(super) fn begin_handshake(&self, client: IpAddr) -> Place<IpAddr> {
        let (place, was_full) = self.handshakes.take(client_network(client));
        if was_full {
            self.rejected.too_many_handshakes.inc();
        }
        place
    }
}

/// A connection that is counted.
pub(super) struct OpenConnection {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl OpenConnection {
    /// Counts the connection for this client; `None` if the client has too many.
    pub(super) fn count_for(&mut self, client: IpAddr) -> Option<()> {
        let address = client_network(client);
        let mut counts = self.connections.of_address.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.connections.most_of_address {
            self.connections.rejected.too_many_of_address.inc();
            return None;
        }
        *count += 1;
        self.address = Some(address);
        Some(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        self.connections.gauge.dec();
        let Some(address) = self.address else { return };
        let mut counts = self.connections.of_address.lock();
        // The address is removed with its last connection, so there are never more addresses than
        // connections.
        if let Some(count) = counts.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn connections(most: usize, of_address: usize, handshakes: usize) -> Arc<Connections> {
        let limits = config::Limits {
            max_connections_per_address: of_address,
            max_handshakes: handshakes,
            ..config::Limits::default()
        };
        Arc::new(Connections::new(&limits, most, &Metrics::new().unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_more_than_the_most_are_open_and_one_that_closes_makes_room() {
        let connections = connections(2, 10, 10);
        let first = connections.open_connection();
        let second = connections.open_connection();

        assert!(first.is_some() && second.is_some());
        assert!(connections.open_connection().is_none());
        assert_eq!(connections.open(), 2);
        drop(first);
        assert!(connections.open_connection().is_some());
    }

    #[test]
    fn one_address_has_its_share_and_leaves_the_others_theirs() {
        let connections = connections(100, 2, 10);
        let open = |client: &str| {
            let mut connection = connections.open_connection().unwrap();
            connection.count_for(ip(client)).map(|()| connection)
        };
        let held: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1"].map(open).into_iter().collect();

        assert!(held.iter().all(Option::is_some));
        assert!(open("192.0.2.1").is_none(), "mapped addresses are the same client");
        assert!(open("192.0.2.2").is_some());
        drop(held);
        assert!(open("192.0.2.1").is_some());
    }

    #[test]
    fn an_ipv6_client_is_a_whole_64() {
        let connections = connections(100, 1, 10);
        let mut first = connections.open_connection().unwrap();
        let mut second = connections.open_connection().unwrap();
        let mut third = connections.open_connection().unwrap();

        assert!(first.count_for(ip("2001:db8::1")).is_some());
        assert!(second.count_for(ip("2001:db8::ffff:ffff:ffff:ffff")).is_none());
        assert!(third.count_for(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn addresses_are_removed_with_their_last_connection() {
        let connections = connections(2000, 2, 10);
        for number in 0..1000_u32 {
            let mut connection = connections.open_connection().unwrap();
            connection.count_for(IpAddr::V4(number.into())).unwrap();
        }

        assert_eq!(connections.of_address.lock().len(), 0);
        assert_eq!(connections.open(), 0);
    }

    #[test]
    fn a_handshake_without_a_place_takes_one_and_the_loss_is_counted() {
        let connections = connections(10, 10, 1);
        let first = connections.begin_handshake(ip("192.0.2.1"));
        drop(first);
        let second = connections.begin_handshake(ip("192.0.2.1"));
        assert_eq!(connections.rejected.too_many_handshakes.get(), 0);

        let _third = connections.begin_handshake(ip("192.0.2.2"));

        assert!(second.lost().now_or_never().is_some());
        assert_eq!(connections.rejected.too_many_handshakes.get(), 1);
    }

    #[test]
    fn handshakes_of_a_64_are_those_of_one_client() {
        let connections = connections(10, 10, 2);
        let of = |client: &str| connections.begin_handshake(ip(client));
        let held = [of("2001:db8::1"), of("2001:db8::2"), of("2001:db8:0:1::1")];

        let lost = held.iter().map(|place| place.lost().now_or_never().is_some());
        assert_eq!(lost.collect::<Vec<_>>(), [true, false, false]);
    }
}
