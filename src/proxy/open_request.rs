//! A request under way that may be cut off: what is known of it outside Pingora's phases, how far
//! its body has come, and why it was cut.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Version;
use parking_lot::Mutex;
use pingora::protocols::SocketDigest;
use tokio::task::AbortHandle;

use super::body::RATE_GRACE;
use super::break_off::BreakOff;
use super::credential::CredentialPlace;
use super::current::Current;
use super::reason::Reason;
use super::review::ReviewedRequest;
use crate::authn::Authenticated;
use crate::upstream::TunnelSwitch;

/// How often requests under way are looked at.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// A request that has lasted for so many ticks is watched by a task of its own.
const TICKS_UNTIL_WATCHED: u64 = 2;
/// So many bytes of a body find room on their way to a backend that does not read. Only after them
/// can a silent client be one that waits for the backend, which is then asked for at its socket.
const ROOM_ON_THE_WAY: u64 = 64 * 1024;

/// A request under way.
pub(super) struct OpenRequest {
    pub(super) request: ReviewedRequest,
    pub(super) version: Version,
    /// The configuration that permitted it.
    pub(super) decided_by: Arc<Current>,
    /// `None`: the request is anonymous.
    pub(super) authenticated: Option<Authenticated>,
    /// Where the caller's credential stood.
    pub(super) credential: CredentialPlace,
    /// `None` if it has no body to wait for.
    body: Option<AwaitedBody>,
    break_off: Option<BreakOff>,
    tunnel: OnceLock<TunnelSwitch>,
    cut_reason: OnceLock<Reason>,
    is_watched: AtomicBool,
    life: Mutex<Life>,
    opened_at: u64,
    /// Where it stands among those that are looked at.
    pub(super) position: AtomicUsize,
}

/// How far a request has come with regard to its watch.
#[derive(Debug, Default)]
enum Life {
    /// It is short so far.
    #[default]
    Unwatched,
    /// A task watches it.
    Watched(AbortHandle),
    /// It has ended, and its connection may serve another.
    Over,
}

/// The body of a request, until it has arrived or the backend has begun to answer.
///
/// From then on the backend decides how long it waits: a stream of gRPC may be silent for long.
#[derive(Debug)]
pub(super) struct AwaitedBody {
    /// `None` if Pingora measures the silence.
    longest_silence: Option<LongestSilence>,
    /// Least bytes a second.
    least_rate: u64,
    received: AtomicU64,
    /// When a part of it was received last, or when the backend was last seen not to accept what it
    /// was sent.
    moved_at: AtomicU64,
    /// The connection to a backend of HTTP/1.
    backend: OnceLock<Arc<SocketDigest>>,
    wait: AtomicU8,
}

/// The client waits for the backend's `100 Continue`.
const NOT_YET_AWAITED: u8 = 0;
/// The client is to send.
const AWAITED: u8 = 1;
/// The body is whole, or the backend has begun to answer.
const AWAITED_NO_LONGER: u8 = 2;

/// The longest silence of a client that sends a body, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongestSilence {
    of_client: u64,
    /// If the client may have to wait for the backend, and it cannot be seen whether it does.
    of_backend: u64,
}

impl LongestSilence {
    /// Of a client, and of a backend that does not accept data.
    pub(super) fn new(of_client: Duration, of_backend: Duration) -> Self {
        let ticks =
            |time: Duration| u64::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX);
        Self { of_client: ticks(of_client), of_backend: ticks(of_backend) }
    }
}

impl AwaitedBody {
    pub(super) const fn new(longest_silence: Option<LongestSilence>, least_rate: u64, now: u64) -> Self {
        Self {
            longest_silence,
            least_rate,
            received: AtomicU64::new(0),
            moved_at: AtomicU64::new(now),
            backend: OnceLock::new(),
            wait: AtomicU8::new(AWAITED),
        }
    }

    /// The same, of a client that first waits for the backend's `100 Continue`.
    pub(super) fn after_continue(self) -> Self {
        Self { wait: AtomicU8::new(NOT_YET_AWAITED), ..self }
    }

