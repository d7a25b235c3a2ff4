use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc;

use redb::{ReadableDatabase as _, ReadableTableMetadata as _};

use super::row::{ENDS, LOG, ROWS};
use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::store::Space;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(60);

struct Fixture {
    store: Embedded,
    clock: ManualClock,
    metrics: Metrics,
    _folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let (clock, metrics) = (ManualClock::start_now(), Metrics::new().unwrap());
    let path = folder.path().join("sessions.redb");
    let store = Embedded::open(&path, &config::EmbeddedStore::default(), Arc::new(clock.clone()), &metrics);
    Fixture { store: store.unwrap(), clock, metrics, _folder: folder }
}

fn key(number: u32) -> Key {
    Key { space: Space::Subject, name: u128::from(number).to_be_bytes() }
}

/// Counts the rows, ends and log entries in the file, ended ones too.
fn in_file(store: &Embedded) -> [u64; 3] {
    let transaction = store.opened.read().clone().unwrap().begin_read().unwrap();
    [
        transaction.open_table(ROWS).unwrap().len().unwrap(),
        transaction.open_table(ENDS).unwrap().len().unwrap(),
        transaction.open_table(LOG).unwrap().len().unwrap(),
    ]
}

async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = SystemClock.instant() + Duration::from_secs(20);
    while !is_true().await {
        assert!(SystemClock.instant() < deadline, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn ended_rows_and_entries_are_removed_and_no_others() {
    let Fixture { store, clock, _folder, .. } = fixture();
    for number in 0..20 {
        let ttl = if number % 2 == 0 { SHORT } else { LONG };
        store.put(&key(number), Bytes::from_static(b"row"), ttl).await.unwrap();
        store.append(Bytes::from_static(b"entry"), ttl).await.unwrap();
    }
    // With a longer lifetime, the row stays.
    store.put(&key(0), Bytes::from_static(b"row"), LONG).await.unwrap();
    assert_eq!(in_file(&store), [20, 40, 20]);

    clock.advance(SHORT);

    eventually("the ended rows are gone", async || in_file(&store) == [11, 21, 10]).await;
    assert_eq!(store.get(&key(0)).await, Ok(Some(Bytes::from_static(b"row"))));
    assert_eq!(store.append(Bytes::new(), LONG).await, Ok(21));
}

#[tokio::test]
async fn replaced_and_removed_rows_leave_no_end_behind() {
    let Fixture { store, _folder, .. } = fixture();
    for ttl in [SHORT, LONG, SHORT] {
        store.put(&key(1), Bytes::from_static(b"a"), ttl).await.unwrap();
        assert!(store.compare_and_set(&key(1), b"a", Bytes::from_static(b"a"), ttl * 2).await.unwrap());
    }
    assert_eq!(in_file(&store), [1, 1, 0]);

    assert!(store.compare_and_delete(&key(1), b"a").await.unwrap());

    assert_eq!(in_file(&store), [0, 0, 0]);
}

#[tokio::test]
async fn step_is_refused_and_not_made_when_the_queue_is_full() {
    let Fixture { store, metrics, _folder, .. } = fixture();
    let (go_on, wait) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let (waiting, held) = oneshot::channel();
    let hold = move |_: &mut Tables<'_>| {
        begun.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    };
    store.enqueue(Box::new(Pending::new(hold, waiting))).unwrap();
    begins.recv().unwrap();
    let mut answers = Vec::new();
    let refused = loop {
        let (waiting, answered) = oneshot::channel();
        let step = |tables: &mut Tables<'_>| tables.append(b"", Timestamp::from_millis(u64::MAX));
        match store.enqueue(Box::new(Pending::new(step, waiting))) {
            Ok(()) => answers.push(answered),
            Err(error) => break error,
        }
    };
    let put = store.put(&key(2), Bytes::new(), LONG).await;
    drop(go_on);

    assert_eq!((refused, put), (StoreError::Busy, Err(StoreError::Busy)));
    assert_eq!(answers.len(), QUEUE);
    assert_eq!(held.await.unwrap(), Ok(()));
    let expected = 1..;
    for (answered, number) in answers.into_iter().zip(expected) {
        assert_eq!(answered.await.unwrap(), Ok(number));
    }
    assert_eq!(store.get(&key(2)).await, Ok(None));
    assert_eq!(metrics.store_errors.with_label_values(&["put", "busy"]).get(), 1);
}

#[tokio::test]
async fn queue_is_bounded_in_bytes_and_finished_steps_free_theirs() {
    let Fixture { store, _folder, .. } = fixture();
    let (go_on, wait) = mpsc::channel::<()>();
    let (waiting, held) = oneshot::channel();
    let hold = move |_: &mut Tables<'_>| {
        let _ = wait.recv();
        Ok(())
    };
    store.enqueue(Box::new(Pending::new(hold, waiting))).unwrap();
    let value = Bytes::from(vec![0; MAX_VALUE_BYTES]);
    let fitting = QUEUE_BYTES / MAX_VALUE_BYTES;
    let keys: Vec<Key> = (0..=u32::try_from(fitting).unwrap()).map(key).collect();
    let mut puts: Vec<_> = keys.iter().map(|key| store.put(key, value.clone(), LONG)).collect();
    let mut refused = 0;
    for put in &mut puts {
        if futures_util::poll!(put) == std::task::Poll::Ready(Err(StoreError::Busy)) {
            refused += 1;
        }
    }
    assert_eq!(refused, 1);

    drop(go_on);

    held.await.unwrap().unwrap();
    for put in puts.into_iter().take(fitting) {
        put.await.unwrap();
    }
    store.put(&key(0), value, LONG).await.unwrap();
}

