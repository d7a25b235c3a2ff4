//! What a reload swaps, built from one configuration; and what outlives every reload.

use std::collections::BTreeMap;
#[cfg(test)]
use std::path::Path;
use std::sync::{Arc, OnceLock};

use http::Method;
use prometheus::{Histogram, IntCounter};

use crate::app_token::AppTokens;
use crate::authn::{self, Authenticator, InternalClients, SubjectHasher};
use crate::clock::Clock;
use crate::config::{self, Config, Findings, Preflight};
use crate::cors::CorsPolicy;
use crate::entropy::Entropy;
use crate::hazard;
use crate::identity::AppId;
use crate::identity_headers::{HeaderEdits, HeaderSettings};
use crate::key_file::OnMissingKey;
use crate::page::Pages;
use crate::route::{METHODS, Route, RouteTable};
use crate::session::{self, Sessions};
use crate::sign_in::{SignInDependencies, SignInService, SignInSettings};
#[cfg(test)]
use crate::store::testing::SwitchedStore;
use crate::store::{Store, StoreHealth};
use crate::telemetry::audit_log::AuditLog;
use crate::telemetry::metrics::Metrics;
use crate::throttle::{RequestLimits, Throttle};
use crate::token::Tokens;
use crate::upstream::{UpstreamDependencies, Upstreams};
use crate::user_data::UserDataPolicy;
use crate::wechat::{App, WeChat};

/// What outlives a reload.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whether the store answers.
    pub store_health: Arc<StoreHealth>,
    /// What this node follows in the store.
    pub session_core: Arc<session::Core>,
    /// Logins, logouts, refusals and actions of operators. Off unless [`Shared::with_audit_log`]
    /// sets it.
    pub audit_log: Arc<AuditLog>,
    subject_hasher: SubjectHasher,
}

impl Shared {
    /// Gathers what outlives a reload.
    pub fn new(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
        store: Arc<dyn Store>,
        subject_hasher: SubjectHasher,
    ) -> Self {
        let store_health = Arc::new(StoreHealth::new(store.as_ref(), &metrics));
        let session_core = Arc::new(session::Core::new(
            Arc::clone(&store),
            Arc::clone(&store_health),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            Arc::clone(&metrics),
        ));
        Self {
            clock,
            entropy,
            metrics,
            store,
            store_health,
            session_core,
            audit_log: Arc::default(),
            subject_hasher,
        }
    }

    /// Sets the audit log.
    pub fn with_audit_log(self, audit_log: Arc<AuditLog>) -> Self {
        Self { audit_log, ..self }
    }

    /// Hashes subjects for logs.
    pub const fn subject_hasher(&self) -> &SubjectHasher {
        &self.subject_hasher
    }
}

/// Everything that a request is decided with, built from one configuration.
#[derive(Debug)]
pub struct Runtime {
    /// The routes of requests.
    pub routes: RouteTable,
    /// The backend servers.
    pub upstreams: Upstreams,
    /// Identifies callers.
    pub authenticator: Arc<Authenticator>,
    /// The sessions that tokens name.
    pub sessions: Arc<Sessions>,
    /// The headers that the backend receives.
    pub header_edits: HeaderEdits,
    /// The sign-in endpoints.
    pub sign_in: Arc<SignInService>,
    /// The tokens with which WeChat's API is called.
    pub app_tokens: Arc<AppTokens>,
    /// The programs of the business.
    pub internal_clients: InternalClients,
    /// Which pages of other origins may read what the gateway itself answers.
    pub cors: Option<CorsPolicy>,
    /// Limits on connections and requests.
    pub limits: config::Limits,
    /// The proxies in front.
    pub trusted_proxies: Vec<config::TrustedProxy>,
    /// Limits on logins and on errors.
    pub throttle: Arc<Throttle>,
    /// Limits on the requests of each route.
    pub request_limits: RequestLimits,
    apps: BTreeMap<Arc<str>, AppId>,
    /// Apps whose users sign in without a unionid.
    apps_without_unionid: BTreeMap<Arc<str>, AppId>,
    throttle_config: config::Throttle,
    routes_metrics: Vec<RouteMetrics>,
    no_route_metrics: RouteMetrics,
}

/// The metrics of one route, looked up before the first request.
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

