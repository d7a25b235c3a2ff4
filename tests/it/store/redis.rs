//! The Redis engine, on real servers.

mod away;
mod cluster;
mod disk;
mod log;
mod replicated;
mod rules;
mod secured;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use menshen::config::{Duration as Span, Findings, RedisStore, RedisTopology, SecretSource};
use menshen::store::{Key, Redis, Space};
use menshen::telemetry::metrics::Metrics;

use crate::common::redis::{Cluster, MASTER_NAME, RedisServer, Sentinels};
use crate::common::{PATIENCE, install_crypto, now};

/// The rule in the documentation, as a line of `redis.conf`; the password is `hidden`.
fn documented_user() -> String {
    let text = include_str!("../../../docs/redis.md");
    let rule = text.lines().find_map(|line| line.trim().strip_prefix("ACL SETUSER ")).unwrap();
    format!("user {}", rule.replace(">PASSWORD", ">hidden"))
}

fn key(number: u8) -> Key {
    Key { space: Space::Subject, name: [number; 16] }
}

/// A section for the documented user, with time enough for a busy machine.
fn section(topology: RedisTopology, addresses: &[SocketAddr]) -> RedisStore {
    RedisStore {
        topology,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        master_name: (topology == RedisTopology::Sentinel).then(|| MASTER_NAME.into()),
        timeout: Span(Duration::from_secs(5)),
        connect_timeout: Span(Duration::from_secs(5)),
        ..RedisStore::default()
    }
}

fn standalone(server: &RedisServer) -> RedisStore {
    section(RedisTopology::Standalone, &[server.address()])
}

fn as_documented(section: RedisStore) -> RedisStore {
    let password = Some(SecretSource::Inline("hidden".into()));
    RedisStore { username: Some("menshen".into()), password, ..section }
}

fn open(section: &RedisStore) -> Arc<Redis> {
    open_with(section, &Metrics::new().unwrap())
}

fn open_with(section: &RedisStore, metrics: &Metrics) -> Arc<Redis> {
    install_crypto();
    let mut findings = Findings::default();
    let store = Redis::build(section, metrics, &mut findings);
    Arc::new(store.unwrap_or_else(|| panic!("{findings:?}")))
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = threads.block_on(test);
    threads.shutdown_background();
    result
}

async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !is_true().await {
        assert!(now() < deadline, "did not happen in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn one_server_keeps_every_rule_for_the_documented_user() {
    let server = RedisServer::with(&[&documented_user()]);

    run(rules::hold(&as_documented(standalone(&server))));
}

#[test]
fn cluster_keeps_every_rule_for_the_documented_user() {
    let cluster = Cluster::with(&[&documented_user()]);
    let section = section(RedisTopology::Cluster, &cluster.addresses());

    run(rules::hold(&as_documented(section)));
}

#[test]
fn master_of_sentinels_keeps_every_rule_for_the_documented_user() {
    let sentinels = Sentinels::with(1, &[&documented_user()]);
    let mut section = as_documented(section(RedisTopology::Sentinel, &sentinels.addresses()));
    section.durability.replicas = 1;
    section.durability.timeout = Span(Duration::from_secs(5));

    run(rules::hold(&section));
}
