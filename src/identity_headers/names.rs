//! Lists of managed header names: what no client may send, and what a proxy may send if the
//! configuration believes it. `docs/headers.md` shows them; a test holds the two together.

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

/// Headers that say where a request came from.
pub(super) const FORWARDING: &[&str] = &[
    "forwarded",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-url-scheme",
    "front-end-https",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "cloudfront-forwarded-proto",
    "cloudfront-viewer-address",
    "fastly-client-ip",
    "fastly-ssl",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    // Read by most Java and PHP backends, which copied the order of one example.
    "x-forwarded",
    "forwarded-for",
    "client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "wl-proxy-ssl",
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "eo-client-ip",
    "eo-connecting-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-appengine-user-ip",
    "x-originating-ip",
    "x-original-host",
    "x-original-proto",
    "x-original-scheme",
    "x-scheme",
    "x-arr-ssl",
    "x-host",
    "x-http-host-override",
    // WeChat Gateway's.
    "x-wx-client-ip",
];

/// Headers in which other gateways and web servers name a person or a client's certificate. A
/// backend that was behind one of them still trusts them. Each of them may be configured as one of
/// our names.
pub(super) const FOREIGN: &[&str] = &[
    "x-auth-user",
    "x-auth-username",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-roles",
    "x-userinfo",
    "x-anonymous-consumer",
    "x-endpoint-api-userinfo",
    "x-apigateway-api-userinfo",
    "x-goog-iap-jwt-assertion",
    "x-jwt-assertion",
    "x-token-subject",
    "x-proxy-user",
    "x-proxy-remote-user",
    "proxy-remote-user",
    "oam-remote-user",
    "iv-user",
    "iv-groups",
    "iv-creds",
    "sm-user",
    "sm-userdn",
    "sm-universalid",
    "teleport-jwt-assertion",
    "client-cert",
    "client-cert-chain",
    "x-client-dn",
    "x-client-s-dn",
    "x-client-verify",
    "x-ssl-cert",
    "x-arr-clientcert",
    "wl-proxy-client-cert",
];

/// Beginnings of the names of other gateways' headers. The beginning decides, because only proxies
/// use such headers.
pub(super) const FOREIGN_FAMILIES: &[&str] = &[
    "x-forwarded-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-pomerium-",
    "x-amzn-oidc-",
    "x-amzn-mtls-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-consumer-",
    "x-credential-",
    "x-remote-",
    "x-vouch-",
    "x-webauth-",
    "x-token-user-",
    "cf-access-",
    "impersonate-",
    "oidc-",
    "remote-",
    "shib-",
    "ssl-client-",
    "tailscale-",
    "x-client-cert",
    "x-ssl-client-",
    "x-tls-client-",
];

/// Headers the gateway always sets itself.
pub(super) const OWN: &[&str] = &[
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
];

/// The trace of a request; W3C Trace Context. The second means nothing without the first.
pub(super) const TRACE: &[&str] = &["traceparent", "tracestate"];

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
];

/// Headers that a backend needs to read a request.
pub(super) const NEEDED: &[&str] = &["host", "content-length", "transfer-encoding"];

/// Why a name is managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The gateway writes it, or would if it were configured so. Removed from every request.
    Identity,
    /// Removed from every request.
    Misleading,
    /// Removed if a route depends on the method.
    MethodOverride,
    /// Where a request came from: removed, unless the proxy is believed.
    Forwarding,
    /// An identity in the words of another gateway: removed, unless the proxy is believed.
    Foreign,
    /// Named by `identity_headers.remove`: removed, unless the proxy is believed.
    Removed,
    /// Written by the gateway for each request.
    Own,
    /// Begun by the gateway, unless the proxy is believed.
    Trace,
}

impl Class {
    /// Whether a proxy may send such a header if the configuration believes it.
    pub(super) const fn can_be_believed(self) -> bool {
        !matches!(self, Self::Identity | Self::Misleading | Self::MethodOverride)
    }

    /// Whether `identity_headers.remove` may remove such a header for a reason of its own. The
    /// others are removed from every request in any case.
    pub(super) const fn can_be_taken_over(self) -> bool {
        matches!(self, Self::Forwarding | Self::Foreign | Self::Removed | Self::MethodOverride)
    }
}

/// Every name that is managed whatever is configured, with its class.
pub(super) fn listed() -> impl Iterator<Item = (&'static str, Class)> {
    [
        (MISLEADING, Class::Misleading),
        (METHOD_OVERRIDES, Class::MethodOverride),
        (FORWARDING, Class::Forwarding),
        (FOREIGN, Class::Foreign),
        (OWN, Class::Own),
        (TRACE, Class::Trace),
        (CLOUD_RUN, Class::Identity),
    ]
    .into_iter()
    .flat_map(|(names, class)| names.iter().map(move |name| (*name, class)))
}

/// Every beginning of a name that decides, whatever is configured, with its class.
pub(super) fn families() -> impl Iterator<Item = (&'static str, Class)> {
    [(CLOUD_RUN_FAMILIES, Class::Identity), (FOREIGN_FAMILIES, Class::Foreign)]
        .into_iter()
        .flat_map(|(families, class)| families.iter().map(move |family| (*family, class)))
}

/// Whether a header name has a character outside letters, digits and `-`.
pub fn has_unusual_character(name: &HeaderName) -> bool {
    !name.as_str().bytes().all(|byte| USUAL.get(usize::from(byte)) == Some(&true))
}

/// The characters that are usual. Each name of each request is looked at twice, so it is a table.
static USUAL: [bool; 256] = {
    let mut usual = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        #[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
        {
            usual[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'-';
        }
        byte += 1;
    }
    usual
};

/// The plain name, in lower case, that a CGI-style backend reads a name as: to it, all characters
/// but letters and digits are the same.
pub(super) fn plain(name: &str) -> String {
    name.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_lowercase()) } else { '-' })
        .collect()
}
