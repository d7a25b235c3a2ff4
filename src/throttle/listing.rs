//! The addresses that a limit refuses now: what an operator lists, and what the log names once.
//!
//! The tables of the limits hold hashes. This list holds names, of so many addresses at most.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Limit;
use super::client::NetworkName;
use crate::clock::{Clock, Timestamp};

/// Most addresses in the list. Further ones are refused all the same, and are in no list and no
/// log.
const CAPACITY: usize = 4096;
/// How long after the last refusal and its wait an address is no longer in the list.
const CALM: Duration = Duration::from_secs(60);

/// An address that a limit refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottledAddress {
    /// The IPv4 address, or the IPv6 network with its prefix.
    pub address: String,
    /// The limit.
    pub limit: Limit,
    /// When the limit began to refuse.
    pub since: Timestamp,
    /// How many requests it refused since then.
    pub refused: u64,
}

/// The list.
pub(super) struct Listing {
    entries: Mutex<HashMap<(NetworkName, Limit), ListEntry>>,
    clock: Arc<dyn Clock>,
}

struct ListEntry {
    since: Timestamp,
    until: Timestamp,
    refused: u64,
}

impl Listing {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { entries: Mutex::default(), clock }
    }

    /// Notes a refusal. Returns whether it is the first of a row of refusals.
    pub(super) fn note(&self, name: NetworkName, limit: Limit, wait: Duration) -> bool {
        let now = self.clock.now();
        let until = now.plus(wait).plus(CALM);
        let mut entries = self.entries.lock();
        if entries.len() >= CAPACITY && !entries.contains_key(&(name, limit)) {
            entries.retain(|_, entry| now < entry.until);
            if entries.len() >= CAPACITY {
                return false;
            }
        }
        match entries.entry((name, limit)) {
            Entry::Occupied(mut entry) if now < entry.get().until => {
                let entry = entry.get_mut();
                entry.refused = entry.refused.saturating_add(1);
                entry.until = entry.until.max(until);
                false
            }
            entry => {
                entry.insert_entry(ListEntry { since: now, until, refused: 1 });
                true
            }
        }
    }

    /// The addresses that are refused now, the one that was refused most first.
    pub(super) fn list(&self) -> Vec<ThrottledAddress> {
        let now = self.clock.now();
        let entries = self.entries.lock();
        let listed = entries.iter().filter(|(_, entry)| now < entry.until);
        let listed = listed.map(|((name, limit), entry)| ThrottledAddress {
            address: name.to_string(),
            limit: *limit,
            since: entry.since,
            refused: entry.refused,
        });
        let mut listed: Vec<ThrottledAddress> = listed.collect();
        drop(entries);
        listed.sort_by(|one, other| {
            (other.refused, &one.address, one.limit.as_str()).cmp(&(
                one.refused,
                &other.address,
                other.limit.as_str(),
            ))
        });
        listed
    }

    /// Removes a network. Returns how many entries it had.
    pub(super) fn remove(&self, name: NetworkName) -> usize {
        let mut entries = self.entries.lock();
        let before = entries.len();
        entries.retain(|(other, _), _| *other != name);
        before.saturating_sub(entries.len())
    }
}
