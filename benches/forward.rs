//! What a forwarded request costs: CPU time of the process, beside a bare Pingora pass-through.
//!
//! `cargo bench --bench forward` runs each contestant as a process of its own, this same binary, so
//! that allocator and profile are the same; load and backend are in the parent. Rounds are
//! interleaved, and the ratio within one run is the figure: absolute values drift with the machine.
//! `--profile dist` measures what is shipped.
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
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use menshen::clock::SystemClock;
use menshen::config::Document;
use menshen::emulator::{self, Emulator};
use menshen::entropy::SystemEntropy;
use menshen::server::{self, Sources};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 64;
const APPID: &str = "wxe000000000000001";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned()
    };
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    match (option("--contestant").as_deref(), option("--backend")) {
        (Some("passthrough"), Some(backend)) => passthrough(&backend),
        (Some("menshen"), Some(backend)) => gateway(&backend),
        _ => compare(option("--requests").map_or(40_000, |text| text.parse().unwrap())),
    }
}

/// Runs every contestant in turn, several times, and prints the medians.
fn compare(requests: usize) {
    const ROUNDS: usize = 5;

    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backend = threads.block_on(async { serve_backend().await });
    // The backend needs a thread of its own: the load below blocks this one.
    let (address, serving) = backend;
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serving.run());
    });

    let passthrough = Contestant::start("passthrough", address);
    let menshen = Contestant::start("menshen", address);
    let token = menshen.token.clone().expect("the gateway prints a token");
    let plain = "GET /pub/x HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nX-Padding: 0123456789012345678901234567890123456789\r\n";
    let runs = [
        ("bare Pingora pass-through", &passthrough, format!("{plain}\r\n")),
        ("menshen, public route", &menshen, format!("{plain}\r\n")),
        (
            "menshen, protected route, token seen before",
            &menshen,
            format!("{}Authorization: Bearer {token}\r\n\r\n", plain.replace("/pub/x", "/x")),
        ),
    ];
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); runs.len()];
    for round in 0..=ROUNDS {
        for (index, (_, contestant, request)) in runs.iter().enumerate() {
            let before = contestant.cpu();
            threads.block_on(load(contestant.address, request, requests));
            let cost = (contestant.cpu() - before).as_secs_f64() * 1e6 / requests as f64;
            // The first round warms caches and pools.
            if round > 0 {
                costs[index].push(cost);
            }
        }
    }
    println!(
        "CPU time of the process per request, microseconds: median (range) of {ROUNDS} rounds of {requests} requests"
    );
    let base = median(&mut costs[0].clone());
    for ((name, _, _), costs) in runs.iter().zip(&mut costs) {
        let middle = median(costs);
        println!(
            "{name:<45} {middle:6.2} ({:.2} to {:.2})  ratio {:.3}",
            costs[0],
            costs[costs.len() - 1],
            middle / base
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A child process that proxies; it prints its address, and a token where it has one.
struct Contestant {
    child: Child,
    address: SocketAddr,
    token: Option<String>,
}

impl Contestant {
    fn start(name: &str, backend: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--contestant", name, "--backend", &backend.to_string()])
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        let address = words.next().expect("the contestant prints its address").parse().unwrap();
        Self { child, address, token: words.next().map(str::to_owned) }
    }

    /// User and system time so far, all threads; proc(5), fields 14 and 15, in ticks of 10 ms.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        let ticks: u64 =
            after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn announce(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// The gateway as it ships, one thread, access log to nowhere but formatted and written.
fn gateway(backend: &str) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sources = Sources { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) };
    let emulator =
        Emulator::new(emulator::Config::default(), Arc::clone(&sources.clock), Arc::clone(&sources.entropy));
    let emulating = {
        let _context = threads.enter();
        emulator.listen("127.0.0.1:0".parse().unwrap()).unwrap()
    };
    let data = tempfile::tempdir().unwrap();
    let yaml = format!(
        "
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
data_dir: {}
worker_threads: 1
apps: {{ shop: {{ kind: mini_program, appid: {APPID}, secret: emulator-secret-1 }} }}
wechat: {{ hosts: ['{}'] }}
upstreams: {{ backend: {{ servers: ['{backend}'] }} }}
routes:
  - {{ path: /, access: authenticated, upstream: backend }}
  - {{ path: /pub, access: public, upstream: backend }}
telemetry: {{ access_log: {{ target: file, file: /dev/null }} }}
",
        data.path().display(),
        emulating.url(),
    );
    let document = Document::parse("bench", &yaml).unwrap_or_else(|report| panic!("{report}"));
    let running = server::start(&document, "bench".into(), sources).unwrap_or_else(|error| panic!("{error}"));
    let address = running.addresses()[0];
    let code = emulator.wx_login(APPID, "alice").unwrap();
    let token = threads.block_on(sign_in(address, &code));
    announce(&format!("{address} {token}"));
    std::thread::park();
}

async fn sign_in(address: SocketAddr, code: &str) -> String {
    let body = format!(r#"{{"code":"{code}"}}"#);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    json["access_token"].as_str().unwrap().to_owned()
}

/// The least a Pingora proxy can do: one peer, no filter.
struct Passthrough(SocketAddr);

#[async_trait]
impl ProxyHttp for Passthrough {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn passthrough(backend: &str) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let conf =
        Arc::new(ServerConf { threads: 1, upstream_keepalive_pool_size: 1024, ..ServerConf::default() });
    let mut service = http_proxy_service(&conf, Passthrough(backend.parse().unwrap()));
    service.add_tcp(&free.to_string());
    let (_shutdown, watch) = tokio::sync::watch::channel(false);
    threads.spawn(async move { service.start_service(None, watch, 1).await });
    threads.block_on(async {
        while TcpStream::connect(free).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    announce(&free.to_string());
    std::thread::park();
}

struct Serving(std::net::TcpListener);

async fn serve_backend() -> (SocketAddr, Serving) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    (listener.local_addr().unwrap(), Serving(listener))
}

impl Serving {
    /// Answers each request, however it is split, with the same 200 bytes.
    async fn run(self) {
        let listener = TcpListener::from_std(self.0).unwrap();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                while let Ok((mut stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    tokio::task::spawn_local(async move {
                        let body = "x".repeat(120);
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        let mut buffer = vec![0; 16 * 1024];
                        let mut filled = 0;
                        while let Ok(count) = stream.read(&mut buffer[filled..]).await {
                            if count == 0 {
                                break;
                            }
                            filled += count;
                            if buffer[..filled].ends_with(b"\r\n\r\n") {
                                filled = 0;
                                if stream.write_all(answer.as_bytes()).await.is_err() {
                                    break;
                                }
                            }
                        }
                    });
                }
            })
            .await;
    }
}

/// Sends so many requests over kept-alive connections, each waiting for its answer.
async fn load(address: SocketAddr, request: &str, requests: usize) {
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let request = request.as_bytes().to_vec();
            let share = requests / CONNECTIONS;
            async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = vec![0; 16 * 1024];
                for _ in 0..share {
                    stream.write_all(&request).await.unwrap();
                    read_answer(&mut stream, &mut buffer).await;
                }
            }
        })
        .collect();
    futures_util::future::join_all(tasks).await;
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(count > 0, "the connection ended");
        filled += count;
        let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
        let head = std::str::from_utf8(&buffer[..end]).unwrap().to_ascii_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if filled >= end + 4 + length {
            return;
        }
    }
}
