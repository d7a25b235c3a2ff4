//! What stands before Pingora's request loop and Pingora does not defend: a deadline for a whole header, and a
//! bound on open connections.
//!
//! Pingora restarts its read timer with every byte, so a client that trickles one byte at a time would hold a
//! connection for ever; and it has no timer at all while it looks for the preface of HTTP/2 and waits for the first
//! request after it.

use std::any::Any;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::oneshot;

use super::Gateway;
use crate::config;
use crate::telemetry::metrics::Metrics;

/// Counts connections, for all listeners together.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    most: usize,
    gauge: IntGauge,
    over_limit: IntCounter,
    slow_header: IntCounter,
}

impl Connections {
    /// Starts with none open.
    pub fn new(limits: &config::Limits, metrics: &Metrics) -> Self {
        Self {
            open: AtomicUsize::new(0),
            most: limits.max_connections,
            gauge: metrics.open_connections.clone(),
            over_limit: metrics.rejected_connections.with_label_values(&["too_many"]),
            slow_header: metrics.rejected_connections.with_label_values(&["header_timeout"]),
        }
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn admit(self: &Arc<Self>) -> Option<OpenConnection> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let connection = OpenConnection(Arc::clone(self));
        self.gauge.inc();
        if before < self.most {
            return Some(connection);
        }
        self.over_limit.inc();
        None
    }
}

struct OpenConnection(Arc<Connections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

/// One listener's way into the gateway.
pub struct Guard {
    listener: Arc<Listener>,
    connections: Arc<Connections>,
    speaks_h2c: bool,
}

/// What all connections of a listener share.
struct Listener {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    h2c_options: HttpServerOptions,
    h2_options: H2Options,
    first: Duration,
    next: Duration,
    slow_header: IntCounter,
}

impl Guard {
    /// Guards a listener. `proxy` is shared by all of them, and with it the pool of upstream connections.
    pub fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        connections: Arc<Connections>,
        limits: &config::Limits,
        speaks_h2c: bool,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.h2.idle_timeout.0);
        let mut h2c_options = options.clone();
        h2c_options.h2c = true;
        let mut h2_options = default_h2_options();
        h2_options.max_concurrent_streams(limits.h2.max_concurrent_streams);
        h2_options
            .max_header_list_size(u32::try_from(limits.max_header.0).unwrap_or(u32::MAX).saturating_mul(2));
        let listener = Listener {
            proxy,
            options,
            h2c_options,
            h2_options,
            first: limits.header_timeout.0,
            next: limits.keepalive_timeout.0 + limits.header_timeout.0,
            slow_header: connections.slow_header.clone(),
        };
        Self { listener: Arc::new(listener), connections, speaks_h2c }
    }

    async fn serve(
        &self,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
        has_begun: &Arc<AtomicBool>,
    ) -> Option<Stream> {
        let is_h2c = self.speaks_h2c && begins_as_http2(&mut stream).await;
        let connection =
            Connection { listener: Arc::clone(&self.listener), is_h2c, has_begun: Arc::clone(has_begun) };
        Arc::new(connection).process_new(stream, shutdown).await
    }
}

#[async_trait]
impl ServerApp for Guard {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let _open = self.connections.admit()?;
        let has_begun = Arc::new(AtomicBool::new(false));
        let mut serving = pin!(self.serve(stream, shutdown, &has_begun));
        if let Ok(stream) = tokio::time::timeout(self.listener.first, &mut serving).await {
            return stream;
        }
        if !has_begun.load(Ordering::Relaxed) {
            self.connections.slow_header.inc();
            return None;
        }
        serving.await
    }

    async fn cleanup(&self) {
        self.listener.proxy.http_cleanup().await;
    }
}

/// Whether a connection begins as the preface of HTTP/2 does. Pingora waits for the whole preface before it believes
/// that it is none, and the shortest requests are shorter.
async fn begins_as_http2(stream: &mut Stream) -> bool {
    let mut start = [0; 3];
    matches!(stream.try_peek(&mut start).await, Ok(true)) && start == *b"PRI"
}

/// One connection: gives a client so long for each header, whatever it sends.
struct Connection {
    listener: Arc<Listener>,
    is_h2c: bool,
    /// Whether the requests' own deadlines have taken over: from the start with HTTP/1, from the first request with
    /// HTTP/2.
    has_begun: Arc<AtomicBool>,
}

/// Travels with a request as its connection's context; Pingora hands it over once the header is parsed.
pub(super) struct HeaderRead(oneshot::Sender<()>);

/// Marks a connection that has carried a request before; zero-sized, so that boxing it costs nothing.
pub(super) struct Reused;

impl HeaderRead {
    /// Takes the signal out of a connection's context and gives it.
    pub(super) fn signal(context: Box<dyn Any + Send + Sync>) {
        if let Ok(signal) = context.downcast::<Self>() {
            // The receiver is gone only when the deadline has passed already.
            _ = signal.0.send(());
        }
    }
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.has_begun.store(true, Ordering::Relaxed);
        let listener = &self.listener;
        if session.is_http2() {
            return listener.proxy.process_new_http(session, shutdown).await;
        }
        let is_reused = session.take_connection_user_context().is_some();
        let deadline = if is_reused { listener.next } else { listener.first };
        let (signal, header_read) = oneshot::channel();
        session.set_connection_user_context(Some(Box::new(HeaderRead(signal))));

        let mut request = listener.proxy.process_new_http(session, shutdown);
        tokio::select! {
            biased;
            reused = &mut request => return reused,
            _ = header_read => {}
            () = tokio::time::sleep(deadline) => {
                if !is_reused {
                    listener.slow_header.inc();
                }
                return None;
            }
        }
        request.await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        let Listener { options, h2c_options, .. } = &*self.listener;
        Some(if self.is_h2c { h2c_options } else { options })
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.listener.h2_options.clone())
    }
}
