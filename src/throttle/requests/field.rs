//! How the state of a limit is told to a client: `RateLimit` and `RateLimit-Policy`.
//!
//! See draft-ietf-httpapi-ratelimit-headers-10; both are lists of structured fields (RFC 9651).

use std::fmt::Write as _;

use governor::Quota;
use http::HeaderValue;

use super::super::seconds_to_wait;
use super::Allowance;
use crate::config::RateLimitKey;

/// Names of a route's limits: one list must not name two policies alike, and a route has four limits at most.
const ADDRESS: [&str; 4] = ["address", "address-2", "address-3", "address-4"];
const SUBJECT: [&str; 4] = ["subject", "subject-2", "subject-3", "subject-4"];
const APP: [&str; 4] = ["app", "app-2", "app-3", "app-4"];

/// The name of the limit that is the `nth` by this key on its route, from 0; `None` beyond the fourth.
pub(super) fn name(by: RateLimitKey, nth: usize) -> Option<&'static str> {
    let names = match by {
        RateLimitKey::Address => ADDRESS,
        RateLimitKey::Subject => SUBJECT,
        RateLimitKey::App => APP,
    };
    names.get(nth).copied()
}

/// `RateLimit-Policy` of a route: how many at once, and in how many seconds an empty bucket is full again.
pub(super) fn policy<'r>(limits: impl Iterator<Item = (&'static str, &'r Quota)>) -> Option<HeaderValue> {
    let mut text = String::new();
    for (name, quota) in limits {
        let separator = if text.is_empty() { "" } else { ", " };
        let window = quota.replenish_interval().saturating_mul(quota.burst_size().get());
        _ = write!(text, r#"{separator}"{name}";q={};w={}"#, quota.burst_size(), seconds_to_wait(window));
    }
    HeaderValue::try_from(text).ok()
}

impl Allowance {
    /// `RateLimit`: how many are left at once, and in how many seconds the bucket is full again; of an empty one, in how many
    /// there is one, which is the `Retry-After` of the same answer.
    pub fn header_value(&self) -> Option<HeaderValue> {
        let Self { limit, remaining, .. } = self;
        HeaderValue::try_from(format!(r#""{limit}";r={remaining};t={}"#, self.reset_seconds())).ok()
    }

    /// The reset in whole seconds, rounded up, at least 1.
    pub fn reset_seconds(&self) -> u64 {
        seconds_to_wait(self.reset)
    }
}
