//! The headers that give a client the state of a limit: `RateLimit` and `RateLimit-Policy`.
//!
//! See draft-ietf-httpapi-ratelimit-headers-10; both are lists of structured fields (RFC 9651).

use governor::Quota;
use http::HeaderValue;
use sfv::{RefBareItem, RefListSerializer};

use super::super::seconds_to_wait;
use super::Allowance;
use crate::config::RateLimitKey;

/// Names of a route's limits. A list must not have two policies of the same name, and a route has
/// at most four limits.
const ADDRESS: [&str; 4] = ["address", "address-2", "address-3", "address-4"];
const SUBJECT: [&str; 4] = ["subject", "subject-2", "subject-3", "subject-4"];
const APP: [&str; 4] = ["app", "app-2", "app-3", "app-4"];

/// No less than the bytes of a `RateLimit` field.
const FIELD_BYTES: usize = 48;

/// The name of the limit that is the `nth` by this key on its route, from 0; `None` beyond the
/// fourth.
pub(super) fn name(by: RateLimitKey, nth: usize) -> Option<&'static str> {
    let names = match by {
        RateLimitKey::Address => ADDRESS,
        RateLimitKey::Subject => SUBJECT,
        RateLimitKey::App => APP,
    };
    names.get(nth).copied()
}

/// `RateLimit-Policy` of a route: the burst, and the seconds until an empty bucket is full again.
pub(super) fn policy<'r>(limits: impl Iterator<Item = (&'static str, &'r Quota)>) -> Option<HeaderValue> {
    let mut text = String::new();
    let mut list = RefListSerializer::new(&mut text);
    for (name, quota) in limits {
        let window = quota.replenish_interval().saturating_mul(quota.burst_size().get());
        let parameters = [("q", quota.burst_size().get().into()), ("w", seconds_to_wait(window))];
        list = push(list, name, parameters)?;
    }
    HeaderValue::try_from(text).ok()
}

/// Appends a limit and its parameters to a list; a number of more than 15 digits has no form (RFC
/// 9651 §3.3.1).
fn push<'t>(
    list: RefListSerializer<'t>,
    limit: &str,
    parameters: [(&str, u64); 2],
) -> Option<RefListSerializer<'t>> {
    let item = list.bare_item(&RefBareItem::String(limit)).ok()?;
    parameters.into_iter().try_fold(item, |item, (name, number)| {
        item.parameter(name, &RefBareItem::Integer(i64::try_from(number).ok()?)).ok()
    })
}

impl Allowance {
    /// `RateLimit`: how many requests are left, and the seconds until the bucket is full again. For
    /// an empty bucket these are the seconds until the next request, as in the `Retry-After` of the
    /// same response.
    pub fn header_value(&self) -> Option<HeaderValue> {
        let Self { limit, remaining, .. } = self;
        // Room for the longest name and both numbers, so that the text never grows.
        let mut text = String::with_capacity(FIELD_BYTES);
        let parameters = [("r", u64::from(*remaining)), ("t", self.reset_seconds())];
        push(RefListSerializer::new(&mut text), limit, parameters)?;
        HeaderValue::try_from(text).ok()
    }

    /// The reset in whole seconds, rounded up, at least 1.
    pub fn reset_seconds(&self) -> u64 {
        seconds_to_wait(self.reset)
    }
}
