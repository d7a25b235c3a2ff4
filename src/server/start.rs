//! The start of a gateway: everything is built, every address bound, then served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::proxy::http_proxy;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::error::StartError;
use super::expiry::ExpiryWatch;
use super::first_end::report_first_end;
use super::listen::BoundSocket;
use super::open_files::{DoorConnections, OpenFiles};
use super::refresh::Refresh;
use super::reloading::Reloading;
use super::running::RunningGateway;
use super::tls::{self, ListenerTls};
use super::{Sources, files, shared};
use crate::admin::{Admin, GatewayHealth, HealthState};
use crate::config::{Config, Document, Findings, Report, StoreEngine};
use crate::control::{self, Control, ControlSocket};
use crate::internal::{self, Internal, InternalListener};
use crate::key_file::{self, OnMissingKey};
use crate::management::Management;
use crate::proxy::budget::RequestBudget;
use crate::proxy::connections::Connections;
use crate::proxy::guard::{DoorGuard, Guard, GuardServices};
use crate::proxy::health::HealthPaths;
use crate::proxy::stream_refusals::StreamRefusals;
use crate::proxy::{Current, Gateway};
use crate::reload::Reload;
use crate::runtime::{Runtime, Shared};
use crate::store::{self, StoreHealth};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;

/// Starts a gateway: builds everything, binds every address, then serves.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub fn start(document: &Document, path: PathBuf, sources: Sources) -> Result<RunningGateway, StartError> {
    let config = &document.config;
    let prepared = Prepared::build(document, &sources)?;
    let Prepared { shared, runtime, access_log, audit_log, listeners_tls, files, .. } = prepared;
    let Sockets { admin, internal, wechat_alias, listeners } = Sockets::bind(config)?;
    let addresses = listeners.iter().map(|socket| socket.address).collect();
    let admin_address = admin.address;
    let address_of = |socket: &Option<BoundSocket>| socket.as_ref().map(|socket| socket.address);
    let (internal_address, wechat_alias_address) = (address_of(&internal), address_of(&wechat_alias));
    let threads = start_threads(worker_threads(config))?;
    let doors = files.doors;
    let current = Arc::new(ArcSwap::from_pointee(Current::new(runtime)));
    let health = Arc::new(GatewayHealth::starting());
    let probes = health_paths(config, &listeners, &health);
    let gateway = build_gateway(config, files, &current, (&shared, &access_log), probes)?;
    threads.spawn(gateway.requests);
    let (shutdown, shutdown_watch) = watch::channel(false);
    let guards = build_guards(listeners, config, &listeners_tls, &gateway.guard_services)?;
    let internal = internal_listeners((internal, wechat_alias), prepared.internal_tls.as_ref(), doors)?;
    let certificates = listeners_tls.into_iter().chain(prepared.internal_tls).map(|tls| tls.certificates);
    let certificates = Arc::new(certificates.collect::<Vec<_>>());
    let expiry = follow_surroundings(&threads, config, &shared, &certificates, &current);
    let reloading = Arc::new(Reloading {
        expiry,
        clock: Arc::clone(&shared.clock),
        reload: Reload::new(path, config.clone(), Arc::clone(&current), shared.clone()),
        access_log: Arc::clone(&access_log),
        audit_log: Arc::clone(&audit_log),
        certificates,
        one_at_a_time: Mutex::default(),
    });
    let doors = Doors::build(&shared, &health, &current, &reloading, doors);
    let (doors_shutdown, doors_watch) = watch::channel(false);
    let control_socket = prepared.control_socket.as_ref().map(|socket| socket.path().to_owned());
    let mut services = JoinSet::new();
    let sockets = DoorSockets { admin, control: prepared.control_socket, internal };
    doors.serve(sockets, &doors_watch, &mut services, threads.handle());
    serve_clients(guards, &shared.store_health, &shutdown_watch, &mut services, threads.handle());
    let ended = spawn_background(&threads, &shared, services);
    reloading.reload.record_start();
    health.set_ready();
    Ok(RunningGateway {
        addresses,
        admin_address,
        control_socket,
        internal_address,
        wechat_alias_address,
        warnings: prepared.warnings,
        reloading,
        access_log,
        audit_log,
        connections: gateway.guard_services.connections,
        health,
        drain_timeout: config.drain_timeout.0,
        shutdown,
        _doors_shutdown: doors_shutdown,
        ended,
        threads,
    })
}

