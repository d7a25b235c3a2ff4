//! A Redis Cluster of three masters.

use std::net::SocketAddr;

use super::super::eventually;
use super::{RedisServer, free_address};

/// Which slots each of the masters has.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// Three masters without replicas, which share the slots.
pub struct Cluster {
    pub servers: Vec<RedisServer>,
}

impl Cluster {
    /// A cluster that answers for every slot.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// As [`Cluster::start`], with these lines in every server's `redis.conf`.
    pub fn with(settings: &[&str]) -> Self {
        Self::of(RedisServer::with, settings)
    }

    /// As [`Cluster::with`], of servers that can wait for their disks.
    pub fn with_disk(settings: &[&str]) -> Self {
        Self::of(RedisServer::with_disk, settings)
    }

    fn of(server: fn(&[&str]) -> RedisServer, settings: &[&str]) -> Self {
        let bus = [free_address(), free_address(), free_address()];
        let servers: Vec<RedisServer> = bus.iter().map(|bus| member(server, *bus, settings)).collect();
        for (index, (server, (first, last))) in servers.iter().zip(SLOTS).enumerate() {
            expect_ok(&server.command(&["cluster", "set-config-epoch", &(index + 1).to_string()]));
            expect_ok(&server.command(&["cluster", "addslotsrange", first, last]));
        }
        for (server, bus) in servers.iter().zip(bus).skip(1) {
            let (port, bus) = (server.address().port().to_string(), bus.port().to_string());
            expect_ok(&servers[0].command(&["cluster", "meet", "127.0.0.1", &port, &bus]));
        }
        let this = Self { servers };
        eventually("the cluster answers for every slot", || {
            this.servers.iter().all(|server| {
                let info = server.command(&["cluster", "info"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        this
    }

    /// Where the masters listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(RedisServer::address).collect()
    }
}

fn member(server: fn(&[&str]) -> RedisServer, bus: SocketAddr, settings: &[&str]) -> RedisServer {
    let bus = format!("cluster-port {}", bus.port());
    let mut all =
        vec!["cluster-enabled yes", "cluster-announce-ip 127.0.0.1", "cluster-node-timeout 2000", &bus];
    all.extend(settings);
    server(&all)
}

fn expect_ok(answer: &str) {
    assert_eq!(answer, "OK");
}
