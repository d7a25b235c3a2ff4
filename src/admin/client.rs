//! A small HTTP/1.1 client for the commands that ask a server on this machine: one connection for
//! one request, and the whole answer in memory.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest answer, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Sends a request and reads the whole answer, at most 1 MiB. The request must have a `Host`
/// header.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] after `timeout`; otherwise the error of the connection or the
/// protocol.
pub async fn send(
    server: SocketAddr,
    request: Request<Bytes>,
    timeout: Duration,
) -> io::Result<Response<Bytes>> {
    tokio::time::timeout(timeout, exchange(server, request.map(Full::new))).await?
}

async fn exchange(server: SocketAddr, request: Request<Full<Bytes>>) -> io::Result<Response<Bytes>> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the sender, or with a failure that the sender reports.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
