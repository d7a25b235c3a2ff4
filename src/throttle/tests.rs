mod errors;

use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{FailedLoginLimit, LoginLimit, Rate};
use crate::entropy::NoEntropy;

#[derive(Debug)]
struct FixedEntropy;

impl Entropy for FixedEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        buffer.fill(7);
        Ok(())
    }
}

#[derive(Debug)]
struct EmptyEntropy;

impl Entropy for EmptyEntropy {
    fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
        Err(NoEntropy)
    }
}

struct Bench {
    throttle: Throttle,
    clock: ManualClock,
    metrics: Metrics,
}

/// Ten logins a minute with the burst `burst`. Three failures are allowed, then lock-outs of 10 s,
/// 20 s … 60 s; failures are forgotten after 120 s.
fn config(burst: u32) -> config::Throttle {
    config::Throttle {
        login: LoginLimit { rate: Rate::per_minute(10), burst },
        failed_login: FailedLoginLimit {
            allowed: 3,
            lockout: config::Duration::from_secs(10),
            max_lockout: config::Duration::from_secs(60),
            forget_after: config::Duration::from_secs(120),
        },
        sign_in: LoginLimit { rate: Rate::per_minute(10), burst: 10 },
        all_sign_ins: LoginLimit { rate: Rate::per_minute(60), burst: 50 },
        client_errors: None,
        wechat: LoginLimit { rate: Rate::per_minute(60), burst: 5 },
        session: LoginLimit { rate: Rate::per_minute(60), burst: 3 },
        ipv6_prefix: 64,
        capacity: 1024,
    }
}

