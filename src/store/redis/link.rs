//! The one session with Redis. It is opened on first use and opened again when it broke, by one
//! attempt at a time.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::{Cause, Failure, describe};
use super::section::{Section, Topology};
use super::sentinel::Sentinels;
use super::wire::ConnectionSet;

/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The session, or why there is none.
pub(super) struct Link {
    section: Arc<Section>,
    sentinels: Arc<Sentinels>,
    state: Mutex<State>,
    /// Notified when `state` changes.
    moved: watch::Sender<()>,
}

enum State {
    /// No caller needed a session yet.
    Idle,
    /// The first attempt since the last session. Callers wait for it.
    Connecting(JoinHandle<()>),
    /// An attempt failed. The task makes more attempts, and callers do not wait for them.
    Down(Arc<str>, JoinHandle<()>),
    Up(Arc<ConnectionSet>),
}

impl Link {
    pub(super) fn new(section: Section) -> Arc<Self> {
        let sentinels = Arc::new(Sentinels::new(&section));
        let (moved, _) = watch::channel(());
        Arc::new(Self { section: Arc::new(section), sentinels, state: Mutex::new(State::Idle), moved })
    }

    pub(super) fn section(&self) -> &Arc<Section> {
        &self.section
    }

    pub(super) fn sentinels(&self) -> &Sentinels {
        &self.sentinels
    }

    /// Returns the session. Waits for the first attempt to open one, as long as the caller waits.
    /// Fails at once while attempts fail.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<ConnectionSet>, Failure> {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            if let Some(known) = self.known() {
                return known;
            }
            // `self` owns the sender, so the channel cannot be closed here.
            let _ = moved.changed().await;
        }
    }

    /// Returns the session or the failure if it is known without waiting. Starts an attempt if none
    /// is under way.
    fn known(self: &Arc<Self>) -> Option<Result<Arc<ConnectionSet>, Failure>> {
        let mut state = self.state.lock();
        match &*state {
            State::Up(session) if session.is_alive() => Some(Ok(Arc::clone(session))),
            State::Down(reason, task) if !task.is_finished() => {
                Some(Err(Failure::unavailable(Cause::Connection, reason)))
            }
            State::Connecting(task) if !task.is_finished() => None,
            // The last session broke, or the runtime of its task has ended.
            _ => {
                *state = State::Connecting(self.keep_connected());
                None
            }
        }
    }

    /// Gives a session up. With a reason, callers do not wait for the next one: a server that does
    /// not answer a command will probably not answer a new connection.
    pub(super) fn give_up(self: &Arc<Self>, session: &Arc<ConnectionSet>, reason: Option<String>) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Up(current) if Arc::ptr_eq(current, session)) {
            let task = self.keep_connected();
            *state = match reason {
                Some(reason) => State::Down(reason.into(), task),
                None => State::Connecting(task),
            };
        }
        drop(state);
        session.broken().mark();
    }

    /// Opens a session, and the next one when it breaks, even if no caller needs one yet. The next
    /// caller then does not wait.
    fn keep_connected(self: &Arc<Self>) -> JoinHandle<()> {
        let (link, section, sentinels) =
            (Arc::downgrade(self), Arc::clone(&self.section), Arc::clone(&self.sentinels));
        tokio::spawn(async move {
            let Some(session) = connect(&link, &section, &sentinels).await else { return };
            let broken = Arc::clone(session.broken());
            let Some(link) = link.upgrade() else { return };
            link.set(State::Up(Arc::new(session)));
            let link = Arc::downgrade(&link);
            tokio::spawn(async move {
                broken.marked().await;
                if let Some(link) = link.upgrade() {
                    link.known();
                }
            });
        })
    }

    fn set(&self, state: State) {
        *self.state.lock() = state;
        self.moved.send_replace(());
    }

    /// Records that an attempt failed, and wakes the waiting callers.
    fn set_down(&self, reason: &str) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut *state, State::Idle);
        *state = match before {
            State::Connecting(task) | State::Down(_, task) => State::Down(reason.into(), task),
            other => other,
        };
        drop(state);
        self.moved.send_replace(());
    }
}

/// Tries until a session opens; `None` when the link is dropped.
async fn connect(
    link: &Weak<Link>,
    section: &Arc<Section>,
    sentinels: &Arc<Sentinels>,
) -> Option<ConnectionSet> {
    let mut pause = PAUSES.0;
    loop {
        let reason =
            match tokio::time::timeout(patience(section), ConnectionSet::open(section, sentinels)).await {
                Ok(Ok(session)) => return Some(session),
                Ok(Err(error)) => describe(&error),
                Err(_) => "no connection in time".to_owned(),
            };
        link.upgrade()?.set_down(&reason);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Longest time for an attempt. With sentinels it is doubled, because they are asked first.
fn patience(section: &Section) -> Duration {
    match section.topology {
        Topology::Standalone => section.connect_timeout,
        Topology::Sentinel { .. } | Topology::Cluster => section.connect_timeout * 2,
    }
}

/// Returns between half and the whole of the pause, so that many gateways do not reconnect at the
/// same moment. Nothing secret depends on it.
fn jittered(pause: Duration) -> Duration {
    let dice = RandomState::new().build_hasher().finish() % 512;
    pause / 2 + pause * u32::try_from(dice).unwrap_or_default() / 1024
}
