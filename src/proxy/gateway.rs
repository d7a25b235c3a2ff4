//! Pingora's phases, each in a few lines. A request that was not decided is never forwarded: the
//! functions that forward it need its permit.

use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType};

use super::admission::AdmissionError;
use super::arrival::RequestArrival;
use super::budget::RequestBudget;
use super::context::{Context, CountedTunnel, Decision, Tries};
use super::current::Current;
use super::decide::{Decided, decide};
use super::explain::explain_to_user;
use super::handover::Handover;
use super::health::HealthPaths;
use super::log::RequestEnd;
use super::open_request::{AwaitedBody, LongestSilence, OpenRequest};
use super::permit::{Caller, Permit};
use super::reason::Reason;
use super::record::{self, RequestLine};
use super::records::Records;
use super::refusal::{Refusal, RefusalAnswer};
use super::repeat::{self, FailedTry, Repeat};
use super::request_id::RequestIds;
use super::review::ReviewedRequest;
use super::sign_in::GatewayAnswer;
use super::watch::{Watch, WatchedRequest};
use super::{audit, backend_answer, body, cors, failure, forward, grpc, interim, limits, respond};
use crate::entropy::NoEntropy;
use crate::runtime::Shared;
use crate::telemetry::access_log::AccessLog;
use crate::upstream::{TlsFailure, TunnelSwitch};

/// Longest body, in bytes, that is read for the sake of its connection.
const LITTLE_BODY: usize = 64 * 1024;

