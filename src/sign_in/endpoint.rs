//! The endpoints: one table of their paths, their methods, the body that each reads, the handler,
//! and what the audit log says about them.

use std::pin::Pin;
use std::sync::Arc;

use http::{Method, StatusCode};

use super::answer::SignInAnswer;
use super::browser::{callback, hand_over, sign_in_page, start};
use super::call::{ReadBody, SignInCall};
use super::precheck::{self, Precheck};
use super::program::{decrypt, login, logout, refresh, session, ticket};
use super::service::SignInService;
use crate::path::PathTree;
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
    /// Gives a program a ticket; signs a browser in that shows it.
    Ticket,
    /// Signs a browser in that shows a ticket and was asked first.
    TicketConfirm,
    /// Opens WeChat's sealed user data.
    Decrypt,
    /// The keys that verify tokens.
    Jwks,
    /// A façade, by its position in the configuration.
    Facade(usize),
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
    /// Answers that sign a user in.
    SignIns(AuditEvent),
}

/// The outcomes of a sign-in or a refresh for which a code or a refresh token was judged.
const JUDGED: [&str; 8] = [
    "code_invalid",
    "code_already_used",
    "refresh_token_invalid",
    "refresh_token_of_another",
    "refresh_token_reused",
    "user_blocked",
    "unionid_unknown",
    "snapshot_visitor",
];

/// Answers a request. The future is boxed because a table holds one type; a sign-in waits for
/// WeChat, so one allocation does not count.
type Handler = for<'a> fn(&'a Arc<SignInService>, SignInCall<'a>, ReadBody) -> AnswerFuture<'a>;
type AnswerFuture<'a> = Pin<Box<dyn Future<Output = SignInAnswer> + Send + 'a>>;

