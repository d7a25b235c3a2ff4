//! What every store must do. An engine's tests give [`hold`] two handles of one store and a way to
//! let time pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use menshen::store::{Key, LogEntries, MAX_VALUE_BYTES, Space, Store, StoreError, Write};

/// A time that no test outlives.
const LONG: Duration = Duration::from_secs(3600);

/// A store under test.
pub struct Subject {
    /// Two handles of the same rows: two nodes, where the engine knows several.
    pub handles: [Arc<dyn Store>; 2],
    /// A time to live, which `pass` lets go by. As short as the engine's clock allows.
    pub short: Duration,
    /// Returns when at least this much time has passed for the store.
    pub pass: Box<dyn Fn(Duration)>,
    /// Tells the rows of this run from those of others on the same server.
    pub run: u8,
}

impl Subject {
    fn store(&self) -> &dyn Store {
        &*self.handles[0]
    }

    /// A key that no other rule uses.
    fn key(&self, space: Space, rule: u8, number: u8) -> Key {
        let mut name = [0; 16];
        name[0] = self.run;
        name[1] = rule;
        name[2] = number;
        Key { space, name }
    }
}

/// Holds a store to every rule. To be called inside a runtime with more than one thread. The log
/// must be new.
pub async fn hold(subject: &Subject) {
    row_is_read_as_it_was_written(subject).await;
    row_ends_with_its_time(subject).await;
    write_that_replaces_sets_a_new_lifetime(subject).await;
    ended_row_counts_as_absent_for_every_step(subject).await;
    put_if_absent_has_one_winner(subject).await;
    compare_and_set_has_one_winner(subject).await;
    wrong_expectation_changes_nothing(subject).await;
    writes_are_made_in_order_up_to_one_that_is_not(subject).await;
    row_is_removed_once(subject).await;
    longest_value_passes_and_a_longer_one_does_not(subject).await;
    spaces_do_not_meet(subject).await;
    scan_finds_every_row_of_a_space_and_no_other(subject).await;
    scan_finds_what_stands_while_others_are_written(subject).await;
    row_is_seen_by_every_handle_at_once(subject).await;
    log_is_numbered_without_gaps(subject).await;
    log_has_a_limit_at_once(subject).await;
    log_that_ended_is_a_gap(subject).await;
    store_gives_a_sign_of_life(subject).await;
}

pub async fn row_is_read_as_it_was_written(subject: &Subject) {
    let store = subject.store();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (number, value) in [&b""[..], b"text", b"\0\r\n$-1\r\n", &every_byte].into_iter().enumerate() {
        let key = subject.key(Space::Subject, 1, u8::try_from(number).unwrap());

        assert_eq!(store.get(&key).await, Ok(None));
        store.put(&key, Bytes::copy_from_slice(value), LONG).await.unwrap();
        assert_eq!(store.get(&key).await, Ok(Some(Bytes::copy_from_slice(value))));
        assert_eq!(store.compare_and_set(&key, value, Bytes::from_static(b"next"), LONG).await, Ok(true));
        assert_eq!(store.get(&key).await, Ok(Some(Bytes::from_static(b"next"))));
        assert_eq!(store.compare_and_delete(&key, b"next").await, Ok(true));
        assert_eq!(store.get(&key).await, Ok(None));
    }
}

pub async fn row_ends_with_its_time(subject: &Subject) {
    let store = subject.store();
    let (short, long) = (subject.key(Space::Code, 2, 1), subject.key(Space::Code, 2, 2));
    store.put(&short, Bytes::from_static(b"a"), subject.short).await.unwrap();
    store.put(&long, Bytes::from_static(b"b"), LONG).await.unwrap();

    (subject.pass)(subject.short);

    assert_eq!(store.get(&short).await, Ok(None));
    assert_eq!(store.get(&long).await, Ok(Some(Bytes::from_static(b"b"))));
}

pub async fn write_that_replaces_sets_a_new_lifetime(subject: &Subject) {
    let store = subject.store();
    let (put, set) = (subject.key(Space::Subject, 3, 1), subject.key(Space::Subject, 3, 2));
    let shortened = subject.key(Space::Subject, 3, 3);
    let value = Bytes::from_static(b"v");
    for key in [&put, &set] {
        store.put(key, value.clone(), subject.short).await.unwrap();
    }
    store.put(&shortened, value.clone(), LONG).await.unwrap();

    store.put(&put, value.clone(), LONG).await.unwrap();
    assert_eq!(store.compare_and_set(&set, b"v", value.clone(), LONG).await, Ok(true));
    assert_eq!(store.compare_and_set(&shortened, b"v", value.clone(), subject.short).await, Ok(true));
    (subject.pass)(subject.short);

    assert_eq!(store.get(&put).await, Ok(Some(value.clone())));
    assert_eq!(store.get(&set).await, Ok(Some(value)));
    assert_eq!(store.get(&shortened).await, Ok(None));
}

