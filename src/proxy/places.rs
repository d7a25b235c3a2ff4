//! Places for work in progress. When all are taken, the client that has most loses its oldest one,
//! so that no client can keep the others out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::address::client_network;

/// A number of places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    state: Mutex<PlacesState>,
}

#[derive(Debug, Default)]
struct PlacesState {
    taken: usize,
    /// Counts the places ever taken: a lower number is older.
    next: u64,
    of_client: HashMap<IpAddr, VecDeque<TakenPlace>>,
}

#[derive(Debug)]
struct TakenPlace {
    number: u64,
    lost: Arc<Notify>,
}

/// A place that is taken until the value is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    client: IpAddr,
    number: u64,
    lost: Arc<Notify>,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), state: Mutex::default() })
    }

    /// Takes a place, and says whether another one was lost for it.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> (Place, bool) {
        let client = client_network(client);
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

impl PlacesState {
    /// Takes the oldest place from the client that has most, one more counted for the client that
    /// wants another; of clients with equally many, from the one with the oldest.
    fn lose_one(&mut self, wants: IpAddr) {
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

impl Place {
    /// Waits until the place is lost to another client.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
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

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn the_client_that_has_most_loses_its_oldest() {
        let places = Places::new(4);
        let other = places.take(ip(2)).0;
        let greedy: Vec<Place> = (0..3).map(|_| places.take(ip(1)).0).collect();

        let (third, was_full) = places.take(ip(3));

        assert!(was_full);
        let lost: Vec<bool> = greedy.iter().map(is_lost).collect();
        assert_eq!(lost, [true, false, false]);
        assert!(!is_lost(&other) && !is_lost(&third));
    }

    #[test]
    fn a_client_that_wants_more_than_the_others_loses_its_own() {
        let places = Places::new(4);
        let others: Vec<Place> = [2, 2, 3].into_iter().map(|last| places.take(ip(last)).0).collect();
        let mut greedy: Vec<Place> = vec![places.take(ip(1)).0];

        greedy.extend((0..10).map(|_| places.take(ip(1)).0));

        // Two and one are what the others have, so one more than one is less than three.
        assert_eq!(others.iter().filter(|place| is_lost(place)).count(), 1);
        assert_eq!(greedy.iter().filter(|place| !is_lost(place)).count(), 2);
        assert_eq!(places.state.lock().taken, 4);
    }

    #[test]
    fn a_place_is_free_once_and_nothing_is_left_of_its_client() {
        let places = Places::new(2);
        for number in 0..100 {
            drop(places.take(ip(number)));
        }
        let held: Vec<Place> = (0..5).map(|number| places.take(ip(number)).0).collect();
        assert_eq!(places.state.lock().taken, 2);

        drop(held);

        let state = places.state.lock();
        assert_eq!((state.taken, state.of_client.len()), (0, 0));
    }

    #[test]
    fn an_ipv6_client_is_a_whole_64() {
        let places = Places::new(2);
        let of = |text: &str| places.take(text.parse().unwrap()).0;
        let held = [of("2001:db8::1"), of("2001:db8::2"), of("2001:db8:0:1::1")];

        assert_eq!(held.iter().map(is_lost).collect::<Vec<_>>(), [true, false, false]);
    }
}
