use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::entropy::SystemEntropy;

/// One limit by each key, two more by address, and one of each key on a route with optional access.
const ROUTES: &str = "
- { name: all, path: /, access: authenticated, upstream: u, rate_limits: [
    { by: address, rate: 1/s, burst: 4 }, { by: subject, rate: 1/s, burst: 3 }, { by: app, rate: 1/s, burst: 10 } ] }
- { name: two, path: /two, access: public, upstream: u, rate_limits: [
    { by: address, rate: 10/s, burst: 2 }, { by: address, rate: 1/min, burst: 5 } ] }
- { name: none, path: /none, access: public, upstream: u }
- { name: optional, path: /opt, access: optional, upstream: u, rate_limits: [
    { by: subject, rate: 1/s, burst: 2 }, { by: app, rate: 1/s, burst: 3 } ] }
- { name: same, path: /same, access: authenticated, upstream: u, rate_limits: [
    { by: address, rate: 1/s, burst: 4 }, { by: subject, rate: 1/s, burst: 3 } ] }
";
const ALL: usize = 0;
const TWO: usize = 1;
const NONE: usize = 2;
const OPTIONAL: usize = 3;
const SAME: usize = 4;

struct Bench {
    limits: RequestLimits,
    clock: ManualClock,
    metrics: Metrics,
}

fn routes(yaml: &str) -> Vec<Route> {
    serde_saphyr::from_str(yaml).unwrap()
}

fn throttle() -> config::Throttle {
    config::Throttle { capacity: 1024, ..config::Throttle::default() }
}

fn bench(yaml: &str) -> Bench {
    let clock = ManualClock::start_at(Timestamp::from_seconds(1_800_000_000));
    let metrics = Metrics::new().unwrap();
    let limits = built(yaml, &throttle(), None, &clock, &metrics).unwrap();
    Bench { limits, clock, metrics }
}

fn built(
    yaml: &str,
    throttle: &config::Throttle,
    previous: Option<&RequestLimits>,
    clock: &ManualClock,
    metrics: &Metrics,
) -> Result<RequestLimits, Vec<String>> {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let mut findings = Findings::default();
    let limits = RequestLimits::build(
        &routes(yaml),
        throttle,
        previous,
        metrics,
        &clock,
        &SystemEntropy,
        &mut findings,
    );
    assert_eq!(limits.is_none(), findings.has_errors());
    limits.ok_or_else(|| findings.iter().map(ToString::to_string).collect())
}

