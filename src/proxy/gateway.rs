//! Pingora's phases, each in a few lines. What is decided stands in the request's context; a request that is not
//! decided is never forwarded.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType};

use crate::authn::Authenticated;
use crate::entropy::NoEntropy;
use crate::route::METHODS;
use crate::runtime::Shared;
use crate::sign_in::Endpoint;
use crate::telemetry::access_log::{AccessLog, Entry};
use crate::upstream::Opened;

use super::context::{Context, Decision, Outcome, SigningIn};
use super::current::Current;
use super::request_id::{RequestId, RequestIds};
use super::watch::{self, Ends, Standing, Watch};
use super::{audit, body, decide, forward, limits, respond};

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
    /// [`NoEntropy`] when no request ids can be drawn.
    pub fn new(
        current: Arc<ArcSwap<Current>>,
        shared: Shared,
        access_log: Arc<AccessLog>,
    ) -> Result<Self, NoEntropy> {
        let request_ids = RequestIds::new(shared.entropy.as_ref())?;
        Ok(Self { current, shared, access_log, request_ids })
    }

    /// Decides a request; an answer ends it here, none lets it go on.
    async fn decide(&self, session: &mut Session, ctx: &mut Context) -> Option<Response<Bytes>> {
        let answer = decide::admit(session, ctx);
        // Only now is the client's address known; and a refusal counts as an error, too.
        if let Some(answer) = limits::refuse_locked_out(ctx).or(answer) {
            return Some(answer);
        }
        if let Some(endpoint) = ctx.current.runtime.sign_in.endpoint(session.req_header().uri.path()) {
            ctx.endpoint = Some(endpoint);
            // Boxed, so that the room a login needs is not moved about with every other request.
            return Some(Box::pin(answer_login(session, ctx, endpoint)).await);
        }
        if let Some(answer) = decide::find_route(session, ctx).or_else(|| limits::admit_address(ctx)) {
            return Some(answer);
        }
        decide::authenticate(session.req_header(), ctx).await.or_else(|| limits::admit_caller(ctx))
    }

    fn write_access_log(&self, session: &Session, ctx: &Context, status: u16) {
        let request = session.req_header();
        self.access_log.write(&Entry {
            timestamp: ctx.now,
            request_id: ctx.request_id.as_str(),
            client_address: ctx.caller.client,
            method: logged_method(&request.method),
            scheme: if ctx.is_https { "https" } else { "http" },
            version: request.version,
            host: Some(&*ctx.host).filter(|host| !host.is_empty()),
            path: request.uri.path(),
            route: ctx.route.as_deref().map(|route| &*route.name),
            decision: ctx.outcome.decision,
            reason: ctx.outcome.reason,
            status,
            app: ctx.app(),
            subject: ctx.subject_hash(),
            upstream: ctx.upstream.as_deref().map(|upstream| &*upstream.name),
            upstream_address: ctx.tried.last().copied(),
            duration: self.shared.clock.instant().saturating_duration_since(ctx.started),
            upstream_duration: ctx.upstream_duration,
            request_bytes: session.body_bytes_read() as u64,
            response_bytes: session.body_bytes_sent() as u64,
        });
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.current.load_full(), self.shared.clock.as_ref(), self.request_ids.next())
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // Pingora's default adds a compression module that costs an allocation a request and is never used here.
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<()> {
        let limits = &ctx.current.runtime.limits;
        session.set_read_timeout(Some(limits.read_timeout.0));
        session.set_write_timeout(Some(limits.write_timeout.0));
        session.set_total_drain_timeout(Some(limits.read_timeout.0));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<bool> {
        let Some(response) = self.decide(session, ctx).await else { return Ok(false) };
        self.count_refusal(ctx.outcome);
        audit::note_answer(&self.shared.audit_log, session, ctx, response.status());
        respond::send(session, with_request_id(response, &ctx.request_id)).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        let (Some(route), Some(upstream)) = (&ctx.route, &ctx.upstream) else { return Err(undecided()) };
        let server = match &ctx.decision {
            Decision::Undecided => return Err(undecided()),
            Decision::Authenticated(authenticated) => {
                let openid = &authenticated.identity().subject.openid;
                upstream.choose(openid.as_str().as_bytes(), &ctx.tried, ctx.now)
            }
            Decision::Public => upstream.choose(&client_key(ctx.caller.client), &ctx.tried, ctx.now),
        };
        let server = server.ok_or_else(|| Error::new_in(ErrorType::ConnectNoRoute))?;
        ctx.in_flight = upstream.count(&server);
        ctx.tried.push(server.address);
        ctx.upstream_started = Some(self.shared.clock.instant());
        ctx.tunnel = ctx.is_websocket.then(Opened::default);
        Ok(upstream.peer(&server, route.read_timeout, ctx.tunnel.as_ref()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if matches!(ctx.decision, Decision::Undecided) {
            return Err(undecided());
        }
        forward::edit_request(session.req_header(), request, ctx)
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
            // An HTTP/2 stream may end with an empty frame. Pingora would write it as a last chunk of its own before
            // the last chunk, and the backend would read the second one as the beginning of the next request.
            // See https://github.com/cloudflare/pingora/issues/935
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
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            let Some(opened) = &ctx.tunnel else {
                // Passed on, it would leave the client in another protocol than the gateway.
                let what = "the backend switched protocols unasked";
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, what).into_up());
            };
            // A tunnel is silent for as long as the application likes; TCP notices when an end is gone.
            opened.set();
            session.set_read_timeout(None);
            ctx.watch = ctx.authenticated().map(|caller| self.watch(opened, caller, session, ctx));
        }
        ctx.upstream_duration = ctx.upstream_started.map(|started| self.since(started));
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        limits::tell(response, ctx)?;
        if session.req_header().version < Version::HTTP_11 {
            // A client of HTTP/1.0 knows no chunks; its answer ends with the connection. RFC 9112 §6.1.
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        forward::edit_response(response, ctx)
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
            // A kept connection had gone stale, which says nothing of the server: it may be asked again.
            ctx.tried.pop();
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
        if let (Some(upstream), Some(address)) = (&ctx.upstream, ctx.tried.last()) {
            upstream.failed(*address, ctx.now);
            // Nothing was sent, so another server may be asked whatever the method.
            error.set_retry(ctx.tried.len() < upstream.max_tries());
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let cut = ctx.tunnel.as_ref().and_then(Opened::cut_reason);
        let (status, reason) = cut.map_or_else(|| forward::failure(error), |reason| (None, reason));
        // A refusal whose answer found no client was counted, and keeps its reason.
        if !ctx.outcome.is_refusal() {
            ctx.outcome = Outcome::refused(reason);
            self.count_refusal(ctx.outcome);
        }
        if let Some(upstream) = &ctx.upstream
            && *error.esource() == ErrorSource::Upstream
            && cut.is_none()
        {
            self.shared.metrics.upstream_failures.with_label_values(&[&*upstream.name, reason]).inc();
        }
        tracing::debug!(request.id = %ctx.request_id, "request {} failed: {}", ctx.request_id, forward::described(error));
        if let Some(status) = status
            && session.response_written().is_none()
        {
            session.set_keepalive(None);
            let answer = respond::problem(status, reason, None, ctx.request_id.as_str());
            // The client may be gone; there is nobody left to tell.
            _ = respond::send(session, with_request_id(answer, &ctx.request_id)).await;
        }
        FailToProxy { error_code: status.map_or(0, |status| status.as_u16()), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        limits::count_answer(status, ctx);
        let runtime = &ctx.current.runtime;
        let metrics = runtime.route_metrics(ctx.route.as_ref().map(|route| route.index));
        metrics.count(&session.req_header().method, status);
        metrics.duration.observe(self.since(ctx.started).as_secs_f64());
        if let (Some(upstream), Some(duration)) = (&metrics.upstream_duration, ctx.upstream_duration) {
            upstream.observe(duration.as_secs_f64());
        }
        self.write_access_log(session, ctx, status);
    }

    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        ctx: &mut Context,
        context: Box<dyn Any + Send + Sync>,
    ) {
        // Every request of HTTP/1 has one, reused connection or not.
        ctx.break_off = context.downcast().ok().map(|break_off| *break_off);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        // The access log has the reason; Pingora's line for each failed request would be a flood.
        true
    }
}

impl Gateway {
    fn count_refusal(&self, outcome: Outcome) {
        if outcome.is_refusal() {
            self.shared.metrics.refused_requests.with_label_values(&[outcome.reason]).inc();
        }
    }

    fn watch(
        &self,
        tunnel: &Opened,
        authenticated: &Authenticated,
        session: &Session,
        ctx: &Context,
    ) -> Watch {
        let sessions = Arc::clone(&ctx.current.runtime.sessions);
        let Shared { clock, metrics, .. } = &self.shared;
        let last_words = Box::new(self.last_words(authenticated, session, ctx));
        let note = audit::note_of_end(&self.shared, authenticated, ctx);
        let standing = Standing {
            current: Arc::clone(&self.current),
            route: ctx.route.clone(),
            replaced: ctx.current.replaced(),
        };
        watch::watch(
            Ends { tunnel: tunnel.clone(), client: ctx.break_off.clone(), note, last_words },
            authenticated.clone(),
            standing,
            sessions,
            Arc::clone(clock),
            &metrics.watched_tunnels,
        )
    }

    /// Logs and counts a tunnel that is broken off, as is done with every other request at its end.
    fn last_words(
        &self,
        caller: &Authenticated,
        session: &Session,
        ctx: &Context,
    ) -> impl FnOnce(&'static str) + Send + 'static {
        let (shared, access_log) = (self.shared.clone(), Arc::clone(&self.access_log));
        let (current, route, upstream) = (Arc::clone(&ctx.current), ctx.route.clone(), ctx.upstream.clone());
        let (timestamp, request_id, client_address) = (ctx.now, ctx.request_id, ctx.caller.client);
        let (started, upstream_address) = (ctx.started, ctx.tried.last().copied());
        let upstream_duration = ctx.upstream_started.map(|started| self.since(started));
        let (host, path) = (ctx.host.clone(), session.req_header().uri.path().to_owned());
        let scheme = if ctx.is_https { "https" } else { "http" };
        let caller = caller.clone();
        move |reason| {
            let duration = shared.clock.instant().saturating_duration_since(started);
            let status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
            let metrics = current.runtime.route_metrics(route.as_ref().map(|route| route.index));
            metrics.count(&Method::GET, status);
            metrics.duration.observe(duration.as_secs_f64());
            shared.metrics.refused_requests.with_label_values(&[reason]).inc();
            access_log.write(&Entry {
                timestamp,
                request_id: request_id.as_str(),
                client_address,
                method: "GET",
                scheme,
                version: Version::HTTP_11,
                host: Some(&*host).filter(|host| !host.is_empty()),
                path: &path,
                route: route.as_deref().map(|route| &*route.name),
                decision: Outcome::REFUSED,
                reason,
                status,
                app: Some(caller.app()),
                subject: Some(caller.subject_hash()),
                upstream: upstream.as_deref().map(|upstream| &*upstream.name),
                upstream_address,
                duration,
                upstream_duration,
                // Nobody is left who counted them.
                request_bytes: 0,
                response_bytes: 0,
            });
        }
    }

    /// Breaks off a body that trickles: each byte would begin `limits.read_timeout` anew.
    fn check_body_rate(&self, session: &Session, ctx: &Context) -> pingora::Result<()> {
        let of_route = ctx.route.as_ref().and_then(|route| route.min_body_rate);
        let least = of_route.unwrap_or(ctx.current.runtime.limits.min_body_rate.0);
        let elapsed = self.since(ctx.started);
        let received = session.body_bytes_read() as u64;
        if elapsed < body::RATE_GRACE || received >= least.saturating_mul(elapsed.as_secs()) {
            return Ok(());
        }
        Err(Error::explain(ErrorType::ReadTimedout, "the body arrives too slowly").into_down())
    }

    fn since(&self, started: std::time::Instant) -> Duration {
        self.shared.clock.instant().saturating_duration_since(started)
    }
}

async fn answer_login(session: &mut Session, ctx: &mut Context, endpoint: Endpoint) -> Response<Bytes> {
    let sign_in = Arc::clone(&ctx.current.runtime.sign_in);
    let request_id = ctx.request_id;
    let client = ctx.caller.client;
    let request = http::request::Parts::clone(session.req_header());
    let answer = match sign_in.precheck(endpoint, &request, client, request_id.as_str()) {
        Err(answer) => answer,
        Ok(body_limit) => {
            let body = match body_limit {
                None => Ok(Bytes::new()),
                Some(limit) => body::read(session, limit.max_bytes, limit.timeout).await,
            };
            sign_in.respond(endpoint, &request, body, client, ctx.now, request_id.as_str()).await
        }
    };
    // Those who sign in with a browser are led on, which is an answer as any other.
    let status = answer.response.status();
    ctx.outcome = if status.is_success() || status.is_redirection() {
        Outcome::answered(answer.outcome)
    } else {
        Outcome::refused(answer.outcome)
    };
    if answer.app.is_some() {
        let hasher = ctx.current.runtime.authenticator.subject_hasher();
        let subject_hash = answer.identity.map(|identity| hasher.hash(&identity.subject));
        ctx.login = Some(Box::new(SigningIn { app: answer.app, subject_hash }));
    }
    answer.response
}

/// The method where the gateway knows it; any other is whatever a client wrote there. `_OTHER` is OpenTelemetry's word.
fn logged_method(method: &Method) -> &'static str {
    METHODS.iter().find(|known| *known == method).map_or("_OTHER", Method::as_str)
}

fn with_request_id(mut response: Response<Bytes>, request_id: &RequestId) -> Response<Bytes> {
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// What a consistent hash follows where nobody is signed in.
fn client_key(client: std::net::IpAddr) -> [u8; 16] {
    match client {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    }
}

/// A step was skipped: fail, do not forward.
fn undecided() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "the request was not decided").into_in()
}
