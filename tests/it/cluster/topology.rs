//! Gateways on a Redis Cluster, and on Sentinel before and after a failover.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    COMMON, Cluster, NO_THROTTLE, change_block, login, logout, lose_a_refresh, refresh, report, revoke,
    time_until, times_of_revocations, token, visit,
};
use crate::common::redis::{Cluster as RedisCluster, MASTER_NAME, RedisServer, Sentinels};
use crate::common::{ROUTES, Response, World, eventually, now};
use crate::process::Process;

/// What a person is answered who was revoked or blocked, and who is none of both.
const ENDED: u16 = 401;
const BLOCKED: u16 = 403;
const GOOD: u16 = 200;

fn section(topology: &str, addresses: &[SocketAddr], more: &str) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
    format!("topology: {topology}, addresses: [{}]{more}", addresses.join(", "))
}

/// Waits until a node answers so, and goes on to.
fn await_status(node: &Process, login: &Value, expected: u16) -> Duration {
    let is_so = || {
        let status = visit(node, token(login)).status;
        // No client is told that its session has ended while the store does not answer.
        assert!([GOOD, expected, 503].contains(&status), "{status}, not {expected}");
        status == expected
    };
    let time = time_until(&format!("the node answers {expected}"), is_so);
    for _ in 0..3 {
        assert_eq!(visit(node, token(login)).status, expected);
    }
    time
}

#[test]
fn nodes_on_a_redis_cluster_are_one() {
    let redis = RedisCluster::start();
    let cluster = Cluster::over(&section("cluster", &redis.addresses(), ""), NO_THROTTLE);

    let times = times_of_revocations(&cluster, 15);
    lose_a_refresh(&cluster);

    report("refused by the other node, on a Redis Cluster", times);
    let rows = |index: usize| redis.servers[index].command(&["dbsize"]).parse::<u32>().unwrap();
    assert!((0..3).all(|index| rows(index) > 0), "one server has all of it");
}

#[test]
fn refresh_while_the_replica_is_down_ends_no_session() {
    const GRACE: Duration = Duration::from_secs(1);
    let master = RedisServer::start();
    let replica = RedisServer::with(&[&format!("replicaof 127.0.0.1 {}", master.address().port())]);
    replica.await_sync();
    let redis = format!("addresses: ['{}'], durability: {{ replicas: 1 }}", master.address());
    let common = COMMON.replace("addresses: ['{redis}']", &redis);
    let common = common.replace("recheck_after", "refresh_grace: 1s\n  recheck_after");
    let cluster = Cluster::in_place_of(World::with(&format!("{ROUTES}{common}{NO_THROTTLE}")));
    let logins: Vec<Value> = (0..4).map(|number| cluster.sign_in(number % 2, "alice")).collect();

    replica.pause();
    let answers: Vec<Response> = thread::scope(|threads| {
        let asked = logins.iter().enumerate();
        let (nodes, asked) = (&cluster.nodes, asked.map(|(number, login)| (number % 2, login)));
        let asked: Vec<_> =
            asked.map(|(node, login)| threads.spawn(move || refresh(&nodes[node], login))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let refused = now();
    for node in &cluster.nodes {
        eventually("the node knows", || node.admin("/readyz").contains("store_unavailable"));
        assert_eq!(refresh(node, &logins[0]).status, 503);
    }
    eventually("the grace time is over", || refused.elapsed() > GRACE);
    replica.resume();

    assert!(answers.iter().all(|answer| answer.status == 503));
    for (number, first) in logins.iter().enumerate() {
        let node = &cluster.nodes[number % 2];
        eventually("logins are served again", || login(node, &cluster.world.code("bob")).status == 200);
        let again = refresh(node, first);
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(visit(node, token(&again.json())).status, GOOD);
    }
}

#[test]
fn what_was_acknowledged_holds_after_a_failover() {
    let mut redis = Sentinels::start(1);
    let more = format!(", master_name: {MASTER_NAME}, durability: {{ replicas: 1 }}");
    let cluster = Cluster::over(&section("sentinel", &redis.addresses(), &more), NO_THROTTLE);
    let [one, other] = &cluster.nodes;
    report("refused by the other node, on Sentinel", times_of_revocations(&cluster, 5));

    let people = ["alice", "bob", "carol", "dave", "eve"];
    let [kept, refreshed, revoked, out, blocked] = people.map(|person| cluster.sign_in(0, person));
    for login in [&kept, &refreshed, &revoked, &out, &blocked] {
        cluster.warm(0, login);
        cluster.warm(1, login);
    }
    let marks = redis.servers[0].command(&["keys", "menshen:r:*"]);
    assert_eq!(redis.servers[0].command(&["copy", &marks, "before"]), "1");
    let who = json!({ "app": "shop", "openid": blocked["openid"] });
    assert_eq!(change_block(one, "block", &who).status, 200);
    assert_eq!(revoke(other, &json!({ "app": "shop", "openid": revoked["openid"] })).status, 200);
    assert_eq!(logout(other, &out).status / 100, 2);
    let renewed = refresh(one, &refreshed).json();
    let last = cluster.sign_in(1, "frank");
    // The last that the master did was to say that all of it is done.
    redis.servers[0].kill();
    let master = redis.await_failover(0);

    let mut times = Vec::new();
    for node in &cluster.nodes {
        let good = [&kept, &refreshed, &renewed, &last];
        times.extend(good.map(|login| await_status(node, login, GOOD)));
        times.extend([&revoked, &out].map(|login| await_status(node, login, ENDED)));
        times.push(await_status(node, &blocked, BLOCKED));
    }
    report("a node said so again after the failover", times);

    // Nothing is durable before there is a replica again.
    assert_eq!(login(one, &cluster.world.code("gina")).status, 503);
    redis.servers[0].restart();
    for node in &cluster.nodes {
        eventually("logins are served again", || login(node, &cluster.world.code("gina")).status == 200);
    }
    for login in [&kept, &renewed, &last] {
        let next = refresh(other, login);
        assert_eq!(next.status, 200, "{}", next.text());
    }
    for login in [&revoked, &out] {
        assert_eq!(refresh(one, login).status, 401);
    }
    let stolen = refresh(one, &refreshed);
    assert_eq!((stolen.status, &stolen.json()["code"]), (401, &json!("refresh_token_reused")));

    // The new master lacks the latest row: a node that remembers it writes it back, over later
    // writes.
    assert_eq!(redis.servers[master].command(&["copy", "before", &marks, "replace"]), "1");
    let newcomer = Process::like(&cluster.world);
    let carol = json!({ "app": "shop", "openid": revoked["openid"] });
    assert_eq!(change_block(&newcomer, "block", &carol).status, 200);
    for node in [one, other, &newcomer] {
        await_status(node, &blocked, BLOCKED);
        let refused = login(node, &cluster.world.code("carol"));
        assert_eq!(refused.json()["code"], "user_blocked", "{}", refused.text());
    }
    assert_eq!(change_block(one, "unblock", &who).status, 200);
    assert_eq!(change_block(one, "unblock", &carol).status, 200);

    report("refused by the other node, after the failover", times_of_revocations(&cluster, 10));
}