fn bench(config: &config::Throttle) -> Bench {
    let clock = ManualClock::start_at(Timestamp::from_seconds(1_800_000_000));
    let metrics = Metrics::new().unwrap();
    let mut findings = Findings::default();
    let throttle =
        Throttle::build(config, &metrics, Arc::new(clock.clone()), &FixedEntropy, &mut findings).unwrap();
    assert_eq!(findings, Findings::default());
    Bench { throttle, clock, metrics }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn store_that_is_not_shared_is_not_asked() {
    let Bench { throttle, .. } = bench(&config(5));
    // `Closed` answers every call with an error.
    let throttle = throttle.shared_in(Arc::new(crate::store::Closed::default()), &config(5));

    for _ in 0..5 {
        assert_eq!(throttle.check_login(ip("192.0.2.1")), Ok(()));
        assert_eq!(throttle.check_login_across_nodes(ip("192.0.2.1")).await, Ok(()));
        assert_eq!(throttle.check_exchange().await, Ok(()));
    }
    let refusal = throttle.check_exchange().await.unwrap_err();
    assert!(
        matches!(refusal, ThrottleError::Throttled(Throttled { limit: Limit::WeChat, .. })),
        "{refusal:?}"
    );
    assert!(throttle.check_login(ip("192.0.2.1")).is_err());
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Bench {
    /// How many of `tries` logins in a row pass.
    fn passed(&self, client: IpAddr, tries: usize) -> usize {
        (0..tries).filter(|_| self.throttle.check_login(client).is_ok()).count()
    }

    fn fail(&self, client: IpAddr, times: usize) {
        (0..times).for_each(|_| self.throttle.record_login_failure(client));
    }

    fn lockout(&self, client: IpAddr) -> Option<Duration> {
        match self.throttle.check_login(client) {
            Err(Throttled { limit: Limit::FailedLogin, retry_after }) => Some(retry_after),
            _ => None,
        }
    }

    fn refused(&self, limit: Limit) -> u64 {
        self.metrics.throttled.with_label_values(&[limit.as_str()]).get()
    }
}

#[test]
fn client_may_log_in_as_often_as_the_burst_and_then_at_the_rate() {
    let bench = bench(&config(4));
    let client = ip("192.0.2.1");

    assert_eq!(bench.passed(client, 10), 4);
    assert_eq!(bench.passed(ip("192.0.2.2"), 10), 4, "another client has its own bucket");
    bench.clock.advance(Duration::from_millis(5_999));
    assert_eq!(bench.passed(client, 10), 0);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.passed(client, 10), 1);
    bench.clock.advance(seconds(3600));
    assert_eq!(bench.passed(client, 10), 4, "a long pause gives no more than the burst");
}

#[test]
fn refusal_names_the_limit_and_counts_once() {
    let bench = bench(&config(1));
    let client = ip("192.0.2.1");

    assert_eq!(bench.throttle.check_login(client), Ok(()));
    let refusal = bench.throttle.check_login(client).unwrap_err();

    assert_eq!(refusal, Throttled { limit: Limit::Login, retry_after: seconds(6) });
    assert_eq!(Limit::ALL.map(|limit| bench.refused(limit)), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn refreshes_have_a_rate_of_their_own_and_share_the_lock_out() {
    let bench = bench(&config(2));
    let client = ip("192.0.2.1");
    for _ in 0..2 {
        assert_eq!(bench.throttle.check_refresh(client), Ok(()));
    }

    let refusal = bench.throttle.check_refresh(client).unwrap_err();

    assert_eq!(refusal, Throttled { limit: Limit::Refresh, retry_after: seconds(6) });
    assert_eq!(bench.passed(client, 3), 2, "refreshes do not count as logins");
    bench.clock.advance(seconds(60));
    for _ in 0..4 {
        bench.throttle.record_login_failure(client);
    }
    let refusal = bench.throttle.check_refresh(client).unwrap_err();
    assert_eq!(refusal, Throttled { limit: Limit::FailedLogin, retry_after: seconds(10) });
}

#[test]
fn retry_after_is_whole_seconds_rounded_up_and_never_zero() {
    for (millis, expected) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (59_500, 60)] {
        let refusal = Throttled { limit: Limit::Login, retry_after: Duration::from_millis(millis) };
        assert_eq!(refusal.retry_after_seconds(), expected, "{millis} ms");
    }
    let forever = Throttled { limit: Limit::Login, retry_after: Duration::MAX };
    assert_eq!(forever.retry_after_seconds(), u64::MAX);
}

#[test]
fn spellings_of_one_client_share_its_bucket() {
    let one_client = [
        ("10.0.0.1", "::ffff:10.0.0.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::2"),
        ("2001:db8:1:2::", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
    ];
    let two_clients = [
        ("10.0.0.1", "10.0.0.2"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2"),
        ("10.0.0.1", "::10.0.0.1"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("0.0.0.0", "::"),
    ];
    for (pairs, expected) in [(&one_client[..], 0), (&two_clients[..], 1)] {
        for (first, second) in pairs {
            let bench = bench(&config(1));
            bench.passed(ip(first), 1);
            assert_eq!(bench.passed(ip(second), 1), expected, "{first} then {second}");
        }
    }
}

#[test]
fn ipv6_prefix_sets_how_many_bits_make_a_client() {
    for (prefix, first, second, expected) in [
        (32, "2001:db8::1", "2001:db8:ffff::1", 0),
        (32, "2001:db8::1", "2001:db9::1", 1),
        (56, "2001:db8:0:ff::", "2001:db8:0:1::", 0),
        (128, "2001:db8::1", "2001:db8::2", 1),
        (32, "10.0.0.1", "10.0.0.2", 1),
    ] {
        let bench = bench(&config::Throttle { ipv6_prefix: prefix, ..config(1) });
        bench.passed(ip(first), 1);
        assert_eq!(bench.passed(ip(second), 1), expected, "/{prefix}: {first} then {second}");
    }
}

#[test]
fn thousand_logins_at_once_pass_no_more_than_the_burst() {
    let bench = bench(&config(10));
    let (client, passed, start) = (ip("192.0.2.1"), AtomicUsize::new(0), Barrier::new(8));

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                passed.fetch_add(bench.passed(client, 125), Ordering::Relaxed);
            });
        }
    });

    assert_eq!(passed.into_inner(), 10);
    assert_eq!(bench.refused(Limit::Login), 990);
}

