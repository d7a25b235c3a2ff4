//! Limits on logins: what counts as one client, what a client gets beyond a limit, and that no
//! client can keep others from signing in.

mod neighbours;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Connection, Response, Tally, World};

const ROUTES: &str = "
routes:
  - { path: /, access: authenticated, upstream: backend }
";
/// Twenty failed logins at once, then ten a minute.
const TWENTY: &str = "
throttle: { login: { rate: 10/min, burst: 20 } }
";

fn strict() -> World {
    World::with(&format!("{ROUTES}{TWENTY}"))
}

fn request(path: &str, headers: &str, code: &str) -> String {
    let body = format!(r#"{{"code":"{code}"}}"#);
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A login that succeeds, unless a limit refuses it.
fn login(world: &World, headers: &str) -> Response {
    world.send(&request("/auth/login", headers, &world.code("alice")))
}

/// A made-up code that was not used before.
fn made_up() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("guess-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A login that fails, unless a limit refuses it.
fn guess(world: &World, headers: &str) -> Response {
    world.send(&request("/auth/login", headers, &made_up()))
}

fn throttled(world: &World, limit: &str) -> f64 {
    world.metric(&format!(r#"menshen_throttled_total{{limit="{limit}"}}"#))
}

#[track_caller]
fn assert_throttled(response: &Response, retry_after: &str) {
    assert_eq!(response.status, 429, "{}", response.text());
    assert_eq!(response.header("retry-after"), Some(retry_after));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.json()["error"], "temporarily_unavailable");
    assert_eq!(response.json()["code"], "throttled");
}

#[test]
fn failed_logins_pass_as_often_as_the_limit_says_whatever_address_a_client_claims() {
    let world = strict();
    let claims = [
        "X-Forwarded-For: 203.0.113.N\r\n",
        "X-Forwarded-For: 203.0.113.N, 127.0.0.1\r\n",
        "X-Forwarded-For: ::ffff:203.0.113.N\r\n",
        "X-Forwarded-For: 2001:db8:N::1\r\n",
        "X-Forwarded-For: 203.0.113.N:99\r\n",
        "X-Forwarded-For: [2001:db8::N]:99\r\n",
        "X-Forwarded-For: unknown\r\n",
        "X-Forwarded-For: \r\n",
        "X-Forwarded-For: a\r\nX-Forwarded-For: 203.0.113.N\r\n",
        "Forwarded: for=203.0.113.N;proto=https\r\n",
        "X-Real-IP: 203.0.113.N\r\n",
        "X-Client-IP: 203.0.113.N\r\n",
        "CF-Connecting-IP: 203.0.113.N\r\n",
        "True-Client-IP: 203.0.113.N\r\n",
        "Fastly-Client-IP: 203.0.113.N\r\n",
        "X-Cluster-Client-IP: 203.0.113.N\r\n",
        "X-Original-Forwarded-For: 203.0.113.N\r\n",
        "Via: 1.1 203.0.113.N\r\n",
        "User-Agent: N\r\n",
        "Referer: https://servicewechat.com/wxN/1/page-frame.html\r\n",
    ];
    let headers = |number: usize| claims[number % claims.len()].replace('N', &number.to_string());

    let mut tally = Tally::default();
    for number in 0..20 {
        let response = guess(&world, &headers(number));
        assert_eq!(response.status, 401, "{number}: {}", response.text());
        tally.add(response.status, 0);
    }
    for number in 20..60 {
        let response = guess(&world, &headers(number));
        assert_throttled(&response, "6");
        tally.add(response.status, 0);
    }
    tally.report("throttle: claimed addresses");
    assert_eq!(throttled(&world, "login"), 40.0);
    assert_eq!(world.exchanges(), 20);

    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(6));
        assert_eq!(guess(&world, "").status, 401);
        assert_throttled(&guess(&world, ""), "6");
    }
    world.clock.advance(Duration::from_secs(3600));
    let admitted = (0..30).filter(|_| guess(&world, "").status == 401).count();
    assert_eq!(admitted, 20, "a quiet hour gives one burst, not more");
}

#[test]
fn no_spelling_of_the_path_is_a_bucket_of_its_own() {
    let world = strict();
    for _ in 0..20 {
        assert_eq!(guess(&world, "").status, 401);
    }

    let mut tally = Tally::default();
    for path in [
        "/auth/login",
        "/auth/login?x",
        "/auth/login?code=a&app=b",
        "/auth/%6cogin",
        "/%61uth/login",
        "/auth//login",
        "//auth/login",
        "/auth/./login",
        "/x/../auth/login",
        "/auth/login/",
        "/auth/LOGIN",
        "/auth/login;x=y",
        "/auth/login%2f",
        "/auth%2flogin",
        "/auth/login#x",
        "http://gateway.test/auth/login",
    ] {
        let response = world.send(&request(path, "", &world.code("alice")));

        assert!(matches!(response.status, 400 | 401 | 404 | 429), "{path}: {}", response.status);
        tally.add(response.status, 0);
    }
    tally.report("throttle: spellings of the path");
    assert_eq!(world.exchanges(), 20);
    assert_eq!(world.backend.count(), 0);
}

#[test]
fn the_name_of_the_app_or_of_the_host_splits_no_bucket() {
    let world = World::with(&format!(
        "{TWENTY}
apps:
  one: {{ kind: mini_program, appid: wxe000000000000001, secret: emulator-secret-1 }}
  two: {{ kind: mini_program, appid: wxe000000000000002, secret: emulator-secret-2 }}
{ROUTES}"
    ));
    let mut statuses = Vec::new();
    for number in 0..30 {
        let app = ["one", "two"][number % 2];
        let body = format!(r#"{{"code":"{}","app":"{app}"}}"#, made_up());
        statuses.push(
            world
                .send(&format!(
                    "POST /auth/login HTTP/1.1\r\nHost: h{number}.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .status,
        );
    }

    assert!(statuses[..20].iter().all(|status| *status == 401));
    assert!(statuses[20..].iter().all(|status| *status == 429));
}

#[test]
fn of_many_failed_logins_at_once_no_more_than_the_burst_pass() {
    let world = strict();
    let mut connections: Vec<Connection> = (0..200).map(|_| world.connect()).collect();
    for connection in &mut connections {
        connection.write(request("/auth/login", "", &made_up()).as_bytes());
    }

    let statuses: Vec<u16> =
        connections.iter_mut().map(|connection| connection.read_response(false).status).collect();

    let mut tally = Tally::default();
    statuses.into_iter().for_each(|status| tally.add(status, 0));
    tally.report("throttle: logins at once");
    assert_eq!((tally.answered(401), tally.answered(429)), (20, 180));
    assert_eq!(world.exchanges(), 20);
}

#[test]
fn behind_a_trusted_proxy_the_rightmost_untrusted_address_counts() {
    let world = World::with(&format!("trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n{ROUTES}{TWENTY}"));
    let burst = |forwarded: &dyn Fn(usize) -> String| {
        let admitted = (0..25).filter(|number| guess(&world, &forwarded(*number)).status == 401);
        admitted.count()
    };

    assert_eq!(burst(&|_| "X-Forwarded-For: 203.0.113.1\r\n".into()), 20);
    // What stands left of it is the client's own tale, over any number of lines and hops.
    assert_eq!(burst(&|number| format!("X-Forwarded-For: 9.9.9.{number}, 203.0.113.1\r\n")), 0);
    assert_eq!(
        burst(&|number| format!(
            "X-Forwarded-For: 9.9.9.{number}\r\nX-Forwarded-For: 203.0.113.1, 10.1.2.3\r\n"
        )),
        0
    );
    assert_eq!(burst(&|_| "X-Forwarded-For: ::ffff:203.0.113.1\r\n".into()), 0);
    assert_eq!(burst(&|number| format!("X-Forwarded-For: 203.0.113.1:{number}\r\n")), 0);
    assert_eq!(
        burst(&|number| format!(
            "Forwarded: for=9.9.9.{number}\r\nX-Real-IP: 9.9.9.{number}\r\nX-Forwarded-For: 203.0.113.1\r\n"
        )),
        0
    );
    // Others are not held up by it.
    assert_eq!(burst(&|_| "X-Forwarded-For: 203.0.113.2\r\n".into()), 20);
    // What does not parse is never a way out: it counts as the proxy itself.
    let unparsable = ["a", "", "unknown", "203.0.113.300", "1.2.3.4.5", "_hidden", "203.0.113.3, x", "[::1"];
    assert_eq!(
        burst(&|number| format!("X-Forwarded-For: {}\r\n", unparsable[number % unparsable.len()])),
        20
    );
    assert_eq!(burst(&|_| String::new()), 0);
    // One customer holds a whole /64 of IPv6.
    assert_eq!(burst(&|number| format!("X-Forwarded-For: 2001:db8:1:2:{number:x}::{number:x}\r\n")), 20);
    assert_eq!(burst(&|_| "X-Forwarded-For: 2001:db8:1:3::1\r\n".into()), 20);
}

#[test]
fn a_thousand_hops_are_read_from_the_right() {
    let world = World::with(&format!("trusted_proxies: [127.0.0.1]\n{ROUTES}{TWENTY}"));
    let hops = "9.9.9.9, ".repeat(1000);
    for _ in 0..20 {
        assert_eq!(guess(&world, &format!("X-Forwarded-For: {hops}203.0.113.1\r\n")).status, 401);
    }

    assert_throttled(&guess(&world, "X-Forwarded-For: 203.0.113.1\r\n"), "6");
}

#[test]
fn a_client_of_ipv4_is_the_same_on_a_socket_of_ipv6() {
    let world = World::with(&format!(
        "listeners:\n  - address: '[::]:0'\n  - address: 127.0.0.1:0\ntrusted_proxies: [127.0.0.0/8]\n{ROUTES}{TWENTY}"
    ));
    let addresses = world.gateway().addresses();
    let mapped = ([127, 0, 0, 1], addresses[0].port()).into();
    let mut statuses = Vec::new();

    for number in 0..22 {
        let mut connection = Connection::open(if number % 2 == 0 { mapped } else { addresses[1] });
        let request = request("/auth/login", "X-Forwarded-For: 203.0.113.1\r\n", &made_up());
        statuses.push(connection.send(request.as_bytes()).status);
    }

    assert_eq!(statuses, [&[401; 20][..], &[429; 2]].concat());
}

#[test]
fn failed_logins_are_slowed_to_a_rate_that_does_not_change() {
    let world = World::with(&format!("{ROUTES}throttle: {{ login: {{ rate: 6/min, burst: 4 }} }}\n"));
    for _ in 0..4 {
        assert_eq!(guess(&world, "").status, 401);
    }
    for _ in 0..6 {
        let asked = world.exchanges();
        assert_throttled(&guess(&world, ""), "10");
        world.clock.advance(Duration::from_secs(9));
        assert_throttled(&guess(&world, ""), "1");
        assert_throttled(&login(&world, ""), "1");
        assert_eq!(world.exchanges(), asked, "a refused login costs WeChat nothing");
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(guess(&world, "").status, 401, "each wait is as long as the one before");
    }
    assert_eq!(throttled(&world, "login"), 18.0);

    world.clock.advance(Duration::from_secs(40));
    for _ in 0..4 {
        assert_eq!(guess(&world, "").status, 401, "all is forgotten after a while");
    }
    assert_eq!(guess(&world, "").status, 429);
}

#[test]
fn a_guess_repeated_is_a_guess_and_so_is_a_stolen_code() {
    let world = World::with(&format!(
        "{ROUTES}
throttle: {{ login: {{ rate: 1/h, burst: 4 }} }}
trusted_proxies: [127.0.0.1]
"
    ));
    let send = |from: &str, code: &str| {
        world.send(&request("/auth/login", &format!("X-Forwarded-For: {from}\r\n"), code)).status
    };

    // The same wrong code is answered from memory, and still counts.
    assert_eq!([(); 5].map(|()| send("203.0.113.1", "guess")), [401, 401, 401, 401, 429]);
    assert_eq!(world.exchanges(), 1);
    let code = world.code("alice");
    assert_eq!(send("203.0.113.2", &code), 200);
    assert_eq!([(); 5].map(|()| send("198.51.100.3", &code)), [401, 401, 401, 401, 429]);
    assert_eq!(send("203.0.113.2", &code), 200);
    assert_eq!(world.exchanges(), 2);
}

#[test]
fn wechats_own_failures_slow_no_client() {
    use menshen::emulator::{Effect, InjectedFault};

    let world = World::with(&format!(
        "{ROUTES}
wechat: {{ hosts: ['{{emulator}}'], breaker: {{ failures: 1000 }} }}
throttle: {{ login: {{ rate: 1/h, burst: 1 }} }}
"
    ));
    for effect in [
        Effect::errcode(-1),
        Effect::errcode(40226),
        Effect::errcode(45009),
        Effect::errcode(45011),
        Effect::DropBefore,
        Effect::HtmlPage,
        Effect::TruncatedJson,
    ] {
        world.emulator.inject(InjectedFault::new(effect));
        for _ in 0..3 {
            assert!(login(&world, "").status > 401);
        }
        world.emulator.clear_faults();
    }

    assert_eq!(login(&world, "").status, 200);
    assert_eq!(throttled(&world, "login"), 0.0);
}

#[test]
fn exchanges_of_all_clients_together_are_limited_and_answers_from_memory_are_not() {
    let world = World::with(&format!(
        "{ROUTES}
throttle: {{ wechat: {{ rate: 60/min, burst: 3 }} }}
trusted_proxies: [127.0.0.1]
"
    ));
    let code = world.code("alice");
    let from = |number: u8, code: &str| {
        let forwarded = format!("X-Forwarded-For: 203.0.113.{number}\r\n");
        world.send(&request("/auth/login", &forwarded, code))
    };

    assert_eq!(from(1, &code).status, 200);
    assert_eq!(from(2, &world.code("bob")).status, 200);
    assert_eq!(from(3, "unknown").status, 401);
    let late = world.code("carol");
    for number in 4..10 {
        assert_throttled(&from(number, &late), "1");
    }
    assert_eq!(from(1, &code).status, 200, "its answer is known");
    assert_eq!(throttled(&world, "wechat"), 6.0);
    assert_eq!(world.exchanges(), 3);

    world.clock.advance(Duration::from_secs(1));
    assert_eq!(from(4, &late).status, 200, "a code that was not asked about is good still");
}

#[test]
fn every_refusal_by_a_limit_stands_in_the_access_log() {
    let mut world = strict();
    for _ in 0..23 {
        guess(&world, "X-Forwarded-For: 203.0.113.9\r\n");
    }

    world.stop();
    let log = std::fs::read_to_string(world.data.path().join("access.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    assert_eq!(lines.len(), 23);
    let refused: Vec<&serde_json::Value> =
        lines.iter().filter(|line| line["reason"] == "throttled" && line["decision"] == "refused").collect();
    assert_eq!(refused.len(), 3);
    assert!(lines.iter().all(|line| line["client.address"] == "127.0.0.1"));
    assert!(refused.iter().all(|line| line["http.response.status_code"] == 429));
}
