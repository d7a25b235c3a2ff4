//! What the connections of one listener share, and what is done with each before HTTP: the client's
//! address from a load balancer, the count of its connections, the TLS handshake.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::{SocketDigest, Stream};
use pingora::proxy::HttpProxy;
use tokio::time::Instant;

use super::super::client_address::Networks;
use super::super::connections::{Connections, OpenConnection};
use super::super::current::Current;
use super::super::gateway::Gateway;
use super::super::proxy_protocol::{self, ProxyHeader};
use super::super::stream_refusals::StreamRefusals;
use super::hello;

/// How long a client may take for its first message of TLS, which it sends at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// What the connections of one listener share.
pub(super) struct GuardedListener {
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) connections: Arc<Connections>,
    pub(super) stream_refusals: Arc<StreamRefusals>,
    /// Peers that begin with a header of the PROXY protocol. If there are any, no other peer is
    /// served.
    pub(super) balancers: Networks,
    pub(super) tls: Option<Acceptor>,
    /// HTTP/2 without TLS, for clients that begin with its preface.
    pub(super) speaks_h2c: bool,
    /// Of a connection that speaks HTTP/2.
    pub(super) idle_timeout: Duration,
    pub(super) h2_options: H2Options,
    /// How many requests a client of HTTP/2 may take back at once.
    pub(super) most_resets: u64,
    pub(super) header_timeout: Duration,
    pub(super) keepalive_timeout: Duration,
    /// Bytes of a header that are kept before its end has arrived.
    pub(super) max_head: usize,
}

impl GuardedListener {
    /// Prepares a connection for HTTP, before the deadline.
    pub(super) async fn prepare(
        &self,
        stream: Stream,
        open: &mut OpenConnection,
        deadline: Instant,
    ) -> Option<Stream> {
        if self.balancers.is_empty() && self.tls.is_none() {
            let peer = peer(&stream)?;
            return self.count(peer, open).map(|()| stream);
        }
        // Boxed, so that its memory is freed before the first request.
        let prepared = Box::pin(async {
            let (stream, client) = self.identify(stream, open).await?;
            self.handshake(stream, client).await
        });
        if let Ok(stream) = tokio::time::timeout_at(deadline, prepared).await {
            return stream;
        }
        self.connections.rejected().slow_header.inc();
        None
    }

    /// Counts a connection for its client. Connections of trusted proxies are not counted: they
    /// carry the requests of many clients.
    fn count(&self, client: IpAddr, open: &mut OpenConnection) -> Option<()> {
        if self.current.load().trusted_proxies.trusts(client) { Some(()) } else { open.count_for(client) }
    }

    /// Finds the client's address, and counts the connection for it.
    async fn identify(&self, mut stream: Stream, open: &mut OpenConnection) -> Option<(Stream, IpAddr)> {
        let peer = peer(&stream)?;
        let client = if self.balancers.is_empty() {
            peer
        } else {
            self.read_client_address(&mut stream, peer).await?
        };
        self.count(client, open)?;
        Some((stream, client))
    }

    /// Reads the client's address from a load balancer. A peer that is no balancer, or sends no
    /// header, is not served: the gateway cannot know which client it serves.
    async fn read_client_address(&self, stream: &mut Stream, peer: IpAddr) -> Option<IpAddr> {
        let header =
            if self.balancers.contain(peer) { proxy_protocol::read(stream).await.ok() } else { None };
        match header {
            None => {
                self.connections.rejected().proxy_protocol.inc();
                None
            }
            Some(ProxyHeader::Local) => Some(peer),
            Some(ProxyHeader::Proxied(address)) => {
                let digest = SocketDigest::from_raw_fd(stream.id());
                digest.peer_addr.set(Some(address.into())).ok()?;
                stream.set_socket_digest(digest);
                Some(address.ip())
            }
        }
    }

    /// Decrypts the stream if the listener speaks TLS.
    ///
    /// The handshake begins once the client's first message has arrived. Until then the client has
    /// no place among the handshakes.
    async fn handshake(&self, stream: Stream, client: IpAddr) -> Option<Stream> {
        let Some(tls) = &self.tls else { return Some(stream) };
        let mut stream = tcp(stream)?;
        let Ok(read) = tokio::time::timeout(HELLO_TIMEOUT, hello::read(&mut stream)).await else {
            self.connections.rejected().slow_header.inc();
            return None;
        };
        stream.rewind(&read?);
        let place = self.connections.begin_handshake(client);
        let shaken = tokio::select! {
            biased;
            shaken = tls.tls_handshake(*stream) => shaken,
            () = place.lost() => return None,
        };
        match shaken {
            Ok(stream) => Some(Box::new(stream)),
            Err(error) => {
                self.connections.rejected().tls_failed.inc();
                tracing::debug!("a TLS handshake failed: {error}");
                None
            }
        }
    }
}

/// The address at the other end of a connection.
pub(super) fn peer(stream: &Stream) -> Option<IpAddr> {
    Some(stream.get_socket_digest()?.peer_addr()?.as_inet()?.ip())
}

/// Returns the TCP stream itself. Pingora's accept loop, which does no TLS here, hands over nothing
/// else.
pub(super) fn tcp(stream: Stream) -> Option<Box<TcpStream>> {
    stream.into_any().downcast().ok()
}
