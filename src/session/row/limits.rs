//! How long a session lives by the configuration, and how often its use is written down.

use std::time::Duration;

use crate::address::NetworkPrefix;
use crate::clock::Timestamp;
use crate::config;

/// The shortest time between two writes of a session's last use.
const SHORTEST_USE_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer a row lives than its last session, because the clocks of the nodes differ.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// The section `sessions`, as durations that the code needs.
#[derive(Clone, Copy)]
pub(in crate::session) struct SessionLimits {
    pub(in crate::session) lifetime: Duration,
    pub(in crate::session) max_per_subject: usize,
    pub(in crate::session) eviction_delay: Duration,
    pub(in crate::session) refresh_grace: Duration,
    /// How much of its address a client must keep in a retry.
    pub(in crate::session) retry_network: NetworkPrefix,
    /// How long a verdict is believed. At most half the idle timeout: the session of a client that
    /// sends requests all the time must be looked up before it idles out.
    pub(in crate::session) recheck_after: Duration,
    /// A use is written down if the last written use is older than this.
    pub(in crate::session) use_interval: Duration,
    /// How long a session lives after the last use that was written down.
    idle: Duration,
}

impl SessionLimits {
    pub(in crate::session) fn new(config: &config::Sessions) -> Self {
        let idle_timeout = *config.idle_timeout;
        let recheck_after = (*config.recheck_after).min(idle_timeout / 2);
        // A use may stay unwritten for `use_interval`, because a write would come too soon, and
        // then for `recheck_after`, because no request looks the session up. The idle timeout is
        // lengthened by both, so that no session idles out early.
        let unwritten = (idle_timeout / 16).max(SHORTEST_USE_INTERVAL).max(2 * recheck_after);
        Self {
            lifetime: *config.lifetime,
            max_per_subject: usize::try_from(config.max_per_subject).unwrap_or(usize::MAX),
            eviction_delay: *config.eviction_delay,
            refresh_grace: *config.refresh_grace,
            retry_network: NetworkPrefix {
                ipv4: config.retry_network.ipv4_prefix,
                ipv6: config.retry_network.ipv6_prefix,
            },
            recheck_after,
            use_interval: unwritten.saturating_sub(recheck_after),
            idle: idle_timeout.saturating_add(unwritten),
        }
    }

    /// When a session ends that was last seen at this instant.
    pub(in crate::session) fn idle_end(&self, last_seen_at: Timestamp) -> Timestamp {
        last_seen_at.plus(self.idle)
    }

    /// Most sessions in a row, evicted ones included.
    pub(in crate::session) fn most_entries(&self) -> usize {
        self.max_per_subject.saturating_mul(2).saturating_add(8)
    }

    /// When the store may drop a row whose last session ends at this instant.
    pub(in crate::session) fn row_end(&self, sessions_end: Timestamp) -> Timestamp {
        row_end(sessions_end)
    }

    /// How long a unionid lists a subject beyond the end of its session, so that few sign-ins
    /// rewrite the list.
    pub(in crate::session) fn membership_slack(&self) -> Duration {
        self.lifetime / 8 + CLOCK_MARGIN
    }
}

/// When the store may drop a row whose last session ends at this instant.
pub(in crate::session) fn row_end(sessions_end: Timestamp) -> Timestamp {
    sessions_end.plus(CLOCK_MARGIN)
}
