//! Removes headers that a client must not send, and adds those of the gateway.
//!
//! Only the name of a header decides, in every spelling that a CGI-style backend reads as a managed
//! name. The edits are applied to the request that goes upstream, after hop-by-hop headers are
//! removed, so that a client cannot remove an added header by naming it in `Connection`.

mod believed;
pub mod credential;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod managed;
mod names;
mod origin;
mod pattern;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use prometheus::IntCounter;

use crate::authn::{Authenticated, ProfileValues};
use crate::config::{self, Findings, HeaderNames};
use crate::telemetry::metrics::Metrics;

use self::managed::{ManagedNames, NameClasses};
use self::names::{Class, GUARDED, NEEDED, plain};
use self::pattern::NamePattern;

pub use self::believed::Believed;
pub use self::names::has_unusual_character;
pub use self::origin::RequestOrigin;

/// What edits a header map: the request's own, which may keep more than the map.
pub trait EditHeaders {
    /// The headers as they are.
    fn headers(&self) -> &HeaderMap;
    /// Removes every value of a header.
    fn remove(&mut self, name: &HeaderName);
    /// Sets a header to one value. `name` is a valid name, and keeps its case if the protocol does.
    fn set(&mut self, name: &Bytes, value: HeaderValue);
}

/// The edits of one configuration, ready to be applied.
#[derive(Debug)]
pub struct HeaderEdits {
    names: ManagedNames,
    believed: Vec<Arc<Believed>>,
    openid: InjectedName,
    unionid: InjectedName,
    appid: InjectedName,
    user: InjectedName,
    source: InjectedName,
    env: Option<(InjectedName, HeaderValue)>,
    nickname: Option<InjectedName>,
    avatar: Option<InjectedName>,
    strips_method_overrides: bool,
    strips_unusual_names: bool,
    passes_trace: bool,
    stripped: IntCounter,
}

/// What the edits are built from.
#[derive(Clone, Copy, Debug)]
pub struct HeaderSettings<'c> {
    /// Names of headers that are written, removed and passed on.
    pub identity_headers: &'c config::IdentityHeaders,
    /// Who is believed about which header.
    pub trusted_proxies: &'c [config::TrustedProxy],
    /// What becomes of unusual names.
    pub header_names: HeaderNames,
    /// Whether any route depends on the method.
    pub distinguishes_methods: bool,
}

/// A name that is injected, with the spelling it was configured in.
#[derive(Clone, Debug)]
struct InjectedName {
    name: HeaderName,
    spelling: Bytes,
}

impl HeaderEdits {
    /// Builds the edits; a finding for every name that is not a header name or that the gateway
    /// needs itself.
    pub fn build(settings: HeaderSettings<'_>, metrics: &Metrics, findings: &mut Findings) -> Option<Self> {
        let config = settings.identity_headers;
        findings.scope(|findings| {
            let mut injected =
                |key: &str, text: &str| injected_name(&format!("identity_headers.{key}"), text, findings);
            let openid = injected("openid", &config.openid);
            let unionid = injected("unionid", &config.unionid);
            let appid = injected("appid", &config.appid);
            let user = injected("user", &config.user);
            let source = injected("source", &config.source);
            let env = injected("env", &config.env);
            let nickname = config.nickname.as_deref().and_then(|name| injected("nickname", name));
            let avatar = config.avatar.as_deref().and_then(|name| injected("avatar", name));
            let environment = config.environment.as_deref().map(HeaderValue::from_str);
            if matches!(environment, Some(Err(_))) {
                let reason = "the value has characters that no header may carry";
                findings.error("identity_headers.environment", reason);
            }

            let names = [&openid, &unionid, &appid, &user, &source, &env, &nickname, &avatar];
            let names: Vec<&HeaderName> = names.into_iter().flatten().map(|name| &name.name).collect();
            let (classes, believed) = classify(&settings, &names, findings);
            Some(Self {
                believed,
                passes_trace: classes.is_released("traceparent"),
                names: classes.table(),
                openid: openid?,
                unionid: unionid?,
                appid: appid?,
                user: user?,
                source: source?,
                env: env.zip(environment.and_then(Result::ok)),
                nickname,
                avatar,
                strips_method_overrides: settings.distinguishes_methods,
                strips_unusual_names: settings.header_names != HeaderNames::Pass,
                stripped: metrics.identity_headers_stripped.clone(),
            })
        })
    }

