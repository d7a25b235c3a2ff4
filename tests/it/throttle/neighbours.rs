//! What others at an address, and at many addresses, cannot do to a user.

use std::time::Duration;

use super::{ROUTES, guess, login, request};
use crate::common::{Response, Tally, World, eventually, leaks, times};
use crate::process::{self, Process};

/// The default limits, a website besides the mini program, and clients of any address.
const SITE: &str = "
apps:
  shop: { kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }
  site: { kind: website, appid: wxe000000000000004, secret: emulator-secret-4 }
wechat:
  hosts: ['{emulator}']
  pages: '{emulator}'
  widget: '{emulator}/connect/zh_CN/htmledition/js/wxLogin.js'
login: { origins: ['http://localhost'] }
trusted_proxies: [127.0.0.1]
";
/// A browser whose user typed the address.
const TYPED: &str =
    "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Site: none\r\n";

fn site() -> World {
    World::with(&format!("{SITE}{ROUTES}"))
}

fn open(world: &World, path: &str, headers: &str) -> Response {
    world.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{TYPED}{headers}\r\n"))
}

fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

fn post(world: &World, path: &str, headers: &str, body: &str) -> Response {
    world.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn refresh(world: &World, headers: &str, token: &str) -> Response {
    post(world, "/auth/refresh", headers, &format!(r#"{{"refresh_token":"{token}"}}"#))
}

fn tokens(response: &Response) -> [String; 2] {
    assert_eq!(response.status, 200, "{}", response.text());
    ["access_token", "refresh_token"].map(|name| response.json()[name].as_str().unwrap().to_owned())
}

fn log_in(world: &World, headers: &str, person: &str) -> Response {
    world.send(&request("/auth/login", headers, &world.code(person)))
}

#[test]
fn made_up_refresh_tokens_cost_the_neighbours_nothing() {
    let world = site();
    let [_, mut good] = tokens(&login(&world, ""));
    let mut tally = Tally::default();

    for number in 0..1000 {
        let made_up = format!("{}{number:0>63}A", &good[..22]);
        tally.add(refresh(&world, "", &made_up).status, 0);
        if number % 100 == 0 {
            assert_eq!(log_in(&world, "", "bob").status, 200, "after {number}");
            [_, good] = tokens(&refresh(&world, "", &good));
            let page = open(&world, "/auth/login?app=site", "");
            assert_eq!(page.status, 200, "after {number}: {}", page.text());
            let start = open(&world, "/auth/web/site/start", "");
            assert_eq!(start.status, 303, "after {number}: {}", start.text());
        }
    }

    tally.remark = "logins, refreshes and pages of the same address: all served".into();
    tally.report("throttle: made-up refresh tokens");
    assert_eq!((tally.answered(401), tally.answered(429)), (300, 700));
    assert_eq!(super::throttled(&world, "refresh"), 700.0);
}

#[test]
fn users_of_one_address_sign_in_at_once() {
    let world = site();
    // More than 1,000 at the same moment would exceed what all clients may ask WeChat.
    let (count, seconds) = if times() > 1 { (2000, 300) } else { (300, 0) };
    let pause = Duration::from_secs(seconds) / u32::try_from(count).unwrap();

    for number in 0..count {
        let answer = log_in(&world, "", &format!("user{number}"));
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        world.clock.advance(pause);
    }

    let remark = format!("all {count} in at the first try, within {seconds} s");
    Tally::of(count, remark).report("throttle: users of one IPv4 address");
}

/// Twenty made-up codes a second from an address, each a new one; forty users there have good
/// codes, and send them again when the wait that they were told is over.
#[test]
fn nine_of_ten_neighbours_of_a_forger_are_in_within_a_minute() {
    let world = site();
    let mut users: Vec<(String, Option<u64>)> =
        (0..40).map(|user| (world.code(&format!("user{user}")), Some(20_000 + user * 50))).collect();
    let mut forged = Tally::default();
    for now in (0..80_000_u64).step_by(50) {
        forged.add(guess(&world, "").status, 0);
        for (code, next) in users.iter_mut().filter(|(_, next)| next.is_some_and(|next| next <= now)) {
            let answer = world.send(&request("/auth/login", "", code));
            *next = match answer.status {
                200 => None,
                429 => Some(now + answer.header("retry-after").unwrap().parse::<u64>().unwrap() * 1000),
                status => panic!("{status}: {}", answer.text()),
            };
        }
        world.clock.advance(Duration::from_millis(50));
        if users.iter().all(|(_, next)| next.is_none()) {
            break;
        }
    }

    let in_by_now = users.iter().filter(|(_, next)| next.is_none()).count();
    forged.remark = format!("{in_by_now} of 40 neighbours in within 60 s");
    forged.report("throttle: made-up codes of a neighbour");
    assert!(in_by_now >= 36, "{in_by_now}");
    assert!(forged.answered(429) > 0, "the forger was not slowed");
}

#[test]
fn user_who_shows_a_token_of_ours_signs_in_whatever_a_neighbour_does() {
    let world = World::with(&format!("{ROUTES}throttle: {{ login: {{ rate: 1/h, burst: 5 }} }}\n"));
    let [access, refresh_token] = tokens(&log_in(&world, "", "alice"));
    world.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!((0..9).filter(|_| guess(&world, "").status == 401).count(), 5);
    let bearer = format!("Authorization: Bearer {access}\r\n");
    let with_refresh_token = |person: &str| {
        let code = world.code(person);
        let body = format!(r#"{{"code":"{code}","refresh_token":"{refresh_token}"}}"#);
        post(&world, "/auth/login", "", &body)
    };

    assert_eq!(log_in(&world, "", "alice").status, 429);
    assert_eq!(log_in(&world, &bearer, "alice").status, 200, "it has expired");
    assert_eq!(with_refresh_token("alice").status, 200);

    let asked = world.exchanges();
    let other = log_in(&world, &bearer, "bob");
    assert_eq!((other.status, &other.json()["code"]), (401, &"code_invalid".into()));
    assert_eq!(with_refresh_token("bob").status, 401);
    let forged = format!("Authorization: Bearer {}AAAA\r\n", &access[..access.len() - 4]);
    assert_eq!(log_in(&world, &forged, "alice").status, 429);
    assert_eq!(world.exchanges() - asked, 2);

    let in_lane = (0..20).filter(|_| log_in(&world, &bearer, "alice").status == 200).count();
    assert_eq!(in_lane, 6, "ten in all, by the user");
    let remark =
        "10 sign-ins of a known user a minute while the address had none left; none by another's code";
    Tally::of(26, remark.to_owned()).report("throttle: the rate of a known user");
    assert_eq!(refresh(&world, "", &refresh_token).status, 200, "it was not spent");
}

/// Two hundred networks take all that they get of the budgets that all clients share. Users come
/// from addresses where users signed in before.
#[test]
fn two_hundred_networks_leave_users_nine_of_ten_sign_ins() {
    let world = site();
    let office = |number: usize| from(&format!("203.0.113.{}", number % 20));
    let network = |number: usize| from(&format!("2001:db8:{:x}:1::1", number % 200));
    for number in 0..20 {
        assert_eq!(log_in(&world, &office(number), &format!("user{number}")).status, 200);
    }
    let (mut begun, mut signed_in, mut flood) = (0, 0, Tally::default());

    for number in 0..2400 {
        flood.add(guess(&world, &network(number)).status, 0);
        let start = open(&world, "/auth/web/site/start", &network(number));
        flood.add(start.status, 0);
        if number % 24 == 0 {
            signed_in += usize::from(log_in(&world, &office(number), "alice").status == 200);
            let start = open(&world, "/auth/web/site/start", &office(number));
            begun += usize::from(start.status == 303);
        }
    }

    flood.remark = format!("users signed in {signed_in} times and began {begun} sign-ins, of 100 each");
    flood.report("throttle: two hundred networks");
    assert!(signed_in >= 90 && begun >= 90, "{signed_in}, {begun}");
    assert!(super::throttled(&world, "wechat") > 0.0, "WeChat's budget was not used up");
    assert!(super::throttled(&world, "all_sign_ins") > 0.0, "the budget of sign-ins was not used up");
}

#[test]
fn full_table_refuses_no_stranger() {
    let world = World::with(&format!(
        "{ROUTES}trusted_proxies: [127.0.0.1]\nthrottle: {{ capacity: 1024, login: {{ rate: 1/h, burst: 1 }}, wechat: {{ rate: 1000/s, burst: 10000 }} }}\n"
    ));
    for number in 0..3000 {
        guess(&world, &from(&format!("10.{}.{}.1", number / 200, number % 200)));
    }

    let strangers =
        (0..100).filter(|number| log_in(&world, &from(&format!("100.64.0.{number}")), "alice").status == 200);

    let strangers = strangers.count();
    assert_eq!(strangers, 100);
    Tally::of(3000, format!("{strangers} of 100 strangers in")).report("throttle: a full table");
}

#[test]
fn throttled_address_is_named_in_the_log_once() {
    let world = World::with(&format!(
        "{ROUTES}trusted_proxies: [127.0.0.1]\nthrottle: {{ login: {{ rate: 1/h, burst: 3 }} }}\n"
    ));
    let position = leaks::log_position();
    let named = |address: &str| {
        let log = String::from_utf8(leaks::logged_since(position)).unwrap();
        log.lines().filter(|line| line.contains("WARN") && line.contains(address)).count()
    };

    for _ in 0..3 {
        guess(&world, &from("198.51.100.77"));
    }
    assert_eq!(named("198.51.100.77"), 0);
    for number in 0..20 {
        guess(&world, &from("198.51.100.77"));
        guess(&world, &from(&format!("2001:db8:77:{number:x}::1")));
    }

    assert_eq!(named("198.51.100.77"), 1);
    assert_eq!(named("2001:db8:77::/56"), 1, "six at once of a /56");
}

#[test]
fn operators_list_throttled_addresses_and_lift_them() {
    let world = World::with(&format!(
        "{ROUTES}trusted_proxies: [127.0.0.1]\nthrottle: {{ login: {{ rate: 1/h, burst: 3 }} }}\n\
         telemetry: {{ audit_log: {{ file: '{{data}}/audit.log' }} }}\n"
    ));
    let gateway = Process::like(&world);
    let command = |arguments: &[&str]| process::command(&gateway.config(), arguments);
    let login = |address: &str, code: &str| {
        let request = request("/auth/login", &from(address), code);
        gateway.connect().send(request.as_bytes()).status
    };
    let (code, answer, said) = command(&["throttle", "list"]);
    assert_eq!((code, answer.as_str(), said.trim()), (Some(0), "", "no address is throttled"));
    for number in 0..7 {
        let expected = if number < 3 { 401 } else { 429 };
        assert_eq!(login("192.0.2.1", &format!("guess-{number}")), expected);
        assert_eq!(login("2001:db8:1:2::1", &format!("guess-{number}")), expected);
    }

    let (code, answer, _) = command(&["throttle", "list"]);
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{answer}");
    assert!(
        lines[1].starts_with("192.0.2.1 ") && lines[1].contains(" login ") && lines[1].ends_with(" 4"),
        "{answer}"
    );
    assert!(lines[2].starts_with("2001:db8:1:2::/64 "), "{answer}");
    let (_, json, _) = command(&["throttle", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["throttled"][0]["refused"], 4);

    assert_eq!(
        command(&["throttle", "lift", "192.0.2.1"]),
        (Some(0), "lifted 1 limit\n".into(), String::new())
    );
    assert_eq!(login("192.0.2.1", &world.code("alice")), 200);
    assert_eq!(login("2001:db8:1:2::1", &world.code("alice")), 429, "another address");
    assert_eq!(command(&["throttle", "lift", "2001:db8:1:2::/64"]).0, Some(0));
    assert_eq!(login("2001:db8:1:2::1", &world.code("alice")), 200);
    let (code, _, said) = command(&["throttle", "lift", "gateway.test"]);
    assert_eq!(code, Some(2), "{said}");
    eventually("it is in the audit log", || {
        gateway.read("audit.log").matches(r#""event":"throttle_lift","outcome":"ok""#).count() == 2
    });
}
