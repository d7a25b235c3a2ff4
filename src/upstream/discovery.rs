//! The servers of an upstream as the configuration names them, and the addresses of the names.
//!
//! A name is looked up by a thread of its own: a name server that does not answer delays no other
//! name, and no request.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use pingora::lb::Backend;
use pingora::lb::discovery::ServiceDiscovery;

use crate::config::{self, Findings};
use crate::host::Authority;

/// How often a name that resolves is looked up again.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long after the first failure a name is looked up again. It doubles with each failure, up to
/// [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait for all names together at the start and at a reload.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The servers of an upstream, in the order of the configuration.
pub(super) struct Names(Vec<ServerName>);

/// A server as the configuration names it.
pub(super) struct ServerName {
    /// `host:port`
    pub(super) text: Arc<str>,
    weight: usize,
    /// Whether it is an address, and is not looked up.
    is_address: bool,
    state: Mutex<Resolution>,
    lookup: Arc<Lookup>,
    resolve: Resolve,
}

/// Looks up a name; blocks.
type Resolve = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// What a name stands for.
#[derive(Debug)]
struct Resolution {
    addresses: Vec<SocketAddr>,
    /// Lookups that failed, one after the other; 0 if the last one succeeded.
    failures: u32,
    next: Instant,
}

/// A lookup of one name, shared with the thread that does it.
#[derive(Debug, Default)]
struct Lookup(Mutex<LookupState>);

#[derive(Debug, Default)]
enum LookupState {
    #[default]
    Idle,
    UnderWay,
    Done(io::Result<Vec<SocketAddr>>),
}

/// Lookups that are waited for.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    left: Mutex<usize>,
    all_done: Condvar,
}

impl Lookups {
    /// Waits until all are done, five seconds at most.
    pub(super) fn wait(&self) {
        self.all_done.wait_while_for(&mut self.left.lock(), |left| *left > 0, LONGEST_WAIT);
    }
}

/// Hands the addresses that are known to Pingora.
pub(super) struct Discovery(pub(super) Arc<Names>);

impl Names {
    /// Reads the servers of an upstream and begins to look up their names; a finding for each that
    /// is not `host:port`.
    pub(super) fn begin(
        config: &config::Upstream,
        at: &str,
        now: Instant,
        lookups: &Arc<Lookups>,
        findings: &mut Findings,
    ) -> Self {
        Self::begin_with(&(Arc::new(resolve) as Resolve), config, at, now, lookups, findings)
    }

    fn begin_with(
        resolve: &Resolve,
        config: &config::Upstream,
        at: &str,
        now: Instant,
        lookups: &Arc<Lookups>,
        findings: &mut Findings,
    ) -> Self {
        let names = config.servers.iter().enumerate().filter_map(|(position, server)| {
            let text = server.address();
            let address: Option<SocketAddr> = text.parse().ok();
            if address.is_none() && !is_host_and_port(text) {
                findings
                    .error(format!("{at}.servers[{position}]"), format!("`{text}` is not `host:port`"))
                    .hint("write `host:port`, such as `127.0.0.1:9000` or `api.internal:8080`");
                return None;
            }
            let name = ServerName {
                text: text.into(),
                weight: server.weight().into(),
                is_address: address.is_some(),
                state: Mutex::new(Resolution {
                    addresses: address.into_iter().collect(),
                    failures: 0,
                    next: now,
                }),
                lookup: Arc::default(),
                resolve: Arc::clone(resolve),
            };
            if !name.is_address {
                name.begin_lookup(Some(Arc::clone(lookups)));
            }
            Some(name)
        });
        Self(names.collect())
    }

    /// Takes over what was found when the names were looked up first; a warning for each that does
    /// not resolve. It keeps the addresses that it had in `previous`.
    pub(super) fn end_first(&self, previous: Option<&Self>, at: &str, now: Instant, findings: &mut Findings) {
        for (position, name) in self.iter().enumerate().filter(|(_, name)| !name.is_address) {
            let found = name.lookup.finished().unwrap_or_else(|| Err(io::Error::other("no answer yet")));
            let Err(error) = &found else {
                name.state.lock().record(found, now);
                continue;
            };
            let known = previous.and_then(|previous| previous.iter().find(|other| other.text == name.text));
            let addresses = known.map(ServerName::addresses).unwrap_or_default();
            let consequence = if addresses.is_empty() {
                "the server counts as failed"
            } else {
                "its addresses of before stay in use"
            };
            findings.warning(
                format!("{at}.servers[{position}]"),
                format!(
                    "`{}` does not resolve: {error}; {consequence}, and the name is looked up again",
                    name.text
                ),
            );
            let mut state = name.state.lock();
            state.addresses = addresses;
            state.record(found, now);
        }
    }