    /// Removes the headers that no client may send, then adds those of the gateway.
    pub fn apply(
        &self,
        request: &mut impl EditHeaders,
        authenticated: Option<&Authenticated>,
        origin: &RequestOrigin<'_>,
    ) {
        let written = origin.written(request.headers());
        self.strip(request, origin);
        written.set(request);
        if let Some(authenticated) = authenticated {
            self.inject(request, authenticated);
        }
    }

    /// Whether the gateway writes this header itself, so that it can carry nothing else.
    pub fn writes(&self, name: &HeaderName) -> bool {
        let class = self.names.class(name.as_str());
        name.as_str() == "traceparent" || matches!(class, Some(Class::Identity | Class::Own | Class::Removed))
    }

    /// What each entry of `trusted_proxies` is believed about, in their order.
    pub fn believed(&self) -> &[Arc<Believed>] {
        &self.believed
    }

    /// Whether clients themselves may go on with a trace.
    pub const fn passes_trace(&self) -> bool {
        self.passes_trace
    }

    fn inject(&self, request: &mut impl EditHeaders, authenticated: &Authenticated) {
        let values = authenticated.header_values();
        let mut set = |name: &InjectedName, value: &HeaderValue| request.set(&name.spelling, value.clone());
        set(&self.openid, &values.openid);
        set(&self.appid, &values.appid);
        set(&self.source, &values.source);
        if let Some(unionid) = &values.unionid {
            set(&self.unionid, unionid);
        }
        if let Some(user) = &values.user {
            set(&self.user, user);
        }
        if let Some((name, value)) = &self.env {
            set(name, value);
        }
        if let Some(ProfileValues { nickname, avatar }) = values.profile.as_deref() {
            for (name, value) in [(&self.nickname, nickname), (&self.avatar, avatar)] {
                if let Some((name, value)) = name.as_ref().zip(value.as_ref()) {
                    set(name, value);
                }
            }
        }
    }

    fn strip(&self, request: &mut impl EditHeaders, origin: &RequestOrigin<'_>) {
        // Almost no request has one, and an empty vector costs nothing.
        let mut removed: Vec<HeaderName> = Vec::new();
        let headers = request.headers();
        for name in headers.keys() {
            let is_removed = if has_unusual_character(name) {
                self.strips_unusual_names || self.is_alias(name)
            } else {
                match self.names.class(name.as_str()) {
                    None => false,
                    Some(Class::MethodOverride) => self.strips_method_overrides,
                    Some(Class::Trace) => origin.traceparent.is_some() || !origin.continues_trace,
                    Some(class) => !origin.believed.is_some_and(|proxy| proxy.passes(name, class, headers)),
                }
            };
            if is_removed {
                removed.push(name.clone());
            }
        }
        for name in removed {
            if self.is_identity(&name) {
                self.stripped.inc();
            }
            request.remove(&name);
        }
    }

    fn is_identity(&self, name: &HeaderName) -> bool {
        let class = self.names.class(name.as_str());
        matches!(class, Some(Class::Identity | Class::Removed)) || self.is_alias(name)
    }

    /// Whether a CGI-style backend would read this name as a managed one.
    fn is_alias(&self, name: &HeaderName) -> bool {
        if !has_unusual_character(name) {
            return false;
        }
        let plain = plain(name.as_str());
        self.names.class(&plain).is_some() || GUARDED.contains(&&*plain)
    }
}

/// The class of every managed name, and what each trusted proxy is believed about.
fn classify(
    settings: &HeaderSettings<'_>,
    injected: &[&HeaderName],
    findings: &mut Findings,
) -> (NameClasses, Vec<Arc<Believed>>) {
    let mut classes = NameClasses::listed();
    classify_injected(injected, &mut classes, findings);
    classify_removed(&settings.identity_headers.remove, &mut classes, findings);
    classify_passed(&settings.identity_headers.pass, &mut classes, findings);
    let proxies = settings.trusted_proxies.iter().enumerate();
    let believed = proxies.map(|(index, proxy)| {
        Arc::new(Believed::build(&format!("trusted_proxies[{index}]"), proxy, &mut classes, findings))
    });
    let believed = believed.collect();
    (classes, believed)
}

