//! The guard of a listener that is not for clients: how many connections it may have. It has files
//! of its own, so that neither it nor a public listener can use up those of the other.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use prometheus::IntCounter;

use super::listener::peer;
use crate::address::client_network;
use crate::places::Places;
use crate::telemetry::metrics::Metrics;

/// Bounds the connections of a service. Beyond the bound, the oldest connection of the peer that
/// has most is closed.
pub struct DoorGuard<A> {
    app: Arc<A>,
    places: Arc<Places<IpAddr>>,
    closed: IntCounter,
}

impl<A> DoorGuard<A> {
    /// Guards a service that may have so many connections.
    pub fn new(app: A, most: usize, metrics: &Metrics) -> Self {
        let closed = metrics.rejected_connections.with_label_values(&["too_many_of_door"]);
        Self { app: Arc::new(app), places: Places::new(most), closed }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for DoorGuard<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer: IpAddr = peer(&stream)?;
        let (place, was_full) = self.places.take(client_network(peer));
        if was_full {
            self.closed.inc();
        }
        tokio::select! {
            biased;
            reused = self.app.process_new(stream, shutdown) => reused,
            () = place.lost() => None,
        }
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
