//! What stands before Pingora's request loop and Pingora does not defend: a bound on open connections, and a
//! deadline for what a client must send before anything is known of it: who it is, where a load balancer says so, its
//! TLS handshake, its header.
//!
//! Pingora restarts its read timer with every byte, so a client that trickles one byte at a time would hold a
//! connection for ever. It has no timer at all while it waits to see whether a connection speaks HTTP/2, and it
//! makes TLS handshakes, a minute each, before it asks us whether there is room; so they are made here.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::{SocketDigest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, oneshot};

use super::client_address::TrustedProxies;
use super::connections::{Connections, OpenConnection};
use super::proxy_protocol::{self, Said};
use super::{Current, Gateway};
use crate::config;

/// What HTTP/2 lets a client have under way, per stream and per connection: what HTTP/2 began with is enough for logins and
/// calls, and a connection never holds more than this of bodies that a backend does not take.
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_FRAME: u32 = 16 * 1024;
/// Bytes of an answer that wait for a client, per stream.
const H2_SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client opened and took back before they were looked at; more end the connection (CVE-2023-44487).
const H2_RESET_STREAMS: usize = 20;
/// Streams that were ended for a client's mistakes; more end the connection (CVE-2025-8671).
const H2_LOCAL_RESETS: usize = 100;

/// One listener's way into the gateway.
pub struct Guard(Arc<Listener>);

/// What every connection of a listener shares.
struct Listener {
    proxy: Arc<HttpProxy<Gateway>>,
    current: Arc<ArcSwap<Current>>,
    connections: Arc<Connections>,
    /// Peers that begin with a header of the PROXY protocol; where there are any, nobody else is served.
    balancers: TrustedProxies,
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
        config: &config::Listener,
        proxy: Arc<HttpProxy<Gateway>>,
        current: Arc<ArcSwap<Current>>,
        connections: Arc<Connections>,
        limits: &config::Limits,
        tls: Option<Acceptor>,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.h2.idle_timeout.0);
        let mut h2c_options = options.clone();
        h2c_options.h2c = true;
        let mut h2_options = default_h2_options();
        h2_options.max_concurrent_streams(limits.h2.max_concurrent_streams);
        h2_options.initial_window_size(H2_STREAM_WINDOW);
        h2_options.initial_connection_window_size(H2_CONNECTION_WINDOW);
        h2_options.max_frame_size(H2_FRAME);
        h2_options.max_send_buffer_size(H2_SEND_BUFFER);
        h2_options.max_pending_accept_reset_streams(H2_RESET_STREAMS);
        h2_options.max_local_error_reset_streams(Some(H2_LOCAL_RESETS));
        h2_options
            .max_header_list_size(u32::try_from(limits.max_header.0).unwrap_or(u32::MAX).saturating_mul(2));
        Self(Arc::new(Listener {
            proxy,
            current,
            connections,
            balancers: TrustedProxies::new(&config.proxy_protocol),
            tls,
            speaks_h2c: config.h2c,
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
        let mut open = listener.connections.admit()?;
        let first_request = Arc::new(Notify::new());
        let mut served = Box::pin(async {
            let stream = listener.identify(stream, &mut open).await?;
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
                listener.connections.rejected().slow_header.inc();
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
    /// Finds out who the client is, and counts it. Connections of trusted proxies are not counted: they carry other
    /// people's requests.
    async fn identify(&self, mut stream: Stream, open: &mut OpenConnection) -> Option<Stream> {
        let digest = stream.get_socket_digest()?;
        let peer = digest.peer_addr()?.as_inet()?.ip();
        let client = if self.balancers.is_empty() { peer } else { self.introduce(&mut stream, peer).await? };
        if !self.current.load().trusted_proxies.trusts(client) {
            open.of(client)?;
        }
        Some(stream)
    }

    /// Takes the client's address from a load balancer. Whoever is none, or says nothing, is not served: it would be
    /// taken for a client that nobody vouches for.
    async fn introduce(&self, stream: &mut Stream, peer: IpAddr) -> Option<IpAddr> {
        let said = if self.balancers.trusts(peer) { proxy_protocol::read(stream).await.ok() } else { None };
        match said {
            None => {
                self.connections.rejected().proxy_protocol.inc();
                None
            }
            Some(Said::Own) => Some(peer),
            Some(Said::Client(address)) => {
                let digest = SocketDigest::from_raw_fd(stream.id());
                digest.peer_addr.set(Some(address.into())).ok()?;
                stream.set_socket_digest(digest);
                Some(address.ip())
            }
        }
    }

    /// The stream as the client means it: decrypted where the listener speaks TLS.
    async fn handshake(&self, stream: Stream) -> Option<Stream> {
        let Some(tls) = &self.tls else { return Some(stream) };
        // Pingora's own accept loop, which knows no TLS here, hands over nothing but TCP.
        let stream = stream.into_any().downcast::<TcpStream>().ok()?;
        let _counted = self.connections.admit_handshake()?;
        match tls.tls_handshake(*stream).await {
            Ok(stream) => Some(Box::new(stream)),
            Err(error) => {
                self.connections.rejected().tls_failed.inc();
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
                    listener.connections.rejected().slow_header.inc();
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
