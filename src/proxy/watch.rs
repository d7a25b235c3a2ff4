//! Watches requests under way, and cuts off those that would not be permitted any more: because
//! their session has ended, their person is blocked or bound to another user, the configuration in
//! use does not admit them, or their client does not send the body.
//!
//! A request is decided once, but an upload, a stream of events or a WebSocket goes on. Most
//! requests are too short for a task or a timer of their own: they only stand in a list, and at
//! each chunk that passes it is asked whether their lease is current. One of a caller that is older
//! than two ticks of the list is followed by a task, which looks its session up whenever a
//! request's would be, and decides again after each reload. One without a caller is followed from
//! the first reload on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch::Receiver;

use super::current::Current;
use super::open_request::{OpenRequest, TICK};
use super::reason::Reason;
use super::records::Records;
use super::review::{ReviewedCredential, ReviewedPerson};
use crate::authn::{Authenticated, AuthnError};
use crate::identity::User;
use crate::session::{CheckedSession, SessionError};

/// How soon a store that did not answer is asked again. If all sessions must be looked up, all
/// requests under way ask at once, and an overloaded store refuses most of them; those of revoked
/// sessions among them must still be cut soon.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How long a request that was cut may take to end by itself, before it is dropped: while a client
/// does not read, the gateway notices nothing else of it, and over HTTP/2 silence is not
/// interrupted.
const DROP_AFTER: Duration = Duration::from_millis(250);
/// The list is in so many parts that requests seldom wait for each other.
const SHARDS: usize = 16;

/// Every request under way that may be cut off.
pub(super) struct Watch {
    current: Arc<ArcSwap<Current>>,
    records: Records,
    shards: [Mutex<Vec<Arc<OpenRequest>>>; SHARDS],
    next: AtomicUsize,
    ticks: AtomicU64,
}

/// A request in the list. It leaves when it is dropped.
pub(super) struct WatchedRequest {
    watch: Arc<Watch>,
    shard: usize,
    request: Arc<OpenRequest>,
}

impl Watch {
    /// Decides again by what `current` holds.
    pub(super) fn new(current: Arc<ArcSwap<Current>>, records: Records) -> Self {
        Self {
            current,
            records,
            shards: std::array::from_fn(|_| Mutex::default()),
            next: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
        }
    }

    /// The time, in ticks.
    pub(super) fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Adds a request.
    pub(super) fn add(self: &Arc<Self>, request: OpenRequest) -> WatchedRequest {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let request = Arc::new(request);
        if let Some(requests) = self.shards.get(shard) {
            let mut requests = requests.lock();
            request.position.store(requests.len(), Ordering::Relaxed);
            requests.push(Arc::clone(&request));
        }
        WatchedRequest { watch: Arc::clone(self), shard, request }
    }