#[tokio::test]
async fn broken_transaction_fails_all_its_steps_and_the_store_recovers() {
    let Fixture { store, clock, metrics, _folder } = fixture();
    store.put(&key(1), Bytes::from_static(b"before"), LONG).await.unwrap();
    let (go_on, wait) = mpsc::channel::<()>();
    let (waiting, _held) = oneshot::channel();
    let (begin, begun) = mpsc::channel::<()>();
    let hold = move |_: &mut Tables<'_>| {
        begin.send(()).unwrap();
        let _ = wait.recv();
        Ok(())
    };
    store.enqueue(Box::new(Pending::new(hold, waiting))).unwrap();
    begun.recv().unwrap();

    // One transaction for all three: the writer is held until they are queued.
    let (first, last) = (key(1), key(2));
    let put = store.put(&first, Bytes::from_static(b"after"), LONG);
    let broken = store.change::<()>(Operation::Put, 0, |_| panic!("a step broke"));
    let later = store.put(&last, Bytes::from_static(b"after"), LONG);
    let (put, broken, later, ()) = tokio::join!(put, broken, later, async { drop(go_on) });

    let damaged = Err(StoreError::Damaged("the file cannot be read".into()));
    assert_eq!((&put, &broken, &later), (&damaged, &damaged, &damaged));
    eventually("the file is open again", async || {
        clock.advance(Duration::from_secs(1));
        store.ping().await.is_ok()
    })
    .await;
    assert_eq!(store.get(&key(1)).await, Ok(Some(Bytes::from_static(b"before"))));
    assert_eq!(store.get(&key(2)).await, Ok(None));
    assert_eq!(metrics.store_available.get(), 1);
}

#[tokio::test]
async fn queued_steps_are_made_before_the_store_closes() {
    let Fixture { store, _folder, .. } = fixture();
    let mut answers = Vec::new();
    for number in 0..100 {
        let (waiting, answered) = oneshot::channel();
        let step = move |tables: &mut Tables<'_>| {
            tables.put(&name_of(&key(number)), b"row", Timestamp::from_millis(u64::MAX))
        };
        store.enqueue(Box::new(Pending::new(step, waiting))).unwrap();
        answers.push(answered);
    }

    drop(store);

    for answered in answers {
        assert_eq!(answered.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn writes_in_order_share_a_commit() {
    let Fixture { store, metrics, _folder, .. } = fixture();
    let write =
        |number| Write { key: key(number), expected: None, value: Bytes::from_static(b"row"), ttl: LONG };

    assert_eq!(store.write_in_order((0..5).map(write).collect()).await, Ok(true));

    assert_eq!(metrics.store_commit_duration.get_sample_count(), 1);
    assert_eq!(in_file(&store), [5, 5, 0]);
}

/// What the store says of a row, and of the log.
async fn contents(store: &Embedded, rows: u32) -> (Vec<Option<Bytes>>, LogEntries) {
    let mut found = Vec::new();
    for number in 0..rows {
        found.push(store.get(&key(number)).await.unwrap());
    }
    (found, store.log_after(0).await.unwrap())
}

#[tokio::test]
async fn compaction_keeps_rows_that_change_meanwhile_and_forgets_those_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let (clock, metrics) = (ManualClock::start_now(), Metrics::new().unwrap());
    let open = || {
        Embedded::open(&path, &config::EmbeddedStore::default(), Arc::new(clock.clone()), &metrics).unwrap()
    };
    let store = Arc::new(open());
    let secret = b"the bytes of a person who was erased";
    let row = |number: u32| Bytes::from([&number.to_be_bytes()[..], &[7; 4000]].concat());
    let writes = |numbers: std::ops::Range<u32>| {
        let write = |number| Write { key: key(number), expected: None, value: row(number), ttl: LONG };
        numbers.map(write).collect::<Vec<_>>()
    };
    for start in (0..2000).step_by(500) {
        assert!(store.write_in_order(writes(start..start + 500)).await.unwrap());
    }
    store.append(Bytes::from_static(b"entry"), LONG).await.unwrap();
    for number in 0..1500 {
        store.compare_and_delete(&key(number), &row(number)).await.unwrap();
    }
    store.put(&key(9999), Bytes::from_static(secret), LONG).await.unwrap();
    assert!(store.compare_and_delete(&key(9999), secret).await.unwrap());
    let size_before = std::fs::metadata(&path).unwrap().len();
    let holds_secret = || std::fs::read(&path).unwrap().windows(secret.len()).any(|bytes| bytes == secret);
    assert!(holds_secret(), "the file keeps what is gone");

    let compacting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.reclaim().await }
    });
    // Before, behind and at the place that is copied.
    let (mut steps, mut longest) = (0_u32, Duration::ZERO);
    while !compacting.is_finished() {
        let began = SystemClock.instant();
        let number = steps.wrapping_mul(2_654_435_761) % 2000;
        store.put(&key(number), Bytes::from(steps.to_be_bytes().to_vec()), LONG).await.unwrap();
        let other = steps.wrapping_mul(40_503) % 2000;
        if let Some(value) = store.get(&key(other)).await.unwrap() {
            assert!(store.compare_and_delete(&key(other), &value).await.unwrap());
        }
        store.append(Bytes::from(steps.to_be_bytes().to_vec()), LONG).await.unwrap();
        longest = longest.max((SystemClock.instant() - began) / 3);
        steps += 1;
    }
    compacting.await.unwrap().unwrap();

    assert!(steps > 1, "nothing changed meanwhile");
    assert!(longest < Duration::from_secs(1), "a step took {longest:?}");
    assert!(!holds_secret());
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < size_before / 2, "{size} of {size_before}");
    store.put(&key(1), Bytes::from_static(b"after"), LONG).await.unwrap();
    let before = contents(&store, 2000).await;
    let counts = in_file(&store);
    drop(store);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let verified = verify(&path, &config::EmbeddedStore::default(), &clock).unwrap();
    assert_eq!(verified.faults, Vec::<String>::new());
    let store = open();
    assert_eq!(contents(&store, 2000).await, before);
    assert_eq!(in_file(&store), counts);
}

