//! Two gateways in processes of their own, one Redis: what one knows, the other knows within a
//! second.

mod binding;
mod outage;
mod start;
mod topology;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::client::ask_control;
use crate::common::redis::RedisServer;
use crate::common::{NO_THROTTLE, PATIENCE, ROUTES, Response, Tally, World, eventually, now};
use crate::process::Process;
use crate::under_way::exchange::{Kind, serve, start};
use crate::websocket;

/// What every node of a cluster must have in common, and a short wait for the re-check.
pub const COMMON: &str = "
tokens: { keys: [{ kid: shared, algorithm: HS256, secret: 0123456789abcdef0123456789abcdef }] }
sessions:
  recheck_after: 3s
  seal_keys: [{ kid: shared, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= }]
store: { engine: redis, redis: { addresses: ['{redis}'] } }
";
/// The longest that a node may believe a session which another one ended.
const SECOND: Duration = Duration::from_secs(1);

/// Two nodes, one emulated WeChat, one backend and one Redis.
struct Cluster {
    nodes: [Process; 2],
    world: World,
}

impl Cluster {
    fn on(redis: &RedisServer, sections: &str) -> Self {
        let common = COMMON.replace("{redis}", &redis.address().to_string());
        Self::in_place_of(World::with(&format!("{ROUTES}{common}{sections}")))
    }

    /// On servers of another topology.
    fn over(redis: &str, sections: &str) -> Self {
        let common = COMMON.replace("addresses: ['{redis}']", redis);
        Self::in_place_of(World::with(&format!("{ROUTES}{common}{sections}")))
    }

    /// Two nodes instead of the world's own.
    fn in_place_of(mut world: World) -> Self {
        let nodes = [Process::like(&world), Process::like(&world)];
        // A third node would count and exchange as well.
        world.stop();
        let cluster = Self { nodes, world };
        for node in &cluster.nodes {
            eventually("the node is ready", || node.admin("/readyz") == "ready\n");
        }
        cluster
    }

    fn login(&self, node: usize, code: &str) -> Response {
        login(&self.nodes[node], code)
    }

    /// Signs a person in on a node; what the login answered.
    fn sign_in(&self, node: usize, person: &str) -> Value {
        let response = self.login(node, &self.world.code(person));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Visits the other node, twice, so that it remembers the token.
    fn warm(&self, node: usize, login: &Value) {
        for _ in 0..2 {
            let response = visit(&self.nodes[node], token(login));
            assert_eq!(response.status, 200, "{}", response.text());
        }
    }

    /// How long a node goes on to let a token in.
    fn time_until_refused(&self, node: usize, login: &Value) -> Duration {
        let began = now();
        let mut connection = self.nodes[node].connect();
        let request = visit_request(token(login));
        eventually("the other node refuses", || match connection.send(request.as_bytes()).status {
            200 => false,
            401 => true,
            status => panic!("{status}"),
        });
        began.elapsed()
    }
}

/// Lets the threads of a scope end, also where the test fails in it.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn token(login: &Value) -> &str {
    login["access_token"].as_str().unwrap_or_else(|| panic!("{login}"))
}

fn post(node: &Process, path: &str, headers: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    node.connect().send(request.as_bytes())
}

fn login(node: &Process, code: &str) -> Response {
    post(node, "/auth/login", "", &json!({ "code": code }).to_string())
}

fn logout(node: &Process, login: &Value) -> Response {
    post(node, "/auth/logout", &format!("Authorization: Bearer {}\r\n", token(login)), "{}")
}

fn refresh(node: &Process, login: &Value) -> Response {
    post(node, "/auth/refresh", "", &json!({ "refresh_token": login["refresh_token"] }).to_string())
}

fn revoke(node: &Process, scope: &Value) -> Response {
    ask_control(&node.control_socket(), "POST /sessions/revoke", &scope.to_string())
}

fn change_block(node: &Process, deed: &str, person: &Value) -> Response {
    ask_control(&node.control_socket(), &format!("POST /people/{deed}"), &person.to_string())
}

fn sessions(node: &Process, login: &Value) -> Value {
    let openid = login["openid"].as_str().unwrap();
    let line = format!("GET /sessions?app=shop&openid={openid}");
    ask_control(&node.control_socket(), &line, "").json()["sessions"].clone()
}

fn visit_request(token: &str) -> String {
    format!("GET /page HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n\r\n")
}

fn visit(node: &Process, token: &str) -> Response {
    node.connect().send(visit_request(token).as_bytes())
}