    /// Looks at all requests, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.tick();
        }
    }

    fn tick(self: &Arc<Self>) {
        let now = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        for shard in &self.shards {
            let is_due = |request: &Arc<OpenRequest>| {
                let (is_overdue, needs_watch) = (request.body_is_overdue(now), request.needs_watch(now));
                (is_overdue || needs_watch).then(|| (Arc::clone(request), is_overdue, needs_watch))
            };
            let due: Vec<_> = shard.lock().iter().filter_map(is_due).collect();
            for (request, is_overdue, needs_watch) in due {
                if is_overdue {
                    tokio::spawn(cut_off(Arc::clone(&request), Reason::ClientTimeout));
                }
                if needs_watch {
                    self.follow(&request);
                }
            }
        }
    }

    /// Follows a request by a task of its own from here on.
    fn follow(self: &Arc<Self>, request: &Arc<OpenRequest>) {
        request.watch_by(|| {
            let (watch, request) = (Arc::clone(self), Arc::clone(request));
            let task = tokio::spawn(async move {
                let reason = match &request.authenticated {
                    Some(authenticated) => watch.follow_person(&request, authenticated).await,
                    None => watch.follow_anonymous(&request).await,
                };
                cut_off(request, reason).await;
            });
            task.abort_handle()
        });
    }

    /// Follows an anonymous request, until it is not admitted any more.
    async fn follow_anonymous(&self, request: &OpenRequest) -> Reason {
        let mut replaced = request.decided_by.replaced();
        loop {
            let current = self.replaced(&mut replaced).await;
            if let Err(reason) = request.request.review(&current, None, request.is_tunnel()) {
                return reason;
            }
        }
    }

    /// Follows a request and its session, until one of them does not admit it any more.
    async fn follow_person(&self, request: &OpenRequest, authenticated: &Authenticated) -> Reason {
        let mut replaced = request.decided_by.replaced();
        let mut lease = authenticated.lease().clone();
        let mut recheck_at = authenticated.recheck_at();
        let mut identity = authenticated.identity().clone();
        let user_at_start = authenticated.user().map(User::id);
        let mut user = authenticated.user().cloned();
        let credential =
            ReviewedCredential { decided_by: &request.decided_by, authenticated, place: request.credential };
        loop {
            let current = tokio::select! {
                () = lease.ended() => None,
                () = tokio::time::sleep(recheck_at.since(self.records.shared.clock.now())) => None,
                current = self.replaced(&mut replaced) => Some(current),
            };
            if current.is_none() {
                // A lease ends for other reasons as well, such as another session of the same
                // person.
                match self.look_up(authenticated).await {
                    Ok(checked) => CheckedSession { lease, recheck_at, identity, user, .. } = checked,
                    Err(error) => return Reason::Authentication(error),
                }
                // The backend was given a user at the start, and would go on to serve that user.
                if user_at_start.is_some() && user.as_ref().map(User::id) != user_at_start {
                    return Reason::UserChanged;
                }
            }
            // Also after a look-up: the person's unionid may be known now, or their claims may have
            // changed.
            let current = current.unwrap_or_else(|| self.current.load_full());
            let person = ReviewedPerson { identity: &identity, user: user.as_ref(), credential };
            if let Err(reason) = request.request.review(&current, Some(person), request.is_tunnel()) {
                return reason;
            }
        }
    }

    /// Waits until another configuration is in use; returns it.
    async fn replaced(&self, replaced: &mut Receiver<bool>) -> Arc<Current> {
        // If the sender is gone, the configuration was replaced as well.
        _ = replaced.wait_for(|is_replaced| *is_replaced).await;
        let current = self.current.load_full();
        *replaced = current.replaced();
        current
    }

    /// Looks the session up, for as long as a verdict stays valid.
    async fn look_up(&self, authenticated: &Authenticated) -> Result<CheckedSession, AuthnError> {
        let sessions = Arc::clone(&self.current.load().runtime().sessions);
        let subject = &authenticated.identity().subject;
        let answer = async {
            loop {
                match sessions.check(subject, authenticated.session(), self.records.shared.clock.now()).await
                {
                    Ok(checked) => return Ok(checked),
                    Err(SessionError::Ended) => return Err(AuthnError::SessionEnded),
                    Err(SessionError::Blocked) => return Err(AuthnError::Blocked),
                    Err(SessionError::Store(_) | SessionError::Internal(_)) => {
                        tokio::time::sleep(ASK_AGAIN_AFTER).await;
                    }
                }
            }
        };
        let longest = sessions.recheck_after();
        tokio::time::timeout(longest, answer).await.unwrap_or(Err(AuthnError::StoreUnavailable))
    }
}

/// Cuts a request off, and drops it if it does not end by that.
async fn cut_off(request: Arc<OpenRequest>, reason: Reason) {
    request.cut(reason);
    tokio::time::sleep(DROP_AFTER).await;
    request.drop_if_open();
}

impl WatchedRequest {
    /// The request itself.
    pub(super) fn request(&self) -> &OpenRequest {
        &self.request
    }

    /// Where what is said of it goes.
    pub(super) fn records(&self) -> &Records {
        &self.watch.records
    }

    /// Looks whether the request may go on. Called for each chunk that passes.
    ///
    /// # Errors
    /// Why the request was cut off.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if let Some(reason) = self.request.cut_reason() {
            return Err(reason);
        }
        if !self.request.is_undisputed() {
            self.follow();
        }
        Ok(())
    }

    /// Follows the request by a task from here on, however short it is so far.
    pub(super) fn follow(&self) {
        self.watch.follow(&self.request);
    }

    /// Notes a part of the request's body.
    pub(super) fn record_body(&self, length: usize, is_end: bool) {
        self.request.record_body(length, is_end, self.watch.now());
    }
}

impl Drop for WatchedRequest {
    fn drop(&mut self) {
        self.request.end();
        let Some(requests) = self.watch.shards.get(self.shard) else { return };
        let mut requests = requests.lock();
        let position = self.request.position.load(Ordering::Relaxed);
        if position < requests.len() {
            requests.swap_remove(position);
        }
        if let Some(moved) = requests.get(position) {
            moved.position.store(position, Ordering::Relaxed);
        }
    }
}