/// Statuses with a counter of their own. Others are counted by their first digit, such as `4xx`.
const STATUSES: [u16; 36] = [
    100, 101, 200, 201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409,
    410, 412, 413, 414, 415, 417, 422, 429, 431, 499, 500, 501, 502, 503, 504,
];
/// One more than the highest hundred, for statuses not in [`STATUSES`].
const HUNDREDS: usize = 10;

impl Runtime {
    /// Builds everything that a configuration describes, and reports what makes no sense in it.
    ///
    /// The limits of `previous` keep their counts if their section is the same: a reload must not
    /// give an offender a fresh start.
    pub fn build(
        config: &Config,
        missing: OnMissingKey,
        shared: &Shared,
        previous: Option<&Self>,
        findings: &mut Findings,
    ) -> Option<Self> {
        check_routes_below_login(config, findings);
        check_shared_keys(config, findings);
        hazard::warn(config, findings);
        let internal_clients = InternalClients::build(config.internal.as_ref(), &config.apps, findings);
        let sections = BuiltSections::build(config, missing, shared, previous, findings);
        // All sections were built, so that their findings are known. What follows needs all of
        // them.
        let (tokens, sessions) = (sections.tokens?, sections.sessions?);
        let authenticator = build_authenticator(config, &tokens, &sessions, shared, findings);
        check_token_header(authenticator.as_ref(), sections.header_edits.as_ref(), findings);
        let (routes, wechat) = (sections.routes?, Arc::new(sections.wechat?));
        let (throttle, authenticator) = (sections.throttle?, Arc::new(authenticator?));
        let dependencies = SignInDependencies {
            wechat: Arc::clone(&wechat),
            tokens,
            sessions: Arc::clone(&sessions),
            store: Arc::clone(&shared.store),
            store_health: Arc::clone(&shared.store_health),
            authenticator: Arc::clone(&authenticator),
            pages: sections.pages?,
            throttle: Arc::clone(&throttle),
            metrics: Arc::clone(&shared.metrics),
            clock: Arc::clone(&shared.clock),
            entropy: Arc::clone(&shared.entropy),
        };
        let mut sign_in =
            SignInService::new(sections.sign_in?, dependencies).opening_user_data(sections.user_data?);
        if let Some(previous) = previous {
            sign_in = sign_in.with_codes_of(&previous.sign_in);
        }
        Some(Self {
            routes_metrics: RouteMetrics::of_routes(&routes, &shared.metrics),
            no_route_metrics: RouteMetrics::new("", None, &shared.metrics),
            upstreams: sections.upstreams?,
            authenticator,
            sessions,
            header_edits: sections.header_edits?,
            sign_in: Arc::new(sign_in),
            app_tokens: build_app_tokens(&wechat, shared),
            internal_clients: internal_clients?,
            cors: sections.cors?,
            limits: config.limits.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            apps: appids(wechat.apps()),
            apps_without_unionid: appids(wechat.apps().filter(|app| app.admits_unknown_unionid())),
            throttle,
            request_limits: sections.request_limits?,
            throttle_config: config.throttle.clone(),
            routes,
        })
    }

    /// The id of the app with this name in the configuration, or with this appid.
    pub fn appid(&self, name: &str) -> Option<&AppId> {
        self.apps.get(name).or_else(|| self.apps.values().find(|appid| appid.as_str() == name))
    }

    /// The apps whose users sign in without a unionid, by name.
    pub fn apps_without_unionid(&self) -> impl Iterator<Item = (&str, &AppId)> {
        self.apps_without_unionid.iter().map(|(name, appid)| (&**name, appid))
    }

    /// The name of the app with this id in the configuration.
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
        let hasher = SubjectHasher::ephemeral(&SystemEntropy).unwrap();
        let shared = Shared::new(clock, Arc::new(SystemEntropy), metrics, store.clone(), hasher);
        let mut findings = Findings::default();
        let runtime = Self::build(&document.config, OnMissingKey::Ephemeral, &shared, None, &mut findings);
        (shared, runtime.unwrap_or_else(|| panic!("{findings:?}")), store)
    }

    /// The metrics of a route by its index, or of requests that no route serves.
    pub fn route_metrics(&self, index: Option<usize>) -> &RouteMetrics {
        index.and_then(|index| self.routes_metrics.get(index)).unwrap_or(&self.no_route_metrics)
    }
}

