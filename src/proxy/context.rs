//! A request on its way: what is known of it, and what was decided.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::break_off::BreakOff;
use super::client_address::Caller;
use super::current::Current;
use super::request_id::RequestId;
use super::watch::Watch;
use crate::authn::Authenticated;
use crate::clock::Clock;
use crate::route::Route;
use crate::sign_in::Endpoint;
use crate::throttle::Allowance;
use crate::upstream::{InFlight, Opened, Upstream};

/// A request on its way, from its header to its access log line.
pub struct Context {
    pub(super) current: Arc<Current>,
    pub(super) started: Instant,
    pub(super) now: crate::clock::Timestamp,
    pub(super) request_id: RequestId,
    pub(super) caller: Caller,
    pub(super) is_https: bool,
    /// A WebSocket opening on a route that lets it through.
    pub(super) is_websocket: bool,
    /// What tells the connection to the server that the tunnel is open.
    pub(super) tunnel: Option<Opened>,
    /// What ends the tunnel with its session; it ends with the request.
    pub(super) watch: Option<Watch>,
    /// What ends the connection to the client where nothing else does; none for HTTP/2.
    pub(super) break_off: Option<BreakOff>,
    /// Lower case, without port and trailing dot; empty until admitted.
    pub(super) host: String,
    pub(super) decision: Decision,
    /// Whether the token that was verified stands in `Authorization`.
    pub(super) token_in_authorization: bool,
    /// Whether the credential that was verified stands in a cookie alone, which a browser adds by itself.
    pub(super) is_by_cookie: bool,
    pub(super) route: Option<Arc<Route>>,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// What the tightest limit of the route still allows; `None` where it has none.
    pub(super) allowance: Option<Allowance>,
    /// Who is signing in, where the request is a login; or who is signed in, and was turned away.
    pub(super) login: Option<Box<SigningIn>>,
    /// The endpoint that the gateway answers itself.
    pub(super) endpoint: Option<Endpoint>,
    /// Whether it was refused for who made it, or for want of knowing who.
    pub(super) is_denied: bool,
    pub(super) outcome: Outcome,
    /// Servers tried, the last one the one that answers.
    pub(super) tried: Vec<SocketAddr>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) upstream_started: Option<Instant>,
    pub(super) upstream_duration: Option<Duration>,
}

/// What was decided of a request.
#[derive(Debug)]
pub(super) enum Decision {
    /// Nothing yet; it goes nowhere.
    Undecided,
    /// Nobody needs to be known.
    Public,
    /// This person calls.
    Authenticated(Authenticated),
}

/// Somebody who does not call a backend, as the access log tells of them.
pub(super) struct SigningIn {
    pub(super) app: Option<Arc<str>>,
    pub(super) subject_hash: Option<String>,
}

/// What became of a request, in the access log's words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) decision: &'static str,
    pub(super) reason: &'static str,
}

impl Outcome {
    pub(super) const REFUSED: &'static str = "refused";
    /// What no step has decided.
    const UNDECIDED: Self = Self { decision: Self::REFUSED, reason: "undecided" };

    pub(super) const fn forwarded(reason: &'static str) -> Self {
        Self { decision: "forwarded", reason }
    }

    pub(super) const fn refused(reason: &'static str) -> Self {
        Self { decision: Self::REFUSED, reason }
    }

    /// Whether the gateway itself turned the request away, and said why.
    pub(super) fn is_refusal(self) -> bool {
        self.decision == Self::REFUSED && self.reason != Self::UNDECIDED.reason
    }

    pub(super) const fn answered(reason: &'static str) -> Self {
        Self { decision: "answered", reason }
    }
}

impl Context {
    pub(super) fn new(current: Arc<Current>, clock: &dyn Clock, request_id: RequestId) -> Self {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            current,
            started: clock.instant(),
            now: clock.now(),
            request_id,
            caller: Caller { peer: unknown, peer_is_trusted: false, client: unknown },
            is_https: false,
            is_websocket: false,
            tunnel: None,
            watch: None,
            break_off: None,
            host: String::new(),
            decision: Decision::Undecided,
            token_in_authorization: false,
            is_by_cookie: false,
            route: None,
            upstream: None,
            allowance: None,
            login: None,
            endpoint: None,
            is_denied: false,
            outcome: Outcome::UNDECIDED,
            tried: Vec::new(),
            in_flight: None,
            upstream_started: None,
            upstream_duration: None,
        }
    }

    /// Name of the app whose user calls or signs in.
    pub(super) fn app(&self) -> Option<&str> {
        let caller = self.authenticated().map(|authenticated| &**authenticated.app());
        caller.or_else(|| self.login.as_ref()?.app.as_deref())
    }

    /// Who calls or signed in, as logs may show it.
    pub(super) fn subject_hash(&self) -> Option<&str> {
        let caller = self.authenticated().map(Authenticated::subject_hash);
        caller.or_else(|| self.login.as_ref()?.subject_hash.as_deref())
    }

    /// Remembers for the log who is known, and may not call all the same.
    pub(super) fn turn_away(&mut self, caller: &Authenticated) {
        self.login = Some(Box::new(SigningIn {
            app: Some(Arc::clone(caller.app())),
            subject_hash: Some(caller.subject_hash().to_owned()),
        }));
    }

    pub(super) const fn authenticated(&self) -> Option<&Authenticated> {
        match &self.decision {
            Decision::Authenticated(authenticated) => Some(authenticated),
            Decision::Undecided | Decision::Public => None,
        }
    }
}
