//! Limits on requests: who is refused, what the others are told, and what counts as a client's error.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use pingora::http::ResponseHeader;

use super::context::{Context, Outcome};
use super::respond;
use crate::config::RejectShape;
use crate::throttle::{Allowance, Exceeded, RateLimitCaller};

/// The fields of draft-ietf-httpapi-ratelimit-headers.
const POLICY: &str = "ratelimit-policy";
const STATE: &str = "ratelimit";
/// A limit of the route refused.
const RATE_LIMITED: &str = "rate_limited";
/// The client is locked out for its errors.
const TOO_MANY_ERRORS: &str = "too_many_errors";

/// Refuses whatever a client sends that is locked out for its errors.
pub(super) fn refuse_locked_out(ctx: &mut Context) -> Option<Response<Bytes>> {
    let throttled = ctx.current.runtime().throttle.check_request(ctx.caller.client).err()?;
    ctx.outcome = Outcome::refused(TOO_MANY_ERRORS);
    let wait = throttled.retry_after_seconds();
    Some(respond::too_many(TOO_MANY_ERRORS, wait, RejectShape::Problem, ctx.request_id.as_str()))
}

/// Asks the limits by address of the request's route.
pub(super) fn admit_address(ctx: &mut Context) -> Option<Response<Bytes>> {
    let route = ctx.route.as_ref()?.index;
    let admitted = ctx.current.runtime().request_limits.check_address(route, ctx.caller.client);
    remember(admitted, ctx)
}

/// Asks the limits by subject and by app, once it is known who calls.
pub(super) fn admit_caller(ctx: &mut Context) -> Option<Response<Bytes>> {
    let route = ctx.route.as_ref()?.index;
    let caller = match ctx.authenticated() {
        Some(authenticated) => {
            let subject = &authenticated.identity().subject;
            RateLimitCaller::Person { appid: subject.appid.as_str(), openid: subject.openid.as_str() }
        }
        None => RateLimitCaller::Anonymous(ctx.caller.client),
    };
    let admitted = ctx.current.runtime().request_limits.check_caller(route, caller);
    remember(admitted, ctx)
}

/// Keeps what a limit allows for the answer, or refuses.
fn remember(admitted: Result<Option<Allowance>, Exceeded>, ctx: &mut Context) -> Option<Response<Bytes>> {
    match admitted {
        Ok(allowance) => {
            ctx.allowance = Allowance::tighter(ctx.allowance, allowance);
            None
        }
        Err(Exceeded(none_left)) => {
            ctx.outcome = Outcome::refused(RATE_LIMITED);
            let shape = ctx.route.as_ref().map_or(RejectShape::Problem, |route| route.reject);
            let wait = none_left.reset_seconds();
            let mut response = respond::too_many(RATE_LIMITED, wait, shape, ctx.request_id.as_str());
            ctx.allowance = Some(none_left);
            for (name, value) in told(ctx) {
                response.headers_mut().insert(name, value);
            }
            Some(response)
        }
    }
}

/// Tells the client of a forwarded request what its limits are. A backend that has limits of its own speaks for itself.
pub(super) fn tell(response: &mut ResponseHeader, ctx: &Context) -> pingora::Result<()> {
    let is_interim = response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS;
    let speaks_itself = || [POLICY, STATE].into_iter().any(|name| response.headers.contains_key(name));
    if ctx.allowance.is_none() || is_interim || speaks_itself() {
        return Ok(());
    }
    told(ctx).try_for_each(|(name, value)| response.insert_header(name, value))
}

/// What `ctx.allowance` is to the client.
fn told(ctx: &Context) -> impl Iterator<Item = (&'static str, HeaderValue)> {
    let state = ctx.allowance.as_ref().and_then(Allowance::header_value);
    let route = ctx.route.as_ref().map(|route| route.index);
    let policy = route.and_then(|route| ctx.current.runtime().request_limits.policy(route)).cloned();
    [(POLICY, policy), (STATE, state)].into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// Counts an answer for or against its client.
pub(super) fn count_answer(status: u16, ctx: &Context) {
    let status = meant_status(status, ctx.outcome, ctx.upstream_started.is_some());
    ctx.current.runtime().throttle.record_response(ctx.caller.client, status);
}

/// The status that an answer stands for: a refusal in the shape of `code_200` has it in its body alone.
fn meant_status(status: u16, outcome: Outcome, was_forwarded: bool) -> u16 {
    if status != 200 || was_forwarded || !outcome.is_refusal() {
        return status;
    }
    match outcome.reason {
        RATE_LIMITED => 429,
        "store_unavailable" => 503,
        _ => 403,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_as_one_in_every_shape() {
        let refused = Outcome::refused;
        for (status, outcome, was_forwarded, meant) in [
            (401, refused("no_token"), false, 401),
            (200, refused("no_token"), false, 403),
            (200, refused("expired"), false, 403),
            (200, refused(RATE_LIMITED), false, 429),
            (200, refused("store_unavailable"), false, 503),
            (303, refused("no_token"), false, 303),
            (200, Outcome::forwarded("authenticated"), true, 200),
            (200, refused("client_gone"), true, 200),
            (404, Outcome::forwarded("public"), true, 404),
            (200, Outcome::answered("ok"), false, 200),
            (0, refused("client_gone"), false, 0),
        ] {
            assert_eq!(meant_status(status, outcome, was_forwarded), meant, "{status} {outcome:?}");
        }
    }
}
