//! Which route a request takes: host, path and method to access and upstream.
//!
//! The host decides first: only the routes that name a host serve it. Then the longest path
//! decides, and after it the method: if no route of that path serves the method, the request is
//! refused, and not given to a shorter and perhaps public path. The [`Rules`] of a route decide
//! which of the signed-in users may call. `proxy` checks the form of a request, and `authn` the
//! identity.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod method;
mod pattern;
mod people;
mod refusal;
mod reject;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::config::{self, Access, Findings, UpstreamProtocol};
use crate::cors::CorsPolicy;
use crate::host::is_host_name;
use crate::path::{self, AmbiguousPath, PathTree, Spelling, Spellings};

pub use self::method::{METHODS, NAMED_METHODS, has_destination, method_name};
use self::pattern::prefix_of_pattern;
pub use self::people::{Denied, Lists, Rules};
pub use self::refusal::PathRefusal;
pub use self::reject::{Reject, RejectTemplate};

/// Every route, ready to be searched.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    hosts: HashMap<String, PathTable>,
    /// Suffixes with their leading dot, longest first.
    wildcards: Vec<(String, PathTable)>,
    any_host: PathTable,
    distinguishes_methods: bool,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Position in the configuration; an index for what others keep per route.
    pub index: usize,
    /// Name in logs and metrics.
    pub name: Arc<str>,
    /// Who may call.
    pub access: Access,
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// Longest silence of the upstream here, zero for any; `None`: the upstream's own.
    pub read_timeout: Option<Duration>,
    /// Least bytes a second of a request's body here; `None`: as everywhere, or as the upstream's
    /// protocol asks for.
    pub min_body_rate: Option<u64>,
    /// Whether WebSocket connections are let through.
    pub websocket: bool,
    /// How a request without a valid token is refused.
    pub reject: Reject,
    /// Whether a token is also read from the query.
    pub token_in_query: bool,
    /// Whether the client's token is passed on.
    pub forward_token: bool,
    /// Apps that a browser may sign in to for this route, the preferred one first. Empty: it
    /// cannot.
    pub sign_in: Vec<Arc<str>>,
    /// Whether a request that a page of another site made may use a cookie, other than to read.
    pub allow_cross_site: bool,
    /// Which pages of other origins may read answers; `None`: the backend says it.
    pub cors: Option<CorsPolicy>,
    /// Whether shared caches may keep answers to people.
    pub allow_shared_caching: bool,
    /// Which signed-in users may call, in addition to [`Route::permits_app`].
    pub rules: Rules,
    methods: Vec<Method>,
    apps: Vec<Arc<str>>,
    spellings: Spellings,
}

/// Why no route serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No route has this host and path.
    NotFound,
    /// The path's routes serve other methods.
    MethodNotAllowed,
    /// Backends read the path in more than one way.
    Path(PathRefusal),
}

/// What a route refers to by name.
#[derive(Clone, Copy)]
struct References<'c> {
    apps: &'c BTreeMap<String, config::App>,
    upstreams: &'c BTreeMap<String, config::Upstream>,
    lists: &'c Lists,
}

/// Routes by their path.
type PathTable = PathTree<Vec<Arc<Route>>>;

impl RouteTable {
    /// Builds the table; a finding for every rule that is not valid.
    pub fn build(
        routes: &[config::Route],
        apps: &BTreeMap<String, config::App>,
        upstreams: &BTreeMap<String, config::Upstream>,
        lists: &BTreeMap<String, config::List>,
        findings: &mut Findings,
    ) -> Option<Self> {
        findings.scope(|findings| {
            let lists = &Lists::build(lists, findings);
            let references = References { apps, upstreams, lists };
            let mut table = Self {
                routes: Vec::with_capacity(routes.len()),
                hosts: HashMap::new(),
                wildcards: Vec::new(),
                any_host: PathTable::default(),
                distinguishes_methods: routes.iter().any(|route| !route.methods.is_empty()),
            };
            for (index, config) in routes.iter().enumerate() {
                let at = format!("routes[{index}]");
                let route = Arc::new(Route::build(index, config, &at, references, findings));
                if table.routes.iter().any(|other| other.name == route.name) {
                    findings
                        .error(format!("{at}.name"), format!("another route is named `{}`", route.name))
                        .hint("give each route a `name` of its own");
                }
                table.add(config, &route, &at, findings);
                table.routes.push(route);
            }
            table.wildcards.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
            Some(table)
        })
    }

