//! Which server answers: balancing, servers that are down, and how each server is connected to.
//!
//! Holds no request: `proxy` asks for a peer for each try, and reports a failure.

mod balance;
mod discovery;
mod failure;
mod peer;
mod server;
mod tunnel;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::Error;
use pingora::connectors::TransportConnector;
use pingora::lb::Backends;
use pingora::protocols::tls::SslDigest;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use prometheus::IntGaugeVec;

use crate::clock::Timestamp;
use crate::config::{self, Findings, UpstreamProtocol};
use crate::host::Authority;
use crate::telemetry::metrics::Metrics;

use self::balance::Balancer;
use self::discovery::{Discovery, Lookups, Names};
use self::failure::{ConnectFailure, not_pinned};
use self::peer::{PeerTemplate, Pins};
use self::server::News;
use self::tunnel::TunnelConnector;

pub use self::failure::TlsFailure;
pub use self::server::{InFlight, Server};
pub use self::tunnel::TunnelSwitch;

/// Least time between two tries to connect to a server that is down.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two warnings that servers refuse the gateway's certificate after the
/// handshake.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// Every upstream, by name.
#[derive(Debug)]
pub struct Upstreams(BTreeMap<Arc<str>, Arc<Upstream>>);

/// What upstreams are built with besides their configuration.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamDependencies<'a> {
    /// The upstreams of before the reload: their servers stay down, and their names keep their
    /// addresses while they do not resolve.
    pub previous: Option<&'a Upstreams>,
    /// Gets `menshen_upstream_server_up`.
    pub metrics: &'a Metrics,
    /// The time.
    pub now: Instant,
}

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
    names: Arc<Names>,
    servers: ArcSwap<HashMap<SocketAddr, Arc<Server>>>,
    peer: HttpPeer,
    /// The certificates of the servers, if they are pinned.
    pins: Pins,
    failed_for: Duration,
    server_up: IntGaugeVec,
    /// Whether the metric shows this upstream: it is in use, and no reload has replaced it. Held
    /// while the metric is written.
    is_published: Mutex<bool>,
    last_warning: Mutex<Option<Timestamp>>,
}

impl Upstreams {
    /// Builds every upstream. Looks up names, so it blocks, for five seconds at most.
    pub fn build(
        upstreams: &BTreeMap<String, config::Upstream>,
        dependencies: UpstreamDependencies<'_>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let lookups = Arc::new(Lookups::default());
        findings.scope(|findings| {
            let begun: Vec<_> = upstreams
                .iter()
                .map(|(name, config)| {
                    let at = format!("upstreams.{name}");
                    let begin = |findings: &mut Findings| {
                        Some(Names::begin(config, &at, dependencies.now, &lookups, findings))
                    };
                    (name, config, findings.scope(begin))
                })
                .collect();
            lookups.wait();
            let built = begun.into_iter().filter_map(|(name, config, names)| {
                let upstream = Upstream::build(name, config, names, dependencies, findings)?;
                Some((Arc::clone(&upstream.name), Arc::new(upstream)))
            });
            Some(Self(built.collect()))
        })
    }

    /// The upstream of a name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name)
    }

    /// Shows these upstreams in the metrics from now on, and no longer the previous ones.
    pub fn publish(&self, previous: Option<&Self>) {
        for upstream in previous.iter().flat_map(|previous| previous.0.values()) {
            upstream.withdraw(self);
        }
        for upstream in self.0.values() {
            *upstream.is_published.lock() = true;
            upstream.show_servers();
        }
    }

    /// Takes over the addresses of names that were looked up, and begins to look up those that are
    /// due. Does not block.
    pub fn look_up_names(&self, now: Instant) {
        for upstream in self.0.values() {
            if upstream.names.look_up(&upstream.name, now) {
                upstream.refresh();
            }
            upstream.show_servers();
        }
    }

    /// Tries to connect to each server that is down, if it is not passed over; each try is a task
    /// of its own.
    pub fn probe_servers(&self, connector: &Arc<TransportConnector>, now: Timestamp) {
        for upstream in self.0.values() {
            for server in upstream.servers.load().values().filter(|server| server.begin_probe(now)) {
                let (upstream, server) = (Arc::clone(upstream), Arc::clone(server));
                let connector = Arc::clone(connector);
                tokio::spawn(async move {
                    upstream.probe(&server, &connector, now).await;
                    server.end_probe();
                });
            }
        }
    }
}