    /// Takes over what was found since the last call, and looks up the names that are due. Whether
    /// an address has changed.
    pub(super) fn look_up(&self, upstream: &str, now: Instant) -> bool {
        let mut has_changed = false;
        for name in self.iter().filter(|name| !name.is_address) {
            if let Some(found) = name.lookup.finished() {
                has_changed |= name.record(found, upstream, now);
            }
            if name.state.lock().next <= now {
                name.begin_lookup(None);
            }
        }
        has_changed
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, ServerName> {
        self.0.iter()
    }
}

impl ServerName {
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.state.lock().addresses.clone()
    }

    /// Takes over what was found, and says in the log if the name begins or ceases to resolve.
    fn record(&self, found: io::Result<Vec<SocketAddr>>, upstream: &str, now: Instant) -> bool {
        let mut state = self.state.lock();
        let text = &*self.text;
        match (&found, state.failures) {
            (Ok(addresses), 1..) => tracing::info!(
                upstream.name = upstream,
                "server {text} of upstream `{upstream}` resolves again, to {}",
                listed(addresses)
            ),
            (Err(error), 0) => tracing::warn!(
                upstream.name = upstream,
                "server {text} of upstream `{upstream}` does not resolve: {error}; its addresses of before stay in use"
            ),
            _ => {}
        }
        state.record(found, now)
    }

    fn begin_lookup(&self, lookups: Option<Arc<Lookups>>) {
        if !self.lookup.begin() {
            return;
        }
        if let Some(lookups) = &lookups {
            *lookups.left.lock() += 1;
        }
        let (lookup, text, waiting) = (Arc::clone(&self.lookup), Arc::clone(&self.text), lookups.clone());
        let resolve = Arc::clone(&self.resolve);
        let started = std::thread::Builder::new().name("name-lookup".into()).spawn(move || {
            lookup.end((*resolve)(&text));
            done(waiting.as_deref());
        });
        if let Err(error) = started {
            self.lookup.end(Err(error));
            done(lookups.as_deref());
        }
    }
}

impl Resolution {
    /// Whether the addresses have changed.
    fn record(&mut self, found: io::Result<Vec<SocketAddr>>, now: Instant) -> bool {
        match found {
            Ok(addresses) => {
                (self.failures, self.next) = (0, now + INTERVAL);
                let has_changed = self.addresses != addresses;
                self.addresses = addresses;
                has_changed
            }
            Err(_) => {
                self.next = now + retry_after(self.failures);
                self.failures = self.failures.saturating_add(1);
                false
            }
        }
    }
}

impl Lookup {
    /// Whether it begins: only one is under way.
    fn begin(&self) -> bool {
        let mut state = self.0.lock();
        let is_idle = matches!(*state, LookupState::Idle);
        if is_idle {
            *state = LookupState::UnderWay;
        }
        is_idle
    }

    fn end(&self, found: io::Result<Vec<SocketAddr>>) {
        *self.0.lock() = LookupState::Done(found);
    }

    /// What was found, once.
    fn finished(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        let mut state = self.0.lock();
        if !matches!(*state, LookupState::Done(_)) {
            return None;
        }
        match std::mem::take(&mut *state) {
            LookupState::Done(found) => Some(found),
            LookupState::Idle | LookupState::UnderWay => None,
        }
    }
}

fn done(lookups: Option<&Lookups>) {
    if let Some(lookups) = lookups {
        *lookups.left.lock() -= 1;
        lookups.all_done.notify_all();
    }
}

fn retry_after(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures)).min(INTERVAL)
}

/// The addresses of a name, sorted: name servers answer in changing order.
fn resolve(host_and_port: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: BTreeSet<SocketAddr> = host_and_port.to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::other("no address"));
    }
    Ok(addresses.into_iter().collect())
}

