//! What the engine does on every topology: what every store does, and what a shared one does
//! besides.

use std::sync::Arc;
use std::time::Duration;

use menshen::config::RedisStore;
use menshen::store::{SharedRate, Store};

use super::{eventually, key, open};
use crate::common::now;
use crate::store::contract::{self, Subject};

/// Every rule, for two gateways.
pub async fn hold(section: &RedisStore) {
    let handles: [Arc<dyn Store>; 2] = [open(section), open(section)];
    let subject = Subject { handles, short: Duration::from_millis(250), pass: Box::new(pass), run: 0 };
    contract::hold(&subject).await;
    extreme_times_are_times(&*subject.handles[0]).await;
    rate_gives_a_burst_and_then_one_by_one(&*subject.handles[0]).await;
}

/// Lets time pass: the server has a clock of its own.
fn pass(time: Duration) {
    let end = now() + time + Duration::from_millis(20);
    while let Some(left) = end.checked_duration_since(now()) {
        std::thread::park_timeout(left);
    }
}

async fn extreme_times_are_times(store: &dyn Store) {
    store.put(&key(5), "a".into(), Duration::MAX).await.unwrap();
    store.put(&key(6), "a".into(), Duration::from_nanos(1)).await.unwrap();
    store.append("a".into(), Duration::MAX).await.unwrap();

    assert_eq!(store.get(&key(5)).await, Ok(Some("a".into())));
    eventually("its time is over", async || store.get(&key(6)).await == Ok(None)).await;
}

async fn rate_gives_a_burst_and_then_one_by_one(store: &dyn Store) {
    let rates = store.shared_rates().unwrap();
    let rate = SharedRate { every: Duration::from_millis(500), burst: 3 };
    for _ in 0..3 {
        assert_eq!(rates.acquire(&[1; 16], rate).await, Ok(Ok(())));
    }

    let wait = rates.acquire(&[1; 16], rate).await.unwrap().unwrap_err();

    assert!(wait > Duration::ZERO && wait <= rate.every, "{wait:?}");
    assert_eq!(rates.acquire(&[2; 16], rate).await, Ok(Ok(())), "another bucket");
    pass(wait);
    assert_eq!(rates.acquire(&[1; 16], rate).await, Ok(Ok(())), "after the wait it was told");
    assert!(rates.acquire(&[1; 16], rate).await.unwrap().is_err());
}