/// Follows certificates, names and servers; returns what says when certificates expire.
fn follow_surroundings(
    threads: &tokio::runtime::Runtime,
    config: &Config,
    shared: &Shared,
    certificates: &Arc<Vec<Arc<Certificates>>>,
    current: &Arc<ArcSwap<Current>>,
) -> Arc<ExpiryWatch> {
    let (metrics, now) = (Arc::clone(&shared.metrics), shared.clock.now());
    let expiry = Arc::new(ExpiryWatch::new(config, Arc::clone(certificates), metrics, now));
    current.load().runtime().upstreams.publish(None);
    let followed = Refresh {
        clock: Arc::clone(&shared.clock),
        certificates: Arc::clone(certificates),
        expiry: Arc::clone(&expiry),
        current: Arc::clone(current),
    };
    threads.spawn(followed.run());
    expiry
}

/// Follows what other gateways do in the store, and waits for the first service that ends.
fn spawn_background(
    threads: &tokio::runtime::Runtime,
    shared: &Shared,
    services: JoinSet<()>,
) -> watch::Receiver<bool> {
    let sessions = Arc::clone(&shared.session_core);
    threads.spawn(async move { sessions.follow().await });
    let (ended_sender, ended) = watch::channel(false);
    threads.spawn(report_first_end(services, ended_sender));
    ended
}

/// Serves the public listeners, once the store has answered.
fn serve_clients(
    guards: Vec<(BoundSocket, Guard)>,
    store_health: &Arc<StoreHealth>,
    shutdown: &ShutdownWatch,
    services: &mut JoinSet<()>,
    threads: &Handle,
) {
    for (socket, guard) in guards {
        let (watch, store_health) = (shutdown.clone(), Arc::clone(store_health));
        let serve = async move {
            wait_for_store(&store_health).await;
            socket.serve("gateway", guard, watch).await;
        };
        services.spawn_on(serve, threads);
    }
}

/// Waits until the store has answered, for two seconds at most: until then a gateway that shares
/// its store knows of no revocation, and refuses every token. Clients that connect meanwhile wait
/// to be accepted. Later `/readyz` and `Retry-After` say that the store does not answer.
async fn wait_for_store(health: &StoreHealth) {
    /// How often it is asked whether the store has answered.
    const POLL: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(2);

    let answered = async {
        while !health.is_available() {
            tokio::time::sleep(POLL).await;
        }
    };
    _ = tokio::time::timeout(LONGEST, answered).await;
}

/// What is built before an address is bound.
struct Prepared {
    shared: Shared,
    runtime: Runtime,
    access_log: Arc<AccessLog>,
    audit_log: Arc<AuditLog>,
    /// Of the listeners with TLS, in the order of the configuration.
    listeners_tls: Vec<ListenerTls>,
    internal_tls: Option<ListenerTls>,
    files: OpenFiles,
    /// `None` if the file system does not allow it.
    control_socket: Option<ControlSocket>,
    warnings: Report,
}

