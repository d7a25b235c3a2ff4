//! How many calls of each client are under way, so that one whose calls hang leaves room for the
//! others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Most calls of one client under way, with their answers: half of those of all clients.
const MOST_OF_CLIENT: usize = 64;
/// Longest wait until fewer are.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// The places of each client.
#[derive(Default)]
pub(super) struct CallPlaces(Mutex<HashMap<String, Arc<Semaphore>>>);

impl CallPlaces {
    /// Waits for a place of this client; `None` if there is none in time.
    pub(super) async fn wait(&self, client: &str) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut clients = self.0.lock();
            let places = clients.entry(client.to_owned());
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(MOST_OF_CLIENT))))
        };
        timeout(PLACE_TIMEOUT, places.acquire_owned()).await.ok()?.ok()
    }
}
