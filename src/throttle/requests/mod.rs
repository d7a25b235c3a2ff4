//! Limits on the requests of a route, by client address, user or app.
//!
//! Each limit is a rate with room for a burst (GCRA) and has a table of its own, so that no two
//! limits, routes or kinds of client share a bucket. A request must pass all limits of its route.
//! Limits by address are checked before the caller is identified, so that the gateway need not
//! verify each token of a flood of forged ones; the others are checked afterwards. A refused
//! request is counted by the limits that it passed before, and not by later ones.
//!
//! Memory is allocated at start and never grows. A limit by address or subject takes 17 bytes for
//! each client of `throttle.capacity`; a limit by app takes 17 KiB. If a route accepts anonymous
//! callers, limits by subject and app count them by address, in a second table of
//! `throttle.capacity`: a flood of anonymous callers then takes no place of authenticated users.

mod field;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use http::HeaderValue;
use prometheus::IntCounter;

use super::Limit;
use super::client::{ClientKey, ClientKeys, NameKeys};
use super::rate::{self, ClientRate};
use super::table::Capacity;
use crate::clock::Clock;
use crate::config::{self, Access, Findings, LoginLimit, RateLimit, RateLimitKey, Route};
use crate::entropy::Entropy;
use crate::telemetry::metrics::Metrics;

/// Most limits of one route. Each takes memory and an item in a header.
const MAX_LIMITS: usize = 4;

/// The limits of every route.
pub struct RequestLimits {
    /// By the route's position in the configuration.
    routes: Box<[RouteLimits]>,
    tables: Arc<BucketKeys>,
    refused: IntCounter,
}

/// The caller of a request, as limits by subject or app count it.
#[derive(Clone, Copy)]
pub enum RateLimitCaller<'a> {
    /// An authenticated user.
    Person {
        /// The app's id.
        appid: &'a str,
        /// The user's openid in that app.
        openid: &'a str,
    },
    /// An anonymous caller at this address.
    Anonymous(IpAddr),
}

/// What a limit still allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The limit's name on its route, such as `address`.
    pub limit: &'static str,
    /// How many requests the client may send at once, now.
    pub remaining: u32,
    /// When the whole burst is allowed again, at the latest; after a refusal, when one request is.
    pub reset: Duration,
}

/// A limit refused a request; its `reset` says when the client may send the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests by {}, for {} s", .0.limit, .0.reset.as_secs_f64())]
pub struct Exceeded(pub Allowance);

