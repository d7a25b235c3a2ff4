//! The watch over session keys: nothing that any test makes the gateway say may hold one.
//!
//! Each answer is searched as it is read. When a world ends, so are its files (the store among them), its metrics, what
//! its backend was sent and all that was logged meanwhile, at every level.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, Once, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use menshen::emulator::Emulator;
use tracing_subscriber::fmt::MakeWriter;

static EMULATORS: Mutex<Vec<Weak<Emulator>>> = Mutex::new(Vec::new());
static LOG: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);
/// Longest part of an answer that is searched: a test of large bodies need not search them.
const SEARCHED: usize = 256 * 1024;

/// Keys of one emulator, in every spelling that could give one away.
pub struct Keys(Vec<(String, Vec<u8>)>);

impl Keys {
    /// The keys that are good now.
    pub fn of(emulator: &Emulator) -> Self {
        let spell = |key: String| {
            let bytes = STANDARD.decode(&key).unwrap_or_default();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let url_safe = URL_SAFE_NO_PAD.encode(&bytes);
            let text = key.trim_end_matches('=').to_owned();
            [
                text.clone().into_bytes(),
                url_safe.into_bytes(),
                hex.to_uppercase().into_bytes(),
                hex.into_bytes(),
                bytes,
            ]
            .into_iter()
            .filter(|spelling| spelling.len() >= 16)
            .map(move |spelling| (text.clone(), spelling))
        };
        Self(emulator.session_keys().into_iter().flat_map(spell).collect())
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// The key that these bytes hold, if any.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let holds = |spelling: &Vec<u8>| memchr::memmem::find(bytes, spelling).is_some();
        self.0.iter().find(|(_, spelling)| holds(spelling)).map(|(key, _)| key.as_str())
    }

    /// Fails the test when these bytes hold a key.
    pub fn assert_absent(&self, place: &str, bytes: &[u8]) {
        if let Some(key) = self.found_in(bytes) {
            panic!("{place} holds the session key {key}");
        }
    }

    /// Searches every file in a folder; how many bytes there were.
    pub fn assert_absent_in_files(&self, folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                let path = entry.path();
                if path.is_dir() {
                    return self.assert_absent_in_files(&path);
                }
                let bytes = fs::read(&path).unwrap_or_default();
                self.assert_absent(&path.display().to_string(), &bytes);
                bytes.len()
            })
            .sum()
    }
}

/// Watches over the keys of this emulator, from now on.
pub fn watch(emulator: &Arc<Emulator>) {
    let mut emulators = EMULATORS.lock().unwrap();
    emulators.retain(|known| known.strong_count() > 0);
    emulators.push(Arc::downgrade(emulator));
}

/// Fails the test when an answer holds a key of any emulator there is.
pub fn assert_absent_in_answer(head: &str, body: &[u8]) {
    let emulators: Vec<Arc<Emulator>> = EMULATORS.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
    for emulator in emulators {
        let keys = Keys::of(&emulator);
        keys.assert_absent("the head of an answer", head.as_bytes());
        keys.assert_absent("an answer", &body[..body.len().min(SEARCHED)]);
    }
}

/// Keeps all that this process logs from now on, at every level; where the log stands.
pub fn log_position() -> usize {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::new("menshen=trace,redis=trace,reqwest=trace,hyper=info");
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Kept).init();
    });
    LOG.lock().unwrap().len()
}

/// What was logged since then.
pub fn logged_since(position: usize) -> Vec<u8> {
    LOG.lock().unwrap()[position..].to_vec()
}

#[derive(Clone, Copy)]
struct Kept;

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

/// A watch that finds nothing must be one that would.
#[test]
fn every_spelling_of_a_key_is_found() {
    let world = super::World::new();
    world.sign_in("alice");
    let keys = Keys::of(&world.emulator);
    let key = world.emulator.session_key(super::APPID, "alice").unwrap();
    let bytes = STANDARD.decode(&key).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();

    assert_eq!(keys.count(), 1);
    for spelling in [key.as_bytes(), &bytes, hex.as_bytes(), URL_SAFE_NO_PAD.encode(&bytes).as_bytes()] {
        let text = [b"before ".as_slice(), spelling, b" after"].concat();
        assert!(keys.found_in(&text).is_some(), "{text:?}");
    }
    assert_eq!(keys.found_in(b"no key at all, however long this may be"), None);
}
