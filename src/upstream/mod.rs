//! Which server answers: balancing, servers that refuse connections, and how each server is
//! connected to.
//!
//! Holds no request: `proxy` asks for a peer for each try, and reports a failure.

mod balance;
mod discovery;
mod peer;
mod server;
mod tunnel;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::lb::Backends;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use crate::clock::Timestamp;
use crate::config::{self, Findings, UpstreamProtocol};
use crate::host::Authority;

use self::balance::Balancer;
use self::discovery::Discovery;
use self::tunnel::TunnelConnector;

pub use self::server::{InFlight, Server};
pub use self::tunnel::TunnelSwitch;

/// Every upstream, by name.
#[derive(Debug)]
pub struct Upstreams(BTreeMap<Arc<str>, Arc<Upstream>>);

/// A named set of servers.
pub struct Upstream {
    /// The name under `upstreams`.
    pub name: Arc<str>,
    /// Whether the servers speak HTTP/2.
    pub speaks_http2: bool,
    /// Whether redirects to the servers' own addresses lead to where the client came from.
    pub maps_redirects: bool,
    /// Host and port of each server, as configured.
    named: Vec<(Box<str>, u16)>,
    balancer: Balancer,
    servers: ArcSwap<HashMap<SocketAddr, Arc<Server>>>,
    peer: HttpPeer,
    failed_for: Duration,
}

impl Upstreams {
    /// Builds every upstream; resolves names, so it may block.
    pub fn build(upstreams: &BTreeMap<String, config::Upstream>, findings: &mut Findings) -> Option<Self> {
        findings.scope(|findings| {
            let built = upstreams.iter().filter_map(|(name, config)| {
                let upstream = Upstream::build(name, config, findings)?;
                Some((Arc::clone(&upstream.name), Arc::new(upstream)))
            });
            Some(Self(built.collect()))
        })
    }

    /// The upstream of a name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name)
    }

    /// Resolves the servers' names again. Blocks; a name that does not resolve keeps its old
    /// addresses.
    pub fn resolve_again(&self) {
        for upstream in self.0.values() {
            upstream.refresh();
        }
    }
}

impl Upstream {
    /// Chooses a server for one try. `key` is what a consistent hash follows; `tried` servers are
    /// passed over.
    pub fn choose(&self, key: &[u8], tried: &[SocketAddr], now: Timestamp) -> Option<Arc<Server>> {
        let servers = self.servers.load();
        if servers.len() == 1 {
            // There is no choice, and a server that failed is better than none.
            return servers.values().find(|server| !tried.contains(&server.address)).cloned();
        }
        let is_untried = |address: &SocketAddr| !tried.contains(address);
        let is_healthy =
            |address: &SocketAddr| servers.get(address).is_some_and(|server| server.is_healthy(now));
        let pick = |accept: &dyn Fn(&SocketAddr) -> bool| self.balancer.select(key, &servers, accept);
        let address =
            pick(&|address| is_untried(address) && is_healthy(address)).or_else(|| pick(&is_untried))?;
        servers.get(&address).cloned()
    }

    /// Returns how to connect to a server. With a tunnel, a WebSocket opening is let through.
    pub fn peer(
        &self,
        server: &Server,
        read_timeout: Option<Duration>,
        tunnel: Option<&TunnelSwitch>,
    ) -> Box<HttpPeer> {
        let mut peer = Box::new(self.peer.clone());
        peer._address = server.address.into();
        let options = &mut peer.options;
        if read_timeout.is_some() {
            options.read_timeout = read_timeout;
        }
        if let Some(switch) = tunnel {
            options.http_upstream_request_policy = HttpUpstreamRequestPolicy::standard();
            let longest_silence = options.read_timeout.take();
            options.custom_l4 = Some(Arc::new(TunnelConnector { switch: switch.clone(), longest_silence }));
            // No other request can use a connection that was made for a tunnel, also if the server
            // refused the tunnel.
            options.idle_timeout = Some(Duration::ZERO);
            peer.group_key = !peer.group_key;
        }
        peer
    }

    /// Longest wait for a server to accept data.
    pub fn write_timeout(&self) -> Duration {
        self.peer.options.write_timeout.unwrap_or_default()
    }

    /// Passes a server over for a while, because it refused a connection.
    pub fn record_failure(&self, address: SocketAddr, now: Timestamp) {
        if let Some(server) = self.servers.load().get(&address) {
            server.record_failure(now.plus(self.failed_for));
        }
    }