impl RequestLimits {
    /// Builds the limits of these routes and allocates all the memory they will ever use; problems
    /// go to `findings`.
    ///
    /// A limit that `previous` has on a route of the same name keeps its counts.
    pub fn build(
        routes: &[Route],
        throttle: &config::Throttle,
        previous: Option<&Self>,
        metrics: &Metrics,
        clock: &Arc<dyn Clock>,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        let reused = previous.filter(|previous| previous.tables.are_of(throttle));
        let tables = match reused {
            Some(previous) => Some(Arc::clone(&previous.tables)),
            None => BucketKeys::build(throttle, entropy).map(Arc::new),
        };
        let mut is_sound = true;
        let mut built = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            match quotas(route, &format!("routes[{index}].rate_limits"), findings) {
                Some(quotas) => built.push(quotas),
                None => is_sound = false,
            }
        }
        let tables = tables.filter(|_| is_sound)?;
        let known = |of: &LimitIdentity| reused?.counts().find(|counts| counts.of == *of).map(Arc::clone);
        let limits = |(route, quotas): (&Route, Vec<Quota>)| {
            RouteLimits::new(route, &quotas, |of, quota| {
                known(&of).unwrap_or_else(|| Arc::new(LimitCounts::new(of, quota, tables.capacity, clock)))
            })
        };
        Some(Self {
            routes: routes.iter().zip(built).map(limits).collect::<Option<_>>()?,
            tables,
            refused: metrics.throttled.with_label_values(&[Limit::Request.as_str()]),
        })
    }

    /// Checks the limits by address for one request, before its caller is identified. Returns the
    /// tightest of the limits that counted the request, if any.
    ///
    /// # Errors
    /// [`Exceeded`]
    pub fn check_address(&self, route: usize, client: IpAddr) -> Result<Option<Allowance>, Exceeded> {
        self.check(route, |rule| match rule.by() {
            RateLimitKey::Address => Some((&rule.counts.known, self.tables.clients.key(client))),
            RateLimitKey::Subject | RateLimitKey::App => None,
        })
    }

    /// Checks the limits by subject and app for one request, after its caller is identified.
    /// Returns the tightest of the limits that counted the request, if any.
    ///
    /// # Errors
    /// [`Exceeded`]
    pub fn check_caller(
        &self,
        route: usize,
        caller: RateLimitCaller<'_>,
    ) -> Result<Option<Allowance>, Exceeded> {
        let BucketKeys { clients, names, .. } = &*self.tables;
        self.check(route, |rule| {
            let counts = &rule.counts;
            Some(match (rule.by(), caller) {
                (RateLimitKey::Address, _) => return None,
                (RateLimitKey::Subject, RateLimitCaller::Person { appid, openid }) => {
                    (&counts.known, names.key(&[appid, openid]))
                }
                (RateLimitKey::App, RateLimitCaller::Person { appid, .. }) => {
                    (&counts.known, names.key(&[appid]))
                }
                // A route without such a table does not accept anonymous callers.
                (_, RateLimitCaller::Anonymous(client)) => {
                    (counts.anonymous.as_ref().unwrap_or(&counts.known), clients.key(client))
                }
            })
        })
    }

    /// `RateLimit-Policy` of a route; `None` if the route has no limits.
    pub fn policy(&self, route: usize) -> Option<&HeaderValue> {
        self.routes.get(route)?.policy.as_ref()
    }

    /// Checks every limit of a route for which `bucket` returns a bucket.
    fn check<'s>(
        &'s self,
        route: usize,
        bucket: impl Fn(&'s RouteLimit) -> Option<(&'s ClientRate, ClientKey)>,
    ) -> Result<Option<Allowance>, Exceeded> {
        let rules = self.routes.get(route).map_or(&[][..], |limits| &limits.rules);
        let mut tightest = None;
        for rule in rules {
            let Some((rate, key)) = bucket(rule) else { continue };
            let left = rate.check(key).map_err(|wait| {
                self.refused.inc();
                Exceeded(Allowance { limit: rule.name, remaining: 0, reset: wait })
            })?;
            let allowance = Allowance { limit: rule.name, remaining: left.remaining, reset: left.full_in };
            tightest = Allowance::tighter(tightest, Some(allowance));
        }
        Ok(tightest)
    }

    fn counts(&self) -> impl Iterator<Item = &Arc<LimitCounts>> {
        self.routes.iter().flat_map(|route| &route.rules).map(|rule| &rule.counts)
    }
}

impl fmt::Debug for RequestLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLimits").finish_non_exhaustive()
    }
}

impl Allowance {
    /// The allowance with fewer requests; if both have the same number, the one that resets later.
    pub fn tighter(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min_by_key(|allowance| (allowance.remaining, Reverse(allowance.reset)))
    }
}

/// The limits of one route.
struct RouteLimits {
    rules: Box<[RouteLimit]>,
    policy: Option<HeaderValue>,
}

impl RouteLimits {
    fn new(
        route: &Route,
        quotas: &[Quota],
        counts: impl Fn(LimitIdentity, Quota) -> Arc<LimitCounts>,
    ) -> Option<Self> {
        let name = |position: usize, rule: &RateLimit| {
            let earlier = route.rate_limits.iter().take(position).filter(|earlier| earlier.by == rule.by);
            field::name(rule.by, earlier.count())
        };
        let rule = |(position, (rule, quota)): (usize, (&RateLimit, &Quota))| {
            Some(RouteLimit {
                name: name(position, rule)?,
                counts: counts(LimitIdentity::new(route, rule), *quota),
            })
        };
        let rules: Box<[RouteLimit]> =
            route.rate_limits.iter().zip(quotas).enumerate().map(rule).collect::<Option<_>>()?;
        let policy = field::policy(rules.iter().map(|rule| rule.name).zip(quotas));
        Some(Self { policy: policy.filter(|_| !rules.is_empty()), rules })
    }
}

