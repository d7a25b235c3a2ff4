//! What every test stands on: a real gateway, an emulated WeChat, a backend that keeps what it was
//! sent.

pub mod backend;
pub mod browser;
pub mod client;
pub mod http2;
pub mod leaks;
mod ports;
pub mod redis;
pub mod site;
pub mod tally;
pub mod visitor;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use menshen::clock::{Clock, ManualClock, SystemClock};
use menshen::config::Document;
use menshen::emulator::{self, Emulator};
use menshen::entropy::SystemEntropy;
use menshen::server::{self, RunningGateway, Sources};
use tempfile::TempDir;

pub use self::backend::{Backend, Recorded, Reply, fold};
pub use self::client::{Connection, Response};
pub use self::site::Site;
pub use self::tally::Tally;
pub use self::visitor::Visitor;

/// The first app of the emulator, as the gateway's `apps.shop`.
pub const APPID: &str = "wxe000000000000001";
/// Longest wait for anything in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway between an emulated WeChat and a recording backend, all on free loopback ports.
pub struct World {
    pub emulator: Arc<Emulator>,
    pub backend: Backend,
    pub clock: ManualClock,
    gateway: Option<RunningGateway>,
    // Dropped after the gateway, in this order.
    emulating: emulator::Running,
    threads: Option<tokio::runtime::Runtime>,
    pub data: TempDir,
    /// Where the log stood when the world began.
    log_position: usize,
}

/// What the default world serves: one route of each kind, no throttle that a test could run into.
pub const ROUTES: &str = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: public, path: /pub, access: public, upstream: backend }
  - { name: optional, path: /opt, access: optional, upstream: backend }
";

/// Limits far above what a test sends.
pub const NO_THROTTLE: &str = "
throttle:
  login: { rate: 1000000/s, burst: 1000000 }
  sign_in: { rate: 1000000/s, burst: 1000000 }
  all_sign_ins: { rate: 1000000/s, burst: 1000000 }
  wechat: { rate: 1000000/s, burst: 1000000 }
";

impl World {
    /// A world with one route of each kind.
    pub fn new() -> Self {
        Self::with(&format!("{ROUTES}{NO_THROTTLE}"))
    }

    /// A world with these sections besides `listeners`, `admin`, `data_dir`, `apps`, `wechat` and
    /// `upstreams`; a section written here replaces the default one. `{backend}`, `{emulator}`,
    /// `{data}` and `{port}`, a free one, are filled in.
    pub fn with(sections: &str) -> Self {
        Self::with_backend(Backend::echo(), sections)
    }

    /// As [`World::with`], with a backend of the test's own.
    pub fn with_backend(backend: Backend, sections: &str) -> Self {
        Self::with_parts(emulator::Config::default(), backend, sections)
    }

    /// As [`World::with_backend`], with a WeChat of the test's own.
    pub fn with_parts(emulator: emulator::Config, backend: Backend, sections: &str) -> Self {
        install_crypto();
        let log_position = leaks::log_position();
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = ManualClock::start_now();
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let emulator = Emulator::new(emulator, Arc::clone(&shared_clock), Arc::new(SystemEntropy));
        leaks::watch(&emulator);
        let emulating = {
            let _context = threads.enter();
            emulator.listen(loopback()).unwrap()
        };
        let data = tempfile::tempdir().unwrap();
        let yaml = yaml(sections)
            .replace("{port}", &ports::reserve().to_string())
            .replace("{backend}", &backend.address().to_string())
            .replace("{emulator}", &emulating.url())
            .replace("{data}", data.path().to_str().unwrap());
        let gateway = start(&yaml, data.path().join("menshen.yaml"), shared_clock);
        Self {
            emulator,
            backend,
            clock,
            gateway: Some(gateway),
            emulating,
            threads: Some(threads),
            data,
            log_position,
        }
    }

    /// Where clients connect: the first listener.
    pub fn address(&self) -> SocketAddr {
        self.gateway().addresses()[0]
    }

    pub fn gateway(&self) -> &RunningGateway {
        self.gateway.as_ref().unwrap()
    }

    /// Where the emulated WeChat is.
    pub fn emulator_url(&self) -> String {
        self.emulating.url()
    }

    /// Stops the gateway as SIGTERM would; how many connections were cut.
    pub fn stop(&mut self) -> usize {
        self.gateway.take().unwrap().stop()
    }

    /// A new connection to the first listener.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// Sends one request over a connection of its own.
    pub fn send(&self, request: &str) -> Response {
        self.connect().send(request.as_bytes())
    }

    /// `GET` with these header lines, each ended by CR LF.
    pub fn get(&self, path: &str, headers: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{headers}\r\n"))
    }

    /// Posts a login body as JSON.
    pub fn login_with(&self, body: &str) -> Response {
        self.post_login(body, "application/json", "")
    }

