//! How a request under way is ended from outside, whatever it waits for.
//!
//! Pingora has no way to do it. So the guard runs each request under a [`BreakOff`], and what
//! decides that the request may not go on first fails the reads of its client, which Pingora takes
//! for a failure of the request like any other: it is answered and logged. If that does not end it
//! either, the request is dropped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

tokio::task_local! {
    /// Of the request that the task serves.
    static OF_REQUEST: BreakOff;
}

/// Nothing is to end.
const GOES_ON: u8 = 0;
/// Reads of the client fail.
const READS_FAIL: u8 = 1;
/// The request is dropped.
const DROPPED: u8 = 2;

/// Ends a request that does not notice anything else.
#[derive(Clone, Debug, Default)]
pub(super) struct BreakOff(Arc<BreakOffState>);

#[derive(Debug, Default)]
struct BreakOffState {
    stage: AtomicU8,
    reader: AtomicWaker,
    request: AtomicWaker,
}

impl BreakOff {
    /// That of the request which this task serves; `None` in tests.
    pub(super) fn of_request() -> Option<Self> {
        OF_REQUEST.try_with(Self::clone).ok()
    }

    /// Runs a request to its end, or until it is dropped.
    pub(super) async fn run<T>(&self, request: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::select! {
            biased;
            answered = OF_REQUEST.scope(self.clone(), request) => answered,
            () = self.dropped() => None,
        }
    }

    /// Fails the reads of the client. A client of HTTP/1 is read all the time.
    pub(super) fn fail_reads(&self) {
        self.0.stage.fetch_max(READS_FAIL, Ordering::AcqRel);
        self.0.reader.wake();
    }

    /// Drops the request: its client gets no answer, or no more of it.
    pub(super) fn drop_request(&self) {
        self.0.stage.store(DROPPED, Ordering::Release);
        self.0.request.wake();
    }

    /// Lets the next request of the connection go on.
    pub(super) fn reset(&self) {
        self.0.stage.store(GOES_ON, Ordering::Release);
    }

    /// Fails if reads are to fail; otherwise wakes the task when they are. The waker is registered
    /// before the check, so that nothing in between is missed.
    pub(super) fn check_reads(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.reader.register(cx.waker());
        if self.0.stage.load(Ordering::Acquire) == GOES_ON {
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }

    async fn dropped(&self) {
        std::future::poll_fn(|cx| {
            self.0.request.register(cx.waker());
            if self.0.stage.load(Ordering::Acquire) == DROPPED { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_runs_to_its_end_or_is_dropped_whatever_it_waits_for() {
        let break_off = BreakOff::default();
        assert_eq!(break_off.run(ready(Some(1))).await, Some(1));
        {
            let mut stuck = pin!(break_off.run(pending::<Option<i32>>()));
            assert!(stuck.as_mut().now_or_never().is_none(), "it goes on");
            break_off.fail_reads();
            assert!(stuck.as_mut().now_or_never().is_none(), "only its reads fail");
            break_off.drop_request();
            assert_eq!(stuck.await, None);
        }
        break_off.reset();
        assert_eq!(break_off.run(ready(Some(2))).await, Some(2), "the next request goes on");
    }

    #[tokio::test]
    async fn a_request_finds_its_own() {
        let break_off = BreakOff::default();
        assert!(BreakOff::of_request().is_none());

        let found = break_off.run(async { BreakOff::of_request() }).await.unwrap();

        assert!(Arc::ptr_eq(&found.0, &break_off.0));
    }
}