pub async fn ended_row_counts_as_absent_for_every_step(subject: &Subject) {
    let store = subject.store();
    let keys: Vec<Key> = (0..5).map(|number| subject.key(Space::Code, 4, number)).collect();
    for key in &keys {
        store.put(key, Bytes::from_static(b"7"), subject.short).await.unwrap();
    }

    (subject.pass)(subject.short);

    assert_eq!(store.compare_and_set(&keys[0], b"7", Bytes::from_static(b"8"), LONG).await, Ok(false));
    assert_eq!(store.compare_and_delete(&keys[1], b"7").await, Ok(false));
    assert_eq!(store.get(&keys[2]).await, Ok(None));
    assert_eq!(store.put_if_absent(&keys[4], Bytes::from_static(b"8"), LONG).await, Ok(true));
    assert_eq!(store.get(&keys[0]).await, Ok(None));
    assert_eq!(store.get(&keys[4]).await, Ok(Some(Bytes::from_static(b"8"))));
}

pub async fn put_if_absent_has_one_winner(subject: &Subject) {
    let key = subject.key(Space::Code, 5, 0);

    let won = at_once(subject, 64, move |store, number| {
        let key = key.clone();
        async move { store.put_if_absent(&key, Bytes::from(vec![number]), LONG).await.unwrap() }
    })
    .await;

    let winners: Vec<usize> = (0..64).filter(|number| won[*number]).collect();
    let key = subject.key(Space::Code, 5, 0);
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(subject.store().get(&key).await.unwrap().unwrap(), [u8::try_from(winners[0]).unwrap()][..]);
}

pub async fn compare_and_set_has_one_winner(subject: &Subject) {
    let key = subject.key(Space::Subject, 6, 0);
    subject.store().put(&key, Bytes::from_static(b"before"), LONG).await.unwrap();

    let shared = key.clone();
    let won = at_once(subject, 64, move |store, number| {
        let key = shared.clone();
        async move { store.compare_and_set(&key, b"before", Bytes::from(vec![number]), LONG).await.unwrap() }
    })
    .await;

    let winners: Vec<usize> = (0..64).filter(|number| won[*number]).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(subject.store().get(&key).await.unwrap().unwrap(), [u8::try_from(winners[0]).unwrap()][..]);
}

pub async fn wrong_expectation_changes_nothing(subject: &Subject) {
    let store = subject.store();
    let (key, absent) = (subject.key(Space::UnionId, 7, 0), subject.key(Space::UnionId, 7, 1));
    let value = Bytes::from_static(b"value");
    store.put(&key, value.clone(), LONG).await.unwrap();

    for wrong in [&b""[..], b"valu", b"value\0", b"VALUE"] {
        assert_eq!(store.compare_and_set(&key, wrong, Bytes::from_static(b"new"), LONG).await, Ok(false));
        assert_eq!(store.compare_and_delete(&key, wrong).await, Ok(false));
        assert_eq!(store.get(&key).await, Ok(Some(value.clone())));
    }
    assert_eq!(store.put_if_absent(&key, Bytes::from_static(b"new"), LONG).await, Ok(false));
    assert_eq!(store.get(&key).await, Ok(Some(value)));
    // An absent row is not an empty one.
    assert_eq!(store.compare_and_set(&absent, b"", Bytes::from_static(b"new"), LONG).await, Ok(false));
    assert_eq!(store.compare_and_delete(&absent, b"").await, Ok(false));
    assert_eq!(store.get(&absent).await, Ok(None));
    assert_eq!(store.compare_and_delete(&key, b"value").await, Ok(true));
    assert_eq!(store.get(&key).await, Ok(None));
}

pub async fn writes_are_made_in_order_up_to_one_that_is_not(subject: &Subject) {
    let store = subject.store();
    let keys: Vec<Key> = (0..4).map(|number| subject.key(Space::Subject, 18, number)).collect();
    let write = |number: usize, expected: Option<&'static str>, value: &'static str| Write {
        key: keys[number].clone(),
        expected: expected.map(Bytes::from),
        value: value.into(),
        ttl: LONG,
    };

    let all = vec![write(0, None, "a"), write(1, None, "b"), write(0, Some("a"), "c")];
    assert_eq!(store.write_in_order(all).await, Ok(true));
    let not_all = vec![write(2, None, "d"), write(1, Some("other"), "e"), write(3, None, "f")];
    assert_eq!(store.write_in_order(not_all).await, Ok(false));
    assert_eq!(store.write_in_order(vec![write(3, None, "g"), write(0, None, "h")]).await, Ok(false));
    assert_eq!(store.write_in_order(Vec::new()).await, Ok(true));

    for (key, value) in keys.iter().zip(["c", "b", "d", "g"]) {
        assert_eq!(store.get(key).await, Ok(Some(value.into())), "{key:?}");
    }
    let too_long = Write { value: vec![0; MAX_VALUE_BYTES + 1].into(), ..write(0, Some("c"), "") };
    let answer = store.write_in_order(vec![too_long]).await;
    assert_eq!(answer, Err(StoreError::TooLong(MAX_VALUE_BYTES + 1)));
}

