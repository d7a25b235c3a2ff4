mod errors;
mod figures;
mod login;

use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{FailedLoginLimit, LoginLimit, Rate};
use crate::entropy::NoEntropy;
use crate::identity::{AppId, OpenId};

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
    throttle: Arc<Throttle>,
    clock: ManualClock,
    metrics: Metrics,
    codes: AtomicUsize,
}

/// Ten failed logins a minute with the burst `burst`.
fn config(burst: u32) -> config::Throttle {
    config::Throttle {
        login: LoginLimit { rate: Rate::per_minute(10), burst },
        known_user: LoginLimit { rate: Rate::per_minute(10), burst: 10 },
        failed_login: None,
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
    Bench { throttle: Arc::new(throttle), clock, metrics, codes: AtomicUsize::new(0) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn user(openid: &str) -> Subject {
    Subject { appid: AppId::parse("wx0").unwrap(), openid: OpenId::parse(openid).unwrap() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a future that waits for nothing gives.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

impl Bench {
    fn new_code(&self) -> String {
        format!("code{}", self.codes.fetch_add(1, Ordering::Relaxed))
    }

    /// A login with a made-up code.
    fn forge_one(&self, client: IpAddr, code: &str) -> Result<(), Throttled> {
        let charge = self.throttle.charge_login(client, code, None)?;
        at_once(charge.fail());
        Ok(())
    }

    /// How many of so many logins with made-up codes are let pass.
    fn forge(&self, client: IpAddr, times: usize) -> usize {
        (0..times).filter(|_| self.forge_one(client, &self.new_code()).is_ok()).count()
    }

    /// A login with a good code.
    fn log_in(&self, client: IpAddr, code: &str) -> Result<(), Throttled> {
        self.throttle.charge_login(client, code, None).map(LoginCharge::succeed)
    }

    fn refused(&self, limit: Limit) -> u64 {
        self.metrics.throttled.with_label_values(&[limit.as_str()]).get()
    }
}

/// The `n`th of many IPv6 networks and IPv4 addresses, all different.
fn nth_client(n: u32) -> IpAddr {
    if n.is_multiple_of(2) {
        IpAddr::from((0x2001_0db8_0000_0000_0000_0000_0000_0001 + (u128::from(n) << 80)).to_be_bytes())
    } else {
        Ipv4Addr::from_bits(n).into()
    }
}

#[tokio::test]
async fn store_that_is_not_shared_is_not_asked() {
    let Bench { throttle, .. } = bench(&config(5));
    // `Closed` answers every call with an error.
    let throttle = Arc::into_inner(throttle).unwrap();
    let throttle = Arc::new(throttle.shared_in(Arc::new(crate::store::Closed::default()), &config(5)));

    for _ in 0..5 {
        throttle.charge_login(ip("192.0.2.1"), "guess", None).unwrap().fail().await;
        assert_eq!(throttle.check_exchange(Standing::Known).await, Ok(()));
    }
    let refusal = throttle.check_exchange(Standing::Known).await.unwrap_err();
    assert!(
        matches!(refusal, ThrottleError::Throttled(Throttled { limit: Limit::WeChat, .. })),
        "{refusal:?}"
    );
    assert!(throttle.charge_login(ip("192.0.2.1"), "guess", None).is_err());
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
fn failed_refreshes_are_slowed_and_cost_logins_and_good_refreshes_nothing() {
    let bench = bench(&config(2));
    let client = ip("192.0.2.1");

    let failed = (0..1000).filter(|_| bench.throttle.charge_failed_refresh(client).is_ok()).count();

    assert_eq!(failed, 2);
    let refusal = bench.throttle.charge_failed_refresh(client).unwrap_err();
    assert_eq!(refusal, Throttled { limit: Limit::Refresh, retry_after: seconds(6) });
    assert_eq!(bench.throttle.check_refresh_of(&user("alice")), Ok(()));
    assert_eq!(bench.throttle.check_sign_in(client, None), Ok(()));
    assert_eq!(bench.forge(client, 3), 2);
    assert_eq!(bench.throttle.charge_failed_refresh(ip("192.0.2.2")), Ok(()));
}

#[test]
fn good_refreshes_are_counted_by_user() {
    let bench = bench(&config(2));

    let passed = (0..9).filter(|_| bench.throttle.check_refresh_of(&user("alice")).is_ok()).count();

    assert_eq!(passed, 2);
    let refusal = bench.throttle.check_refresh_of(&user("alice")).unwrap_err();
    assert_eq!(refusal, Throttled { limit: Limit::Refresh, retry_after: seconds(6) });
    assert_eq!(bench.throttle.check_refresh_of(&user("bob")), Ok(()));
}

#[test]
fn exchanges_of_all_clients_share_one_rate_of_which_a_share_is_kept_for_known_addresses() {
    use Standing::{Failing, Known, New};
    let passed = |bench: &Bench, standing| {
        (0..9).filter(|_| at_once(bench.throttle.check_exchange(standing)).is_ok()).count()
    };
    for (standings, expected) in [
        ([Failing, New, Known], [3, 1, 1]),
        ([New, Failing, Known], [4, 0, 1]),
        ([Known, New, Failing], [5, 0, 0]),
    ] {
        let bench = bench(&config(10));
        assert_eq!(standings.map(|standing| passed(&bench, standing)), expected, "{standings:?}");
        let refusal = at_once(bench.throttle.check_exchange(Known)).unwrap_err();
        assert_eq!(refusal, Throttled { limit: Limit::WeChat, retry_after: seconds(1) }.into());
        bench.clock.advance(seconds(2));
        let refilled = match standings {
            [Failing, New, Known] => [0, 1, 1],
            [New, Failing, Known] => [1, 0, 1],
            _ => [2, 0, 0],
        };
        assert_eq!(standings.map(|standing| passed(&bench, standing)), refilled, "{standings:?}");
    }
}

#[test]
fn thousand_exchanges_at_once_pass_no_more_than_the_burst() {
    let bench = bench(&config(10));
    let (passed, start) = (AtomicUsize::new(0), Barrier::new(8));

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let check = |_: &usize| at_once(bench.throttle.check_exchange(Standing::Known)).is_ok();
                passed.fetch_add((0..125).filter(check).count(), Ordering::Relaxed);
            });
        }
    });

    assert_eq!(passed.into_inner(), 5);
    assert_eq!(bench.refused(Limit::WeChat), 995);
}

#[test]
fn sign_ins_of_all_clients_share_a_rate_besides_their_own() {
    let bench = bench(&config(5));
    let throttle = &bench.throttle;
    let known = ip("203.0.113.1");
    bench.log_in(known, "code").unwrap();
    let passed = (0..20_u8)
        .flat_map(|client| [client; 10])
        .filter(|client| throttle.check_sign_in(IpAddr::from([192, 0, 2, *client]), None).is_ok());

    assert_eq!(passed.count(), 38, "of 50 a quarter is kept");
    let refused = throttle.check_sign_in(ip("198.51.100.1"), None).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (Limit::AllSignIns, seconds(1)));
    assert_eq!(bench.refused(Limit::AllSignIns), 163);
    assert_eq!((0..20).filter(|_| throttle.check_sign_in(known, None).is_ok()).count(), 10);
    bench.clock.advance(seconds(12));
    assert_eq!(throttle.check_sign_in(ip("198.51.100.1"), None), Ok(()));
}

