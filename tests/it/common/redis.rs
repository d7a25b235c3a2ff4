//! Real Redis servers on free loopback ports, which end with the test that started them.

mod cluster;
mod sentinel;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tempfile::TempDir;

use super::{PATIENCE, eventually, leaks, loopback, now};

pub use cluster::Cluster;
pub use sentinel::{MASTER_NAME, Sentinels};

/// Names another server program for all these tests, such as `valkey-server` or a newer Redis.
const SERVER: &str = "MENSHEN_TEST_REDIS_SERVER";

/// A server; it is killed when this is dropped, or when the tests' process ends in whatever way.
pub struct RedisServer {
    process: Option<Process>,
    program: String,
    folder: TempDir,
    address: SocketAddr,
    settings: Vec<String>,
    tls: Option<RedisFiles>,
}

/// PEM files of a server that speaks TLS alone, and asks its clients for a certificate of the same
/// authority.
#[derive(Clone)]
pub struct RedisFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl RedisServer {
    /// A server without a password that keeps nothing on disk.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with these lines in its `redis.conf`, such as `requirepass hidden` or
    /// `maxmemory 1mb`.
    pub fn with(settings: &[&str]) -> Self {
        Self::launch(program(), settings, None)
    }

    /// A server that can wait for its disk, and keeps everything there. Redis can since 7.2, and
    /// Valkey always could.
    pub fn with_disk(settings: &[&str]) -> Self {
        let program = env::var(SERVER).unwrap_or_else(|_| "valkey-server".to_owned());
        Self::launch(program, &[&["appendonly yes", "appendfsync always"], settings].concat(), None)
    }

    /// As [`RedisServer::with`], and with TLS.
    pub fn with_tls(settings: &[&str], files: &RedisFiles) -> Self {
        Self::launch(program(), settings, Some(files.clone()))
    }

    /// Waits until a replica has everything its master has.
    pub fn await_sync(&self) {
        eventually("the replica is in sync", || {
            self.command(&["info", "replication"]).contains("master_link_status:up")
        });
    }

    fn launch(program: String, settings: &[&str], tls: Option<RedisFiles>) -> Self {
        let settings = settings.iter().map(|line| (*line).to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { process: None, program, folder, address: loopback(), settings, tls };
        // Another program may have taken the free port in the meantime.
        for _ in 0..10 {
            server.address = free_address();
            if server.run() {
                return server;
            }
        }
        panic!("{} does not start:\n{}", server.program, server.log());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once, as a crash would. What it did not write to disk is lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it in its tracks: it keeps its connections, and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`RedisServer::pause`].
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it if it runs, and starts it at the same address: as soon as no other program has the
    /// port, which a client that looks for the server is given at times for its own end of the
    /// connection.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = now() + PATIENCE;
        while !self.run() {
            assert!(now() < deadline, "{} does not start again:\n{}", self.program, self.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// What `redis-cli` prints for a command. No password: a server that asks for one answers
    /// `NOAUTH`.
    pub fn command(&self, arguments: &[&str]) -> String {
        self.command_as(&[], arguments)
    }

    /// As [`RedisServer::command`], with options of `redis-cli` such as `-a` and a password.
    pub fn command_as(&self, options: &[&str], arguments: &[&str]) -> String {
        let mut all: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        if let Some(files) = &self.tls {
            let options = [("--cacert", &files.ca), ("--cert", &files.certificate), ("--key", &files.key)];
            all.push(OsStr::new("--tls"));
            all.extend(options.into_iter().flat_map(|(name, file)| [OsStr::new(name), file.as_os_str()]));
        }
        all.extend(arguments.iter().map(OsStr::new));
        redis_cli(self.address, &all)
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the process; whether it got its port.
    fn run(&mut self) -> bool {
        let port = self.address.port();
        let listen = match &self.tls {
            None => format!("port {port}\n"),
            Some(RedisFiles { ca, certificate, key }) => format!(
                "port 0\ntls-port {port}\ntls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\ntls-replication yes\n",
                ca.display(),
                certificate.display(),
                key.display()
            ),
        };
        let text = format!(
            "bind 127.0.0.1\n{listen}save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n{}\n",
            self.settings.join("\n")
        );
        let ready = "Ready to accept connections";
        self.process = Process::run(&[&self.program], self.folder.path(), &text, ready);
        self.process.is_some()
    }

    fn signal(&self, name: &str) {
        self.process.as_ref().expect("the server runs").signal(name);
    }
}

impl Drop for RedisServer {
    /// No row may hold a session key: what it keeps is written out as it is, and searched with its
    /// other files.
    fn drop(&mut self) {
        let is_running = self.process.as_ref().is_some_and(Process::answers);
        if std::thread::panicking() || !is_running {
            return;
        }
        self.command(&["config", "set", "rdbcompression", "no"]);
        // Refused to strangers where the server has a password; its rows are those of the store's
        // own tests then.
        self.command(&["save"]);
        leaks::assert_absent_in_files(self.folder.path());
    }
}

/// A server's process, in the care of a shell that kills it once its own input ends: when this is
/// dropped, and when the tests are killed.
struct Process {
    shell: Child,
    id: u32,
}

impl Process {
    /// Runs a server with this configuration until its log says that it is ready; nothing where it
    /// ends before.
    fn run(program: &[&str], folder: &Path, config: &str, ready: &str) -> Option<Self> {
        let file = folder.join("server.conf");
        fs::write(&file, format!("{config}dir {0}\nlogfile {0}/log\n", folder.display())).unwrap();
        fs::write(folder.join("log"), "").unwrap();
        let process = Self::spawn(program, &file);
        let mut started = false;
        eventually(&format!("{program:?} starts"), || {
            started = fs::read_to_string(folder.join("log")).unwrap().contains(ready);
            started || !process.is_running()
        });
        started.then_some(process)
    }

    fn spawn(program: &[&str], config: &Path) -> Self {
        let is_there = Command::new(program[0]).arg("--version").stdout(Stdio::null()).status();
        assert!(
            is_there.is_ok_and(|status| status.success()),
            "{program:?} is missing: these tests need redis-server, redis-cli and valkey-server (`scripts/test` installs them)"
        );
        let mut shell = Command::new("sh")
            .args(["-c", "\"$@\" >/dev/null 2>&1 & echo $!; read -r _; kill -9 $!", "sh", program[0]])
            .arg(config)
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut id = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut id).unwrap();
        Self { shell, id: id.trim().parse().unwrap() }
    }

    fn is_running(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }

    /// Whether it runs and was not stopped in its tracks.
    fn answers(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        !state.contains(") T ") && self.is_running()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id)]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if !std::thread::panicking() {
            eventually("the server is gone", || !self.is_running());
        }
    }
}

/// The server of all tests that need no other.
fn program() -> String {
    env::var(SERVER).unwrap_or_else(|_| "redis-server".to_owned())
}

/// A loopback address on which no program listens now, and that no other test gets.
///
/// Below the ports that a system gives to connections: any of the thousands that the tests open
/// could take one of those between here and its use.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);

    // Where each test is a process of its own they begin at different places.
    let begin = process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let place = begin.wrapping_add(TAKEN.fetch_add(1, Relaxed)) % COUNT;
        let mut address = loopback();
        address.set_port(u16::try_from(FIRST + place).unwrap());
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

fn redis_cli(address: SocketAddr, arguments: &[&OsStr]) -> String {
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "--no-auth-warning", "-p", &address.port().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("redis-cli is missing ({error}): `scripts/test` installs it"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
