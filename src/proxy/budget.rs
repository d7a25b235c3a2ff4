//! How many requests may be under way: in all, and of one client address.
//!
//! Each forwarded request can take a connection to a server, and with it a file and a port. One
//! HTTP/2 connection carries a hundred requests, so limits of connections do not bound them.
//!
//! Nobody's share is fixed. A request is forwarded while its address has fewer under way than there
//! is room left in all. So one greedy address gets half of the room at most, two get a third each,
//! and a client that has little under way always finds room. Requests beyond that wait for a while,
//! and are then refused. Those of one address are forwarded in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::Notify;

use super::client_address::ClientAddress;
use super::connections::Connections;
use crate::address::client_network;
use crate::config;
use crate::telemetry::metrics::Metrics;

const SHARDS: usize = 16;
/// Fewest addresses in a shard before it looks for those that have nothing under way.
const LEAST_SWEEP: usize = 64;
/// How soon the first request that waits at an address asks again whether there is room in all;
/// twice as long each time, up to the longest. Of room at its own address it is told.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// The files that requests under way may take.
#[derive(Clone, Copy, Debug)]
pub struct RequestFiles {
    /// Those that client connections and requests share.
    pub shared: usize,
    /// Those that requests get however many client connections there are.
    pub reserved: usize,
}

/// Counts requests under way, for all listeners together.
#[derive(Debug)]
pub struct RequestBudget {
    under_way: AtomicUsize,
    waiting: AtomicUsize,
    shards: [Mutex<AddressShard>; SHARDS],
    hasher: RandomState,
    most: usize,
    most_of_address: usize,
    longest_wait: Duration,
    files: RequestFiles,
    connections: Arc<Connections>,
    under_way_gauge: IntGauge,
    waiting_gauge: IntGauge,
}

#[derive(Debug)]
struct AddressShard {
    addresses: HashMap<IpAddr, Arc<AddressCount>>,
    sweep_at: usize,
}

/// What one address has under way.
#[derive(Debug, Default)]
struct AddressCount {
    under_way: AtomicUsize,
    waiting: AtomicUsize,
    /// Those that wait, in the order in which they came.
    queue: Mutex<VecDeque<Arc<Notify>>>,
}

/// A request that is counted as under way, until it is dropped.
pub(super) struct CountedRequest {
    budget: Arc<RequestBudget>,
    of_address: Arc<AddressCount>,
}

/// A request that found room.
pub(super) struct EnteredRequest {
    pub(super) counted: CountedRequest,
    /// Whether it had to wait for it: what was decided on it may be out of date.
    pub(super) has_waited: bool,
}

/// Why a request is not forwarded: there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Too many are under way in all.
    InAll,
    /// The client's address has more under way than its share.
    OfAddress,
}