impl Prepared {
    /// Opens the store and the logs, reads the files and builds the runtime; reports everything
    /// that is wrong.
    fn build(document: &Document, sources: &Sources) -> Result<Self, StartError> {
        let config = &document.config;
        let metrics = Arc::new(Metrics::new()?);
        let mut findings = Findings::default();
        files::refuse_encrypted_keys(config, &mut findings);
        key_file::check_data_dir(&config.data_dir, OnMissingKey::Create, &mut findings);
        if findings.has_errors() {
            return Err(StartError::Config(document.report(findings)));
        }
        let clock = Arc::clone(&sources.clock);
        let Some(store) = store::open(&config.store, &config.data_dir, clock, &metrics, &mut findings) else {
            return Err(StartError::Config(document.report(findings)));
        };
        let shared = shared(config, sources, OnMissingKey::Create, metrics, store, &mut findings)?;
        let listeners_tls = tls::load(config, &mut findings);
        let internal_tls = tls::load_internal(config, &mut findings);
        let dropped_lines = shared.metrics.access_log_dropped_lines.clone();
        let access_log = AccessLog::open(&config.telemetry.access_log, dropped_lines, &mut findings);
        let dropped_lines = shared.metrics.audit_log_dropped_lines.clone();
        let audit_log = AuditLog::open(&config.telemetry.audit_log, dropped_lines, &mut findings);
        let runtime = Runtime::build(config, OnMissingKey::Create, &shared, None, &mut findings);
        let files = OpenFiles::share(config.limits.max_connections, &mut findings);
        let is_optional = config.store.engine == StoreEngine::Redis;
        let entropy = shared.entropy.as_ref();
        let control_socket = ControlSocket::bind(&config.data_dir, is_optional, entropy, &mut findings);
        let warnings = document.report(findings);
        let (Some(runtime), Some(access_log), Some(audit_log), false) =
            (runtime, access_log, audit_log, warnings.has_errors())
        else {
            return Err(StartError::Config(warnings));
        };
        let (Some(listeners_tls), Some(internal_tls)) = (listeners_tls, internal_tls) else {
            return Err(StartError::Config(warnings));
        };
        let (access_log, audit_log) = (Arc::new(access_log), Arc::new(audit_log));
        let shared = shared.with_audit_log(Arc::clone(&audit_log));
        Ok(Self {
            shared,
            runtime,
            access_log,
            audit_log,
            listeners_tls,
            internal_tls,
            files,
            control_socket,
            warnings,
        })
    }
}

/// The bound sockets.
struct Sockets {
    admin: BoundSocket,
    internal: Option<BoundSocket>,
    wechat_alias: Option<BoundSocket>,
    /// In the order of the configuration.
    listeners: Vec<BoundSocket>,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let admin = BoundSocket::bind(config.admin.address)?;
        let section = config.internal.as_ref();
        let internal = section.map(|internal| BoundSocket::bind(internal.address));
        let alias = section.and_then(|internal| internal.wechat_alias.as_ref());
        let wechat_alias = alias.map(|alias| BoundSocket::bind(alias.address)).transpose()?;
        let listeners = config.listeners.iter().map(|listener| BoundSocket::bind(listener.address));
        let listeners = listeners.collect::<Result<_, _>>()?;
        Ok(Self { admin, internal: internal.transpose()?, wechat_alias, listeners })
    }
}

/// The internal listener, and the address for calls of WeChat's API without a credential, with what
/// they need, as far as there are any.
fn internal_listeners(
    (internal, wechat_alias): (Option<BoundSocket>, Option<BoundSocket>),
    tls: Option<&ListenerTls>,
    connections: DoorConnections,
) -> Result<Vec<InternalListener>, StartError> {
    let mut listeners = Vec::new();
    if let Some(socket) = internal {
        let tls = tls.map(|tls| tls.acceptor(false)).transpose()?;
        let (socket, max_connections) = (socket.into_socket(), connections.internal);
        listeners.push(InternalListener { socket, tls, max_connections, is_wechat_alias: false });
    }
    if let Some(socket) = wechat_alias {
        let (socket, max_connections) = (socket.into_socket(), connections.wechat_alias);
        listeners.push(InternalListener { socket, tls: None, max_connections, is_wechat_alias: true });
    }
    Ok(listeners)
}

/// The doors besides the public listeners. They answer as long as the process drains.
struct Doors {
    admin: DoorGuard<Admin>,
    control: Control,
    control_connections: usize,
    internal: Internal,
}

/// Where the doors are.
struct DoorSockets {
    admin: BoundSocket,
    control: Option<ControlSocket>,
    internal: Vec<InternalListener>,
}

impl Doors {
    fn build(
        shared: &Shared,
        health: &Arc<GatewayHealth>,
        current: &Arc<ArcSwap<Current>>,
        reloading: &Arc<Reloading>,
        connections: DoorConnections,
    ) -> Self {
        let running = |current: &Arc<ArcSwap<Current>>| {
            let current = Arc::clone(current);
            move || Arc::clone(current.load().runtime())
        };
        let management = Arc::new(Management::new(shared.clone(), running(current)));
        let reloading = Arc::clone(reloading);
        let admin = Admin::new(shared.clone(), Arc::clone(health), running(current));
        Self {
            admin: DoorGuard::new(admin, connections.admin, &shared.metrics),
            internal: Internal::new(Arc::clone(&management)),
            control: Control::new(management, Box::new(move || reloading.reload())),
            control_connections: connections.control,
        }
    }

