//! A request on its way, from its header to its line in the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Version};
use pingora::Error;
use prometheus::IntGauge;

use super::admit::Admitted;
use super::arrival::RequestArrival;
use super::budget::CountedRequest;
use super::current::Current;
use super::handover::{Gate, RefusedHeader};
use super::log::LoggedRequest;
use super::permit::Permit;
use super::reason::Reason;
use super::refusal::LoggedPerson;
use super::request_id::RequestId;
use super::routed::Routed;
use super::watch::WatchedRequest;
use crate::authn::Authenticated;
use crate::clock::Clock;
use crate::route::{Route, method_name};
use crate::sign_in::Endpoint;
use crate::upstream::{InFlight, Server, TlsFailure, TunnelSwitch, Upstream};

/// A request on its way, as Pingora carries it from phase to phase.
pub struct Context {
    pub(super) current: Arc<Current>,
    pub(super) arrival: RequestArrival,
    /// `None` until the request is admitted.
    pub(super) admitted: Option<Admitted>,
    pub(super) decision: Decision,
    pub(super) reason: Reason,
    pub(super) tries: Tries,
    /// The tunnel that the request may open.
    pub(super) tunnel: Option<TunnelSwitch>,
    /// The gate before the client; `None` for HTTP/2.
    pub(super) gate: Option<Gate>,
    /// The header or body that was refused before the request was decided. The request is a
    /// substitute for it.
    pub(super) refused: Option<Box<RefusedHeader>>,
    /// Set while the request is forwarded, if it may be cut off.
    pub(super) open: Option<WatchedRequest>,
    /// Set while the request is forwarded: it is one of those under way.
    pub(super) counted: Option<CountedRequest>,
    /// Set while the request is a tunnel that ends with its session.
    pub(super) counted_tunnel: Option<CountedTunnel>,
    /// Of the answer that the client gets.
    pub(super) status: Option<StatusCode>,
    /// What the status of an answer would be that has it in gRPC's words alone.
    pub(super) status_in_http: Option<StatusCode>,
    /// Bytes of the body that have come from the client.
    pub(super) request_bytes: u64,
    /// Bytes of the answer's body that were handed to Pingora for the client.
    pub(super) response_bytes: u64,
    /// Whether the line of the access log is written.
    pub(super) is_logged: bool,
}

/// One more in a gauge, until dropped.
pub(super) struct CountedTunnel(IntGauge);

impl CountedTunnel {
    pub(super) fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What was decided about a request.
pub(super) enum Decision {
    /// Nothing yet. The request is not forwarded.
    Undecided,
    /// The request is forwarded.
    Permitted(Permit),
    /// The request is refused: on which route, and whose request.
    Refused { routed: Option<Routed>, person: Option<Box<LoggedPerson>> },
    /// The gateway answers the request: by which endpoint, about which route, and whose request.
    Answered { endpoint: Option<Endpoint>, route: Option<Arc<Route>>, person: Option<Box<LoggedPerson>> },
}

/// The tries to have a server answer a request.
#[derive(Default)]
pub(super) struct Tries {
    /// Servers tried. The last one is the one that answers.
    pub(super) servers: Vec<SocketAddr>,
    /// The last one.
    pub(super) server: Option<Arc<Server>>,
    pub(super) in_flight: Option<InFlight>,
    /// When the last try began.
    pub(super) started: Option<Instant>,
    /// From there to the header of the answer.
    pub(super) duration: Option<Duration>,
    /// Whether the last try wrote the header, and the body came next.
    pub(super) has_begun_body: bool,
    /// How often the request was repeated because it was not processed.
    pub(super) repeats: u8,
    /// Why TLS with the last one failed.
    pub(super) tls_failure: Option<TlsFailure>,
}

impl Context {
    pub(super) fn new(current: Arc<Current>, clock: &dyn Clock, request_id: RequestId) -> Self {
        Self {
            current,
            arrival: RequestArrival::new(clock, request_id),
            admitted: None,
            decision: Decision::Undecided,
            reason: Reason::Undecided,
            tries: Tries::default(),
            tunnel: None,
            gate: None,
            refused: None,
            open: None,
            counted: None,
            counted_tunnel: None,
            status: None,
            status_in_http: None,
            request_bytes: 0,
            response_bytes: 0,
            is_logged: false,
        }
    }

