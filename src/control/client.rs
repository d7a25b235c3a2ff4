//! A small HTTP/1.1 client for the commands that ask a gateway on this machine: one connection for
//! one request, and the whole answer in memory.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::socket::shortest;

/// Largest answer, in bytes: a list of some hundred thousand blocked people.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Sends a request to the gateway that has this socket, and reads the whole answer. The request
/// must have a `Host` header.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] after `timeout`; otherwise the error of the connection or the
/// protocol.
pub async fn send(socket: &Path, request: Request<Bytes>, timeout: Duration) -> io::Result<Response<Bytes>> {
    send_over(UnixStream::connect(shortest(socket)), request, timeout).await
}

/// As [`send`], over a connection that the caller opens.
///
/// # Errors
/// As [`send`].
pub async fn send_over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connect: impl Future<Output = io::Result<S>>,
    request: Request<Bytes>,
    timeout: Duration,
) -> io::Result<Response<Bytes>> {
    tokio::time::timeout(timeout, async { exchange(connect.await?, request.map(Full::new)).await }).await?
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> io::Result<Response<Bytes>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the sender, or with a failure that the sender reports.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
