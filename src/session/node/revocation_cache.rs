//! The row of revocations, as this node holds it in memory.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tracing::warn;

use super::attempts::Attempts;
use super::lease::Leases;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::session::row::envelope;
use crate::session::row::name::REVOCATIONS_KEY;
use crate::session::row::revocations::{FOREVER, Revocations};
use crate::store::{Store, StoreError};

/// Reads, changes and caches the row.
pub(in crate::session) struct RevocationCache {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    leases: Arc<Leases>,
    /// As last read; `None` if it was never read, or is known to be out of date.
    cached: ArcSwapOption<Revocations>,
    /// Everything that this node ever read or wrote, in case the store loses some of it.
    newest: ArcSwapOption<Revocations>,
}

impl RevocationCache {
    pub(super) fn new(store: Arc<dyn Store>, entropy: Arc<dyn Entropy>, leases: Arc<Leases>) -> Self {
        Self { store, entropy, leases, cached: ArcSwapOption::empty(), newest: ArcSwapOption::empty() }
    }

    /// The revocations from memory; reads them if they are not there.
    pub(in crate::session) async fn cached(&self) -> Result<Arc<Revocations>, StoreError> {
        match self.cached.load_full() {
            Some(revocations) => Ok(revocations),
            None => self.read().await,
        }
    }

    /// The revocations as they are now: from memory only if no other node can have changed them.
    pub(in crate::session) async fn current(&self) -> Result<Arc<Revocations>, StoreError> {
        if self.store.is_shared() { self.read().await } else { self.cached().await }
    }

    /// The revocations, at least as new as a session with this number.
    pub(in crate::session) async fn at_least(&self, number: u64) -> Result<Arc<Revocations>, StoreError> {
        let revocations = self.cached().await?;
        if revocations.is_older_than(number) { self.read().await } else { Ok(revocations) }
    }

    /// The revocations for a new session: never without a number.
    pub(in crate::session) async fn initialized(
        &self,
        now: Timestamp,
    ) -> Result<Arc<Revocations>, StoreError> {
        let revocations = self.current().await?;
        if revocations.is_initialized() {
            return Ok(revocations);
        }
        self.change(|revocations| revocations.initialize(now)).await?;
        self.current().await
    }

    /// Forgets what is in memory: the row may have changed.
    pub(in crate::session) fn clear(&self) {
        self.cached.store(None);
    }

    /// Reads the row, and puts back what the store has lost.
    pub(in crate::session) async fn read(&self) -> Result<Arc<Revocations>, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let bytes = self.store.get(&REVOCATIONS_KEY).await?;
            let read = Revocations::decode(bytes.as_deref())?;
            let newest = self.newest.load_full();
            let Some(whole) = newest.and_then(|newest| read.extended_by(&newest)) else {
                return Ok(self.update(read));
            };
            // If another node changed the row since it was read, nothing was lost, and nothing is
            // written.
            if self.write(bytes.as_deref(), &whole).await? {
                warn!(
                    "the store had lost revocations of whole apps, blocks of people, or that people are bound: they were put back"
                );
                return Ok(self.update(whole));
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// Changes the row in the store, then in memory.
    pub(in crate::session) async fn change<T: Send>(
        &self,
        change: impl Fn(&mut Revocations) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let before = self.store.get(&REVOCATIONS_KEY).await?;
            let mut revocations = Revocations::decode(before.as_deref())?;
            if let Some(newest) = self.newest.load_full() {
                revocations.merge(&newest);
            }
            let changed = change(&mut revocations);
            if self.write(before.as_deref(), &revocations).await? {
                self.update(revocations);
                return Ok(changed);
            }
            attempts.wait(self.entropy.as_ref()).await?;
        }
    }

    /// Replaces `before` by these revocations; `false` if another writer was faster.
    async fn write(&self, before: Option<&[u8]>, revocations: &Revocations) -> Result<bool, StoreError> {
        let key = &REVOCATIONS_KEY;
        let value = envelope::encode(key, revocations)?;
        match before {
            Some(before) => self.store.compare_and_set(key, before, value, FOREVER).await,
            None => self.store.put_if_absent(key, value, FOREVER).await,
        }
    }

    /// Keeps what was read together with all that was known: two readers may finish in another
    /// order than they began, and both of two histories count.
    ///
    /// The first reader of a change ends the leases, be it a sign-in or a read of the log.
    /// Otherwise verdicts by the revocations of before would be believed until their re-check.
    fn update(&self, read: Revocations) -> Arc<Revocations> {
        let read = Arc::new(read);
        self.newest.rcu(|known| {
            let whole = known.as_ref().and_then(|known| read.extended_by(known));
            Some(whole.map_or_else(|| Arc::clone(&read), Arc::new))
        });
        let mut current = None;
        let before = self.cached.rcu(|_| {
            current = self.newest.load_full();
            current.clone()
        });
        if before.is_some() && before != current {
            self.leases.end_all();
        }
        current.unwrap_or(read)
    }
}
