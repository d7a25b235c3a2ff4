//! A real browser: Debian's Chromium without a window, told what to do through a pipe.
//!
//! The DevTools protocol over `--remote-debugging-pipe` needs no port, no driver and no library,
//! and Chromium ends by itself once its end of the pipe is closed, in whatever way the tests end. A
//! click is a click of the mouse: what a browser grants to people alone is granted.

mod tab;

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::site::SESSION;
use super::{leaks, now};

pub use self::tab::Tab;

/// Longest wait for anything in a browser: it starts seven processes, on a machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with a profile of its own; it ends when this is dropped.
pub struct Browser {
    process: Child,
    /// `None` once it was told to end.
    orders: RefCell<Option<ChildStdin>>,
    messages: Receiver<Value>,
    last_id: Cell<u64>,
    profile: TempDir,
}

impl Browser {
    /// A browser whose person reads Chinese.
    pub fn start() -> Self {
        Self::speaking("zh-CN,zh;q=0.9")
    }

    /// A browser that sends this as `Accept-Language`.
    pub fn speaking(languages: &str) -> Self {
        let is_there = Command::new("sh").args(["-c", "command -v chromium >/dev/null"]).status().unwrap();
        assert!(is_there.success(), "chromium is missing: these tests need it (`scripts/test` installs it)");
        let profile = tempfile::tempdir().unwrap();
        let said = File::create(profile.path().join("stderr")).unwrap();
        // Chromium reads orders from descriptor 3 and answers on 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 >/dev/null", "chromium"])
            .args(["--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-extensions", "--disable-default-apps", "--password-store=basic"])
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            // Else a click on a page that is not painted yet is lost.
            .arg("--allow-pre-commit-input")
            // Nothing of the machine's own may get in between.
            .args(["--no-proxy-server", "--force-device-scale-factor=1"])
            .arg(format!("--accept-lang={}", languages.split(';').next().unwrap()))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .unwrap();
        let orders = RefCell::new(process.stdin.take());
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                message.pop();
                let Ok(parsed) = serde_json::from_slice(&message) else { return };
                if sender.send(parsed).is_err() {
                    return;
                }
                message.clear();
            }
        });
        Self { process, orders, messages, last_id: Cell::new(0), profile }
    }

    /// A new tab, in a window of its own: a hidden tab is slow.
    pub fn open(&self, url: &str) -> Tab<'_> {
        let tab = Tab::new(self);
        tab.go(url);
        tab
    }

    /// Every cookie, as the browser keeps it.
    pub fn cookies(&self) -> Vec<Value> {
        let mut answer = self.order(None, "Storage.getCookies", json!({}));
        serde_json::from_value(answer["cookies"].take()).unwrap()
    }

    /// The value of the cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.cookies();
        let cookie = cookies.iter().find(|cookie| cookie["name"] == name)?;
        cookie["value"].as_str().map(str::to_owned)
    }

    /// Gives an order to a tab, or to the browser, and waits for the answer.
    fn order(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.try_order(session, method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// As [`Browser::order`]; the error is what the browser says.
    fn try_order(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value, String> {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let mut order = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            order["sessionId"] = session.into();
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        let written = self.orders.borrow_mut().as_mut().unwrap().write_all(&bytes);
        written.unwrap_or_else(|error| panic!("{error}: {}", self.said()));
        let deadline = now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(now());
            let mut message = self
                .messages
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("{method}: {error}: {}", self.said()));
            if message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(message["result"].take()),
                };
            }
        }
    }

    /// What it complained of.
    fn said(&self) -> String {
        fs::read_to_string(self.profile.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    /// What it was given in the end is a secret.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let cookie = self.cookie(SESSION);
            cookie.iter().for_each(|cookie| leaks::watch_for(cookie));
        }
        drop(self.orders.borrow_mut().take());
        let deadline = now() + Duration::from_secs(5);
        while matches!(self.process.try_wait(), Ok(None)) && now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Where screenshots go: `screenshots` in cargo's target folder.
pub fn screenshots() -> PathBuf {
    // The tests' binary is in `<target>/debug/deps`.
    let target = std::env::current_exe().unwrap();
    let folder = target.ancestors().nth(3).unwrap().join("screenshots");
    fs::create_dir_all(&folder).unwrap();
    folder
}
