//! A map from clients to their counts, in memory of fixed size.
//!
//! The map is an array of small sets; a client's key selects its set. If all places of a set are
//! taken, a new client replaces the client whose count is worth least. Clients that owe much are
//! worth most, so new clients replace each other and not an offender. A client that finds no place
//! counts as unknown: it is never refused because of other clients. An attacker with more addresses
//! than the map has places is bounded by the limits of all clients together.

use std::num::NonZeroUsize;

use parking_lot::Mutex;

use super::client::ClientKey;
use crate::config::Findings;

/// Places of one set. With half of all places taken, a set is full once in about 300.
const PLACES: usize = 16;

/// Fewest and most clients that a table may be configured for; the most takes about 0.7 GiB.
const CAPACITY: std::ops::RangeInclusive<usize> = 1024..=16_777_216;

/// How many clients a table holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity(NonZeroUsize);

impl Capacity {
    /// The smallest capacity, for tables with few entries, such as apps.
    pub(super) const LEAST: Self = Self(NonZeroUsize::new(*CAPACITY.start()).unwrap());

    pub(super) fn build(clients: usize, findings: &mut Findings) -> Option<Self> {
        if !CAPACITY.contains(&clients) {
            let (least, most) = (CAPACITY.start(), CAPACITY.end());
            findings
                .error("throttle.capacity", format!("{clients} clients are out of range"))
                .hint(format!("write a number from {least} to {most}"));
            return None;
        }
        NonZeroUsize::new(clients).map(Self)
    }
}

/// The map. `V::default()` is the count of an unknown client.
pub(super) struct ClientTable<V> {
    sets: Box<[Mutex<ClientSet<V>>]>,
}

impl<V: Copy + Default> ClientTable<V> {
    /// Allocates the whole table.
    pub(super) fn new(capacity: Capacity) -> Self {
        let sets = capacity.0.get().div_ceil(PLACES);
        Self { sets: (0..sets).map(|_| Mutex::new(ClientSet::default())).collect() }
    }

    /// Runs `change` on the client's count, under the set's lock.
    ///
    /// `worth` says whether a new client may replace a count: `None` is never; of the others the
    /// least is replaced first. If none may be replaced, `change` sees the count of an unknown
    /// client, and what it changes is lost.
    pub(super) fn update<W: Ord, R>(
        &self,
        client: ClientKey,
        worth: impl Fn(&V) -> Option<W>,
        change: impl FnOnce(&mut V) -> R,
    ) -> R {
        let Some(set) = self.set(client) else { return change(&mut V::default()) };
        let mut set = set.lock();
        match set.claim(client, worth) {
            Some(count) => change(count),
            None => change(&mut V::default()),
        }
    }

    /// Runs `change` on the client's count, if the client has a place.
    pub(super) fn update_known(&self, client: ClientKey, change: impl FnOnce(&mut V)) {
        let Some(set) = self.set(client) else { return };
        let mut set = set.lock();
        if let Some(place) = set.places.iter_mut().find(|place| place.client == Some(client)) {
            change(&mut place.count);
        }
    }

    /// The client's count. It takes no place.
    pub(super) fn read(&self, client: ClientKey) -> V {
        let Some(set) = self.set(client) else { return V::default() };
        let set = set.lock();
        let place = set.places.iter().find(|place| place.client == Some(client));
        place.map_or_else(V::default, |place| place.count)
    }

    /// The client's set. It always exists, since a table has at least one set.
    fn set(&self, client: ClientKey) -> Option<&Mutex<ClientSet<V>>> {
        // The hash as a fraction of 2^64, times the number of sets: evenly spread for any number of
        // sets, without a division.
        let set = (u128::from(client.hash()) * self.sets.len() as u128) >> 64;
        usize::try_from(set).ok().and_then(|set| self.sets.get(set))
    }

    /// Bytes the table takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.sets)
    }
}

#[derive(Default)]
struct ClientSet<V> {
    places: [ClientPlace<V>; PLACES],
}

#[derive(Clone, Copy, Default)]
struct ClientPlace<V> {
    client: Option<ClientKey>,
    count: V,
}

impl<V: Copy + Default> ClientSet<V> {
    fn claim<W: Ord>(&mut self, client: ClientKey, worth: impl Fn(&V) -> Option<W>) -> Option<&mut V> {
        let known = self.places.iter().position(|place| place.client == Some(client));
        let position = known.or_else(|| self.cheapest(worth))?;
        let place = self.places.get_mut(position)?;
        if place.client != Some(client) {
            *place = ClientPlace { client: Some(client), count: V::default() };
        }
        Some(&mut place.count)
    }

    /// The place that a new client takes. An empty place has the count of an unknown client.
    fn cheapest<W: Ord>(&self, worth: impl Fn(&V) -> Option<W>) -> Option<usize> {
        let worths = self.places.iter().enumerate();
        let spare = worths
            .filter_map(|(position, place)| Some((worth(&place.count)?, place.client.is_some(), position)));
        spare.min().map(|(_, _, position)| position)
    }
}
