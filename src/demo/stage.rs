//! The running parts of the demo: WeChat, the backend, the gateway, and their folder.

use std::fs::DirBuilder;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::backend::Backend;
use super::language::DemoLanguage;
use super::step::DemoServer;
use super::{DemoError, DemoOptions};
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
/// The logo on the pages of the gateway.
const LOGO: &str = include_str!("logo.svg");
/// How often another port is chosen, if another program took the first one.
const MAX_TRIES: usize = 5;

/// All running parts.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) emulator: Arc<Emulator>,
    wechat: EmulatedWeChat,
    backend: Backend,
    gateway: server::RunningGateway,
    gateway_address: SocketAddr,
    browser_origin: String,
    folder: Folder,
    threads: Runtime,
}

/// The listeners of the emulated WeChat.
#[derive(Debug)]
struct EmulatedWeChat {
    public: emulator::Running,
    /// Of loopback, if the public one is not.
    local: Option<emulator::Running>,
}

impl Stage {
    /// Starts everything. Parts that `options` say nothing of get ports that the system chooses.
    pub(super) fn start(options: DemoOptions) -> Result<Self, DemoError> {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(start_error("a thread"))?;
        let language = options.language;
        let emulator =
            Emulator::new(emulator_config(options), Arc::new(SystemClock), Arc::new(SystemEntropy));
        let (wechat, backend) = threads.block_on(async {
            let wechat = EmulatedWeChat::listen(&emulator, options.listen).map_err(start_error("WeChat"))?;
            Ok::<_, DemoError>((wechat, Backend::start().await.map_err(start_error("the backend"))?))
        })?;
        let folder = Folder::create(&SystemEntropy).map_err(start_error("a temporary folder"))?;
        let parts = GatewayParts { wechat: wechat.local_url(), backend: backend.address, language };
        let gateway = start_gateway(&folder, options.listen, &parts)?;
        let listening = gateway.addresses().first().copied().ok_or(DemoError::Ended)?;
        let gateway_address = reached_at(listening);
        let browser_origin = browser_origins(listening).swap_remove(0);
        Ok(Self { emulator, wechat, backend, gateway, gateway_address, browser_origin, folder, threads })
    }

    /// The address of a server that steps call.
    pub(super) fn address(&self, server: DemoServer) -> SocketAddr {
        match server {
            DemoServer::WeChat => reached_at(self.wechat.public.address),
            DemoServer::Gateway => self.gateway_address,
            DemoServer::Admin => self.gateway.admin_address(),
        }
    }

    /// Whether other machines may reach the gateway.
    pub(super) fn is_reached_from_elsewhere(&self) -> bool {
        self.gateway.addresses().iter().any(|address| !address.ip().is_loopback())
    }

    /// The origin at which browsers sign in.
    pub(super) fn browser_origin(&self) -> &str {
        &self.browser_origin
    }

