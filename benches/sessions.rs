//! What a million sessions cost, and how many durable logins there are in a second.
//!
//! `cargo bench --bench sessions` runs the gateway as a process of its own on an empty store, fills
//! the store to a million sessions, and runs it again: start-up, memory, disk, logins a second,
//! latency of a login and of a token's first lookup, before and after. Load and emulator are in the
//! parent, on the same cores: a second of logins is a second of all three, and the processor time
//! of each is told apart. `-- --sessions N` fills to another number.
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
use menshen::key_file::OnMissingKey;
use menshen::server::{self, Sources};
use menshen::session::{self, NewSession, Sessions};
use menshen::store;
use menshen::telemetry::diagnostics;
use menshen::telemetry::metrics::Metrics;
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
/// Figures of throughput: whatever else the machine does makes some of them worse, and none better.
const ROUNDS: usize = 4;
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
    for _ in 0..ROUNDS {
        throughput(threads, &gateway, emulator, people);
    }
    gateway.memory()
}

/// Signs many people in at once and prints what that took.
fn throughput(
    threads: &tokio::runtime::Runtime,
    gateway: &Gateway,
    emulator: &Arc<Emulator>,
    people: &AtomicUsize,
) {
    // Made beforehand: neither the codes nor the requests are what is measured.
    let share = LOGINS / CLIENTS;
    let requests = (0..CLIENTS)
        .map(|_| (0..share).map(|_| sign_in_request(&new_code(emulator, people))).collect::<Vec<_>>());
    let requests: Vec<Vec<String>> = requests.collect();
    let clients = (0..CLIENTS).map(|_| Client::connect(gateway.address));
    let clients = threads.block_on(futures_util::future::join_all(clients));
    let logins = (share * CLIENTS) as f64;

    let (commits, cpu, own_cpu) = (gateway.commits(), cpu_of(gateway.child.id()), cpu_of(std::process::id()));
    let begun = Instant::now();
    let signing_in = clients.into_iter().zip(requests).map(|(mut client, requests)| {
        threads.spawn(async move {
            let mut times = Vec::with_capacity(requests.len());
            for request in requests {
                times.push(timed(client.send(&request)).await.1);
            }
            times
        })
    });
    let signed_in: Vec<_> = signing_in.collect();
    let times = threads.block_on(futures_util::future::join_all(signed_in));
    let seconds = begun.elapsed().as_secs_f64();
    let micros = |cpu: Duration| cpu.as_secs_f64() * 1e6 / logins;
    let cpu = micros(cpu_of(gateway.child.id()) - cpu);
    let own_cpu = micros(cpu_of(std::process::id()) - own_cpu);
    let commits = gateway.commits() - commits;

    println!("  logins, {CLIENTS} at once    {:.0} a second", logins / seconds);
    let mut times: Vec<Duration> = times.into_iter().flat_map(Result::unwrap).collect();
    print_latency("  one of them", &mut times);
    println!(
        "    commits              {:.0} a second, {:.0} logins each",
        commits / seconds,
        logins / commits
    );
    println!("    processor time       gateway {cpu:.0} µs a login, emulator and load {own_cpu:.0} µs");
    println!("    so the gateway alone {:.0} a second on two cores, were they never idle", 2e6 / cpu);
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
    let health = Arc::new(store::StoreHealth::new(store.as_ref(), &metrics));
    let core = Arc::new(session::Core::new(store, health, Arc::clone(&clock), entropy, metrics));
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
    admin: SocketAddr,
}

impl Gateway {
    fn start(data: &Path, emulator: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--data", data.to_str().unwrap(), "--emulator", emulator])
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            // Written, and read by nobody.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut addresses = line.split_whitespace().map(|address| address.parse().unwrap());
        let mut address = || addresses.next().expect("the gateway prints its addresses");
        Self { address: address(), admin: address(), child }
    }

    /// Resident memory in bytes; proc(5).
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Commits of its store so far.
    fn commits(&self) -> f64 {
        let mut admin = std::net::TcpStream::connect(self.admin).unwrap();
        admin.write_all(b"GET /metrics HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").unwrap();
        let metrics = std::io::read_to_string(admin).unwrap();
        let count = "menshen_store_commit_duration_seconds_count ";
        metrics.lines().find_map(|line| line.strip_prefix(count)).unwrap().trim().parse().unwrap()
    }
}

/// User and system time of a process so far; proc(5), fields 14 and 15, in ticks of 10 ms.
fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() * 10)
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
    let _diagnostics = diagnostics::install(&config::Log::default()).unwrap();
    let sources = Sources { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) };
    let document = Document::parse("bench", &yaml).unwrap_or_else(|report| panic!("{report}"));
    let running = server::start(&document, "bench".into(), sources).unwrap_or_else(|error| panic!("{error}"));
    println!("{} {}", running.addresses()[0], running.admin_address());
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
        let answer = self.send(&sign_in_request(code)).await;
        let json: serde_json::Value = serde_json::from_str(answer).unwrap();
        json["access_token"].as_str().unwrap().to_owned()
    }

    async fn get(&mut self, token: &str) {
        self.send(&format!("GET /x HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n")).await;
    }

    /// The body of a 200.
    async fn send(&mut self, request: &str) -> &str {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut filled = 0;
        let (start, end) = loop {
            let count = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(count > 0, "the connection ended");
            filled += count;
            let received = &self.buffer[..filled];
            let Some(head) = memchr::memmem::find(received, b"\r\n\r\n") else { continue };
            let (head, start) = (std::str::from_utf8(&received[..head]).unwrap(), head + 4);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let end = start + lengths.next().unwrap().1.parse::<usize>().unwrap();
            if filled >= end {
                break (start, end);
            }
        };
        std::str::from_utf8(&self.buffer[start..end]).unwrap()
    }
}

fn sign_in_request(code: &str) -> String {
    let body = format!(r#"{{"code":"{code}"}}"#);
    let head = "POST /auth/login HTTP/1.1\r\nHost: b\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
