//! `menshen store`, as an operator runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use menshen::clock::ManualClock;
use menshen::store::{Embedded, Key, Space, Store};

use super::embedded::{open, threads};
use crate::process;

/// A configuration, and its store with a few rows in it.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let yaml = fs::read_to_string("conf/minimal.yaml").unwrap();
        let yaml = format!("data_dir: {}\n{yaml}", folder.path().join("data").display());
        fs::write(folder.path().join("menshen.yaml"), yaml).unwrap();
        Self { folder }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("data").join("sessions.redb")
    }

    fn open(&self) -> Embedded {
        open(&self.store(), &ManualClock::start_now()).unwrap()
    }

    fn fill(&self, rows: u8) {
        let store = self.open();
        threads().block_on(async {
            for number in 0..rows {
                let value = Bytes::from(vec![number; 20_000]);
                store.put(&key(Space::Subject, number), value, Duration::from_secs(3600)).await.unwrap();
            }
            let ttl = Duration::from_secs(3600);
            store.put(&key(Space::Code, 255), Bytes::from_static(b"\0\xff"), ttl).await.unwrap();
            store.append(Bytes::from_static(b"entry"), ttl).await.unwrap();
        });
    }

    fn run(&self, command: &str) -> (Option<i32>, String, String) {
        run(&self.folder.path().join("menshen.yaml"), command)
    }
}

fn run(config: &Path, command: &str) -> (Option<i32>, String, String) {
    process::command(config, &["store", command])
}

fn key(space: Space, number: u8) -> Key {
    Key { space, name: [number; 16] }
}

#[test]
fn verify_counts_what_is_in_a_whole_file() {
    let files = Files::new();
    files.fill(7);

    let (code, stdout, stderr) = files.run("verify");

    let expected = format!(
        "{}\nsubjects     7\nunionids     0\nrevocations  0\ncodes        1\nsign-ins     0\npeople       0\nlog          1\nended        0\n",
        files.store().display()
    );
    assert_eq!((code, stdout, stderr), (Some(0), expected, String::new()));
}

#[test]
fn verify_finds_a_changed_byte_and_says_what_to_do() {
    let files = Files::new();
    files.fill(7);
    let mut bytes = fs::read(files.store()).unwrap();
    let at = bytes.windows(1000).position(|window| window == [5; 1000]).unwrap();
    bytes[at + 500] ^= 1;
    fs::write(files.store(), bytes).unwrap();

    let (code, _, stderr) = files.run("verify");

    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("is damaged") && stderr.contains("restore a copy"), "{stderr}");
}

/// redb panics on some damaged pages. An operator reads what the gateway says of the file, and no
/// trace of a panic.
#[test]
fn a_panic_over_a_damaged_file_prints_no_trace() {
    let files = Files::new();
    files.fill(20);
    let image = fs::read(files.store()).unwrap();
    let mut refused = 0;
    // The name of a table, or the type of its rows, that is no UTF-8.
    for name in ["rows", "ends", "log", "meta", "log_last", "u64", "&str", "&[u8]"] {
        let mut damaged = image.clone();
        for at in 0..damaged.len() - name.len() {
            if damaged[at..].starts_with(name.as_bytes()) {
                damaged[at] = 0xff;
            }
        }
        fs::write(files.store(), &damaged).unwrap();
        for command in ["verify", "export"] {
            let (code, _, stderr) = files.run(command);
            refused += usize::from(code != Some(0));
            assert!(!stderr.contains("panicked"), "{command}, {name}: {stderr}");
        }
    }
    assert!(refused > 0);
}

#[test]
fn export_writes_every_row_as_a_line() {
    let files = Files::new();
    files.fill(3);

    let (code, stdout, stderr) = files.run("export");

    assert_eq!((code, stderr.as_str(), stdout.lines().count()), (Some(0), "", 4));
    let first: serde_json::Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["space"], "c");
    assert_eq!(first["name"], "ff".repeat(16));
    assert_eq!(first["value"], "AP8=");
    assert!(first["expires_at_ms"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn compact_makes_a_file_smaller_that_lost_its_rows() {
    let files = Files::new();
    files.fill(200);
    let store = files.open();
    threads().block_on(async {
        for number in 0..200 {
            let row = vec![number; 20_000];
            assert!(store.compare_and_delete(&key(Space::Subject, number), &row).await.unwrap());
        }
    });
    drop(store);
    let before = fs::metadata(files.store()).unwrap().len();

    let (code, stdout, stderr) = files.run("compact");

    let after = fs::metadata(files.store()).unwrap().len();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, format!("{}: {after} bytes, {before} before\n", files.store().display()));
    assert!(after < before, "{stdout}");
    assert!(files.run("verify").1.contains("codes        1\n"));
}

#[test]
fn commands_leave_a_file_alone_that_a_gateway_has_open_or_that_is_not_there() {
    let files = Files::new();
    for command in ["compact", "verify", "export"] {
        let (code, stdout, stderr) = files.run(command);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("does not exist"), "{stderr}");
        assert!(!files.store().exists());
    }
    let _store = files.open();
    for command in ["compact", "verify", "export"] {
        let (code, stdout, stderr) = files.run(command);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("is in use by another process: stop that gateway"), "{stderr}");
    }
}

#[test]
fn commands_are_for_the_embedded_store() {
    let files = Files::new();
    let path = files.folder.path().join("menshen.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{yaml}store: {{ engine: redis }}\n")).unwrap();

    let (code, stdout, stderr) = files.run("verify");

    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("are for the embedded store's file"), "{stderr}");
}
