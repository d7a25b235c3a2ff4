//! Which server answers: balancing, passing over servers that refuse connections, and how each is spoken to.
//!
//! Holds no request: `proxy` asks for a peer for each try and reports how it went.

mod peer;
mod tunnel;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::selection::{BackendIter, BackendSelection, Consistent, RoundRobin};
use pingora::lb::{Backend, Backends, LoadBalancer};
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use crate::clock::Timestamp;
use crate::config::{self, Balance, Findings, UpstreamProtocol};

use self::tunnel::TunnelConnector;

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
    strategy: Strategy,
    servers: ArcSwap<HashMap<SocketAddr, Arc<Server>>>,
    peer: HttpPeer,
    failed_for: Duration,
}

/// One server's state, shared by every request to it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    weight: usize,
    in_flight: AtomicUsize,
    /// Milliseconds since the epoch; 0: never failed.
    failed_until: AtomicU64,
}

/// A request under way to a server; counts until dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Server>);

enum Strategy {
    RoundRobin(LoadBalancer<RoundRobin>),
    ConsistentHash(LoadBalancer<Consistent>),
    LeastConnections(LoadBalancer<RoundRobin>),
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

    /// Resolves the servers' names again. Blocks; a name that does not resolve keeps its old addresses.
    pub fn resolve_again(&self) {
        for upstream in self.0.values() {
            upstream.refresh();
        }
    }
}

impl Upstream {
    /// Chooses a server for one try. `key` is what a consistent hash follows; `tried` servers are passed over.
    pub fn choose(&self, key: &[u8], tried: &[SocketAddr], now: Timestamp) -> Option<Arc<Server>> {
        let servers = self.servers.load();
        if servers.len() == 1 {
            // Nothing to choose: even a server that failed is better than none.
            return servers.values().find(|server| !tried.contains(&server.address)).cloned();
        }
        let is_untried = |address: &SocketAddr| !tried.contains(address);
        let is_healthy = |address: &SocketAddr| {
            servers
                .get(address)
                .is_some_and(|server| server.failed_until.load(Ordering::Relaxed) <= now.millis())
        };
        let pick = |accept: &dyn Fn(&SocketAddr) -> bool| match &self.strategy {
            Strategy::RoundRobin(balancer) => select(balancer, key, accept),
            Strategy::ConsistentHash(balancer) => select(balancer, key, accept),
            Strategy::LeastConnections(balancer) => least_busy(balancer, &servers, accept),
        };
        let address =
            pick(&|address| is_untried(address) && is_healthy(address)).or_else(|| pick(&is_untried))?;
        servers.get(&address).cloned()
    }

    /// How to speak to a server. A WebSocket opening is let through where there is a tunnel to be opened.
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
            let patience = options.read_timeout.take();
            options.custom_l4 = Some(Arc::new(TunnelConnector { switch: switch.clone(), patience }));
            // A connection made for one tunnel is of use to no other request, also where it was refused.
            options.idle_timeout = Some(Duration::ZERO);
            peer.group_key = !peer.group_key;
        }
        peer
    }

    /// Remembers that a server refused a connection.
    pub fn record_failure(&self, address: SocketAddr, now: Timestamp) {
        if let Some(server) = self.servers.load().get(&address) {
            server.failed_until.store(now.plus(self.failed_for).millis(), Ordering::Relaxed);
        }
    }

    /// Servers worth trying for one request; a name may stand for several.
    pub fn max_tries(&self) -> usize {
        self.servers.load().len().min(3)
    }

    /// Counts a request under way, where the balance needs it.
    pub fn count(&self, server: &Arc<Server>) -> Option<InFlight> {
        matches!(self.strategy, Strategy::LeastConnections(_)).then(|| {
            server.in_flight.fetch_add(1, Ordering::Relaxed);
            InFlight(Arc::clone(server))
        })
    }

    fn build(name: &str, config: &config::Upstream, findings: &mut Findings) -> Option<Self> {
        let at = format!("upstreams.{name}");
        let peer = peer::build(name, config, &at, findings)?;
        let names: Vec<Named> = config
            .servers
            .iter()
            .map(|server| Named {
                host_and_port: server.address().to_owned(),
                weight: server.weight().into(),
            })
            .collect();
        for (position, named) in names.iter().enumerate() {
            if let Err(error) = named.resolve() {
                findings
                    .error(
                        format!("{at}.servers[{position}]"),
                        format!("`{}` does not resolve: {error}", named.host_and_port),
                    )
                    .hint("write `host:port`, such as `127.0.0.1:9000` or `api.internal:8080`");
            }
        }
        if findings.has_errors() {
            return None;
        }
        let backends = Backends::new(Box::new(Discovery { names }));
        let strategy = match config.balance {
            Balance::RoundRobin => Strategy::RoundRobin(LoadBalancer::from_backends(backends)),
            Balance::ConsistentHash => Strategy::ConsistentHash(LoadBalancer::from_backends(backends)),
            Balance::LeastConnections => Strategy::LeastConnections(LoadBalancer::from_backends(backends)),
        };
        let upstream = Self {
            name: name.into(),
            speaks_http2: config.protocol == UpstreamProtocol::Http2,
            strategy,
            servers: ArcSwap::default(),
            peer,
            failed_for: config.failed_for.0,
        };
        upstream.refresh();
        Some(upstream)
    }

    fn refresh(&self) {
        // Our discovery never awaits, so the update is done when it is first polled.
        let backends = match &self.strategy {
            Strategy::RoundRobin(balancer) | Strategy::LeastConnections(balancer) => update(balancer),
            Strategy::ConsistentHash(balancer) => update(balancer),
        };
        let known = self.servers.load();
        let servers = backends.iter().filter_map(|backend| {
            let address = *backend.addr.as_inet()?;
            let server = known.get(&address).filter(|server| server.weight == backend.weight).cloned();
            Some((address, server.unwrap_or_else(|| Arc::new(Server::new(address, backend.weight)))))
        });
        self.servers.store(Arc::new(servers.collect()));
    }
}

