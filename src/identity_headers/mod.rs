//! Removes headers that a client must not send, and adds those of the gateway.
//!
//! Only the name of a header decides, in every spelling that a CGI-style backend reads as a managed
//! name. The edits are applied to the request that goes upstream, after hop-by-hop headers are
//! removed, so that a client cannot remove an added header by naming it in `Connection`.

pub mod credential;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod names;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use prometheus::IntCounter;

use crate::authn::{Authenticated, ProfileValues};
use crate::config::{self, Findings, HeaderNames};
use crate::telemetry::metrics::Metrics;

use self::names::{Class, GUARDED, NEEDED, classes, family, plain};

pub use self::names::has_unusual_character;

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
    classes: HashMap<HeaderName, Class>,
    shapes: Shapes,
    /// Names no alias may stand for.
    plain: HashSet<String>,
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
    stripped: IntCounter,
}

/// A name that is injected, with the spelling it was configured in.
#[derive(Clone, Debug)]
struct InjectedName {
    name: HeaderName,
    spelling: Bytes,
}

/// Where a request came from, as the gateway tells the backend.
#[derive(Debug)]
pub struct RequestOrigin<'a> {
    /// Whether the peer is a trusted proxy.
    pub peer_is_trusted: bool,
    /// The peer itself.
    pub peer: IpAddr,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// The host the client asked for.
    pub host: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The `traceparent` of a new trace; `None` if the client's trace continues.
    pub traceparent: Option<&'a str>,
}

