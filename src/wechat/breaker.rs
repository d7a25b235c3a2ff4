//! Decides when not to call WeChat for an app: after failures in a row, or at once if the app is
//! misconfigured.
//!
//! Closed: every call passes. Open: no call passes until the time is up. Then half open: one call
//! is the trial, and its result closes the breaker or opens it again. If the trial is cancelled,
//! the next call is the trial.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntGauge;

/// One app's breaker.
pub(super) struct Breaker {
    failures: u32,
    open_for: Duration,
    state: Mutex<BreakerState>,
    gauge: IntGauge,
}

#[derive(Clone, Copy, Debug)]
enum BreakerState {
    Closed { failures: u32 },
    Open { until: Instant, cause: BreakerCause },
    HalfOpen { cause: BreakerCause },
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerCause {
    /// Calls failed in a row.
    Failures,
    /// WeChat does not know the app or its secret.
    Misconfigured { errcode: i64 },
}

/// What a call's result says about WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallVerdict {
    Succeeded,
    Failed,
    Misconfigured { errcode: i64 },
}

/// A call that the breaker refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BreakerRefusal {
    pub(super) cause: BreakerCause,
    /// How long until a call may pass.
    pub(super) retry_after: Duration,
}

impl Breaker {
    /// Makes a closed breaker.
    pub(super) fn new(failures: u32, open_for: Duration, gauge: IntGauge) -> Self {
        let breaker =
            Self { failures, open_for, state: Mutex::new(BreakerState::Closed { failures: 0 }), gauge };
        breaker.set(&mut breaker.state.lock(), BreakerState::Closed { failures: 0 });
        breaker
    }

    /// Permits a call, or returns why it is refused.
    pub(super) fn acquire(&self, now: Instant) -> Result<BreakerPermit<'_>, BreakerRefusal> {
        let mut state = self.state.lock();
        match *state {
            BreakerState::Closed { .. } => Ok(BreakerPermit { breaker: self, trial: None }),
            BreakerState::Open { until, cause } if now < until => {
                Err(BreakerRefusal { cause, retry_after: until.saturating_duration_since(now) })
            }
            BreakerState::Open { until, cause } => {
                self.set(&mut state, BreakerState::HalfOpen { cause });
                Ok(BreakerPermit { breaker: self, trial: Some(Trial { until, cause }) })
            }
            BreakerState::HalfOpen { cause } => Err(BreakerRefusal { cause, retry_after: self.open_for }),
        }
    }

    fn set(&self, state: &mut BreakerState, new: BreakerState) {
        *state = new;
        self.gauge.set(match new {
            BreakerState::Closed { .. } => 0,
            BreakerState::HalfOpen { .. } => 1,
            BreakerState::Open { .. } => 2,
        });
    }
}

/// A permit for one call. The caller must record its result; otherwise a trial counts as not made.
pub(super) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    trial: Option<Trial>,
}

/// The state that the breaker returns to if the trial is cancelled.
#[derive(Clone, Copy)]
struct Trial {
    until: Instant,
    cause: BreakerCause,
}

