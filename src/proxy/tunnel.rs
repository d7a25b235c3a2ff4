//! A WebSocket tunnel, from the request that asks for it to what the logs say if the gateway ends
//! it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode, Version};

use super::arrival::RequestArrival;
use super::current::Current;
use super::log::{LoggedRequest, RequestEnd};
use super::permit::Permit;
use super::reason::Reason;
use crate::authn::Authenticated;
use crate::runtime::Shared;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::audit_log::{self, AuditEvent};
use crate::upstream::TunnelSwitch;

/// A tunnel that a request may open, and why the gateway cut it.
#[derive(Clone, Default)]
pub(super) struct Tunnel {
    switch: TunnelSwitch,
    cut_reason: Arc<OnceLock<Reason>>,
}

impl Tunnel {
    /// The switch that the connection to the server follows.
    pub(super) const fn switch(&self) -> &TunnelSwitch {
        &self.switch
    }

    /// Cuts the tunnel. The first reason counts.
    pub(super) fn cut(&self, reason: Reason) {
        self.cut_reason.get_or_init(|| reason);
        self.switch.cut();
    }

    /// Why the gateway cut the tunnel, if it did.
    pub(super) fn cut_reason(&self) -> Option<Reason> {
        self.cut_reason.get().copied()
    }
}

/// What the logs and metrics say of a tunnel that the gateway ends. It is kept apart from the
/// request, which may be gone when the tunnel ends.
pub(super) struct TunnelRecord {
    pub(super) shared: Shared,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) current: Arc<Current>,
    pub(super) arrival: RequestArrival,
    pub(super) permit: Permit,
    pub(super) authenticated: Authenticated,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) upstream_address: Option<std::net::SocketAddr>,
    pub(super) upstream_duration: Option<Duration>,
}

impl TunnelRecord {
    /// Writes to the audit log why the tunnel was cut.
    pub(super) fn audit_cut(&self, reason: Reason) {
        if !self.shared.audit_log.is_on() {
            return;
        }
        self.shared.audit_log.write(&audit_log::AuditLogEntry {
            request_id: Some(self.arrival.request_id.as_str()),
            client_address: Some(self.arrival.client.client),
            route: Some(&self.permit.route.name),
            app: Some(self.authenticated.app()),
            subject: Some(self.authenticated.subject_hash()),
            ..audit_log::AuditLogEntry::new(
                self.shared.clock.now(),
                AuditEvent::TunnelClosed,
                reason.as_str(),
            )
        });
    }

    /// Logs and counts a tunnel whose connection was broken off. Every other request is logged and
    /// counted by the gateway's last phase, which does not run for this one.
    pub(super) fn log_broken_off(&self, reason: Reason) {
        let duration = self.shared.clock.instant().saturating_duration_since(self.arrival.started);
        let status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
        let metrics = self.current.runtime().route_metrics(Some(self.permit.route.index));
        metrics.count(&Method::GET, status);
        metrics.duration.observe(duration.as_secs_f64());
        self.shared.metrics.refused_requests.with_label_values(&[reason.as_str()]).inc();
        // Pingora counted the bytes, and its counts are gone with the connection.
        let end = RequestEnd { reason, status, duration, request_bytes: 0, response_bytes: 0 };
        self.access_log.write(&self.logged().entry(&end));
    }

    fn logged(&self) -> LoggedRequest<'_> {
        LoggedRequest {
            arrival: &self.arrival,
            method: "GET",
            version: Version::HTTP_11,
            host: &self.host,
            path: &self.path,
            route: Some(&self.permit.route.name),
            app: Some(self.authenticated.app()),
            subject_hash: Some(self.authenticated.subject_hash()),
            upstream: Some(&self.permit.upstream.name),
            upstream_address: self.upstream_address,
            upstream_duration: self.upstream_duration,
        }
    }
}
