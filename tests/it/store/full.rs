//! A full disk: each operation gets an error, and no acknowledged write is lost.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use menshen::clock::ManualClock;
use menshen::store::{Key, Space, Store as _};

use super::embedded::{file, open, threads};
use crate::common::{PATIENCE, now};

const LONG: Duration = Duration::from_secs(3600);
/// What a file may grow to.
const ROOM: u64 = 6_000_000;
/// Says that the limit stands.
const IS_LIMITED: &str = "MENSHEN_TEST_IS_LIMITED";

fn key(number: u32) -> Key {
    Key { space: Space::Subject, name: u128::from(number).to_be_bytes() }
}

fn value(number: u32) -> Bytes {
    vec![number.to_le_bytes()[0]; 16 * 1024].into()
}

/// The system's limit stands for a full disk: it is there without rights, and for one process
/// alone.
#[test]
fn full_disk_is_an_error_until_there_is_room_and_loses_nothing() {
    let output = Command::new("sh")
        // The signal would end the process before it saw the error.
        .args([
            "-c",
            r#"trap '' XFSZ; exec prlimit --fsize="$1:" "$2" --exact store::full::limited --ignored"#,
        ])
        .args(["sh", &ROOM.to_string()])
        .arg(std::env::current_exe().unwrap())
        .env(IS_LIMITED, "1")
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
}

#[test]
#[ignore = "asks for a limit, under which the test above runs it"]
fn limited() {
    // `--include-ignored` asks for it, too.
    if std::env::var_os(IS_LIMITED).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::start_now();
    let store = open(&file(&folder), &clock).unwrap();
    threads().block_on(async {
        let mut acknowledged = 0;
        while store.put(&key(acknowledged), value(acknowledged), LONG).await.is_ok() {
            acknowledged += 1;
            assert!(acknowledged < 1000, "the disk is not full");
        }
        let mut refused = 0;
        for number in 2000..2020 {
            refused += u32::from(store.put(&key(number), value(number), LONG).await.is_err());
            clock.advance(Duration::from_secs(1));
            for earlier in (0..acknowledged).step_by(10) {
                let read = store.get(&key(earlier)).await;
                assert!(read.is_err() || read == Ok(Some(value(earlier))), "{earlier}: {read:?}");
            }
        }
        assert!(refused > 0, "the disk is not full");

        let pid = std::process::id().to_string();
        let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status().unwrap();
        assert!(lifted.success());

        let deadline = now() + PATIENCE;
        while store.put(&key(3000), value(0), LONG).await.is_err() {
            assert!(now() < deadline, "there is room, and the store does not use it");
            tokio::time::sleep(Duration::from_millis(20)).await;
            clock.advance(Duration::from_secs(1));
        }
        for number in 0..acknowledged {
            assert_eq!(store.get(&key(number)).await, Ok(Some(value(number))), "{number}");
        }
        println!("{acknowledged} rows");
    });
    drop(store);
    assert!(open(&file(&folder), &clock).is_ok());
}
