//! Many and slow: thousands of idle connections, and a flood of headers that never end, take
//! nothing from other clients but a known amount of memory.

mod crowd;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

use self::crowd::{Behaviour, Crowd};
use crate::common::{Backend, Connection, NO_THROTTLE, ROUTES, Reply, World, eventually, now};
use crate::process::Process;
use crate::proxying::pass;
use crate::tls::Authority;

/// What a connection takes at most, as `docs/limits.md` has it: one that is idle, the same with TLS
/// or HTTP/2, one whose header has not ended, and one with a request under way.
const IDLE: usize = 6 * 1024;
const IDLE_TLS: usize = 24 * 1024;
const IDLE_HTTP2: usize = 64 * 1024;
const SLOW: usize = 10 * 1024;
const WAITING: usize = 128 * 1024;
/// The same while a body waits for a client that does not read, and a header of twice
/// `limits.max_header` without an end.
const DEAF: usize = 1024 * 1024;
const LONG: usize = 80 * 1024;
/// What the allocator may take besides, however few connections there are.
const SLACK: usize = 8 << 20;
/// Files that the gateway keeps for what is no client.
const RESERVED: usize = 1024;
/// Connections of a crowd: those of more would not fit into one process here.
const CROWD: usize = 5000;
/// Good clients, each with a request under way all the time.
const GOOD: usize = 8;

/// The large ones run one after another: what each prints is its own.
static ALONE: Mutex<()> = Mutex::new(());

/// What a test asks for.
struct Plan {
    idle: usize,
    slow: usize,
    header_timeout: Duration,
    /// How long good clients are watched.
    watch: Duration,
}

fn world(backend: Backend, header_timeout: Duration, listeners: &str) -> World {
    let limits = format!(
        "limits: {{ header_timeout: {}ms, keepalive_timeout: 1h, h2: {{ idle_timeout: 1h }} }}\n",
        header_timeout.as_millis()
    );
    World::with_backend(backend, &format!("{ROUTES}{NO_THROTTLE}{limits}{listeners}"))
}

/// A gateway in a process of its own.
fn gateway(backend: Backend, header_timeout: Duration, listeners: &str) -> (World, Process) {
    let world = world(backend, header_timeout, listeners);
    let process = Process::like(&world);
    (world, process)
}

/// So many clients, in as many processes as that takes.
fn gather(
    process: &Process,
    count: usize,
    behaviour: Behaviour,
    network: u8,
    authority: Option<&Path>,
) -> Vec<Crowd> {
    let mut crowds: Vec<Crowd> = (0..count.div_ceil(CROWD))
        .map(|index| {
            let share = CROWD.min(count - index * CROWD);
            let network = network + u8::try_from(index).unwrap();
            Crowd::gather(process.address, share, behaviour, network, authority)
        })
        .collect();
    crowds.iter_mut().for_each(Crowd::settle);
    crowds
}

fn held(crowds: &[Crowd]) -> usize {
    crowds.iter().map(|crowd| crowd.held).sum()
}

fn left(crowds: &mut [Crowd]) -> usize {
    crowds.iter_mut().map(Crowd::left).sum()
}

fn metric(process: &Process, name: &str) -> usize {
    let metrics = process.admin("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0, |value| value.parse().unwrap())
}

/// What good clients meet with.
struct Served {
    times: Vec<Duration>,
    took: Duration,
}

impl Served {
    fn print(&self, when: &str) {
        let at = |share: usize| self.times[(self.times.len() - 1) * share / 100];
        println!(
            "{when}: {GOOD} good clients, {:.0} requests/s, p50 {:?}, p99 {:?}, all 200",
            self.times.len() as f64 / self.took.as_secs_f64(),
            at(50),
            at(99)
        );
    }
}

/// Has good clients make one request after another, half of them on a new connection each time; all
/// must be answered 200.
fn serve_good(process: &Process, during: Duration) -> Served {
    let started = now();
    let is_over = AtomicBool::new(false);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..GOOD)
            .map(|number| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut times = Vec::new();
                    let mut kept = (number % 2 == 0).then(|| process.connect());
                    while !is_over.load(Ordering::Relaxed) {
                        let began = now();
                        times.push(ask(process, kept.as_mut(), began));
                    }
                    times
                })
            })
            .collect();
        pass(during);
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    times.sort();
    assert!(times.len() >= GOOD, "the good clients were served {} times", times.len());
    Served { times, took: started.elapsed() }
}

