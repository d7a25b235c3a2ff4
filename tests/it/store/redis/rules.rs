//! What the engine does on every topology.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use menshen::store::{Key, LogEntries, MAX_VALUE_BYTES, SharedRate, Space, Store, StoreError};

use super::{eventually, key};

const MINUTE: Duration = Duration::from_secs(60);

/// Every rule, in a store of its own.
pub async fn hold(store: Arc<dyn Store>) {
    rows(&*store).await;
    times(&*store).await;
    one_of_many(&store).await;
    log(&*store).await;
    long_log(&*store).await;
    rates(&*store).await;
    store.ping().await.unwrap();
}

async fn rows(store: &dyn Store) {
    let value = Bytes::from((0..=255).collect::<Vec<u8>>());
    for space in Space::ALL {
        let key = Key { space, name: [7; 16] };
        assert_eq!(store.get(&key).await, Ok(None));
        store.put(&key, value.clone(), MINUTE).await.unwrap();
        assert_eq!(store.get(&key).await, Ok(Some(value.clone())));
        assert_eq!(store.put_if_absent(&key, "x".into(), MINUTE).await, Ok(false));
        assert_eq!(store.compare_and_set(&key, b"x", "y".into(), MINUTE).await, Ok(false));
        assert_eq!(store.compare_and_delete(&key, b"x").await, Ok(false));
        assert_eq!(store.compare_and_set(&key, &value, Bytes::new(), MINUTE).await, Ok(true));
        assert_eq!(store.get(&key).await, Ok(Some(Bytes::new())));
        assert_eq!(store.compare_and_delete(&key, b"").await, Ok(true));
        assert_eq!(store.compare_and_delete(&key, b"").await, Ok(false));
        assert_eq!(store.compare_and_set(&key, b"", "y".into(), MINUTE).await, Ok(false));
        assert_eq!(store.put_if_absent(&key, "z".into(), MINUTE).await, Ok(true));
        assert_eq!(store.take(&key).await, Ok(Some("z".into())));
        assert_eq!(store.take(&key).await, Ok(None));
    }
    let long = Bytes::from(vec![b'x'; MAX_VALUE_BYTES]);
    store.put(&key(1), long.clone(), MINUTE).await.unwrap();
    assert_eq!(store.get(&key(1)).await, Ok(Some(long)));
    let longer = Bytes::from(vec![b'x'; MAX_VALUE_BYTES + 1]);
    let refused = Err(StoreError::TooLong(MAX_VALUE_BYTES + 1));
    assert_eq!(store.put(&key(1), longer.clone(), MINUTE).await, refused);
    assert_eq!(store.append(longer, MINUTE).await.map(drop), refused);
}

async fn times(store: &dyn Store) {
    let short = Duration::from_millis(40);
    store.put(&key(2), "a".into(), short).await.unwrap();
    store.put_if_absent(&key(3), "a".into(), short).await.unwrap();
    store.put(&key(4), "a".into(), MINUTE).await.unwrap();
    assert_eq!(store.compare_and_set(&key(4), b"a", "b".into(), short).await, Ok(true));
    store.put(&key(5), "a".into(), Duration::MAX).await.unwrap();
    store.put(&key(6), "a".into(), Duration::from_nanos(1)).await.unwrap();
    assert_eq!(store.increment(&key(7), Duration::from_millis(300)).await, Ok(1));
    assert_eq!(store.increment(&key(7), MINUTE).await, Ok(2));
    for gone in [2, 3, 4, 6] {
        eventually("its time is over", async || store.get(&key(gone)).await == Ok(None)).await;
    }
    eventually("the first one's time counts", async || store.get(&key(7)).await == Ok(None)).await;
    assert_eq!(store.increment(&key(7), MINUTE).await, Ok(1));
    assert_eq!(store.get(&key(5)).await, Ok(Some("a".into())));
}

async fn one_of_many(store: &Arc<dyn Store>) {
    store.put(&key(10), "once".into(), MINUTE).await.unwrap();
    store.put(&key(11), "0".into(), MINUTE).await.unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|index| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let taken = store.take(&key(10)).await.unwrap().is_some();
                let value = Bytes::from(format!("by {index}"));
                let set = store.compare_and_set(&key(11), b"0", value.clone(), MINUTE).await.unwrap();
                let put = store.put_if_absent(&key(12), value, MINUTE).await.unwrap();
                (taken, set, put, store.increment(&key(13), MINUTE).await.unwrap())
            })
        })
        .collect();
    let mut sums = BTreeSet::new();
    let mut counts = (0, 0, 0);
    for task in tasks {
        let (taken, set, put, sum) = task.await.unwrap();
        counts = (counts.0 + i32::from(taken), counts.1 + i32::from(set), counts.2 + i32::from(put));
        sums.insert(sum);
    }
    assert_eq!(counts, (1, 1, 1));
    assert_eq!(sums, (1..=32).collect());
}

async fn log(store: &dyn Store) {
    let all = |entries: &[&'static str], last| {
        Ok(LogEntries::All { entries: entries.iter().map(|entry| Bytes::from(*entry)).collect(), last })
    };
    assert_eq!(store.log_after(0).await, all(&[], 0));
    assert_eq!(store.append("a".into(), MINUTE).await, Ok(1));
    assert_eq!(store.append("".into(), Duration::from_millis(100)).await, Ok(2));
    assert_eq!(store.append("c".into(), MINUTE).await, Ok(3));
    assert_eq!(store.log_after(0).await, all(&["a", "", "c"], 3));
    assert_eq!(store.log_after(2).await, all(&["c"], 3));
    assert_eq!(store.log_after(3).await, all(&[], 3));
    assert_eq!(store.log_after(4).await, Ok(LogEntries::Gap { last: 3 }));
    assert_eq!(store.log_after(u64::MAX).await, Ok(LogEntries::Gap { last: 3 }));
    eventually("an entry goes", async || store.log_after(0).await == Ok(LogEntries::Gap { last: 3 })).await;
    assert_eq!(store.log_after(2).await, all(&["c"], 3));
}

async fn long_log(store: &dyn Store) {
    for _ in 0..1000 {
        store.append("x".into(), MINUTE).await.unwrap();
    }
    let Ok(LogEntries::All { entries, last: 1003 }) = store.log_after(3).await else {
        panic!("a thousand entries fit")
    };
    assert_eq!(entries.len(), 1000);
    assert_eq!(store.log_after(2).await, Ok(LogEntries::Gap { last: 1003 }));
}

async fn rates(store: &dyn Store) {
    let rates = store.shared_rates().unwrap();
    let rate = SharedRate { every: Duration::from_millis(200), burst: 3 };
    for _ in 0..3 {
        assert_eq!(rates.admit(&[1; 16], rate).await, Ok(Ok(())));
    }
    let wait = rates.admit(&[1; 16], rate).await.unwrap().unwrap_err();
    assert!(wait > Duration::ZERO && wait <= rate.every, "{wait:?}");
    assert_eq!(rates.admit(&[2; 16], rate).await, Ok(Ok(())));
    eventually("there is one again", async || rates.admit(&[1; 16], rate).await == Ok(Ok(()))).await;
    assert!(rates.admit(&[1; 16], rate).await.unwrap().is_err());
}