    fn is_overdue(&self, opened_at: u64, now: u64) -> bool {
        if self.wait.load(Ordering::Relaxed) != AWAITED {
            return false;
        }
        let received = self.received.load(Ordering::Relaxed);
        if self.longest_silence.is_some_and(|longest| self.is_silent(longest, received, now)) {
            return true;
        }
        // One second more than when a chunk arrives: a body that trickles is refused by its chunks,
        // and its client then gets an answer in every case.
        let elapsed = TICK.as_millis() as u64 * now.saturating_sub(opened_at) / 1000;
        let seconds = elapsed.saturating_sub(1);
        seconds > RATE_GRACE.as_secs() && received < self.least_rate.saturating_mul(seconds)
    }

    /// Whether the client has said nothing for too long, and does not wait for the backend.
    fn is_silent(&self, longest: LongestSilence, received: u64, now: u64) -> bool {
        let silence = now.saturating_sub(self.moved_at.load(Ordering::Relaxed));
        if silence <= longest.of_client {
            return false;
        }
        if received < ROOM_ON_THE_WAY {
            return true;
        }
        match self.backend.get().and_then(|socket| socket.tcp_info()) {
            Some(tcp) if tcp.tcpi_unacked != 0 || tcp.tcpi_notsent_bytes != 0 => {
                // Pingora itself gives up a backend that accepts nothing.
                self.moved_at.store(now, Ordering::Relaxed);
                false
            }
            Some(_) => true,
            None => silence > longest.of_backend,
        }
    }
}

impl OpenRequest {
    pub(super) fn new(
        request: ReviewedRequest,
        version: Version,
        decided_by: Arc<Current>,
        (authenticated, credential): (Option<Authenticated>, CredentialPlace),
        body: Option<AwaitedBody>,
        opened_at: u64,
    ) -> Self {
        Self {
            request,
            version,
            decided_by,
            authenticated,
            credential,
            body,
            break_off: BreakOff::of_request(),
            tunnel: OnceLock::new(),
            cut_reason: OnceLock::new(),
            is_watched: AtomicBool::new(false),
            life: Mutex::default(),
            opened_at,
            position: AtomicUsize::new(0),
        }
    }

    /// From here on the request is a tunnel.
    pub(super) fn become_tunnel(&self, switch: &TunnelSwitch) {
        self.tunnel.get_or_init(|| switch.clone());
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.get().is_some()
    }

    /// Why the request was cut off, if it was.
    pub(super) fn cut_reason(&self) -> Option<Reason> {
        self.cut_reason.get().copied()
    }

    /// Whether nothing is known that could end the request, as far as two loads tell; its watch
    /// knows more.
    pub(super) fn is_undisputed(&self) -> bool {
        self.is_watched.load(Ordering::Acquire)
            || !self.decided_by.is_retired()
                && self.authenticated.as_ref().is_none_or(|authenticated| authenticated.lease().is_current())
    }

    /// Whether a task is to watch it from now on: it has lasted for long, and its session may end.
    /// Without a caller only a reload can end it.
    pub(super) fn needs_watch(&self, now: u64) -> bool {
        let is_long = || now.saturating_sub(self.opened_at) >= TICKS_UNTIL_WATCHED;
        !self.is_watched.load(Ordering::Acquire)
            && (self.decided_by.is_retired() || self.authenticated.is_some() && is_long())
    }

    /// Notes a part of the body.
    pub(super) fn record_body(&self, length: usize, is_end: bool, now: u64) {
        let Some(body) = &self.body else { return };
        body.received.fetch_add(length as u64, Ordering::Relaxed);
        body.moved_at.store(now, Ordering::Relaxed);
        // Unless it is awaited no longer.
        _ = body.wait.compare_exchange(NOT_YET_AWAITED, AWAITED, Ordering::Relaxed, Ordering::Relaxed);
        if is_end {
            self.await_no_body();
        }
    }

    /// Notes the connection to a backend of HTTP/1, if the client's silence is measured here.
    pub(super) fn record_backend(&self, socket: Option<&Arc<SocketDigest>>) {
        if let (Some(body), Some(socket)) = (&self.body, socket)
            && body.longest_silence.is_some()
        {
            // A body of which so much has come that this matters is not sent to another backend.
            body.backend.get_or_init(|| Arc::clone(socket));
        }
    }

