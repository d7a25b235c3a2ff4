//! A small HTTP client for the self-test: one request, one connection, the whole answer as text.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::step::Call;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// An answer, as text.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// A line for each; names in lower case.
    pub(super) headers: String,
    pub(super) body: String,
}

/// Makes a call; `fill_in` puts values in the place of variables.
pub(super) async fn send(
    call: &Call,
    server: SocketAddr,
    fill_in: impl Fn(&str) -> String,
) -> io::Result<Answer> {
    let mut request =
        Request::builder().method(call.method()).uri(call.path).header(HOST, server.to_string());
    if !call.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        request = request.header(USER_AGENT, "menshen-demo");
    }
    for (name, value) in call.headers {
        request = request.header(*name, fill_in(value));
    }
    if call.json.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = call.json.map(&fill_in).unwrap_or_default();
    let request = request.body(Full::from(body)).map_err(io::Error::other)?;
    tokio::time::timeout(TIMEOUT, exchange(request, server)).await?
}

async fn exchange(request: Request<Full<Bytes>>, server: SocketAddr) -> io::Result<Answer> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the sender, or with a failure that the sender reports.
    tokio::spawn(connection);
    read(sender.send_request(request).await.map_err(io::Error::other)?).await
}

async fn read(response: Response<hyper::body::Incoming>) -> io::Result<Answer> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