pub async fn row_is_removed_once(subject: &Subject) {
    let key = subject.key(Space::Code, 8, 0);
    subject.store().put(&key, Bytes::from_static(b"one"), LONG).await.unwrap();

    let removed = at_once(subject, 64, move |store, _| {
        let key = key.clone();
        async move { store.compare_and_delete(&key, b"one").await.unwrap() }
    })
    .await;

    assert_eq!(removed.iter().filter(|is_removed| **is_removed).count(), 1);
}

pub async fn longest_value_passes_and_a_longer_one_does_not(subject: &Subject) {
    let store = subject.store();
    let (key, other) = (subject.key(Space::Subject, 11, 0), subject.key(Space::Subject, 11, 1));
    let longest = Bytes::from(vec![0xa5; MAX_VALUE_BYTES]);
    let longer = Bytes::from(vec![0xa5; MAX_VALUE_BYTES + 1]);
    let refused = StoreError::TooLong(MAX_VALUE_BYTES + 1);

    store.put(&key, longest.clone(), LONG).await.unwrap();

    assert_eq!(store.get(&key).await, Ok(Some(longest.clone())));
    assert_eq!(store.put(&key, longer.clone(), LONG).await, Err(refused.clone()));
    assert_eq!(store.put_if_absent(&other, longer.clone(), LONG).await, Err(refused.clone()));
    assert_eq!(store.compare_and_set(&key, &longest, longer.clone(), LONG).await, Err(refused.clone()));
    assert_eq!(store.append(longer, LONG).await, Err(refused));
    assert_eq!(store.get(&key).await, Ok(Some(longest)));
    assert_eq!(store.get(&other).await, Ok(None));
}

pub async fn spaces_do_not_meet(subject: &Subject) {
    let store = subject.store();
    for (number, space) in Space::ALL.into_iter().enumerate() {
        let value = Bytes::from(vec![u8::try_from(number).unwrap()]);
        assert_eq!(store.put_if_absent(&subject.key(space, 12, 0), value, LONG).await, Ok(true));
    }
    for (number, space) in Space::ALL.into_iter().enumerate() {
        let value = [u8::try_from(number).unwrap()];
        assert_eq!(store.get(&subject.key(space, 12, 0)).await.unwrap().unwrap(), value[..]);
        assert_eq!(store.compare_and_delete(&subject.key(space, 12, 0), &value).await, Ok(true));
    }
}

pub async fn scan_finds_every_row_of_a_space_and_no_other(subject: &Subject) {
    let store = subject.store();
    let key = |number: usize| {
        let mut key = subject.key(Space::UnionId, 20, 0);
        key.name[8..].copy_from_slice(&number.to_be_bytes());
        key
    };
    let value = |number: usize| Bytes::from(number.to_string());
    for number in 0..257 {
        store.put(&key(number), value(number), LONG).await.unwrap();
        store.put(&Key { space: Space::Subject, ..key(number) }, "other".into(), LONG).await.unwrap();
    }
    let ended = subject.key(Space::UnionId, 21, 0);
    store.put(&ended, "ended".into(), subject.short).await.unwrap();
    (subject.pass)(subject.short);
    let expected: BTreeMap<Key, Bytes> = (0..257).map(|number| (key(number), value(number))).collect();

    for limit in [1, 100, 256, 257, 1000] {
        let found = scan(store, Space::UnionId, limit).await;

        let ours = found.into_iter().filter(|(key, _)| key.name[..2] == [subject.run, 20] || *key == ended);
        assert_eq!(ours.collect::<BTreeMap<_, _>>(), expected, "{limit} at once");
    }
    for number in 0..257 {
        assert_eq!(store.compare_and_delete(&key(number), &value(number)).await, Ok(true));
    }
    let found = scan(store, Space::UnionId, 100).await;
    assert!(!found.keys().any(|key| key.name[..2] == [subject.run, 20]));
}

