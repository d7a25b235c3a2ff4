//! What a million sessions cost, and how many durable logins there are in a second.
//!
//! `cargo bench --bench sessions` runs the gateway as a process of its own on an empty store, fills the store to a
//! million sessions, and runs it again: start-up, memory, disk, logins a second, latency of a login and of a token's
//! first lookup, before and after. Load and emulator are in the parent. `-- --sessions N` fills to another number.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on should say so and stop"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use menshen::clock::{Clock, SystemClock};
use menshen::config::{self, Document, Findings};
use menshen::emulator::{self, Emulator};
use menshen::entropy::{Entropy, SystemEntropy};
use menshen::identity::{AppId, Identity, OpenId, Subject};
use menshen::server::{self, Sources};
use menshen::session::{self, NewSession, Sessions};
use menshen::store;
use menshen::telemetry::metrics::Metrics;
use menshen::token::OnMissingKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APPID: &str = "wxe000000000000001";
/// Clients that sign in at once.
const CLIENTS: usize = 256;
/// Logins for one figure of throughput.
const LOGINS: usize = 20_000;
/// Logins and lookups one after the other, for latency.
const SAMPLES: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    match (option("--data"), option("--emulator")) {
        (Some(data), Some(emulator)) => gateway(&data, &emulator),
        _ => compare(option("--sessions").map_or(1_000_000, |text| text.parse().unwrap())),
    }
}

fn compare(sessions: usize) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let emulator = Emulator::new(emulator::Config::default(), Arc::clone(&clock), Arc::new(SystemEntropy));
    let emulating = {
        let _context = threads.enter();
        emulator.listen("127.0.0.1:0".parse().unwrap()).unwrap()
    };
    let data = tempfile::tempdir().unwrap();
    let people = AtomicUsize::new(0);

    println!("empty store");
    let empty = measure(&threads, data.path(), &emulating.url(), &emulator, &people);
    let file = data.path().join("sessions.redb");
    let begun = Instant::now();
    let filled = sessions.saturating_sub(people.load(Ordering::Relaxed));
    threads.block_on(fill(data.path(), filled));
    let rate = filled as f64 / begun.elapsed().as_secs_f64();
    println!("filled with {filled} sessions, {rate:.0} a second, {CLIENTS} at once, each durable");
    let bytes = std::fs::metadata(&file).unwrap().len();
    println!("  on disk                {:.0} bytes a session", bytes as f64 / sessions as f64);

    println!("{sessions} sessions");
    let full = measure(&threads, data.path(), &emulating.url(), &emulator, &people);
    let memory = full.saturating_sub(empty) as f64 / sessions as f64;
    println!("  in memory              {memory:.1} bytes a session more than with an empty store");
}

/// Runs the gateway on a store and prints what it does; its memory at the end.
fn measure(
    threads: &tokio::runtime::Runtime,
    data: &Path,
    emulator_url: &str,
    emulator: &Arc<Emulator>,
    people: &AtomicUsize,
) -> usize {
    let begun = Instant::now();
    let gateway = Gateway::start(data, emulator_url);
    println!("  start-up               {:.1?}", begun.elapsed());
    println!("  memory at start        {:.1} MB", gateway.memory() as f64 / 1e6);
    let (mut logins, mut lookups, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    threads.block_on(async {
        let mut client = Client::connect(gateway.address).await;
        for _ in 0..SAMPLES {
            let code = new_code(emulator, people);
            let (token, took) = timed(client.sign_in(&code)).await;
            logins.push(took);
            lookups.push(timed(client.get(&token)).await.1);
            seen.push(timed(client.get(&token)).await.1);
        }
    });
    print_latency("login", &mut logins);
    print_latency("token's first request", &mut lookups);
    print_latency("token seen before", &mut seen);
    let begun = Instant::now();
    threads.block_on(async {
        let share = LOGINS / CLIENTS;
        let clients = (0..CLIENTS).map(|_| async {
            let mut client = Client::connect(gateway.address).await;
            for _ in 0..share {
                client.sign_in(&new_code(emulator, people)).await;
            }
        });
        futures_util::future::join_all(clients).await;
    });
    let logins = (LOGINS / CLIENTS * CLIENTS) as f64;
    println!(
        "  logins                 {:.0} a second, {CLIENTS} at once",
        logins / begun.elapsed().as_secs_f64()
    );
    println!(
        "  CPU of the gateway     {:.0} µs in all, by login",
        gateway.cpu().as_secs_f64() * 1e6 / logins
    );
    gateway.memory()
}

fn new_code(emulator: &Arc<Emulator>, people: &AtomicUsize) -> String {
    let person = people.fetch_add(1, Ordering::Relaxed);
    emulator.wx_login(APPID, &format!("person-{person}")).unwrap()
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let done = work.await;
    (done, begun.elapsed())
}

fn print_latency(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100];
    println!("  {name:<22} median {:.0?}, 99th of a hundred {:.0?}", at(50), at(99));
}

