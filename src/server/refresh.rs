//! Follows what changes outside the gateway: renewed certificates, servers with new addresses.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::certificates::Certificates;
use crate::proxy::Current;

/// How often certificate files are checked for changes, and servers' names resolved.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Refreshes certificates and addresses forever.
pub(super) async fn refresh(certificates: Arc<Vec<Arc<Certificates>>>, current: Arc<ArcSwap<Current>>) {
    let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let certificates = Arc::clone(&certificates);
        let current = current.load_full();
        // Files and names may be slow, and must not delay a request.
        let refreshed = tokio::task::spawn_blocking(move || {
            for certificates in certificates.iter() {
                certificates.refresh();
            }
            current.runtime().upstreams.resolve_again();
        });
        if refreshed.await.is_err() {
            tracing::error!("refreshing certificates failed; trying again in {REFRESH_INTERVAL:?}");
        }
    }
}