/// One limit.
struct RouteLimit {
    name: &'static str,
    counts: Arc<LimitCounts>,
}

impl RouteLimit {
    fn by(&self) -> RateLimitKey {
        self.counts.of.rule.by
    }
}

/// The counts of one limit. They survive a reload that does not change the limit.
struct LimitCounts {
    of: LimitIdentity,
    /// By the key that the limit names.
    known: ClientRate,
    /// Anonymous callers, by address.
    anonymous: Option<ClientRate>,
}

/// The limit that counts belong to.
#[derive(PartialEq, Eq)]
struct LimitIdentity {
    route: String,
    rule: RateLimit,
    /// Whether anonymous callers are counted by address although the limit names another key.
    has_anonymous: bool,
}

impl LimitIdentity {
    fn new(route: &Route, rule: &RateLimit) -> Self {
        let has_anonymous = route.access == Access::Optional && rule.by != RateLimitKey::Address;
        Self { route: route.full_name(), rule: rule.clone(), has_anonymous }
    }
}

impl LimitCounts {
    fn new(of: LimitIdentity, quota: Quota, capacity: Capacity, clock: &Arc<dyn Clock>) -> Self {
        let rate = |capacity| ClientRate::new(quota, capacity, Arc::clone(clock));
        let known = match of.rule.by {
            RateLimitKey::Address | RateLimitKey::Subject => capacity,
            RateLimitKey::App => Capacity::LEAST,
        };
        Self { known: rate(known), anonymous: of.has_anonymous.then(|| rate(capacity)), of }
    }
}

/// What all limits have in common: how clients are identified, and how many are counted.
struct BucketKeys {
    clients: ClientKeys,
    names: NameKeys,
    capacity: Capacity,
    built_for: (u8, usize),
}

impl BucketKeys {
    /// Returns `None` if `throttle` is not valid; [`super::Throttle`] is built from the same
    /// section and reports the problems.
    fn build(throttle: &config::Throttle, entropy: &dyn Entropy) -> Option<Self> {
        let mut said_elsewhere = Findings::default();
        Some(Self {
            clients: ClientKeys::build(throttle.ipv6_prefix, entropy, &mut said_elsewhere)?,
            names: NameKeys::new(entropy).ok()?,
            capacity: Capacity::build(throttle.capacity, &mut said_elsewhere)?,
            built_for: (throttle.ipv6_prefix, throttle.capacity),
        })
    }

    fn are_of(&self, throttle: &config::Throttle) -> bool {
        self.built_for == (throttle.ipv6_prefix, throttle.capacity)
    }
}

/// Reads the limits of a route, with a finding for each that is not valid.
fn quotas(route: &Route, at: &str, findings: &mut Findings) -> Option<Vec<Quota>> {
    findings.scope(|findings| {
        let limits = &route.rate_limits;
        if limits.len() > MAX_LIMITS {
            findings
                .error(at.to_owned(), format!("{} limits on one route", limits.len()))
                .hint(format!("write {MAX_LIMITS} at most"));
        }
        let mut quotas = Vec::with_capacity(limits.len());
        for (position, limit) in limits.iter().enumerate() {
            let at = format!("{at}[{position}]");
            if route.access == Access::Public && limit.by != RateLimitKey::Address {
                findings
                    .error(
                        format!("{at}.by"),
                        "a public route checks no identity, so only addresses can be counted",
                    )
                    .hint("write `by: address`, or `access: authenticated` or `access: optional`");
            }
            if limits
                .iter()
                .take(position)
                .any(|earlier| (earlier.by, earlier.rate) == (limit.by, limit.rate))
            {
                findings
                    .error(
                        at.clone(),
                        format!("an earlier limit by the same key has the rate {}", limit.rate),
                    )
                    .hint("keep the one with the smaller `burst`");
            }
            quotas.extend(rate::quota(&LoginLimit { rate: limit.rate, burst: limit.burst }, &at, findings));
        }
        Some(quotas)
    })
}
