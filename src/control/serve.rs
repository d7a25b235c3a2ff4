//! Accepts the connections of operators and serves them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};

use super::Control;
use super::socket::ControlSocket;
use crate::management::{Door, Requester, read_body};

/// Most connections at once. A command makes one.
const MAX_CONNECTIONS: usize = 64;
/// Longest wait for a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long no connection is accepted after one could not be: the process may have no free files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the socket until the shutdown.
pub async fn serve(socket: ControlSocket, control: Arc<Control>, mut shutdown: watch::Receiver<bool>) {
    let listener = match socket.listen() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("cannot serve {}: {error}", socket.path().display());
            return;
        }
    };
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let place = Arc::clone(&room).acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            } => accepted,
            // The sender is gone when the gateway is.
            _ = shutdown.wait_for(|is_over| *is_over) => return,
        };
        match accepted {
            Some((place, Ok((stream, _)))) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    serve_connection(stream, &control).await;
                    drop(place);
                });
            }
            Some((_, Err(error))) => {
                tracing::warn!("cannot accept an operator's connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None => return,
        }
    }
}

async fn serve_connection(stream: UnixStream, control: &Control) {
    let requester = requester(&stream);
    let service = service_fn(|request: Request<Incoming>| {
        let requester = &requester;
        async move {
            let (parts, incoming) = request.into_parts();
            let response = control.answer(&parts, requester, read_body(incoming)).await;
            Ok::<_, Infallible>(response.map(|body| Full::new(Bytes::from(body))))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("an operator's connection failed: {error}");
    }
}

/// The user whose process connected, as the kernel says.
fn requester(stream: &UnixStream) -> Requester {
    let name = stream.peer_cred().map_or_else(|_| "unknown".to_owned(), |peer| format!("uid:{}", peer.uid()));
    Requester { door: Door::Control, name, address: None }
}
