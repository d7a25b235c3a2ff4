//! The watch over secrets: nothing that any test makes the gateway say may hold one.
//!
//! What WeChat shares with the gateway alone (session keys, access tokens, people's refresh tokens)
//! reaches no client: whatever is read from a connection is searched for it as it comes. What a
//! browser and the gateway share (session cookies, and the codes and states of sign-ins) comes to
//! nobody else: when a world, a process of the gateway or a Redis ends, its files (the store among
//! them), its metrics, what its backend was sent and all that was logged meanwhile, at every level,
//! are searched for both. A secret that any test saw is looked for until the last one has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use menshen::emulator::Emulator;
use tracing_subscriber::fmt::MakeWriter;

static EMULATORS: Mutex<Vec<Weak<Emulator>>> = Mutex::new(Vec::new());
/// What no answer may contain.
static OF_WECHAT: LazyLock<Mutex<Secrets>> = LazyLock::new(Mutex::default);
/// What only a browser, or WeChat, may be sent.
static OF_BROWSERS: LazyLock<Mutex<Secrets>> = LazyLock::new(Mutex::default);
static LOG: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);
/// How much of one connection or body is searched: a test of large bodies need not search them.
const SEARCHED: usize = 1024 * 1024;
/// No spelling that is looked for is shorter, and none of what WeChat shares is longer than
/// [`LONGEST`].
const SHORTEST: usize = 16;
const LONGEST: usize = 256;

/// Secrets, in every spelling that could give one away.
#[derive(Default)]
struct Secrets {
    known: BTreeSet<String>,
    /// Which pairs of bytes some spelling begins with: most places are passed over by these.
    is_pair: Vec<bool>,
    /// Spellings, by their first bytes, and whose they are.
    spellings: BTreeMap<[u8; SHORTEST], Vec<(Vec<u8>, String)>>,
}

impl Secrets {
    fn add(&mut self, secret: &str) {
        let key = secret.trim_end_matches('=').to_owned();
        if key.len() < SHORTEST || !self.known.insert(key.clone()) {
            return;
        }
        let bytes =
            STANDARD_NO_PAD.decode(&key).or_else(|_| URL_SAFE_NO_PAD.decode(&key)).unwrap_or_default();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let url_safe = URL_SAFE_NO_PAD.encode(&bytes);
        let texts = [key.clone(), url_safe, hex.to_uppercase(), hex].map(String::into_bytes);
        self.is_pair.resize(1 << 16, false);
        for spelling in texts.into_iter().chain([bytes]) {
            let Some(start) = spelling.first_chunk::<SHORTEST>() else { continue };
            self.is_pair[pair(start)] = true;
            self.spellings.entry(*start).or_default().push((spelling.clone(), key.clone()));
        }
    }

    /// The secret that these bytes hold, if any.
    fn found_in(&self, bytes: &[u8]) -> Option<String> {
        if self.known.is_empty() {
            return None;
        }
        let starts = bytes.windows(SHORTEST).enumerate().filter(|(_, start)| self.is_pair[pair(start)]);
        starts.into_iter().find_map(|(at, start)| {
            let spelt = self.spellings.get(start)?;
            spelt.iter().find(|(text, _)| bytes[at..].starts_with(text)).map(|(_, key)| key.clone())
        })
    }
}

fn pair(start: &[u8]) -> usize {
    usize::from(start[0]) << 8 | usize::from(start[1])
}

/// Watches over the secrets of this emulator, from now on.
pub fn watch(emulator: &Arc<Emulator>) {
    EMULATORS.lock().unwrap().push(Arc::downgrade(emulator));
}

/// Watches over something that a browser was given, such as a session cookie.
pub fn watch_for(secret: &str) {
    lock(&OF_BROWSERS).add(secret);
}

/// Watches over the codes and states of all sign-ins so far.
pub fn watch_for_sign_ins() {
    let mut secrets = lock(&OF_BROWSERS);
    for call in emulators().iter().flat_map(|emulator| emulator.calls()) {
        let is_sign_in = call.path.starts_with("/connect/") || call.path == "/sns/oauth2/access_token";
        let parameters = ["code", "state"].into_iter().filter(|_| is_sign_in);
        parameters.filter_map(|name| call.query.get(name)).for_each(|secret| secrets.add(secret));
    }
}

/// A test that failed while it searched must not make all the others fail.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn emulators() -> Vec<Arc<Emulator>> {
    let mut emulators = lock(&EMULATORS);
    emulators.retain(|known| known.strong_count() > 0);
    emulators.iter().filter_map(Weak::upgrade).collect()
}

