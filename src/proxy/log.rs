//! The line of the access log: what it says about a request, and how the request ended.

use std::net::SocketAddr;
use std::time::Duration;

use http::Version;

use super::arrival::RequestArrival;
use super::reason::Reason;
use crate::telemetry::access_log::AccessLogEntry;

/// What the access log says about a request besides how it ended.
pub(super) struct LoggedRequest<'a> {
    pub(super) arrival: &'a RequestArrival,
    pub(super) method: &'static str,
    pub(super) version: Version,
    /// Empty if the request was not admitted.
    pub(super) server_address: &'a str,
    pub(super) path: &'a str,
    pub(super) route: Option<&'a str>,
    pub(super) app: Option<&'a str>,
    pub(super) subject_hash: Option<&'a str>,
    pub(super) upstream: Option<&'a str>,
    pub(super) upstream_address: Option<SocketAddr>,
    pub(super) upstream_duration: Option<Duration>,
    /// Why TLS with the server failed, in words.
    pub(super) upstream_error: Option<&'static str>,
}

/// How a request ended.
pub(super) struct RequestEnd {
    pub(super) reason: Reason,
    /// 0 if no header was sent.
    pub(super) status: u16,
    pub(super) duration: Duration,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

impl<'a> LoggedRequest<'a> {
    /// The line of the access log.
    pub(super) fn entry(&self, end: &RequestEnd) -> AccessLogEntry<'a> {
        AccessLogEntry {
            timestamp: self.arrival.now,
            request_id: self.arrival.request_id.as_str(),
            client_address: self.arrival.client.client,
            method: self.method,
            scheme: self.arrival.scheme(),
            version: self.version,
            server_address: Some(self.server_address).filter(|address| !address.is_empty()),
            path: self.path,
            route: self.route,
            decision: end.reason.disposition().as_str(),
            reason: end.reason.as_str(),
            status: end.status,
            app: self.app,
            subject: self.subject_hash,
            upstream: self.upstream,
            upstream_address: self.upstream_address,
            duration: end.duration,
            upstream_duration: self.upstream_duration,
            upstream_error: self.upstream_error,
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
        }
    }
}
