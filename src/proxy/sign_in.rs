//! Requests that the gateway answers itself: the sign-in endpoints, `OPTIONS *`, and probes of
//! balancers.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use pingora::proxy::Session;

use super::arrival::RequestArrival;
use super::body;
use super::credential::cross_site;
use super::current::Current;
use super::reason::Reason;
use super::refusal::LoggedPerson;
use crate::authn::CrossSite;
use crate::route::Route;
use crate::sign_in::{Endpoint, SignInCall};

/// An answer of the gateway's own.
pub(super) struct GatewayAnswer {
    pub(super) reason: Reason,
    pub(super) response: Response<Bytes>,
    /// The sign-in endpoint that answered.
    pub(super) endpoint: Option<Endpoint>,
    /// The route that a preflight asked about.
    pub(super) route: Option<Arc<Route>>,
    /// Who signs in or is signed in.
    pub(super) person: Option<Box<LoggedPerson>>,
}

impl GatewayAnswer {
    /// The answer to a request about the gateway itself.
    pub(super) const fn about_gateway(reason: Reason, response: Response<Bytes>) -> Self {
        Self { reason, response, endpoint: None, route: None, person: None }
    }
}

/// Answers a request to a sign-in endpoint.
pub(super) async fn answer(
    session: &mut Session,
    current: &Current,
    arrival: &RequestArrival,
    endpoint: Endpoint,
) -> GatewayAnswer {
    let runtime = current.runtime();
    let sign_in = &runtime.sign_in;
    let request = http::request::Parts::clone(session.req_header());
    let policy = runtime.cors.as_ref();
    let call = SignInCall {
        request: &request,
        client: arrival.client.client,
        now: arrival.now,
        cross_site: policy.map_or(CrossSite::Refuse, |policy| cross_site(policy, &request)),
        request_id: arrival.request_id.as_str(),
    };
    let answer = match sign_in.precheck(endpoint, call) {
        Err(answer) => answer,
        Ok(body_limit) => {
            let body = match body_limit {
                None => Ok(Bytes::new()),
                Some(limit) => body::read(session, limit.max_bytes, limit.timeout).await,
            };
            sign_in.respond(endpoint, call, body).await
        }
    };
    // A browser that signs in is redirected, which is no refusal.
    let status = answer.meant_status();
    let reason = if status.is_success() || status.is_redirection() {
        Reason::SignIn(answer.outcome)
    } else {
        Reason::SignInRefused(answer.outcome, status)
    };
    let person = answer.app.map(|app| {
        let hasher = current.runtime().authenticator.subject_hasher();
        let subject_hash = answer.identity.map(|identity| hasher.hash(&identity.subject));
        Box::new(LoggedPerson { app: Some(app), subject_hash })
    });
    GatewayAnswer { reason, response: answer.response, endpoint: Some(endpoint), route: None, person }
}
