//! What stands before Pingora's request loop, because Pingora does not defend it: a bound on open
//! connections, a deadline for what a client must send first (the PROXY protocol's header, its TLS
//! handshake, its request header), and the memory of a connection that has sent no whole request.
//!
//! Pingora restarts its read timer with every byte, so a client that trickles one byte at a time
//! could hold a connection for ever, with a header of up to a megabyte. Pingora has no timer while
//! it waits to see whether a connection speaks HTTP/2, and it makes TLS handshakes, a minute each,
//! before it asks whether there is room. So the guard does all of that, and gives Pingora a
//! connection only with a request.

mod door;
mod frames;
mod head;
mod hello;
mod http1;
mod http2;
mod listener;

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp as _, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::time::Instant;

pub use self::door::DoorGuard;
use self::http1::Http1;
use self::listener::GuardedListener;
use super::client_address::Networks;
use super::connections::{Connections, OpenConnection};
use super::current::Current;
use super::gateway::Gateway;
use super::stream_refusals::StreamRefusals;
use crate::config;

/// One listener's way into the gateway.
pub struct Guard(Arc<GuardedListener>);

/// What the guards of all listeners work with.
pub struct GuardServices {
    /// The gateway, as Pingora serves it, with the pool of upstream connections.
    pub proxy: Arc<HttpProxy<Gateway>>,
    /// The configuration in use.
    pub current: Arc<ArcSwap<Current>>,
    /// Counts connections.
    pub connections: Arc<Connections>,
    /// Records requests of HTTP/2 that Pingora refuses.
    pub stream_refusals: Arc<StreamRefusals>,
}

impl Guard {
    /// Guards a listener.
    pub fn new(
        config: &config::Listener,
        limits: &config::Limits,
        tls: Option<Acceptor>,
        services: &GuardServices,
    ) -> Self {
        Self(Arc::new(GuardedListener {
            proxy: Arc::clone(&services.proxy),
            current: Arc::clone(&services.current),
            connections: Arc::clone(&services.connections),
            stream_refusals: Arc::clone(&services.stream_refusals),
            balancers: Networks::new(&config.proxy_protocol),
            speaks_h2c: config.h2c && tls.is_none(),
            tls,
            idle_timeout: limits.h2.idle_timeout.0,
            h2_options: http2::options(limits),
            most_resets: http2::most_resets(limits),
            header_timeout: limits.header_timeout.0,
            keepalive_timeout: limits.keepalive_timeout.0,
            // A client that exceeds the limit by less gets an answer to its request that says so.
            max_head: limits.max_header.as_usize().saturating_mul(2),
        }))
    }
}

#[async_trait]
impl ServerApp for Guard {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let open = self.0.connections.open_connection()?;
        // In a task of its own: Pingora's task, which ends here, has room for a TLS handshake for
        // as long as it lasts.
        tokio::spawn(serve(Arc::clone(&self.0), stream, open, shutdown.clone()));
        None
    }

    async fn cleanup(&self) {
        self.0.proxy.http_cleanup().await;
    }
}

/// Serves a connection to its end.
async fn serve(
    listener: Arc<GuardedListener>,
    stream: Stream,
    mut open: OpenConnection,
    shutdown: ShutdownWatch,
) {
    #[expect(clippy::disallowed_methods, reason = "the deadline is tokio's, and so is its clock")]
    let deadline = Instant::now() + listener.header_timeout;
    let Some(mut stream) = listener.prepare(stream, &mut open, deadline).await else { return };
    if stream.selected_alpn_proto() != Some(ALPN::H2) {
        let http1 = Http1::new(&listener, stream, &shutdown);
        let Some(begun_as_http2) = http1.serve(deadline).await else { return };
        stream = begun_as_http2;
    }
    Box::pin(http2::serve(&listener, stream, deadline, &shutdown)).await;
}
