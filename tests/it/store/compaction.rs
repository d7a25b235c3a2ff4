//! What a compaction costs steps that are made meanwhile, and what is left of a file when the
//! process is killed during one.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use menshen::clock::ManualClock;
use menshen::store::{Key, Space, Store, Write};
use serde_json::json;

use super::embedded::{file, open, threads};
use crate::common::{NO_THROTTLE, ROUTES, World, now, times};
use crate::process::{self, Process};

const LONG: Duration = Duration::from_secs(24 * 3600);
const ROW_BYTES: usize = 10_000;

fn key(number: u32) -> Key {
    Key { space: Space::Code, name: u128::from(number).to_be_bytes() }
}

fn row(number: u32) -> Bytes {
    Bytes::from([&number.to_be_bytes()[..], &[b'x'; ROW_BYTES]].concat())
}

async fn fill(store: &dyn Store, rows: u32) {
    let write = |number| Write { key: key(number), expected: None, value: row(number), ttl: LONG };
    for start in (0..rows).step_by(500) {
        let writes = (start..rows.min(start + 500)).map(write).collect();
        assert!(store.write_in_order(writes).await.unwrap());
    }
}

#[test]
fn no_step_waits_a_second_while_the_file_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(&file(&folder), &ManualClock::start_now()).unwrap());
    // 300 MB with `--full`.
    let rows: u32 = if times() > 1 { 30_000 } else { 2_000 };
    threads().block_on(async {
        fill(&*store, rows).await;
        let size_before = fs::metadata(file(&folder)).unwrap().len();
        for number in (0..rows).filter(|number| number % 10 != 0) {
            store.compare_and_delete(&key(number), &row(number)).await.unwrap();
        }
        let began = now();
        let compacting = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.reclaim().await }
        });
        let (mut steps, mut longest) = (0_u32, Duration::ZERO);
        while !compacting.is_finished() {
            let step = now();
            store.put(&key(rows + steps), Bytes::from_static(b"meanwhile"), LONG).await.unwrap();
            longest = longest.max(step.elapsed());
            steps += 1;
        }
        compacting.await.unwrap().unwrap();
        let (took, size) = (began.elapsed(), fs::metadata(file(&folder)).unwrap().len());

        println!(
            "compacted {} MB to {} MB in {took:.1?}; of {steps} steps meanwhile the longest took {longest:.1?}",
            size_before / 1_000_000,
            size / 1_000_000
        );
        assert!(size < size_before / 2, "{size} of {size_before}");
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        for number in (0..rows).step_by(10) {
            assert_eq!(store.get(&key(number)).await.unwrap(), Some(row(number)), "{number}");
        }
        for number in rows..rows + steps {
            assert!(store.get(&key(number)).await.unwrap().is_some(), "{number}");
        }
    });
}

#[test]
fn logins_do_not_wait_a_second_while_a_person_is_erased() {
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    world.stop();
    process.signal("TERM");
    process.wait();
    let file = process.config().with_file_name("state").join("sessions.redb");
    // As long as the rows of a session.
    let (rows, row_bytes): (u32, _) = (if times() > 1 { 200_000 } else { 10_000 }, 560);
    {
        let store = open(&file, &ManualClock::start_now()).unwrap();
        let value = |number: u32| Bytes::from([&number.to_be_bytes()[..], &vec![b'x'; row_bytes]].concat());
        let write = |number| Write { key: key(number), expected: None, value: value(number), ttl: LONG };
        threads().block_on(async {
            for start in (0..rows).step_by(500) {
                assert!(store.write_in_order((start..start + 500).map(write).collect()).await.unwrap());
            }
        });
    }
    process.start_again();
    let log_in = |person: &str| {
        let body = json!({ "code": world.code(person) }).to_string();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let began = now();
        assert_eq!(process.connect().send(request.as_bytes()).status, 200, "{person}");
        began.elapsed()
    };
    let config = process.config();
    let is_over = AtomicBool::new(false);
    // On a machine that others keep busy, each login takes long.
    let mut before: Vec<Duration> = (0..21).map(|number| log_in(&format!("before-{number}"))).collect();
    before.sort_unstable();

    let (took, disk, mut times) = thread::scope(|scope| {
        // A disk that others keep busy holds an fsync, and a login makes some.
        let disk = scope.spawn(|| {
            let mut file = fs::File::create(process.config().with_file_name("probe")).unwrap();
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let began = now();
                file.write_all(b"x").and_then(|()| file.sync_all()).unwrap();
                longest = longest.max(began.elapsed());
            }
            longest
        });
        let users = [0, 1, 2, 3].map(|user| {
            let (log_in, is_over) = (&log_in, &is_over);
            scope.spawn(move || {
                let mut times = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    times.push(log_in(&format!("user-{user}-{}", times.len())));
                }
                times
            })
        });
        let began = now();
        let (code, said, messages) = process::command(&config, &["person", "erase", "--unionid", "u0"]);
        let took = began.elapsed();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((code, messages.as_str()), (Some(0), ""), "{said}");
        (took, disk.join().unwrap(), users.map(|user| user.join().unwrap()).concat())
    });

    times.sort_unstable();
    let longest = *times.last().unwrap();
    let median = times[times.len() / 2];
    println!(
        "erased in {took:.1?} beside {rows} rows; of {} logins meanwhile the median took {median:.1?}, the longest {longest:.1?}; an fsync {disk:.1?} at most",
        times.len()
    );
    let most = (Duration::from_secs(1) + disk * 3).max(before[10] * 20);
    assert!(longest < most, "{longest:?} of {most:?}");
}

#[test]
fn a_gateway_that_is_killed_while_it_compacts_leaves_one_whole_file() {
    const ROWS: u32 = 1500;
    let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}"));
    let mut process = Process::like(&world);
    world.stop();
    process.signal("TERM");
    process.wait();
    let state = process.config().with_file_name("state");
    {
        let store = open(&state.join("sessions.redb"), &ManualClock::start_now()).unwrap();
        threads().block_on(fill(&store, ROWS));
    }
    let mut drafts = 0;
    for round in 0..8 {
        process.start_again();
        let config = process.config();
        // A person whom the store does not know: all that an erasure does is to compact the file.
        let erasing =
            thread::spawn(move || process::command(&config, &["person", "erase", "--unionid", "u0"]));
        thread::park_timeout(Duration::from_millis(15 * (round + 1)));
        process.signal("KILL");
        erasing.join().unwrap();
        drafts += usize::from(state.join(".sessions.redb.compacted.tmp").exists());
    }
    process.start_again();
    process.signal("TERM");
    process.wait();

    let (code, counts, messages) = process::command(&process.config(), &["store", "verify"]);

    assert_eq!(code, Some(0), "{messages}");
    assert!(counts.contains(&format!("codes        {ROWS}\n")), "{counts}");
    assert!(!state.join(".sessions.redb.compacted.tmp").exists(), "a draft is left");
    println!("killed 8 times, {drafts} times with a new file that was not finished");
}
