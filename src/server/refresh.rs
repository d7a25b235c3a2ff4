//! Follows what changes outside the gateway: renewed certificates, servers with new addresses,
//! servers that are up again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::connectors::TransportConnector;

use super::certificates::Certificates;
use super::expiry::ExpiryWatch;
use crate::clock::Clock;
use crate::proxy::Current;

/// How often it is asked whether a server's name is due, or a server that is down.
const TICK: Duration = Duration::from_secs(1);
/// How many of these pass until certificate files are looked at again.
const TICKS_BETWEEN_FILES: u64 = 10;

/// What is followed.
pub(super) struct Refresh {
    pub(super) clock: Arc<dyn Clock>,
    /// Of the listeners.
    pub(super) certificates: Arc<Vec<Arc<Certificates>>>,
    pub(super) expiry: Arc<ExpiryWatch>,
    pub(super) current: Arc<ArcSwap<Current>>,
}

impl Refresh {
    /// Follows them for ever.
    pub(super) async fn run(self) {
        let connector = Arc::new(TransportConnector::new(None));
        let mut ticks = tokio::time::interval(TICK);
        ticks.tick().await;
        for count in 1_u64.. {
            ticks.tick().await;
            let current = self.current.load_full();
            let upstreams = &current.runtime().upstreams;
            upstreams.look_up_names(self.clock.instant());
            upstreams.probe_servers(&connector, self.clock.now());
            if count.is_multiple_of(TICKS_BETWEEN_FILES) {
                self.refresh_files().await;
            }
        }
    }

    /// Files may be slow, and must not delay a request.
    async fn refresh_files(&self) {
        let (certificates, expiry) = (Arc::clone(&self.certificates), Arc::clone(&self.expiry));
        let now = self.clock.now();
        let refreshed = tokio::task::spawn_blocking(move || {
            for certificates in certificates.iter() {
                certificates.refresh();
            }
            expiry.look(now);
        });
        if refreshed.await.is_err() {
            tracing::error!("refreshing certificates failed; trying again later");
        }
    }
}
