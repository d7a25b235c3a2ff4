//! Places for connections and handshakes. When all are taken, the client that has most loses its
//! oldest one, so that no client can keep the others out.
//!
//! What a client is, the caller says: a network of addresses ([`crate::address::client_network`]),
//! or a user of this machine.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A number of places for clients of type `C`.
#[derive(Debug)]
pub struct Places<C> {
    most: usize,
    state: Mutex<PlacesState<C>>,
}

#[derive(Debug)]
struct PlacesState<C> {
    taken: usize,
    /// Counts the places ever taken: a lower number is older.
    next: u64,
    of_client: HashMap<C, VecDeque<TakenPlace>>,
}

#[derive(Debug)]
struct TakenPlace {
    number: u64,
    lost: Arc<Notify>,
}

/// A place that is taken until the value is dropped.
pub struct Place<C: Copy + Eq + Hash> {
    places: Arc<Places<C>>,
    client: C,
    number: u64,
    lost: Arc<Notify>,
}

impl<C: Copy + Eq + Hash> Places<C> {
    /// So many places, at least one.
    pub fn new(most: usize) -> Arc<Self> {
        let state = PlacesState { taken: 0, next: 0, of_client: HashMap::new() };
        Arc::new(Self { most: most.max(1), state: Mutex::new(state) })
    }

    /// Takes a place, and says whether another one was lost for it.
    pub fn take(self: &Arc<Self>, client: C) -> (Place<C>, bool) {
        let lost = Arc::new(Notify::new());
        let mut state = self.state.lock();
        let is_full = state.taken >= self.most;
        if is_full {
            state.lose_one(client);
        }
        let number = state.next;
        state.next += 1;
        state.taken += 1;
        state.of_client.entry(client).or_default().push_back(TakenPlace { number, lost: Arc::clone(&lost) });
        drop(state);
        (Place { places: Arc::clone(self), client, number, lost }, is_full)
    }
}

impl<C: Copy + Eq + Hash> PlacesState<C> {
    /// Takes the oldest place from the client that has most, one more counted for the client that
    /// wants another; of clients with equally many, from the one with the oldest.
    fn lose_one(&mut self, wants: C) {
        let most = self.of_client.iter().max_by_key(|(client, places)| {
            let count = places.len() + usize::from(**client == wants);
            let age = places.front().map_or(0, |place| u64::MAX - place.number);
            (count, age)
        });
        let Some(client) = most.map(|(client, _)| *client) else { return };
        let Some(places) = self.of_client.get_mut(&client) else { return };
        if let Some(place) = places.pop_front() {
            self.taken -= 1;
            place.lost.notify_one();
        }
        if places.is_empty() {
            self.of_client.remove(&client);
        }
    }
}

impl<C: Copy + Eq + Hash> Place<C> {
    /// Waits until the place is lost to another client.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl<C: Copy + Eq + Hash> fmt::Debug for Place<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<C: Copy + Eq + Hash> Drop for Place<C> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        let Some(places) = state.of_client.get_mut(&self.client) else { return };
        let before = places.len();
        places.retain(|place| place.number != self.number);
        let (left, is_empty) = (before - places.len(), places.is_empty());
        if is_empty {
            state.of_client.remove(&self.client);
        }
        state.taken -= left;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_lost(place: &Place<u8>) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn the_client_that_has_most_loses_its_oldest() {
        let places = Places::new(4);
        let other = places.take(2).0;
        let greedy: Vec<Place<u8>> = (0..3).map(|_| places.take(1).0).collect();

        let (third, was_full) = places.take(3);

        assert!(was_full);
        let lost: Vec<bool> = greedy.iter().map(is_lost).collect();
        assert_eq!(lost, [true, false, false]);
        assert!(!is_lost(&other) && !is_lost(&third));
    }

    #[test]
    fn a_client_that_wants_more_than_the_others_loses_its_own() {
        let places = Places::new(4);
        let others: Vec<Place<u8>> = [2, 2, 3].into_iter().map(|last| places.take(last).0).collect();
        let mut greedy: Vec<Place<u8>> = vec![places.take(1).0];

        greedy.extend((0..10).map(|_| places.take(1).0));

        // Two and one are what the others have, so one more than one is less than three.
        assert_eq!(others.iter().filter(|place| is_lost(place)).count(), 1);
        assert_eq!(greedy.iter().filter(|place| !is_lost(place)).count(), 2);
        assert_eq!(places.state.lock().taken, 4);
    }

    #[test]
    fn a_place_is_free_once_and_nothing_is_left_of_its_client() {
        let places = Places::new(2);
        for number in 0..100 {
            drop(places.take(number));
        }
        let held: Vec<Place<u8>> = (0..5).map(|number| places.take(number).0).collect();
        assert_eq!(places.state.lock().taken, 2);

        drop(held);

        let state = places.state.lock();
        assert_eq!((state.taken, state.of_client.len()), (0, 0));
    }
}
