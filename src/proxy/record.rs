//! What the logs and metrics say of a request that is over.

use http::{Method, StatusCode, Version};

use super::context::Context;
use super::log::RequestEnd;
use super::reason::Reason;
use super::records::Records;
use super::{audit, limits};

/// The request, as the access log names it.
pub(super) struct RequestLine<'r> {
    pub(super) method: &'r Method,
    pub(super) version: Version,
    pub(super) path: &'r str,
}

/// Counts a request, and writes its line of the access log.
pub(super) fn write(records: &Records, ctx: &Context, line: &RequestLine<'_>, end: &RequestEnd) {
    let was_forwarded = ctx.tries.started.is_some();
    if !ctx.is_of_unknown_client() {
        limits::count_answer(end.status, ctx.reason, was_forwarded, &ctx.arrival, &ctx.current);
    }
    let metrics = ctx.current.runtime().route_metrics(ctx.decision.route().map(|route| route.index));
    metrics.count(line.method, end.status);
    metrics.duration.observe(end.duration.as_secs_f64());
    if let (Some(upstream), Some(duration)) = (&metrics.upstream_duration, ctx.tries.duration) {
        upstream.observe(duration.as_secs_f64());
    }
    records.access_log.write(&ctx.logged(line.method, line.version, line.path).entry(end));
}

/// Notes that a request was cut off.
pub(super) fn note_cut(records: &Records, ctx: &mut Context, reason: Reason) {
    // A refusal whose answer could not be sent was counted already, and keeps its reason.
    if ctx.reason.is_refusal() {
        return;
    }
    ctx.reason = reason;
    records.count_refusal(reason);
    audit::write_cut(&records.shared.audit_log, ctx, records.shared.clock.now());
}

impl Drop for Context {
    /// Logs a request that was dropped because it was cut off and did not end by that. Every other
    /// is logged by the gateway's last phase.
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Some(reason) = open.request().cut_reason().filter(|_| !self.is_logged) else { return };
        let records = open.records();
        note_cut(records, self, reason);
        let request = &open.request().request;
        let line =
            RequestLine { method: &request.method, version: open.request().version, path: request.path() };
        let end = RequestEnd {
            reason: self.reason,
            status: self.status.map_or(0, |status: StatusCode| status.as_u16()),
            duration: records.since(self.arrival.started),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
        };
        write(records, self, &line, &end);
    }
}
