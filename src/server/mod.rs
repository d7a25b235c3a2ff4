//! Composition root: from a configuration to a process that serves, reloads and drains.
//!
//! Pingora's own `Server` is not used: its grace period is a plain sleep, it gives each service a runtime of its
//! own, and a service that panics leaves a process that lives and serves nobody. Here one runtime serves all
//! listeners, the first one to end ends the process, and a drain is over as soon as the last connection is.

mod certificates;
mod clients;
mod listen;
mod open_files;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{Admin, Health};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Document, Findings, Report, StoreEngine};
use crate::entropy::{Entropy, NoEntropy, SystemEntropy};
use crate::key_file::OnMissingKey;
use crate::proxy::connections::Connections;
use crate::proxy::guard::{Guard, GuardServices};
use crate::proxy::{Current, Gateway};
use crate::reload::Reload;
use crate::runtime::{Runtime, Shared};
use crate::store::{self, Store};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;

use self::certificates::Certificates;
use self::listen::Bound;

/// How often certificate files are looked at, and servers' names resolved.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Where time and randomness come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(Report),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// A metric is defined twice, which is a mistake in the program.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// There is no randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Why a gateway that was running ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener or the admin listener ended by itself.
    #[error("a listener failed; see the log for why")]
    ServiceEnded,
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

/// A gateway that serves; dropping it without [`Running::stop`] ends it at once.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    warnings: Report,
    reload: Arc<Reload>,
    access_log: Arc<AccessLog>,
    audit_log: Arc<AuditLog>,
    certificates: Arc<Vec<Arc<Certificates>>>,
    connections: Arc<Connections>,
    health: Arc<Health>,
    drain_timeout: Duration,
    shutdown: watch::Sender<bool>,
    /// Never told anything: the admin listener answers for as long as the process drains.
    _admin_shutdown: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    threads: tokio::runtime::Runtime,
}

/// Checks a configuration as a start would, and writes nothing.
pub fn check(config: &Config, sources: &Sources, findings: &mut Findings) -> Result<(), StartError> {
    let is_shared = config.store.engine == StoreEngine::Redis;
    let shared = shared(sources, Arc::new(Metrics::new()?), Arc::new(store::Closed { is_shared }))?;
    store::check(&config.store, &shared.metrics, findings);
    tls::load(config, findings);
    AccessLog::check(&config.telemetry.access_log, findings);
    AuditLog::check(&config.telemetry.audit_log, findings);
    crate::telemetry::diagnostics::check(&config.telemetry.log, findings);
    Runtime::build(config, OnMissingKey::Ephemeral, &shared, None, findings);
    Ok(())
}