impl Upstream {
    /// Chooses a server for one try. `key` is what a consistent hash follows; `tried` servers are
    /// passed over.
    pub fn choose(&self, key: &[u8], tried: &[SocketAddr], now: Timestamp) -> Option<Arc<Server>> {
        let servers = self.servers.load();
        if servers.len() <= 1 {
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

    /// Returns how to connect to a server. `read_timeout` replaces the upstream's own; zero: the
    /// server may be silent for ever. With a tunnel, a WebSocket opening is let through.
    pub fn peer(
        &self,
        server: &Server,
        read_timeout: Option<Duration>,
        tunnel: Option<&TunnelSwitch>,
    ) -> Box<HttpPeer> {
        let mut peer = Box::new(self.peer.clone());
        peer._address = server.address.into();
        let options = &mut peer.options;
        if let Some(longest_silence) = read_timeout {
            options.read_timeout = Some(longest_silence).filter(|silence| !silence.is_zero());
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

    /// Verifies what Pingora does not: that the certificate of a connection is a pinned one. To be
    /// called before anything is sent.
    ///
    /// # Errors
    /// The certificate is none of the pinned ones.
    pub fn verify(&self, tls: Option<&SslDigest>) -> pingora::Result<()> {
        if self.pins.accept(tls) { Ok(()) } else { Err(not_pinned()) }
    }

    /// Passes a server over for a while, because no connection to it was made. The first failure is
    /// a warning in the log.
    pub fn record_failure(&self, address: SocketAddr, error: &Error, now: Timestamp) {
        let Some(server) = self.servers.load().get(&address).cloned() else { return };
        self.record_failure_of(&server, error, now);
    }

    /// Notes that a new connection to a server was made. Costs something only if it was down.
    pub fn record_connection(&self, server: &Server) {
        if !server.is_down() {
            return;
        }
        let news = server.record_connection();
        if news.is_for_log {
            let (name, address) = (&*self.name, server.address);
            let server = self.shown(address);
            tracing::info!(
                upstream.name = name,
                upstream.address = %address,
                "server {server} of upstream `{name}` is up again"
            );
        }
        self.note(news);
    }

    /// Warns that a server refused the gateway's certificate after the handshake, once a minute at
    /// most. The server is not down: it may accept other connections.
    pub fn warn_of_refusal(&self, address: SocketAddr, error: &Error, now: Timestamp) {
        if self.servers.load().get(&address).is_some_and(|server| server.is_down()) {
            // The log says it already.
            return;
        }
        let mut last = self.last_warning.lock();
        if last.is_some_and(|last| now < last.plus(WARN_AGAIN)) {
            return;
        }
        *last = Some(now);
        let (name, server, failure) = (&*self.name, self.shown(address), ConnectFailure(error));
        tracing::warn!(
            upstream.name = name,
            upstream.address = %address,
            "server {server} of upstream `{name}` failed: {failure}"
        );
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

    fn build(
        name: &str,
        config: &config::Upstream,
        names: Option<Names>,
        dependencies: UpstreamDependencies<'_>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let at = format!("upstreams.{name}");
        let template = findings.scope(|findings| peer::build(name, config, &at, findings));
        let (PeerTemplate { peer, pins }, names) = (template?, names?);
        let previous = dependencies.previous.and_then(|previous| previous.by_name(name));
        names.end_first(previous.map(|previous| &*previous.names), &at, dependencies.now, findings);
        let names = Arc::new(names);
        let upstream = Self {
            name: name.into(),
            speaks_http2: config.protocol == UpstreamProtocol::Http2,
            maps_redirects: config.map_redirects,
            named: config.servers.iter().filter_map(named).collect(),
            balancer: Balancer::new(config.balance, Backends::new(Box::new(Discovery(Arc::clone(&names))))),
            names,
            servers: ArcSwap::default(),
            pins,
            failed_for: config.failed_for.0,
            server_up: dependencies.metrics.upstream_server_up.clone(),
            is_published: Mutex::new(false),
            last_warning: Mutex::default(),
            peer,
        };
        // A server that is connected to in another way may be up in it.
        if let Some(previous) = previous.filter(|previous| previous.peer.group_key == upstream.peer.group_key)
        {
            upstream.servers.store(previous.servers.load_full());
        }
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

    async fn probe(&self, server: &Server, connector: &TransportConnector, now: Timestamp) {
        let peer = self.peer(server, None, None);
        let connected = connector.new_stream(&*peer).await;
        let verified = connected.and_then(|stream| self.verify(stream.get_ssl_digest().as_deref()));
        match verified {
            Ok(()) => self.record_connection(server),
            Err(error) => self.record_failure_of(server, &error, now),
        }
    }

    fn record_failure_of(&self, server: &Server, error: &Error, now: Timestamp) {
        let pause = self.failed_for.max(if server.is_down() { LEAST_PAUSE } else { Duration::ZERO });
        let news = server.record_failure(now, now.plus(pause));
        if news.is_for_log {
            let (name, address) = (&*self.name, server.address);
            let (server, failure) = (self.shown(address), ConnectFailure(error));
            tracing::warn!(
                upstream.name = name,
                upstream.address = %address,
                "server {server} of upstream `{name}` is down: {failure}"
            );
        }
        self.note(news);
    }

    fn note(&self, news: News) {
        if news.is_change {
            self.show_servers();
        }
    }

    /// A server for the log: as configured, and its address if that is another text.
    fn shown(&self, address: SocketAddr) -> String {
        let text = address.to_string();
        let name = self.names.iter().find(|name| name.addresses().contains(&address));
        match name {
            Some(name) if *name.text != *text => format!("{} ({text})", name.text),
            _ => text,
        }
    }

    /// Writes the metric of each server. A name is up if one of its addresses is.
    fn show_servers(&self) {
        let is_published = self.is_published.lock();
        if !*is_published {
            return;
        }
        let servers = self.servers.load();
        for name in self.names.iter() {
            let is_up = |address: &SocketAddr| servers.get(address).is_some_and(|server| !server.is_down());
            let is_up = name.addresses().iter().any(is_up);
            self.server_up.with_label_values(&[&*self.name, &*name.text]).set(i64::from(is_up));
        }
    }

    /// Removes from the metric what is not in `next`.
    fn withdraw(&self, next: &Upstreams) {
        *self.is_published.lock() = false;
        let next = next.by_name(&self.name);
        let stays = |text: &str| next.is_some_and(|next| next.names.iter().any(|name| *name.text == *text));
        for name in self.names.iter().filter(|name| !stays(&name.text)) {
            // It is not there if this name was there twice.
            _ = self.server_up.remove_label_values(&[&*self.name, &*name.text]);
        }
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
    use crate::clock::{Clock as _, ManualClock};
    use crate::config::Document;

    fn build(upstreams: &str, previous: Option<&Upstreams>, metrics: &Metrics) -> (Upstreams, Findings) {
        let yaml = format!(
            "listeners: [{{ address: '127.0.0.1:0' }}]\napps: {{ a: {{ kind: mini_program, appid: wx0000000000000001, secret: s }} }}\nroutes: [{{ path: /, access: public, upstream: b }}]\nupstreams:\n{upstreams}"
        );
        let document = Document::parse("test.yaml", &yaml).unwrap_or_else(|report| panic!("{report}"));
        let mut findings = Findings::default();
        let now = ManualClock::start_now().instant();
        let dependencies = UpstreamDependencies { previous, metrics, now };
        let built = Upstreams::build(&document.config.upstreams, dependencies, &mut findings);
        (built.unwrap_or_else(|| panic!("{findings:?}")), findings)
    }

    /// The pool of the connections of upstream `b`.
    fn pool(upstreams: &str) -> u64 {
        let (built, _) = build(upstreams, None, &Metrics::new().unwrap());
        built.by_name("b").unwrap().peer.reuse_hash()
    }

    /// What the metric says of the servers, one a line.
    fn shown(metrics: &Metrics) -> Vec<String> {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("menshen_upstream_server_up{"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_reload_keeps_who_is_down_and_forgets_who_is_gone() {
        let metrics = Metrics::new().unwrap();
        let now = Timestamp::from_seconds(100);
        let error = Error::new_up(pingora::ErrorType::ConnectRefused);
        let (first, _) = build(
            "  b: { servers: ['127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3'] }\n  c: { servers: ['127.0.0.1:1'] }\n",
            None,
            &metrics,
        );
        assert_eq!(shown(&metrics), [""; 0], "what is only built is not shown");
        first.publish(None);
        let upstream = first.by_name("b").unwrap();
        for port in [1, 2] {
            upstream.record_failure(([127, 0, 0, 1], port).into(), &error, now);
        }
        let line = |upstream, port, up| {
            format!("menshen_upstream_server_up{{server=\"127.0.0.1:{port}\",upstream=\"{upstream}\"}} {up}")
        };
        assert_eq!(shown(&metrics), [line("b", 1, 0), line("c", 1, 1), line("b", 2, 0), line("b", 3, 1)]);

        let (second, _) = build("  b: { servers: ['127.0.0.1:2', '127.0.0.1:3'] }\n", Some(&first), &metrics);
        second.publish(Some(&first));

        let expected = [line("b", 2, 0), line("b", 3, 1)];
        assert_eq!(shown(&metrics), expected);
        // A request of before the reload fails: what is gone does not return.
        first.by_name("c").unwrap().record_failure(([127, 0, 0, 1], 1).into(), &error, now);
        assert_eq!(shown(&metrics), expected);
    }

    #[test]
    fn a_name_that_does_not_resolve_is_a_warning_and_its_server_counts_as_failed() {
        let metrics = Metrics::new().unwrap();
        for balance in ["round_robin", "consistent_hash", "least_connections"] {
            for (servers, chosen) in
                [("'no-such-host.invalid:1'", None), ("'no-such-host.invalid:1', '127.0.0.1:2'", Some(2))]
            {
                let yaml = format!("  b: {{ servers: [{servers}], balance: {balance} }}\n");
                let (built, findings) = build(&yaml, None, &metrics);
                built.publish(None);

                let warnings: Vec<String> = findings.iter().map(ToString::to_string).collect();
                assert_eq!(warnings.len(), 1, "{warnings:?}");
                assert!(warnings[0].contains("`no-such-host.invalid:1` does not resolve"), "{warnings:?}");
                let server = built.by_name("b").unwrap().choose(b"x", &[], Timestamp::from_seconds(1));
                assert_eq!(server.map(|server| server.address.port()), chosen, "{balance}");
                let line = "menshen_upstream_server_up{server=\"no-such-host.invalid:1\",upstream=\"b\"} 0";
                assert!(shown(&metrics).iter().any(|shown| shown == line), "{:?}", shown(&metrics));
            }
        }
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