/// Reports how long something took, at best, in the middle and at worst.
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (least, middle, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let remark = format!("{least:.1?} at best, {middle:.1?} median, {most:.1?} at worst");
    Tally::of(times.len(), remark).report(&format!("cluster: {what}"));
}

/// Ends sessions on one node in every way, while the other remembers them; how long the other let
/// them in.
fn times_of_revocations(cluster: &Cluster, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for round in 0..rounds {
        let (one, other) = (round % 2, (round + 1) % 2);
        let login = cluster.sign_in(one, "alice");
        let bystander = cluster.sign_in(one, "bob");
        cluster.warm(other, &login);
        cluster.warm(other, &bystander);

        let openid = &login["openid"];
        let ended = match round % 5 {
            0 => logout(&cluster.nodes[one], &login).status / 100,
            1 => revoke(&cluster.nodes[one], &json!({ "app": "shop", "openid": openid })).status / 100,
            2 => {
                let all = sessions(&cluster.nodes[one], &login);
                let newest = all.as_array().unwrap().last().unwrap();
                revoke(&cluster.nodes[one], &json!({ "session": newest["id"] })).status / 100
            }
            3 => revoke(&cluster.nodes[one], &json!({ "app": "shop", "all": true })).status / 100,
            _ => {
                let body = r#"{"everywhere":true}"#;
                let bearer = format!("Authorization: Bearer {}\r\n", token(&login));
                post(&cluster.nodes[one], "/auth/logout", &bearer, body).status / 100
            }
        };

        assert_eq!(ended, 2, "round {round}");
        let time = cluster.time_until_refused(other, &login);
        assert!(time < SECOND, "round {round}: {time:?}");
        assert_eq!(visit(&cluster.nodes[one], token(&login)).status, 401, "round {round}");
        let is_app = round % 5 == 3;
        let expected = if is_app { 401 } else { 200 };
        assert_eq!(visit(&cluster.nodes[other], token(&bystander)).status, expected, "round {round}");
        times.push(time);
    }
    times
}

#[test]
fn session_ended_on_one_node_is_refused_by_the_other_within_a_second() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);

    let times = times_of_revocations(&cluster, 30);

    report("refused by the other node after a revocation", times);
}

#[test]
fn person_blocked_on_one_node_is_refused_by_the_other_within_a_second() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);
    let mut times = Vec::new();
    for round in 0..10 {
        let (one, other) = (round % 2, (round + 1) % 2);
        let login = cluster.sign_in(one, "alice");
        let bystander = cluster.sign_in(one, "bob");
        cluster.warm(other, &login);
        cluster.warm(other, &bystander);
        let who = json!({ "app": "shop", "openid": login["openid"] });

        assert_eq!(change_block(&cluster.nodes[one], "block", &who).status, 200);

        let blocked = time_until("the other node refuses", || {
            visit(&cluster.nodes[other], token(&login)).status == 403
        });
        assert!(blocked < SECOND, "round {round}: {blocked:?}");
        assert_eq!(visit(&cluster.nodes[other], token(&bystander)).status, 200, "round {round}");
        let refused = cluster.login(other, &cluster.world.code("alice"));
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("user_blocked")), "round {round}");
        assert_eq!(change_block(&cluster.nodes[other], "unblock", &who).status, 200);
        let admitted =
            time_until("the first node admits", || visit(&cluster.nodes[one], token(&login)).status == 200);
        assert!(admitted < SECOND, "round {round}: {admitted:?}");
        times.push(blocked);
    }
    report("refused by the other node after a block", times);
}

#[test]
fn websocket_is_closed_within_a_second_when_the_other_node_ends_its_session() {
    let redis = RedisServer::start();
    let routes = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: socket, path: /ws, access: authenticated, upstream: backend, websocket: true }
