//! Lock-outs after failures. Each further failure doubles the lock-out, up to the longest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::ClientKey;
use super::table::{Capacity, ClientTable};
use crate::clock::Clock;
use crate::config::{FailedLoginLimit, Findings};

/// How many failures are allowed, and how long a client is locked out after more.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockoutPolicy {
    allowed: u32,
    lockout: Duration,
    max_lockout: Duration,
    forget_after: Duration,
}

impl LockoutPolicy {
    /// Reads the section `path` of the configuration.
    pub(super) fn build(config: &FailedLoginLimit, path: &str, findings: &mut Findings) -> Option<Self> {
        let FailedLoginLimit { allowed, lockout, max_lockout, forget_after } = config;
        let mut sound = true;
        let mut must = |holds: bool, key: &str, reason: String, hint: String| {
            sound &= holds;
            if !holds {
                findings.error(format!("{path}.{key}"), reason).hint(hint);
            }
        };
        must(
            *allowed >= 1,
            "allowed",
            "the first failure would lock a client out".into(),
            "write a number from 1".into(),
        );
        must(
            !lockout.is_zero(),
            "lockout",
            format!("a lock-out of {lockout} has no effect"),
            "write a duration such as `10s`".into(),
        );
        must(
            max_lockout >= lockout,
            "max_lockout",
            format!("{max_lockout} is shorter than the first lock-out, `lockout: {lockout}`"),
            format!("write `{lockout}` or longer"),
        );
        // If a failure were forgotten before its lock-out ends, the lock-outs would never double.
        must(
            forget_after >= max_lockout,
            "forget_after",
            format!("{forget_after} is shorter than the longest lock-out, `max_lockout: {max_lockout}`"),
            format!("write `{max_lockout}` or longer"),
        );
        sound.then_some(Self {
            allowed: *allowed,
            lockout: lockout.0,
            max_lockout: max_lockout.0,
            forget_after: forget_after.0,
        })
    }

    /// When the lock-out of these failures ends; zero when there is none.
    fn locked_until(&self, failures: &Failures) -> Moment {
        let Some(doublings) = failures.count.saturating_sub(self.allowed).checked_sub(1) else {
            return Moment(0);
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        failures.last.plus(self.lockout.saturating_mul(factor).min(self.max_lockout))
    }

    fn is_forgotten(&self, failures: &Failures, now: Moment) -> bool {
        failures.count == 0 || failures.last.plus(self.forget_after) <= now
    }

    /// How early a new client replaces these failures in the table: forgotten ones first, then the
    /// fewest and oldest. So new clients replace each other, and not an attacker.
    fn worth(&self, failures: &Failures, now: Moment) -> (u32, Moment) {
        if self.is_forgotten(failures, now) { (0, Moment(0)) } else { (failures.count, failures.last) }
    }
}

/// The failures of each client.
pub(super) struct Lockouts {
    policy: LockoutPolicy,
    table: ClientTable<Failures>,
    clock: Arc<dyn Clock>,
    start: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    last: Moment,
}

/// Nanoseconds since the start; an `Instant` takes twice the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Moment {
    fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn until(self, later: Self) -> Option<Duration> {
        later.0.checked_sub(self.0).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

impl Lockouts {
    pub(super) fn new(policy: LockoutPolicy, capacity: Capacity, clock: Arc<dyn Clock>) -> Self {
        Self { policy, table: ClientTable::new(capacity), start: clock.instant(), clock }
    }

    /// How long the client is still locked out, if it is.
    pub(super) fn remaining(&self, client: ClientKey) -> Option<Duration> {
        let now = self.now();
        let failures = self.table.read(client);
        now.until(self.policy.locked_until(&failures))
    }

    /// Counts a failure.
    pub(super) fn record_failure(&self, client: ClientKey) {
        let now = self.now();
        let worth = |failures: &Failures| Some(self.policy.worth(failures, now));
        self.table.update(client, worth, |failures| {
            if now < self.policy.locked_until(failures) {
                // This login passed before the lock-out began. Failures at the same time double the
                // lock-out only once.
                return;
            }
            let count = if self.policy.is_forgotten(failures, now) { 0 } else { failures.count };
            *failures = Failures { count: count.saturating_add(1), last: now };
        });
    }

    /// Removes one failure, unless the client is locked out now.
    pub(super) fn record_success(&self, client: ClientKey) {
        let now = self.now();
        self.table.update_known(client, |failures| {
            if now >= self.policy.locked_until(failures) {
                failures.count = failures.count.saturating_sub(1);
            }
        });
    }

    /// Forgets the failures of a client.
    pub(super) fn clear(&self, client: ClientKey) {
        self.table.update_known(client, |failures| *failures = Failures::default());
    }

    fn now(&self) -> Moment {
        Moment(0).plus(self.clock.instant().saturating_duration_since(self.start))
    }
}
