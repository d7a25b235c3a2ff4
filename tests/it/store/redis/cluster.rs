//! A cluster: slots move, servers go, and the rest goes on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use menshen::config::RedisTopology;
use menshen::store::Store as _;

use super::away::{SLACK, TIMEOUT, hasty, is_away};
use super::{eventually, key, open, run, section};
use crate::common::now;
use crate::common::redis::Cluster;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn slot_that_moves_is_followed() {
    let cluster = Cluster::start();
    run(async {
        let store = open(&section(RedisTopology::Cluster, &cluster.addresses()));
        store.ping().await.unwrap();
        let name = format!("menshen:s:{{{}}}", "01".repeat(16));
        let slot = cluster.servers[0].command(&["cluster", "keyslot", &name]);
        let owner = usize::from(slot.parse::<u16>().unwrap()) * 3 / 16384;
        let target = (owner + 1) % 3;
        let id = |index: usize| cluster.servers[index].command(&["cluster", "myid"]);
        let set_slot = |on: usize, rest: &[&str]| {
            let command = [&["cluster", "setslot", &slot], rest].concat();
            assert_eq!(cluster.servers[on].command(&command), "OK");
        };

        set_slot(target, &["importing", &id(owner)]);
        set_slot(owner, &["migrating", &id(target)]);

        // New rows of the slot are made at the target, where only who asks is heard.
        assert_eq!(store.put(&key(1), "a".into(), MINUTE).await, Ok(()));
        assert_eq!(store.put_if_absent(&key(1), "x".into(), MINUTE).await, Ok(false));
        assert_eq!(store.compare_and_set(&key(1), b"a", "b".into(), MINUTE).await, Ok(true));
        assert_eq!(cluster.servers[target].command(&["cluster", "countkeysinslot", &slot]), "1");
        set_slot(target, &["node", &id(target)]);
        set_slot(owner, &["node", &id(target)]);
        assert_eq!(store.get(&key(1)).await, Ok(Some("b".into())));
        assert_eq!(store.compare_and_delete(&key(1), b"b").await, Ok(true));
    });
}

#[test]
fn cluster_without_one_of_its_servers_goes_on_with_the_others() {
    let mut cluster = Cluster::with(&["cluster-require-full-coverage no"]);
    run(async {
        let store = open(&hasty(section(RedisTopology::Cluster, &cluster.addresses())));
        for number in 0..30 {
            store.put(&key(number), Bytes::from(vec![number]), MINUTE).await.unwrap();
        }

        cluster.servers[2].kill();

        let (mut there, mut away) = (0, 0);
        for number in 0..30 {
            let begun = now();
            let answer = store.get(&key(number)).await;
            assert!(begun.elapsed() < TIMEOUT + SLACK);
            there += u32::from(answer == Ok(Some(Bytes::from(vec![number]))));
            away += u32::from(is_away(&answer));
        }
        assert!(there > 5 && away > 3 && there + away == 30, "{there} there, {away} away");
        cluster.servers[2].restart();
        eventually("all slots are back", async || {
            for number in 0..30 {
                if store.put(&key(number), "b".into(), MINUTE).await.is_err() {
                    return false;
                }
            }
            true
        })
        .await;
    });
}

#[test]
fn silent_server_of_a_cluster_delays_an_operation_by_the_timeout_at_most() {
    let cluster = Cluster::with(&["cluster-node-timeout 15000"]);
    run(async {
        let store = open(&hasty(section(RedisTopology::Cluster, &cluster.addresses())));
        for number in 0..10 {
            store.put(&key(number), Bytes::from(vec![number]), MINUTE).await.unwrap();
        }

        cluster.servers[0].pause();

        let asked: Vec<_> = (0..10)
            .map(|number| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let begun = now();
                    (store.get(&key(number)).await, begun.elapsed())
                })
            })
            .collect();
        let mut there = 0;
        for answer in asked {
            let (answer, took) = answer.await.unwrap();
            assert!(took < TIMEOUT + SLACK, "{took:?}");
            there += i32::from(answer.is_ok());
        }
        assert!(there > 0 && there < 10, "{there}");
        cluster.servers[0].resume();
        for number in 0..10 {
            eventually("it answers again", async || {
                store.get(&key(number)).await == Ok(Some(Bytes::from(vec![number])))
            })
            .await;
        }
    });
}