";
    let common = COMMON.replace("{redis}", &redis.address().to_string());
    let sections = format!("{routes}{common}{NO_THROTTLE}");
    let cluster = Cluster::in_place_of(World::with_backend(websocket::switching(websocket::echo), &sections));
    let mut times = Vec::new();
    for round in 0..8 {
        let (one, other) = (round % 2, (round + 1) % 2);
        let (login, bystander) = (cluster.sign_in(one, "alice"), cluster.sign_in(one, "bob"));
        let open = |login: &Value| {
            let mut client = cluster.nodes[other].connect();
            let bearer = format!("Authorization: Bearer {}\r\n", token(login));
            client.write(websocket::opening("/ws/chat", &bearer).as_bytes());
            assert_eq!(client.read_header().unwrap().status, 101, "round {round}");
            client
        };
        let (mut ended, mut kept) = (open(&login), open(&bystander));
        let who = json!({ "app": "shop", "openid": login["openid"] });

        let began = now();
        let answer = match round / 2 {
            0 => logout(&cluster.nodes[one], &login),
            1 => revoke(&cluster.nodes[one], &who),
            2 => change_block(&cluster.nodes[one], "block", &who),
            _ => revoke(&cluster.nodes[one], &json!({ "app": "shop", "all": true })),
        };

        assert_eq!(answer.status / 100, 2, "round {round}: {}", answer.text());
        ended.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(ended.is_closed(), "round {round}");
        let time = began.elapsed();
        assert!(time < SECOND, "round {round}: {time:?}");
        times.push(time);
        if round / 2 < 3 {
            kept.write(b"hello");
            assert_eq!(kept.read_exact(5), b"hello", "round {round}");
        }
        if round / 2 == 2 {
            assert_eq!(change_block(&cluster.nodes[one], "unblock", &who).status, 200);
        }
    }
    report("a WebSocket was closed by the other node", times);
}

#[test]
fn whatever_is_under_way_ends_within_a_second_when_the_other_node_ends_its_session() {
    let redis = RedisServer::start();
    let backend = serve();
    let sections = format!(
        "listeners: [{{ address: '127.0.0.1:0', h2c: true }}]\nupstreams: {{ backend: {{ servers: ['{backend}'] }} }}\n{NO_THROTTLE}"
    );
    let cluster = Cluster::on(&redis, &sections);
    let mut times = Vec::new();
    for round in 0..4 {
        let (one, other) = (round % 2, (round + 1) % 2);
        let (login, bystander) = (cluster.sign_in(one, "alice"), cluster.sign_in(one, "bob"));
        let open = |login: &Value| {
            let bearer = format!("Authorization: Bearer {}\r\n", token(login));
            let opened = Kind::plain().map(|(kind, is_http2)| {
                let path = format!("/{round}/{}/{is_http2}", kind.name());
                let exchange = start(cluster.nodes[other].address, kind, is_http2, &path, &bearer);
                (path, exchange)
            });
            Vec::from_iter(opened)
        };
        let (ended, kept) = (open(&login), open(&bystander));
        // The last two rounds find them followed by a task each.
        thread::park_timeout(if round < 2 { Duration::from_millis(50) } else { SECOND });
        let who = json!({ "app": "shop", "openid": login["openid"] });

        let began = now();
        let answer = if round == 2 {
            change_block(&cluster.nodes[one], "block", &who)
        } else {
            revoke(&cluster.nodes[one], &who)
        };

        assert_eq!(answer.status / 100, 2, "round {round}: {}", answer.text());
        let reason = if round == 2 { "blocked" } else { "session_ended" };
        for (path, exchange) in ended {
            exchange.ended();
            let time = began.elapsed();
            assert!(time < SECOND, "{path}: {time:?}");
            times.push(time);
            eventually(&format!("{path} has its line"), || {
                let log = cluster.nodes[other].read("access.log");
                let mut lines =
                    log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
                lines.any(|line| line["url.path"] == *path && line["reason"] == reason)
            });
        }
        for (path, exchange) in kept {
            assert!(!exchange.has_ended(), "{path}");
        }
        if round == 2 {
            assert_eq!(change_block(&cluster.nodes[one], "unblock", &who).status, 200);
        }
    }
    report("a request under way was cut off by the other node", times);
}

#[test]
fn revocation_arrives_though_no_message_does() {
    // No node can subscribe: each must read the log to see what changed.
    let redis = RedisServer::with(&[
        "rename-command SUBSCRIBE \"\"",
        "rename-command PSUBSCRIBE \"\"",
        "rename-command SSUBSCRIBE \"\"",
    ]);
    let cluster = Cluster::on(&redis, NO_THROTTLE);

    let times = times_of_revocations(&cluster, 15);

    report("refused by the other node without messages", times);
}

#[test]
fn revocation_arrives_though_subscriptions_are_cut_all_the_time() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);
    let stop = AtomicBool::new(false);

    let times = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                redis.command(&["client", "kill", "type", "pubsub"]);
                thread::park_timeout(Duration::from_millis(10));
            }
        });
        let _end = StopAtEnd(&stop);
        times_of_revocations(&cluster, 15)
    });

    report("refused by the other node with subscriptions cut", times);
}

