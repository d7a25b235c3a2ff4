//! Cuts a tunnel when the session that opened it ends, when the rules of its route no longer permit
//! its person, or when the person is bound to another user than the backend was given.
//!
//! A request is decided once, but a tunnel goes on: its session is looked up again whenever a
//! request's would be, and the rules of its route are applied again after each reload.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use tokio::sync::watch::Receiver;
use tokio::task::AbortHandle;

use super::break_off::BreakOff;
use super::current::Current;
use super::reason::Reason;
use super::tunnel::{Tunnel, TunnelRecord};
use crate::authn::{Authenticated, AuthnError};
use crate::clock::Clock;
use crate::identity::{Identity, User};
use crate::route::Route;
use crate::session::{CheckedSession, SessionError, Sessions};

/// How soon a store that did not answer is asked again. If all sessions must be looked up, all
/// tunnels ask at once, and an overloaded store refuses most of them; the tunnels of revoked
/// sessions among them must still be closed soon.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long a tunnel that was cut may take to end by itself, before its client's connection is
/// broken off: while a client does not read, the gateway notices nothing else of the connection.
const BREAK_OFF_AFTER: Duration = Duration::from_millis(500);

/// Both ends of a tunnel, and what is logged when they are cut.
pub(super) struct TunnelEnds {
    pub(super) tunnel: Tunnel,
    /// `None` if the client's connection cannot be broken off.
    pub(super) client: Option<BreakOff>,
    pub(super) record: TunnelRecord,
}

/// Decides whether the route of a tunnel still permits its person.
pub(super) struct TunnelPolicy {
    current: Arc<ArcSwap<Current>>,
    /// As it was when the tunnel was opened.
    route: Arc<Route>,
    /// Becomes true when the configuration that decided last is replaced.
    replaced: Receiver<bool>,
}

impl TunnelPolicy {
    /// Follows what is in use after `decided_by`, by which the tunnel was permitted.
    pub(super) fn new(current: Arc<ArcSwap<Current>>, decided_by: &Current, route: Arc<Route>) -> Self {
        Self { current, route, replaced: decided_by.replaced() }
    }

    /// Waits until another configuration is in use.
    async fn changed(&mut self) {
        // If the sender is gone, the configuration was replaced as well.
        _ = self.replaced.wait_for(|is_replaced| *is_replaced).await;
        self.replaced = self.current.load().replaced();
    }

    /// Applies the rules of the route of the same name. A route that no longer exists decides as it
    /// was.
    fn permits(&self, person: &Identity, user: Option<&User>) -> Result<(), Reason> {
        let current = self.current.load();
        let mut routes = current.runtime().routes.routes().iter();
        let now = routes.find(|route| route.name == self.route.name);
        now.unwrap_or(&self.route).rules.permits(person, user).map_err(Reason::Denied)
    }
}

/// The session of a tunnel, and what it takes to look it up.
pub(super) struct TunnelSession {
    pub(super) authenticated: Authenticated,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Watches a tunnel until dropped.
pub(super) struct TunnelWatch(AbortHandle);

impl Drop for TunnelWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TunnelWatch {
    /// Watches a tunnel, and cuts it when its session or its policy no longer permits it. The gauge
    /// counts it as long as it is watched.
    pub(super) fn start(
        ends: TunnelEnds,
        policy: TunnelPolicy,
        session: TunnelSession,
        gauge: &IntGauge,
    ) -> Self {
        let counted = CountedTunnel::new(gauge.clone());
        let task = tokio::spawn(async move {
            // Dropped with the task, however it ends.
            let _counted = counted;
            let Err(reason) = session.follow(policy).await;
            // Before the tunnel is cut, because this task may end with it.
            ends.record.audit_cut(reason);
            ends.tunnel.cut(reason);
            // If the request ends during this time, this task is aborted.
            tokio::time::sleep(BREAK_OFF_AFTER).await;
            if let Some(client) = ends.client {
                client.now();
                ends.record.log_broken_off(reason);
            }
        });
        Self(task.abort_handle())
    }
}

impl TunnelSession {
    /// Follows the session as long as it is valid and the policy permits its person; returns why
    /// not any more.
    async fn follow(&self, mut policy: TunnelPolicy) -> Result<Infallible, Reason> {
        let mut lease = self.authenticated.lease().clone();
        let mut recheck_at = self.authenticated.recheck_at();
        let mut person = self.authenticated.identity().clone();
        let user_at_start = self.authenticated.user().map(User::id);
        let mut user = self.authenticated.user().cloned();
        loop {
            tokio::select! {
                () = lease.ended() => {}
                () = tokio::time::sleep(recheck_at.since(self.clock.now())) => {}
                () = policy.changed() => {
                    policy.permits(&person, user.as_ref())?;
                    continue;
                }
            }
            // A lease ends for other reasons as well, such as another session of the same person.
            CheckedSession { lease, recheck_at, identity: person, user, .. } =
                self.look_up().await.map_err(Reason::Authentication)?;
            // The backend was given a user at the start, and would go on to serve that user.
            if user_at_start.is_some() && user.as_ref().map(User::id) != user_at_start {
                return Err(Reason::UserChanged);
            }
            // The person's unionid may be known now, or their claims may have changed.
            policy.permits(&person, user.as_ref())?;
        }
    }

    /// Looks the session up, for as long as a verdict stays valid.
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
struct CountedTunnel(IntGauge);

impl CountedTunnel {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}