#[test]
fn sign_in_that_succeeds_gives_back_what_it_took_of_its_address() {
    let bench = bench(&config(5));
    let client = ip("192.0.2.1");
    for _ in 0..40 {
        assert_eq!(bench.throttle.check_sign_in(client, None), Ok(()));
        bench.throttle.give_back_sign_in(client);
        bench.clock.advance(seconds(1));
    }

    let passed = (0..20).filter(|_| bench.throttle.check_sign_in(client, None).is_ok()).count();

    assert_eq!(passed, 10);
    let known = user("alice");
    assert!(bench.throttle.is_slowing_sign_ins(client));
    assert!(bench.throttle.check_sign_in(client, None).is_err());
    let passed = (0..20).filter(|_| bench.throttle.check_sign_in(client, Some(&known)).is_ok()).count();
    assert_eq!(passed, 10, "a known user has a rate of their own");
}

#[test]
fn flood_of_addresses_does_not_grow_memory_nor_free_an_offender_nor_refuse_a_stranger() {
    let bench = bench(&config(5));
    let offender = ip("198.51.100.1");
    bench.forge(offender, 5);
    let bytes = bench.throttle.logins.bytes();

    let mut refused = 0;
    for n in 0..300_000 {
        refused += u32::from(bench.forge_one(nth_client(n), "guess").is_err());
        let _ = bench.throttle.charge_failed_refresh(nth_client(n));
        let _ = bench.throttle.check_cross_site(nth_client(n));
    }

    assert_eq!(refused, 0, "each came once");
    assert_eq!(bench.forge(offender, 1), 0, "its bucket is still full");
    for stranger in 0..100 {
        let stranger = IpAddr::from([100, 64, 0, stranger]);
        assert_eq!(bench.log_in(stranger, &bench.new_code()), Ok(()));
        assert_eq!(bench.throttle.charge_failed_refresh(stranger), Ok(()));
        assert_eq!(bench.throttle.check_cross_site(stranger), Ok(()));
    }
    assert_eq!(bench.throttle.logins.bytes(), bytes);
    assert!(bytes <= 1024 * (17 + 17 + 25), "{bytes} bytes for 1024 clients in three tables");
}

