//! Learns from Redis messages (publish and subscribe) that the log moved. A message can be lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use redis::{Client, ErrorKind, RedisResult};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::link::Link;
use super::section::Topology;

/// How often a silent connection is checked with a ping.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Pause before subscribing again.
const PAUSE: Duration = Duration::from_millis(500);

/// The subscription. It begins with the first call of [`Listener::moved`].
pub(super) struct Listener {
    channel: String,
    /// Counts the messages.
    moved: watch::Sender<u64>,
    /// How many of them have woken a caller.
    told: AtomicU64,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    pub(super) fn new(channel: String) -> Self {
        Self { channel, moved: watch::Sender::new(0), told: AtomicU64::new(0), task: Mutex::default() }
    }

    /// Returns when a message came since the last return, or when one may have been lost.
    pub(super) async fn moved(&self, link: &Arc<Link>) {
        self.listen(link);
        let told = self.told.load(Ordering::Acquire);
        // `self` owns the sender, so the channel cannot be closed here.
        if let Ok(heard) = self.moved.subscribe().wait_for(|heard| *heard > told).await {
            self.told.fetch_max(*heard, Ordering::AcqRel);
        }
    }

    fn listen(&self, link: &Arc<Link>) {
        let mut task = self.task.lock();
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        *task = Some(tokio::spawn(keep_listening(
            Arc::downgrade(link),
            self.channel.clone(),
            self.moved.clone(),
        )));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

async fn keep_listening(link: Weak<Link>, channel: String, moved: watch::Sender<u64>) {
    let mut turn = 0;
    while let Some(link) = link.upgrade() {
        // The reader polls the log as well, and reports why it fails.
        let _ = listen(&link, &channel, &moved, turn).await;
        drop(link);
        tokio::time::sleep(PAUSE).await;
        turn += 1;
    }
}

/// Subscribes, and wakes the waiting callers at each message, until the connection breaks.
async fn listen(link: &Link, channel: &str, moved: &watch::Sender<u64>, turn: usize) -> RedisResult<()> {
    let section = link.section();
    let patience = section.connect_timeout;
    let address = match section.topology {
        // Every server of a cluster forwards messages to all the others.
        Topology::Cluster => {
            section.addresses.iter().cycle().nth(turn % section.addresses.len().max(1)).cloned()
        }
        Topology::Standalone | Topology::Sentinel { .. } => Some(link.sentinels().master(section).await?),
    };
    let address = address.ok_or((ErrorKind::Client, "no address"))?;
    let client = Client::open(section.subscriber(&address)?)?;
    let pubsub = tokio::time::timeout(patience, async {
        let mut pubsub = client.get_async_pubsub().await?;
        pubsub.subscribe(channel).await?;
        RedisResult::Ok(pubsub)
    });
    let (mut sink, mut messages) = pubsub.await.map_err(late)??.split();
    // Messages before the subscription may have been lost.
    wake(moved);
    loop {
        match tokio::time::timeout(PING_EVERY, messages.next()).await {
            Ok(Some(_)) => wake(moved),
            Ok(None) => return Ok(()),
            Err(_) => {
                tokio::time::timeout(patience, sink.ping::<redis::Value>()).await.map_err(late)?.map(drop)?
            }
        }
    }
}

fn wake(moved: &watch::Sender<u64>) {
    moved.send_modify(|heard| *heard += 1);
}

fn late(_: tokio::time::error::Elapsed) -> redis::RedisError {
    (ErrorKind::Io, "no answer in time").into()
}