impl Server {
    const fn new(address: SocketAddr, weight: usize) -> Self {
        Self { address, weight, in_flight: AtomicUsize::new(0), failed_until: AtomicU64::new(0) }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

fn update<S>(balancer: &LoadBalancer<S>) -> Arc<BTreeSet<Backend>>
where
    S: BackendSelection + 'static + Send + Sync,
    S::Iter: BackendIter,
{
    if let Some(Err(error)) = balancer.update().now_or_never() {
        tracing::warn!("the servers' names did not resolve, keeping the addresses known: {error}");
    }
    balancer.backends().get_backend()
}

fn select<S>(
    balancer: &LoadBalancer<S>,
    key: &[u8],
    accept: &dyn Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr>
where
    S: BackendSelection + 'static + Send + Sync,
    S::Iter: BackendIter,
{
    /// Servers looked at before giving up; more than any sensible upstream has.
    const MAX_ITERATIONS: usize = 256;

    let backend =
        balancer.select_with(key, MAX_ITERATIONS, |backend, _| backend.addr.as_inet().is_some_and(accept))?;
    backend.addr.as_inet().copied()
}

/// The server with the fewest requests under way for its weight; those that have equally few take turns.
fn least_busy(
    turns: &LoadBalancer<RoundRobin>,
    servers: &HashMap<SocketAddr, Arc<Server>>,
    accept: &dyn Fn(&SocketAddr) -> bool,
) -> Option<SocketAddr> {
    let load = |server: &Server| {
        server.in_flight.load(Ordering::Relaxed).saturating_mul(1000) / server.weight.max(1)
    };
    // Looked at once: the counts change while we choose.
    let loads: Vec<(SocketAddr, usize)> = servers
        .values()
        .filter(|server| accept(&server.address))
        .map(|server| (server.address, load(server)))
        .collect();
    let least = loads.iter().map(|(_, load)| *load).min()?;
    select(turns, &[], &|address| loads.contains(&(*address, least)))
}

/// A server as the configuration names it.
struct Named {
    host_and_port: String,
    weight: usize,
}

impl Named {
    fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let addresses: Vec<SocketAddr> = self.host_and_port.to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(std::io::Error::other("no address"));
        }
        Ok(addresses)
    }
}

struct Discovery {
    names: Vec<Named>,
}

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for named in &self.names {
            let addresses = named.resolve().map_err(|error| {
                let context = format!("`{}` does not resolve", named.host_and_port);
                pingora::Error::because(pingora::ErrorType::InternalError, context, error)
            })?;
            for address in addresses {
                let backend = Backend::new_with_weight(&address.to_string(), named.weight)?;
                backends.insert(backend);
            }
        }
        Ok((backends, HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer as _;

    use super::*;
    use crate::config::Document;

    /// The pool a connection of upstream `b` goes to and comes from.
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
    fn a_connection_is_used_again_only_by_the_upstream_it_was_made_for() {
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
