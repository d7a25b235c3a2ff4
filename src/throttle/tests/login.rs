use proptest::prelude::*;

use super::*;

#[test]
fn failed_logins_pass_as_often_as_the_burst_and_then_at_the_rate() {
    let bench = bench(&config(4));
    let client = ip("192.0.2.1");

    assert_eq!(bench.forge(client, 10), 4);
    assert_eq!(bench.forge(ip("192.0.2.2"), 10), 4, "another client has its own bucket");
    bench.clock.advance(Duration::from_millis(5_999));
    assert_eq!(bench.forge(client, 10), 0);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.forge(client, 10), 1);
    bench.clock.advance(seconds(3600));
    assert_eq!(bench.forge(client, 10), 4, "a long pause gives no more than the burst");
}

#[test]
fn login_that_does_not_fail_gives_back_what_it_took() {
    let bench = bench(&config(2));
    let client = ip("192.0.2.1");
    for _ in 0..100 {
        assert_eq!(bench.log_in(client, &bench.new_code()), Ok(()));
        let unanswered = bench.throttle.charge_login(client, &bench.new_code(), None);
        drop(unanswered.unwrap());
    }
    let under_way = [(); 2].map(|()| bench.throttle.charge_login(client, &bench.new_code(), None).unwrap());

    assert!(bench.log_in(client, &bench.new_code()).is_err(), "those under way hold what they took");
    drop(under_way);

    assert_eq!(bench.forge(client, 5), 2);
}

#[test]
fn refusal_names_the_limit_and_counts_once() {
    let bench = bench(&config(1));
    let client = ip("192.0.2.1");

    assert_eq!(bench.forge_one(client, "guess"), Ok(()));
    let refusal = bench.forge_one(client, "other").unwrap_err();

    assert_eq!(refusal, Throttled { limit: Limit::Login, retry_after: seconds(6) });
    assert_eq!(Limit::ALL.map(|limit| bench.refused(limit)), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn code_that_waited_passes_although_others_fill_the_bucket() {
    let bench = bench(&config(3));
    let client = ip("192.0.2.1");
    bench.forge(client, 3);
    let wait = bench.log_in(client, "good").unwrap_err().retry_after_seconds();
    assert_eq!(wait, 6);

    bench.clock.advance(seconds(wait) - Duration::from_millis(1));
    assert!(bench.log_in(client, "good").is_err(), "it did not wait");
    bench.forge(client, 3);
    bench.clock.advance(Duration::from_millis(1));
    bench.forge(client, 3);

    assert!(bench.log_in(client, "new").is_err(), "a code that never waited");
    assert!(bench.log_in(ip("198.51.100.1"), "good").is_ok(), "somewhere else");
    assert_eq!(bench.log_in(client, "good"), Ok(()));
    assert!(bench.log_in(client, "good").is_err(), "the next time it waits again");
    bench.clock.advance(seconds(6));
    bench.forge(client, 3);
    assert_eq!(bench.log_in(client, "good"), Ok(()));
}

#[test]
fn codes_have_a_bucket_of_the_same_size_after_each_wait() {
    let bench = bench(&config(3));
    let client = ip("192.0.2.1");
    let guesses: Vec<String> = (0..10).map(|_| bench.new_code()).collect();
    let send = || guesses.iter().filter(|guess| bench.forge_one(client, guess).is_ok()).count();

    assert_eq!(send(), 3);
    bench.clock.advance(seconds(6));
    assert_eq!(send(), 1 + 3);
    assert_eq!(send(), 0, "they came before the wait was over");
    bench.clock.advance(seconds(6));
    assert_eq!(send(), 1 + 1 + 3, "those that waited once, and those that waited twice");
}

#[test]
fn known_user_has_a_rate_of_their_own_while_the_address_has_nothing_left() {
    let bench = bench(&config(3));
    let (client, alice) = (ip("192.0.2.1"), user("alice"));
    let charge = |user: &Subject| bench.throttle.charge_login(client, &bench.new_code(), Some(user));
    assert!(!bench.throttle.is_slowing_logins(client));
    let charged = charge(&alice).unwrap();
    assert!(!charged.is_for_known_user(), "there is enough for everybody");
    charged.succeed();
    bench.forge(client, 3);

    assert!(bench.throttle.is_slowing_logins(client));
    for _ in 0..10 {
        let charged = charge(&alice).unwrap();
        assert!(charged.is_for_known_user());
        assert_eq!(charged.standing(), Standing::Known);
        charged.succeed();
    }
    assert_eq!(charge(&alice).unwrap_err().limit, Limit::Login);
    assert!(charge(&user("bob")).is_ok());
    bench.clock.advance(seconds(6));
    bench.forge(client, 1);
    assert!(charge(&alice).is_ok());
}

#[test]
fn failure_of_a_known_user_counts_against_the_address() {
    let bench = bench(&config(2));
    let client = ip("192.0.2.1");
    bench.forge(client, 2);
    let known = user("alice");
    let charged = bench.throttle.charge_login(client, "of-another", Some(&known)).unwrap();
    bench.clock.advance(seconds(6));

    at_once(charged.fail());

    assert_eq!(bench.forge(client, 1), 0);
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
            bench.forge(ip(first), 1);
            assert_eq!(bench.forge(ip(second), 1), expected, "{first} then {second}");
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
        bench.forge(ip(first), 1);
        assert_eq!(bench.forge(ip(second), 1), expected, "/{prefix}: {first} then {second}");
    }
}

#[test]
fn ipv6_networks_have_growing_budgets() {
    let bench = bench(&config(3));
    let of = |site: u16, subnet: u16| ip(&format!("2001:db8:{site:x}:{subnet:x}::1"));

    assert_eq!(bench.forge(of(1, 0x0101), 9), 3, "one /64");
    assert_eq!((0..256).map(|subnet| bench.forge(of(1, 0x0100 + subnet), 9)).sum::<usize>(), 3, "its /56");
    let rest: usize = (0..256).map(|site| bench.forge(of(1, site << 8), 9)).sum();
    assert_eq!(rest, 6, "its /48: twelve in all");
    assert_eq!(bench.forge(of(2, 0), 9), 3, "another /48");
    assert_eq!(bench.throttle.list().len(), 7, "five /64, one /56, one /48");
}

#[test]
fn thousand_logins_at_once_pass_no_more_than_the_burst() {
    let bench = bench(&config(10));
    let (client, passed, start) = (ip("192.0.2.1"), AtomicUsize::new(0), Barrier::new(8));

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                passed.fetch_add(bench.forge(client, 125), Ordering::Relaxed);
            });
        }
    });

    assert_eq!(passed.into_inner(), 10);
    assert_eq!(bench.refused(Limit::Login), 990);
}

