//! Whether a read may be made where it is asked for, among the requests, or belongs on a thread that may wait.
//!
//! What is read lies in memory as a rule, redb's or the kernel's, and takes microseconds: less than it takes to hand the
//! read to another thread. A page that must come from the disk keeps everybody waiting who shares the thread. The kernel
//! counts what each thread has it read from disks, so that one such read is enough to send the next ones elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::clock::Clock;

/// For how many times as long as a read waited for the disk the next ones are made elsewhere: no more than this part
/// of a thread's time is lost that way.
const TIMES: u32 = 16;

/// Where reads are made at the moment.
pub(super) struct Patience {
    began: Instant,
    /// When reads may be made in place again, in nanoseconds after `began`.
    over: AtomicU64,
    /// What this thread has had read from disks so far.
    disk_reads: fn() -> i64,
}

impl Patience {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { began: clock.instant(), over: AtomicU64::new(0), disk_reads }
    }

    /// Whether a read may be made in place.
    pub(super) fn allows(&self, clock: &dyn Clock) -> bool {
        self.since_began(clock.instant()) >= self.over.load(Ordering::Relaxed)
    }

    /// Makes a read in place, and remembers if it went to the disk.
    pub(super) fn watch<T>(&self, clock: &dyn Clock, read: impl FnOnce() -> T) -> T {
        let (before, began) = ((self.disk_reads)(), clock.instant());
        let outcome = read();
        if (self.disk_reads)() != before {
            let now = clock.instant();
            let pause = now.saturating_duration_since(began).saturating_mul(TIMES);
            self.over.fetch_max(self.since_began(now).saturating_add(nanos(pause)), Ordering::Relaxed);
        }
        outcome
    }

    fn since_began(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.began))
    }
}

/// Whose reads are counted: the thread's, where the system tells threads apart, else the process's.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const COUNTED: UsageWho = UsageWho::RUSAGE_THREAD;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const COUNTED: UsageWho = UsageWho::RUSAGE_SELF;

/// `ru_inblock` of getrusage(2): 0 for good where the kernel does not count it, and reads are made in place.
fn disk_reads() -> i64 {
    getrusage(COUNTED).map_or(0, |usage| usage.block_reads())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::ManualClock;

    thread_local! {
        static READ: Cell<i64> = const { Cell::new(0) };
    }

    fn patience(clock: &ManualClock) -> Patience {
        Patience { disk_reads: || READ.get(), ..Patience::new(clock) }
    }

    #[test]
    fn a_read_from_disk_sends_the_next_ones_elsewhere_for_a_while() {
        let clock = ManualClock::start_now();
        let patience = patience(&clock);
        assert!(patience.allows(&clock));

        patience.watch(&clock, || {
            READ.set(READ.get() + 8);
            clock.advance(Duration::from_millis(5));
        });

        assert!(!patience.allows(&clock));
        clock.advance(Duration::from_millis(79));
        assert!(!patience.allows(&clock));
        clock.advance(Duration::from_millis(1));
        assert!(patience.allows(&clock));
    }

    #[test]
    fn a_read_from_memory_says_nothing_however_long_it_took() {
        let clock = ManualClock::start_now();
        let patience = patience(&clock);

        patience.watch(&clock, || clock.advance(Duration::from_millis(5)));

        assert!(patience.allows(&clock));
    }
}