pub async fn scan_finds_what_stands_while_others_are_written(subject: &Subject) {
    let [one, other] = &subject.handles;
    let key = |rule, number| subject.key(Space::Revocation, rule, number);
    for number in 0..100 {
        one.put(&key(22, number), "stands".into(), LONG).await.unwrap();
    }
    let mut found = BTreeMap::new();
    let mut next = None;
    for round in 0_u8.. {
        let page = one.scan(Space::Revocation, next.as_ref(), 7).await.unwrap();
        found.extend(page.rows);
        next = page.next;
        if next.is_none() {
            break;
        }
        other.put(&key(23, round), "later".into(), LONG).await.unwrap();
        other.compare_and_delete(&key(23, round / 2), b"later").await.unwrap();
        other.put(&key(22, round % 100), "stands".into(), LONG).await.unwrap();
        assert!(round < 200, "the scan does not end");
    }

    let stood = (0..100).filter(|number| found.get(&key(22, *number)) == Some(&"stands".into())).count();
    assert_eq!(stood, 100);
}

/// Every row of a space.
async fn scan(store: &dyn Store, space: Space, limit: usize) -> BTreeMap<Key, Bytes> {
    let mut found = BTreeMap::new();
    let mut next = None;
    loop {
        let page = store.scan(space, next.as_ref(), limit).await.unwrap();
        found.extend(page.rows);
        next = page.next;
        if next.is_none() {
            return found;
        }
    }
}

pub async fn row_is_seen_by_every_handle_at_once(subject: &Subject) {
    let [one, other] = &subject.handles;
    let key = subject.key(Space::Subject, 13, 0);
    for number in 0..32_u8 {
        let value = Bytes::from(vec![number]);
        let (writer, reader) = if number % 2 == 0 { (one, other) } else { (other, one) };

        writer.put(&key, value.clone(), LONG).await.unwrap();

        assert_eq!(reader.get(&key).await, Ok(Some(value)));
    }
}

pub async fn log_is_numbered_without_gaps(subject: &Subject) {
    let [one, other] = &subject.handles;
    assert_eq!(one.log_after(0).await, Ok(LogEntries::All { entries: Vec::new(), last: 0 }));

    let mut numbers = at_once(subject, 64, |store, number| async move {
        let entry = store.append(Bytes::from(vec![number]), LONG).await.unwrap();
        (entry, number)
    })
    .await;

    numbers.sort_unstable();
    assert_eq!(numbers.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), (1..=64).collect::<Vec<u64>>());
    let written: Vec<Bytes> = numbers.iter().map(|(_, number)| Bytes::from(vec![*number])).collect();
    for after in [0, 1, 63, 64] {
        let entries = written[usize::try_from(after).unwrap()..].to_vec();
        assert_eq!(other.log_after(after).await, Ok(LogEntries::All { entries, last: 64 }), "{after}");
    }
    // Who has read what never was has read another log.
    assert_eq!(other.log_after(65).await, Ok(LogEntries::Gap { last: 64 }));
}

pub async fn log_has_a_limit_at_once(subject: &Subject) {
    let store = subject.store();
    let first = store.append(Bytes::from_static(b"first"), LONG).await.unwrap();
    for _ in 0..10 {
        at_once(subject, 100, |store, _| async move { store.append(Bytes::new(), LONG).await.unwrap() })
            .await;
    }
    let last = first + 1000;

    assert_eq!(store.log_after(first - 1).await, Ok(LogEntries::Gap { last }));
    let entries = vec![Bytes::new(); 1000];
    assert_eq!(store.log_after(first).await, Ok(LogEntries::All { entries, last }));
}

pub async fn log_that_ended_is_a_gap(subject: &Subject) {
    let store = subject.store();
    let first = store.append(Bytes::from_static(b"short"), subject.short).await.unwrap();
    (subject.pass)(subject.short);
    let second = store.append(Bytes::from_static(b"long"), LONG).await.unwrap();

    assert_eq!(second, first + 1);
    assert_eq!(store.log_after(first - 1).await, Ok(LogEntries::Gap { last: second }));
    let entries = vec![Bytes::from_static(b"long")];
    assert_eq!(store.log_after(first).await, Ok(LogEntries::All { entries, last: second }));
}

pub async fn store_gives_a_sign_of_life(subject: &Subject) {
    for store in &subject.handles {
        assert_eq!(store.ping().await, Ok(()));
    }
}

/// Runs a step so many times at once, over both handles; what each gave.
async fn at_once<F, T>(subject: &Subject, times: u8, step: impl Fn(Arc<dyn Store>, u8) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let tasks = (0..times).map(|number| {
        let store = Arc::clone(&subject.handles[usize::from(number) % 2]);
        tokio::spawn(step(store, number))
    });
    let tasks: Vec<_> = tasks.collect();
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}
