//! All that a reload may swap, built from one configuration; and what outlives every reload.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use http::Method;
use prometheus::{Histogram, IntCounter};

use crate::authn::{self, Authenticator, SubjectHasher};
use crate::clock::Clock;
use crate::config::{self, Config, Findings};
use crate::entropy::{Entropy, NoEntropy};
use crate::identity::AppId;
use crate::identity_headers::HeaderEdits;
use crate::key_file::OnMissingKey;
use crate::page::Pages;
use crate::route::{METHODS, RouteTable};
use crate::session::{self, Sessions};
use crate::sign_in::{SignInDependencies, SignInService, SignInSettings};
use crate::store::Store;
#[cfg(test)]
use crate::store::testing::SwitchedStore;
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;
use crate::throttle::{RequestLimits, Throttle};
use crate::token::Tokens;
use crate::upstream::Upstreams;
use crate::wechat::WeChat;

/// What outlives a reload.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// The store, and what this node follows in it.
    pub session_core: Arc<session::Core>,
    /// Who signed in and out, who was turned away, what operators did. Off unless [`Shared::with_audit_log`] says which.
    pub audit_log: Arc<AuditLog>,
    subject_hasher: SubjectHasher,
}

impl Shared {
    /// Takes what it is given, and draws the key that names people in logs.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub fn new(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
        store: Arc<dyn Store>,
    ) -> Result<Self, NoEntropy> {
        let subject_hasher = SubjectHasher::new(entropy.as_ref())?;
        let session_core = Arc::new(session::Core::new(
            store,
            Arc::clone(&clock),
            Arc::clone(&entropy),
            Arc::clone(&metrics),
        ));
        Ok(Self { clock, entropy, metrics, session_core, audit_log: Arc::default(), subject_hasher })
    }

    /// The same, with an audit log.
    pub fn with_audit_log(self, audit_log: Arc<AuditLog>) -> Self {
        Self { audit_log, ..self }
    }

    /// Names people in logs.
    pub const fn subject_hasher(&self) -> &SubjectHasher {
        &self.subject_hasher
    }
}

/// Everything a request needs to be decided, one configuration's worth.
#[derive(Debug)]
pub struct Runtime {
    /// Which route a request takes.
    pub routes: RouteTable,
    /// Which server answers.
    pub upstreams: Upstreams,
    /// Who is calling.
    pub authenticator: Arc<Authenticator>,
    /// The sessions that tokens name.
    pub sessions: Arc<Sessions>,
    /// What the backend is told.
    pub header_edits: HeaderEdits,
    /// The sign-in endpoints.
    pub sign_in: Arc<SignInService>,
    /// Limits on connections and requests.
    pub limits: config::Limits,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Limits on logins and on errors.
    pub throttle: Arc<Throttle>,
    /// Limits on the requests of each route.
    pub request_limits: RequestLimits,
    apps: BTreeMap<Arc<str>, AppId>,
    throttle_config: config::Throttle,
    routes_metrics: Vec<RouteMetrics>,
    no_route_metrics: RouteMetrics,
}

/// The metric children of one route, resolved before the first request.
#[derive(Debug)]
pub struct RouteMetrics {
    /// `menshen_http_request_duration_seconds{route}`
    pub duration: Histogram,
    /// `menshen_upstream_request_duration_seconds{upstream}`
    pub upstream_duration: Option<Histogram>,
    name: Arc<str>,
    metrics: Arc<Metrics>,
    requests: Vec<OnceLock<IntCounter>>,
}

/// Statuses counted by themselves; all others count as the hundred they belong to.
const STATUSES: [u16; 36] = [
    100, 101, 200, 201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409,
    410, 412, 413, 414, 415, 417, 422, 429, 431, 499, 500, 501, 502, 503, 504,
];
/// One more than the highest hundred, for statuses not in [`STATUSES`].
const HUNDREDS: usize = 10;

