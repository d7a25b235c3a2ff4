//! The endpoints: one table of their paths, their methods, and what the audit log says of them.

use http::{Method, StatusCode};

use crate::telemetry::audit_log::AuditEvent;

/// An endpoint; no path below the prefix is ever forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Signs a mini program in with a code; shows browsers the sign-in page.
    Login,
    /// Exchanges a refresh token.
    Refresh,
    /// Ends a session, or every session of its user.
    Logout,
    /// Describes the session of the request.
    Session,
    /// Sends a browser to WeChat.
    Start,
    /// Completes the sign-in of a browser that WeChat redirects to it.
    Callback,
    /// The keys that verify tokens.
    Jwks,
    /// A path below the prefix that is none of these.
    Unknown,
}

/// Which answers of an endpoint the audit log has a line for.
#[derive(Clone, Copy)]
enum Audited {
    Never,
    Always(AuditEvent),
    /// Answers to a POST.
    Posts(AuditEvent),
    /// Answers with status 401 or 403.
    Refusals(AuditEvent),
}

/// The fixed properties of an endpoint.
struct EndpointSpec {
    endpoint: Endpoint,
    path: EndpointPath,
    /// Its methods, as an `Allow` header lists them.
    allow: &'static str,
    audited: Audited,
}

#[derive(Clone, Copy)]
enum EndpointPath {
    /// The whole path.
    Absolute(&'static str),
    /// The path below the configured prefix. `{app}` stands for any one segment.
    BelowPrefix(&'static str),
}

use EndpointPath::{Absolute, BelowPrefix};

/// Every endpoint. Its handler is in `dispatch`.
const ENDPOINTS: &[EndpointSpec] = &[
    // GET is the sign-in page, if browsers can sign in to an app.
    spec(Endpoint::Login, BelowPrefix("/login"), "POST", Audited::Posts(AuditEvent::Login)),
    spec(Endpoint::Refresh, BelowPrefix("/refresh"), "POST", Audited::Refusals(AuditEvent::Refresh)),
    spec(Endpoint::Logout, BelowPrefix("/logout"), "POST", Audited::Posts(AuditEvent::Logout)),
    spec(Endpoint::Session, BelowPrefix("/session"), "GET, HEAD", Audited::Refusals(AuditEvent::Refusal)),
    spec(Endpoint::Start, BelowPrefix("/web/{app}/start"), "GET", Audited::Never),
    // A HEAD would spend the code that comes with it, and the browser would not learn it.
    spec(Endpoint::Callback, BelowPrefix("/web/{app}/callback"), "GET", Audited::Always(AuditEvent::Login)),
    // Where a backend finds the keys to verify tokens with. See RFC 8615.
    spec(Endpoint::Jwks, Absolute("/.well-known/jwks.json"), "GET, HEAD", Audited::Never),
];

const fn spec(endpoint: Endpoint, path: EndpointPath, allow: &'static str, audited: Audited) -> EndpointSpec {
    EndpointSpec { endpoint, path, allow, audited }
}

impl Endpoint {
    /// The endpoint of a canonical path; `None` leaves the path to the routes.
    pub(super) fn find(path: &str, prefix: &str) -> Option<Self> {
        let below = path.strip_prefix(prefix);
        let spec = ENDPOINTS.iter().find(|spec| match spec.path {
            Absolute(absolute) => path == absolute,
            BelowPrefix(pattern) => below.is_some_and(|below| matches_pattern(below, pattern)),
        });
        match spec {
            Some(spec) => Some(spec.endpoint),
            // `/authors` is not below `/auth`.
            None => below.filter(|below| below.is_empty() || below.starts_with('/')).map(|_| Self::Unknown),
        }
    }

    /// The methods of the endpoint, as an `Allow` header lists them.
    pub(super) fn allow(self) -> &'static str {
        self.spec().map_or("", |spec| spec.allow)
    }

    /// Whether the endpoint has this method.
    pub(super) fn has_method(self, method: &Method) -> bool {
        self.allow().split(", ").any(|name| name == method.as_str())
    }

    /// The event of the audit log that an answer is, if it is one.
    pub fn audit_event(self, method: &Method, status: StatusCode) -> Option<AuditEvent> {
        let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        match self.spec()?.audited {
            Audited::Never => None,
            Audited::Always(event) => Some(event),
            Audited::Posts(event) => (method == Method::POST).then_some(event),
            Audited::Refusals(event) => is_refusal.then_some(event),
        }
    }

    fn spec(self) -> Option<&'static EndpointSpec> {
        ENDPOINTS.iter().find(|spec| spec.endpoint == self)
    }
}

/// Whether a path has the segments of a pattern, in which `{app}` stands for any one segment.
fn matches_pattern(path: &str, pattern: &str) -> bool {
    let mut segments = path.split('/');
    pattern
        .split('/')
        .all(|expected| segments.next().is_some_and(|segment| expected == "{app}" || segment == expected))
        && segments.next().is_none()
}