/// The gateway, as Pingora drives it.
pub struct Gateway {
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) records: Records,
    watch: Arc<Watch>,
    pub(super) budget: Arc<RequestBudget>,
    pub(super) health: HealthPaths,
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
        budget: Arc<RequestBudget>,
        health: HealthPaths,
    ) -> Result<Self, NoEntropy> {
        let request_ids = RequestIds::new(shared.entropy.as_ref())?;
        let records = Records { shared, access_log };
        let watch = Arc::new(Watch::new(Arc::clone(&current), records.clone()));
        Ok(Self { current, records, watch, budget, health, request_ids })
    }

    /// Watches the requests under way, for ever.
    pub fn watch_requests(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.watch).run()
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it from one future into the next, and each of them is copied.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        let current = self.current.load_full();
        Box::new(Context::new(current, self.records.shared.clock.as_ref(), self.request_ids.next()))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // Pingora's default adds a compression module that costs an allocation a request and is
        // never used here.
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let limits = &ctx.current.runtime().limits;
        session.set_read_timeout(Some(limits.read_timeout.0));
        session.set_write_timeout(Some(limits.write_timeout.0));
        session.set_total_drain_timeout(Some(limits.linger_time.0));
        // A tunnel ends if either side ends.
        let may_be_tunnel = session.req_header().headers.contains_key(header::UPGRADE);
        let serves_half_closed = limits.half_close && !may_be_tunnel;
        let is_old = session.req_header().version < Version::HTTP_11;
        let downstream = session.as_downstream_mut();
        downstream.set_abort_on_close(!serves_half_closed);
        // Otherwise what a client sends ahead of its answer would cost it the answer. The guard
        // drops it.
        downstream.set_pipelining_enabled(!may_be_tunnel);
        // RFC 9110 §15.2: HTTP/1.0 knows no interim answers.
        downstream.set_ignore_info_resp(is_old);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> pingora::Result<bool> {
        let decided = decide(session, ctx, self).await;
        let headers = &session.req_header().headers;
        let untrusted_proxies = &self.records.shared.metrics.untrusted_proxies;
        ctx.current.unbelieved_proxies.look_at(&ctx.arrival.client, headers, untrusted_proxies);
        let mut response = match decided {
            Ok(Decided::Forward(permit)) => {
                ctx.reason = permit.reason();
                if permit.is_websocket {
                    forward::state_opening(session.req_header_mut())?;
                }
                let awaits_body = !session.is_body_empty();
                // A preflight has no user, and a new configuration may have no route for it.
                ctx.open = (!permit.is_preflight).then(|| self.open(session, ctx, &permit, awaits_body));
                ctx.decision = Decision::Permitted(permit);
                return Ok(false);
            }
            Ok(Decided::Answer(GatewayAnswer { reason, response, endpoint, route, person })) => {
                ctx.reason = reason;
                ctx.decision = Decision::Answered { endpoint, route, person };
                if reason == Reason::Health && response.status() != StatusCode::OK {
                    session.set_keepalive(None);
                }
                response
            }
            Err(Refusal { reason, answer, routed, person }) => {
                let (current, request_id) = (&ctx.current, &ctx.arrival.request_id);
                let detail = respond::admission_detail(reason, ctx.refused.as_deref(), headers);
                let is_grpc = grpc::is_call(session.req_header());
                let response =
                    respond::refusal(reason, answer, detail, routed.as_ref(), is_grpc, current, request_id);
                ctx.status_in_http = if is_grpc { reason.status() } else { None };
                ctx.reason = reason;
                ctx.decision = Decision::Refused { routed, person };
                if reason.leaves_end_unknown() {
                    session.set_keepalive(None);
                }
                response
            }
        };
        // A client whose body was waited for in vain is not waited for again.
        let is_awaited = response.status() != StatusCode::REQUEST_TIMEOUT && !ctx.reason.leaves_end_unknown();
        if is_awaited && has_little_body(session.req_header()) {
            // Pingora reads the rest of the body, and the connection is kept.
            session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
        }
        if ctx.is_sent_ahead() {
            session.set_keepalive(None);
        }
        self.records.count_refusal(ctx.reason);
        explain_to_user(&mut response, ctx.reason, session.req_header(), ctx);
        cors::edit_own_response(&mut response, session.req_header(), ctx);
        audit::write_answer(&self.records.shared.audit_log, session, ctx, response.status());
        respond::send(session, response, &ctx.arrival.request_id).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<Box<HttpPeer>> {
        let permit = ctx.decision.permit()?;
        ctx.tunnel = permit.is_websocket.then(TunnelSwitch::default);
        choose_peer(
            permit,
            &ctx.arrival,
            ctx.tunnel.as_ref(),
            &mut ctx.tries,
            self.records.shared.clock.instant(),
        )
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let permit = ctx.decision.permit()?;
        if !permit.upstream.speaks_http2 && session.is_body_empty() {
            forward::state_empty_body(request)?;
        }
        forward::edit_request(session.req_header(), request, permit, &ctx.arrival, &ctx.current)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        is_reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        check_connection(ctx, is_reused, digest)?;
        // A connection of HTTP/2 carries other requests too, so it says nothing of this one.
        if let (Some(open), Some(digest)) = (&ctx.open, digest)
            && ctx.decision.upstream().is_some_and(|upstream| !upstream.speaks_http2)
        {
            open.request().record_backend(digest.socket_digest.as_ref());
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let length = body.as_ref().map_or(0, Bytes::len);
        ctx.request_bytes += length as u64;
        ctx.tries.has_begun_body = true;
        check_open(ctx)?;
        if let Some(open) = &ctx.open {
            open.record_body(length, is_end);
        }
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
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let is_tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_tunnel && ctx.tunnel.is_none() {
            // The client did not ask for it, and would speak another protocol than the gateway.
            let what = "the backend switched protocols without being asked";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, what).into_up());
        }
        let received = session.req_header();
        let permit = ctx.decision.permit()?;
        let passes_trailers = permit.upstream.speaks_http2 && received.version == Version::HTTP_2;
        backend_answer::clean(response, &received.method, passes_trailers)?;
        forward::map_redirects(response, received, permit, &ctx.arrival, &ctx.current)?;
        ctx.tries.duration = ctx.tries.started.map(|started| self.records.since(started));
        if is_tunnel {
            // Either side of a tunnel may be silent as long as it likes. TCP notices if one of them
            // is gone.
            session.set_read_timeout(None);
            self.open_tunnel(ctx);
        }
        check_open(ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        let is_final =
            !response.status.is_informational() || response.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_final {
            ctx.status = Some(response.status);
            if let Some(open) = &ctx.open {
                open.request().await_no_body();
            }
        }
        if is_final && ctx.is_sent_ahead() {
            session.set_keepalive(None);
        }
        let permit = ctx.decision.permit()?;
        limits::add_fields(response, permit, &ctx.current)?;
        forward::edit_response(response, session.req_header(), permit, &ctx.current)?;
        if !is_final && session.req_header().version == Version::HTTP_2 {
            interim::send(response);
        }
        if session.req_header().version < Version::HTTP_11 && is_final {
            return answer_old_client(session, response, permit.upstream.speaks_http2).await;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _is_end: bool,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<Option<Duration>> {
        ctx.response_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        check_open(ctx)?;
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<Context>,
        is_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("peer {peer}"));
        let failed = FailedTry {
            is_idempotent: session.req_header().method.is_idempotent(),
            is_reused,
            has_body: !session.as_ref().retry_buffer_truncated(),
            has_begun_body: ctx.tries.has_begun_body,
            is_answered: ctx.status.is_some(),
            repeats: ctx.tries.repeats,
        };
        let repeat =
            if cut_reason(ctx).is_none() { repeat::decide(&mut error, failed) } else { Repeat::Never };
        error.set_retry(repeat != Repeat::Never);
        let others =
            ctx.decision.upstream().is_some_and(|upstream| ctx.tries.servers.len() < upstream.max_tries());
        match repeat {
            Repeat::Never => {}
            // Another server may have room, if there is one.
            Repeat::OfUnprocessed if others => ctx.tries.repeats += 1,
            Repeat::OfUnprocessed => {
                ctx.tries.repeats += 1;
                ctx.tries.servers.pop();
            }
            // The server had closed a kept connection, which does not mean that it fails: it may be
            // tried again.
            Repeat::OfStaleConnection => _ = ctx.tries.servers.pop(),
        }
        error
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Context>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let (Some(upstream), Some(address)) = (ctx.decision.upstream(), ctx.tries.servers.last()) {
            upstream.record_failure(*address, &error, ctx.arrival.now);
            // Nothing was sent, so another server may be tried with every method.
            error.set_retry(ctx.tries.servers.len() < upstream.max_tries());
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Box<Context>,
    ) -> FailToProxy {
        let cut_reason = cut_reason(ctx);
        let reason = cut_reason
            .or_else(|| ctx.has_malformed_body().then_some(Reason::Admission(AdmissionError::Chunk)))
            .unwrap_or_else(|| failure::reason(error));
        if cut_reason.is_some() {
            record::note_cut(&self.records, ctx, reason);
        } else if !ctx.reason.is_refusal() {
            // A refusal whose answer could not be sent was counted already, and keeps its reason.
            ctx.reason = reason;
            self.records.count_refusal(reason);
        }
        if let Some(upstream) = ctx.decision.upstream()
            && *error.esource() == ErrorSource::Upstream
            && cut_reason.is_none()
        {
            let failures = &self.records.shared.metrics.upstream_failures;
            failures.with_label_values(&[&*upstream.name, reason.as_str()]).inc();
            ctx.tries.tls_failure = TlsFailure::of(error);
            if let (Some(TlsFailure::OwnCertificate), Some(address)) =
                (ctx.tries.tls_failure, ctx.tries.servers.last())
            {
                upstream.warn_of_refusal(*address, error, ctx.arrival.now);
            }
        }
        let request_id = &ctx.arrival.request_id;
        tracing::debug!(
            request.id = %request_id,
            "request {request_id} failed: {}",
            failure::description(error)
        );
        let status = reason.status();
        let is_grpc = grpc::is_call(session.req_header());
        if is_grpc && session.response_written().is_some() {
            end_grpc_answer(session, reason).await;
        }
        if status.is_some() && session.response_written().is_none() {
            ctx.status_in_http = status.filter(|_| is_grpc);
            session.set_keepalive(None);
            let mut response = match (&ctx.decision, cut_reason) {
                // In the shape of the route, as a refusal.
                (Decision::Permitted(permit), Some(_)) => {
                    let (routed, _) = permit.clone().revoke();
                    let document = RefusalAnswer::Document;
                    respond::refusal(reason, document, None, Some(&routed), is_grpc, &ctx.current, request_id)
                }
                _ => respond::failure(reason, is_grpc, request_id),
            };
            explain_to_user(&mut response, reason, session.req_header(), ctx);
            cors::edit_own_response(&mut response, session.req_header(), ctx);
            // If the client is gone, there is no one to answer.
            _ = respond::send(session, response, request_id).await;
        }
        FailToProxy { error_code: status.map_or(0, |status| status.as_u16()), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Box<Context>) {
        let written = session.response_written().map(|response| response.status);
        let status = written.map(|written| ctx.status_in_http.unwrap_or(written));
        let end = RequestEnd {
            reason: ctx.reason,
            status: status.map_or(0, |status| status.as_u16()),
            duration: self.records.since(ctx.arrival.started),
            request_bytes: session.body_bytes_read() as u64,
            response_bytes: session.body_bytes_sent() as u64,
        };
        let header = session.req_header();
        let (method, version, path) = (&header.method, header.version, header.uri.path());
        record::write(&self.records, ctx, &RequestLine { method, version, path }, &end);
        ctx.is_logged = true;
        if let Some(gate) = &ctx.gate
            && end.status >= 200
            && (gate.has_excess() || !session.as_downstream_mut().is_body_done())
        {
            // The client may still be sending its body, or another request.
            gate.keep_stream();
        }
    }

    fn on_connection_reuse(
        &self,
        session: &mut Session,
        ctx: &mut Box<Context>,
        context: Box<dyn Any + Send + Sync>,
    ) {
        // Every request of HTTP/1 has one, also the first of its connection.
        let Ok(mut handover) = context.downcast::<Handover>() else { return };
        handover.open_gate(session);
        let Handover { gate, refused } = *handover;
        (ctx.gate, ctx.refused) = (Some(gate), refused);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Context>, _error: &Error) -> bool {
        // The access log has the reason; Pingora's line for each failed request would be a flood.
        true
    }
}

impl Gateway {
    /// Adds a forwarded request to those that may be cut off.
    fn open(&self, session: &Session, ctx: &Context, permit: &Permit, awaits_body: bool) -> WatchedRequest {
        let received = session.req_header();
        let target = received.uri.path_and_query().cloned();
        let request = ReviewedRequest {
            method: received.method.clone(),
            host: ctx.admitted.as_ref().map_or_else(|| "".into(), |admitted| Arc::clone(&admitted.host)),
            target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
            cross_site: permit.credential.is_cross_site.then(|| without_credential(received)),
        };
        let now = self.watch.now();
        let body = awaits_body.then(|| {
            let limits = &ctx.current.runtime().limits;
            // Pingora measures the silence of a client of HTTP/1 alone.
            let longest = || LongestSilence::new(limits.read_timeout.0, permit.upstream.write_timeout());
            let is_http2 = received.version == Version::HTTP_2;
            // Where the backend may be silent for ever, a stream of requests may be as well.
            let may_be_silent =
                permit.upstream.speaks_http2 && permit.route.read_timeout == Some(Duration::ZERO);
            let silence = (is_http2 && !may_be_silent).then(longest);
            let body = AwaitedBody::new(silence, least_body_rate(permit, ctx), now);
            // Over HTTP/2 Pingora sends no `100 Continue`, and no client waits for one in vain.
            if !is_http2 && received.headers.contains_key(header::EXPECT) {
                body.after_continue()
            } else {
                body
            }
        });
        let caller = (permit.authenticated().cloned(), permit.credential);
        let current = Arc::clone(&ctx.current);
        self.watch.add(OpenRequest::new(request, received.version, current, caller, body, now))
    }

    /// Opens the tunnel that a request asked for, because its server has switched.
    fn open_tunnel(&self, ctx: &mut Context) {
        let (Some(switch), Some(open)) = (&ctx.tunnel, &ctx.open) else { return };
        switch.open();
        open.request().become_tunnel(switch);
        if open.request().authenticated.is_some() {
            let gauge = &self.records.shared.metrics.watched_tunnels;
            ctx.counted_tunnel = Some(CountedTunnel::new(gauge.clone()));
            open.follow();
        }
    }

    /// Breaks off a body that arrives too slowly: each byte would start `limits.read_timeout`
    /// again.
    fn check_body_rate(&self, session: &Session, ctx: &Context) -> pingora::Result<()> {
        let least = least_body_rate(ctx.decision.permit()?, ctx);
        let elapsed = self.records.since(ctx.arrival.started);
        let received = session.body_bytes_read() as u64;
        if elapsed < body::RATE_GRACE || received >= least.saturating_mul(elapsed.as_secs()) {
            return Ok(());
        }
        Err(Error::explain(ErrorType::ReadTimedout, "the body arrives too slowly").into_down())
    }
}

/// Finishes the answer to a client of HTTP/1.0, which knows no chunks: a body of unknown length
/// ends with the connection, and the client must be told. RFC 9112 §6.3.
async fn answer_old_client(
    session: &mut Session,
    response: &mut ResponseHeader,
    is_of_http2: bool,
) -> pingora::Result<()> {
    response.remove_header(&header::TRANSFER_ENCODING);
    let has_body = backend_answer::has_body(response.status, &session.req_header().method);
    if !has_body || response.headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    session.set_keepalive(None);
    if is_of_http2 {
        // Pingora adds `chunked` after this. It writes no header twice.
        response.set_version(Version::HTTP_11);
        session.write_response_header(Box::new(response.clone()), false).await?;
    }
    Ok(())
}

/// Whether a body is short enough to be read after the answer, so that the connection is kept. A
/// client that waits for `100 Continue` may send no body at all.
fn has_little_body(request: &RequestHeader) -> bool {
    let length = request.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    !request.headers.contains_key(header::EXPECT)
        && length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length <= LITTLE_BODY)
}

/// What a request says of the page that made it.
fn without_credential(received: &RequestHeader) -> Box<Parts> {
    let mut sent = Parts::clone(received);
    sent.headers.remove(header::COOKIE);
    Box::new(sent)
}

/// Ends the answer of a call of gRPC that fails after it has begun: its trailers say why.
async fn end_grpc_answer(session: &mut Session, reason: Reason) {
    let answers_grpc = session.response_written().is_some_and(|answer| grpc::has_grpc_body(&answer.headers));
    if let Some(trailers) = respond::grpc_trailers(reason).filter(|_| answers_grpc) {
        // If the client is gone, there is no one to answer.
        _ = session.as_downstream_mut().write_response_trailers(trailers).await;
    }
}

/// Fails a request that was cut off.
fn check_open(ctx: &Context) -> pingora::Result<()> {
    match ctx.open.as_ref().map_or(Ok(()), WatchedRequest::check) {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::explain(ErrorType::InternalError, "the request was cut off").into_in()),
    }
}

/// Why the request was cut off, if it was.
fn cut_reason(ctx: &Context) -> Option<Reason> {
    ctx.open.as_ref()?.request().cut_reason()
}

/// Checks the connection that a request is about to be sent over.
fn check_connection(ctx: &Context, is_reused: bool, digest: Option<&Digest>) -> pingora::Result<()> {
    let permit = ctx.decision.permit()?;
    let verified = permit.upstream.verify(digest.and_then(|digest| digest.ssl_digest.as_deref()));
    let Some(server) = &ctx.tries.server else { return verified };
    match &verified {
        Err(error) => permit.upstream.record_failure(server.address, error, ctx.arrival.now),
        // A connection that was kept says nothing of whether another can be made.
        Ok(()) if !is_reused => permit.upstream.record_connection(server),
        Ok(()) => {}
    }
    verified
}

/// Least bytes a second of a request's body. Backends of HTTP/2 are sent streams as well, and a
/// client could call any body a stream, so the upstream decides.
fn least_body_rate(permit: &Permit, ctx: &Context) -> u64 {
    permit.route.min_body_rate.unwrap_or_else(|| {
        if permit.upstream.speaks_http2 { 0 } else { ctx.current.runtime().limits.min_body_rate.0 }
    })
}

/// Chooses a server for the next try of a permitted request.
fn choose_peer(
    permit: &Permit,
    arrival: &RequestArrival,
    tunnel: Option<&TunnelSwitch>,
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
    tries.has_begun_body = false;
    let peer = upstream.peer(&server, permit.route.read_timeout, tunnel);
    tries.server = Some(server);
    Ok(peer)
}

/// What a consistent hash follows if the caller is anonymous.
fn client_key(client: std::net::IpAddr) -> [u8; 16] {
    match client {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}
