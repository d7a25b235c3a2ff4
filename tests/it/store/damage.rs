//! Files that were cut off or changed: refused, or recovered; never a panic, nor its trace, and
//! never a row that was not written.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use bytes::Bytes;
use menshen::clock::ManualClock;
use menshen::store::{Embedded, Key, LogEntries, Space, Store};

use super::embedded::{file, open, threads};
use crate::common::{NO_THROTTLE, ROUTES, Tally, World, eventually, times};
use crate::process::Process;

const LONG: Duration = Duration::from_secs(3600);
const ROWS: u8 = 60;

/// What was ever written.
#[derive(Default)]
struct History {
    rows: BTreeMap<Key, Vec<Bytes>>,
    log: Vec<Bytes>,
}

/// How a run over damaged files went.
#[derive(Debug, Default)]
struct Found {
    files: Tally,
    errors: u32,
    absent: u32,
    read: u32,
}

impl Found {
    fn report(&mut self, suite: &str, tried: usize) {
        let Self { files, errors, absent, read } = self;
        files.remark = format!("rows: {read} as written, {absent} absent, {errors} errors");
        files.report(suite);
        assert_eq!(files.inputs, tried);
    }
}

/// Draws the same numbers in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % limit
    }
}

#[test]
fn cut_file_is_refused_or_recovered_and_invents_no_row() {
    let rounds = 40 * times();
    for (state, image, history) in images() {
        let mut draw = Draw(1);
        let mut found = Found::default();
        for round in 0..rounds {
            let length = if round == 0 { 0 } else { draw.below(image.len()) };
            probe(&image[..length], &history, &mut found, &format!("{state}, cut to {length}"));
        }
        found.report(&format!("store: files cut off, {state}"), rounds);
    }
}

#[test]
fn changed_file_is_refused_or_recovered_and_invents_no_row() {
    let rounds = 100 * times();
    for (state, image, history) in images() {
        let mut draw = Draw(2);
        let mut found = Found::default();
        for round in 0..rounds {
            let mut damaged = image.clone();
            // Half of the changes hit the header and the first pages, where everything begins.
            let range = if round % 2 == 0 { image.len() } else { 3 * 4096 };
            let (at, bits) = (draw.below(range), 1 << draw.below(8));
            for (offset, byte) in damaged[at..].iter_mut().take(1 + draw.below(8)).enumerate() {
                *byte ^= if offset == 0 { bits } else { u8::try_from(draw.below(256)).unwrap() };
            }
            probe(&damaged, &history, &mut found, &format!("{state}, changed at {at}"));
        }
        found.report(&format!("store: files changed, {state}"), rounds);
        assert!(found.read > 0, "{found:?}");
    }
}

/// redb panics over some pages. Whoever reads the log of a gateway whose file is damaged while it
/// runs reads what happened, and no trace of a panic.
#[test]
fn a_file_that_is_damaged_while_the_gateway_runs_is_reported_without_a_trace() {
    // Without a cache, each page is read from the disk.
    let store = "store: { embedded: { cache: 0B } }\n";
    let mut panics = 0;
    for (damage, byte) in [("zeros", 0), ("a pattern", 0xa5)] {
        let mut world = World::with(&format!("{ROUTES}{NO_THROTTLE}{store}"));
        let mut node = Process::like(&world);
        world.stop();
        let login = |person: &str| {
            let body = format!(r#"{{"code":"{}"}}"#, world.code(person));
            let head = "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json";
            let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            node.connect().send(request.as_bytes()).status
        };
        for number in 0..20 {
            assert_eq!(login(&format!("person-{number}")), 200);
        }

        let file = fs::File::options().write(true).open(node.store()).unwrap();
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        file.write_all_at(&vec![byte; length - 4096], 4096).unwrap();

        eventually("the damage is found", || {
            login("person-1");
            node.stderr().contains("the session store failed: the store is damaged")
        });
        eventually("the gateway is not ready", || node.admin("/readyz").contains("store_unavailable"));
        eventually("it says what to do", || node.stderr().contains("sessions.redb is damaged"));
        assert_eq!(login("person-2"), 503, "{damage}");
        node.signal("TERM");
        assert_eq!(node.wait(), Some(0), "{damage}: {}", node.stderr());
        let said = node.stderr();
        assert!(!said.contains("panicked") && !said.contains("backtrace"), "{damage}: {said}");
        // What the gateway says of a panic that it caught.
        panics += said.matches("the file cannot be read").count();
    }
    assert!(panics > 0);
}

/// A file that was closed, and the copy of one in use, with what was written to them.
fn images() -> [(&'static str, Vec<u8>, History); 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let store = open(&path, &ManualClock::start_now()).unwrap();
    let mut history = History::default();
    threads().block_on(async {
        for version in 0..3_u8 {
            for number in 0..ROWS {
                let key = key(number);
                let value = Bytes::from(vec![number ^ version; 100 + 7 * usize::from(number)]);
                store.put(&key, value.clone(), LONG).await.unwrap();
                history.rows.entry(key).or_default().push(value);
            }
            for number in 0..20 {
                let entry = Bytes::from(vec![number, version]);
                store.append(entry.clone(), LONG).await.unwrap();
                history.log.push(entry);
            }
        }
    });
    let running = fs::read(&path).unwrap();
    drop(store);
    let closed = fs::read(&path).unwrap();
    let same = History { rows: history.rows.clone(), log: history.log.clone() };
    [("closed", closed, history), ("running", running, same)]
}

fn probe(image: &[u8], history: &History, found: &mut Found, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    fs::write(&path, image).unwrap();

    match open(&path, &ManualClock::start_now()) {
        Ok(store) => {
            found.files.add("opened", 0);
            threads().block_on(read_all(&store, history, found, what));
            drop(store);
        }
        Err(error) => {
            found.files.add("refused", 0);
            let said = error.to_string();
            assert!(
                said.starts_with(&path.display().to_string()) && said.contains("move the file away"),
                "{what}: {said}"
            );
        }
    }
}

async fn read_all(store: &Embedded, history: &History, found: &mut Found, what: &str) {
    for (key, written) in &history.rows {
        match store.get(key).await {
            Ok(Some(value)) => {
                found.read += 1;
                assert!(written.contains(&value), "{what}: {key:?} says what nobody wrote");
            }
            Ok(None) => found.absent += 1,
            Err(_) => found.errors += 1,
        }
    }
    assert!(matches!(store.get(&key(200)).await, Ok(None) | Err(_)), "{what}: a row that never was");
    match store.log_after(0).await {
        Ok(LogEntries::All { entries, .. }) => {
            assert!(history.log.starts_with(&entries), "{what}: {entries:?}")
        }
        Ok(LogEntries::Gap { .. }) | Err(_) => {}
    }
    // A write is made or refused; it does not bring the process down.
    for number in [0, ROWS - 1, 201] {
        let key = key(number);
        let value = Bytes::from_static(b"after the damage");
        if store.put(&key, value.clone(), LONG).await.is_ok() {
            assert!(
                matches!(store.get(&key).await, Ok(Some(read)) if read == value),
                "{what}: a write went astray"
            );
        }
    }
}

fn key(number: u8) -> Key {
    let mut name = [number.wrapping_mul(151); 16];
    name[15] = number;
    Key { space: if number.is_multiple_of(4) { Space::Revocation } else { Space::Subject }, name }
}
