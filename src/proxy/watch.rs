//! Ends a tunnel with the session that opened it.
//!
//! A request is decided once, a tunnel lives on: so its session is looked up again whenever a request's would be.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::task::AbortHandle;

use super::guard::BreakOff;
use crate::authn::{Authenticated, Refusal};
use crate::clock::Clock;
use crate::session::{Checked, SessionError, Sessions};
use crate::upstream::Opened;

/// How soon a store that did not answer is asked again. When everybody's sessions must be looked up, all tunnels ask at
/// once, and a store that has too much to do puts most of them off: the revoked ones among them must still close soon.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long a tunnel that was cut may take to end by itself, before its client's connection is broken off: one that does
/// not read keeps the gateway from noticing anything else.
const BREAK_OFF_AFTER: Duration = Duration::from_millis(500);

/// Both ends of a tunnel.
pub(super) struct Ends {
    pub(super) tunnel: Opened,
    pub(super) client: Option<BreakOff>,
    /// Logs why the tunnel was broken off: nothing else is left then that could.
    pub(super) last_words: Box<dyn FnOnce(&'static str) + Send>,
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

/// Cuts the tunnel when the session of whoever opened it ends, or cannot be looked up for too long. Until then the
/// gauge counts it.
pub(super) fn watch(
    ends: Ends,
    authenticated: Authenticated,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    gauge: &IntGauge,
) -> Watch {
    let watched = Watched { authenticated, sessions, clock };
    let counted = Counted::new(gauge.clone());
    let task = tokio::spawn(async move {
        // Dropped with the task, however it ends.
        let _counted = counted;
        let Err(refusal) = watched.follow().await;
        let reason = refusal.reason();
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
    /// Follows the session until it is not to be believed any more, and says why.
    async fn follow(&self) -> Result<Infallible, Refusal> {
        let mut lease = self.authenticated.lease().clone();
        let mut recheck_at = self.authenticated.recheck_at();
        loop {
            tokio::select! {
                () = lease.ended() => {}
                () = tokio::time::sleep(recheck_at.since(self.clock.now())) => {}
            }
            // A lease ends for other reasons as well, such as another session of the same person.
            Checked { lease, recheck_at, .. } = self.look_up().await?;
        }
    }

    /// Looks the session up, for as long as a verdict is believed.
    async fn look_up(&self) -> Result<Checked, Refusal> {
        let subject = &self.authenticated.identity().subject;
        let answer = async {
            loop {
                match self.sessions.check(subject, self.authenticated.session(), self.clock.now()).await {
                    Ok(checked) => return Ok(checked),
                    Err(SessionError::Ended) => return Err(Refusal::SessionEnded),
                    Err(SessionError::Store(_) | SessionError::Internal(_)) => {
                        tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    }
                }
            }
        };
        let longest = self.sessions.recheck_after();
        tokio::time::timeout(longest, answer).await.unwrap_or(Err(Refusal::StoreUnavailable))
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