    /// Servers worth trying for one request; a name may stand for several.
    pub fn max_tries(&self) -> usize {
        self.servers.load().len().min(3)
    }

    /// Whether one of the servers is at this host and port, by the name that is configured or by
    /// its address.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        let is_address = |address: IpAddr| self.servers.load().contains_key(&SocketAddr::new(address, port));
        self.named.iter().any(|(name, of_name)| *of_name == port && name.eq_ignore_ascii_case(host))
            || literal.parse().is_ok_and(is_address)
    }

    /// Whether one of the servers has this port.
    pub fn has_port(&self, port: u16) -> bool {
        self.named.iter().any(|(_, of_name)| *of_name == port)
    }

    /// Counts a request in progress, if the balance needs it.
    pub fn count(&self, server: &Arc<Server>) -> Option<InFlight> {
        self.balancer.counts_requests().then(|| server.count())
    }

    fn build(name: &str, config: &config::Upstream, findings: &mut Findings) -> Option<Self> {
        let at = format!("upstreams.{name}");
        let peer = peer::build(name, config, &at, findings)?;
        let discovery = Discovery::build(config, &at, findings);
        if findings.has_errors() {
            return None;
        }
        let upstream = Self {
            name: name.into(),
            speaks_http2: config.protocol == UpstreamProtocol::Http2,
            maps_redirects: config.map_redirects,
            named: config.servers.iter().filter_map(named).collect(),
            balancer: Balancer::new(config.balance, Backends::new(Box::new(discovery))),
            servers: ArcSwap::default(),
            peer,
            failed_for: config.failed_for.0,
        };
        upstream.refresh();
        Some(upstream)
    }

    fn refresh(&self) {
        let backends = self.balancer.update();
        let known = self.servers.load();
        let servers = backends.iter().filter_map(|backend| {
            let address = *backend.addr.as_inet()?;
            let server = known.get(&address).filter(|server| server.weight == backend.weight).cloned();
            Some((address, server.unwrap_or_else(|| Arc::new(Server::new(address, backend.weight)))))
        });
        self.servers.store(Arc::new(servers.collect()));
    }
}

/// Host and port of a server.
fn named(server: &config::Server) -> Option<(Box<str>, u16)> {
    let authority = Authority::parse(server.address())?;
    Some((authority.host.into(), authority.port?))
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer as _;

    use super::*;
    use crate::config::Document;

    /// The pool of the connections of upstream `b`.
    fn pool(upstreams: &str) -> u64 {
        let yaml = format!(
            "listeners: [{{ address: '127.0.0.1:0' }}]\napps: {{ a: {{ kind: mini_program, appid: wx0000000000000001, secret: s }} }}\nroutes: [{{ path: /, access: public, upstream: b }}]\nupstreams:\n{upstreams}"
        );
        let document = Document::parse("test.yaml", &yaml).unwrap_or_else(|report| panic!("{report}"));
        let mut findings = Findings::default();
        let built = Upstreams::build(&document.config.upstreams, &mut findings);
        let built = built.unwrap_or_else(|| panic!("{findings:?}"));
        built.by_name("b").unwrap().peer.reuse_hash()
    }

    #[test]
    fn a_connection_is_reused_only_by_its_own_upstream() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let new_authority = || {
            let made = rcgen::generate_simple_self_signed(vec!["b.test".into()]).unwrap();
            std::fs::write(&file, made.cert.pem()).unwrap();
        };
        let with_tls = format!(
            "  b: {{ servers: ['127.0.0.1:1'], tls: {{ server_name: b.test, ca_file: '{}' }} }}\n",
            file.display()
        );
        let plain = "  b: { servers: ['127.0.0.1:1'] }\n";
        let http2 = "  b: { servers: ['127.0.0.1:1'], protocol: http2 }\n";
        new_authority();
        let before = pool(&with_tls);

        assert_eq!(pool(&with_tls), before, "a reload without a change keeps its connections");
        assert_eq!(pool(plain), pool(&format!("  a: {{ servers: ['127.0.0.1:1'] }}\n{plain}")));
        assert_ne!(pool(plain), pool(http2));
        new_authority();
        assert_ne!(pool(&with_tls), before, "another authority");
    }
}
