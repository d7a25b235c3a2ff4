//! Ends a tunnel with the session that opened it, or when the rules of its route no longer let its person in, or when they
//! are no longer bound to the user that the backend was told.
//!
//! A request is decided once, a tunnel lives on: so its session is looked up again whenever a request's would be, and its
//! route's rules are asked again at each reload.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use tokio::sync::watch::Receiver;
use tokio::task::AbortHandle;

use super::break_off::BreakOff;
use super::current::Current;
use crate::authn::{Authenticated, AuthnError};
use crate::clock::Clock;
use crate::identity::{Identity, User};
use crate::route::{Denied, Route};
use crate::session::{CheckedSession, SessionError, Sessions};
use crate::upstream::Opened;

/// How soon a store that did not answer is asked again. When everybody's sessions must be looked up, all tunnels ask at
/// once, and a store that has too much to do puts most of them off: the revoked ones among them must still close soon.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long a tunnel that was cut may take to end by itself, before its client's connection is broken off: one that does
/// not read keeps the gateway from noticing anything else.
const BREAK_OFF_AFTER: Duration = Duration::from_millis(500);

/// Why a tunnel was cut whose person is bound to another user by now, or to none.
const USER_CHANGED: &str = "user_changed";

/// What is written once, with the reason.
pub(super) type Note = Box<dyn FnOnce(&'static str) + Send>;

/// Both ends of a tunnel.
pub(super) struct Ends {
    pub(super) tunnel: Opened,
    pub(super) client: Option<BreakOff>,
    /// Notes in the audit log why the tunnel was cut, where there is one.
    pub(super) note: Option<Note>,
    /// Logs why the tunnel was broken off: nothing else is left then that could.
    pub(super) last_words: Note,
}

/// Says whether the route of a tunnel lets its person in by now.
pub(super) struct Standing {
    pub(super) current: Arc<ArcSwap<Current>>,
    /// As it was when the tunnel was opened.
    pub(super) route: Option<Arc<Route>>,
    /// Hears when what decided last was replaced.
    pub(super) replaced: Receiver<bool>,
}

impl Standing {
    /// Waits until another configuration is in use.
    async fn changed(&mut self) {
        // Where nobody is left to tell, it was replaced as well.
        _ = self.replaced.wait_for(|is_replaced| *is_replaced).await;
        self.replaced = self.current.load().replaced();
    }

    /// Asks the route of the same name. One that is gone goes on for its tunnels as it was.
    fn permits(&self, person: &Identity, user: Option<&User>) -> Result<(), Denied> {
        let current = self.current.load();
        let before = self.route.as_ref().ok_or(Denied::NotOnList)?;
        let now = current.runtime.routes.routes().iter().find(|route| route.name == before.name);
        now.unwrap_or(before).rules.permits(person, user)
    }
}

/// Watches a tunnel until dropped.
pub(super) struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What it takes to look a tunnel's session up.
struct Watched {
    authenticated: Authenticated,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
}

/// Cuts the tunnel when the session of whoever opened it ends, or cannot be looked up for too long, or when its route lets
/// them in no more. Until then the gauge counts it.
pub(super) fn watch(
    ends: Ends,
    authenticated: Authenticated,
    standing: Standing,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    gauge: &IntGauge,
) -> Watch {
    let watched = Watched { authenticated, sessions, clock };
    let counted = Counted::new(gauge.clone());
    let task = tokio::spawn(async move {
        // Dropped with the task, however it ends.
        let _counted = counted;
        let Err(reason) = watched.follow(standing).await;
        // Before it is cut: with it this task may end.
        if let Some(note) = ends.note {
            note(reason);
        }
        ends.tunnel.cut(reason);
        // Dropped by now, and this task with it, where the request ended.
        tokio::time::sleep(BREAK_OFF_AFTER).await;
        if let Some(client) = ends.client {
            client.now();
            (ends.last_words)(reason);
        }
    });
    Watch(task.abort_handle())
}

impl Watched {
    /// Follows the session until it is not to be believed any more, or its person not to be let in, and says why.
    async fn follow(&self, mut standing: Standing) -> Result<Infallible, &'static str> {
        let mut lease = self.authenticated.lease().clone();
        let mut recheck_at = self.authenticated.recheck_at();
        let mut person = self.authenticated.identity().clone();
        let told = self.authenticated.user().map(User::id);
        let mut user = self.authenticated.user().cloned();
        loop {
            tokio::select! {
                () = lease.ended() => {}
                () = tokio::time::sleep(recheck_at.since(self.clock.now())) => {}
                () = standing.changed() => {
                    standing.permits(&person, user.as_ref()).map_err(Denied::reason)?;
                    continue;
                }
            }
            // A lease ends for other reasons as well, such as another session of the same person.
            CheckedSession { lease, recheck_at, identity: person, user, .. } =
                self.look_up().await.map_err(AuthnError::reason)?;
            // The backend was told a user at the start, and would go on to believe it.
            if told.is_some() && user.as_ref().map(User::id) != told {
                return Err(USER_CHANGED);
            }
            // Their unionid may have become known, or their claims be others.
            standing.permits(&person, user.as_ref()).map_err(Denied::reason)?;
        }
    }

    /// Looks the session up, for as long as a verdict is believed.
    async fn look_up(&self) -> Result<CheckedSession, AuthnError> {
        let subject = &self.authenticated.identity().subject;
        let answer = async {
            loop {
                match self.sessions.check(subject, self.authenticated.session(), self.clock.now()).await {
                    Ok(checked) => return Ok(checked),
                    Err(SessionError::Ended) => return Err(AuthnError::SessionEnded),
                    Err(SessionError::Blocked) => return Err(AuthnError::Blocked),
                    Err(SessionError::Store(_) | SessionError::Internal(_)) => {
                        tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    }
                }
            }
        };
        let longest = self.sessions.recheck_after();
        tokio::time::timeout(longest, answer).await.unwrap_or(Err(AuthnError::StoreUnavailable))
    }
}

/// One more in a gauge, until dropped.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
