//! A gateway that starts before its Redis, and what it says of it.

use crate::common::redis::RedisServer;
use crate::common::{NO_THROTTLE, ROUTES, World, eventually};
use crate::process::Process;

use super::{Cluster, token, visit};

#[test]
fn start_without_a_redis_is_explained_and_ends_by_itself() {
    let mut redis = RedisServer::with(&["requirepass another"]);
    redis.kill();
    let store = format!(
        "store: {{ engine: redis, redis: {{ addresses: ['{}'], password: hidden }} }}",
        redis.address()
    );
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}{store}\n"));
    let node = Process::like(&world);
    world.stop();

    eventually("it says that nobody is there", || node.stderr().contains("Connection refused"));
    assert!(node.admin("/readyz").contains("store_unavailable"));
    redis.restart();
    eventually("it says that the password is wrong", || node.stderr().contains("WRONGPASS"));
    assert!(node.admin("/readyz").contains("store_unavailable"));
    redis.command_as(&["-a", "another"], &["config", "set", "requirepass", "hidden"]);
    eventually("it is ready", || node.admin("/readyz") == "ready\n");

    let log = node.stderr();
    assert!(log.contains(&format!("sessions are kept in the Redis at {}", redis.address())), "{log}");
    let times = |text: &str| log.matches(text).count();
    assert!((2..=4).contains(&times("redis did not do")), "{log}");
    assert_eq!(
        (times("redis answers again"), times("the store failed"), times("hidden")),
        (1, 0, 0),
        "{log}"
    );
}

/// A gateway that starts accepts clients once its store has answered: no client meets one that
/// cannot judge its token yet.
#[test]
fn a_gateway_that_starts_refuses_no_good_token() {
    let redis = RedisServer::start();
    let mut cluster = Cluster::on(&redis, NO_THROTTLE);
    let login = cluster.sign_in(0, "alice");

    for _ in 0..5 {
        cluster.nodes[1].signal("TERM");
        cluster.nodes[1].start_again();

        // At once: the gateway has only just named its addresses.
        let response = visit(&cluster.nodes[1], token(&login));

        assert_eq!(response.status, 200, "{}", response.text());
    }
}
