//! The configuration in use, with what the proxy derives from it. Every request is decided by one
//! of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::admission::Admission;
use super::client_address::TrustedProxies;
use super::read_headers::ReadHeaders;
use super::unbelieved::UnbelievedProxies;
use crate::runtime::Runtime;

/// One configuration, with what the proxy derives from it.
#[derive(Debug)]
pub struct Current {
    pub(super) runtime: Arc<Runtime>,
    pub(super) admission: Admission,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) unbelieved_proxies: UnbelievedProxies,
    pub(super) read_headers: ReadHeaders,
    /// Becomes true when another one replaces it: requests under way are then decided again.
    is_replaced: tokio::sync::watch::Sender<bool>,
    /// The same, to be asked at each chunk.
    is_retired: AtomicBool,
}

impl Current {
    /// Derives what the proxy needs from a runtime.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            admission: Admission::new(&runtime.limits).with_named_methods(runtime.routes.named_methods()),
            trusted_proxies: TrustedProxies::new(&runtime.trusted_proxies, runtime.header_edits.believed()),
            unbelieved_proxies: UnbelievedProxies::default(),
            read_headers: ReadHeaders::new(runtime.authenticator.sources()),
            runtime: Arc::new(runtime),
            is_replaced: tokio::sync::watch::Sender::new(false),
            is_retired: AtomicBool::new(false),
        }
    }

    /// Derives the same from a runtime that is to replace this one. Peers that are still no trusted
    /// proxies are not reported again.
    pub fn successor(&self, runtime: Runtime) -> Self {
        let next = Self::new(runtime);
        let unbelieved_proxies = self.unbelieved_proxies.still_untrusted(&next.trusted_proxies);
        Self { unbelieved_proxies, ..next }
    }

    /// How many peers sent `X-Forwarded-For` and are no trusted proxies.
    pub fn untrusted_proxies(&self) -> usize {
        self.unbelieved_proxies.count()
    }

    /// Wakes what waits for another configuration to replace this one.
    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.is_replaced.send_replace(true);
    }

    pub(super) fn replaced(&self) -> tokio::sync::watch::Receiver<bool> {
        self.is_replaced.subscribe()
    }

    /// Whether another one has replaced it.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    /// The runtime itself.
    pub const fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }
}