    /// The host that the request asks for, with its port, as sent; empty until the request is
    /// admitted.
    fn server_address(&self) -> &str {
        let admitted = self.admitted.as_ref();
        admitted.map_or("", |admitted| admitted.sent_authority.as_deref().unwrap_or(&admitted.host))
    }

    /// Whether a trusted proxy sent a malformed header that does not say for which client.
    pub(super) fn is_of_unknown_client(&self) -> bool {
        let client = &self.arrival.client;
        self.refused.is_some() && client.proxy.is_some() && client.client == client.peer
    }

    /// Whether the client sent bytes beyond the end of its request. They are no part of it, and the
    /// connection ends with the answer.
    pub(super) fn is_sent_ahead(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::has_excess)
    }

    /// Whether the client sent a chunk that is malformed.
    pub(super) fn has_malformed_body(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::has_malformed_chunk)
    }

    /// What the access log says about the request.
    pub(super) fn logged<'a>(
        &'a self,
        method: &Method,
        version: Version,
        path: &'a str,
    ) -> LoggedRequest<'a> {
        let (method, path) = match &self.refused {
            Some(refused) => (refused.method, &*refused.path),
            None => (logged_method(method), path),
        };
        LoggedRequest {
            arrival: &self.arrival,
            method,
            version,
            server_address: self.server_address(),
            path,
            route: self.decision.route().map(|route| &*route.name),
            app: self.decision.app(),
            subject_hash: self.decision.subject_hash(),
            upstream: self.decision.upstream().map(|upstream| &*upstream.name),
            upstream_address: self.tries.servers.last().copied(),
            upstream_duration: self.tries.duration,
            upstream_error: self.tries.tls_failure.map(TlsFailure::as_str),
        }
    }
}

impl Decision {
    /// The proof that the request may be forwarded.
    ///
    /// # Errors
    /// A step was skipped: the request must fail, and not be forwarded.
    pub(super) fn permit(&self) -> pingora::Result<&Permit> {
        match self {
            Self::Permitted(permit) => Ok(permit),
            _ => {
                Err(Error::explain(pingora::ErrorType::InternalError, "the request was not decided")
                    .into_in())
            }
        }
    }

    /// The route that the request took.
    pub(super) fn route(&self) -> Option<&Arc<Route>> {
        match self {
            Self::Permitted(permit) => Some(&permit.route),
            Self::Refused { routed, .. } => routed.as_ref().map(|routed| &routed.route),
            Self::Answered { route, .. } => route.as_ref(),
            Self::Undecided => None,
        }
    }

    /// The upstream of that route.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self {
            Self::Permitted(permit) => Some(&permit.upstream),
            Self::Refused { routed, .. } => routed.as_ref().map(|routed| &routed.upstream),
            Self::Undecided | Self::Answered { .. } => None,
        }
    }

    /// Name of the app whose user calls or signs in.
    pub(super) fn app(&self) -> Option<&str> {
        match self {
            Self::Permitted(permit) => permit.authenticated().map(|authenticated| &**authenticated.app()),
            Self::Refused { person, .. } | Self::Answered { person, .. } => person.as_ref()?.app.as_deref(),
            Self::Undecided => None,
        }
    }

    /// Who calls or signs in, as the logs name them.
    pub(super) fn subject_hash(&self) -> Option<&str> {
        match self {
            Self::Permitted(permit) => permit.authenticated().map(Authenticated::subject_hash),
            Self::Refused { person, .. } | Self::Answered { person, .. } => {
                person.as_ref()?.subject_hash.as_deref()
            }
            Self::Undecided => None,
        }
    }
}

/// The method if the gateway knows it, otherwise `_OTHER`, OpenTelemetry's word: the client may
/// have written anything.
fn logged_method(method: &Method) -> &'static str {
    method_name(method.as_str().as_bytes()).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use crate::proxy::tests::Bench;

    #[test]
    fn a_request_that_was_not_decided_has_no_permit() {
        let ctx = Bench::new().context();

        assert!(ctx.decision.permit().is_err());
        assert_eq!(
            (ctx.reason.status().map(|status| status.as_u16()), ctx.reason.as_str()),
            (Some(500), "undecided")
        );
    }
}
