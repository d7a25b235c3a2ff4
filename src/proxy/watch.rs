//! Ends a tunnel with the session that opened it.
//!
//! A request is decided once, a tunnel lives on: so its session is looked up again whenever a request's would be.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::task::AbortHandle;

use crate::authn::Authenticated;
use crate::clock::Clock;
use crate::session::{Checked, SessionError, Sessions};
use crate::upstream::Opened;

/// How soon a store that did not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

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
    tunnel: Opened,
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
        watched.session_end().await;
        tunnel.cut();
    });
    Watch(task.abort_handle())
}

impl Watched {
    /// Waits until the session is not to be believed any more.
    async fn session_end(&self) {
        let mut lease = self.authenticated.lease().clone();
        let mut recheck_at = self.authenticated.recheck_at();
        loop {
            tokio::select! {
                () = lease.ended() => {}
                () = tokio::time::sleep(recheck_at.since(self.clock.now())) => {}
            }
            // A lease ends for other reasons as well, such as another session of the same person.
            let Some(checked) = self.look_up().await else { return };
            Checked { lease, recheck_at, .. } = checked;
        }
    }

    /// Looks the session up; `None` where it has ended, or nobody says for as long as a verdict is believed.
    async fn look_up(&self) -> Option<Checked> {
        let subject = &self.authenticated.identity().subject;
        let answer = async {
            loop {
                match self.sessions.check(subject, self.authenticated.session(), self.clock.now()).await {
                    Ok(checked) => return Some(checked),
                    Err(SessionError::Ended) => return None,
                    Err(SessionError::Store(_) | SessionError::Internal(_)) => {
                        tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    }
                }
            }
        };
        tokio::time::timeout(self.sessions.recheck_after(), answer).await.ok().flatten()
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
