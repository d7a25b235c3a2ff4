//! Sends the requests of the self-test. Answers are text.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Response};
use tokio::net::TcpStream;

use super::step::StepCall;
use crate::control::client;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer, as text.
#[derive(Debug)]
pub(super) struct TextAnswer {
    pub(super) status: u16,
    /// One line for each header, with its name in lower case.
    pub(super) headers: String,
    pub(super) body: String,
}

/// Sends a request. `fill_in` replaces variables with their values; a browser's `Host` is `host`.
pub(super) async fn send(
    call: &StepCall,
    server: SocketAddr,
    host: Option<&str>,
    fill_in: impl Fn(&str) -> String,
) -> io::Result<TextAnswer> {
    let of_browser = host.filter(|_| call.is_of_browser()).map(str::to_owned);
    let host = of_browser.unwrap_or_else(|| server.to_string());
    let mut request = Request::builder().method(call.method()).uri(fill_in(call.path)).header(HOST, host);
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
    let request = request.body(Bytes::from(body)).map_err(io::Error::other)?;
    client::send_over(TcpStream::connect(server), request, TIMEOUT).await.map(into_text)
}

fn into_text(response: Response<Bytes>) -> TextAnswer {
    let (parts, body) = response.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    TextAnswer {
        status: parts.status.as_u16(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}