/// Opens sessions of so many people, as logins would.
async fn fill(data: &Path, count: usize) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut findings = Findings::default();
    let config = config::Store::default();
    let store = store::open(&config, data, Arc::clone(&clock), &metrics, &mut findings).unwrap();
    let core = Arc::new(session::Core::new(store, Arc::clone(&clock), entropy, metrics));
    let config = config::Sessions::default();
    let sessions = Sessions::build(&config, data, OnMissingKey::Create, core, &mut findings).unwrap();
    let next = AtomicUsize::new(0);
    let (sessions, next, clock) = (&sessions, &next, &clock);
    let openers = (0..CLIENTS).map(|_| async move {
        let session_key = Zeroizing::new([7; 16]);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let subject = Subject {
                appid: AppId::parse(APPID).unwrap(),
                openid: OpenId::parse(&format!("o-filled-person-{number:012}")).unwrap(),
            };
            let identity = Identity { subject, unionid: None };
            let new = NewSession {
                identity: &identity,
                session_key: Some(&session_key),
                user_agent: Some(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) MicroMessenger/8.0.50",
                ),
                profile: None,
            };
            sessions.open(new, clock.now()).await.unwrap();
        }
    });
    futures_util::future::join_all(openers).await;
}

/// The gateway in a process of its own.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    fn start(data: &Path, emulator: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--data", data.to_str().unwrap(), "--emulator", emulator])
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().expect("the gateway prints its address") }
    }

    /// Resident memory in bytes; proc(5).
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// User and system time so far; proc(5), fields 14 and 15, in ticks of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
        Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn gateway(data: &str, emulator: &str) {
    let backend = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        "
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
data_dir: {data}
apps: {{ shop: {{ kind: mini_program, appid: {APPID}, secret: emulator-secret-1 }} }}
wechat: {{ hosts: ['{emulator}'] }}
upstreams: {{ backend: {{ servers: ['{}'] }} }}
routes: [{{ path: /, access: authenticated, upstream: backend }}]
throttle:
  login: {{ rate: 1000000/s, burst: 1000000 }}
  wechat: {{ rate: 1000000/s, burst: 1000000 }}
telemetry: {{ access_log: {{ target: file, file: /dev/null }} }}
",
        backend.local_addr().unwrap(),
    );
    std::thread::spawn(move || answer(&backend));
    let sources = Sources { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) };
    let document = Document::parse("bench", &yaml).unwrap_or_else(|report| panic!("{report}"));
    let running = server::start(&document, "bench".into(), sources).unwrap_or_else(|error| panic!("{error}"));
    println!("{}", running.addresses()[0]);
    std::io::stdout().flush().unwrap();
    std::thread::park();
}

/// A backend that says yes.
fn answer(backend: &std::net::TcpListener) {
    for mut stream in backend.incoming().flatten() {
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                if line.is_empty()
                    && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err()
                {
                    break;
                }
            }
        });
    }
}

/// One connection of a client.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 16 * 1024] }
    }

    /// Signs in; the access token.
    async fn sign_in(&mut self, code: &str) -> String {
        let body = format!(r#"{{"code":"{code}"}}"#);
        let head = "POST /auth/login HTTP/1.1\r\nHost: b\r\nContent-Type: application/json";
        let answer = self.ask(&format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
        json["access_token"].as_str().unwrap().to_owned()
    }

    async fn get(&mut self, token: &str) -> String {
        self.ask(&format!("GET /x HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n")).await
    }

    /// The body of a 200.
    async fn ask(&mut self, request: &str) -> String {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(count > 0, "the connection ended");
            filled += count;
            let text = std::str::from_utf8(&self.buffer[..filled]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return body.to_owned();
            }
        }
    }
}
