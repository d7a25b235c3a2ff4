//! What stands before Pingora's request loop and Pingora does not defend: a bound on open connections, a deadline for what
//! a client must send before anything is known of it (who it is, where a load balancer says so, its TLS handshake, its
//! header), and the memory of a connection that has sent no whole request.
//!
//! Pingora restarts its read timer with every byte, so a client that trickles one byte at a time would hold a
//! connection for ever, and takes a header of a megabyte. It has no timer at all while it waits to see whether a
//! connection speaks HTTP/2, and it makes TLS handshakes, a minute each, before it asks us whether there is room. So all
//! that is done here, and Pingora is given what is a request already.

mod head;
mod http1;
mod http2;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp as _, HttpServerOptions, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::{ALPN, SocketDigest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

use self::http1::Http1;
use super::client_address::TrustedProxies;
use super::connections::{Connections, OpenConnection};
use super::proxy_protocol::{self, Said};
use super::{Current, Gateway};
use crate::config;

pub(super) use self::http1::BreakOff;

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
    /// HTTP/2 without TLS, for clients that begin with it.
    speaks_h2c: bool,
    http2: HttpServerOptions,
    h2_options: H2Options,
    header_timeout: Duration,
    keepalive_timeout: Duration,
    /// Bytes of a header that are kept while it has no end.
    max_head: usize,
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
        Self(Arc::new(Listener {
            proxy,
            current,
            connections,
            balancers: TrustedProxies::new(&config.proxy_protocol),
            speaks_h2c: config.h2c && tls.is_none(),
            tls,
            http2: http2::server_options(limits),
            h2_options: http2::options(limits),
            header_timeout: limits.header_timeout.0,
            keepalive_timeout: limits.keepalive_timeout.0,
            // Whoever exceeds the limit by less is told so by the request's own answer.
            max_head: limits.max_header.as_usize().saturating_mul(2),
        }))
    }
}

#[async_trait]
impl ServerApp for Guard {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let open = self.0.connections.admit()?;
        // In a task of its own: Pingora's, which ends here, has room for a TLS handshake for as long as it lasts.
        tokio::spawn(serve(Arc::clone(&self.0), stream, open, shutdown.clone()));
        None
    }

    async fn cleanup(&self) {
        self.0.proxy.http_cleanup().await;
    }
}

/// Serves a connection to its end.
async fn serve(listener: Arc<Listener>, stream: Stream, mut open: OpenConnection, shutdown: ShutdownWatch) {
    let deadline = Instant::now() + listener.header_timeout;
    let Some(mut stream) = listener.prepare(stream, &mut open, deadline).await else { return };
    if stream.selected_alpn_proto() != Some(ALPN::H2) {
        let http1 = Http1::new(&listener, stream, &shutdown);
        let Some(begun_as_http2) = http1.serve(deadline).await else { return };
        stream = begun_as_http2;
    }
    Box::pin(http2::serve(&listener, stream, deadline, &shutdown)).await;
}

impl Listener {
    /// Does what comes before HTTP.
    async fn prepare(&self, stream: Stream, open: &mut OpenConnection, deadline: Instant) -> Option<Stream> {
        if self.balancers.is_empty() && self.tls.is_none() {
            let peer = peer(&stream)?;
            return self.count(peer, open).map(|()| stream);
        }
        // Boxed, so that the room it takes is given back before the first request.
        let prepared = Box::pin(async {
            let stream = self.identify(stream, open).await?;
            self.handshake(stream).await
        });
        if let Ok(stream) = tokio::time::timeout_at(deadline, prepared).await {
            return stream;
        }
        self.connections.rejected().slow_header.inc();
        None
    }

    /// Counts a connection as one of its client's. Connections of trusted proxies are not counted: they carry other
    /// people's requests.
    fn count(&self, client: IpAddr, open: &mut OpenConnection) -> Option<()> {
        if self.current.load().trusted_proxies.trusts(client) { Some(()) } else { open.of(client) }
    }

    /// Finds out who the client is, and counts it.
    async fn identify(&self, mut stream: Stream, open: &mut OpenConnection) -> Option<Stream> {
        let peer = peer(&stream)?;
        let client = if self.balancers.is_empty() { peer } else { self.introduce(&mut stream, peer).await? };
        self.count(client, open)?;
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
        let stream = tcp(stream)?;
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

fn peer(stream: &Stream) -> Option<IpAddr> {
    Some(stream.get_socket_digest()?.peer_addr()?.as_inet()?.ip())
}

/// The connection itself. Pingora's own accept loop, which knows no TLS here, hands over nothing else.
fn tcp(stream: Stream) -> Option<Box<TcpStream>> {
    stream.into_any().downcast().ok()
}