/// Whether text is a host and a port. What cannot be one is a mistake of the configuration; what
/// may be one but does not resolve is not.
fn is_host_and_port(text: &str) -> bool {
    let is_host = |host: &str| {
        let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        // With a number at the end it is an address, and this one is not.
        let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
        host.bytes().all(is_byte) && !host.starts_with('.') && !host.contains("..") && !is_number
    };
    Authority::parse(text).is_some_and(|authority| {
        authority.port.is_some_and(|port| port != 0) && authority.host.len() <= 253 && is_host(authority.host)
    })
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for name in self.0.iter() {
            for address in name.addresses() {
                backends.insert(Backend::new_with_weight(&address.to_string(), name.weight)?);
            }
        }
        Ok((backends, HashMap::new()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    #[test]
    fn what_is_not_a_host_and_a_port_is_told_from_what_does_not_resolve() {
        for (text, is_one) in [
            ("api.internal:8080", true),
            ("api:1", true),
            ("my_service.default.svc.cluster.local.:443", true),
            ("no-such-host.invalid:65535", true),
            ("api.internal", false),
            ("api.internal:", false),
            ("api.internal:0", false),
            ("api.internal:65536", false),
            ("api.internal:+80", false),
            ("http://api.internal:8080", false),
            ("api.internal:8080/", false),
            ("user@api.internal:8080", false),
            ("", false),
            (":80", false),
            ("a..b:80", false),
            (".a:80", false),
            ("127.0.0.256:80", false),
            ("127.0.0.1.:80", false),
            ("1.2.3:80", false),
            ("[::g]:80", false),
            ("api internal:80", false),
            ("应用:80", false),
        ] {
            assert_eq!(is_host_and_port(text), is_one, "{text:?}");
        }
    }

    fn names(resolve: Resolve, now: Instant, previous: Option<&Names>) -> (Names, Vec<String>) {
        let yaml = "{ servers: ['api.internal:80', '127.0.0.1:81'] }";
        let document = config::Document::parse(
            "test.yaml",
            &format!(
                "listeners: [{{ address: '127.0.0.1:0' }}]\napps: {{ a: {{ kind: mini_program, appid: wx0000000000000001, secret: s }} }}\nroutes: [{{ path: /, access: public, upstream: b }}]\nupstreams: {{ b: {yaml} }}\n"
            ),
        );
        let config = &document.unwrap().config.upstreams["b"];
        let (lookups, mut findings) = (Arc::new(Lookups::default()), Findings::default());
        let names = Names::begin_with(&resolve, config, "upstreams.b", now, &lookups, &mut findings);
        lookups.wait();
        names.end_first(previous, "upstreams.b", now, &mut findings);
        (names, findings.iter().map(ToString::to_string).collect())
    }

    fn addresses(names: &Names) -> Vec<String> {
        names.iter().flat_map(|name| name.addresses()).map(|address| address.to_string()).collect()
    }

    /// A name server that knows names only while `knows` is true, and how often it was asked.
    fn name_server(knows: &Arc<AtomicBool>, asked: &Arc<AtomicUsize>) -> Resolve {
        let (knows, asked) = (Arc::clone(knows), Arc::clone(asked));
        Arc::new(move |name| {
            assert_eq!(name, "api.internal:80", "only names are looked up");
            asked.fetch_add(1, Ordering::SeqCst);
            if knows.load(Ordering::SeqCst) {
                Ok(vec!["10.0.0.1:80".parse().unwrap()])
            } else {
                Err(io::Error::other("name server away"))
            }
        })
    }

    /// Looks up what is due at this time, and takes over what is found.
    fn look_up(names: &Names, now: Instant) -> bool {
        let mut has_changed = names.look_up("b", now);
        while names.iter().any(|name| matches!(*name.lookup.0.lock(), LookupState::UnderWay)) {
            std::thread::yield_now();
        }
        has_changed |= names.look_up("b", now);
        has_changed
    }

    #[test]
    fn a_name_that_begins_to_resolve_is_used_and_one_that_ceases_to_keeps_its_addresses() {
        let (knows, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = ManualClock::start_now().instant();
        let at = |seconds| start + Duration::from_secs(seconds);

        let (names, warnings) = names(name_server(&knows, &asked), start, None);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("`api.internal:80` does not resolve: name server away"), "{warnings:?}");
        assert_eq!(addresses(&names), ["127.0.0.1:81"]);
        assert!(!look_up(&names, at(0)), "it is not due");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(!look_up(&names, at(1)));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        knows.store(true, Ordering::SeqCst);
        assert!(!look_up(&names, at(2)), "it waits for two seconds now");
        assert!(look_up(&names, at(3)), "it has an address");
        assert_eq!(addresses(&names), ["10.0.0.1:80", "127.0.0.1:81"]);

        knows.store(false, Ordering::SeqCst);
        assert!(!look_up(&names, at(13)));
        assert_eq!(addresses(&names), ["10.0.0.1:80", "127.0.0.1:81"]);
        let (next, warnings) = self::names(name_server(&knows, &asked), at(14), Some(&names));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("its addresses of before stay in use"), "{warnings:?}");
        assert_eq!(addresses(&next), ["10.0.0.1:80", "127.0.0.1:81"]);
    }

    #[test]
    fn a_name_is_looked_up_again_after_ever_longer_waits() {
        let waits: Vec<u64> = (0..7).map(|failures| retry_after(failures).as_secs()).collect();

        assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(retry_after(u32::MAX), INTERVAL);
    }
}