    fn serve(
        self,
        sockets: DoorSockets,
        shutdown: &ShutdownWatch,
        services: &mut JoinSet<()>,
        threads: &Handle,
    ) {
        let DoorSockets { admin, control, internal } = sockets;
        let watch = shutdown.clone();
        services.spawn_on(async move { admin.serve("admin", self.admin, watch).await }, threads);
        if let Some(socket) = control {
            let control = Arc::new(self.control);
            let served = control::serve(socket, control, self.control_connections, shutdown.clone());
            services.spawn_on(served, threads);
        }
        let programs = Arc::new(self.internal);
        for listener in internal {
            services.spawn_on(internal::serve(listener, Arc::clone(&programs), shutdown.clone()), threads);
        }
    }
}

/// Builds the guard of each listener.
fn build_guards(
    sockets: Vec<BoundSocket>,
    config: &Config,
    listeners_tls: &[ListenerTls],
    services: &GuardServices,
) -> Result<Vec<(BoundSocket, Guard)>, StartError> {
    let mut listeners_tls = listeners_tls.iter();
    let guards = sockets.into_iter().zip(&config.listeners).map(|(socket, listener)| {
        let tls = match &listener.tls {
            None => None,
            Some(tls) => {
                let loaded = listeners_tls.next();
                let loaded = loaded.ok_or_else(|| StartError::Tls("no certificates".into()))?;
                Some(loaded.acceptor(tls.http2)?)
            }
        };
        Ok((socket, Guard::new(listener, &config.limits, tls, services)))
    });
    guards.collect()
}

/// Where the bound listeners answer the probes of balancers.
fn health_paths(config: &Config, bound: &[BoundSocket], health: &Arc<GatewayHealth>) -> HealthPaths {
    let listeners = bound.iter().zip(&config.listeners);
    let listeners = listeners.map(|(socket, listener)| (socket.address, listener.health.clone()));
    let health = Arc::clone(health);
    HealthPaths::new(listeners.collect(), move || health.state() == HealthState::Draining)
}

/// The gateway, ready to serve.
struct BuiltGateway<W> {
    guard_services: GuardServices,
    /// Watches the requests under way.
    requests: W,
}

fn build_gateway(
    config: &Config,
    files: OpenFiles,
    current: &Arc<ArcSwap<Current>>,
    (shared, access_log): (&Shared, &Arc<AccessLog>),
    health: HealthPaths,
) -> Result<BuiltGateway<impl Future<Output = ()> + Send + use<>>, StartError> {
    let connections = Arc::new(Connections::new(&config.limits, files.connections, &shared.metrics));
    let budget =
        RequestBudget::new(&config.limits, files.requests, Arc::clone(&connections), &shared.metrics);
    let (current_one, log) = (Arc::clone(current), Arc::clone(access_log));
    let gateway = Gateway::new(current_one, shared.clone(), log, Arc::new(budget), health)?;
    let requests = gateway.watch_requests();
    let conf = Arc::new(server_conf(worker_threads(config), files.idle));
    let guard_services = GuardServices {
        proxy: Arc::new(http_proxy(&conf, gateway)),
        current: Arc::clone(current),
        connections,
        stream_refusals: Arc::new(StreamRefusals::new(
            shared.clone(),
            Arc::clone(access_log),
            Arc::clone(current),
        )?),
    };
    Ok(BuiltGateway { guard_services, requests })
}

fn start_threads(worker_threads: usize) -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .thread_name("menshen")
        .enable_all()
        .build()
        .map_err(StartError::Threads)
}

fn worker_threads(config: &Config) -> usize {
    match config.worker_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

fn server_conf(worker_threads: usize, idle_connections: usize) -> ServerConf {
    ServerConf {
        threads: worker_threads,
        // As many tries as `upstream` allows, and one to spare. With 0, Pingora would forward
        // nothing.
        max_retries: 4,
        // Pingora multiplies it by the threads.
        upstream_keepalive_pool_size: (idle_connections / worker_threads).max(1),
        ..ServerConf::default()
    }
}
