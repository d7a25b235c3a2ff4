//! What stands before Pingora's request loop and Pingora does not defend: a bound on open connections, and a
//! deadline for what a client must send before anything is known of it.
//!
//! Pingora restarts its read timer with every byte, so a client that trickles one byte at a time would hold a
//! connection for ever. It has no timer at all while it waits to see whether a connection speaks HTTP/2, and it
//! makes TLS handshakes, a minute each, before it asks us whether there is room; so they are made here.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{Notify, oneshot};

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
    tls_failed: IntCounter,
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
            tls_failed: metrics.rejected_connections.with_label_values(&["tls_failed"]),
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
pub struct Guard(Arc<Listener>);

/// What every connection of a listener shares.
struct Listener {
    proxy: Arc<HttpProxy<Gateway>>,
    connections: Arc<Connections>,
    tls: Option<Acceptor>,
    speaks_h2c: bool,
    options: HttpServerOptions,
    h2c_options: HttpServerOptions,
    h2_options: H2Options,
    first_header: Duration,
    next_header: Duration,
}

impl Guard {
    /// Guards a listener. `proxy` is shared by all of them, and with it the pool of upstream connections.
    pub fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        connections: Arc<Connections>,
        limits: &config::Limits,
        tls: Option<Acceptor>,
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
        Self(Arc::new(Listener {
            proxy,
            connections,
            tls,
            speaks_h2c,
            options,
            h2c_options,
            h2_options,
            first_header: limits.header_timeout.0,
            next_header: limits.keepalive_timeout.0 + limits.header_timeout.0,
        }))
    }
}

#[async_trait]
impl ServerApp for Guard {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let listener = &self.0;
        let _open = listener.connections.admit()?;
        let first_request = Arc::new(Notify::new());
        let mut served = Box::pin(async {
            let mut stream = listener.handshake(stream).await?;
            let is_h2c = listener.speaks_h2c && begins_as_http2(&mut stream).await;
            let first_request = Arc::clone(&first_request);
            let (listener, end) = (Arc::clone(listener), Arc::default());
            let http = Arc::new(HeaderDeadline { listener, is_h2c, first_request, end });
            http.process_new(stream, shutdown).await
        });
        tokio::select! {
            biased;
            ended = &mut served => return ended,
            () = first_request.notified() => {}
            () = tokio::time::sleep(listener.first_header) => {
                listener.connections.slow_header.inc();
                return None;
            }
        }
        served.await
    }

    async fn cleanup(&self) {
        self.0.proxy.http_cleanup().await;
    }
}

impl Listener {
    /// The stream as the client means it: decrypted where the listener speaks TLS.
    async fn handshake(&self, stream: Stream) -> Option<Stream> {
        let Some(tls) = &self.tls else { return Some(stream) };
        // Pingora's own accept loop, which knows no TLS here, hands over nothing but TCP.
        let stream = stream.into_any().downcast::<TcpStream>().ok()?;
        match tls.tls_handshake(*stream).await {
            Ok(stream) => Some(Box::new(stream)),
            Err(error) => {
                self.connections.tls_failed.inc();
                tracing::debug!("a TLS handshake failed: {error}");
                None
            }
        }
    }
}

/// Whether a connection begins as the preface of HTTP/2 does. Pingora waits for the whole preface before it believes
/// that it is none, and the shortest requests are shorter.
async fn begins_as_http2(stream: &mut Stream) -> bool {
    let mut start = [0; 3];
    matches!(stream.try_peek(&mut start).await, Ok(true)) && start == *b"PRI"
}

/// One connection. Gives a client so long for each header, whatever it sends.
struct HeaderDeadline {
    listener: Arc<Listener>,
    is_h2c: bool,
    /// Told when the connection has become HTTP: for HTTP/1 before a header is read, for HTTP/2 after.
    first_request: Arc<Notify>,
    /// Told when the connection is to be broken off.
    end: Arc<Notify>,
}

/// Travels with a request as its connection's context; Pingora hands it over once the header is parsed.
pub(super) struct HeaderRead {
    signal: oneshot::Sender<()>,
    end: Arc<Notify>,
}

/// Breaks a connection off in the middle of whatever it does: for one that is stuck, and would not hear of anything.
#[derive(Clone)]
pub(super) struct BreakOff(Arc<Notify>);

impl BreakOff {
    /// Ends the connection without another word: whoever does so logs it.
    pub(super) fn now(&self) {
        self.0.notify_one();
    }
}

/// Marks a connection that has carried a request before; zero-sized, so that boxing it costs nothing.
pub(super) struct Reused;

impl HeaderRead {
    /// Takes the signal out of a connection's context and gives it; what is left can break the connection off.
    pub(super) fn signal(context: Box<dyn Any + Send + Sync>) -> Option<BreakOff> {
        let Self { signal, end } = *context.downcast::<Self>().ok()?;
        // The receiver is gone only when the deadline has passed already.
        _ = signal.send(());
        Some(BreakOff(end))
    }
}

#[async_trait]
impl HttpServerApp for HeaderDeadline {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let listener = &self.listener;
        self.first_request.notify_one();
        if session.is_http2() {
            return listener.proxy.process_new_http(session, shutdown).await;
        }
        let is_reused = session.take_connection_user_context().is_some();
        let deadline = if is_reused { listener.next_header } else { listener.first_header };
        let (signal, header_read) = oneshot::channel();
        let end = Arc::clone(&self.end);
        session.set_connection_user_context(Some(Box::new(HeaderRead { signal, end })));

        let mut request = listener.proxy.process_new_http(session, shutdown);
        tokio::select! {
            biased;
            reused = &mut request => return reused,
            _ = header_read => {}
            () = tokio::time::sleep(deadline) => {
                if !is_reused {
                    listener.connections.slow_header.inc();
                }
                return None;
            }
        }
        tokio::select! {
            biased;
            reused = request => reused,
            () = self.end.notified() => None,
        }
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        let Listener { options, h2c_options, .. } = &*self.listener;
        Some(if self.is_h2c { h2c_options } else { options })
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.listener.h2_options.clone())
    }
}
