//! Every metric, in one list. Labels come from the configuration or from an enum, never from a
//! request.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::diagnostics;

/// Buckets for requests, in seconds.
const REQUEST_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Buckets for calls to WeChat and the logins that wait for them, in seconds.
const LOGIN_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];
/// Buckets for the store's operations, in seconds.
const STORE_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0];

/// The metrics of one gateway, with the registry that exports them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// `menshen_http_requests_total{route,method,code}`
    pub http_requests: IntCounterVec,
    /// `menshen_http_request_duration_seconds{route}`
    pub http_request_duration: HistogramVec,
    /// `menshen_refused_requests_total{reason}`
    pub refused_requests: IntCounterVec,
    /// `menshen_internal_requests_total{client,code}`
    pub internal_requests: IntCounterVec,
    /// `menshen_upstream_request_duration_seconds{upstream}`
    pub upstream_request_duration: HistogramVec,
    /// `menshen_upstream_failures_total{upstream,reason}`
    pub upstream_failures: IntCounterVec,
    /// `menshen_upstream_server_up{upstream,server}`
    pub upstream_server_up: IntGaugeVec,
    /// `menshen_certificate_expiry_timestamp_seconds{certificate}`
    pub certificate_expiry: GaugeVec,
    /// `menshen_open_connections`
    pub open_connections: IntGauge,
    /// `menshen_untrusted_proxies`
    pub untrusted_proxies: IntGauge,
    /// `menshen_requests_under_way`
    pub requests_under_way: IntGauge,
    /// `menshen_requests_waiting`
    pub requests_waiting: IntGauge,
    /// `menshen_rejected_connections_total{reason}`
    pub rejected_connections: IntCounterVec,
    /// `menshen_logins_total{provider,flow,outcome}`
    pub logins: IntCounterVec,
    /// `menshen_hand_overs_total{outcome}`
    pub hand_overs: IntCounterVec,
    /// `menshen_user_data_total{outcome}`
    pub user_data: IntCounterVec,
    /// `menshen_login_duration_seconds{app}`
    pub login_duration: HistogramVec,
    /// `menshen_wechat_request_duration_seconds{app,api}`
    pub wechat_request_duration: HistogramVec,
    /// `menshen_wechat_errors_total{app,errcode}`
    pub wechat_errors: IntCounterVec,
    /// `menshen_wechat_breaker_state{app}`
    pub wechat_breaker_state: IntGaugeVec,
    /// `menshen_wechat_app_token_fetches_total{app,reason}`
    pub wechat_app_token_fetches: IntCounterVec,
    /// `menshen_wechat_app_token_expiry_timestamp_seconds{app}`
    pub wechat_app_token_expiry: IntGaugeVec,
    /// `menshen_wechat_api_requests_total{client,app,path,errcode}`
    pub wechat_api_requests: IntCounterVec,
    /// `menshen_token_verifications_total{outcome}`
    pub token_verifications: IntCounterVec,
    /// `menshen_token_cache_hits_total`
    pub token_cache_hits: IntCounter,
    /// `menshen_token_cache_misses_total`
    pub token_cache_misses: IntCounter,
    /// `menshen_token_cache_entries`
    pub token_cache_entries: IntGauge,
    /// `menshen_watched_tunnels`
    pub watched_tunnels: IntGauge,
    /// `menshen_session_checks_total{outcome}`
    pub session_checks: IntCounterVec,
    /// `menshen_refreshes_total{outcome}`
    pub refreshes: IntCounterVec,
    /// `menshen_session_revocations_total{scope,outcome}`
    pub session_revocations: IntCounterVec,
    /// `menshen_sessions_evicted_total`
    pub sessions_evicted: IntCounter,
    /// `menshen_store_operation_duration_seconds{operation}`
    pub store_operation_duration: HistogramVec,
    /// `menshen_store_commit_duration_seconds`
    pub store_commit_duration: Histogram,
    /// `menshen_store_errors_total{operation,reason}`
    pub store_errors: IntCounterVec,
    /// `menshen_store_available`
    pub store_available: IntGauge,
    /// `menshen_identity_headers_stripped_total`
    pub identity_headers_stripped: IntCounter,
    /// `menshen_throttled_total{limit}`
    pub throttled: IntCounterVec,
    /// `menshen_access_log_dropped_lines_total`
    pub access_log_dropped_lines: IntCounter,
    /// `menshen_audit_log_dropped_lines_total`
    pub audit_log_dropped_lines: IntCounter,
    /// For all gateways of the process.
    ///
    /// `menshen_diagnostics_dropped_lines_total`
    pub diagnostics_dropped_lines: IntCounter,
    /// `menshen_config_last_reload_successful`
    pub config_last_reload_successful: IntGauge,
    /// `menshen_config_last_reload_success_timestamp_seconds`
    pub config_last_reload_success_timestamp: Gauge,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// [`prometheus::Error`] when a name is registered twice, which is a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let new = Registration { registry: Registry::new() };
        let build_info =
            new.gauge_vec("build_info", "Always 1; the label says which version runs.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        Ok(Self {
            http_requests: new.counter_vec(
                "http_requests_total",
                "Total number of requests that were answered, forwarded or not.",
                &["route", "method", "code"],
            )?,
            http_request_duration: new.histogram_vec(
                "http_request_duration_seconds",
                "Time from the request's header to the end of the response.",
                &["route"],
                REQUEST_BUCKETS,
            )?,
            refused_requests: new.counter_vec(
                "refused_requests_total",
                "Total number of requests that the gateway refused, by the reason in the access log.",
                &["reason"],
            )?,
            internal_requests: new.counter_vec(
                "internal_requests_total",
                "Total number of requests that the internal listener answered; client is empty without the token of one.",
                &["client", "code"],
            )?,
            upstream_request_duration: new.histogram_vec(
                "upstream_request_duration_seconds",
                "Time from sending the request to the header of the response.",
                &["upstream"],
                REQUEST_BUCKETS,
            )?,
            upstream_failures: new.counter_vec(
                "upstream_failures_total",
                "Total number of requests that a server did not accept, answer in time, or complete.",
                &["upstream", "reason"],
            )?,
            upstream_server_up: new.gauge_vec(
                "upstream_server_up",
                "1 if the last connection to the server was made, 0 if not, or if its name has no address.",
                &["upstream", "server"],
            )?,
            certificate_expiry: new.float_gauge_vec(
                "certificate_expiry_timestamp_seconds",
                "Unix time at which the certificate expires; certificate is its file.",
                &["certificate"],
            )?,
            open_connections: new.gauge("open_connections", "Client connections open now.")?,
            untrusted_proxies: new.gauge(
                "untrusted_proxies",
                "Peers in internal networks that sent X-Forwarded-For since the start, and are not in trusted_proxies. At most 64.",
            )?,
            requests_under_way: new.gauge(
                "requests_under_way",
                "Forwarded requests under way now; a WebSocket is one as long as it is open.",
            )?,
            requests_waiting: new
                .gauge("requests_waiting", "Requests that wait now, because too many are under way.")?,
            rejected_connections: new.counter_vec(
                "rejected_connections_total",
                "Total number of connections closed before a complete request arrived.",
                &["reason"],
            )?,
            logins: new.counter_vec(
                "logins_total",
                "Total number of logins that were answered.",
                &["provider", "flow", "outcome"],
            )?,
            hand_overs: new.counter_vec(
                "hand_overs_total",
                "Total number of hand-overs of a session to a web-view that were answered.",
                &["outcome"],
            )?,
            user_data: new.counter_vec(
                "user_data_total",
                "Total number of sealed user data that a client sent and that were judged.",
                &["outcome"],
            )?,
            login_duration: new.histogram_vec(
                "login_duration_seconds",
                "Time from the body of a login to its response.",
                &["app"],
                LOGIN_BUCKETS,
            )?,
            wechat_request_duration: new.histogram_vec(
                "wechat_request_duration_seconds",
                "Time of one call to WeChat; each retry is a call.",
                &["app", "api"],
                LOGIN_BUCKETS,
            )?,
            wechat_errors: new.counter_vec(
                "wechat_errors_total",
                "Total number of calls that WeChat answered with an errcode; other: not documented.",
                &["app", "errcode"],
            )?,
            wechat_breaker_state: new.gauge_vec(
                "wechat_breaker_state",
                "State of the breaker: 0 closed, 1 half open, 2 open (no call is made).",
                &["app"],
            )?,
            wechat_app_token_fetches: new.counter_vec(
                "wechat_app_token_fetches_total",
                "Total number of times this gateway asked WeChat for an app's access token, by the reason.",
                &["app", "reason"],
            )?,
            wechat_app_token_expiry: new.gauge_vec(
                "wechat_app_token_expiry_timestamp_seconds",
                "Unix time at which the app's access token that this gateway uses expires.",
                &["app"],
            )?,
            wechat_api_requests: new.counter_vec(
                "wechat_api_requests_total",
                "Total number of calls of WeChat's API that programs made, by the prefix that permits them.",
                &["client", "app", "path", "errcode"],
            )?,
            token_verifications: new.counter_vec(
                "token_verifications_total",
                "Total number of tokens verified, in the cache or not.",
                &["outcome"],
            )?,
            token_cache_hits: new
                .counter("token_cache_hits_total", "Total number of tokens found in the cache.")?,
            token_cache_misses: new
                .counter("token_cache_misses_total", "Total number of tokens not found in the cache.")?,
            token_cache_entries: new
                .gauge("token_cache_entries", "Verified tokens in the cache now, expired ones included.")?,
            watched_tunnels: new
                .gauge("watched_tunnels", "WebSocket connections open now that end with their session.")?,
            session_checks: new.counter_vec(
                "session_checks_total",
                "Total number of sessions looked up in the store for a token.",
                &["outcome"],
            )?,
            refreshes: new.counter_vec(
                "refreshes_total",
                "Total number of refresh tokens that were answered.",
                &["outcome"],
            )?,
            session_revocations: new.counter_vec(
                "session_revocations_total",
                "Total number of revocations: logout, operator, or a refresh token used twice.",
                &["scope", "outcome"],
            )?,
            sessions_evicted: new.counter(
                "sessions_evicted_total",
                "Total number of sessions ended because the person opened too many.",
            )?,
            store_operation_duration: new.histogram_vec(
                "store_operation_duration_seconds",
                "Time of one operation of the store, until it is as durable as configured.",
                &["operation"],
                STORE_BUCKETS,
            )?,
            store_commit_duration: new.histogram(
                "store_commit_duration_seconds",
                "Time of one commit of the embedded store; a commit holds all operations that waited.",
                STORE_BUCKETS,
            )?,
            store_errors: new.counter_vec(
                "store_errors_total",
                "Total number of operations of the store that failed or timed out.",
                &["operation", "reason"],
            )?,
            store_available: new.gauge("store_available", "1 if the store answers, 0 if not.")?,
            identity_headers_stripped: new.counter(
                "identity_headers_stripped_total",
                "Total number of identity headers removed from clients' requests, in any spelling.",
            )?,
            throttled: new.counter_vec(
                "throttled_total",
                "Total number of requests that a limit refused.",
                &["limit"],
            )?,
            access_log_dropped_lines: new.counter(
                "access_log_dropped_lines_total",
                "Total number of access log lines dropped: the target was too slow or failed.",
            )?,
            audit_log_dropped_lines: new.counter(
                "audit_log_dropped_lines_total",
                "Total number of audit log lines dropped: the file was too slow or failed.",
            )?,
            diagnostics_dropped_lines: new.add(diagnostics::dropped_lines()?)?,
            config_last_reload_successful: new.gauge(
                "config_last_reload_successful",
                "1 if the last load of the configuration succeeded, 0 if not.",
            )?,
            config_last_reload_success_timestamp: new.float_gauge(
                "config_last_reload_success_timestamp_seconds",
                "Unix time at which a configuration was last loaded.",
            )?,
            registry: new.registry,
        })
    }

    /// Everything, in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// [`prometheus::Error`] when a metric cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

struct Registration {
    registry: Registry,
}

impl Registration {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(opts(name, help))?)
    }

    fn counter_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(opts(name, help))?)
    }

    fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::with_opts(opts(name, help))?)
    }

    fn float_gauge_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(opts(name, help), labels)?)
    }

    fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).namespace("menshen").buckets(buckets.to_vec());
        self.add(HistogramVec::new(opts, labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).namespace("menshen").buckets(buckets.to_vec());
        self.add(Histogram::with_opts(opts)?)
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("menshen")
}