#[test]
fn thousand_exchanges_at_once_pass_no_more_than_the_burst() {
    let bench = bench(&config(10));
    let (passed, start) = (AtomicUsize::new(0), Barrier::new(8));

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let ok = (0..125).filter(|_| bench.throttle.check_exchange_here().is_ok()).count();
                passed.fetch_add(ok, Ordering::Relaxed);
            });
        }
    });

    assert_eq!(passed.into_inner(), 5);
    assert_eq!(bench.refused(Limit::WeChat), 995);
}

#[test]
fn exchanges_of_all_clients_share_one_rate() {
    let bench = bench(&config(10));

    assert_eq!((0..9).filter(|_| bench.throttle.check_exchange_here().is_ok()).count(), 5);
    let refusal = bench.throttle.check_exchange_here().unwrap_err();
    assert_eq!(refusal, Throttled { limit: Limit::WeChat, retry_after: seconds(1) });
    bench.clock.advance(seconds(2));
    assert_eq!((0..9).filter(|_| bench.throttle.check_exchange_here().is_ok()).count(), 2);
}

#[test]
fn sign_ins_of_all_clients_share_a_rate_besides_their_own() {
    let bench = bench(&config(5));
    let throttle = &bench.throttle;
    let passed = (0..20_u8)
        .flat_map(|client| [client; 10])
        .filter(|client| throttle.check_sign_in(IpAddr::from([192, 0, 2, *client])).is_ok());

    assert_eq!(passed.count(), 50);
    let refused = throttle.check_sign_in(ip("198.51.100.1")).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (Limit::AllSignIns, seconds(1)));
    assert_eq!(bench.refused(Limit::AllSignIns), 151);
    bench.clock.advance(seconds(1));
    assert_eq!(throttle.check_sign_in(ip("198.51.100.1")), Ok(()));
}

#[test]
fn failures_beyond_the_allowed_lock_out_twice_as_long_each_time() {
    let bench = bench(&config(1000));
    let client = ip("192.0.2.1");

    bench.fail(client, 3);
    assert_eq!(bench.lockout(client), None, "allowed failures cost nothing");
    for expected in [10, 20, 40, 60, 60] {
        bench.fail(client, 1);
        assert_eq!(bench.lockout(client), Some(seconds(expected)));
        bench.clock.advance(seconds(expected) - Duration::from_millis(1));
        assert_eq!(bench.lockout(client), Some(Duration::from_millis(1)));
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(bench.lockout(client), None);
    }
    assert_eq!(bench.refused(Limit::FailedLogin), 10);
}

#[test]
fn lock_out_affects_one_client() {
    let bench = bench(&config(1000));

    bench.fail(ip("2001:db8:1:2::1"), 4);

    assert!(bench.lockout(ip("2001:db8:1:2::2")).is_some(), "same /64");
    assert_eq!(bench.lockout(ip("2001:db8:1:3::1")), None);
}

#[test]
fn failures_at_the_same_time_count_as_one_offence() {
    let bench = bench(&config(1000));
    let client = ip("192.0.2.1");

    bench.fail(client, 100);

    assert_eq!(bench.lockout(client), Some(seconds(10)));
}

#[test]
fn refused_login_of_a_locked_out_client_spends_nothing() {
    let bench = bench(&config(2));
    let client = ip("192.0.2.1");
    bench.fail(client, 4);

    assert_eq!(bench.passed(client, 100), 0);
    bench.clock.advance(seconds(10));

    assert_eq!(bench.passed(client, 100), 2);
}