    /// The address at which the browser of this machine reaches the pages of WeChat.
    pub(super) fn wechat_pages(&self) -> SocketAddr {
        reached_at(self.wechat.local.as_ref().unwrap_or(&self.wechat.public).address)
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

    fn logo(&self) -> PathBuf {
        self.0.join("logo.svg")
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

impl EmulatedWeChat {
    /// Listens next to the gateway. The gateway and the browser of this machine reach WeChat over
    /// loopback, because a gateway accepts plain HTTP only there.
    fn listen(emulator: &Arc<Emulator>, gateway: Option<SocketAddr>) -> io::Result<Self> {
        let gateway = gateway.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let port = if gateway.port() == 0 { 0 } else { gateway.port().checked_add(1).unwrap_or(0) };
        let public = emulator.listen((gateway.ip(), port).into())?;
        let local = if reached_at(public.address).ip().is_loopback() {
            None
        } else {
            Some(emulator.listen((Ipv4Addr::LOCALHOST, public.address.port()).into())?)
        };
        Ok(Self { public, local })
    }

    fn local_url(&self) -> String {
        format!("http://{}", reached_at(self.local.as_ref().unwrap_or(&self.public).address))
    }
}

/// The address at which this machine reaches a listener.
fn reached_at(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (ip, listening.port()).into()
}

/// The origins at which browsers sign in, the shown one first: without TLS, browsers keep the
/// session cookie for this machine alone.
fn browser_origins(gateway: SocketAddr) -> Vec<String> {
    let (reached, port) = (reached_at(gateway), gateway.port());
    let local = [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")];
    let mut origins = if reached.ip().is_loopback() { vec![format!("http://{reached}")] } else { Vec::new() };
    origins.extend(local.into_iter().filter(|origin| *origin != format!("http://{reached}")));
    origins
}

/// The apps have titles, and redirect to the gateway, as in WeChat's console.
fn emulator_config(options: DemoOptions) -> emulator::Config {
    let mut config = emulator::Config::default();
    for app in &mut config.apps {
        app.title = Some(title(options.language).to_owned());
        if let (Some(gateway), false) = (options.listen, app.redirect_domains.is_empty()) {
            app.redirect_domains.push(match reached_at(gateway).ip() {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            });
        }
    }
    config
}

const fn title(language: DemoLanguage) -> &'static str {
    language.choose("Menshen demo", "门神演示")
}

/// What the gateway works with.
struct GatewayParts {
    wechat: String,
    backend: SocketAddr,
    language: DemoLanguage,
}

/// Starts the gateway. Its configuration must name its own address, because browsers return to it.
fn start_gateway(
    folder: &Folder,
    listen: Option<SocketAddr>,
    parts: &GatewayParts,
) -> Result<server::RunningGateway, DemoError> {
    fs::write(folder.logo(), LOGO).map_err(start_error("a temporary folder"))?;
    let mut tries = 1..=MAX_TRIES;
    loop {
        let own = match listen {
            Some(own) if own.port() != 0 => own,
            asked => free_address(asked).map_err(start_error("the gateway"))?,
        };
        let yaml = configuration(folder, own, parts);
        fs::write(folder.configuration(), &yaml).map_err(start_error("a temporary folder"))?;
        let document = Document::parse(&folder.configuration().display().to_string(), &yaml)
            .map_err(StartError::Config)?;
        tries.next();
        let is_chosen_again = !tries.is_empty() && listen.is_none_or(|listen| listen.port() == 0);
        match server::start(&document, folder.configuration(), Sources::default()) {
            Err(StartError::Bind { .. }) if is_chosen_again => {}
            started => return Ok(started?),
        }
    }
}

/// A free address that the system chooses.
fn free_address(asked: Option<SocketAddr>) -> io::Result<SocketAddr> {
    TcpListener::bind(asked.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()))?.local_addr()
}

/// The listeners of the gateway: also loopback, where browsers sign in.
fn listeners(own: SocketAddr) -> String {
    let mut lines = format!("  - address: \"{own}\"\n");
    if !reached_at(own).ip().is_loopback() {
        lines.push_str(&format!("  - address: 127.0.0.1:{} # where browsers sign in\n", own.port()));
    }
    lines
}

fn configuration(folder: &Folder, own: SocketAddr, parts: &GatewayParts) -> String {
    let GatewayParts { wechat, backend, language } = parts;
    let (data, access_log, logo) =
        (quote(&folder.data()), quote(&folder.access_log()), quote(&folder.logo()));
    let (listeners, title) = (listeners(own), title(*language));
    let origins = serde_json::Value::from(browser_origins(own)).to_string();
    format!(
        "\
# The configuration of the demo. conf/minimal.yaml is the smallest one, conf/menshen.yaml has every key.
data_dir: {data}
listeners:
{listeners}admin:
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
    title: {title}
  account: # users are inside WeChat
    kind: official_account
    appid: wxe000000000000005
    secret: emulator-secret-5
    title: {title}
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
  origins: {origins} # exactly as in the address bar of the browser
  page: {{ title: {title}, logo: {logo} }}
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
