//! `durability.fsync`: a write counts once it is on disk, and an error says that it may not be.

use std::time::Duration;

use menshen::config::{Duration as Span, RedisStore, RedisTopology};
use menshen::store::{Store as _, StoreError};

use super::{as_documented, documented_user, key, open, rules, run, section, standalone};
use crate::common::redis::{Cluster, RedisServer};

const MINUTE: Duration = Duration::from_secs(60);

fn on_disk(mut section: RedisStore, replicas: u32, within: Duration) -> RedisStore {
    section.durability.fsync = true;
    section.durability.replicas = replicas;
    section.durability.timeout = Span(within);
    section
}

/// The rule in the documentation, and what it says to add for `durability.fsync`.
fn user_who_waits() -> String {
    format!("{} +waitaof", documented_user())
}

#[test]
fn server_that_waits_for_its_disk_keeps_every_rule_for_the_documented_user() {
    let server = RedisServer::with_disk(&[&user_who_waits()]);

    run(rules::hold(&as_documented(on_disk(standalone(&server), 0, Duration::from_secs(5)))));
}

#[test]
fn cluster_that_waits_for_its_disks_keeps_every_rule_for_the_documented_user() {
    let cluster = Cluster::with_disk(&[&user_who_waits()]);
    let section = section(RedisTopology::Cluster, &cluster.addresses());

    run(rules::hold(&as_documented(on_disk(section, 0, Duration::from_secs(5)))));
}

#[test]
fn what_was_acknowledged_is_there_after_the_server_was_killed() {
    let mut server = RedisServer::with_disk(&[]);
    run(async {
        let store = open(&on_disk(standalone(&server), 0, Duration::from_secs(5)));
        for number in 0..100 {
            store.put(&key(number), vec![number].into(), MINUTE).await.unwrap();
        }
    });

    server.restart();

    run(async {
        let store = open(&standalone(&server));
        for number in 0..100 {
            assert_eq!(store.get(&key(number)).await, Ok(Some(vec![number].into())));
        }
    });
}

#[test]
fn write_that_never_reaches_the_disk_is_an_error() {
    let server = RedisServer::with_disk(&["appendfsync no"]);
    run(async {
        let store = open(&on_disk(standalone(&server), 0, Duration::from_millis(100)));
        let lacking = StoreError::NotReplicated { acknowledged: 0, wanted: 1 };

        assert_eq!(store.put(&key(1), "a".into(), MINUTE).await, Err(lacking.clone()));
        assert_eq!(store.put_if_absent(&key(2), "a".into(), MINUTE).await, Err(lacking.clone()));
        assert_eq!(store.append("a".into(), MINUTE).await, Err(lacking));
        // Nothing was written, nothing is waited for.
        assert_eq!(store.put_if_absent(&key(2), "b".into(), MINUTE).await, Ok(false));
    });
}

#[test]
fn replica_counts_once_the_write_is_on_its_disk() {
    let server = RedisServer::with_disk(&[]);
    let of_master = format!("replicaof 127.0.0.1 {}", server.address().port());
    let replica = RedisServer::with_disk(&[&of_master]);
    replica.await_sync();
    let wanting = |within| on_disk(standalone(&server), 1, within);
    run(async {
        assert_eq!(open(&wanting(Duration::from_secs(5))).put(&key(1), "a".into(), MINUTE).await, Ok(()));

        // It goes on receiving all of it, into memory alone.
        assert_eq!(replica.command(&["config", "set", "appendonly", "no"]), "OK");
        let answer = open(&wanting(Duration::from_millis(100))).put(&key(2), "b".into(), MINUTE).await;

        assert_eq!(answer, Err(StoreError::NotReplicated { acknowledged: 1, wanted: 2 }));
    });
}

#[test]
fn server_that_stops_keeping_a_file_is_left_alone() {
    let server = RedisServer::with_disk(&[]);
    run(async {
        let store = open(&on_disk(standalone(&server), 0, Duration::from_secs(1)));
        store.put(&key(1), "a".into(), MINUTE).await.unwrap();

        assert_eq!(server.command(&["config", "set", "appendonly", "no"]), "OK");

        let answer = store.put(&key(2), "b".into(), MINUTE).await;
        assert!(
            matches!(&answer, Err(StoreError::Unavailable(reason)) if reason.contains("appendonly yes")),
            "{answer:?}"
        );
    });
}