#[tokio::test]
async fn file_is_whole_after_each_piece_of_a_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let clock = ManualClock::start_now();
    let open = |path: &Path| {
        let metrics = Metrics::new().unwrap();
        Embedded::open(path, &config::EmbeddedStore::default(), Arc::new(clock.clone()), &metrics).unwrap()
    };
    let store = open(&path);
    for number in 0..1200 {
        store.put(&key(number), Bytes::from(vec![7; 4000]), LONG).await.unwrap();
    }
    let database = store.opened.read().clone().unwrap();
    let mut compaction = compaction::Compaction::begin(&path, 1024 * 1024).unwrap();
    // What a process that is killed leaves behind, and what the next one makes of it.
    let killed = async |what: &str| {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        let store = open(&copy.path().join("sessions.redb"));
        for number in 0..1200 {
            assert!(store.get(&key(number)).await.unwrap().is_some(), "{what}: row {number} is gone");
        }
        drop(store);
        assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 1, "{what}: a draft is left");
    };
    let mut pieces = 0;
    while !compaction.copy_piece(&database, clock.now()).unwrap() {
        pieces += 1;
        killed(&format!("piece {pieces}")).await;
    }
    killed("the last piece").await;
    let finished = compaction.finish().unwrap();
    killed("the end").await;

    assert!(pieces > 2, "{pieces}");
    drop(finished);
}

#[tokio::test]
async fn compaction_that_cannot_be_made_leaves_the_file_as_it_is_and_is_made_later() {
    let Fixture { store, _folder: folder, clock, .. } = fixture();
    let path = folder.path().join("sessions.redb");
    // A compaction puts another file there.
    let file = || std::fs::metadata(&path).unwrap().ino();
    let before = file();
    store.put(&key(1), Bytes::from_static(b"row"), LONG).await.unwrap();
    // Nothing can be created in the place of the draft.
    std::fs::create_dir(folder.path().join(".sessions.redb.compacted.tmp")).unwrap();

    assert!(matches!(store.reclaim().await, Err(StoreError::Unavailable(_))));

    assert_eq!(store.get(&key(1)).await, Ok(Some(Bytes::from_static(b"row"))));
    std::fs::remove_dir(folder.path().join(".sessions.redb.compacted.tmp")).unwrap();
    assert_eq!(file(), before);
    // The caller does not ask again.
    clock.advance(Duration::from_secs(600));
    eventually("the file is compacted", async || file() != before).await;
    assert_eq!(store.get(&key(1)).await, Ok(Some(Bytes::from_static(b"row"))));
}

#[tokio::test]
async fn file_that_is_mostly_empty_is_compacted_by_itself() {
    let Fixture { store, _folder: folder, clock, .. } = fixture();
    let write =
        |number| Write { key: key(number), expected: None, value: vec![7; 60_000].into(), ttl: SHORT };
    for start in (0..500).step_by(100) {
        assert!(store.write_in_order((start..start + 100).map(write).collect()).await.unwrap());
    }
    let path = folder.path().join("sessions.redb");
    assert!(std::fs::metadata(&path).unwrap().len() > 16 * 1024 * 1024);

    clock.advance(SHORT);

    eventually("the file is small", async || {
        clock.advance(Duration::from_secs(1));
        std::fs::metadata(&path).unwrap().len() < 4 * 1024 * 1024
    })
    .await;
    assert_eq!(store.ping().await, Ok(()));
}
