//! Single flight: of several callers that ask the same question at once, one asks and all get the
//! answer.
//!
//! [`pair`] is one question; [`SingleFlight`] keeps the questions under way by a key. What a
//! question is and how long its answer holds is the caller's to decide.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

/// One question: the half that answers it, and the half that waits for the answer.
pub fn pair<T: Clone>() -> (Leader<T>, Follower<T>) {
    let (sender, receiver) = watch::channel(None);
    (Leader(sender), Follower(receiver))
}

/// The caller that asks; dropped without an answer, its followers stop waiting.
#[derive(Debug)]
pub struct Leader<T>(watch::Sender<Option<T>>);

/// A caller that waits for the answer of the one that asks.
#[derive(Clone, Debug)]
pub struct Follower<T>(watch::Receiver<Option<T>>);

/// The questions under way, by the key of each.
#[derive(Debug)]
pub struct SingleFlight<T> {
    questions: Mutex<HashMap<u128, Follower<T>>>,
}

impl<T: Clone> Leader<T> {
    /// Gives the answer to every follower.
    pub fn answer(self, answer: T) {
        self.0.send_replace(Some(answer));
    }
}

impl<T: Clone> Follower<T> {
    /// Waits for the answer; `None` if the leader gave up.
    pub async fn wait(mut self) -> Option<T> {
        let answer = self.0.wait_for(Option::is_some).await;
        answer.ok().and_then(|answer| answer.clone())
    }
}

impl<T: Clone> SingleFlight<T> {
    /// Makes a set without questions.
    pub fn new() -> Self {
        Self { questions: Mutex::new(HashMap::new()) }
    }

    /// Asks, or waits for the caller that asks already. If that caller gives up, one of those that
    /// wait asks.
    pub async fn join<F: Future<Output = T>>(&self, key: u128, ask: impl FnOnce() -> F) -> T {
        loop {
            match self.enter(key) {
                Entered::First(question) => {
                    let answer = ask().await;
                    question.answer(answer.clone());
                    return answer;
                }
                Entered::Later(follower) => {
                    if let Some(answer) = follower.wait().await {
                        return answer;
                    }
                }
            }
        }
    }

    fn enter(&self, key: u128) -> Entered<'_, T> {
        let mut questions = self.questions.lock();
        if let Some(follower) = questions.get(&key) {
            return Entered::Later(follower.clone());
        }
        let (leader, follower) = pair();
        questions.insert(key, follower);
        Entered::First(Question { set: self, key, leader: Some(leader) })
    }
}

impl<T: Clone> Default for SingleFlight<T> {
    fn default() -> Self {
        Self::new()
    }
}

enum Entered<'a, T> {
    First(Question<'a, T>),
    Later(Follower<T>),
}

/// A question under way; it is removed when it is answered or given up.
struct Question<'a, T> {
    set: &'a SingleFlight<T>,
    key: u128,
    leader: Option<Leader<T>>,
}

impl<T: Clone> Question<'_, T> {
    fn answer(mut self, answer: T) {
        let leader = self.leader.take();
        // First: the next caller with this key asks again.
        drop(self);
        if let Some(leader) = leader {
            leader.answer(answer);
        }
    }
}

impl<T> Drop for Question<'_, T> {
    fn drop(&mut self) {
        self.set.questions.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_caller_asks_for_all_that_ask_at_once_and_nothing_is_left() {
        let flights = SingleFlight::new();
        let (asked, answered) = (AtomicU32::new(0), Notify::new());
        let ask = |key| {
            flights.join(key, || async {
                asked.fetch_add(1, Ordering::Relaxed);
                answered.notified().await;
                "answer"
            })
        };

        let all = join_all((0..100).map(|number| ask(number % 2)));
        let answer_both = async {
            answered.notify_one();
            tokio::task::yield_now().await;
            answered.notify_one();
        };
        let (answers, ()) = tokio::join!(all, answer_both);

        assert_eq!(answers, ["answer"; 100]);
        assert_eq!(asked.into_inner(), 2);
        assert!(flights.questions.lock().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_caller_that_asked_alone() {
        let flights = SingleFlight::new();

        assert_eq!(flights.join(1, || async { "answer" }).await, "answer");

        assert!(flights.questions.lock().is_empty());
    }

    #[tokio::test]
    async fn the_next_caller_asks_if_the_first_gives_up() {
        let flights = SingleFlight::new();
        let mut first = Box::pin(flights.join(1, std::future::pending));
        let mut second = Box::pin(flights.join(1, || async { "answer" }));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());

        drop(first);

        assert_eq!(second.await, "answer");
        assert!(flights.questions.lock().is_empty());
    }
}