#[test]
fn full_table_of_offenders_refuses_no_stranger() {
    let bench = bench(&config::Throttle {
        client_errors: Some(FailedLoginLimit { allowed: 3, ..FailedLoginLimit::default() }),
        ..config(5)
    });
    for n in 0..10_000 {
        bench.forge(nth_client(n), 6);
        (0..6).for_each(|_| bench.throttle.record_response(nth_client(n), 404));
    }

    for stranger in 0..100 {
        let stranger = IpAddr::from([100, 64, 0, stranger]);
        assert_eq!(bench.log_in(stranger, &bench.new_code()), Ok(()));
        assert_eq!(bench.throttle.check_request(stranger), Ok(()));
    }
}

#[test]
fn throttled_addresses_are_listed_and_lifted() {
    let bench = bench(&config(2));
    let (one, other) = (ip("192.0.2.1"), ip("2001:db8:1:2::1"));
    assert_eq!(bench.throttle.list(), []);
    bench.forge(one, 5);
    bench.clock.advance(seconds(2));
    bench.forge(other, 3);
    bench.throttle.charge_failed_refresh(other).unwrap();

    let listed: Vec<_> = bench.throttle.list();

    let named = |entry: &ThrottledAddress| (entry.address.clone(), entry.limit, entry.refused);
    assert_eq!(
        listed.iter().map(named).collect::<Vec<_>>(),
        [("192.0.2.1".into(), Limit::Login, 3), ("2001:db8:1:2::/64".into(), Limit::Login, 1)]
    );
    assert_eq!(listed[1].since.since(listed[0].since), seconds(2));
    assert_eq!(at_once(bench.throttle.lift(ip("192.0.2.2"))), Ok(0));
    assert_eq!(at_once(bench.throttle.lift(ip("2001:db8:1:2::99"))), Ok(1));
    assert_eq!(bench.throttle.list().len(), 1);
    assert_eq!(bench.forge(other, 3), 2, "as if nothing had been counted");
    bench.clock.advance(seconds(120));
    assert_eq!(bench.throttle.list(), [], "the rest is over by itself");
}

#[test]
fn each_row_of_refusals_is_named_once() {
    let bench = bench(&config(2));
    let name = bench.throttle.clients.network(ip("192.0.2.1")).name;
    let note = || bench.throttle.listing.note(name, Limit::Login, seconds(6));

    assert_eq!([(); 3].map(|()| note()), [true, false, false]);
    bench.clock.advance(seconds(65));
    assert!(!note(), "it goes on");
    bench.clock.advance(seconds(66));
    assert!(note(), "a new row");
    assert!(bench.throttle.listing.note(name, Limit::SignIn, seconds(6)), "another limit");
}