fn problems(limits: &str, access: &str) -> Vec<String> {
    let yaml = format!("- {{ path: /, access: {access}, upstream: u, rate_limits: [{limits}] }}");
    let built = built(&yaml, &throttle(), None, &ManualClock::start_now(), &Metrics::new().unwrap());
    built.err().unwrap_or_default()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn person<'a>(appid: &'a str, openid: &'a str) -> RateLimitCaller<'a> {
    RateLimitCaller::Person { appid, openid }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Bench {
    /// How many requests in a row an address makes, of `tries`.
    fn by_address(&self, route: usize, client: &str, tries: usize) -> usize {
        (0..tries).filter(|_| self.limits.check_address(route, ip(client)).is_ok()).count()
    }

    fn by_caller(&self, route: usize, caller: RateLimitCaller<'_>, tries: usize) -> usize {
        (0..tries).filter(|_| self.limits.check_caller(route, caller).is_ok()).count()
    }
}

#[test]
fn client_has_the_burst_and_then_the_rate_and_learns_what_is_left() {
    let bench = bench(ROUTES);
    let check = || bench.limits.check_address(ALL, ip("192.0.2.1"));
    let left = |remaining, reset| Allowance { limit: "address", remaining, reset: seconds(reset) };

    for (remaining, reset) in [(3, 1), (2, 2), (1, 3), (0, 4)] {
        assert_eq!(check(), Ok(Some(left(remaining, reset))));
    }
    assert_eq!(check(), Err(Exceeded(left(0, 1))));
    assert_eq!(bench.metrics.throttled.with_label_values(&["request"]).get(), 1);
    bench.clock.advance(seconds(1));
    assert_eq!(check(), Ok(Some(left(0, 4))));
    bench.clock.advance(seconds(3600));
    assert_eq!(check(), Ok(Some(left(3, 1))));
}

#[test]
fn route_without_limits_checks_nothing() {
    let bench = bench(ROUTES);

    for route in [NONE, 99] {
        assert_eq!(bench.limits.check_address(route, ip("192.0.2.1")), Ok(None));
        assert_eq!(bench.limits.check_caller(route, person("wx1", "o")), Ok(None));
        assert_eq!(bench.limits.policy(route), None);
    }
    assert_eq!(bench.limits.check_caller(TWO, RateLimitCaller::Anonymous(ip("192.0.2.1"))), Ok(None));
}

#[test]
fn limits_of_other_routes_clients_and_kinds_are_unaffected() {
    let bench = bench(ROUTES);

    assert_eq!(bench.by_address(ALL, "192.0.2.1", 9), 4);
    assert_eq!(bench.by_address(ALL, "192.0.2.2", 9), 4);
    assert_eq!(bench.by_address(SAME, "192.0.2.1", 9), 4);
    assert_eq!(bench.by_caller(ALL, person("wx1", "alice"), 9), 3);
    assert_eq!(bench.by_caller(SAME, person("wx1", "alice"), 9), 3);
    assert_eq!(bench.by_caller(SAME, person("wx2", "alice"), 9), 3, "another user, in another app");
    assert_eq!(bench.by_caller(SAME, person("wx", "2alice"), 9), 3);
    assert_eq!(bench.by_caller(SAME, person("wx1a", "lice"), 9), 3);
}

#[test]
fn all_users_of_an_app_share_its_limit() {
    let bench = bench(ROUTES);
    // The limit by subject is first and lets 3 requests of each user pass.
    let names = ["a", "b", "c", "d", "e"];

    let passed: Vec<_> = names.iter().map(|name| bench.by_caller(ALL, person("wx1", name), 5)).collect();

    assert_eq!(passed, [3, 3, 3, 1, 0]);
    assert_eq!(bench.by_caller(ALL, person("wx2", "a"), 5), 3);
}

#[test]
fn request_must_pass_all_limits_and_gets_the_tightest() {
    let bench = bench(ROUTES);
    let check = || match bench.limits.check_address(TWO, ip("192.0.2.1")) {
        Ok(Some(allowance)) => (true, allowance.limit, allowance.remaining),
        Ok(None) => panic!("there are limits"),
        Err(Exceeded(allowance)) => (false, allowance.limit, allowance.remaining),
    };

    assert_eq!(
        [check(), check(), check()],
        [(true, "address", 1), (true, "address", 0), (false, "address", 0)]
    );
    bench.clock.advance(seconds(1));
    assert_eq!(
        [check(), check(), check()],
        [(true, "address", 1), (true, "address", 0), (false, "address", 0)]
    );
    bench.clock.advance(seconds(1));
    assert_eq!(
        [check(), check(), check()],
        [(true, "address-2", 0), (false, "address-2", 0), (false, "address", 0)]
    );
}

#[test]
fn tightest_limit_has_the_least_left_and_then_the_latest_reset() {
    let allowance = |remaining, reset| Some(Allowance { limit: "app", remaining, reset: seconds(reset) });

    for (one, other, tighter) in [
        (None, None, None),
        (allowance(2, 1), None, allowance(2, 1)),
        (allowance(2, 9), allowance(1, 1), allowance(1, 1)),
        (allowance(2, 1), allowance(2, 9), allowance(2, 9)),
    ] {
        assert_eq!(Allowance::tighter(one, other), tighter);
        assert_eq!(Allowance::tighter(other, one), tighter);
    }
}

#[test]
fn anonymous_caller_is_counted_by_address_and_takes_no_place_of_a_user() {
    let bench = bench(ROUTES);
    let anonymous = |client: &str| bench.by_caller(OPTIONAL, RateLimitCaller::Anonymous(ip(client)), 9);
    assert_eq!(bench.by_address(OPTIONAL, "192.0.2.1", 9), 9, "the route has no limit by address");

    assert_eq!(anonymous("192.0.2.1"), 2);
    assert_eq!(anonymous("192.0.2.1"), 0);
    assert_eq!(anonymous("2001:db8::1"), 2);
    assert_eq!(anonymous("2001:db8::2"), 0, "the same network");
    for number in 0..50_000_u32 {
        let caller = RateLimitCaller::Anonymous(IpAddr::from(
            (0x2000 << 112 | u128::from(number) << 64).to_be_bytes(),
        ));
        _ = bench.limits.check_caller(OPTIONAL, caller);
    }

    assert_eq!(bench.by_caller(OPTIONAL, person("wx1", "alice"), 9), 2);
    assert_eq!(bench.by_caller(OPTIONAL, person("wx1", "bob"), 9), 1, "one of the app's three is left");
}

#[test]
fn flood_of_addresses_neither_grows_memory_nor_resets_a_limit() {
    let bench = bench(ROUTES);
    assert_eq!(bench.by_address(ALL, "192.0.2.1", 9), 4);
    assert_eq!(bench.by_caller(ALL, person("wx1", "alice"), 9), 3);

    for number in 0..100_000_u32 {
        _ = bench
            .limits
            .check_address(ALL, IpAddr::from((0x2000 << 112 | u128::from(number) << 64).to_be_bytes()));
        _ = bench.limits.check_caller(ALL, person("wx1", &number.to_string()));
    }

    assert_eq!(bench.by_address(ALL, "192.0.2.1", 1), 0);
    assert_eq!(bench.by_caller(ALL, person("wx1", "alice"), 1), 0);
    let routes = bench.limits.routes.into_vec();
    let counts = routes.into_iter().flat_map(|route| route.rules).map(|rule| rule.counts);
    let bytes: Vec<_> = counts
        .filter_map(Arc::into_inner)
        .map(|counts| (counts.known.bytes(), counts.anonymous.map(ClientRate::bytes)))
        .collect();
    assert_eq!(bytes.len(), 9);
    for (known, anonymous) in &bytes {
        assert!(*known <= 1024 * 18 && anonymous.is_none_or(|bytes| bytes <= 1024 * 18), "{bytes:?}");
    }
    assert_eq!(bytes.iter().filter(|(_, anonymous)| anonymous.is_some()).count(), 2);
}

#[test]
fn limits_by_app_are_small_at_any_capacity() {
    let large = config::Throttle { capacity: 65_536, ..throttle() };
    let limits = built(ROUTES, &large, None, &ManualClock::start_now(), &Metrics::new().unwrap()).unwrap();

    let of_all = limits.routes.into_vec().swap_remove(ALL).rules;
    let bytes: Vec<_> =
        of_all.into_iter().map(|rule| Arc::into_inner(rule.counts).unwrap().known.bytes()).collect();

    assert_eq!(bytes[0], bytes[1]);
    assert!(bytes[0] >= 65_536 * 16 && bytes[2] <= 1024 * 18, "{bytes:?}");
}

#[test]
fn thousand_requests_at_once_pass_no_more_than_the_burst() {
    let bench = bench(ROUTES);
    let passed = AtomicUsize::new(0);

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                passed.fetch_add(bench.by_address(ALL, "192.0.2.1", 125), Ordering::Relaxed);
            });
        }
    });

    assert_eq!(passed.into_inner(), 4);
}

