//! A master, its replicas, and three sentinels that watch them.

use std::ffi::OsStr;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::super::eventually;
use super::{Process, RedisServer, free_address, program, redis_cli};

/// What the sentinels call the master.
pub const MASTER_NAME: &str = "menshen-test";

/// Three sentinels, of which two must agree that a master is gone, and the servers they watch.
pub struct Sentinels {
    /// The first one is the master, until a failover.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    process: Option<Process>,
    _folder: TempDir,
    address: SocketAddr,
}

impl Sentinels {
    /// A master with this many replicas, all of them in sync, and the sentinels.
    pub fn start(replicas: usize) -> Self {
        Self::with(replicas, &[])
    }

    /// As [`Sentinels::start`], with these lines in every server's `redis.conf`.
    pub fn with(replicas: usize, settings: &[&str]) -> Self {
        let master = RedisServer::with(settings);
        let of_master = format!("replicaof 127.0.0.1 {}", master.address().port());
        let mut replica_settings = vec![of_master.as_str()];
        replica_settings.extend(settings);
        let mut servers = vec![master];
        servers.extend((0..replicas).map(|_| RedisServer::with(&replica_settings)));
        servers.iter().skip(1).for_each(RedisServer::await_sync);
        let addresses = [free_address(), free_address(), free_address()];
        let sentinels = (0..3).map(|index| Sentinel::start(index, addresses, &servers)).collect();
        let this = Self { servers, sentinels };
        this.await_agreement();
        this
    }

    /// Where the sentinels listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(|sentinel| sentinel.address).collect()
    }

    /// Kills one of the sentinels.
    pub fn kill_sentinel(&mut self, index: usize) {
        self.sentinels[index].process = None;
    }

    /// Who is the master, as the sentinels say: an index into `servers`.
    pub fn master(&self) -> usize {
        let answers: Vec<String> = self.running().map(|sentinel| sentinel.master()).collect();
        let port = answers.first().expect("a sentinel runs").lines().nth(1).unwrap_or_default();
        self.servers
            .iter()
            .position(|server| server.address().port().to_string() == port)
            .unwrap_or_else(|| panic!("the sentinels name another master: {answers:?}"))
    }

    /// Waits until every sentinel that runs names another master than this one; its index.
    pub fn await_failover(&self, from: usize) -> usize {
        let old = self.servers[from].address().port().to_string();
        eventually("the sentinels fail over", || {
            self.running().all(|sentinel| {
                let answer = sentinel.master();
                answer.lines().nth(1).is_some_and(|port| port != old)
            })
        });
        let new = self.master();
        eventually("the new master is one", || {
            self.servers[new].command(&["role"]).lines().next() == Some("master")
        });
        new
    }

    /// A failover that leaves the old master running, as an operator asks for it; the new master's
    /// index.
    pub fn fail_over(&self) -> usize {
        let from = self.master();
        let mut answer = String::new();
        eventually("the sentinels take the order to fail over", || {
            answer = self.sentinels[0].command(&["sentinel", "failover", MASTER_NAME]);
            answer == "OK"
        });
        self.await_failover(from)
    }

    fn running(&self) -> impl Iterator<Item = &Sentinel> {
        self.sentinels.iter().filter(|sentinel| sentinel.process.is_some())
    }

    /// Waits until they could fail over: each sentinel knows all the others.
    fn await_agreement(&self) {
        let replicas = self.servers.len() - 1;
        eventually("the sentinels know each other", || {
            self.running().all(|sentinel| {
                let text = sentinel.command(&["sentinel", "master", MASTER_NAME]);
                let lines: Vec<&str> = text.lines().collect();
                let value = |name: &str| {
                    lines.iter().position(|line| *line == name).map(|index| lines[index + 1].to_owned())
                };
                value("num-other-sentinels") == Some("2".into())
                    && value("num-slaves") == Some(replicas.to_string())
                    && sentinel.command(&["sentinel", "ckquorum", MASTER_NAME]).starts_with("OK")
                    && replicas_are_ready(&sentinel.command(&["sentinel", "replicas", MASTER_NAME]), replicas)
            })
        });
    }
}

/// A replica can be promoted once the sentinel saw its link to the master up.
fn replicas_are_ready(text: &str, replicas: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let up = lines.windows(2).filter(|pair| pair == &["master-link-status", "ok"]).count();
    up == replicas
}

impl Sentinel {
    fn start(index: usize, addresses: [SocketAddr; 3], servers: &[RedisServer]) -> Self {
        let address = addresses[index];
        let master = servers[0].address().port();
        let id = |index: usize| format!("{:040x}", index + 1);
        // They would find each other, and the replicas, by themselves: in some seconds.
        let mut config = format!(
            "bind 127.0.0.1\nport {}\nsentinel myid {}\nsentinel monitor {MASTER_NAME} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER_NAME} 1000\nsentinel failover-timeout {MASTER_NAME} 4000\n",
            address.port(),
            id(index),
        );
        for replica in &servers[1..] {
            config +=
                &format!("sentinel known-replica {MASTER_NAME} 127.0.0.1 {}\n", replica.address().port());
        }
        for (other, address) in addresses.iter().enumerate().filter(|(other, _)| *other != index) {
            let port = address.port();
            config += &format!("sentinel known-sentinel {MASTER_NAME} 127.0.0.1 {port} {}\n", id(other));
        }
        let folder = tempfile::tempdir().unwrap();
        let process = Process::run(&[&program(), "--sentinel"], folder.path(), &config, "+monitor");
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(process.is_some(), "the sentinel does not start:\n{}", log());
        Self { process, _folder: folder, address }
    }

    fn master(&self) -> String {
        self.command(&["sentinel", "get-master-addr-by-name", MASTER_NAME])
    }

    fn command(&self, arguments: &[&str]) -> String {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        redis_cli(self.address, &arguments)
    }
}
