//! Accepts the connections of programs and serves them: a bound on all of them and on those of one
//! address, and a deadline for each handshake and header.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Internal;
use crate::management::read_body;

/// Most connections at once. The gateway keeps back more files than these.
const MAX_CONNECTIONS: usize = 512;
/// Most connections of one address at once.
const MAX_PER_ADDRESS: usize = 256;
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
}

/// Serves the listener until the shutdown.
pub async fn serve(listener: InternalListener, internal: Arc<Internal>, mut shutdown: watch::Receiver<bool>) {
    let InternalListener { socket, tls } = listener;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!("cannot serve the internal listener: {error}");
            return;
        }
    };
    let (tls, open) = (Arc::new(tls), Arc::new(OpenConnections::default()));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            // The sender is gone when the gateway is.
            _ = shutdown.wait_for(|is_over| *is_over) => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let Some(place) = open.take(client.ip()) else {
                    tracing::debug!(client.address = %client.ip(), "closed an internal connection: too many");
                    continue;
                };
                let (tls, internal) = (Arc::clone(&tls), Arc::clone(&internal));
                tokio::spawn(async move {
                    prepare(stream, client, (*tls).as_ref(), &internal).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept an internal connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Decrypts a connection if the listener speaks TLS, and serves it.
async fn prepare(stream: TcpStream, client: SocketAddr, tls: Option<&Acceptor>, internal: &Internal) {
    // An answer is one small write: waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve_connection(stream, client, internal).await };
    let handshake = tls.tls_handshake(Stream::from(stream));
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => serve_connection(stream, client, internal).await,
        Ok(Err(error)) => tracing::debug!(client.address = %client.ip(), "a TLS handshake failed: {error}"),
        Err(_) => tracing::debug!(client.address = %client.ip(), "a TLS handshake took too long"),
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    client: SocketAddr,
    internal: &Internal,
) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, incoming) = request.into_parts();
        let response = internal.answer(&parts, client, read_body(incoming)).await;
        Ok::<_, Infallible>(response.map(|body| Full::new(Bytes::from(body))))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(client.address = %client.ip(), "an internal connection failed: {error}");
    }
}

/// Counts the open connections.
#[derive(Debug, Default)]
struct OpenConnections(Mutex<HashMap<IpAddr, usize>>);

/// The place of one connection. Dropping it frees the place.
struct Place {
    open: Arc<OpenConnections>,
    client: IpAddr,
}

impl OpenConnections {
    /// Takes a place; `None` if there is none.
    fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut counts = self.0.lock();
        let all: usize = counts.values().sum();
        let own = counts.entry(client).or_default();
        if all >= MAX_CONNECTIONS || *own >= MAX_PER_ADDRESS {
            if *own == 0 {
                counts.remove(&client);
            }
            return None;
        }
        *own += 1;
        Some(Place { open: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock();
        if let Some(own) = counts.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_every_place() {
        let open = Arc::new(OpenConnections::default());
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let mut places: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| open.take(address(1)).unwrap()).collect();

        assert!(open.take(address(1)).is_none());
        places.extend((0..MAX_PER_ADDRESS).map(|_| open.take(address(2)).unwrap()));
        assert!(open.take(address(3)).is_none(), "every place is taken");
        assert_eq!(open.0.lock().len(), 2, "a refused address is not kept");

        places.clear();
        assert!(open.take(address(3)).is_some());
        assert!(open.0.lock().is_empty());
    }
}
