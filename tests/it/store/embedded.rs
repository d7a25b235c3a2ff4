//! The embedded engine: the contract, and what a file of one's own asks for besides.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use menshen::clock::{Clock, ManualClock};
use menshen::config::EmbeddedStore;
use menshen::store::{Embedded, FileError, Key, Space, Store};
use menshen::telemetry::metrics::Metrics;

use super::contract::{self, Subject};

const LONG: Duration = Duration::from_secs(3600);

pub(super) fn open(path: &Path, clock: &ManualClock) -> Result<Embedded, FileError> {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    Embedded::open(path, &EmbeddedStore::default(), clock, &Metrics::new().unwrap())
}

pub(super) fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn key(number: u8) -> Key {
    Key { space: Space::Subject, name: [number; 16] }
}

pub(super) fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("data").join("sessions.redb")
}

#[test]
fn embedded_store_holds_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::start_now();
    let store: Arc<dyn Store> = Arc::new(open(&file(&folder), &clock).unwrap());
    let subject = Subject {
        handles: [Arc::clone(&store), store],
        short: Duration::from_secs(60),
        pass: Box::new(move |time| clock.advance(time)),
        run: 0,
    };

    threads().block_on(contract::hold(&subject));
}

#[test]
fn acknowledged_row_is_there_when_the_file_is_opened_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::start_now();
    let threads = threads();
    for number in 0..20 {
        let store = open(&file(&folder), &clock).unwrap();
        threads.block_on(async {
            store.put(&key(number), Bytes::from(vec![number]), LONG).await.unwrap();
            for earlier in 0..=number {
                assert_eq!(store.get(&key(earlier)).await, Ok(Some(Bytes::from(vec![earlier]))));
            }
        });
    }
}

#[test]
fn second_process_on_the_file_gets_an_error_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::start_now();
    let path = file(&folder);
    let _first = open(&path, &clock).unwrap();

    let refused = open(&path, &clock).unwrap_err();

    let expected = format!(
        "{} is in use by another process: stop that gateway, or give this one a `data_dir` of its own",
        path.display()
    );
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn file_and_its_directory_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    drop(open(&path, &ManualClock::start_now()).unwrap());
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));

    // As a copy that was restored with the wrong umask.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&path, &ManualClock::start_now()).unwrap());

    assert_eq!(mode(&path), 0o600);
}

#[test]
fn empty_file_is_refused_and_not_initialized() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    drop(open(&path, &ManualClock::start_now()).unwrap());
    let left: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [path.as_path()], "nothing is left of how it was made");
    std::fs::write(&path, "").unwrap();

    let refused = open(&path, &ManualClock::start_now()).unwrap_err().to_string();

    assert!(
        refused.contains("is damaged (it is empty)") && refused.contains("move the file away"),
        "{refused}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn file_that_two_make_at_once_is_made_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder);
        let start = std::sync::Barrier::new(4);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let one = || {
                start.wait();
                open(&path, &ManualClock::start_now())
            };
            let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });

        let count = opened.iter().filter(|opened| opened.is_ok()).count();
        assert_eq!(count, 1, "{opened:?}");
    }
}

#[test]
fn file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    std::fs::write(&path, "SQLite format 3\0 and so on").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

    let refused = open(&path, &ManualClock::start_now()).unwrap_err().to_string();

    assert!(refused.contains("is damaged (") && refused.contains("move the file away"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"SQLite format 3\0 and so on");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
}
