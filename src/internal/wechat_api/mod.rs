//! WeChat's API for programs of the business, without a token: three forms of a request, one rule.
//!
//! Decides which call a request asks for, whether its client may make it, and how often. The call
//! itself, with the token, is made by `app_token`. Each call is in the metrics and in the audit
//! log, with the prefix that permits it and WeChat's errcode, and without its query.

mod body;
mod call;
mod place;
mod rate;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::OwnedSemaphorePermit;

pub(in crate::internal) use self::call::CallForm;
use self::call::{PermittedCall, RefusedCall};
use self::place::CallPlaces;
use self::rate::CallRates;
use super::InternalBody;
use crate::app_token::{AppTokenError, RelayError};
use crate::authn::InternalClient;
use crate::clock::seconds_rounded_up;
use crate::management::{Door, Management, ManagementAnswer, ManagementBodyError, Requester};
use crate::telemetry::audit_log::{AuditEvent, AuditLogEntry};
use crate::wechat::{self, RelayAnswer, RelayRequest, WeChatError};

/// `Retry-After` while WeChat or the store does not answer, in seconds.
const RETRY_SECONDS: u64 = 1;

/// Answers calls of WeChat's API.
pub(super) struct WeChatApi {
    management: Arc<Management>,
    rates: CallRates,
    places: CallPlaces,
}

/// What came of a permitted call, for metrics and the audit log.
struct CallRecord<'c> {
    client: &'c str,
    app: &'c str,
    prefix: &'c str,
    address: SocketAddr,
}

impl WeChatApi {
    pub(super) fn new(management: Arc<Management>) -> Self {
        Self { management, rates: CallRates::default(), places: CallPlaces::default() }
    }

    /// Answers a request of this form, which `client` sent.
    pub(super) async fn answer(
        &self,
        form: CallForm,
        request: &Parts,
        (client, address): (Option<&InternalClient>, SocketAddr),
        incoming: Incoming,
    ) -> Result<Response<InternalBody>, ManagementAnswer> {
        let call = call::decide(form, request, client).map_err(|refused| {
            if let (Some(client), RefusedCall::NotPermitted(_)) = (client, refused) {
                let (name, ip) = (client.name().to_owned(), address.ip().to_canonical());
                let requester = Requester { door: Door::Internal, name, address: Some(ip) };
                self.management.audit_refusal(&requester);
            }
            refused.answer(form)
        })?;
        let name = client.map(InternalClient::name).unwrap_or_default();
        let record = CallRecord { client: name, app: call.app, prefix: call.prefix.as_str(), address };
        let now = self.management.shared().clock.instant();
        if let Err(wait) = self.rates.take(name, record.prefix, call.rate, now) {
            self.record(&record, "throttled", "throttled", None);
            let detail = "`wechat_api.rate` of the client is used up for this path";
            return Err(ManagementAnswer::problem(StatusCode::TOO_MANY_REQUESTS, "throttled", Some(detail))
                .with_retry_after(seconds_rounded_up(wait)));
        }
        let Some(place) = self.places.wait(name).await else {
            let (answer, outcome) = failed(&RelayError::Call(WeChatError::TooManyInFlight));
            self.record(&record, "other", outcome, None);
            return Err(answer);
        };
        let body = body::read(incoming).await.map_err(ManagementBodyError::answer)?;
        let PermittedCall { app, path, query, .. } = &call;
        let relayed = RelayRequest { method: &request.method, path, query, headers: &request.headers };
        let runtime = self.management.runtime();
        match runtime.app_tokens.relay(app, &relayed, body).await {
            Ok(answer) => {
                let outcome = if answer.errcode == 0 { "ok" } else { "wechat_refused" };
                let label = wechat::errcode_label(answer.errcode);
                self.record(&record, &label, outcome, Some(&answer.errcode.to_string()));
                Ok(response(answer, place))
            }
            Err(failure) => {
                let (answer, outcome) = failed(&failure);
                let label = match &failure {
                    RelayError::NoToken(_) => "no_token".into(),
                    RelayError::Call(failure) => wechat::failure_label(failure),
                };
                self.record(&record, &label, outcome, None);
                Err(answer)
            }
        }
    }

    fn record(&self, record: &CallRecord<'_>, label: &str, outcome: &str, errcode: Option<&str>) {
        let CallRecord { client, app, prefix, address } = *record;
        let shared = self.management.shared();
        shared.metrics.wechat_api_requests.with_label_values(&[client, app, prefix, label]).inc();
        shared.audit_log.write(&AuditLogEntry {
            client_address: Some(address.ip().to_canonical()),
            door: Some(Door::Internal.as_str()),
            requester: Some(client),
            app: Some(app),
            api_path: Some(prefix),
            errcode,
            ..AuditLogEntry::new(shared.clock.now(), AuditEvent::WeChatApi, outcome)
        });
    }
}

/// WeChat's answer, as the client gets it. Its place is free when the body has ended.
fn response(answer: RelayAnswer, place: OwnedSemaphorePermit) -> Response<InternalBody> {
    let pieces = answer.body.map(move |piece| {
        let _kept = &place;
        piece.map(Frame::<Bytes>::data)
    });
    let body = StreamBody::new(pieces).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    *headers = answer.headers;
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer to a call that failed, and its word in the audit log.
fn failed(failure: &RelayError) -> (ManagementAnswer, &'static str) {
    let (status, code) = match failure {
        RelayError::NoToken(AppTokenError::Store(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable")
        }
        RelayError::NoToken(AppTokenError::NoSuchToken | AppTokenError::Internal(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
        }
        RelayError::NoToken(AppTokenError::WeChat(
            WeChatError::AppMisconfigured { .. }
            | WeChatError::AddressRefused { .. }
            | WeChatError::QuotaExhausted
            | WeChatError::RequestRejected { .. },
        )) => (StatusCode::INTERNAL_SERVER_ERROR, "app_misconfigured"),
        RelayError::NoToken(_) => (StatusCode::SERVICE_UNAVAILABLE, "wechat_busy"),
        RelayError::Call(WeChatError::Unreachable) => (StatusCode::SERVICE_UNAVAILABLE, "wechat_unreachable"),
        RelayError::Call(WeChatError::TooManyInFlight) => (StatusCode::SERVICE_UNAVAILABLE, "wechat_busy"),
        RelayError::Call(WeChatError::TimedOut) => (StatusCode::GATEWAY_TIMEOUT, "wechat_timed_out"),
        RelayError::Call(_) => (StatusCode::BAD_GATEWAY, "wechat_unexpected"),
    };
    let detail = match failure {
        RelayError::NoToken(_) => "the gateway has no access token of the app: its log says why",
        RelayError::Call(WeChatError::Unreachable | WeChatError::TooManyInFlight) => "nothing was sent",
        RelayError::Call(_) => "the call may have been made",
    };
    let answer = ManagementAnswer::problem(status, code, Some(detail));
    let is_passing = status == StatusCode::SERVICE_UNAVAILABLE;
    (if is_passing { answer.with_retry_after(RETRY_SECONDS) } else { answer }, code)
}
