//! Pingora's phases, each in a few lines. A request that was not decided is never forwarded: the
//! functions that forward it need its permit.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType};

use super::admission::AdmissionError;
use super::arrival::RequestArrival;
use super::context::{Context, Decision, Tries};
use super::current::Current;
use super::decide::{Decided, decide};
use super::handover::Handover;
use super::log::RequestEnd;
use super::permit::{Caller, Permit};
use super::reason::Reason;
use super::refusal::Refusal;
use super::request_id::RequestIds;
use super::sign_in::GatewayAnswer;
use super::tunnel::{Tunnel, TunnelRecord};
use super::watch::{TunnelEnds, TunnelPolicy, TunnelSession, TunnelWatch};
use super::{audit, body, failure, forward, limits, respond};
use crate::authn::Authenticated;
use crate::entropy::NoEntropy;
use crate::runtime::Shared;
use crate::telemetry::access_log::AccessLog;

/// The gateway, as Pingora drives it.
pub struct Gateway {
    current: Arc<ArcSwap<Current>>,
    shared: Shared,
    access_log: Arc<AccessLog>,
    request_ids: RequestIds,
}

impl Gateway {
    /// Serves each request by what `current` holds when it arrives.
    ///
    /// # Errors
    /// [`NoEntropy`] if no request ids can be drawn.
    pub fn new(
        current: Arc<ArcSwap<Current>>,
        shared: Shared,
        access_log: Arc<AccessLog>,
    ) -> Result<Self, NoEntropy> {
        let request_ids = RequestIds::new(shared.entropy.as_ref())?;
        Ok(Self { current, shared, access_log, request_ids })
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.current.load_full(), self.shared.clock.as_ref(), self.request_ids.next())
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // Pingora's default adds a compression module that costs an allocation a request and is
        // never used here.
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<()> {
        let limits = &ctx.current.runtime().limits;
        session.set_read_timeout(Some(limits.read_timeout.0));
        session.set_write_timeout(Some(limits.write_timeout.0));
        session.set_total_drain_timeout(Some(limits.read_timeout.0));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        let decided = decide(session, ctx).await;
        let headers = &session.req_header().headers;
        let untrusted_proxies = &self.shared.metrics.untrusted_proxies;
        ctx.current.unbelieved_proxies.look_at(&ctx.arrival.client, headers, untrusted_proxies);
        let response = match decided {
            Ok(Decided::Forward(permit)) => {
                ctx.reason = permit.reason();
                ctx.decision = Decision::Permitted(permit);
                return Ok(false);
            }
            Ok(Decided::Answer(GatewayAnswer { reason, response, endpoint, person })) => {
                ctx.reason = reason;
                ctx.decision = Decision::Answered { endpoint, person };
                response
            }
            Err(Refusal { reason, answer, routed, person }) => {
                let (current, request_id) = (&ctx.current, &ctx.arrival.request_id);
                let response = respond::refusal(reason, answer, routed.as_ref(), current, request_id);
                ctx.reason = reason;
                ctx.decision = Decision::Refused { routed, person };
                if reason.leaves_end_unknown() {
                    session.set_keepalive(None);
                }
                response
            }
        };
        self.count_refusal(ctx.reason);
        audit::write_answer(&self.shared.audit_log, session, ctx, response.status());
        respond::send(session, response, &ctx.arrival.request_id).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        let permit = ctx.decision.permit()?;
        ctx.tunnel = permit.is_websocket.then(Tunnel::default);
        choose_peer(permit, &ctx.arrival, ctx.tunnel.as_ref(), &mut ctx.tries, self.shared.clock.instant())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let permit = ctx.decision.permit()?;
        forward::edit_request(session.req_header(), request, permit, &ctx.arrival, &ctx.current)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if body.is_some() && ctx.tunnel.is_none() {
            self.check_body_rate(session, ctx)?;
        }
        if is_end && body.as_ref().is_some_and(Bytes::is_empty) {
            // An HTTP/2 stream may end with an empty frame. Pingora would write it as a last chunk
            // of its own before the last chunk, and the backend would read the second one as the
            // beginning of the next request. See https://github.com/cloudflare/pingora/issues/935
            *body = None;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let is_tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_tunnel && ctx.tunnel.is_none() {
            // The client did not ask for it, and would speak another protocol than the gateway.
            let what = "the backend switched protocols without being asked";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, what).into_up());
        }
        ctx.tries.duration = ctx.tries.started.map(|started| self.since(started));
        if let Some(tunnel) = ctx.tunnel.as_ref().filter(|_| is_tunnel) {
            // Either side of a tunnel may be silent as long as it likes. TCP notices if one of them
            // is gone.
            tunnel.switch().open();
            session.set_read_timeout(None);
            let permit = ctx.decision.permit()?;
            ctx.watch = permit
                .authenticated()
                .map(|authenticated| self.watch(tunnel, permit, authenticated, session, ctx));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        let permit = ctx.decision.permit()?;
        limits::add_fields(response, permit, &ctx.current)?;
        if session.req_header().version < Version::HTTP_11 {
            // A client of HTTP/1.0 knows no chunks; its answer ends with the connection. RFC 9112
            // §6.1.
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        forward::edit_response(response, permit, &ctx.current)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        is_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("peer {peer}"));
        let is_repeatable =
            session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        if is_repeatable {
            error.retry.decide_reuse(is_reused);
        } else {
            error.set_retry(false);
        }
        if error.retry() {
            // The server had closed a kept connection, which does not mean that it fails: it may be
            // tried again.
            ctx.tries.servers.pop();
        }
        error
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let (Some(upstream), Some(address)) = (ctx.decision.upstream(), ctx.tries.servers.last()) {
            upstream.record_failure(*address, ctx.arrival.now);
            // Nothing was sent, so another server may be tried with every method.
            error.set_retry(ctx.tries.servers.len() < upstream.max_tries());
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let cut_reason = ctx.tunnel.as_ref().and_then(Tunnel::cut_reason);
        let reason = cut_reason
            .or_else(|| ctx.has_malformed_body().then_some(Reason::Admission(AdmissionError::Chunk)))
            .unwrap_or_else(|| failure::reason(error));
        // A refusal whose answer could not be sent was counted already, and keeps its reason.
        if !ctx.reason.is_refusal() {
            ctx.reason = reason;
            self.count_refusal(reason);
        }
        if let Some(upstream) = ctx.decision.upstream()
            && *error.esource() == ErrorSource::Upstream
            && cut_reason.is_none()
        {
            let failures = &self.shared.metrics.upstream_failures;
            failures.with_label_values(&[&*upstream.name, reason.as_str()]).inc();
        }
        let request_id = &ctx.arrival.request_id;
        tracing::debug!(
            request.id = %request_id,
            "request {request_id} failed: {}",
            failure::description(error)
        );
        // A tunnel that was cut has had its answer.
        let status = if cut_reason.is_some() { None } else { reason.status() };
        if status.is_some() && session.response_written().is_none() {
            session.set_keepalive(None);
            // If the client is gone, there is no one to answer.
            _ = respond::send(session, respond::failure(reason, request_id), request_id).await;
        }
        FailToProxy { error_code: status.map_or(0, |status| status.as_u16()), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let was_forwarded = ctx.tries.started.is_some();
        if !ctx.is_of_unknown_client() {
            limits::count_answer(status, ctx.reason, was_forwarded, &ctx.arrival, &ctx.current);
        }
        let metrics = ctx.current.runtime().route_metrics(ctx.decision.route().map(|route| route.index));
        metrics.count(&session.req_header().method, status);
        let duration = self.since(ctx.arrival.started);
        metrics.duration.observe(duration.as_secs_f64());
        if let (Some(upstream), Some(duration)) = (&metrics.upstream_duration, ctx.tries.duration) {
            upstream.observe(duration.as_secs_f64());
        }
        let end = RequestEnd {
            reason: ctx.reason,
            status,
            duration,
            request_bytes: session.body_bytes_read() as u64,
            response_bytes: session.body_bytes_sent() as u64,
        };
        self.access_log.write(&ctx.logged(session).entry(&end));
    }

    fn on_connection_reuse(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        context: Box<dyn Any + Send + Sync>,
    ) {
        // Every request of HTTP/1 has one, also the first of its connection.
        let Ok(mut handover) = context.downcast::<Handover>() else { return };
        handover.open_gate(session);
        let Handover { break_off, gate, refused } = *handover;
        (ctx.break_off, ctx.gate, ctx.refused) = (Some(break_off), Some(gate), refused);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        // The access log has the reason; Pingora's line for each failed request would be a flood.
        true
    }
}

impl Gateway {
    fn count_refusal(&self, reason: Reason) {
        if reason.is_refusal() {
            self.shared.metrics.refused_requests.with_label_values(&[reason.as_str()]).inc();
        }
    }

    /// Watches the tunnel of a caller who is known.
    fn watch(
        &self,
        tunnel: &Tunnel,
        permit: &Permit,
        authenticated: &Authenticated,
        session: &Session,
        ctx: &Context,
    ) -> TunnelWatch {
        let Shared { clock, metrics, .. } = &self.shared;
        let record = TunnelRecord {
            shared: self.shared.clone(),
            access_log: Arc::clone(&self.access_log),
            current: Arc::clone(&ctx.current),
            arrival: ctx.arrival,
            permit: permit.clone(),
            authenticated: authenticated.clone(),
            host: ctx.host().to_owned(),
            path: session.req_header().uri.path().to_owned(),
            upstream_address: ctx.tries.servers.last().copied(),
            upstream_duration: ctx.tries.duration,
        };
        let ends = TunnelEnds { tunnel: tunnel.clone(), client: ctx.break_off.clone(), record };
        let policy = TunnelPolicy::new(Arc::clone(&self.current), &ctx.current, Arc::clone(&permit.route));
        let session = TunnelSession {
            authenticated: authenticated.clone(),
            sessions: Arc::clone(&ctx.current.runtime().sessions),
            clock: Arc::clone(clock),
        };
        TunnelWatch::start(ends, policy, session, &metrics.watched_tunnels)
    }

    /// Breaks off a body that arrives too slowly: each byte would start `limits.read_timeout`
    /// again.
    fn check_body_rate(&self, session: &Session, ctx: &Context) -> pingora::Result<()> {
        let of_route = ctx.decision.route().and_then(|route| route.min_body_rate);
        let least = of_route.unwrap_or(ctx.current.runtime().limits.min_body_rate.0);
        let elapsed = self.since(ctx.arrival.started);
        let received = session.body_bytes_read() as u64;
        if elapsed < body::RATE_GRACE || received >= least.saturating_mul(elapsed.as_secs()) {
            return Ok(());
        }
        Err(Error::explain(ErrorType::ReadTimedout, "the body arrives too slowly").into_down())
    }

    fn since(&self, started: Instant) -> Duration {
        self.shared.clock.instant().saturating_duration_since(started)
    }
}

/// Chooses a server for the next try of a permitted request.
fn choose_peer(
    permit: &Permit,
    arrival: &RequestArrival,
    tunnel: Option<&Tunnel>,
    tries: &mut Tries,
    now: Instant,
) -> pingora::Result<Box<HttpPeer>> {
    let upstream = &permit.upstream;
    let server = match &permit.caller {
        Caller::Authenticated(authenticated) => {
            let openid = &authenticated.identity().subject.openid;
            upstream.choose(openid.as_str().as_bytes(), &tries.servers, arrival.now)
        }
        Caller::Anonymous => upstream.choose(&client_key(arrival.client.client), &tries.servers, arrival.now),
    };
    let server = server.ok_or_else(|| Error::new_in(ErrorType::ConnectNoRoute))?;
    tries.in_flight = upstream.count(&server);
    tries.servers.push(server.address);
    tries.started = Some(now);
    Ok(upstream.peer(&server, permit.route.read_timeout, tunnel.map(Tunnel::switch)))
}

/// What a consistent hash follows if the caller is anonymous.
fn client_key(client: std::net::IpAddr) -> [u8; 16] {
    match client {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}