#[test]
fn failures_are_forgotten_after_a_pause() {
    let bench = bench(&config(1000));
    let client = ip("192.0.2.1");
    bench.fail(client, 4);

    bench.clock.advance(Duration::from_millis(119_999));
    bench.fail(client, 1);
    assert_eq!(bench.lockout(client), Some(seconds(20)), "remembered to the end");
    bench.clock.advance(seconds(120));
    bench.fail(client, 3);

    assert_eq!(bench.lockout(client), None, "the count started from zero");
}

#[test]
fn success_removes_one_failure_and_ends_no_lock_out() {
    let bench = bench(&config(1000));
    let client = ip("192.0.2.1");
    bench.fail(client, 3);
    bench.throttle.record_login_success(client);
    bench.fail(client, 1);
    assert_eq!(bench.lockout(client), None, "three are allowed, one was removed");

    bench.fail(client, 1);
    bench.throttle.record_login_success(client);

    assert_eq!(bench.lockout(client), Some(seconds(10)), "a login that started before the lock-out");
    bench.clock.advance(seconds(10));
    bench.fail(client, 1);
    assert_eq!(bench.lockout(client), Some(seconds(20)), "it removed no failure");
}

#[test]
fn success_of_an_unknown_client_gives_no_credit() {
    let bench = bench(&config(1000));
    let client = ip("192.0.2.1");

    (0..100).for_each(|_| bench.throttle.record_login_success(client));
    bench.fail(client, 4);

    assert!(bench.lockout(client).is_some());
}

/// The `n`th of many IPv6 networks and IPv4 addresses, all different.
fn nth_client(n: u32) -> IpAddr {
    if n.is_multiple_of(2) {
        IpAddr::from((0x2001_0db8_0000_0000_0000_0000_0000_0001 + (u128::from(n) << 64)).to_be_bytes())
    } else {
        Ipv4Addr::from_bits(n).into()
    }
}

#[test]
fn flood_of_addresses_neither_grows_memory_nor_frees_an_offender() {
    let bench = bench(&config(5));
    let (eager, locked_out) = (ip("192.0.2.1"), ip("198.51.100.1"));
    bench.passed(eager, 5);
    bench.fail(locked_out, 4);
    let bytes = bench.throttle.failed_login.bytes();

    for n in 0..300_000 {
        let _ = bench.throttle.check_login(nth_client(n));
        bench.throttle.record_login_failure(nth_client(n));
    }

    assert_eq!(bench.passed(eager, 1), 0, "its bucket is still empty");
    assert_eq!(bench.lockout(locked_out), Some(seconds(10)));
    assert_eq!(bench.throttle.failed_login.bytes(), bytes);
    assert!(bytes <= 1024 * 27, "{bytes} bytes of lock-outs for 1024 clients");
    let bytes = bench.throttle.login.bytes();
    assert!(bytes <= 1024 * 18, "{bytes} bytes of rates for 1024 clients");
}

#[test]
fn flood_of_addresses_is_itself_refused() {
    let bench = bench(&config(5));

    let passed = (0..100_000).filter(|n| bench.throttle.check_login(nth_client(*n)).is_ok()).count();

    assert!(passed <= 1024 + 1024 / 16 * 5, "{passed} passed: each place once, each overflow its burst");
}

#[test]
fn new_clients_replace_full_buckets() {
    let bench = bench(&config(5));
    (0..10_000).for_each(|n| _ = bench.throttle.check_login(nth_client(n)));
    assert!(bench.throttle.check_login(ip("192.0.2.1")).is_err(), "shares an overflow already spent");

    bench.clock.advance(seconds(6));

    assert_eq!(bench.passed(ip("192.0.2.1"), 10), 5, "has a place of its own");
}

#[test]
fn new_clients_with_one_failure_replace_each_other_not_one_with_more() {
    let bench = bench(&config(5));
    let client = ip("192.0.2.1");
    bench.fail(client, 2);

    (0..50_000).for_each(|n| bench.throttle.record_login_failure(nth_client(n)));
    bench.fail(client, 2);

    assert!(bench.lockout(client).is_some(), "its two failures were remembered");
}