impl Runtime {
    /// Builds everything a configuration describes; a finding for all that makes no sense.
    ///
    /// What `previous` remembers of clients goes on where its section did not change: a reload must not let an
    /// offender start afresh.
    pub fn build(
        config: &Config,
        missing: OnMissingKey,
        shared: &Shared,
        previous: Option<&Self>,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Shared { clock, entropy, metrics, session_core, subject_hasher, .. } = shared;
        let routes =
            RouteTable::build(&config.routes, &config.apps, &config.upstreams, &config.lists, findings);
        let upstreams = Upstreams::build(&config.upstreams, findings);
        let tokens = build_tokens(&config.tokens, &config.data_dir, missing, entropy.as_ref(), findings);
        let sessions =
            Sessions::build(&config.sessions, &config.data_dir, missing, Arc::clone(session_core), findings)
                .map(Arc::new);
        let wechat = WeChat::build(
            &config.wechat,
            &config.apps,
            metrics,
            Arc::clone(clock),
            Arc::clone(entropy),
            findings,
        );
        check_routes_below_login(config, findings);
        check_shared_keys(config, findings);
        let throttle = match previous {
            Some(previous) if previous.throttle_config == config.throttle => {
                Some(Arc::clone(&previous.throttle))
            }
            _ => Throttle::build(&config.throttle, metrics, Arc::clone(clock), entropy.as_ref(), findings)
                .map(|throttle| throttle.shared_in(Arc::clone(session_core.store()), &config.throttle))
                .map(Arc::new),
        };
        let request_limits = RequestLimits::build(
            &config.routes,
            &config.throttle,
            previous.map(|previous| &previous.request_limits),
            metrics,
            clock,
            entropy.as_ref(),
            findings,
        );
        let pages = Pages::build(&config.login.page, findings).map(Arc::new);
        let sign_in = SignInSettings::build(&config.login, &config.apps, entropy.as_ref(), findings);
        let header_edits = HeaderEdits::build(
            &config.identity_headers,
            config.limits.header_names,
            config.routes.iter().any(|route| !route.methods.is_empty()),
            metrics,
            findings,
        );
        // Everything that stands by itself was built, so that its findings are known; what follows needs it all.
        let (tokens, sessions) = (tokens?, sessions?);
        let authenticator = Authenticator::build(
            &config.tokens,
            &config.apps,
            authn::Dependencies {
                tokens: Arc::clone(&tokens),
                sessions: Arc::clone(&sessions),
                tells_profile: config.identity_headers.tells_profile(),
            },
            metrics,
            *subject_hasher,
            entropy.as_ref(),
            findings,
        );
        check_token_header(authenticator.as_ref(), header_edits.as_ref(), findings);
        let (throttle, wechat, authenticator) = (throttle?, wechat?, Arc::new(authenticator?));
        let (pages, sign_in) = (pages?, sign_in?);
        let apps = wechat.apps().map(|app| (Arc::clone(&app.name), app.appid.clone())).collect();
        let dependencies = SignInDependencies {
            wechat: Arc::new(wechat),
            tokens,
            sessions: Arc::clone(&sessions),
            authenticator: Arc::clone(&authenticator),
            pages,
            throttle: Arc::clone(&throttle),
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
        };
        let sign_in = SignInService::new(sign_in, dependencies);
        let sign_in = match previous {
            Some(previous) => sign_in.with_codes_of(&previous.sign_in),
            None => sign_in,
        };
        let routes = routes?;
        Some(Self {
            routes_metrics: routes
                .routes()
                .iter()
                .map(|route| RouteMetrics::new(&route.name, Some(&route.upstream), metrics))
                .collect(),
            no_route_metrics: RouteMetrics::new("", None, metrics),
            upstreams: upstreams?,
            authenticator,
            sessions,
            header_edits: header_edits?,
            sign_in: Arc::new(sign_in),
            limits: config.limits.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            apps,
            throttle,
            request_limits: request_limits?,
            throttle_config: config.throttle.clone(),
            routes,
        })
    }

    /// The id of the app that the configuration calls by this name.
    pub fn appid(&self, name: &str) -> Option<&AppId> {
        self.apps.get(name)
    }

    /// What the configuration calls the app of this id.
    pub fn app_name(&self, appid: &AppId) -> Option<&str> {
        self.apps.iter().find(|(_, known)| *known == appid).map(|(name, _)| &**name)
    }

    /// The example configuration of `conf/minimal.yaml`, its sessions in `folder`.
    #[cfg(test)]
    pub(crate) fn for_test(folder: &Path, clock: Arc<dyn Clock>) -> (Shared, Arc<Self>) {
        let (shared, runtime, _) = Self::for_test_of(include_str!("../conf/minimal.yaml"), folder, clock);
        (shared, Arc::new(runtime))
    }