/// Starts a gateway: builds everything, binds every address, then serves.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub fn start(document: &Document, path: PathBuf, sources: Sources) -> Result<Running, StartError> {
    let config = &document.config;
    let metrics = Arc::new(Metrics::new()?);
    let mut findings = Findings::default();
    let clock = Arc::clone(&sources.clock);
    let Some(store) = store::open(&config.store, &config.data_dir, clock, &metrics, &mut findings) else {
        return Err(StartError::Config(document.report(findings)));
    };
    let shared = shared(&sources, metrics, store)?;
    let identities = tls::load(config, &mut findings);
    let dropped_lines = shared.metrics.access_log_dropped_lines.clone();
    let access_log = AccessLog::open(&config.telemetry.access_log, dropped_lines, &mut findings);
    let dropped_lines = shared.metrics.audit_log_dropped_lines.clone();
    let audit_log = AuditLog::open(&config.telemetry.audit_log, dropped_lines, &mut findings);
    let runtime = Runtime::build(config, OnMissingKey::Create, &shared, None, &mut findings);
    let max_connections = open_files::most_connections(config.limits.max_connections, &mut findings);
    let report = document.report(findings);
    let (Some(runtime), Some(access_log), Some(audit_log), Some(identities), false) =
        (runtime, access_log, audit_log, identities, report.has_errors())
    else {
        return Err(StartError::Config(report));
    };
    let audit_log = Arc::new(audit_log);
    let shared = shared.with_audit_log(Arc::clone(&audit_log));

    let admin_socket = Bound::bind(config.admin.address)?;
    let sockets: Vec<Bound> =
        config.listeners.iter().map(|listener| Bound::bind(listener.address)).collect::<Result<_, _>>()?;

    let worker_threads = worker_threads(config);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .thread_name("menshen")
        .enable_all()
        .build()
        .map_err(StartError::Threads)?;
    let current = Arc::new(ArcSwap::from_pointee(Current::new(runtime)));
    let access_log = Arc::new(access_log);
    let gateway = Gateway::new(Arc::clone(&current), shared.clone(), Arc::clone(&access_log))?;
    let proxy = Arc::new(http_proxy(&Arc::new(server_conf(worker_threads)), gateway));
    let connections = Arc::new(Connections::new(&config.limits, max_connections, &shared.metrics));
    let health = Arc::new(Health::starting());
    let (shutdown, shutdown_watch) = watch::channel(false);
    let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.address).collect();
    let admin_address = admin_socket.address;

    let mut services = JoinSet::new();
    let admin = Admin::new(shared.clone(), Arc::clone(&health), {
        let current = Arc::clone(&current);
        move || Arc::clone(current.load().runtime())
    });
    let (admin_shutdown, watch) = watch::channel(false);
    services.spawn_on(async move { admin_socket.serve("admin", admin, watch).await }, threads.handle());
    let mut loaded = identities.iter();
    let services_of_guard =
        GuardServices { proxy, current: Arc::clone(&current), connections: Arc::clone(&connections) };
    for (socket, listener) in sockets.into_iter().zip(&config.listeners) {
        let tls = match &listener.tls {
            None => None,
            Some(tls) => {
                let identity = loaded.next().ok_or_else(|| StartError::Tls("no certificates".into()))?;
                Some(identity.acceptor(tls.http2)?)
            }
        };
        let guard = Guard::new(listener, &config.limits, tls, &services_of_guard);
        let watch = shutdown_watch.clone();
        services.spawn_on(async move { socket.serve("gateway", guard, watch).await }, threads.handle());
    }
    let certificates =
        Arc::new(identities.into_iter().map(|identity| identity.certificates).collect::<Vec<_>>());
    threads.spawn(refresh(Arc::clone(&certificates), Arc::clone(&current)));
    let sessions = Arc::clone(&shared.session_core);
    threads.spawn(async move { sessions.follow().await });
    let (ended_sender, ended) = watch::channel(false);
    threads.spawn(tell_first_end(services, ended_sender));
    let reload = Arc::new(Reload::new(path, config.clone(), current, shared));
    reload.record_start();
    health.set_ready();
    Ok(Running {
        addresses,
        admin_address,
        warnings: report,
        reload,
        access_log,
        audit_log,
        certificates,
        connections,
        health,
        drain_timeout: config.drain_timeout.0,
        shutdown,
        _admin_shutdown: admin_shutdown,
        ended,
        threads,
    })
}

impl Running {
    /// The bound addresses, in the order of the configuration's listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The bound address of the admin listener.
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What the operator should know of the configuration that was started with.
    pub const fn warnings(&self) -> &Report {
        &self.warnings
    }

    /// Loads the configuration again, and opens logs and certificates again.
    ///
    /// # Errors
    /// The [`Report`] of everything wrong; what ran before goes on.
    pub fn reload(&self) -> Result<Report, Report> {
        self.access_log.reopen();
        self.audit_log.reopen();
        for certificates in self.certificates.iter() {
            certificates.refresh();
        }
        self.reload.reload()
    }

    /// Waits until a service ends that should not have.
    pub async fn failed(&self) {
        // The sender lives as long as the threads do.
        _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Runs a future on the gateway's threads.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.threads.block_on(future)
    }

    /// Stops accepting, lets requests under way finish, and ends: after the configured time at the latest.
    /// Returns how many connections were cut.
    pub fn stop(self) -> usize {
        let timeout = self.drain_timeout;
        self.stop_within(timeout)
    }

