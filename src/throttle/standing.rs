//! What the gateway knows about an address: whether users signed in from it lately, or only
//! failures came.
//!
//! It decides nothing by itself. While all clients together ask for more than a budget has, an
//! address from which users signed in comes before a new one, and a new one comes before one that
//! failed often. See [`super::global`].

use std::sync::Arc;
use std::time::Instant;

use super::client::Network;
use super::table::{Capacity, ClientTable};
use crate::clock::Clock;

/// How much one sign-in counts, against a failure.
const SIGN_IN: i16 = 4;
/// Most that sign-ins add up to: as many failures end the standing.
const MOST: i16 = 60;
/// Most that failures add up to, for one client.
const LEAST: i16 = -40;
/// Failures that an address may have and still count as new, for one client.
const ALLOWED: i16 = 5;
/// Seconds after which one failure is forgotten.
const FORGET_FAILURE: u32 = 30;
/// Seconds after the last sign-in from an address until it counts as new.
const FORGET_SIGN_INS: u32 = 24 * 3600;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Users signed in from it lately, or its request shows who its user is.
    Known,
    /// Little is known of it.
    New,
    /// It failed often, and no user signed in from it.
    Failing,
}

/// The standings of networks.
pub(super) struct Standings {
    table: ClientTable<Score>,
    clock: Arc<dyn Clock>,
    start: Instant,
}

#[derive(Clone, Copy, Default)]
struct Score {
    /// Above zero for sign-ins, below zero for failures.
    points: i16,
    /// When it changed last, in seconds since the start.
    at: u32,
}

impl Standings {
    pub(super) fn new(capacity: Capacity, clock: Arc<dyn Clock>) -> Self {
        Self { table: ClientTable::new(capacity), start: clock.instant(), clock }
    }

    /// The standing of a client, of whose networks the narrowest comes first.
    pub(super) fn of(&self, networks: &[Network]) -> Standing {
        let now = self.now();
        let points = |network: &Network| self.table.read(network.key).now(now);
        let fails = |network: &Network| points(network) < -allowed(network);
        match networks.first() {
            Some(own) if points(own) > 0 => Standing::Known,
            _ if networks.iter().any(fails) => Standing::Failing,
            _ => Standing::New,
        }
    }

    /// Counts a sign-in.
    pub(super) fn record_sign_in(&self, networks: &[Network]) {
        let now = self.now();
        for network in networks {
            self.table.update(
                network.key,
                |score| Some(score.worth(now)),
                |score| {
                    *score = Score { points: score.now(now).saturating_add(SIGN_IN).min(MOST), at: now };
                },
            );
        }
    }

    /// Counts a failure. Failures never replace an address from which users signed in.
    pub(super) fn record_failure(&self, networks: &[Network]) {
        let now = self.now();
        for network in networks {
            let worth = |score: &Score| (score.now(now) <= 0).then(|| score.worth(now));
            let least = LEAST.saturating_mul(share(network));
            self.table.update(network.key, worth, |score| {
                let points = score.now(now);
                // What sign-ins gave goes with their time, not with that of the last failure.
                let at = if points > 1 { score.at } else { now };
                *score = Score { points: points.saturating_sub(1).max(least), at };
            });
        }
    }

    /// Forgets failures.
    pub(super) fn forgive(&self, networks: &[Network]) {
        for network in networks {
            self.table.update_known(network.key, |score| score.points = score.points.max(0));
        }
    }

    fn now(&self) -> u32 {
        let elapsed = self.clock.instant().saturating_duration_since(self.start);
        u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX)
    }
}

impl Score {
    /// The points that are left at this second.
    fn now(self, second: u32) -> i16 {
        let passed = second.saturating_sub(self.at);
        if self.points > 0 {
            return if passed < FORGET_SIGN_INS { self.points } else { 0 };
        }
        let forgotten = i16::try_from(passed / FORGET_FAILURE).unwrap_or(i16::MAX);
        self.points.saturating_add(forgotten).min(0)
    }

    /// What a new address replaces first: an unknown one, then the one with the fewest failures,
    /// and last the one that signed in latest.
    fn worth(self, second: u32) -> (bool, u32) {
        match self.now(second) {
            points @ 1.. => (true, self.at.saturating_add(u32::from(points.unsigned_abs()))),
            points => (false, u32::from(points.unsigned_abs())),
        }
    }
}

fn allowed(network: &Network) -> i16 {
    ALLOWED.saturating_mul(share(network))
}

fn share(network: &Network) -> i16 {
    i16::try_from(network.share).unwrap_or(i16::MAX)
}
