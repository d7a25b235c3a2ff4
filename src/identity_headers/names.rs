//! Lists of managed header names: what no client may send, and what is accepted from trusted
//! proxies only.

use std::collections::HashMap;

use http::HeaderName;

/// Headers that name another path or method to some backend than the request line does, or that it
/// trusts as its own. No client may send them, not even through a trusted proxy.
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

/// Headers that name another method to the backend; they matter if a route depends on the method.
pub(super) const METHOD_OVERRIDES: &[&str] =
    &["x-http-method-override", "x-http-method", "x-method-override"];

/// Headers that say where a request came from; accepted from a trusted proxy only.
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
    // Read by most Java and PHP backends, which copied the order of one example.
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

/// Headers in which other gateways and web servers name a person. A backend that was behind one of
/// them still trusts them, so they are accepted from a trusted proxy only. Each of them may be
/// configured as one of our names.
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

/// Beginnings of the names of other gateways' headers. The beginning decides, because only proxies
/// use such headers.
pub(super) const FOREIGN_FAMILIES: &[&str] =
    &["x-forwarded-", "x-auth-request-", "x-authentik-", "x-pomerium-claim-", "x-amzn-oidc-"];

/// Headers the gateway always sets itself.
pub(super) const OWN: &[&str] = &["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];

/// Headers in which the gateway of WeChat Cloud Run names an identity, and our own ones, whatever
/// names are configured.
const CLOUD_RUN: &[&str] =
    &["x-wx-openid", "x-wx-appid", "x-wx-unionid", "x-wx-user-id", "x-wx-source", "x-wx-env"];

/// Beginnings of the names of Cloud Run's other identity headers. Cloud Run adds headers without
/// notice, so the beginning decides.
pub(super) const CLOUD_RUN_FAMILIES: &[&str] = &["x-wx-from-", "x-wx-cloudbase-"];

/// Headers that a client may send under their own name, but not under an alias.
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

/// Headers that a backend needs to read a request.
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

/// The plain name, in lower case, that a CGI-style backend reads a name as: to it, all characters
/// but letters and digits are the same.
pub(super) fn plain(name: &str) -> String {
    name.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_lowercase()) } else { '-' })
        .collect()
}