#[test]
fn list_is_bounded() {
    let bench = bench(&config(2));
    let note = |n| {
        let name = bench.throttle.clients.network(nth_client(n)).name;
        bench.throttle.listing.note(name, Limit::Login, seconds(6))
    };

    assert_eq!((0..10_000).filter(|n| note(*n)).count(), 4096);
    assert_eq!(bench.throttle.list().len(), 4096);
    bench.clock.advance(seconds(66));
    assert!(note(10_000));
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
        known_user: LoginLimit { rate: Rate::per_minute(10), burst: 0 },
        failed_login: Some(FailedLoginLimit {
            allowed: 0,
            lockout: config::Duration::from_secs(0),
            max_lockout: config::Duration::from_secs(60),
            forget_after: config::Duration::from_secs(59),
        }),
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
        "throttle.known_user.burst: a burst of 0 is out of range; write a number from 1 to 1000000",
        "throttle.wechat.burst: a burst of 1000001 is out of range; write a number from 1 to 1000000",
        "throttle.wechat.rate: a rate of 4294967295/s is out of range; write at least one an hour and at most 1000000000 a second",
        "throttle.session.burst: a burst of 0 is out of range; write a number from 1 to 1000000",
        "throttle.session: the table needs a key: the operating system gave no random bytes",
        "throttle.failed_login: no address is locked out any longer: a failed login takes from `throttle.login`, and one that succeeds gives back what it took; remove the section",
        "throttle.failed_login.allowed: the first failure would lock a client out; write a number from 1",
        "throttle.failed_login.lockout: a lock-out of 0s has no effect; write a duration such as `10s`",
        "throttle.failed_login.forget_after: 59s is shorter than the longest lock-out, `max_lockout: 1m`; write `1m` or longer",
    ];
    assert_eq!(findings(&config, &EmptyEntropy), expected);
}

#[test]
fn limits_of_each_key_are_inclusive() {
    let duration = config::Duration::from_secs;
    let errors = |lockout, max_lockout, forget_after| config::Throttle {
        client_errors: Some(FailedLoginLimit {
            allowed: 1,
            lockout: duration(lockout),
            max_lockout: duration(max_lockout),
            forget_after: duration(forget_after),
        }),
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
        (errors(10, 10, 10), 0),
        (errors(10, 9, 10), 1),
        (errors(10, 11, 10), 1),
        (errors(u64::MAX / 1000, u64::MAX / 1000, u64::MAX / 1000), 0),
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
fn section_without_effect_is_accepted_with_a_warning() {
    let section = config::Throttle { failed_login: Some(FailedLoginLimit::default()), ..config(1) };

    let clock = Arc::new(ManualClock::start_now());
    let mut findings = Findings::default();
    let built =
        Throttle::build(&section, &Metrics::new().unwrap(), clock, &FixedEntropy, &mut findings).unwrap();

    assert!(!findings.has_errors());
    assert_eq!(findings.iter().count(), 1);
    assert!(findings.iter().next().unwrap().to_string().contains("throttle.login"));
    drop(built);
}

#[test]
fn extreme_but_accepted_limits_do_not_overflow() {
    let slowest = Rate { count: 1, per: seconds(3600) };
    let longest = config::Duration::from_millis(u64::MAX);
    let bench = bench(&config::Throttle {
        login: LoginLimit { rate: slowest, burst: 1_000_000 },
        client_errors: Some(FailedLoginLimit {
            allowed: 1,
            lockout: longest,
            max_lockout: longest,
            forget_after: longest,
        }),
        wechat: LoginLimit { rate: Rate { count: 1_000_000_000, per: seconds(1) }, burst: 1 },
        ..config(1)
    });
    let client = ip("2001:db8::1");

    assert_eq!(bench.forge(client, 10), 10);
    bench.throttle.record_response(client, 404);
    bench.throttle.record_response(client, 404);

    let remaining = bench.throttle.check_request(client).unwrap_err().retry_after;
    assert!(remaining > seconds(1_000_000_000));
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
