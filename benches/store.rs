//! What durability costs: compare-and-sets of the embedded store per second, each on disk before it
//! is answered.
//!
//! `cargo bench --bench store` writes beside the build's own files, since `/tmp` may be memory;
//! `--folder` names another place.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on should say so and stop"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use menshen::clock::{Clock, SystemClock};
use menshen::config::EmbeddedStore;
use menshen::store::{Embedded, Key, Space, Store};
use menshen::telemetry::metrics::Metrics;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// About what a person with two sessions takes.
const VALUE_BYTES: usize = 512;
const TTL: Duration = Duration::from_secs(30 * 24 * 3600);
const ROUND: Duration = Duration::from_secs(3);
/// Rows before the first measurement, so that the tree has its usual height.
const ROWS: u32 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let named =
        arguments.iter().position(|argument| argument == "--folder").and_then(|at| arguments.get(at + 1));
    let place = named.map_or(env!("CARGO_TARGET_TMPDIR"), String::as_str);
    let folder = tempfile::tempdir_in(place).unwrap();
    let path = folder.path().join("sessions.redb");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let open = || {
        let store =
            Embedded::open(&path, &EmbeddedStore::default(), Arc::clone(&clock), &Metrics::new().unwrap());
        Arc::new(store.unwrap())
    };
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();

    let store = open();
    let began = clock.instant();
    threads.block_on(fill(&store));
    let took = clock.instant() - began;
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!("{ROWS} rows written in {took:.2?}; the file has {} MiB", bytes >> 20);
    for callers in [1, 16, 256] {
        let steps = threads.block_on(compare_and_sets(&store, callers, &*clock));
        println!(
            "{callers:>4} callers: {:>8.0} durable compare_and_set/s",
            steps as f64 / ROUND.as_secs_f64()
        );
    }
    for callers in [1, 16] {
        let reads = threads.block_on(reads(&store, callers, &*clock));
        println!("{callers:>4} callers: {:>8.0} get/s", reads as f64 / ROUND.as_secs_f64());
    }

    // What a killed process leaves: the file as it is while the store is open.
    let killed = folder.path().join("killed.redb");
    std::fs::copy(&path, &killed).unwrap();
    let began = clock.instant();
    drop(
        Embedded::open(&killed, &EmbeddedStore::default(), Arc::clone(&clock), &Metrics::new().unwrap())
            .unwrap(),
    );
    println!("the file of a killed process opens in {:.2?}", clock.instant() - began);
    drop(store);
    let began = clock.instant();
    drop(open());
    println!("a cleanly closed file opens in {:.2?}", clock.instant() - began);
}

async fn fill(store: &Arc<Embedded>) {
    let tasks: Vec<_> = (0..256_u32)
        .map(|caller| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for number in (caller..ROWS).step_by(256) {
                    store.put(&key(u64::from(number)), value(0), TTL).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Each caller changes a row of its own, again and again; how often all of them did.
async fn compare_and_sets(store: &Arc<Embedded>, callers: u32, clock: &dyn Clock) -> u64 {
    let end = clock.instant() + ROUND;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let key = key(u64::from(caller) * 97 % u64::from(ROWS));
                let mut now = store.get(&key).await.unwrap().unwrap();
                let mut steps = 0;
                while SystemClock.instant() < end {
                    let next = value(steps + 1);
                    assert!(store.compare_and_set(&key, &now, next.clone(), TTL).await.unwrap());
                    now = next;
                    steps += 1;
                }
                steps
            })
        })
        .collect();
    let mut steps = 0;
    for task in tasks {
        steps += task.await.unwrap();
    }
    steps
}

async fn reads(store: &Arc<Embedded>, callers: u64, clock: &dyn Clock) -> u64 {
    let end = clock.instant() + ROUND;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut reads = 0;
                while SystemClock.instant() < end {
                    let number = (caller + reads * 7919) % u64::from(ROWS);
                    assert!(store.get(&key(number)).await.unwrap().is_some());
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut reads = 0;
    for task in tasks {
        reads += task.await.unwrap();
    }
    reads
}

/// Spread over the tree, as hashes are.
fn key(number: u64) -> Key {
    let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Key { space: Space::Subject, name: spread.to_be_bytes() }
}

fn value(step: u64) -> Bytes {
    let mut value = vec![0x5e; VALUE_BYTES];
    value[..8].copy_from_slice(&step.to_be_bytes());
    Bytes::from(value)
}