#[test]
fn headers_are_structured_fields() {
    let bench = bench(ROUTES);
    let policy = |route| bench.limits.policy(route).unwrap().to_str().unwrap().to_owned();
    let told = |allowance: Allowance| allowance.header_value().unwrap().to_str().unwrap().to_owned();

    assert_eq!(policy(ALL), r#""address";q=4;w=4, "subject";q=3;w=3, "app";q=10;w=10"#);
    assert_eq!(policy(TWO), r#""address";q=2;w=1, "address-2";q=5;w=300"#);
    let allowance = |millis| Allowance { limit: "app", remaining: 7, reset: Duration::from_millis(millis) };
    assert_eq!(told(allowance(3000)), r#""app";r=7;t=3"#);
    assert_eq!(told(allowance(3001)), r#""app";r=7;t=4"#);
    assert_eq!(told(allowance(0)), r#""app";r=7;t=1"#);
    let slowest = bench_of_slowest();
    assert_eq!(slowest, r#""address";q=1000000;w=3600000000"#);
}

fn bench_of_slowest() -> String {
    let yaml = "- { path: /, access: public, upstream: u, rate_limits: [{ by: address, rate: 1/h, burst: 1000000 }] }";
    let bench = bench(yaml);
    assert_eq!(bench.by_address(0, "192.0.2.1", 9), 9);
    bench.limits.policy(0).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn limit_that_a_reload_does_not_change_keeps_its_counts() {
    let Bench { limits, clock, metrics } = bench(ROUTES);
    let bench = |limits| Bench { limits, clock: clock.clone(), metrics: metrics.clone() };
    let reload = |yaml: &str, throttle: &config::Throttle| {
        bench(built(yaml, throttle, Some(&limits), &clock, &metrics).unwrap())
    };
    for route in [ALL, SAME] {
        while limits.check_address(route, ip("192.0.2.1")).is_ok() {}
        while limits.check_caller(route, person("wx1", "alice")).is_ok() {}
    }

    let same = reload(
        ROUTES,
        &config::Throttle { login: LoginLimit { burst: 1, ..throttle().login }, ..throttle() },
    );
    assert_eq!(same.by_address(ALL, "192.0.2.1", 9), 0);
    assert_eq!(same.by_caller(ALL, person("wx1", "alice"), 9), 0);
    // Routes may change their order, and new limits may stand before others.
    let moved = reload(
        "
- { name: new, path: /new, access: public, upstream: u, rate_limits: [{ by: address, rate: 1/s, burst: 4 }] }
- { name: all, path: /moved, access: authenticated, upstream: u, rate_limits: [
    { by: address, rate: 1/h, burst: 9 }, { by: subject, rate: 1/s, burst: 3 }, { by: address, rate: 1/s, burst: 4 } ] }
- { name: same, path: /same, access: authenticated, upstream: u, rate_limits: [
    { by: address, rate: 1/s, burst: 5 }, { by: subject, rate: 2/s, burst: 3 } ] }",
        &throttle(),
    );
    assert_eq!(moved.by_address(0, "192.0.2.1", 9), 4, "a new route");
    assert_eq!(moved.by_address(1, "192.0.2.1", 9), 0);
    assert_eq!(moved.by_caller(1, person("wx1", "alice"), 9), 0);
    assert_eq!(moved.by_address(2, "192.0.2.1", 9), 5, "another burst is another limit");
    assert_eq!(moved.by_caller(2, person("wx1", "alice"), 9), 3, "another rate is another limit");
    let other_clients = reload(ROUTES, &config::Throttle { ipv6_prefix: 56, ..throttle() });
    assert_eq!(other_clients.by_address(ALL, "192.0.2.1", 9), 4, "the prefix of a client has changed");
}

#[test]
fn all_invalid_limits_are_reported_at_once() {
    let limit = "{ by: address, rate: 1/s, burst: 1 }";

    assert_eq!(problems(limit, "public"), <[&str; 0]>::default());
    assert_eq!(
        problems(
            "{ by: subject, rate: 1/s, burst: 0 }, { by: app, rate: 1/s, burst: 1 }, { by: app, rate: 2/s, burst: 1 },
             { by: app, rate: 1/s, burst: 9 }, { by: address, rate: 4294967295/s, burst: 1000001 }",
            "public"
        ),
        [
            "routes[0].rate_limits: 5 limits on one route; write 4 at most",
            "routes[0].rate_limits[0].by: a public route checks no identity, so only addresses can be counted; write `by: address`, or `access: authenticated` or `access: optional`",
            "routes[0].rate_limits[0].burst: a burst of 0 is out of range; write a number from 1 to 1000000",
            "routes[0].rate_limits[1].by: a public route checks no identity, so only addresses can be counted; write `by: address`, or `access: authenticated` or `access: optional`",
            "routes[0].rate_limits[2].by: a public route checks no identity, so only addresses can be counted; write `by: address`, or `access: authenticated` or `access: optional`",
            "routes[0].rate_limits[3].by: a public route checks no identity, so only addresses can be counted; write `by: address`, or `access: authenticated` or `access: optional`",
            "routes[0].rate_limits[3]: an earlier limit by the same key has the rate 1/s; keep the one with the smaller `burst`",
            "routes[0].rate_limits[4].burst: a burst of 1000001 is out of range; write a number from 1 to 1000000",
            "routes[0].rate_limits[4].rate: a rate of 4294967295/s is out of range; write at least one an hour and at most 1000000000 a second",
        ]
    );
    assert_eq!(problems(&[limit; 2].join(", "), "optional").len(), 1);
    let four = "{ by: address, rate: 1/s, burst: 1 }, { by: address, rate: 2/s, burst: 1 }, { by: address, rate: 3/s, burst: 1 }, { by: address, rate: 4/s, burst: 1 }";
    assert_eq!(problems(four, "public"), <[&str; 0]>::default());
}

proptest! {
    /// In any period, a bucket passes no more requests than the burst and the rate allow.
    #[test]
    fn no_period_passes_more_than_burst_and_rate(
        steps in prop::collection::vec((0_u64..3_000, 0_u8..3, 0_u8..3), 1..120),
    ) {
        let bench = bench(ROUTES);
        let (apps, people) = (["wx1", "wx2", "wx3"], ["a", "b", "c"]);
        let mut now = 0;
        let mut passed: Vec<(u64, u8, u8)> = Vec::new();
        for (gap, app, openid) in steps {
            bench.clock.advance(Duration::from_millis(gap));
            now += gap;
            let caller = person(apps[usize::from(app)], people[usize::from(openid)]);
            if bench.limits.check_caller(ALL, caller).is_ok() {
                passed.push((now, app, openid));
            }
        }

        let check = |times: Vec<u64>, burst: u64| -> Result<(), TestCaseError> {
            for (first, start) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let allowed = burst + (end - start) / 1_000;
                    prop_assert!((last - first + 1) as u64 <= allowed, "{times:?}");
                }
            }
            Ok(())
        };
        for app in 0..3 {
            check(passed.iter().filter(|one| one.1 == app).map(|one| one.0).collect(), 10)?;
            for openid in 0..3 {
                check(passed.iter().filter(|one| (one.1, one.2) == (app, openid)).map(|one| one.0).collect(), 3)?;
            }
        }
    }

    #[test]
    fn client_that_waits_until_the_reset_is_allowed(delay in 0_u64..1_000) {
        let bench = bench(ROUTES);
        bench.by_address(ALL, "192.0.2.1", 4);
        bench.clock.advance(Duration::from_millis(delay));

        if let Err(Exceeded(none_left)) = bench.limits.check_address(ALL, ip("192.0.2.1")) {
            bench.clock.advance(seconds(none_left.reset_seconds()));
        }
        prop_assert!(bench.limits.check_address(ALL, ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn client_may_use_what_is_left_and_the_burst_after_the_reset(taken in 1_usize..4, delay in 0_u64..3_000) {
        let bench = bench(ROUTES);
        bench.by_address(ALL, "192.0.2.1", taken);
        bench.clock.advance(Duration::from_millis(delay));

        let left = bench.limits.check_address(ALL, ip("192.0.2.1")).unwrap().unwrap();
        prop_assert_eq!(bench.by_address(ALL, "192.0.2.1", 9), left.remaining as usize);

        let bench = self::bench(ROUTES);
        bench.by_address(ALL, "192.0.2.1", taken);
        bench.clock.advance(Duration::from_millis(delay));
        let left = bench.limits.check_address(ALL, ip("192.0.2.1")).unwrap().unwrap();
        bench.clock.advance(left.reset);
        prop_assert_eq!(bench.by_address(ALL, "192.0.2.1", 9), 4);
    }
}
