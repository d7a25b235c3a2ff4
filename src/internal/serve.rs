//! Accepts the connections of programs and serves them: a bound on their number, beyond which the
//! address that has most loses its oldest, and a deadline for each handshake and header.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Internal;
use super::wechat_api::CallForm;
use crate::address::client_network;
use crate::management::read_body;
use crate::places::{Place, Places};
use crate::telemetry::metrics::Metrics;

/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a request's header, which is the longest idle time too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long no connection is accepted after one could not be: the process may have no free files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound address, and the TLS that is spoken there.
pub struct InternalListener {
    /// Bound, and not blocking.
    pub socket: std::net::TcpListener,
    /// `None` for plain HTTP.
    pub tls: Option<Acceptor>,
    /// Most connections at once.
    pub max_connections: usize,
    /// Whether every request is a call of WeChat's API, by the one client that shows no token.
    pub is_wechat_alias: bool,
}

/// What the connections of the listener share.
struct InternalDoor {
    internal: Arc<Internal>,
    is_wechat_alias: bool,
    tls: Option<Acceptor>,
    places: Arc<Places<IpAddr>>,
    closed: ClosedConnections,
}

/// Counters of connections that the gateway closed.
struct ClosedConnections {
    too_many: IntCounter,
    slow_header: IntCounter,
    tls_failed: IntCounter,
}

impl ClosedConnections {
    fn new(metrics: &Metrics) -> Self {
        let closed = |reason| metrics.rejected_connections.with_label_values(&[reason]);
        Self {
            too_many: closed("too_many_of_door"),
            slow_header: closed("header_timeout"),
            tls_failed: closed("tls_failed"),
        }
    }
}

/// Serves the listener until the shutdown.
pub async fn serve(listener: InternalListener, internal: Arc<Internal>, mut shutdown: watch::Receiver<bool>) {
    let InternalListener { socket, tls, max_connections, is_wechat_alias } = listener;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!("cannot serve the internal listener: {error}");
            return;
        }
    };
    let closed = ClosedConnections::new(&internal.management.shared().metrics);
    let places = Places::new(max_connections);
    let door = Arc::new(InternalDoor { internal, is_wechat_alias, tls, places, closed });
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // The sender is gone when the gateway is.
            _ = shutdown.wait_for(|is_over| *is_over) => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let place = door.take_place(client.ip());
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = door.prepare(stream, client) => {}
                        () = place.lost() => {
                            tracing::debug!(client.address = %client.ip(), "closed an internal connection: too many");
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept an internal connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl InternalDoor {
    /// Gives a connection a place. If all are taken, another connection loses its own.
    fn take_place(&self, client: IpAddr) -> Place<IpAddr> {
        let (place, was_full) = self.places.take(client_network(client));
        if was_full {
            self.closed.too_many.inc();
        }
        place
    }

    /// Decrypts a connection if the listener speaks TLS, and serves it.
    async fn prepare(&self, stream: TcpStream, client: SocketAddr) {
        // An answer is one small write: waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.serve_connection(stream, client).await };
        let handshake = tls.tls_handshake(Stream::from(stream));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => self.serve_connection(stream, client).await,
            Ok(Err(error)) => {
                self.closed.tls_failed.inc();
                tracing::debug!(client.address = %client.ip(), "a TLS handshake failed: {error}");
            }
            Err(_) => {
                self.closed.slow_header.inc();
                tracing::debug!(client.address = %client.ip(), "a TLS handshake took too long");
            }
        }
    }

    async fn serve_connection<S>(&self, stream: S, client: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| async move {
            let (parts, incoming) = request.into_parts();
            let form = if self.is_wechat_alias { Some(CallForm::Alias) } else { CallForm::of(&parts) };
            Ok::<_, Infallible>(match form {
                Some(form) => self.internal.answer_call(form, &parts, client, incoming).await,
                None => self.internal.answer(&parts, client, read_body(incoming)).await,
            })
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            if error.is_timeout() {
                self.closed.slow_header.inc();
            }
            tracing::debug!(client.address = %client.ip(), "an internal connection failed: {error}");
        }
    }
}
