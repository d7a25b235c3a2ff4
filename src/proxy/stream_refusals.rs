//! Requests of HTTP/2 that Pingora or the HTTP/2 library refuses before the gateway gets them:
//! their line in the access log, their counter, and that they count against their client.
//!
//! Such a stream is reset, or answered with a bare 400 or 431, or the whole connection is ended.
//! Neither the method nor the path is known here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, Version};

use super::arrival::RequestArrival;
use super::current::Current;
use super::log::{LoggedRequest, RequestEnd};
use super::reason::Reason;
use super::request_id::RequestIds;
use crate::entropy::NoEntropy;
use crate::runtime::Shared;
use crate::telemetry::access_log::AccessLog;

/// The status that such a request counts as.
const STATUS: u16 = 400;

/// Records refused requests of HTTP/2.
pub struct StreamRefusals {
    shared: Shared,
    access_log: Arc<AccessLog>,
    current: Arc<ArcSwap<Current>>,
    request_ids: RequestIds,
}

impl StreamRefusals {
    /// Records to these logs and metrics.
    ///
    /// # Errors
    /// [`NoEntropy`] if no request ids can be drawn.
    pub fn new(
        shared: Shared,
        access_log: Arc<AccessLog>,
        current: Arc<ArcSwap<Current>>,
    ) -> Result<Self, NoEntropy> {
        let request_ids = RequestIds::new(shared.entropy.as_ref())?;
        Ok(Self { shared, access_log, current, request_ids })
    }

    /// Records one.
    pub(super) fn record(&self, peer: IpAddr, is_https: bool) {
        let current = self.current.load();
        let mut arrival = RequestArrival::new(self.shared.clock.as_ref(), self.request_ids.next());
        arrival.client = current.trusted_proxies.client_address(peer, &HeaderMap::new());
        arrival.is_https = is_https;
        let reason = Reason::RequestMalformed;
        self.shared.metrics.refused_requests.with_label_values(&[reason.as_str()]).inc();
        // Which of a proxy's clients sent it is not known.
        if arrival.client.proxy.is_none() {
            current.runtime().throttle.record_response(arrival.client.client, STATUS);
        }
        let request = LoggedRequest {
            arrival: &arrival,
            method: "_OTHER",
            version: Version::HTTP_2,
            server_address: "",
            path: "",
            route: None,
            app: None,
            subject_hash: None,
            upstream: None,
            upstream_address: None,
            upstream_duration: None,
            upstream_error: None,
        };
        let end =
            RequestEnd { reason, status: 0, duration: Duration::ZERO, request_bytes: 0, response_bytes: 0 };
        self.access_log.write(&request.entry(&end));
    }
}