/// The secret of WeChat's that these bytes hold, if any.
fn key_in(bytes: &[u8]) -> Option<String> {
    let emulators = emulators();
    let mut seen = lock(&OF_WECHAT);
    for emulator in emulators {
        let secrets = emulator.session_keys().into_iter().chain(emulator.people_tokens());
        let secrets = secrets.chain(emulator.app_tokens());
        secrets.for_each(|secret| seen.add(&secret));
    }
    seen.found_in(bytes)
}

/// Fails the test when these bytes hold a secret of any emulator there is or was, or of any
/// browser.
#[track_caller]
pub fn assert_absent(place: &str, bytes: &[u8]) {
    assert_absent_of_wechat(place, bytes);
    if let Some(secret) = lock(&OF_BROWSERS).found_in(bytes) {
        panic!("{place} holds the cookie, code or state {secret}");
    }
}

#[track_caller]
fn assert_absent_of_wechat(place: &str, bytes: &[u8]) {
    if let Some(key) = key_in(bytes) {
        panic!("{place} holds the session key or token {key}");
    }
}

/// As [`assert_absent`], of the first part of what may be long.
#[track_caller]
pub fn assert_absent_at_first(place: &str, bytes: &[u8]) {
    assert_absent(place, &bytes[..bytes.len().min(SEARCHED)]);
}

/// Searches every file in a folder; how many bytes there were.
pub fn assert_absent_in_files(folder: &Path) -> usize {
    watch_for_sign_ins();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return assert_absent_in_files(&path);
            }
            let bytes = fs::read(&path).unwrap_or_default();
            assert_absent(&path.display().to_string(), &bytes);
            bytes.len()
        })
        .sum()
}

/// What comes over one connection, searched as it comes, whatever it is and however it is cut.
pub struct Incoming {
    /// The end of what came before: a key may be cut.
    tail: Vec<u8>,
    left: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { tail: Vec::new(), left: SEARCHED }
    }
}

impl Incoming {
    /// Fails the test when these bytes, with those before them, hold a secret of WeChat's.
    pub fn assert_absent(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.left)];
        self.left -= bytes.len();
        if bytes.is_empty() {
            return;
        }
        self.tail.extend_from_slice(bytes);
        assert_absent_of_wechat("what a connection brought", &self.tail);
        let kept = self.tail.len().saturating_sub(LONGEST - 1);
        self.tail.drain(..kept);
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
    let key = world.emulator.session_key(super::APPID, "alice").unwrap();
    let text = key.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(text).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();

    for spelling in [text.as_bytes(), &bytes, hex.as_bytes(), URL_SAFE_NO_PAD.encode(&bytes).as_bytes()] {
        let said = [b"before ".as_slice(), spelling, b" after"].concat();
        assert_eq!(key_in(&said).as_deref(), Some(text), "{said:?}");
    }
    assert_eq!(key_in(b"no key at all, however long this may be"), None);
}

#[test]
#[should_panic(expected = "what a connection brought holds the session key or token")]
fn key_that_comes_in_two_parts_is_found() {
    let world = super::World::new();
    world.sign_in("alice");
    let key = world.emulator.session_key(super::APPID, "alice").unwrap();
    let mut incoming = Incoming::default();

    incoming.assert_absent(&key.as_bytes()[..11]);
    incoming.assert_absent(&key.as_bytes()[11..]);
}

/// The key of a person who signed in again is another, and the one before is still a secret.
#[test]
fn key_that_was_replaced_is_found() {
    let world = super::World::new();
    world.sign_in("alice");
    let first = world.emulator.session_key(super::APPID, "alice").unwrap();
    world.clock.advance(std::time::Duration::from_secs(30 * 24 * 3600));
    world.sign_in("alice");

    assert_ne!(world.emulator.session_key(super::APPID, "alice").unwrap(), first);
    assert!(key_in(first.as_bytes()).is_some());
}

/// What only browsers may be sent is found everywhere else, and may come to them.
#[test]
fn secret_of_a_browser_is_found_in_files_and_not_on_its_way_to_it() {
    let cookie = URL_SAFE_NO_PAD.encode([0xfb; 48]);
    watch_for(&cookie);
    let folder = tempfile::tempdir().unwrap();
    let mut incoming = Incoming::default();

    incoming.assert_absent(cookie.as_bytes());
    for said in [cookie.clone().into_bytes(), vec![0xfb; 48], "FB".repeat(48).into_bytes()] {
        fs::write(folder.path().join("file"), &said).unwrap();
        let found = std::panic::catch_unwind(|| assert_absent_in_files(folder.path()));
        assert!(found.is_err(), "{said:?}");
    }
}
