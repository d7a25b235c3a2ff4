//! The log that all nodes read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use menshen::config::{RedisStore, RedisTopology};
use menshen::store::{LogEntries, SharedRate, Store as _};
use tokio::time::timeout;

use super::{eventually, key, open, run, section, standalone};
use crate::common::PATIENCE;
use crate::common::redis::{Cluster, RedisServer, Sentinels};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn lost_log_is_a_gap_and_never_nothing_new() {
    let server = RedisServer::start();
    run(async {
        let (writer, reader) = (open(&standalone(&server)), open(&standalone(&server)));
        for _ in 0..3 {
            writer.append("x".into(), MINUTE).await.unwrap();
        }
        assert!(matches!(reader.log_after(0).await, Ok(LogEntries::All { last: 3, .. })));

        server.command(&["flushall"]);

        assert_eq!(reader.log_after(3).await, Ok(LogEntries::Gap { last: 0 }));
    });
}

#[test]
fn lost_log_is_a_gap_even_once_it_is_as_long_or_longer() {
    for appended in [3_u64, 5] {
        let server = RedisServer::start();
        run(async {
            let (writer, reader) = (open(&standalone(&server)), open(&standalone(&server)));
            for _ in 0..3 {
                writer.append("x".into(), MINUTE).await.unwrap();
            }
            assert!(matches!(reader.log_after(0).await, Ok(LogEntries::All { last: 3, .. })));

            server.command(&["flushall"]);
            for _ in 0..appended {
                writer.append("y".into(), MINUTE).await.unwrap();
            }

            assert_eq!(reader.log_after(3).await, Ok(LogEntries::Gap { last: appended }));
            let nothing_new = LogEntries::All { entries: Vec::new(), last: appended };
            assert_eq!(reader.log_after(appended).await, Ok(nothing_new));
        });
    }
}

#[test]
fn scripts_that_the_server_forgot_are_shown_again() {
    let server = RedisServer::start();
    run(async {
        let store = open(&standalone(&server));
        assert_eq!(store.append("a".into(), MINUTE).await, Ok(1));

        server.command(&["script", "flush"]);

        assert_eq!(store.append("b".into(), MINUTE).await, Ok(2));
    });
}

#[test]
fn entry_wakes_every_node_that_waits() {
    let server = RedisServer::start();
    woken(&standalone(&server));
    let cluster = Cluster::start();
    woken(&section(RedisTopology::Cluster, &cluster.addresses()));
    let sentinels = Sentinels::start(1);
    woken(&section(RedisTopology::Sentinel, &sentinels.addresses()));
}

fn woken(section: &RedisStore) {
    run(async {
        let (writer, reader) = (open(section), open(section));
        // The first one ends when the subscription stands.
        timeout(PATIENCE, reader.log_moved()).await.unwrap();
        let quiet = timeout(Duration::from_millis(100), reader.log_moved()).await;
        assert!(quiet.is_err(), "nobody wrote");

        let ((), appended) = tokio::join!(
            async { timeout(PATIENCE, reader.log_moved()).await.unwrap() },
            writer.append(Bytes::from_static(b"x"), MINUTE),
        );

        assert_eq!(appended, Ok(1));
    });
}

#[test]
fn subscription_comes_back_with_the_server() {
    let mut server = RedisServer::start();
    run(async {
        let (writer, reader) = (open(&standalone(&server)), open(&standalone(&server)));
        timeout(PATIENCE, reader.log_moved()).await.unwrap();
        server.kill();
        let deaf = timeout(Duration::from_millis(300), reader.log_moved()).await;
        assert!(deaf.is_err(), "nothing was heard");
        server.restart();

        timeout(PATIENCE, reader.log_moved()).await.unwrap();
        eventually("the writer is back", async || writer.append("x".into(), MINUTE).await.is_ok()).await;
        timeout(PATIENCE, reader.log_moved()).await.unwrap();
    });
}

#[test]
fn two_gateways_with_other_prefixes_do_not_meet() {
    let server = RedisServer::start();
    run(async {
        let one = open(&standalone(&server));
        let other = open(&RedisStore { prefix: "other".into(), ..standalone(&server) });
        one.put(&key(1), "a".into(), MINUTE).await.unwrap();
        one.append("a".into(), MINUTE).await.unwrap();

        assert_eq!(other.get(&key(1)).await, Ok(None));
        assert_eq!(other.log_after(0).await, Ok(LogEntries::All { entries: Vec::new(), last: 0 }));
        let keys = server.command(&["keys", "*"]);
        assert!(keys.lines().all(|key| key.starts_with("menshen:")), "{keys}");
    });
}

#[test]
fn rate_is_exact_for_two_gateways_at_once() {
    let server = RedisServer::start();
    run(async {
        let gateways = [open(&standalone(&server)), open(&standalone(&server))];
        let rate = SharedRate { every: Duration::from_secs(60), burst: 10 };
        let tasks: Vec<_> = (0..64)
            .map(|index| {
                let gateway = Arc::clone(&gateways[index % 2]);
                tokio::spawn(async move {
                    gateway.shared_rates().unwrap().acquire(&[9; 16], rate).await.unwrap().is_ok()
                })
            })
            .collect();
        let mut admitted = 0;
        for task in tasks {
            admitted += i32::from(task.await.unwrap());
        }

        assert_eq!(admitted, 10);
        let left: i64 =
            server.command(&["pttl", &format!("menshen:b:{{{}}}", "09".repeat(16))]).parse().unwrap();
        assert!(left > 0 && left <= 600_000, "the bucket ends when it is full: {left}");
    });
}
