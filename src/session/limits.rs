//! How long a session lives, as the configuration says, and how often that it was used is written down.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config;

/// The shortest time after which a use is noted anew.
const SHORTEST_NOTE: Duration = Duration::from_secs(1);
/// Nodes' clocks differ: a row outlives its last session by this.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) lifetime: Duration,
    pub(super) max_per_subject: usize,
    pub(super) eviction_delay: Duration,
    pub(super) refresh_grace: Duration,
    /// How long a verdict is believed. At most half the idle timeout: a client that is always there must be looked up
    /// while its session still goes on.
    pub(super) recheck_after: Duration,
    /// A use is written down when the last one that was is older.
    pub(super) note_after: Duration,
    /// How long a session goes on after the last use that was written down.
    idle: Duration,
}

impl Limits {
    pub(super) fn new(config: &config::Sessions) -> Self {
        let idle_timeout = *config.idle_timeout;
        let recheck_after = (*config.recheck_after).min(idle_timeout / 2);
        // A use may go unnoted for `note_after` because it is too soon for a write, and then for `recheck_after` because
        // nobody asks. What is added to the idle timeout covers both, so that no session idles out early.
        let unnoted = (idle_timeout / 16).max(SHORTEST_NOTE).max(2 * recheck_after);
        Self {
            lifetime: *config.lifetime,
            max_per_subject: usize::try_from(config.max_per_subject).unwrap_or(usize::MAX),
            eviction_delay: *config.eviction_delay,
            refresh_grace: *config.refresh_grace,
            recheck_after,
            note_after: unnoted.saturating_sub(recheck_after),
            idle: idle_timeout.saturating_add(unnoted),
        }
    }

    /// When a session ends that was last seen then.
    pub(super) fn idle_end(&self, last_seen_at: Timestamp) -> Timestamp {
        last_seen_at.plus(self.idle)
    }

    /// Most sessions a row lists, ending ones among them.
    pub(super) fn most_listed(&self) -> usize {
        self.max_per_subject.saturating_mul(2).saturating_add(8)
    }

    /// When a row may go whose last session ends then.
    pub(super) fn row_end(&self, sessions_end: Timestamp) -> Timestamp {
        sessions_end.plus(CLOCK_MARGIN)
    }

    /// How long a unionid lists a subject beyond the end of its session, so that few logins rewrite the list.
    pub(super) fn listing_slack(&self) -> Duration {
        self.lifetime / 8 + CLOCK_MARGIN
    }
}