/// The fixed properties of an endpoint.
pub(super) struct EndpointSpec {
    endpoint: Endpoint,
    path: EndpointPath,
    /// Its methods, as an `Allow` header lists them.
    pub(super) allow: &'static str,
    /// Decides by the header, and says which body is read.
    pub(super) precheck: Precheck,
    pub(super) respond: Handler,
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

/// Every endpoint.
const ENDPOINTS: &[EndpointSpec] = &[
    // GET is the sign-in page, if browsers can sign in to an app.
    EndpointSpec {
        endpoint: Endpoint::Login,
        path: BelowPrefix("/login"),
        allow: "POST",
        precheck: precheck::login,
        respond: |service, call, body| Box::pin(log_in(service, call, body)),
        audited: Audited::Posts(AuditEvent::Login),
    },
    EndpointSpec {
        endpoint: Endpoint::Refresh,
        path: BelowPrefix("/refresh"),
        allow: "POST",
        precheck: precheck::refresh,
        respond: |service, call, body| Box::pin(refresh::respond(service, call, body)),
        audited: Audited::Refusals(AuditEvent::Refresh),
    },
    EndpointSpec {
        endpoint: Endpoint::Logout,
        path: BelowPrefix("/logout"),
        allow: "POST",
        precheck: precheck::logout,
        respond: |service, call, body| Box::pin(logout::respond(service, call, body)),
        audited: Audited::Posts(AuditEvent::Logout),
    },
    EndpointSpec {
        endpoint: Endpoint::Session,
        path: BelowPrefix("/session"),
        allow: "GET, HEAD",
        precheck: precheck::read,
        respond: |service, call, _| Box::pin(session::respond(service, call)),
        audited: Audited::Refusals(AuditEvent::Refusal),
    },
    EndpointSpec {
        endpoint: Endpoint::Start,
        path: BelowPrefix("/web/{app}/start"),
        allow: "GET",
        precheck: precheck::page,
        respond: |service, call, _| Box::pin(start::respond(service, call)),
        audited: Audited::Never,
    },
    // A HEAD would spend the code that comes with it, and the browser would not learn it.
    EndpointSpec {
        endpoint: Endpoint::Callback,
        path: BelowPrefix("/web/{app}/callback"),
        allow: "GET",
        precheck: precheck::page,
        respond: |service, call, _| Box::pin(callback::respond(service, call)),
        audited: Audited::Always(AuditEvent::Login),
    },
    // A HEAD would spend the ticket.
    EndpointSpec {
        endpoint: Endpoint::Ticket,
        path: BelowPrefix("/ticket"),
        allow: "GET, POST",
        precheck: precheck::ticket,
        respond: |service, call, _| Box::pin(take_ticket(service, call)),
        audited: Audited::SignIns(AuditEvent::Login),
    },
    EndpointSpec {
        endpoint: Endpoint::TicketConfirm,
        path: BelowPrefix("/ticket/confirm"),
        allow: "POST",
        precheck: precheck::logout,
        respond: |service, call, body| Box::pin(hand_over::confirm(service, call, body)),
        audited: Audited::SignIns(AuditEvent::Login),
    },
    EndpointSpec {
        endpoint: Endpoint::Decrypt,
        path: BelowPrefix("/wechat/decrypt"),
        allow: "POST",
        precheck: precheck::decrypt,
        respond: |service, call, body| Box::pin(decrypt::respond(service, call, body)),
        audited: Audited::Refusals(AuditEvent::Refusal),
    },
    // Where a backend finds the keys to verify tokens with. See RFC 8615.
    EndpointSpec {
        endpoint: Endpoint::Jwks,
        path: Absolute("/.well-known/jwks.json"),
        allow: "GET, HEAD",
        precheck: precheck::read,
        respond: |service, call, _| Box::pin(jwks(service, call)),
        audited: Audited::Never,
    },
];

/// A program posts a code; a browser gets the sign-in page.
async fn log_in(service: &Arc<SignInService>, call: SignInCall<'_>, body: ReadBody) -> SignInAnswer {
    if service.is_sign_in_page(call.request) {
        sign_in_page::respond(service, call).await
    } else {
        login::respond(service, call, body).await
    }
}

/// A program posts for a ticket; a browser opens a page with one.
async fn take_ticket(service: &Arc<SignInService>, call: SignInCall<'_>) -> SignInAnswer {
    if call.request.method == Method::POST {
        ticket::respond(service, call).await
    } else {
        hand_over::respond(service, call).await
    }
}

async fn jwks(service: &SignInService, call: SignInCall<'_>) -> SignInAnswer {
    SignInAnswer::jwks(service.deps.tokens.jwks(), &call.request.method)
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

    /// Which paths are those of endpoints, and which the routes may have.
    pub(super) fn own_paths(prefix: &str) -> PathTree<bool> {
        let mut own = PathTree::default();
        *own.entry("") = Some(false);
        *own.entry(prefix) = Some(true);
        for spec in ENDPOINTS {
            if let Absolute(path) = spec.path {
                *own.entry(path) = Some(true);
            }
        }
        own
    }

    /// The event of the audit log that an answer is, if it is one. `outcome` is its word in the
    /// access log.
    ///
    /// A refusal of a client that is not known is no event unless a code or a refresh token was
    /// judged, which the limits on failures bound: otherwise anyone could fill the log.
    pub fn audit_event(
        self,
        method: &Method,
        status: StatusCode,
        outcome: &str,
        is_user_known: bool,
    ) -> Option<AuditEvent> {
        let is_answered = status.is_success() || status.is_redirection();
        if !is_answered && !is_user_known && !JUDGED.contains(&outcome) {
            return None;
        }
        let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let audited = match self {
            Self::Facade(_) => Audited::Always(AuditEvent::Login),
            endpoint => endpoint.spec()?.audited,
        };
        match audited {
            Audited::Never => None,
            Audited::Always(event) => Some(event),
            Audited::Posts(event) => (method == Method::POST).then_some(event),
            Audited::Refusals(event) => is_refusal.then_some(event),
            Audited::SignIns(event) => (outcome == "ok").then_some(event),
        }
    }

    /// Its row of the table; `None` for a façade, and for a path that is no endpoint.
    pub(super) fn spec(self) -> Option<&'static EndpointSpec> {
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