    /// What this configuration describes, its sessions in `folder`, and the store that has them.
    #[cfg(test)]
    pub(crate) fn for_test_of(
        yaml: &str,
        folder: &Path,
        clock: Arc<dyn Clock>,
    ) -> (Shared, Self, Arc<SwitchedStore>) {
        use crate::entropy::SystemEntropy;

        let document = config::Document::parse("test.yaml", yaml).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let store = SwitchedStore::open(folder, Arc::clone(&clock));
        let shared = Shared::new(clock, Arc::new(SystemEntropy), metrics, store.clone()).unwrap();
        let mut findings = Findings::default();
        let runtime = Self::build(&document.config, OnMissingKey::Ephemeral, &shared, None, &mut findings);
        (shared, runtime.unwrap_or_else(|| panic!("{findings:?}")), store)
    }

    /// The metrics of a route by its index, or of requests that no route serves.
    pub fn route_metrics(&self, index: Option<usize>) -> &RouteMetrics {
        index.and_then(|index| self.routes_metrics.get(index)).unwrap_or(&self.no_route_metrics)
    }
}

impl RouteMetrics {
    fn new(name: &str, upstream: Option<&str>, metrics: &Arc<Metrics>) -> Self {
        let slots = (METHODS.len() + 1) * (STATUSES.len() + HUNDREDS);
        Self {
            duration: metrics.http_request_duration.with_label_values(&[name]),
            upstream_duration: upstream
                .map(|name| metrics.upstream_request_duration.with_label_values(&[name])),
            name: name.into(),
            metrics: Arc::clone(metrics),
            requests: std::iter::repeat_with(OnceLock::new).take(slots).collect(),
        }
    }

    /// Counts an answered request. A child is resolved when it first counts, and never again.
    pub fn count(&self, method: &Method, status: u16) {
        let method_index = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let status_index = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or_else(|| STATUSES.len() + usize::from(status / 100).min(HUNDREDS - 1));
        let Some(slot) = self.requests.get(method_index * (STATUSES.len() + HUNDREDS) + status_index) else {
            return;
        };
        slot.get_or_init(|| {
            let method = METHODS.get(method_index).map_or("other", Method::as_str);
            let known = STATUSES.get(status_index).map(ToString::to_string);
            let code = known.unwrap_or_else(|| format!("{}xx", status / 100));
            self.metrics.http_requests.with_label_values(&[&self.name, method, &code])
        })
        .inc();
    }
}

/// A token is taken out of its header after the gateway has written its own, and would take an identity with it.
fn check_token_header(
    authenticator: Option<&Authenticator>,
    header_edits: Option<&HeaderEdits>,
    findings: &mut Findings,
) {
    let header = authenticator.and_then(|authenticator| authenticator.sources().header());
    if let Some(header) = header
        && header_edits.is_some_and(|edits| edits.writes(header))
    {
        findings
            .error("tokens.sources.header", format!("`{header}` is a header that the gateway writes itself"))
            .hint("choose a name of your own, such as `X-Token`");
    }
}

/// Warns of routes that no request ever takes, since the login answers all below its prefix itself.
fn check_routes_below_login(config: &Config, findings: &mut Findings) {
    let prefix = config.login.path_prefix.as_str();
    for (index, route) in config.routes.iter().enumerate() {
        let is_below =
            route.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_below {
            findings
                .warning(
                    format!("routes[{index}].path"),
                    format!(
                        "`{}` never takes a request: the gateway answers all below `{prefix}` itself",
                        route.path
                    ),
                )
                .hint("write another path, or another `login.path_prefix`");
        }
    }
}

/// Warns of a cluster whose nodes would each sign with a key that the others do not know.
fn check_shared_keys(config: &Config, findings: &mut Findings) {
    if config.store.engine == config::StoreEngine::Redis && config.tokens.keys.is_empty() {
        findings
            .warning(
                "tokens.keys",
                "each gateway of this store signs with a key of its own, which the others refuse",
            )
            .hint("configure the same `tokens.keys` on every gateway: `menshen key generate` makes one");
    }
}

fn build_tokens(
    config: &config::Tokens,
    data_dir: &Path,
    missing: OnMissingKey,
    entropy: &dyn Entropy,
    findings: &mut Findings,
) -> Option<Arc<Tokens>> {
    Tokens::build(config, data_dir, missing, entropy, findings).map(Arc::new)
}