/// What is built from sections of the configuration alone; `None` for a section with an error.
struct BuiltSections {
    routes: Option<RouteTable>,
    upstreams: Option<Upstreams>,
    tokens: Option<Arc<Tokens>>,
    sessions: Option<Arc<Sessions>>,
    wechat: Option<WeChat>,
    throttle: Option<Arc<Throttle>>,
    request_limits: Option<RequestLimits>,
    pages: Option<Arc<Pages>>,
    sign_in: Option<SignInSettings>,
    user_data: Option<Option<UserDataPolicy>>,
    header_edits: Option<HeaderEdits>,
    cors: Option<Option<CorsPolicy>>,
}

impl BuiltSections {
    fn build(
        config: &Config,
        missing: OnMissingKey,
        shared: &Shared,
        previous: Option<&Runtime>,
        findings: &mut Findings,
    ) -> Self {
        let Shared { clock, entropy, metrics, session_core, .. } = shared;
        let entropy_source = entropy.as_ref();
        Self {
            routes: RouteTable::build(
                &config.routes,
                &config.apps,
                &config.upstreams,
                &config.lists,
                findings,
            ),
            upstreams: Upstreams::build(
                &config.upstreams,
                UpstreamDependencies {
                    previous: previous.map(|previous| &previous.upstreams),
                    metrics,
                    now: clock.instant(),
                },
                findings,
            ),
            tokens: Tokens::build(&config.tokens, &config.data_dir, missing, entropy_source, findings)
                .map(Arc::new),
            sessions: Sessions::build(
                &config.sessions,
                &config.data_dir,
                missing,
                Arc::clone(session_core),
                findings,
            )
            .map(|sessions| Arc::new(sessions.keeping_session_keys(config.user_data.is_some()))),
            wechat: WeChat::build(
                &config.wechat,
                &config.apps,
                metrics,
                Arc::clone(clock),
                Arc::clone(entropy),
                findings,
            ),
            throttle: build_throttle(&config.throttle, shared, previous, findings),
            request_limits: RequestLimits::build(
                &config.routes,
                &config.throttle,
                previous.map(|previous| &previous.request_limits),
                metrics,
                clock,
                entropy_source,
                findings,
            ),
            pages: Pages::build(&config.login.page, findings).map(Arc::new),
            sign_in: SignInSettings::build(
                &config.login,
                &config.apps,
                &config.routes,
                entropy_source,
                findings,
            ),
            user_data: build_user_data(config.user_data.as_ref(), findings),
            header_edits: build_header_edits(config, metrics, findings),
            cors: build_cors(config.cors.as_ref(), findings),
        }
    }
}

/// The tokens of apps. A reload begins without them: the store has them.
fn build_app_tokens(wechat: &Arc<WeChat>, shared: &Shared) -> Arc<AppTokens> {
    AppTokens::new(
        Arc::clone(wechat),
        Arc::clone(&shared.session_core),
        Arc::clone(&shared.clock),
        Arc::clone(&shared.entropy),
        &shared.metrics,
    )
}

/// The ids of apps, by name.
fn appids<'a>(apps: impl Iterator<Item = &'a App>) -> BTreeMap<Arc<str>, AppId> {
    apps.map(|app| (Arc::clone(&app.name), app.appid.clone())).collect()
}

/// What is opened of WeChat's sealed user data, if anything is.
fn build_user_data(
    config: Option<&config::UserData>,
    findings: &mut Findings,
) -> Option<Option<UserDataPolicy>> {
    let Some(config) = config else { return Some(None) };
    UserDataPolicy::build(config, findings).map(Some)
}

/// The policy of the gateway's own answers, if there is one.
fn build_cors(config: Option<&config::Cors>, findings: &mut Findings) -> Option<Option<CorsPolicy>> {
    const SERVED: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

    let Some(config) = config else { return Some(None) };
    findings.scope(|findings| {
        if config.preflight == Preflight::Backend {
            findings
                .error("cors.preflight", "the gateway's own endpoints have no backend")
                .hint("remove it, or write it under `routes[].cors`");
        }
        if config.origins.iter().any(|origin| origin == "*") {
            findings
                .warning(
                    "cors.origins",
                    "pages of every site can send made-up codes and tokens to the sign-in endpoints, \
                     which count against their visitors' addresses",
                )
                .hint("name the origins of your own pages");
        }
        Some(Some(CorsPolicy::build(config, "cors", &METHODS, &SERVED, findings)?))
    })
}

