//! Redis is gone, silent, or says no: an error in time, and back by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use menshen::config::{Duration as Span, RedisStore, RedisTopology};
use menshen::store::{Redis, Store as _, StoreError};
use menshen::telemetry::metrics::Metrics;

use super::{eventually, key, open, open_with, run, section, standalone};
use crate::common::now;
use crate::common::redis::{RedisServer, free_address};

const MINUTE: Duration = Duration::from_secs(60);
/// Time for an operation, as these tests set it, and what a busy machine may add.
pub const TIMEOUT: Duration = Duration::from_millis(300);
pub const SLACK: Duration = Duration::from_millis(700);

pub fn hasty(section: RedisStore) -> RedisStore {
    RedisStore { timeout: Span(TIMEOUT), connect_timeout: Span(TIMEOUT), ..section }
}

pub fn is_away<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_)))
}

async fn is_back(store: &Redis) {
    eventually("redis is back", async || store.put(&key(9), "back".into(), MINUTE).await.is_ok()).await;
}

#[test]
fn killed_server_is_an_error_in_time_and_comes_back_by_itself() {
    let mut server = RedisServer::start();
    let metrics = Metrics::new().unwrap();
    run(async {
        let store = open_with(&hasty(standalone(&server)), &metrics);
        store.put(&key(1), "a".into(), MINUTE).await.unwrap();
        assert_eq!(metrics.store_available.get(), 1);

        server.kill();

        for _ in 0..20 {
            let begun = now();
            assert!(is_away(&store.get(&key(1)).await));
            assert!(begun.elapsed() < TIMEOUT + SLACK);
        }
        assert_eq!(metrics.store_available.get(), 0);
        assert!(metrics.store_errors.with_label_values(&["get", "unavailable"]).get() == 20);
        server.restart();
        is_back(&store).await;
        assert_eq!(metrics.store_available.get(), 1);
    });
}

#[test]
fn gateway_may_start_before_its_redis() {
    let address = free_address();
    run(async {
        let store = open(&hasty(section(RedisTopology::Standalone, &[address])));
        assert!(is_away(&store.ping().await));
        eventually("attempts have failed", async || {
            let begun = now();
            is_away(&store.ping().await) && begun.elapsed() < Duration::from_millis(50)
        })
        .await;
        let port = format!("port {}", address.port());
        let _server = RedisServer::with(&[&port]);

        is_back(&store).await;
    });
}

#[test]
fn first_write_after_a_quiet_restart_succeeds() {
    let mut server = RedisServer::start();
    run(async {
        let store = open(&standalone(&server));
        store.ping().await.unwrap();

        server.restart();

        // No operation ran in between; the break was noticed within moments. A connection that the
        // server knows of may not have said all that comes first, so it must have lasted a little.
        eventually("connected again, for a second", async || {
            let clients = server.command(&["client", "list"]);
            let ages =
                clients.split(" age=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            // Counted in whole seconds, of which the first may be short.
            ages.max().is_some_and(|age| age > 1)
        })
        .await;
        assert_eq!(store.put(&key(1), "a".into(), MINUTE).await, Ok(()));
    });
}

#[test]
fn silent_server_delays_an_operation_by_the_timeout_at_most_and_gets_no_more_than_allowed() {
    let server = RedisServer::start();
    run(async {
        let section = RedisStore { max_in_flight: 8, ..hasty(standalone(&server)) };
        let store = open(&section);
        store.put(&key(1), "a".into(), MINUTE).await.unwrap();

        server.pause();
        let asked: Vec<_> = (0..40)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let begun = now();
                    (store.get(&key(1)).await, begun.elapsed())
                })
            })
            .collect();

        let mut busy = 0;
        for answer in asked {
            let (answer, took) = answer.await.unwrap();
            assert!(took < TIMEOUT + SLACK, "{took:?}");
            busy += usize::from(answer == Err(StoreError::Busy));
            assert!(answer == Err(StoreError::Busy) || is_away(&answer), "{answer:?}");
        }
        assert_eq!(busy, 32);
        // Once it is known, no operation waits.
        let begun = now();
        assert!(is_away(&store.get(&key(1)).await));
        assert!(begun.elapsed() < TIMEOUT / 2, "{:?}", begun.elapsed());
        server.resume();
        is_back(&store).await;
        assert_eq!(store.get(&key(1)).await, Ok(Some("a".into())));
    });
}