#[test]
fn new_client_does_not_pay_for_the_failures_of_others() {
    let bench = bench(&config(5));
    (0..10_000).for_each(|n| bench.fail(nth_client(n), 3));

    bench.fail(ip("192.0.2.1"), 1);

    assert_eq!(bench.lockout(ip("192.0.2.1")), None);
}

#[test]
fn new_clients_in_a_set_of_offenders_are_counted_together() {
    let bench = bench(&config(5));
    bench.fail(ip("198.51.100.1"), 4);
    (0..10_000).for_each(|n| bench.fail(nth_client(n), 4));

    assert!(bench.lockout(ip("198.51.100.1")).is_some(), "no offender frees another");
    assert!(bench.lockout(ip("192.0.2.1")).is_some(), "its set is full of locked-out clients");
    bench.clock.advance(seconds(120));
    assert_eq!(bench.lockout(ip("192.0.2.1")), None);
}

proptest! {
    /// The law of the leaky bucket: no period passes more than the burst and the rate allow.
    #[test]
    fn no_period_allows_more_than_burst_and_rate(
        gaps in prop::collection::vec(0_u64..20_000, 1..100),
        burst in 1_u32..8,
    ) {
        let bench = bench(&config(burst));
        let (client, mut now, mut passed) = (ip("192.0.2.1"), 0, Vec::new());
        for gap in gaps {
            bench.clock.advance(Duration::from_millis(gap));
            now += gap;
            if bench.throttle.check_login(client).is_ok() {
                passed.push(now);
            }
        }

        for (first, start) in passed.iter().enumerate() {
            for (last, end) in passed.iter().enumerate().skip(first) {
                let allowed = u64::from(burst) + (end - start) / 6_000;
                prop_assert!((last - first + 1) as u64 <= allowed, "{passed:?}");
            }
        }
    }

    #[test]
    fn client_that_waits_for_retry_after_is_allowed(burst in 1_u32..8, delay in 0_u64..6_000) {
        let bench = bench(&config(burst));
        let client = ip("192.0.2.1");
        bench.passed(client, burst as usize);
        bench.clock.advance(Duration::from_millis(delay));

        let told = bench.throttle.check_login(client).unwrap_err().retry_after;
        bench.clock.advance(told - Duration::from_millis(1));
        prop_assert!(bench.throttle.check_login(client).is_err());
        bench.clock.advance(Duration::from_millis(1));
        prop_assert!(bench.throttle.check_login(client).is_ok());
    }
}