    /// Finds the route of a request. `host` is lower case, without port and trailing dot; `path` is
    /// canonical, and matched as a backend decodes it: a path that is protected is so in every
    /// spelling.
    ///
    /// # Errors
    /// [`NoRoute`] says whether the path serves other methods.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&Arc<Route>, NoRoute> {
        let routes = self.table_of(host).find(&path::decode(path)).ok_or(NoRoute::NotFound)?;
        routes.iter().find(|route| route.serves(method)).ok_or(NoRoute::MethodNotAllowed)
    }

    /// Finds the route of a request whose path backends read in more than one way: the route of
    /// every reading, which accepts all spellings of the path.
    ///
    /// # Errors
    /// [`NoRoute::Path`], or [`NoRoute::MethodNotAllowed`].
    pub fn find_in_every_reading(
        &self,
        host: &str,
        path: &AmbiguousPath,
        method: &Method,
    ) -> Result<&Arc<Route>, NoRoute> {
        let found = self.table_of(host).find_in_every_reading(path).ok().flatten();
        let routes = found.ok_or(NoRoute::Path(PathRefusal::ReadingsDiffer(path.spellings())))?;
        let route = routes.iter().find(|route| route.serves(method)).ok_or(NoRoute::MethodNotAllowed)?;
        let missing = path.spellings().without(route.spellings);
        if missing.is_empty() {
            Ok(route)
        } else {
            Err(NoRoute::Path(PathRefusal::NotAllowed { route: route.index, missing }))
        }
    }

    /// Every route, in the order of the configuration.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The methods that a route of this host and path serves. For the answer to another method.
    pub fn methods_at(&self, host: &str, path: &str) -> Vec<Method> {
        let routes = self.table_of(host).find(&path::decode(path)).map_or(&[][..], Vec::as_slice);
        let mut methods: Vec<Method> = Vec::new();
        for route in routes {
            let served = if route.methods.is_empty() { &METHODS[..] } else { &route.methods };
            for method in served {
                if !methods.contains(method) {
                    methods.push(method.clone());
                }
            }
        }
        methods
    }

    /// The methods of [`NAMED_METHODS`] that some route serves.
    pub fn named_methods(&self) -> Vec<Method> {
        let mut named: Vec<Method> = Vec::new();
        for method in self.routes.iter().flat_map(|route| &route.methods) {
            if !METHODS.contains(method) && !named.contains(method) {
                named.push(method.clone());
            }
        }
        named
    }

    /// Whether any rule depends on the method. Then no header may name another method to a backend.
    pub const fn distinguishes_methods(&self) -> bool {
        self.distinguishes_methods
    }

    fn table_of(&self, host: &str) -> &PathTable {
        if let Some(table) = self.hosts.get(host) {
            return table;
        }
        let wildcard = self
            .wildcards
            .iter()
            .find(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()));
        wildcard.map_or(&self.any_host, |(_, table)| table)
    }

    fn add(&mut self, config: &config::Route, route: &Arc<Route>, at: &str, findings: &mut Findings) {
        let path = &path::decode(config.path.strip_suffix('/').unwrap_or(&config.path));
        if config.hosts.is_empty() {
            add_path(&mut self.any_host, path, route, at, findings);
        }
        for (position, host) in config.hosts.iter().enumerate() {
            let at_host = format!("{at}.hosts[{position}]");
            let table = match host.strip_prefix('*') {
                Some(suffix) if is_host_name(suffix.strip_prefix('.').unwrap_or_default()) => {
                    self.wildcard_table(suffix)
                }
                None if is_host_name(host) => self.hosts.entry(host.clone()).or_default(),
                _ => {
                    findings
                        .error(at_host, format!("`{host}` is not a host name"))
                        .hint("write lower-case names without a port, such as `api.example.com`, or `*.example.com`");
                    continue;
                }
            };
            add_path(table, path, route, at, findings);
        }
    }

    fn wildcard_table(&mut self, suffix: &str) -> &mut PathTable {
        let position = self.wildcards.iter().position(|(known, _)| known == suffix).unwrap_or_else(|| {
            self.wildcards.push((suffix.to_owned(), PathTable::default()));
            self.wildcards.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found or made on the lines above")]
        &mut self.wildcards[position].1
    }
}

impl Route {
    /// Whether users of this app may call.
    pub fn permits_app(&self, app: &str) -> bool {
        self.apps.is_empty() || self.apps.iter().any(|permitted| **permitted == *app)
    }

    fn serves(&self, method: &Method) -> bool {
        if self.methods.is_empty() {
            METHODS.contains(method) || !NAMED_METHODS.contains(&method.as_str())
        } else {
            self.methods.contains(method)
        }
    }

    fn build(
        index: usize,
        config: &config::Route,
        at: &str,
        references: References<'_>,
        findings: &mut Findings,
    ) -> Self {
        let References { apps, upstreams, lists } = references;
        check_path(&config.path, at, findings);
        if !upstreams.contains_key(&config.upstream) {
            findings
                .error(format!("{at}.upstream"), format!("upstream `{}` is not defined", config.upstream))
                .did_you_mean(&config.upstream, upstreams.keys().map(String::as_str));
        }
        check_websocket(config, at, upstreams, findings);
        check_apps(config, at, apps, findings);
        let methods = build_methods(&config.methods, at, findings);
        let served = if methods.is_empty() { &METHODS[..] } else { &methods };
        let known: Vec<Method> = METHODS.iter().chain(&methods).cloned().collect();
        let cors = config
            .cors
            .as_ref()
            .and_then(|cors| CorsPolicy::build(cors, &format!("{at}.cors"), &known, served, findings));
        Self {
            index,
            methods,
            name: config.full_name().into(),
            access: config.access,
            upstream: config.upstream.as_str().into(),
            read_timeout: config.read_timeout.map(|timeout| timeout.0),
            min_body_rate: config.min_body_rate.map(|rate| rate.0),
            websocket: config.websocket,
            reject: Reject::build(&config.reject, &format!("{at}.reject"), findings),
            token_in_query: config.token_in_query,
            forward_token: config.forward_token,
            sign_in: build_sign_in(config, at, apps, findings),
            allow_cross_site: config.allow_cross_site,
            cors,
            allow_shared_caching: config.allow_shared_caching,
            rules: Rules::build(config, at, apps, lists, findings),
            apps: config.apps.iter().map(|app| app.as_str().into()).collect(),
            spellings: config.paths.allow.iter().filter_map(|spelling| build_spelling(*spelling)).collect(),
        }
    }
}

/// `None` if no route needs to allow it.
const fn build_spelling(spelling: config::PathSpelling) -> Option<Spelling> {
    use config::PathSpelling as Named;

    match spelling {
        Named::Semicolon => Some(Spelling::Semicolon),
        Named::EmptySegment => Some(Spelling::EmptySegment),
        Named::EncodedSlash => Some(Spelling::EncodedSlash),
        Named::EncodedReserved => Some(Spelling::EncodedReserved),
        Named::Brackets => None,
        Named::RawUtf8 => Some(Spelling::RawUtf8),
        Named::LegacyEscapes => Some(Spelling::LegacyEscapes),
    }
}

fn check_websocket(
    config: &config::Route,
    at: &str,
    upstreams: &BTreeMap<String, config::Upstream>,
    findings: &mut Findings,
) {
    let upstream = upstreams.get(&config.upstream);
    if config.websocket && upstream.is_some_and(|upstream| upstream.protocol == UpstreamProtocol::Http2) {
        findings
            .error(
                format!("{at}.websocket"),
                format!(
                    "upstream `{}` speaks HTTP/2, which the gateway opens no WebSocket over",
                    config.upstream
                ),
            )
            .hint("remove `websocket`, or give the route an upstream with `protocol: http1`");
    }
}

fn check_apps(
    config: &config::Route,
    at: &str,
    apps: &BTreeMap<String, config::App>,
    findings: &mut Findings,
) {
    for (position, app) in config.apps.iter().enumerate() {
        if !apps.contains_key(app) {
            findings
                .error(format!("{at}.apps[{position}]"), format!("app `{app}` is not defined"))
                .did_you_mean(app, apps.keys().map(String::as_str));
        }
    }
    if config.access == Access::Public && !config.apps.is_empty() {
        findings
            .error(
                format!("{at}.apps"),
                "a public route checks no identity, so it cannot permit some apps only",
            )
            .hint("write `access: authenticated`, or remove `apps`");
    }
}

fn build_methods(methods: &[String], at: &str, findings: &mut Findings) -> Vec<Method> {
    let parsed = methods.iter().enumerate().filter_map(|(position, text)| {
        let method = method::by_name(text);
        if method.is_none() {
            let common = METHODS.iter().map(Method::as_str);
            let upper_case = text.to_ascii_uppercase();
            let is_named = NAMED_METHODS.contains(&upper_case.as_str());
            findings
                .error(
                    format!("{at}.methods[{position}]"),
                    format!("`{text}` is not a method that the gateway accepts"),
                )
                .did_you_mean(&upper_case, common.chain(NAMED_METHODS.into_iter().filter(|_| is_named)));
        }
        method
    });
    parsed.collect()
}

/// The apps that a browser may sign in to for a route: the apps that it names, or all apps that it
/// permits, by name.
fn build_sign_in(
    config: &config::Route,
    at: &str,
    apps: &BTreeMap<String, config::App>,
    findings: &mut Findings,
) -> Vec<Arc<str>> {
    let is_permitted = |app: &String| config.apps.is_empty() || config.apps.contains(app);
    let offered = || apps.iter().filter(|(name, app)| app.kind.is_for_browsers() && is_permitted(name));
    if config.access == Access::Public {
        if !config.sign_in.is_empty() {
            findings
                .error(
                    format!("{at}.sign_in"),
                    "a public route checks no identity, so no user signs in for it",
                )
                .hint("write `access: authenticated` or `access: optional`, or remove `sign_in`");
        }
        return Vec::new();
    }
    if config.sign_in.is_empty() {
        return offered().map(|(name, _)| name.as_str().into()).collect();
    }
    for (position, name) in config.sign_in.iter().enumerate() {
        let path = format!("{at}.sign_in[{position}]");
        match apps.get(name) {
            None => {
                _ = findings
                    .error(path, format!("app `{name}` is not defined"))
                    .did_you_mean(name, offered().map(|(name, _)| name.as_str()))
            }
            Some(app) if !app.kind.is_for_browsers() => {
                _ = findings
                    .error(
                        path,
                        format!("app `{name}` is a `{}`, which no browser signs in to", app.kind.as_str()),
                    )
                    .hint("name apps of the kinds `website` and `official_account`")
            }
            Some(_) if !is_permitted(name) => {
                _ = findings
                    .error(path, format!("app `{name}` is not one that this route permits"))
                    .hint(format!("add it to `{at}.apps`, or remove it here"))
            }
            Some(_) if config.sign_in.iter().take(position).any(|earlier| earlier == name) => {
                _ = findings
                    .error(path, format!("app `{name}` is named twice"))
                    .hint("remove one of the two");
            }
            Some(_) => {}
        }
    }
    config.sign_in.iter().map(|name| name.as_str().into()).collect()
}

fn check_path(path: &str, at: &str, findings: &mut Findings) {
    if let Some(prefix) = prefix_of_pattern(path) {
        findings
            .error(format!("{at}.path"), format!("`{path}` looks like a pattern"))
            .hint(format!("paths are prefixes: write `{prefix}`"));
        return;
    }
    match path::canonicalise(path) {
        Ok(canonical) if canonical == path => {}
        Ok(canonical) => {
            findings
                .error(format!("{at}.path"), format!("`{path}` is not the form that requests are matched in"))
                .hint(format!("write `{canonical}`"));
        }
        Err(error) => {
            findings
                .error(
                    format!("{at}.path"),
                    format!("`{path}`: {error}, so it cannot be the path of a route"),
                )
                .hint("write a plain path such as `/api`");
        }
    }
}

fn add_path(table: &mut PathTable, path: &str, route: &Arc<Route>, at: &str, findings: &mut Findings) {
    let routes = table.entry(path).get_or_insert_default();
    let overlaps = |other: &Arc<Route>| {
        route.methods.is_empty() && other.methods.is_empty()
            || route.methods.iter().any(|method| other.methods.contains(method))
    };
    if let Some(other) = routes.iter().find(|other| overlaps(other)) {
        findings.error(
            format!("{at}.path"),
            format!("route `{}` already serves this host, path and method", other.name),
        );
    }
    routes.push(Arc::clone(route));
    // A route that names its methods comes before one that serves all methods.
    routes.sort_by_key(|route| route.methods.is_empty());
}

#[cfg(test)]
mod tests;
