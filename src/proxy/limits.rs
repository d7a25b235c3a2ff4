//! Limits on requests: which clients are refused, what the answers say about the limits, and which
//! answers count as a client's errors.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::arrival::RequestArrival;
use super::budget::{EnteredRequest, NoRoom, RequestBudget};
use super::current::Current;
use super::permit::{Caller, Permit};
use super::reason::Reason;
use super::refusal::{Refusal, RefusalAnswer};
use super::routed::Routed;
use crate::throttle::{Allowance, Exceeded, RateLimitCaller};

/// The fields of draft-ietf-httpapi-ratelimit-headers.
const POLICY: &str = "ratelimit-policy";
const STATE: &str = "ratelimit";

/// Refuses all requests of a client that is locked out for its errors.
pub(super) fn check_lock_out(current: &Current, arrival: &RequestArrival) -> Result<(), Refusal> {
    current.runtime().throttle.check_request(arrival.client.client).map_err(|throttled| Refusal {
        answer: RefusalAnswer::RetryAfter(throttled.retry_after_seconds()),
        ..Refusal::without_route(Reason::TooManyErrors)
    })
}

/// Checks the limits by address of the request's route.
pub(super) fn check_address(
    mut routed: Routed,
    current: &Current,
    arrival: &RequestArrival,
) -> Result<Routed, Refusal> {
    match current.runtime().request_limits.check_address(routed.route.index, arrival.client.client) {
        Ok(allowance) => {
            routed.allowance = Allowance::tighter(routed.allowance, allowance);
            Ok(routed)
        }
        Err(exceeded) => Err(rate_limited(routed, exceeded)),
    }
}

/// Checks the limits by subject and by app, once the caller is known.
pub(super) fn check_caller(
    mut permit: Permit,
    current: &Current,
    arrival: &RequestArrival,
) -> Result<Permit, Refusal> {
    let caller = match &permit.caller {
        Caller::Authenticated(authenticated) => {
            let subject = &authenticated.identity().subject;
            RateLimitCaller::Person { appid: subject.appid.as_str(), openid: subject.openid.as_str() }
        }
        Caller::Anonymous => RateLimitCaller::Anonymous(arrival.client.client),
    };
    match current.runtime().request_limits.check_caller(permit.route.index, caller) {
        Ok(allowance) => {
            permit.allowance = Allowance::tighter(permit.allowance, allowance);
            Ok(permit)
        }
        Err(exceeded) => {
            let (routed, caller) = permit.revoke();
            let refusal = rate_limited(routed, exceeded);
            Err(match &caller {
                Caller::Authenticated(authenticated) => refusal.of(authenticated),
                Caller::Anonymous => refusal,
            })
        }
    }
}

/// Counts a permitted request as under way, as soon as there is room for it.
///
/// # Errors
/// [`Reason::TooManyUnderWay`], [`Reason::TooManyUnderWayOfAddress`]
pub(super) async fn enter(
    permit: Permit,
    budget: &Arc<RequestBudget>,
    arrival: &RequestArrival,
) -> Result<(Permit, EnteredRequest), Refusal> {
    let reason = match budget.enter(&arrival.client).await {
        Ok(entered) => return Ok((permit, entered)),
        Err(NoRoom::InAll) => Reason::TooManyUnderWay,
        Err(NoRoom::OfAddress) => Reason::TooManyUnderWayOfAddress,
    };
    let (routed, caller) = permit.revoke();
    let refusal = Refusal {
        answer: RefusalAnswer::RetryAfter(budget.retry_after_seconds()),
        ..Refusal::on(routed, reason)
    };
    Err(match &caller {
        Caller::Authenticated(authenticated) => refusal.of(authenticated),
        Caller::Anonymous => refusal,
    })
}

/// Refuses a request that a limit of its route does not allow. The exhausted limit is the one that
/// the answer names.
const fn rate_limited(mut routed: Routed, Exceeded(none_left): Exceeded) -> Refusal {
    routed.allowance = Some(none_left);
    Refusal::on(routed, Reason::RateLimited)
}

/// Adds the limits to the answer of a forwarded request. A backend that has limits of its own
/// states those.
pub(super) fn add_fields(
    response: &mut ResponseHeader,
    permit: &Permit,
    current: &Current,
) -> pingora::Result<()> {
    let Some(allowance) = &permit.allowance else { return Ok(()) };
    let is_interim = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
    if is_interim || [POLICY, STATE].into_iter().any(|name| response.headers.contains_key(name)) {
        return Ok(());
    }
    let mut fields = fields(permit.route.index, allowance, current);
    fields.try_for_each(|(name, value)| response.insert_header(name, value))
}

/// The header fields that state what a route's limits are, and what the tightest still allows.
pub(super) fn fields(
    route: usize,
    allowance: &Allowance,
    current: &Current,
) -> impl Iterator<Item = (&'static str, HeaderValue)> {
    let policy = current.runtime().request_limits.policy(route).cloned();
    [(POLICY, policy), (STATE, allowance.header_value())]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
}

/// Counts an answer for or against its client. `was_forwarded` says that a server was asked.
pub(super) fn count_answer(
    status: u16,
    reason: Reason,
    was_forwarded: bool,
    arrival: &RequestArrival,
    current: &Current,
) {
    let status = meant_status(status, reason, was_forwarded);
    current.runtime().throttle.record_response(arrival.client.client, status);
}

/// The status that an answer stands for: a refusal in the shape `code_200`, or in a shape of
/// the operator's own, has it in its body alone; and so has an error of a façade.
fn meant_status(status: u16, reason: Reason, was_forwarded: bool) -> u16 {
    if status != 200 || was_forwarded || !reason.is_refusal() {
        return status;
    }
    reason.status().map_or(status, |status| status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::AuthnError as R;
    use crate::token::VerifyError;

    #[test]
    fn a_refusal_counts_as_one_in_every_shape() {
        let no_token = Reason::Authentication(R::NoToken);
        for (status, reason, was_forwarded, meant) in [
            (401, no_token, false, 401),
            (200, no_token, false, 401),
            (200, Reason::Authentication(R::Token(VerifyError::Expired)), false, 401),
            (200, Reason::Authentication(R::Blocked), false, 403),
            (200, Reason::RateLimited, false, 429),
            (200, Reason::Authentication(R::StoreUnavailable), false, 503),
            (303, no_token, false, 303),
            (200, Reason::Authenticated, true, 200),
            (200, Reason::ClientGone, true, 200),
            (404, Reason::Public, true, 404),
            (200, Reason::SignIn("ok"), false, 200),
            (200, Reason::SignInRefused("code_invalid", StatusCode::UNAUTHORIZED), false, 401),
            (0, Reason::ClientGone, false, 0),
        ] {
            assert_eq!(meant_status(status, reason, was_forwarded), meant, "{status} {reason:?}");
        }
    }
}