    pub fn post_login(&self, body: &str, content_type: &str, headers: &str) -> Response {
        self.send(&format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// A fresh code of a person.
    pub fn code(&self, person: &str) -> String {
        self.emulator.wx_login(APPID, person).unwrap()
    }

    /// Signs a person in; their access token.
    pub fn sign_in(&self, person: &str) -> String {
        let response = self.login_with(&format!(r#"{{"code":"{}"}}"#, self.code(person)));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// Signs a person in; the header line that says so.
    pub fn bearer(&self, person: &str) -> String {
        format!("Authorization: Bearer {}\r\n", self.sign_in(person))
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        let mut admin = Connection::open(self.gateway().admin_address());
        admin.send(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n").text()
    }

    /// The socket of the operators.
    pub fn control_socket(&self) -> &Path {
        self.gateway().control_socket().unwrap()
    }

    /// Asks as an operator: a method and a path, and a body of JSON.
    pub fn control(&self, request_line: &str, body: &serde_json::Value) -> Response {
        client::ask_control(self.control_socket(), request_line, &body.to_string())
    }

    /// The value of one metric line, such as `menshen_throttled_total{limit="login"}`; 0 when it is
    /// not there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Searches all that this world said for the secrets that WeChat and browsers shared with the
    /// gateway.
    fn assert_no_secret_got_out(&self, metrics: &str) {
        leaks::watch_for_sign_ins();
        leaks::assert_absent("the metrics", metrics.as_bytes());
        leaks::assert_absent("the log", &leaks::logged_since(self.log_position));
        leaks::assert_absent_in_files(self.data.path());
        for request in self.backend.requests() {
            leaks::assert_absent("a request to the backend", request.head.as_bytes());
            leaks::assert_absent_at_first("the body of a request to the backend", &request.body);
        }
    }

    /// How often WeChat was asked to exchange a code.
    pub fn exchanges(&self) -> usize {
        self.emulator.calls().iter().filter(|call| call.path == "/sns/jscode2session").count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let metrics = self.gateway.as_ref().filter(|_| !std::thread::panicking()).map(|_| self.metrics());
        if let Some(gateway) = self.gateway.take() {
            gateway.stop_within(Duration::ZERO);
        }
        if !std::thread::panicking() {
            self.assert_no_secret_got_out(&metrics.unwrap_or_default());
        }
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// Starts a gateway from YAML; the text is also written to `path`, so that it can be reloaded.
pub fn start(yaml: &str, path: PathBuf, clock: Arc<dyn Clock>) -> RunningGateway {
    std::fs::write(&path, yaml).unwrap();
    let document = Document::parse("test.yaml", yaml).unwrap_or_else(|report| panic!("{report}"));
    let sources = Sources { clock, entropy: Arc::new(SystemEntropy) };
    server::start(&document, path, sources).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until something is true, or fails the test.
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = SystemClock.instant() + PATIENCE;
    while !is_true() {
        assert!(SystemClock.instant() < deadline, "did not happen in {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// How many times as much to try as a run of the whole suite has time for; `scripts/test --full`
/// asks for more than once.
pub fn times() -> usize {
    std::env::var("MENSHEN_TEST_TIMES").map_or(1, |times| times.parse().unwrap())
}

/// The instant, for measuring.
pub fn now() -> Instant {
    SystemClock.instant()
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// The gateway's binary does this first thing in `main`.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    });
}

pub fn yaml(sections: &str) -> String {
    let defaults = [
        ("listeners", "listeners:\n  - address: 127.0.0.1:0\n"),
        ("admin", "admin: { address: 127.0.0.1:0 }\n"),
        ("data_dir", "data_dir: '{data}/state'\n"),
        (
            "apps",
            "apps:\n  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }\n",
        ),
        ("wechat", "wechat: { hosts: ['{emulator}'] }\n"),
        ("upstreams", "upstreams:\n  backend: { servers: ['{backend}'] }\n"),
        ("telemetry", "telemetry: { access_log: { target: file, file: '{data}/access.log' } }\n"),
    ];
    let is_given = |key: &str| sections.lines().any(|line| line.starts_with(&format!("{key}:")));
    let missing = defaults.iter().filter(|(key, _)| !is_given(key)).map(|(_, text)| *text);
    with_user_hash_key(missing.collect::<String>() + sections)
}

/// Gateways on one Redis must have a common key of the hashes in logs.
fn with_user_hash_key(yaml: String) -> String {
    const KEY: &str = "user_hash_keys: [{ kid: test, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= }]";
    if !yaml.contains("engine: redis") || yaml.contains("user_hash_keys") {
        return yaml;
    }
    yaml.replacen("\ntelemetry: {", &format!("\ntelemetry: {{ {KEY},"), 1).replacen(
        "\ntelemetry:\n",
        &format!("\ntelemetry:\n  {KEY}\n"),
        1,
    )
}