impl BreakerPermit<'_> {
    /// Records the call's result.
    pub(super) fn record(mut self, verdict: CallVerdict, now: Instant) {
        let breaker = self.breaker;
        let is_trial = self.trial.take().is_some();
        let mut state = breaker.state.lock();
        let failures = match *state {
            BreakerState::Closed { failures } => failures,
            // A call that started before the breaker opened does not count; the trial's result
            // decides.
            _ if !is_trial => return,
            _ => breaker.failures,
        };

        let until = now + breaker.open_for;
        let new = match verdict {
            CallVerdict::Succeeded => BreakerState::Closed { failures: 0 },
            CallVerdict::Misconfigured { errcode } => {
                BreakerState::Open { until, cause: BreakerCause::Misconfigured { errcode } }
            }
            CallVerdict::Failed if failures.saturating_add(1) >= breaker.failures => {
                BreakerState::Open { until, cause: BreakerCause::Failures }
            }
            CallVerdict::Failed => BreakerState::Closed { failures: failures.saturating_add(1) },
        };
        breaker.set(&mut state, new);
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if let Some(Trial { until, cause }) = self.trial.take() {
            let mut state = self.breaker.state.lock();
            self.breaker.set(&mut state, BreakerState::Open { until, cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};

    const OPEN_FOR: Duration = Duration::from_secs(5);

    fn breaker(failures: u32) -> (Breaker, ManualClock) {
        let gauge = IntGauge::new("state", "state").unwrap();
        (Breaker::new(failures, OPEN_FOR, gauge), ManualClock::start_now())
    }

    fn call(breaker: &Breaker, clock: &ManualClock, verdict: CallVerdict) {
        breaker
            .acquire(clock.instant())
            .unwrap_or_else(|refusal| panic!("{refusal:?}"))
            .record(verdict, clock.instant());
    }

    fn refusal(breaker: &Breaker, clock: &ManualClock) -> Option<BreakerRefusal> {
        breaker.acquire(clock.instant()).err()
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_resets_the_count() {
        let (breaker, clock) = breaker(3);

        for verdict in [
            CallVerdict::Failed,
            CallVerdict::Failed,
            CallVerdict::Succeeded,
            CallVerdict::Failed,
            CallVerdict::Failed,
        ] {
            call(&breaker, &clock, verdict);
        }
        assert_eq!(breaker.gauge.get(), 0);
        call(&breaker, &clock, CallVerdict::Failed);

        assert_eq!(breaker.gauge.get(), 2);
        assert_eq!(
            refusal(&breaker, &clock),
            Some(BreakerRefusal { cause: BreakerCause::Failures, retry_after: OPEN_FOR })
        );
    }

    #[test]
    fn misconfiguration_opens_it_at_once_and_keeps_its_cause() {
        let (breaker, clock) = breaker(10);

        call(&breaker, &clock, CallVerdict::Misconfigured { errcode: 40125 });
        clock.advance(Duration::from_secs(2));

        let cause = BreakerCause::Misconfigured { errcode: 40125 };
        assert_eq!(
            refusal(&breaker, &clock),
            Some(BreakerRefusal { cause, retry_after: Duration::from_secs(3) })
        );
    }

    #[test]
    fn one_trial_is_made_after_the_open_time_and_its_success_closes_it() {
        let (breaker, clock) = breaker(1);
        call(&breaker, &clock, CallVerdict::Failed);
        clock.advance(OPEN_FOR);

        let trial = breaker.acquire(clock.instant()).ok().unwrap();
        assert_eq!(breaker.gauge.get(), 1);
        assert!(refusal(&breaker, &clock).is_some(), "a second call during the trial");
        trial.record(CallVerdict::Succeeded, clock.instant());

        assert_eq!(breaker.gauge.get(), 0);
        assert_eq!(refusal(&breaker, &clock), None);
    }

    #[test]
    fn failed_trial_opens_it_for_the_whole_time_again() {
        let (breaker, clock) = breaker(7);
        call(&breaker, &clock, CallVerdict::Misconfigured { errcode: 40013 });
        clock.advance(OPEN_FOR);

        call(&breaker, &clock, CallVerdict::Failed);

        assert_eq!(
            refusal(&breaker, &clock),
            Some(BreakerRefusal { cause: BreakerCause::Failures, retry_after: OPEN_FOR })
        );
    }

    #[test]
    fn cancelled_trial_leaves_the_trial_to_the_next_call() {
        let (breaker, clock) = breaker(1);
        call(&breaker, &clock, CallVerdict::Failed);
        clock.advance(OPEN_FOR);

        drop(breaker.acquire(clock.instant()).ok().unwrap());

        assert_eq!(breaker.gauge.get(), 2);
        call(&breaker, &clock, CallVerdict::Succeeded);
        assert_eq!(breaker.gauge.get(), 0);
    }

    #[test]
    fn late_result_from_before_it_opened_changes_nothing() {
        for late in
            [CallVerdict::Succeeded, CallVerdict::Failed, CallVerdict::Misconfigured { errcode: 40013 }]
        {
            let (breaker, clock) = breaker(1);
            let early = breaker.acquire(clock.instant()).ok().unwrap();
            call(&breaker, &clock, CallVerdict::Failed);
            clock.advance(Duration::from_secs(1));

            early.record(late, clock.instant());

            let retry_after = Duration::from_secs(4);
            assert_eq!(
                refusal(&breaker, &clock),
                Some(BreakerRefusal { cause: BreakerCause::Failures, retry_after }),
                "{late:?}"
            );
        }
    }
}
