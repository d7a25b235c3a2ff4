//! A gateway that serves: its addresses, reload, drain and stop.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::reloading::Reloading;
use crate::admin::GatewayHealth;
use crate::config::Report;
use crate::proxy::connections::Connections;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::audit_log::AuditLog;

/// A gateway that serves. Dropping it without [`RunningGateway::stop`] ends it at once.
pub struct RunningGateway {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) admin_address: SocketAddr,
    /// `None` if the file system does not allow it.
    pub(super) control_socket: Option<PathBuf>,
    /// `None` if none is configured.
    pub(super) internal_address: Option<SocketAddr>,
    /// `None` if none is configured.
    pub(super) wechat_alias_address: Option<SocketAddr>,
    pub(super) warnings: Report,
    pub(super) reloading: Arc<Reloading>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) audit_log: Arc<AuditLog>,
    pub(super) connections: Arc<Connections>,
    pub(super) health: Arc<GatewayHealth>,
    pub(super) drain_timeout: Duration,
    pub(super) shutdown: watch::Sender<bool>,
    /// Never sent: the admin listener and the socket of the operators answer as long as the process
    /// drains.
    pub(super) _doors_shutdown: watch::Sender<bool>,
    /// Becomes true when a service has ended.
    pub(super) ended: watch::Receiver<bool>,
    pub(super) threads: tokio::runtime::Runtime,
}

impl RunningGateway {
    /// The bound addresses, in the order of the configuration's listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The bound address of the admin listener.
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The bound address of the internal listener, if there is one.
    pub const fn internal_address(&self) -> Option<SocketAddr> {
        self.internal_address
    }

    /// The bound address where a program calls WeChat's API without a credential, if there is one.
    pub const fn wechat_alias_address(&self) -> Option<SocketAddr> {
        self.wechat_alias_address
    }

    /// The Unix socket of the operators; `None` if the file system did not allow it.
    pub fn control_socket(&self) -> Option<&Path> {
        self.control_socket.as_deref()
    }

    /// The warnings about the configuration at the start.
    pub const fn warnings(&self) -> &Report {
        &self.warnings
    }

    /// Loads the configuration again, and opens logs and certificates again.
    ///
    /// # Errors
    /// The [`Report`] of all errors; the old configuration stays in use.
    pub fn reload(&self) -> Result<Report, Report> {
        self.reloading.reload()
    }

    /// Waits until a service ends without a shutdown.
    pub async fn failed(&self) {
        // The sender lives as long as the threads do.
        _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Runs a future on the gateway's threads.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.threads.block_on(future)
    }

    /// Stops accepting connections, waits for requests in progress, and ends: after the configured
    /// time at the latest. Returns how many connections were cut.
    pub fn stop(self) -> usize {
        let timeout = self.drain_timeout;
        self.stop_within(timeout)
    }

    /// Like [`RunningGateway::stop`], with another time.
    pub fn stop_within(self, timeout: Duration) -> usize {
        /// How often the number of open connections is checked while draining.
        const POLL: Duration = Duration::from_millis(10);

        self.health.set_draining();
        // The receivers are gone if every service has ended already.
        _ = self.shutdown.send(true);
        let connections = Arc::clone(&self.connections);
        let drained = async {
            while connections.open() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        _ = self.threads.block_on(async { tokio::time::timeout(timeout, drained).await });
        let cut = self.connections.open();
        self.threads.shutdown_timeout(Duration::from_secs(1));
        self.access_log.flush();
        self.audit_log.flush();
        cut
    }
}

impl fmt::Debug for RunningGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGateway").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
