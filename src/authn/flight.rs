//! Of several who ask the same at once, one asks and all get the answer.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// Questions under way, by the key of each.
pub(super) struct Flights<T>(Mutex<HashMap<u128, Weak<OnceCell<T>>>>);

impl<T: Clone> Flights<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Asks, or waits for whoever asks already; should they give up, the next one asks.
    pub(super) async fn join<F: Future<Output = T>>(&self, key: u128, ask: impl FnOnce() -> F) -> T {
        let seat = self.board(key);
        seat.answer.get_or_init(ask).await.clone()
    }

    fn board(&self, key: u128) -> Seat<'_, T> {
        let mut flights = self.0.lock();
        let answer = flights.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let answer = Arc::default();
            flights.insert(key, Arc::downgrade(&answer));
            answer
        });
        Seat { flights: self, key, answer }
    }
}

/// Somebody who waits; the last one to leave clears up.
struct Seat<'a, T> {
    flights: &'a Flights<T>,
    key: u128,
    answer: Arc<OnceCell<T>>,
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        // Nobody boards without the lock, so whoever is alone here stays alone.
        if Arc::strong_count(&self.answer) == 1 {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_asks_for_all_who_ask_at_once_and_nothing_is_left() {
        let flights = Flights::new();
        let (asked, answered) = (AtomicU32::new(0), Notify::new());
        let ask = |key| {
            flights.join(key, || async {
                asked.fetch_add(1, Ordering::Relaxed);
                answered.notified().await;
                "answer"
            })
        };

        let everybody = join_all((0..100).map(|number| ask(number % 2)));
        let answer_both = async {
            answered.notify_one();
            tokio::task::yield_now().await;
            answered.notify_one();
        };
        let (answers, ()) = tokio::join!(everybody, answer_both);

        assert_eq!(answers, ["answer"; 100]);
        assert_eq!(asked.into_inner(), 2);
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_left_of_somebody_who_asked_alone() {
        let flights = Flights::new();

        assert_eq!(flights.join(1, || async { "answer" }).await, "answer");

        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test]
    async fn the_next_asks_where_the_first_gives_up() {
        let flights = Flights::new();
        let mut first = Box::pin(flights.join(1, std::future::pending));
        let mut second = Box::pin(flights.join(1, || async { "answer" }));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());

        drop(first);

        assert_eq!(second.await, "answer");
        assert!(flights.0.lock().is_empty());
    }
}
