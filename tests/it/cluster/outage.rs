//! Redis goes away, in every way it can, while people use both nodes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Cluster, NO_THROTTLE, StopAtEnd, login, report, revoke, time_until, token, visit};
use crate::common::now;
use crate::common::redis::RedisServer;

/// As `sessions.recheck_after` of the nodes.
const RECHECK_AFTER: Duration = Duration::from_secs(3);
/// How long the store is away each time: longer than anything remembered may be believed.
const AWAY: Duration = Duration::from_secs(5);
/// How long a node may take for one answer: its wait for the store, tried a few times, and a busy
/// machine.
const ANSWER: Duration = Duration::from_secs(3);

/// What was asked, when, and what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// A visit with a token that is good.
    Valid,
    /// A visit with a token whose session was ended.
    Revoked,
    /// A visit with a forged token.
    Forged,
    /// A login.
    Login,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    deed: Deed,
    node: usize,
    /// Since the load began.
    asked: Duration,
    answered: Duration,
    status: u16,
    has_retry_after: bool,
}

/// People who use a node until told to stop.
fn use_node(
    cluster: &Cluster,
    node: usize,
    tokens: &[(Deed, String)],
    stop: &AtomicBool,
    seen: &Mutex<Vec<Seen>>,
    began: std::time::Instant,
) {
    let process = &cluster.nodes[node];
    while !stop.load(Ordering::Relaxed) {
        for (deed, token) in tokens {
            let asked = began.elapsed();
            let response = match deed {
                Deed::Login => login(process, &cluster.world.code("carol")),
                _ => visit(process, token),
            };
            seen.lock().unwrap().push(Seen {
                deed: *deed,
                node,
                asked,
                answered: began.elapsed(),
                status: response.status,
                has_retry_after: response.header("retry-after").is_some(),
            });
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// A token like this one, with another signature.
fn forged(token: &str) -> String {
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    format!("{rest}.{other}{}", &signature[1..])
}

/// Takes the store away and gives it back while people use both nodes, and judges what they were
/// answered.
fn under_load(
    redis: &mut RedisServer,
    leave: impl FnOnce(&mut RedisServer),
    back: impl FnOnce(&mut RedisServer),
) {
    let cluster = Cluster::on(redis, NO_THROTTLE);
    let (valid, ended) = (cluster.sign_in(0, "alice"), cluster.sign_in(0, "bob"));
    for node in [0, 1] {
        cluster.warm(node, &valid);
        cluster.warm(node, &ended);
    }
    let scope = json!({ "app": "shop", "openid": ended["openid"] });
    assert_eq!(revoke(&cluster.nodes[0], &scope).status, 200);
    for node in [0, 1] {
        cluster.time_until_refused(node, &ended);
    }

    let (stop, seen, began) = (AtomicBool::new(false), Mutex::new(Vec::new()), now());
    let visits = |deed, login: &Value| (deed, token(login).to_owned());
    let tokens =
        [visits(Deed::Valid, &valid), visits(Deed::Revoked, &ended), (Deed::Forged, forged(token(&valid)))];
    let logins = [(Deed::Login, String::new())];
    let (away, returned, recovered) = thread::scope(|threads| {
        let (cluster, stop, seen) = (&cluster, &stop, &seen);
        for node in [0, 1] {
            for tokens in [tokens.as_slice(), logins.as_slice()] {
                threads.spawn(move || use_node(cluster, node, tokens, stop, seen, began));
            }
        }
        let _end = StopAtEnd(stop);
        thread::park_timeout(Duration::from_secs(1));
        leave(redis);
        let away = began.elapsed();
        // What cannot be kept is not promised.
        let refused = revoke(&cluster.nodes[1], &json!({ "app": "shop", "all": true }));
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        while began.elapsed() < away + AWAY {
            thread::park_timeout(Duration::from_millis(50));
        }
        for node in &cluster.nodes {
            assert!(node.admin("/readyz").contains("store_unavailable"));
            assert_eq!(node.admin("/livez"), "ok\n");
        }
        let returned = began.elapsed();
        back(redis);
        let recovered: Vec<Duration> = [0, 1]
            .into_iter()
            .flat_map(|node| {
                let process = &cluster.nodes[node];
                [
                    time_until("logins are served again", || {
                        login(process, &cluster.world.code("dave")).status == 200
                    }),
                    time_until("the node is ready again", || process.admin("/readyz") == "ready\n"),
                ]
            })
            .collect();
        thread::park_timeout(Duration::from_secs(1));
        (away, returned, recovered)
    });

    judge(&seen.into_inner().unwrap(), away, returned);
    report("a node served logins, and was ready, after the store was back", recovered);
}

fn judge(seen: &[Seen], away: Duration, returned: Duration) {
    let of = |deed| seen.iter().filter(move |seen| seen.deed == deed);
    let during = |seen: &&Seen| seen.asked > away && seen.answered < returned;
    for deed in [Deed::Revoked, Deed::Forged] {
        let statuses = of(deed).map(|seen| seen.status).filter(|status| ![401, 503].contains(status));
        assert_eq!(statuses.count(), 0, "{deed:?} was let in");
    }
    assert!(of(Deed::Forged).all(|seen| seen.status == 401), "a forged token needs no store to be refused");
    for seen in of(Deed::Login).filter(during) {
        assert_eq!((seen.status, seen.has_retry_after), (503, true), "{seen:?}");
    }
    for seen in of(Deed::Valid) {
        let is_refused = !during(&seen) && seen.answered < away;
        assert!(seen.status == 200 || (seen.status == 503 && !is_refused), "{seen:?}");
        // No client is told that its session has ended while the store does not answer.
        let is_stale = seen.asked > away + RECHECK_AFTER + ANSWER && seen.answered < returned;
        assert!(!(is_stale && seen.status == 200), "{seen:?}");
    }
    for node in [0, 1] {
        let served = |seen: &&Seen| seen.node == node && seen.status == 200;
        let last = of(Deed::Valid).filter(during).filter(served).map(|seen| seen.answered).max();
        let believed = last.map_or(Duration::ZERO, |last| last - away);
        let refused: Vec<Duration> = of(Deed::Login)
            .filter(during)
            .filter(|seen| seen.node == node)
            .map(|seen| seen.answered - seen.asked)
            .collect();
        assert!(!refused.is_empty(), "nobody signed in on node {node} meanwhile");
        println!("node {node}: a token verified before was believed for {believed:.1?}");
        report(&format!("a login was refused by node {node} during an outage within"), refused);
        let slowest =
            seen.iter().filter(|seen| seen.node == node).map(|seen| seen.answered - seen.asked).max();
        assert!(slowest.is_some_and(|slowest| slowest < ANSWER), "{slowest:?}");
    }
    println!("{} requests, {} of them meanwhile", seen.len(), seen.iter().filter(during).count());
}

/// What was written is on disk before it is answered, as `docs/redis.md` asks of a Redis that may
/// be killed.
const DURABLE: [&str; 2] = ["appendonly yes", "appendfsync always"];

#[test]
fn paused_store_gives_no_access() {
    let mut redis = RedisServer::with(&DURABLE);

    under_load(&mut redis, |redis| redis.pause(), |redis| redis.resume());
}

#[test]
fn killed_store_gives_no_access() {
    let mut redis = RedisServer::with(&DURABLE);

    under_load(&mut redis, RedisServer::kill, RedisServer::restart);
}

#[test]
fn store_that_lost_all_rows_gives_no_access() {
    let mut redis = RedisServer::start();
    let cluster = Cluster::on(&redis, NO_THROTTLE);
    let alice = cluster.sign_in(0, "alice");
    cluster.warm(0, &alice);
    cluster.warm(1, &alice);

    redis.restart();

    for node in &cluster.nodes {
        let time =
            time_until("a session that nobody knows is refused", || visit(node, token(&alice)).status == 401);
        println!("a session that the store forgot was refused after {time:.1?}");
        assert!(time < RECHECK_AFTER + ANSWER, "{time:?}");
        time_until("logins are served again", || login(node, &cluster.world.code("bob")).status == 200);
    }
}
