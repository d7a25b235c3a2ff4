//! What a write is worth when its server fails.

use std::time::Duration;

use bytes::Bytes;
use menshen::config::{Duration as Span, RedisStore, RedisTopology};
use menshen::store::{Store as _, StoreError};

use super::{eventually, key, open, run, section, standalone};
use crate::common::redis::{RedisServer, Sentinels};

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than any test takes, on the busiest machine.
const HOUR: Duration = Duration::from_secs(3600);

fn replicated(mut section: RedisStore, within: Duration) -> RedisStore {
    section.durability.replicas = 1;
    section.durability.timeout = Span(within);
    section
}

#[test]
fn what_was_acknowledged_outlives_its_master() {
    let mut sentinels = Sentinels::start(1);
    let section = section(RedisTopology::Sentinel, &sentinels.addresses());
    let section = RedisStore {
        timeout: Span(Duration::from_millis(500)),
        connect_timeout: Span(Duration::from_millis(500)),
        ..replicated(section, Duration::from_millis(500))
    };
    run(async {
        let store = open(&section);
        let mut acknowledged = Vec::new();
        for number in 0..200 {
            if store.put(&key(number), Bytes::from(vec![number]), HOUR).await.is_ok() {
                acknowledged.push(number);
            }
            if number == 100 {
                sentinels.servers[0].kill();
            }
        }
        // On a busy machine a replica may be late for some.
        assert!(acknowledged.len() > 50, "{}", acknowledged.len());

        assert_eq!(sentinels.await_failover(0), 1);

        // No replica is left to have a write, but reads find the new master.
        for number in acknowledged {
            let expected = Ok(Some(Bytes::from(vec![number])));
            eventually("the store finds the new master", async || {
                let answer = store.get(&key(number)).await;
                assert!(answer.is_err() || answer == expected, "{number}: {answer:?}");
                answer.is_ok()
            })
            .await;
        }
        sentinels.servers[0].restart();
        eventually("the old master is a replica, and counts", async || {
            store.put(&key(250), "x".into(), HOUR).await.is_ok()
        })
        .await;
        assert!(sentinels.servers[1].command(&["keys", "*"]).lines().count() > 50);
    });
}

#[test]
fn demoted_master_is_left() {
    let sentinels = Sentinels::start(1);
    run(async {
        let store = open(&section(RedisTopology::Sentinel, &sentinels.addresses()));
        store.put(&key(1), "a".into(), MINUTE).await.unwrap();

        let master = sentinels.fail_over();

        // The old one is written to until it, or the store, hears of it.
        let name = format!("menshen:s:{{{}}}", "02".repeat(16));
        eventually("the store writes to the new master", async || {
            let _ = store.put(&key(2), "b".into(), MINUTE).await;
            sentinels.servers[master].command(&["get", &name]) == "b"
        })
        .await;
    });
}

#[test]
fn master_cut_off_from_its_sentinels_is_left_soon() {
    let sentinels = Sentinels::start(1);
    run(async {
        let store = open(&section(RedisTopology::Sentinel, &sentinels.addresses()));
        store.put(&key(1), "a".into(), MINUTE).await.unwrap();
        // It is demoted for them, and goes on as a master for all it knows.
        sentinels.servers[0].command(&["acl", "setuser", "default", "-replicaof", "-slaveof", "-multi"]);

        let master = sentinels.fail_over();

        let name = format!("menshen:s:{{{}}}", "02".repeat(16));
        eventually("the store writes to the new master", async || {
            let _ = store.put(&key(2), "b".into(), MINUTE).await;
            sentinels.servers[master].command(&["get", &name]) == "b"
        })
        .await;
        assert_eq!(sentinels.servers[0].command(&["role"]).lines().next(), Some("master"));
    });
}

#[test]
fn one_sentinel_less_is_enough() {
    let mut sentinels = Sentinels::start(1);
    sentinels.kill_sentinel(0);
    run(async {
        let store = open(&section(RedisTopology::Sentinel, &sentinels.addresses()));
        assert_eq!(store.put(&key(1), "a".into(), MINUTE).await, Ok(()));
    });
}

#[test]
fn minority_of_the_sentinels_is_not_believed() {
    let mut sentinels = Sentinels::start(1);
    run(async {
        let mut section = section(RedisTopology::Sentinel, &sentinels.addresses());
        section.connect_timeout = Span(Duration::from_millis(500));
        let (early, late) = (open(&section), open(&section));
        early.put(&key(1), "a".into(), MINUTE).await.unwrap();

        sentinels.kill_sentinel(0);
        sentinels.kill_sentinel(1);

        // The master is well, but the gateway cannot know that it is still the master.
        assert!(late.get(&key(1)).await.is_err());
        eventually("the store leaves a master that no majority names", async || {
            early.get(&key(1)).await.is_err()
        })
        .await;
    });
}

#[test]
fn write_that_no_replica_has_is_an_error() {
    let server = RedisServer::start();
    run(async {
        let store = open(&replicated(standalone(&server), Duration::from_millis(50)));
        let lacking = StoreError::NotReplicated { acknowledged: 0, wanted: 1 };
        let failed = [
            store.put(&key(1), "a".into(), MINUTE).await,
            store.compare_and_set(&key(1), b"a", "b".into(), MINUTE).await.map(drop),
            store.append("a".into(), MINUTE).await.map(drop),
            store.compare_and_delete(&key(1), b"b").await.map(drop),
            store.put_if_absent(&key(2), "a".into(), MINUTE).await.map(drop),
            store.put_if_absent(&key(3), "a".into(), MINUTE).await.map(drop),
            store.compare_and_delete(&key(3), b"a").await.map(drop),
            store.ping().await,
        ];
        assert_eq!(failed, [(); 8].map(|()| Err(lacking.clone())));

        // Nothing was written, nothing is waited for.
        assert_eq!(store.compare_and_delete(&key(1), b"b").await, Ok(false));
        assert_eq!(store.compare_and_set(&key(1), b"x", "y".into(), MINUTE).await, Ok(false));
        assert_eq!(store.put_if_absent(&key(2), "x".into(), MINUTE).await, Ok(false));
    });
}

#[test]
fn reads_do_not_stand_behind_writes_that_wait() {
    let server = RedisServer::start();
    run(async {
        let store = open(&replicated(standalone(&server), Duration::from_secs(3)));
        store.get(&key(1)).await.unwrap();
        let write = tokio::spawn({
            let store = store.clone();
            async move { store.put(&key(1), "a".into(), MINUTE).await }
        });
        let name = format!("menshen:s:{{{}}}", "01".repeat(16));
        eventually("the write is there", async || server.command(&["get", &name]) == "a").await;

        assert_eq!(store.get(&key(1)).await, Ok(Some("a".into())));
        assert!(!write.is_finished(), "the write waits");
        write.abort();
    });
}

#[test]
fn server_that_cannot_wait_for_its_disk_is_refused_before_anything_is_written() {
    let server = RedisServer::start();
    let version = server.command(&["info", "server"]);
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap();
    let knows_waitaof = !(version.starts_with("6.") || version.starts_with("7.0"));
    run(async {
        let mut section = standalone(&server);
        section.durability.fsync = true;
        let store = open(&section);

        let answer = store.put(&key(1), "a".into(), MINUTE).await;

        let expected = if knows_waitaof { "appendonly" } else { "needs WAITAOF" };
        assert!(
            matches!(&answer, Err(StoreError::Unavailable(reason)) if reason.contains(expected)),
            "{answer:?}"
        );
        assert_eq!(server.command(&["dbsize"]), "0");
    });
}