fn ask(process: &Process, kept: Option<&mut Connection>, began: Instant) -> Duration {
    const REQUEST: &[u8] = b"GET /pub HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    let response = match kept {
        Some(kept) => kept.send(REQUEST),
        None => process.connect().send(REQUEST),
    };
    assert_eq!(response.status, 200);
    began.elapsed()
}

/// Waits until what was sent has come.
fn stands_still(process: &Process) {
    let (mut last, mut since) = (0, now());
    eventually("the gateway's memory stands still", || {
        let memory = process.memory("VmRSS");
        if memory.abs_diff(last) > 1 << 18 {
            (last, since) = (memory, now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
}

/// Memory that a number of connections took, which must be no more than `bytes` each.
#[track_caller]
fn assert_memory(what: &str, before: usize, after: usize, count: usize, bytes: usize) {
    let more = after.saturating_sub(before);
    println!("{count} {what}: {} KiB more, {} bytes each", more >> 10, more / count);
    assert!(more <= SLACK + count * bytes, "{what} take {} bytes each, more than {bytes}", more / count);
}

/// Idle connections, slow headers and good clients all at once.
fn crowded(plan: &Plan) {
    let (_world, process) = gateway(Backend::echo(), plan.header_timeout, "");
    serve_good(&process, plan.watch / 4).print("alone");
    let before = process.memory("VmRSS");

    let mut idle = gather(&process, plan.idle, Behaviour::Idle, 1, None);
    assert_eq!(held(&idle), plan.idle);
    eventually("only they are open", || metric(&process, "menshen_open_connections") == plan.idle);
    let with_idle = process.memory("VmRSS");
    assert_memory("idle connections", before, with_idle, plan.idle, IDLE);
    let mut slow = gather(&process, plan.slow, Behaviour::Slow, 100, None);
    assert_eq!(held(&slow), plan.slow);
    let with_slow = process.memory("VmRSS");
    assert_memory("headers that do not end", with_idle, with_slow, plan.slow, SLOW);
    serve_good(&process, plan.watch).print("meanwhile");

    eventually("the slow ones are gone", || left(&mut slow) == 0);
    let timed_out = r#"menshen_rejected_connections_total{reason="header_timeout"}"#;
    assert_eq!(metric(&process, timed_out), plan.slow);
    assert_eq!(left(&mut idle), plan.idle, "idle connections are nobody's harm");
    serve_good(&process, plan.watch / 4).print("afterwards");
    let ceiling = before + SLACK + plan.idle * IDLE + plan.slow * SLOW + GOOD * WAITING;
    let most = process.memory("VmHWM");
    println!("memory: {} MiB at most, ceiling {} MiB", most >> 20, ceiling >> 20);
    assert!(most <= ceiling, "{most} > {ceiling}");
}

#[test]
fn idle_connections_and_slow_headers_take_little_and_good_clients_are_served() {
    crowded(&Plan {
        idle: 500,
        slow: 200,
        header_timeout: Duration::from_secs(2),
        watch: Duration::from_millis(500),
    });
}

#[test]
#[ignore = "takes a minute: as many connections as the system allows"]
fn fifty_thousand_connections_or_as_many_as_one_process_may_hold() {
    let _alone = ALONE.lock();
    const WANTED: usize = 50_000;
    const SLOW: usize = 900;
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let room = usize::try_from(files).unwrap_or(usize::MAX) - RESERVED;
    let idle = WANTED.min(room - SLOW - 2 * GOOD);
    println!(
        "wanted {WANTED} idle connections in one process, held {idle}: {}",
        if idle < WANTED {
            format!(
                "the system lets a process open {files} files, {RESERVED} are kept for other ends, {SLOW} more are for slow clients"
            )
        } else {
            "all of them".to_owned()
        }
    );
    crowded(&Plan {
        idle,
        slow: SLOW,
        header_timeout: Duration::from_secs(10),
        watch: Duration::from_secs(3),
    });
}

#[test]
fn idle_connections_with_tls_take_little() {
    with_tls(300);
}

#[test]
#[ignore = "takes a minute"]
fn thousands_of_idle_connections_with_tls_take_little() {
    let _alone = ALONE.lock();
    with_tls(5000);
}

fn with_tls(count: usize) {
    let authority = Authority::new();
    authority.issue("first", &["gateway.test"], 1);
    let (_world, process) =
        gateway(Backend::echo(), Duration::from_secs(20), &authority.listeners(&["first"]));
    let ca = authority.path("ca", "pem");
    // What handshakes need but once.
    drop(gather(&process, 50, Behaviour::Idle, 1, Some(&ca)));
    eventually("they are gone", || metric(&process, "menshen_open_connections") == 0);

    let before = process.memory("VmRSS");
    let idle = gather(&process, count, Behaviour::Idle, 1, Some(&ca));
    assert_eq!(held(&idle), count);
    assert_memory("idle connections with TLS", before, process.memory("VmRSS"), count, IDLE_TLS);
    let before = process.memory("VmRSS");
    let silent = gather(&process, count, Behaviour::Silent, 100, Some(&ca));
    assert_eq!(held(&silent), count);
    assert_memory("silent connections with TLS", before, process.memory("VmRSS"), count, IDLE_TLS);
}

#[test]
fn a_connection_takes_the_documented_memory_whatever_it_waits_for() {
    kinds(200);
}

#[test]
#[ignore = "takes a minute"]
fn thousands_of_connections_of_each_kind_take_the_documented_memory() {
    let _alone = ALONE.lock();
    kinds(4000);
}

fn kinds(count: usize) {
    // Answers when the test is over.
    let backend = Backend::with(|request| match request.target() {
        "/pub/wait" => Reply::Take(Box::new(|mut stream| _ = stream.read(&mut [0]))),
        "/pub/flood" => Reply::Take(Box::new(|mut stream| {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 64 * 1024]);
            }
        })),
        _ => Reply::ok(b"here"),
    });
    let listeners = "listeners:\n  - { address: '127.0.0.1:0', h2c: true }\n";
    let (_world, process) = gateway(backend, Duration::from_secs(60), listeners);
    serve_good(&process, Duration::from_millis(100));
    let mut open = Vec::new();
    for (what, behaviour, bytes) in [
        ("silent connections", Behaviour::Silent, IDLE),
        ("idle connections of HTTP/2", Behaviour::Http2, IDLE_HTTP2),
        ("headers of 64 KiB without an end", Behaviour::Long, LONG),
        ("requests under way", Behaviour::Waiting, WAITING),
        ("clients that do not read", Behaviour::Deaf, DEAF),
    ] {
        // Each request that the backend has is a thread here.
        let is_forwarded = matches!(behaviour, Behaviour::Waiting | Behaviour::Deaf);
        let count = if is_forwarded { count.min(500) / 2 } else { count };
        let before = process.memory("VmRSS");
        let network = u8::try_from(1 + open.len()).unwrap();
        let crowds = gather(&process, count, behaviour, network, None);
        assert_eq!(held(&crowds), count);
        open.push(crowds);
        let all = open.iter().map(|crowds| held(crowds)).sum::<usize>();
        eventually("all are open", || metric(&process, "menshen_open_connections") == all);
        stands_still(&process);
        assert_memory(what, before, process.memory("VmRSS"), count, bytes);
    }
}

/// As many as the gateway's default, over as many processes as that takes here.
#[test]
#[ignore = "takes a minute and 1.5 GiB of the system's memory"]
fn fifty_thousand_connections_from_several_processes() {
    let _alone = ALONE.lock();
    const WANTED: usize = 50_000;
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let room = usize::try_from(files).unwrap_or(usize::MAX) - RESERVED - 2 * GOOD;
    let processes = WANTED.div_ceil(room);
    let world = world(Backend::echo(), Duration::from_secs(10), "");
    let gateways: Vec<Process> = (0..processes).map(|_| Process::like(&world)).collect();
    let before: usize = gateways.iter().map(|gateway| gateway.memory("VmRSS")).sum();

    let mut crowds: Vec<Crowd> = Vec::new();
    let mut network = 1;
    for (index, gateway) in gateways.iter().enumerate() {
        let share = WANTED / processes + usize::from(index < WANTED % processes);
        let gathered = gather(gateway, share, Behaviour::Idle, network, None);
        network += u8::try_from(gathered.len()).unwrap();
        crowds.extend(gathered);
    }

    let after: usize = gateways.iter().map(|gateway| gateway.memory("VmRSS")).sum();
    println!("wanted {WANTED} idle connections, held {} over {processes} processes", held(&crowds));
    assert_eq!(held(&crowds), WANTED);
    assert_memory("idle connections", before, after, WANTED, IDLE);
    for gateway in &gateways {
        serve_good(gateway, Duration::from_secs(1)).print("with them open");
    }
    assert_eq!(left(&mut crowds), WANTED);
}
