//! The limit on how often one session asks who it is.
//!
//! It is counted by session: a client that asks too often affects no other session.

use std::sync::Arc;
use std::time::Duration;

use super::client::NameKeys;
use super::rate::{self, ClientRate};
use super::table::Capacity;
use crate::clock::Clock;
use crate::config::{Findings, LoginLimit};
use crate::entropy::Entropy;

/// One rate for each session.
pub(super) struct SessionRate {
    keys: NameKeys,
    rate: ClientRate,
}

impl SessionRate {
    pub(super) fn build(
        config: &LoginLimit,
        capacity: Option<Capacity>,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        let quota = rate::quota(config, "throttle.session", findings);
        let keys = NameKeys::new(entropy)
            .map_err(|error| findings.error("throttle.session", format!("the table needs a key: {error}")));
        Some(Self { keys: keys.ok()?, rate: ClientRate::new(quota?, capacity?, clock) })
    }

    /// Takes one token from a session's bucket, or returns the wait until the next one.
    pub(super) fn check(&self, session: &str) -> Result<(), Duration> {
        self.rate.check(self.keys.key(&[session])).map(drop)
    }

    /// As [`SessionRate::check`], from a bucket that only this purpose takes from.
    pub(super) fn check_apart(&self, purpose: &str, session: &str) -> Result<(), Duration> {
        self.rate.check(self.keys.key(&[purpose, session])).map(drop)
    }
}