impl RequestBudget {
    /// Starts with none under way.
    pub fn new(
        limits: &config::Limits,
        files: RequestFiles,
        connections: Arc<Connections>,
        metrics: &Metrics,
    ) -> Self {
        let shard = || Mutex::new(AddressShard { addresses: HashMap::new(), sweep_at: LEAST_SWEEP });
        Self {
            under_way: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| shard()),
            hasher: RandomState::new(),
            most: limits.max_requests,
            most_of_address: limits.max_requests_per_address,
            longest_wait: limits.max_request_wait.0,
            files,
            connections,
            under_way_gauge: metrics.requests_under_way.clone(),
            waiting_gauge: metrics.requests_waiting.clone(),
        }
    }

    /// Counts a request as under way, as soon as there is room for it.
    ///
    /// # Errors
    /// [`NoRoom`]: there was none for as long as a request waits.
    pub(super) async fn enter(self: &Arc<Self>, client: &ClientAddress) -> Result<EnteredRequest, NoRoom> {
        let of_address = self.count_of(client_network(client.client));
        // A proxy that names no client carries the requests of many.
        let most_of_address = if client.proxy.is_some() && client.peer == client.client {
            self.most
        } else {
            self.most_of_address
        };
        let no_room = if of_address.waiting.load(Ordering::Relaxed) == 0 {
            match self.try_enter(&of_address, most_of_address) {
                Ok(counted) => return Ok(EnteredRequest { counted, has_waited: false }),
                Err(no_room) => no_room,
            }
        } else {
            NoRoom::OfAddress
        };
        // Boxed, so that the memory of a wait is not moved with every other request.
        let counted = Box::pin(self.wait(of_address, most_of_address, no_room)).await?;
        Ok(EnteredRequest { counted, has_waited: true })
    }

    /// How long a client that is refused should wait.
    pub(super) fn retry_after_seconds(&self) -> u64 {
        self.longest_wait.as_secs().clamp(1, 60)
    }

    async fn wait(
        self: &Arc<Self>,
        of_address: Arc<AddressCount>,
        most_of_address: usize,
        no_room: NoRoom,
    ) -> Result<CountedRequest, NoRoom> {
        let _in_all = Waiting::begin(&self.waiting, self.most).ok_or(no_room)?;
        let _of_address = Waiting::begin(&of_address.waiting, most_of_address).ok_or(no_room)?;
        self.waiting_gauge.inc();
        let _gauge = CountedWait(&self.waiting_gauge);
        let place = QueuePlace::take(&of_address);
        let deadline = tokio::time::sleep(self.longest_wait);
        let mut deadline = std::pin::pin!(deadline);
        let mut pause = FIRST_PAUSE;
        let mut no_room = no_room;
        loop {
            if place.is_first() {
                match self.try_enter(&of_address, most_of_address) {
                    Ok(entered) => return Ok(entered),
                    Err(none) => no_room = none,
                }
            }
            tokio::select! {
                biased;
                () = &mut deadline => return Err(no_room),
                () = place.turn.notified() => {}
                () = tokio::time::sleep(pause), if place.is_first() => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn try_enter(
        self: &Arc<Self>,
        of_address: &Arc<AddressCount>,
        most_of_address: usize,
    ) -> Result<CountedRequest, NoRoom> {
        let in_all = self.under_way.fetch_add(1, Ordering::Relaxed);
        let before = of_address.under_way.fetch_add(1, Ordering::Relaxed);
        let room = self.most_now().saturating_sub(in_all);
        if room > 0 && before < most_of_address.min(room) {
            self.under_way_gauge.inc();
            return Ok(CountedRequest { budget: Arc::clone(self), of_address: Arc::clone(of_address) });
        }
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        of_address.under_way.fetch_sub(1, Ordering::Relaxed);
        Err(if room == 0 { NoRoom::InAll } else { NoRoom::OfAddress })
    }

    /// How many may be under way while so many clients are connected as now.
    fn most_now(&self) -> usize {
        let RequestFiles { shared, reserved } = self.files;
        self.most.min(shared.saturating_sub(self.connections.open()).max(reserved))
    }

    fn count_of(&self, address: IpAddr) -> Arc<AddressCount> {
        let shard = usize::try_from(self.hasher.hash_one(address) % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.shards.get(shard) else { return Arc::default() };
        let mut shard = shard.lock();
        if let Some(count) = shard.addresses.get(&address) {
            return Arc::clone(count);
        }
        let count = Arc::default();
        shard.addresses.insert(address, Arc::clone(&count));
        if shard.addresses.len() >= shard.sweep_at {
            // Whoever holds one is about to count, or has counted.
            shard.addresses.retain(|_, count| Arc::strong_count(count) > 1);
            shard.sweep_at = LEAST_SWEEP.max(shard.addresses.len().saturating_mul(2));
        }
        count
    }
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        self.budget.under_way.fetch_sub(1, Ordering::Relaxed);
        self.of_address.under_way.fetch_sub(1, Ordering::Relaxed);
        self.budget.under_way_gauge.dec();
        if self.of_address.waiting.load(Ordering::Relaxed) != 0 {
            self.of_address.call_first();
        }
    }
}

impl AddressCount {
    /// Tells the request that has waited longest to ask whether there is room.
    fn call_first(&self) {
        if let Some(first) = self.queue.lock().front() {
            first.notify_one();
        }
    }
}

/// The place of a request among those that wait at its address, until dropped.
struct QueuePlace<'w> {
    of_address: &'w AddressCount,
    turn: Arc<Notify>,
}

impl<'w> QueuePlace<'w> {
    /// Takes the last place.
    fn take(of_address: &'w AddressCount) -> Self {
        let turn = Arc::new(Notify::new());
        of_address.queue.lock().push_back(Arc::clone(&turn));
        Self { of_address, turn }
    }

    fn is_first(&self) -> bool {
        self.of_address.queue.lock().front().is_some_and(|first| Arc::ptr_eq(first, &self.turn))
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let is_own = |turn: &Arc<Notify>| Arc::ptr_eq(turn, &self.turn);
        let mut queue = self.of_address.queue.lock();
        if queue.front().is_some_and(is_own) {
            queue.pop_front();
        } else {
            queue.retain(|turn| !is_own(turn));
        }
        drop(queue);
        self.of_address.call_first();
    }
}

/// One more that waits, until dropped.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    /// `None` if so many wait already.
    fn begin(waiting: &'w AtomicUsize, most: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let one_more = Self(waiting);
        (before < most).then_some(one_more)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct CountedWait<'g>(&'g IntGauge);

impl Drop for CountedWait<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