    /// Lets the rest of the body come as it likes: the backend answers already.
    pub(super) fn await_no_body(&self) {
        if let Some(body) = &self.body {
            body.wait.store(AWAITED_NO_LONGER, Ordering::Relaxed);
        }
    }

    /// Whether the client does not send the body, and nothing was done about it yet.
    pub(super) fn body_is_overdue(&self, now: u64) -> bool {
        let Some(body) = &self.body else { return false };
        self.cut_reason.get().is_none() && body.is_overdue(self.opened_at, now)
    }

    /// Has a task watch the request, unless one does or the request is over.
    pub(super) fn watch_by(&self, start: impl FnOnce() -> AbortHandle) {
        let mut life = self.life.lock();
        if matches!(*life, Life::Unwatched) {
            *life = Life::Watched(start());
            self.is_watched.store(true, Ordering::Release);
        }
    }

    /// Cuts the request off, unless it is over. The first reason counts.
    pub(super) fn cut(&self, reason: Reason) {
        let life = self.life.lock();
        if matches!(*life, Life::Over) {
            return;
        }
        self.cut_reason.get_or_init(|| reason);
        if let Some(tunnel) = self.tunnel.get() {
            tunnel.cut();
        }
        if let Some(break_off) = &self.break_off {
            break_off.fail_reads();
        }
    }

    /// Drops a request that was cut off and goes on all the same.
    pub(super) fn drop_if_open(&self) {
        let life = self.life.lock();
        if let (Some(break_off), false) = (&self.break_off, matches!(*life, Life::Over)) {
            break_off.drop_request();
        }
    }

    /// Ends the watch: the request is over.
    pub(super) fn end(&self) {
        let life = std::mem::replace(&mut *self.life.lock(), Life::Over);
        if let Life::Watched(task) = life {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(seconds: u64) -> u64 {
        seconds * 1000 / TICK.as_millis() as u64
    }

    fn silence(of_client: u64, of_backend: u64) -> Option<LongestSilence> {
        Some(LongestSilence::new(Duration::from_secs(of_client), Duration::from_secs(of_backend)))
    }

    #[test]
    fn a_silent_body_is_overdue_and_one_that_goes_on_is_not() {
        let body = AwaitedBody::new(silence(30, 60), 0, 0);

        assert!(!body.is_overdue(0, ticks(30)));
        assert!(body.is_overdue(0, ticks(30) + 1));
        body.moved_at.store(ticks(20), Ordering::Relaxed);
        assert!(!body.is_overdue(0, ticks(50)));
        assert!(body.is_overdue(0, ticks(51)));
    }

    /// As with a backend of HTTP/2.
    #[test]
    fn a_client_that_may_wait_for_the_backend_is_silent_for_as_long_as_the_backend_may_be() {
        for (of_backend, longest) in [(60, 60), (10, 30)] {
            let body = AwaitedBody::new(silence(30, of_backend), 0, 0);
            body.received.store(ROOM_ON_THE_WAY, Ordering::Relaxed);

            assert!(!body.is_overdue(0, ticks(longest)), "{of_backend}");
            assert!(body.is_overdue(0, ticks(longest) + 1), "{of_backend}");
        }
    }

    #[test]
    fn a_body_is_overdue_if_its_rate_is_too_low_though_nothing_arrives() {
        let body = AwaitedBody::new(None, 100, 0);

        assert!(!body.is_overdue(0, ticks(11)));
        assert!(body.is_overdue(0, ticks(12)));
        body.received.store(10_000, Ordering::Relaxed);
        assert!(!body.is_overdue(0, ticks(101)));
        assert!(body.is_overdue(0, ticks(102)));
        assert!(!AwaitedBody::new(None, 0, 0).is_overdue(0, ticks(100)), "no rate is asked for");
    }

    #[test]
    fn a_body_that_is_awaited_no_longer_or_not_yet_is_never_overdue() {
        let body = AwaitedBody::new(silence(30, 30), 100, 0);
        body.wait.store(AWAITED_NO_LONGER, Ordering::Relaxed);

        assert!(!body.is_overdue(0, ticks(1000)));
        assert!(!AwaitedBody::new(None, 100, 0).after_continue().is_overdue(0, ticks(1000)));
    }
}
