//! The fields of a line, and how they are written as JSON. `docs/request-log.md` explains every
//! field to the operator.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::telemetry::line_log::{Line, key, longest};

/// One request in the log. Fields that are `None` are left out.
///
/// Holds no header, no query string, no token and no code, so that none can be logged.
#[derive(Clone, Copy, Debug)]
pub struct AccessLogEntry<'a> {
    /// When the request arrived.
    pub timestamp: Timestamp,
    /// The request's id, as the client, the backend and the problem document have it.
    pub request_id: &'a str,
    /// The client's address, behind trusted proxies.
    pub client_address: IpAddr,
    /// The method, as sent.
    pub method: &'a str,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a str,
    /// The protocol the client spoke.
    pub version: http::Version,
    /// The host of the request, with its port if it has one, as sent.
    pub server_address: Option<&'a str>,
    /// The path: canonical, or as sent if the gateway refused it because it is not canonical. A
    /// query string is cut off.
    pub path: &'a str,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// `forwarded`, `answered` or `refused`.
    pub decision: &'a str,
    /// The reason: one word from a fixed list.
    pub reason: &'a str,
    /// The status sent; 0 if none was, and then it is left out.
    pub status: u16,
    /// Name of the app the request belongs to.
    pub app: Option<&'a str>,
    /// Keyed hash of the user; never the openid.
    pub subject: Option<&'a str>,
    /// Name of the upstream.
    pub upstream: Option<&'a str>,
    /// The server that responded, or was tried last.
    pub upstream_address: Option<SocketAddr>,
    /// Why TLS with that server failed, in words.
    pub upstream_error: Option<&'static str>,
    /// Time from the request's header to the end of the response.
    pub duration: Duration,
    /// The upstream's part of that time.
    pub upstream_duration: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
}

impl AccessLogEntry<'_> {
    /// Appends the line, with its line feed.
    pub(super) fn render(&self, buffer: &mut Vec<u8>) {
        let mut line = Line { buffer };
        line.timestamp(self.timestamp);
        line.text(key!("request_id"), self.request_id);
        line.address(key!("client.address"), self.client_address);
        line.text(key!("http.request.method"), self.method);
        line.text(key!("url.scheme"), self.scheme);
        line.text(key!("network.protocol.version"), protocol_version(self.version));
        line.optional_text(key!("server.address"), self.server_address);
        line.text(key!("url.path"), without_query(self.path));
        line.optional_text(key!("http.route"), self.route);
        line.text(key!("decision"), self.decision);
        line.text(key!("reason"), self.reason);
        if self.status != 0 {
            line.number(key!("http.response.status_code"), self.status.into());
        }
        line.optional_text(key!("app"), self.app);
        line.optional_text(key!("user.hash"), self.subject);
        line.optional_text(key!("upstream.name"), self.upstream);
        if let Some(address) = self.upstream_address {
            line.socket_address(key!("upstream.address"), address);
        }
        line.optional_text(key!("upstream.error"), self.upstream_error);
        line.millis(key!("duration_ms"), self.duration);
        if let Some(duration) = self.upstream_duration {
            line.millis(key!("upstream.duration_ms"), duration);
        }
        line.number(key!("http.request.body.size"), self.request_bytes);
        line.number(key!("http.response.body.size"), self.response_bytes);
        line.end();
    }

    /// An upper bound of the bytes that [`AccessLogEntry::render`] appends.
    pub(super) fn longest(&self) -> usize {
        let required =
            [self.request_id, self.method, self.scheme, self.path, self.decision, self.reason].map(Some);
        let optional =
            [self.server_address, self.route, self.app, self.subject, self.upstream, self.upstream_error];
        longest(required.into_iter().chain(optional).flatten())
    }
}

/// Cuts off a query string, since it may hold a code or a token. Callers should pass only a path.
fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

fn protocol_version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "0.9",
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "unknown",
    }
}