fn build_header_edits(config: &Config, metrics: &Metrics, findings: &mut Findings) -> Option<HeaderEdits> {
    let settings = HeaderSettings {
        identity_headers: &config.identity_headers,
        trusted_proxies: &config.trusted_proxies,
        header_names: config.limits.header_names,
        distinguishes_methods: config.routes.iter().any(|route| !route.methods.is_empty()),
    };
    HeaderEdits::build(settings, metrics, findings)
}

fn build_authenticator(
    config: &Config,
    tokens: &Arc<Tokens>,
    sessions: &Arc<Sessions>,
    shared: &Shared,
    findings: &mut Findings,
) -> Option<Authenticator> {
    let dependencies = authn::Dependencies {
        tokens: Arc::clone(tokens),
        sessions: Arc::clone(sessions),
        tells_profile: config.identity_headers.tells_profile(),
    };
    Authenticator::build(
        &config.tokens,
        &config.apps,
        dependencies,
        &shared.metrics,
        shared.subject_hasher.clone(),
        shared.entropy.as_ref(),
        findings,
    )
}

/// The throttle of a configuration: the one that runs, if its section did not change.
fn build_throttle(
    config: &config::Throttle,
    shared: &Shared,
    previous: Option<&Runtime>,
    findings: &mut Findings,
) -> Option<Arc<Throttle>> {
    if let Some(previous) = previous
        && previous.throttle_config == *config
    {
        return Some(Arc::clone(&previous.throttle));
    }
    let clock = Arc::clone(&shared.clock);
    let throttle = Throttle::build(config, &shared.metrics, clock, shared.entropy.as_ref(), findings)?;
    Some(Arc::new(throttle.shared_in(Arc::clone(&shared.store), config)))
}

impl RouteMetrics {
    fn of_routes(routes: &RouteTable, metrics: &Arc<Metrics>) -> Vec<Self> {
        let of = |route: &Arc<Route>| Self::new(&route.name, Some(&route.upstream), metrics);
        routes.routes().iter().map(of).collect()
    }

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

    /// Counts an answered request. Each counter is looked up once, when it is first used.
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

/// Refuses a token header that the gateway writes itself: removing the token would remove an
/// identity.
fn check_token_header(
    authenticator: Option<&Authenticator>,
    header_edits: Option<&HeaderEdits>,
    findings: &mut Findings,
) {
    let headers = authenticator.map(|authenticator| authenticator.sources().headers()).unwrap_or_default();
    for header in headers.iter().filter(|header| header_edits.is_some_and(|edits| edits.writes(header))) {
        findings
            .error("tokens.sources.header", format!("`{header}` is a header that the gateway writes itself"))
            .hint("choose a name of your own, such as `X-Token`");
    }
}

/// Warns of routes that never match, because the gateway answers all paths below the login prefix
/// itself.
fn check_routes_below_login(config: &Config, findings: &mut Findings) {
    let prefix = config.login.path_prefix.as_str();
    for (index, listener) in config.listeners.iter().enumerate() {
        let path = listener.health.as_deref().and_then(|path| path.strip_prefix(prefix));
        if path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            findings
                .error(
                    format!("listeners[{index}].health"),
                    format!("paths below `{prefix}` are for signing in"),
                )
                .hint("write a path of its own, such as `/healthz`");
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        let is_below =
            route.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_below {
            findings
                .warning(
                    format!("routes[{index}].path"),
                    format!(
                        "`{}` never gets a request: the gateway answers all paths below `{prefix}` itself",
                        route.path
                    ),
                )
                .hint("write another path, or another `login.path_prefix`");
        }
    }
}

/// Warns of a cluster whose nodes each sign with a key that the others do not know.
fn check_shared_keys(config: &Config, findings: &mut Findings) {
    if config.store.engine == config::StoreEngine::Redis && config.tokens.keys.is_empty() {
        findings
            .warning(
                "tokens.keys",
                "each gateway of this store makes a signing key of its own, and refuses the tokens of the others",
            )
            .hint("write the same `tokens.keys` on every gateway; `menshen key generate` makes a key");
    }
}
