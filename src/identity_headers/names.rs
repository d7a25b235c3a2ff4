//! The names that are managed, in lists: what no client may send, and what is only believed of some.

use std::collections::HashMap;

use http::HeaderName;

/// Headers that tell some backend another path or method than the request line does, or that it trusts as its
/// own. No client may send them, through whatever proxy.
pub(super) const MISLEADING: &[&str] = &[
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-method",
    "x-middleware-subrequest",
    "proxy",
];

/// Headers that tell the backend another method; they matter where a route depends on the method.
pub(super) const METHOD_OVERRIDES: &[&str] =
    &["x-http-method-override", "x-http-method", "x-method-override"];

/// Headers that say where a request came from; believed from a trusted proxy alone.
pub(super) const FORWARDING: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-forwarded-server",
    "x-forwarded-port",
    "x-forwarded-ssl",
    "x-forwarded-scheme",
    "x-url-scheme",
    "front-end-https",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    // Read by most Java and PHP backends, in the order of an example that everybody copied.
    "x-forwarded",
    "forwarded-for",
    "client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-appengine-user-ip",
    "x-original-host",
    "x-host",
    "x-http-host-override",
];

/// Headers in which other gateways and web servers name a person. A backend that stood behind one of those still
/// believes them, so they are believed from a trusted proxy alone. Any of them may be configured as a name of ours.
pub(super) const FOREIGN: &[&str] = &[
    "remote-user",
    "x-remote-user",
    "x-remote-email",
    "x-remote-groups",
    "x-webauth-user",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    "x-userinfo",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-pomerium-jwt-assertion",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
];

/// How the names of other gateways' headers begin; the beginning decides, for nobody but a proxy has a use for them.
pub(super) const FOREIGN_FAMILIES: &[&str] =
    &["x-forwarded-", "x-auth-request-", "x-authentik-", "x-pomerium-claim-", "x-amzn-oidc-"];

/// Headers the gateway always sets itself.
pub(super) const OWN: &[&str] = &["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];

/// Headers of WeChat Cloud Run's gateway that name an identity, and ours beside them, whatever the configured names are.
const CLOUD_RUN: &[&str] =
    &["x-wx-openid", "x-wx-appid", "x-wx-unionid", "x-wx-user-id", "x-wx-source", "x-wx-env"];

/// How the names of Cloud Run's other identity headers begin: who calls on whose behalf, and with what. It adds to
/// them without notice, so the beginning decides.
pub(super) const CLOUD_RUN_FAMILIES: &[&str] = &["x-wx-from-", "x-wx-cloudbase-"];

/// Headers no alias may stand for, though a client may send them under their own name.
pub(super) const GUARDED: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "x-forwarded-host",
    "traceparent",
    "tracestate",
];

/// Headers without which a backend cannot tell what is asked of it, or where a request ends.
pub(super) const NEEDED: &[&str] = &["host", "content-length", "transfer-encoding"];

/// Why a name is managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Identity,
    Misleading,
    MethodOverride,
    Forwarding,
    Foreign,
    Own,
}

/// Every managed name with its class.
pub(super) fn classes() -> HashMap<HeaderName, Class> {
    let of = |names: &'static [&'static str], class: Class| {
        names.iter().map(move |name| (HeaderName::from_static(name), class))
    };
    of(MISLEADING, Class::Misleading)
        .chain(of(METHOD_OVERRIDES, Class::MethodOverride))
        .chain(of(FORWARDING, Class::Forwarding))
        .chain(of(FOREIGN, Class::Foreign))
        .chain(of(OWN, Class::Own))
        .chain(of(CLOUD_RUN, Class::Identity))
        .collect()
}

/// The class of a name, of letters, digits and `-`, that its beginning decides.
pub(super) fn family(plain: &str) -> Option<Class> {
    let begins_as_one_of = |families: &[&str]| families.iter().any(|family| plain.starts_with(family));
    if begins_as_one_of(CLOUD_RUN_FAMILIES) {
        Some(Class::Identity)
    } else if begins_as_one_of(FOREIGN_FAMILIES) {
        Some(Class::Foreign)
    } else {
        None
    }
}

/// Whether a header name has a character outside letters, digits and `-`.
pub fn has_unusual_character(name: &HeaderName) -> bool {
    !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The plain name that a CGI-style backend takes a name for, lower case: to it, every character but letters and
/// digits is the same.
pub(super) fn plain(name: &str) -> String {
    name.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_lowercase()) } else { '-' })
        .collect()
}
