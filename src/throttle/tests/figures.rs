//! The figures that the default configuration promises, by simulation.

use std::fs;
use std::path::Path;

use super::*;

/// Milliseconds between two steps of a simulation.
const STEP: u64 = 10;

/// Prints a figure, and leaves it for `scripts/test`, which shows those of all tests: how many
/// logins were tried, and what came of them.
fn report(what: &str, tried: usize, figure: &str) {
    println!("{what}: {tried} tried: {figure}");
    if let Some(folder) = std::env::var_os("MENSHEN_TEST_COUNTS") {
        let name = what.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        fs::write(Path::new(&folder).join(name), format!("{what}\t{tried}\t-\t{figure}\n")).unwrap();
    }
}

fn default_bench() -> Bench {
    bench(&config::Throttle::default())
}

/// Users behind one address, each with a good code. They come within a time, and send the same
/// code again when the wait that they were told is over.
struct Users {
    client: IpAddr,
    /// When each of them sends next, in milliseconds; `None` if they are in.
    next: Vec<Option<u64>>,
    /// How long WeChat takes to answer, in milliseconds.
    exchange: u64,
    under_way: Vec<(u64, LoginCharge)>,
}

impl Users {
    fn new(client: IpAddr, count: u64, arrive_from: u64, arrive_within: u64) -> Self {
        let arrivals =
            (0..count).map(|user| Some(arrive_from + user * arrive_within / count + user * 7 % 50));
        Self { client, next: arrivals.collect(), exchange: 500, under_way: Vec::new() }
    }

    fn step(&mut self, bench: &Bench, now: u64) {
        while let Some(done) = self.under_way.iter().position(|(done, _)| *done <= now) {
            self.under_way.swap_remove(done).1.succeed();
        }
        for (user, next) in self.next.iter_mut().enumerate() {
            if next.is_none_or(|next| next > now) {
                continue;
            }
            match bench.throttle.charge_login(self.client, &format!("good{user}"), None) {
                Ok(charge) => {
                    self.under_way.push((now + self.exchange, charge));
                    *next = None;
                }
                Err(refused) => *next = Some(now + refused.retry_after_seconds() * 1000),
            }
        }
    }

    fn in_by_now(&self) -> usize {
        self.next.iter().filter(|next| next.is_none()).count()
    }
}

#[test]
fn three_hundred_users_of_one_address_sign_in_within_a_minute_and_two_thousand_within_ten() {
    for (count, minutes) in [(300, 1), (2_000, 10)] {
        for arrive_within in [0, minutes * 50_000] {
            let bench = default_bench();
            let mut users = Users::new(ip("192.0.2.1"), count, 0, arrive_within);
            let mut took = None;
            for now in (0..minutes * 60_000).step_by(STEP as usize) {
                users.step(&bench, now);
                if took.is_none() && users.in_by_now() == count as usize {
                    took = Some(Duration::from_millis(now));
                }
                bench.clock.advance(Duration::from_millis(STEP));
            }
            assert!(took.is_some(), "{} of {count}", users.in_by_now());
            let what = match arrive_within {
                0 => format!("limits: {count} users of one address at once"),
                _ => format!("limits: {count} users of one address in {} s", arrive_within / 1000),
            };
            let figure = format!("all in within {:.1?} (promised: {minutes} min)", took.unwrap());
            report(&what, usize::try_from(count).unwrap(), &figure);
        }
    }
}

/// Somebody at the address sends made-up codes: each a new one, or each again after its wait.
fn neighbours_of_a_forger(per_second: u64, is_patient: bool) -> usize {
    let bench = default_bench();
    let client = ip("192.0.2.1");
    // The bucket is full before the neighbours come.
    let mut users = Users::new(client, 40, 120_000, 5_000);
    let mut waiting: Vec<(u64, String)> = Vec::new();
    for now in (0..180_000).step_by(STEP as usize) {
        if now % (1000 / per_second) < STEP {
            let due = waiting.iter().position(|(due, _)| is_patient && *due <= now);
            let code = due.map_or_else(|| bench.new_code(), |due| waiting.swap_remove(due).1);
            if let Err(refused) = bench.forge_one(client, &code) {
                waiting.push((now + refused.retry_after_seconds() * 1000, code));
            }
        }
        users.step(&bench, now);
        bench.clock.advance(Duration::from_millis(STEP));
    }
    users.in_by_now()
}

#[test]
fn nine_of_ten_neighbours_of_a_forger_are_in_within_a_minute() {
    for (per_second, is_patient) in [(20, false), (20, true), (100, false), (100, true)] {
        let count = neighbours_of_a_forger(per_second, is_patient);

        let how = if is_patient { "each again after its wait" } else { "each a new one" };
        let what = format!("limits: {per_second} made-up codes/s, {how}");
        report(&what, 40, &format!("{count} of 40 neighbours in within 60 s"));
        assert!(count >= 36, "{count} of 40 at {per_second}/s, {how}");
    }
}

/// 200 networks of IPv6 take all that they get, for two minutes; users come from addresses where
/// users signed in before, and from new ones.
#[test]
fn flood_from_two_hundred_networks_leaves_users_nine_of_ten_sign_ins() {
    let bench = default_bench();
    let flooder = |n: u64| ip(&format!("2001:db8:{n:x}:1::1"));
    let known = |n: u64| IpAddr::from([203, 0, 113, (n % 50) as u8]);
    (0..50).for_each(|n| bench.log_in(known(n), "before").unwrap());
    let (mut tried, mut begun, mut exchanged, mut flooded) = (0, 0, 0, [0, 0]);
    for now in (0..120_000_u64).step_by(STEP as usize) {
        for n in 0..20 {
            let client = flooder((now / STEP * 20 + n) % 200);
            flooded[0] += usize::from(bench.throttle.check_sign_in(client, None).is_ok());
            if let Ok(charge) = bench.throttle.charge_login(client, &bench.new_code(), None) {
                flooded[1] += usize::from(at_once(bench.throttle.check_exchange(charge.standing())).is_ok());
                at_once(charge.fail());
            }
        }
        if now % 200 == 0 {
            let client = known(now / 200);
            tried += 1;
            begun += usize::from(bench.throttle.check_sign_in(client, None).is_ok());
            let charge = bench.throttle.charge_login(client, &bench.new_code(), None).unwrap();
            exchanged += usize::from(at_once(bench.throttle.check_exchange(charge.standing())).is_ok());
            charge.succeed();
        }
        bench.clock.advance(Duration::from_millis(STEP));
    }

    let figure = format!(
        "users began {begun} and exchanged {exchanged}, while 200 /64s began {} and exchanged {}",
        flooded[0], flooded[1]
    );
    report("limits: a flood of 200 /64s", tried, &figure);
    assert!(begun * 10 >= tried * 9, "{begun} of {tried}");
    assert!(exchanged * 10 >= tried * 9, "{exchanged} of {tried}");
    assert!(flooded[0] > 3000 && flooded[1] > 3000, "{flooded:?}");
}