#[test]
fn code_sent_to_both_nodes_at_once_is_exchanged_once() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);
    for round in 0..20 {
        let (person, before) = (format!("person-{round}"), cluster.world.exchanges());
        let code = cluster.world.code(&person);
        let start = Barrier::new(4);

        let answers: Vec<Response> = thread::scope(|scope| {
            let (cluster, code, start) = (&cluster, &code, &start);
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    scope.spawn(move || {
                        start.wait();
                        cluster.login(number % 2, code)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        for answer in &answers {
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            assert_eq!(answer.json()["refresh_token"], answers[0].json()["refresh_token"], "round {round}");
        }
        assert_eq!(cluster.world.exchanges() - before, 1, "round {round}");
        let listed = sessions(&cluster.nodes[0], &answers[0].json());
        assert_eq!(listed.as_array().unwrap().len(), 1, "round {round}: {listed}");
        assert_eq!(sessions(&cluster.nodes[1], &answers[0].json()), listed);
    }
}

#[test]
fn lost_refresh_is_answered_alike_by_the_other_node() {
    let redis = RedisServer::start();
    lose_a_refresh(&Cluster::on(&redis, NO_THROTTLE));
}

fn lose_a_refresh(cluster: &Cluster) {
    let first = cluster.sign_in(0, "alice");

    let answer = refresh(&cluster.nodes[0], &first);
    let again = refresh(&cluster.nodes[1], &first);

    assert_eq!((answer.status, again.status), (200, 200), "{} {}", answer.text(), again.text());
    let second = answer.json();
    assert_eq!(again.json()["refresh_token"], second["refresh_token"]);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    // Once the successor was used, a spent token is a stolen one, whichever node it is shown to.
    let third = refresh(&cluster.nodes[1], &second).json();
    cluster.warm(0, &third);
    let stolen = refresh(&cluster.nodes[0], &first);
    assert_eq!((stolen.status, &stolen.json()["code"]), (401, &json!("refresh_token_reused")));
    let time = cluster.time_until_refused(1, &third);
    assert!(time < SECOND, "{time:?}");
    assert_eq!(refresh(&cluster.nodes[1], &third).status, 401);
}

#[test]
fn failed_logins_are_counted_by_all_nodes_together() {
    let redis = RedisServer::start();
    let throttle = "
throttle:
  login: { rate: 1/h, burst: 10 }
  wechat: { rate: 1000000/s, burst: 1000000 }
";
    let cluster = Cluster::on(&redis, throttle);
    let codes: Vec<String> = (0..30).map(|number| format!("guess-{number}")).collect();

    let answers: Vec<Response> = thread::scope(|scope| {
        let cluster = &cluster;
        let threads: Vec<_> = codes
            .chunks(10)
            .enumerate()
            .map(|(number, codes)| {
                scope.spawn(move || {
                    codes.iter().map(|code| cluster.login(number % 2, code)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    // A node learns that all nodes together counted too many when it tells of a failure of its own.
    let passed = answers.iter().filter(|answer| answer.status == 401).count();
    assert!((10..=14).contains(&passed), "{passed}");
    for answer in answers.iter().filter(|answer| answer.status != 401) {
        assert_eq!(answer.status, 429, "{}", answer.text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3600).contains(&wait), "{wait}");
    }
}

/// Somebody at the address sends made-up codes to both nodes; users there have good codes, and send
/// them again to any node when the wait that they were told is over.
#[test]
#[expect(clippy::disallowed_methods, reason = "a forger with so many codes a second")]
fn neighbours_of_a_forger_sign_in_on_two_nodes() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, "throttle: { login: { rate: 200/min, burst: 20 } }\n");
    let is_over = AtomicBool::new(false);
    let forged = AtomicUsize::new(0);

    let (in_by_now, took) = thread::scope(|scope| {
        let _stop = StopAtEnd(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let number = forged.fetch_add(1, Ordering::Relaxed);
                let status = cluster.login(number % 2, &format!("guess-{number}")).status;
                assert!(matches!(status, 401 | 429), "{status}");
                thread::sleep(Duration::from_millis(50));
            }
        });
        eventually("the address is slowed", || {
            cluster.login(0, &format!("own-{}", forged.fetch_add(1, Ordering::Relaxed))).status == 429
        });
        let began = now();
        let users: Vec<_> = (0..40)
            .map(|user| {
                let cluster = &cluster;
                scope.spawn(move || signs_in_within_a_minute(cluster, user))
            })
            .collect();
        let in_by_now = users.into_iter().filter_map(|user| user.join().unwrap()).count();
        (in_by_now, began.elapsed())
    });

    let remark = format!("{in_by_now} of 40 neighbours in on two nodes, the last after {took:.1?}");
    Tally::of(forged.load(Ordering::Relaxed), remark).report("cluster: made-up codes of a neighbour");
    assert!(in_by_now >= 36, "{in_by_now}");
}

/// The number of tries, if one of them succeeded.
#[expect(clippy::disallowed_methods, reason = "a client that heeds `Retry-After`")]
fn signs_in_within_a_minute(cluster: &Cluster, user: usize) -> Option<usize> {
    let code = cluster.world.code(&format!("user{user}"));
    let began = now();
    for attempt in 0.. {
        let answer = cluster.login((user + attempt) % 2, &code);
        match answer.status {
            200 => return Some(attempt + 1),
            429 => {}
            status => panic!("{status}: {}", answer.text()),
        }
        let wait = answer.header("retry-after").unwrap().parse().unwrap();
        if began.elapsed() > Duration::from_secs(60) {
            break;
        }
        thread::sleep(Duration::from_secs(wait));
    }
    None
}

#[test]
fn failed_refreshes_on_one_node_cost_the_other_nothing() {
    let redis = RedisServer::start();
    let cluster = Cluster::on(&redis, "throttle: { login: { rate: 1/h, burst: 5 } }\n");
    let login = cluster.sign_in(0, "alice");
    let token = login["refresh_token"].as_str().unwrap();
    for number in 0..40 {
        let made_up = json!({ "refresh_token": format!("{}{number:0>63}A", &token[..22]) }).to_string();
        let status = post(&cluster.nodes[0], "/auth/refresh", "", &made_up).status;
        assert_eq!(status, if number < 5 { 401 } else { 429 });
    }

    assert_eq!(refresh(&cluster.nodes[0], &login).status, 200);
    for node in 0..2 {
        assert_eq!(cluster.login(node, &cluster.world.code("bob")).status, 200);
    }
}

#[test]
fn exchanges_are_counted_by_all_nodes_together() {
    let redis = RedisServer::start();
    let throttle = "
throttle:
  login: { rate: 1000000/s, burst: 1000000 }
  wechat: { rate: 1/h, burst: 6 }
";
    let cluster = Cluster::on(&redis, throttle);

    let statuses: Vec<u16> =
        (0..20).map(|number| cluster.login(number % 2, &cluster.world.code("alice")).status).collect();

    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 6, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 14, "{statuses:?}");
    assert_eq!(cluster.world.exchanges(), 6);
}

#[test]
fn flood_on_one_node_does_not_reach_the_store() {
    const FLOOD: usize = 10_000;
    const BURST: usize = 10;
    let redis = RedisServer::start();
    let throttle = "
throttle:
  login: { rate: 60/min, burst: 10 }
  wechat: { rate: 1000000/s, burst: 1000000 }
";
    let cluster = Cluster::on(&redis, throttle);
    let body = r#"{"code":"nothing"}"#;
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    redis.command(&["config", "resetstat"]);

    let began = now();
    let admitted: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = cluster.nodes[0].connect();
                    (0..FLOOD / 4)
                        .filter(|_| {
                            let response = connection.send(request.as_bytes());
                            if response.header("connection") == Some("close") {
                                connection = cluster.nodes[0].connect();
                            }
                            response.status != 429
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let took = began.elapsed();

    let commands = commands(&redis);
    println!(
        "{FLOOD} logins in {took:.1?} on one node: {admitted} admitted, {commands} commands in the store"
    );
    let seconds = usize::try_from(took.as_secs()).unwrap() + 1;
    // The code comes back after its wait, so it has a second limit of the same size.
    let most = 2 * (BURST + seconds);
    assert!((BURST..=most).contains(&admitted), "{admitted} of at most {most}");
    // A login takes a few steps, and each node looks at the log four times a second, in a few steps
    // as well.
    assert!(commands < 16 * most + 2 * 16 * seconds, "{commands}");
}

/// How many commands clients sent since the last reset.
fn commands(redis: &RedisServer) -> usize {
    let text = redis.command(&["info", "commandstats"]);
    let calls =
        text.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<usize>().ok());
    calls.sum()
}

/// Asks until something is answered as expected; how long that took.
fn time_until(what: &str, mut is_true: impl FnMut() -> bool) -> Duration {
    let began: Instant = now();
    eventually(what, &mut is_true);
    began.elapsed()
}
