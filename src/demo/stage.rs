//! The running parts of the demo: WeChat, the backend, the gateway, and their folder.

use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::DemoError;
use super::backend::Backend;
use super::step::DemoServer;
use crate::clock::SystemClock;
use crate::config::Document;
use crate::emulator::{self, Emulator};
use crate::entropy::{self, Entropy, SystemEntropy};
use crate::server::{self, Sources, StartError};

/// The app and the user of the steps. The emulator knows both without a configuration.
pub(super) const APPID: &str = "wxe000000000000001";
pub(super) const USER: &str = "alice";
/// The website that the same user signs in to with a browser.
pub(super) const SITE_APPID: &str = "wxe000000000000004";
/// How often another port is chosen, if another program took the first one.
const MAX_TRIES: usize = 5;

/// All running parts.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) emulator: Arc<Emulator>,
    wechat: emulator::Running,
    backend: Backend,
    gateway: server::RunningGateway,
    gateway_address: SocketAddr,
    folder: Folder,
    threads: Runtime,
}

impl Stage {
    /// Starts everything on ports that the system chooses.
    pub(super) fn start() -> Result<Self, DemoError> {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(start_error("a thread"))?;
        let emulator =
            Emulator::new(emulator::Config::default(), Arc::new(SystemClock), Arc::new(SystemEntropy));
        let (wechat, backend) = threads.block_on(async {
            let wechat = emulator.listen((Ipv4Addr::LOCALHOST, 0).into()).map_err(start_error("WeChat"))?;
            Ok::<_, DemoError>((wechat, Backend::start().await.map_err(start_error("the backend"))?))
        })?;
        let folder = Folder::create(&SystemEntropy).map_err(start_error("a temporary folder"))?;
        let gateway = start_gateway(&folder, &wechat.url(), backend.address)?;
        let gateway_address = gateway.addresses().first().copied().ok_or(DemoError::Ended)?;
        Ok(Self { emulator, wechat, backend, gateway, gateway_address, folder, threads })
    }

    /// The address of a server that steps call.
    pub(super) fn address(&self, server: DemoServer) -> SocketAddr {
        match server {
            DemoServer::WeChat => self.wechat.address,
            DemoServer::Gateway => self.gateway_address,
            DemoServer::Admin => self.gateway.admin_address(),
        }
    }

    /// The address of the backend. No step calls it directly.
    pub(super) const fn backend(&self) -> SocketAddr {
        self.backend.address
    }

    /// The folder of the configuration and the access log.
    pub(super) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Runs a future on the threads of the parts.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.threads.block_on(future)
    }

    /// Shows something, then serves until a signal ends the demo.
    pub(super) fn show_until_signal(
        &self,
        show: impl FnOnce(&Self) -> io::Result<()>,
    ) -> Result<(), DemoError> {
        self.block_on(async {
            // Signals are caught before anything is shown: the reader can end the demo at once.
            let on = |kind| signal(kind).map_err(start_error("signals"));
            let (mut interrupt, mut terminate, mut hangup) =
                (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?);
            show(self)?;
            tokio::select! {
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
                // The terminal was closed; the folder must still be removed.
                _ = hangup.recv() => Ok(()),
                () = self.gateway.failed() => Err(DemoError::Ended),
            }
        })
    }

    /// Ends everything and removes the folder.
    pub(super) fn end(self) {
        self.gateway.stop_within(Duration::ZERO);
        self.threads.shutdown_timeout(Duration::from_secs(1));
    }
}

/// The folder of one run. Dropping it removes the folder and its files.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    fn create(entropy: &dyn Entropy) -> io::Result<Self> {
        let name = entropy::identifier(entropy).map_err(io::Error::other)?;
        let path = env::temp_dir().join(format!("menshen-demo-{name}"));
        // The folder gets a signing key: only the owner may read it, and it must not exist before.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.0.join("menshen.yaml")
    }

    pub(super) fn access_log(&self) -> PathBuf {
        self.0.join("access.log")
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If the folder cannot be removed, the system cleans its temporary folder later.
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts the gateway. Its configuration must name its own address, because browsers return to it.
fn start_gateway(
    folder: &Folder,
    wechat: &str,
    backend: SocketAddr,
) -> Result<server::RunningGateway, DemoError> {
    let mut tries = 1..=MAX_TRIES;
    loop {
        let own = free_address().map_err(start_error("the gateway"))?;
        let yaml = configuration(folder, own, wechat, backend);
        fs::write(folder.configuration(), &yaml).map_err(start_error("a temporary folder"))?;
        let document = Document::parse(&folder.configuration().display().to_string(), &yaml)
            .map_err(StartError::Config)?;
        tries.next();
        match server::start(&document, folder.configuration(), Sources::default()) {
            Err(StartError::Bind { .. }) if !tries.is_empty() => {}
            started => return Ok(started?),
        }
    }
}

/// A free address that the system chooses.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn configuration(folder: &Folder, own: SocketAddr, wechat: &str, backend: SocketAddr) -> String {
    let port = own.port();
    let (data, access_log) = (quote(&folder.data()), quote(&folder.access_log()));
    format!(
        "\
# The configuration of the demo. conf/minimal.yaml is the smallest one, conf/menshen.yaml has every key.
data_dir: {data}
listeners:
  - address: {own}
admin:
  address: 127.0.0.1:0
apps:
  shop:
    kind: mini_program
    appid: {APPID}
    secret: emulator-secret-1
  site: # users scan a QR code
    kind: website
    appid: {SITE_APPID}
    secret: emulator-secret-4
  account: # users are inside WeChat
    kind: official_account
    appid: wxe000000000000005
    secret: emulator-secret-5
wechat:
  hosts: [\"{wechat}\"]
  pages: \"{wechat}\"
  widget: \"{wechat}/connect/zh_CN/htmledition/js/wxLogin.js\"
upstreams:
  backend:
    servers: [\"{backend}\"]
routes:
  - path: /
    access: authenticated
    upstream: backend
  - path: /public
    access: public
    upstream: backend
login:
  origins: [\"http://{own}\", \"http://localhost:{port}\"] # exactly as in the address bar of the browser
  replay_window: 5m # as long as WeChat's codes live, so that there is time to read
throttle:
  login: {{ rate: 10/min, burst: 10 }}
telemetry:
  access_log:
    target: file
    file: {access_log}
"
    )
}

/// A path as a YAML string.
fn quote(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

fn start_error(part: &'static str) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::Start { part, source }
}