#[test]
fn late_answer_is_never_another_ones() {
    let server = RedisServer::start();
    run(async {
        let store = open(&hasty(standalone(&server)));
        for number in 0..50 {
            store.put(&key(number), Bytes::from(vec![number]), MINUTE).await.unwrap();
        }
        for _ in 0..5 {
            server.pause();
            let asked: Vec<_> = (0..50)
                .map(|number| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move { (number, store.get(&key(number)).await) })
                })
                .collect();
            tokio::time::sleep(TIMEOUT / 2).await;
            asked.iter().skip(25).for_each(tokio::task::JoinHandle::abort);
            server.resume();
            for answer in asked {
                if let Ok((number, Ok(answer))) = answer.await {
                    assert_eq!(answer, Some(Bytes::from(vec![number])));
                }
            }
            for number in 0..50 {
                if let Ok(answer) = store.get(&key(number)).await {
                    assert_eq!(answer, Some(Bytes::from(vec![number])));
                }
            }
        }
    });
}

#[test]
fn cancelled_operations_do_not_break_the_connection() {
    let server = RedisServer::start();
    run(async {
        let store = open(&standalone(&server));
        store.ping().await.unwrap();
        let connections = || {
            let info = server.command(&["info", "stats"]);
            let count = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
            count.unwrap().trim().parse::<u64>().unwrap()
        };
        let before = connections();
        for _ in 0..50 {
            let _ = tokio::time::timeout(Duration::from_micros(20), store.get(&key(1))).await;
        }
        store.ping().await.unwrap();

        // The one is that of this question.
        assert_eq!(connections(), before + 1);
    });
}

#[test]
fn full_memory_is_an_error_and_not_a_success() {
    let server = RedisServer::with(&["maxmemory 1", "maxmemory-policy noeviction"]);
    run(async {
        let store = open(&standalone(&server));
        let writes = [
            store.put(&key(1), "a".into(), MINUTE).await,
            store.put_if_absent(&key(1), "a".into(), MINUTE).await.map(drop),
            store.append("a".into(), MINUTE).await.map(drop),
            store.shared_rates().unwrap().acquire(&[1; 16], rate()).await.map(drop),
            store.ping().await,
        ];

        for answer in writes {
            assert!(
                matches!(&answer, Err(StoreError::Unavailable(reason)) if reason.contains("OOM")),
                "{answer:?}"
            );
        }
        assert_eq!(store.get(&key(1)).await, Ok(None));
        server.command(&["config", "set", "maxmemory", "0"]);
        assert_eq!(store.put(&key(1), "a".into(), MINUTE).await, Ok(()));
    });
}

fn rate() -> menshen::store::SharedRate {
    menshen::store::SharedRate { every: Duration::from_secs(1), burst: 1 }
}

#[test]
fn row_of_another_type_is_damage() {
    let server = RedisServer::start();
    run(async {
        let store = open(&standalone(&server));
        let name = format!("menshen:s:{{{}}}", "01".repeat(16));
        server.command(&["rpush", &name, "x"]);
        assert!(matches!(store.get(&key(1)).await, Err(StoreError::Damaged(_))));
        assert!(matches!(
            store.compare_and_set(&key(1), b"", "".into(), MINUTE).await,
            Err(StoreError::Damaged(_))
        ));
        let removed = store.compare_and_delete(&key(1), b"").await;
        assert!(matches!(removed, Err(StoreError::Damaged(_))));
    });
}

#[test]
fn store_outlives_the_runtime_that_first_used_it() {
    let server = RedisServer::start();
    let store = open(&standalone(&server));
    run(async { store.put(&key(1), "a".into(), MINUTE).await.unwrap() });

    run(async {
        eventually("a new connection", async || store.get(&key(1)).await == Ok(Some("a".into()))).await;
    });
}