/// Adds the names that the gateway writes identities to; a finding for each that is needed
/// otherwise or stands twice.
fn classify_injected(names: &[&HeaderName], classes: &mut NameClasses, findings: &mut Findings) {
    for name in names {
        let pattern = NamePattern { text: name.as_str().to_owned(), is_prefix: false };
        let known = classes.of_pattern(&pattern);
        if known.is_some_and(|class| !matches!(class, Class::Identity | Class::Foreign)) {
            findings.error("identity_headers", format!("`{name}` is a header the gateway needs itself"));
        }
        classes.set(pattern, Class::Identity);
    }
    let distinct: BTreeSet<&str> = names.iter().map(|name| name.as_str()).collect();
    if distinct.len() < names.len() {
        findings.error("identity_headers", "two of the names are the same").hint("give each its own name");
    }
}

/// Adds the names of `identity_headers.remove`.
fn classify_removed(list: &[String], classes: &mut NameClasses, findings: &mut Findings) {
    for (position, text) in list.iter().enumerate() {
        let path = format!("identity_headers.remove[{position}]");
        match NamePattern::parse(text) {
            Ok(pattern) if NEEDED.iter().any(|needed| pattern.matches(needed)) => {
                _ = findings.error(path, format!("`{text}` is a header that every request needs"));
            }
            Ok(pattern) => {
                // What the gateway writes is removed in any case, and written again.
                if classes.of_pattern(&pattern).is_none_or(Class::can_be_taken_over) {
                    classes.set(pattern, Class::Removed);
                }
            }
            Err(reason) => _ = findings.error(path, format!("`{text}` {reason}")),
        }
    }
}

/// Lets clients send the names of `identity_headers.pass`.
fn classify_passed(list: &[String], classes: &mut NameClasses, findings: &mut Findings) {
    for (position, text) in list.iter().enumerate() {
        let path = format!("identity_headers.pass[{position}]");
        let pattern = match NamePattern::parse(text) {
            Ok(pattern) => pattern,
            Err(reason) => {
                findings.error(path, format!("`{text}` {reason}"));
                continue;
            }
        };
        let own = if pattern.is_prefix { None } else { classes.class(&pattern.text) };
        match own {
            Some(Class::Identity | Class::Own) => {
                findings.error(path, format!("`{text}` is a header that the gateway writes itself"));
            }
            Some(Class::Misleading | Class::MethodOverride) => {
                let reason =
                    format!("`{text}` names another path or method than the one that the gateway checks");
                findings.error(path, reason);
            }
            _ if classes.of_pattern(&pattern) == Some(Class::Removed) => {
                findings
                    .error(path, format!("`identity_headers.remove` has `{text}` too"))
                    .hint("write it in one of the two lists");
            }
            _ if classes.release(&pattern) => {}
            _ => {
                findings
                    .warning(path, format!("clients can send `{text}` already"))
                    .hint("remove it from the list");
            }
        }
    }
}

fn injected_name(path: &str, text: &str, findings: &mut Findings) -> Option<InjectedName> {
    let name = HeaderName::try_from(text).ok().filter(|name| !has_unusual_character(name));
    let Some(name) = name else {
        findings
            .error(path, format!("`{text}` is not a header name of letters, digits and `-`"))
            .hint("backends read `_` and `-` as the same character; write a name such as `X-User-Id`");
        return None;
    };
    let is_needed = GUARDED.contains(&name.as_str()) || name == header::DATE;
    if is_needed {
        findings.error(path, format!("`{text}` is a header the gateway needs itself"));
        return None;
    }
    Some(InjectedName { spelling: Bytes::copy_from_slice(text.as_bytes()), name })
}

#[cfg(test)]
mod tests;