impl HeaderEdits {
    /// Builds the edits; a finding for every name that is not a header name or that the gateway
    /// needs itself.
    pub fn build(
        config: &config::IdentityHeaders,
        header_names: HeaderNames,
        distinguishes_methods: bool,
        metrics: &Metrics,
        findings: &mut Findings,
    ) -> Option<Self> {
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
            let mut classes = classes();
            classify_injected(&names, &mut classes, findings);
            classify_removed(&config.remove, &mut classes, findings);
            let plain = classes.keys().map(HeaderName::as_str).chain(GUARDED.iter().copied());
            Some(Self {
                plain: plain.map(str::to_owned).collect(),
                shapes: Shapes::of(classes.keys()),
                classes,
                openid: openid?,
                unionid: unionid?,
                appid: appid?,
                user: user?,
                source: source?,
                env: env.zip(environment.and_then(Result::ok)),
                nickname,
                avatar,
                strips_method_overrides: distinguishes_methods,
                strips_unusual_names: header_names != HeaderNames::Pass,
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
        let forwarded_for = Self::forwarded_for(request.headers(), origin);
        self.strip(request, origin.peer_is_trusted);
        set_origin(request, origin, forwarded_for);
        if let Some(authenticated) = authenticated {
            self.inject(request, authenticated);
        }
    }

    /// Whether the gateway writes this header itself, so that it can carry nothing else.
    pub fn writes(&self, name: &HeaderName) -> bool {
        name.as_str() == "traceparent" || matches!(self.class(name), Some(Class::Identity | Class::Own))
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

    fn strip(&self, request: &mut impl EditHeaders, peer_is_trusted: bool) {
        // Almost no request has one, and an empty vector costs nothing.
        let mut removed: Vec<HeaderName> = Vec::new();
        for name in request.headers().keys() {
            let is_removed = if has_unusual_character(name) {
                self.strips_unusual_names || self.is_alias(name)
            } else {
                match self.class(name) {
                    None => false,
                    Some(Class::Identity | Class::Misleading | Class::Own) => true,
                    Some(Class::MethodOverride) => self.strips_method_overrides,
                    Some(Class::Forwarding | Class::Foreign) => !peer_is_trusted,
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
        self.class(name) == Some(Class::Identity) || self.is_alias(name)
    }

    fn class(&self, name: &HeaderName) -> Option<Class> {
        let listed = if self.shapes.may_hold(name) { self.classes.get(name).copied() } else { None };
        listed.or_else(|| family(name.as_str()))
    }

    /// Whether a CGI-style backend would read this name as a managed one.
    fn is_alias(&self, name: &HeaderName) -> bool {
        if !has_unusual_character(name) {
            return false;
        }
        let plain = plain(name.as_str());
        self.plain.contains(&plain) || family(&plain).is_some()
    }

    /// A trusted proxy's list is continued; that of another peer is dropped.
    fn forwarded_for(headers: &HeaderMap, origin: &RequestOrigin<'_>) -> Option<HeaderValue> {
        let mut list = String::new();
        if origin.peer_is_trusted {
            for value in headers.get_all("x-forwarded-for") {
                let Ok(text) = value.to_str() else { continue };
                list.push_str(text.trim());
                list.push_str(", ");
            }
        }
        write!(list, "{}", origin.peer).ok()?;
        HeaderValue::try_from(list).ok()
    }
}

/// First letters and lengths of the managed names. Most headers share them with none, and need not
/// be hashed.
#[derive(Debug)]
struct Shapes {
    /// For each first byte, a bit for each length modulo 64.
    lengths: Box<[u64; 256]>,
}

impl Shapes {
    fn of<'n>(names: impl Iterator<Item = &'n HeaderName>) -> Self {
        let mut lengths = Box::new([0; 256]);
        for (first, bit) in names.filter_map(shape) {
            if let Some(bits) = lengths.get_mut(usize::from(first)) {
                *bits |= bit;
            }
        }
        Self { lengths }
    }

    fn may_hold(&self, name: &HeaderName) -> bool {
        let Some((first, bit)) = shape(name) else { return false };
        self.lengths.get(usize::from(first)).is_some_and(|bits| bits & bit != 0)
    }
}

fn shape(name: &HeaderName) -> Option<(u8, u64)> {
    let name = name.as_str().as_bytes();
    Some((*name.first()?, 1 << (name.len() % 64)))
}

fn set_origin(
    request: &mut impl EditHeaders,
    origin: &RequestOrigin<'_>,
    forwarded_for: Option<HeaderValue>,
) {
    static FORWARDED_FOR: Bytes = Bytes::from_static(b"X-Forwarded-For");
    static FORWARDED_PROTO: Bytes = Bytes::from_static(b"X-Forwarded-Proto");
    static FORWARDED_HOST: Bytes = Bytes::from_static(b"X-Forwarded-Host");
    static REQUEST_ID: Bytes = Bytes::from_static(b"X-Request-Id");
    static TRACEPARENT: Bytes = Bytes::from_static(b"traceparent");

    let mut set = |name: &Bytes, value: Option<HeaderValue>| {
        if let Some(value) = value {
            request.set(name, value);
        }
    };
    set(&FORWARDED_FOR, forwarded_for);
    set(&FORWARDED_PROTO, Some(HeaderValue::from_static(origin.scheme)));
    set(&FORWARDED_HOST, HeaderValue::from_str(origin.host).ok());
    set(&REQUEST_ID, HeaderValue::from_str(origin.request_id).ok());
    set(&TRACEPARENT, origin.traceparent.and_then(|text| HeaderValue::from_str(text).ok()));
}

/// Adds the names that the gateway writes identities to; a finding for each that is needed
/// otherwise or stands twice.
fn classify_injected(
    names: &[&HeaderName],
    classes: &mut HashMap<HeaderName, Class>,
    findings: &mut Findings,
) {
    for name in names {
        let known = classes.insert((*name).clone(), Class::Identity);
        if known.is_some_and(|class| !matches!(class, Class::Identity | Class::Foreign)) {
            findings.error("identity_headers", format!("`{name}` is a header the gateway needs itself"));
        }
    }
    let distinct: BTreeSet<&str> = names.iter().map(|name| name.as_str()).collect();
    if distinct.len() < names.len() {
        findings.error("identity_headers", "two of the names are the same").hint("give each its own name");
    }
}

/// Adds the names of `identity_headers.remove`.
fn classify_removed(list: &[String], classes: &mut HashMap<HeaderName, Class>, findings: &mut Findings) {
    for (position, text) in list.iter().enumerate() {
        let path = format!("identity_headers.remove[{position}]");
        // An alias is recognised by the plain name that it stands for, so the plain name is kept.
        let name =
            HeaderName::try_from(text.as_str()).and_then(|name| HeaderName::try_from(plain(name.as_str())));
        match name {
            Ok(name) if NEEDED.contains(&name.as_str()) => {
                _ = findings.error(path, format!("`{text}` is a header that every request needs"));
            }
            Ok(name) => _ = classes.insert(name, Class::Identity),
            Err(_) => _ = findings.error(path, format!("`{text}` is not a header name")),
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