    /// As [`Running::stop`], with another time.
    pub fn stop_within(self, timeout: Duration) -> usize {
        /// How often the number of open connections is looked at while draining.
        const POLL: Duration = Duration::from_millis(10);

        self.health.set_draining();
        // Nobody listens any more when every service has ended already.
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

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Runs a gateway until a signal ends it: SIGTERM drains, SIGINT does not wait, SIGHUP loads the configuration again.
///
/// # Errors
/// [`RunError`]; the process must end with a failure, since it serves nobody.
pub fn run(document: &Document, path: &Path) -> Result<(), RunError> {
    let running = start(document, path.to_owned(), Sources::default())?;
    log_start(&running, &document.config);
    let ending = running.block_on(wait_for_end(&running));
    match ending {
        Ok(Ending::Drain) => {
            tracing::info!("draining, at most {:?}", running.drain_timeout);
            let cut = running.stop();
            tracing::info!(connections.cut = cut, "stopped, {cut} connections cut");
            Ok(())
        }
        Ok(Ending::AtOnce) => {
            running.stop_within(Duration::ZERO);
            Ok(())
        }
        Err(error) => {
            running.stop_within(Duration::ZERO);
            Err(error)
        }
    }
}

/// What a signal asks for.
enum Ending {
    Drain,
    AtOnce,
}

async fn wait_for_end(running: &Running) -> Result<Ending, RunError> {
    let on = |kind| signal(kind).map_err(RunError::Signals);
    let (mut terminate, mut interrupt, mut hangup) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(Ending::Drain),
            _ = interrupt.recv() => return Ok(Ending::AtOnce),
            () = running.failed() => return Err(RunError::ServiceEnded),
            // Reading files and resolving names may block; nothing else runs on this thread.
            _ = hangup.recv() => log_reload(running.reload()),
        }
    }
}

fn log_start(running: &Running, config: &Config) {
    tracing::info!("menshen {} started", env!("CARGO_PKG_VERSION"));
    tracing::info!("sessions are kept in {}", store::place(&config.store, &config.data_dir));
    for address in &running.addresses {
        tracing::info!(server.address = %address, "listening on {address}");
    }
    tracing::info!(server.address = %running.admin_address, "admin listening on {}", running.admin_address);
    for finding in running.warnings.findings() {
        tracing::warn!("{finding}");
    }
}

fn log_reload(reloaded: Result<Report, Report>) {
    match reloaded {
        Ok(warnings) => {
            tracing::info!("loaded the configuration again");
            for finding in warnings.findings() {
                tracing::warn!("{finding}");
            }
        }
        Err(report) => tracing::error!("kept the old configuration, the new one cannot be used:\n{report}"),
    }
}

fn shared(sources: &Sources, metrics: Arc<Metrics>, store: Arc<dyn Store>) -> Result<Shared, StartError> {
    Ok(Shared::new(Arc::clone(&sources.clock), Arc::clone(&sources.entropy), metrics, store)?)
}

fn worker_threads(config: &Config) -> usize {
    match config.worker_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

fn server_conf(worker_threads: usize) -> ServerConf {
    ServerConf {
        threads: worker_threads,
        // As many tries as `upstream` allows itself, and one to spare: 0 would mean that nothing is ever forwarded.
        max_retries: 4,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    }
}

/// Tells when the first service has ended, by itself or by a panic. Services end at a shutdown only; one that ends
/// earlier has failed, and the others must not outlive it.
async fn tell_first_end(mut services: JoinSet<()>, ended: watch::Sender<bool>) {
    services.join_next().await;
    _ = ended.send(true);
    while services.join_next().await.is_some() {}
}

/// Follows what changes outside: renewed certificates, servers that moved.
async fn refresh(certificates: Arc<Vec<Arc<Certificates>>>, current: Arc<ArcSwap<Current>>) {
    let mut ticks = tokio::time::interval(REFRESH_INTERVAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let certificates = Arc::clone(&certificates);
        let current = current.load_full();
        // Files and names may be slow, and must not hold up a request.
        let refreshed = tokio::task::spawn_blocking(move || {
            for certificates in certificates.iter() {
                certificates.refresh();
            }
            current.runtime().upstreams.resolve_again();
        });
        if refreshed.await.is_err() {
            tracing::error!("looking for renewed certificates failed; trying again in {REFRESH_INTERVAL:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_told(services: JoinSet<()>) -> bool {
        let (sender, mut ended) = watch::channel(false);
        tokio::spawn(tell_first_end(services, sender));
        let told = ended.wait_for(|ended| *ended);
        tokio::time::timeout(Duration::from_millis(500), told).await.is_ok_and(|told| told.is_ok())
    }

    #[tokio::test]
    async fn the_first_service_to_end_is_noticed_however_it_ends() {
        for (name, ends, expected) in
            [("returns", Some(false), true), ("panics", Some(true), true), ("lives", None, false)]
        {
            let mut services = JoinSet::new();
            services.spawn(std::future::pending());
            services.spawn(async move {
                match ends {
                    Some(true) => panic!("a service panics, as the test wants it to"),
                    Some(false) => {}
                    None => std::future::pending().await,
                }
            });

            assert_eq!(is_told(services).await, expected, "{name}");
        }
    }
}