/// What `build` reports about a configuration.
fn findings(config: &config::Throttle, entropy: &dyn Entropy) -> Vec<String> {
    let clock = ManualClock::start_now();
    let mut findings = Findings::default();
    let built = Throttle::build(config, &Metrics::new().unwrap(), Arc::new(clock), entropy, &mut findings);
    assert_eq!(built.is_none(), findings.has_errors());
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_problem_is_reported_at_once() {
    let config = config::Throttle {
        login: LoginLimit { rate: Rate { count: 0, per: seconds(1) }, burst: 0 },
        failed_login: FailedLoginLimit {
            allowed: 0,
            lockout: config::Duration::from_secs(0),
            max_lockout: config::Duration::from_secs(60),
            forget_after: config::Duration::from_secs(59),
        },
        sign_in: LoginLimit { rate: Rate::per_minute(10), burst: 10 },
        all_sign_ins: LoginLimit { rate: Rate::per_minute(60), burst: 50 },
        client_errors: None,
        wechat: LoginLimit { rate: Rate { count: u32::MAX, per: seconds(1) }, burst: 1_000_001 },
        session: LoginLimit { rate: Rate::per_minute(60), burst: 0 },
        ipv6_prefix: 31,
        capacity: 1023,
    };

    let expected = [
        "throttle.capacity: 1023 clients are out of range; write a number from 1024 to 16777216",
        "throttle: the tables need a key: the operating system gave no random bytes",
        "throttle.ipv6_prefix: 31 bits are out of range for the prefix of a client; write a number from 32 to 128",
        "throttle.login.burst: a burst of 0 is out of range; write a number from 1 to 1000000",
        "throttle.login.rate: a rate of 0/s is out of range; write at least one an hour and at most 1000000000 a second",
        "throttle.failed_login.allowed: the first failure would lock a client out; write a number from 1",
        "throttle.failed_login.lockout: a lock-out of 0s has no effect; write a duration such as `10s`",
        "throttle.failed_login.forget_after: 59s is shorter than the longest lock-out, `max_lockout: 1m`; write `1m` or longer",
        "throttle.wechat.burst: a burst of 1000001 is out of range; write a number from 1 to 1000000",
        "throttle.wechat.rate: a rate of 4294967295/s is out of range; write at least one an hour and at most 1000000000 a second",
        "throttle.session.burst: a burst of 0 is out of range; write a number from 1 to 1000000",
        "throttle.session: the table needs a key: the operating system gave no random bytes",
    ];
    assert_eq!(findings(&config, &EmptyEntropy), expected);
}

#[test]
fn limits_of_each_key_are_inclusive() {
    let duration = config::Duration::from_secs;
    let failed = |lockout, max_lockout, forget_after| config::Throttle {
        failed_login: FailedLoginLimit {
            allowed: 1,
            lockout: duration(lockout),
            max_lockout: duration(max_lockout),
            forget_after: duration(forget_after),
        },
        ..config(1)
    };
    let table = [
        (config(1), 0),
        (config::Throttle { ipv6_prefix: 32, ..config(1) }, 0),
        (config::Throttle { ipv6_prefix: 128, ..config(1) }, 0),
        (config::Throttle { ipv6_prefix: 129, ..config(1) }, 1),
        (config::Throttle { capacity: 16_777_217, ..config(1) }, 1),
        (config::Throttle { capacity: usize::MAX, ..config(1) }, 1),
        (config(1_000_000), 0),
        (config(u32::MAX), 1),
        (failed(10, 10, 10), 0),
        (failed(10, 9, 10), 1),
        (failed(10, 11, 10), 1),
        (failed(u64::MAX / 1000, u64::MAX / 1000, u64::MAX / 1000), 0),
    ];
    for (config, expected) in table {
        let found = findings(&config, &FixedEntropy);
        assert_eq!(found.len(), expected, "{config:?}: {found:?}");
    }
}

#[test]
fn default_configuration_is_valid() {
    assert_eq!(findings(&config::Throttle::default(), &FixedEntropy), Vec::<String>::new());
}

#[test]
fn extreme_but_accepted_limits_do_not_overflow() {
    let slowest = Rate { count: 1, per: seconds(3600) };
    let longest = config::Duration::from_millis(u64::MAX);
    let bench = bench(&config::Throttle {
        login: LoginLimit { rate: slowest, burst: 1_000_000 },
        failed_login: FailedLoginLimit {
            allowed: 1,
            lockout: longest,
            max_lockout: longest,
            forget_after: longest,
        },
        wechat: LoginLimit { rate: Rate { count: 1_000_000_000, per: seconds(1) }, burst: 1 },
        ..config(1)
    });
    let client = ip("192.0.2.1");

    assert_eq!(bench.passed(client, 10), 10);
    bench.fail(client, 2);

    assert!(bench.lockout(client).is_some_and(|remaining| remaining > seconds(1_000_000_000)));
}

#[test]
fn a_session_that_asks_too_often_waits_and_no_other_does() {
    let bench = bench(&config(20));
    for _ in 0..3 {
        assert_eq!(bench.throttle.check_session("one"), Ok(()));
    }

    let refusal = bench.throttle.check_session("one").unwrap_err();

    assert_eq!((refusal.limit, refusal.retry_after), (Limit::Session, Duration::from_secs(1)));
    assert_eq!(bench.throttle.check_session("other"), Ok(()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.throttle.check_session("one"), Ok(()));
}
