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
use tokio::sync::watch;

use super::Control;
use super::socket::ControlSocket;
use crate::management::{Door, Requester, read_body};
use crate::places::Places;

/// Longest wait for a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long no connection is accepted after one could not be: the process may have no free files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the socket until the shutdown. At most so many connections are open, and a command makes
/// one. Beyond them the user who has most loses the oldest.
pub async fn serve(
    socket: ControlSocket,
    control: Arc<Control>,
    max_connections: usize,
    mut shutdown: watch::Receiver<bool>,
) {
    let listener = match socket.listen() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("cannot serve {}: {error}", socket.path().display());
            return;
        }
    };
    let rejected = &control.management.shared().metrics.rejected_connections;
    let closed = rejected.with_label_values(&["too_many_of_door"]);
    let places = Places::new(max_connections);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The sender is gone when the gateway is.
            _ = shutdown.wait_for(|is_over| *is_over) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let user = stream.peer_cred().map(|peer| peer.uid()).ok();
                let (place, was_full) = places.take(user);
                if was_full {
                    closed.inc();
                }
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = serve_connection(stream, user, &control) => {}
                        () = place.lost() => tracing::debug!("closed an operator's connection: too many"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept an operator's connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection. `user` is the user whose process connected, as the kernel says.
async fn serve_connection(stream: UnixStream, user: Option<u32>, control: &Control) {
    let name = user.map_or_else(|| "unknown".to_owned(), |user| format!("uid:{user}"));
    let requester = Requester { door: Door::Control, name, address: None };
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