#[test]
fn standing_comes_with_sign_ins_and_goes_with_failures_and_time() {
    let bench = bench(&config(1000));
    let (client, neighbour) = (ip("2001:db8:1:2::1"), ip("2001:db8:1:3::1"));
    let standing = |client| bench.throttle.standing(client);
    assert_eq!(standing(client), Standing::New);
    bench.log_in(client, "code").unwrap();
    assert_eq!([standing(client), standing(neighbour)], [Standing::Known, Standing::New]);
    bench.forge(client, 4);
    assert_eq!(standing(client), Standing::New, "as many failures as the sign-in counts");
    bench.forge(client, 5);
    assert_eq!(standing(client), Standing::New);
    bench.forge(client, 1);
    assert_eq!([standing(client), standing(neighbour)], [Standing::Failing, Standing::New]);
    bench.forge(client, 20);
    assert_eq!(standing(neighbour), Standing::Failing, "of a /48 that fails throughout");
    bench.clock.advance(seconds(30 * 41));
    assert_eq!([standing(client), standing(neighbour)], [Standing::New; 2]);

    bench.log_in(client, "code").unwrap();
    bench.clock.advance(seconds(24 * 3600 - 1));
    assert_eq!(standing(client), Standing::Known);
    bench.clock.advance(seconds(1));
    assert_eq!(standing(client), Standing::New);
}

#[test]
fn failures_of_many_addresses_end_no_standing() {
    let bench = bench(&config(1000));
    let known: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([203, 0, 113, n])).collect();
    known.iter().for_each(|client| bench.log_in(*client, "code").unwrap());

    (0..100_000).for_each(|n| _ = bench.forge_one(nth_client(n), "guess"));

    assert!(known.iter().all(|client| bench.throttle.standing(*client) == Standing::Known));
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
            if bench.forge(client, 1) == 1 {
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
        bench.forge(client, burst as usize);
        bench.clock.advance(Duration::from_millis(delay));

        let told = bench.forge_one(client, "new").unwrap_err().retry_after;
        bench.clock.advance(told - Duration::from_millis(1));
        prop_assert_eq!(bench.forge(client, 1), 0);
        bench.clock.advance(Duration::from_millis(1));
        prop_assert_eq!(bench.forge(client, 1), 1);
    }
}
