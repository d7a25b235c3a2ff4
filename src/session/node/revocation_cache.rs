//! The row of revocations, as this node holds it in memory.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tracing::warn;

use super::attempts::Attempts;
use super::keyring::StoreKeyring;
use super::lease::Leases;
use super::unionid_rows::UnionIdRows;
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::identity::UnionId;
use crate::session::person::PersonId;
use crate::session::row::envelope;
use crate::session::row::name::{self, REVOCATIONS_KEY};
use crate::session::row::revocations::{FOREVER, Revocations};
use crate::store::{Store, StoreError};

/// Most people whose leases end one by one after a change; with more, every lease ends.
const MOST_CHANGED: usize = 64;

/// Reads, changes and caches the row.
pub(in crate::session) struct RevocationCache {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    leases: Arc<Leases>,
    keyring: Arc<StoreKeyring>,
    /// As last read; `None` if it was never read, or is known to be out of date.
    cached: ArcSwapOption<Revocations>,
    /// Everything that this node ever read or wrote, in case the store loses some of it.
    newest: ArcSwapOption<Revocations>,
    unionids: UnionIdRows,
    /// Unionids that were blocked, or whose block was lifted, and whose leases have not ended yet.
    changed_unionids: Mutex<Vec<UnionId>>,
}

/// Ends every lease when it is dropped, as long as that is needed.
struct EndsAllLeases<'a> {
    leases: &'a Leases,
    is_needed: bool,
}

impl Drop for EndsAllLeases<'_> {
    fn drop(&mut self) {
        if self.is_needed {
            self.leases.end_all();
        }
    }
}

impl RevocationCache {
    pub(super) fn new(
        store: Arc<dyn Store>,
        entropy: Arc<dyn Entropy>,
        leases: Arc<Leases>,
        keyring: Arc<StoreKeyring>,
    ) -> Self {
        Self {
            unionids: UnionIdRows::new(Arc::clone(&store), Arc::clone(&keyring)),
            keyring,
            store,
            entropy,
            leases,
            cached: ArcSwapOption::empty(),
            newest: ArcSwapOption::empty(),
            changed_unionids: Mutex::default(),
        }
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

    /// Forgets what is in memory and ends every lease: a change that failed may have been made.
    pub(in crate::session) fn forget(&self) {
        self.clear();
        self.leases.end_all();
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
                let read = self.update(read);
                self.end_leases_of_unionids().await;
                return Ok(read);
            };
            // If another node changed the row since it was read, nothing was lost, and nothing is
            // written.
            if self.write(bytes.as_deref(), &whole).await? {
                warn!(
                    "the store had lost revocations of apps, or what it knew of blocks and bindings: this node wrote them again"
                );
                let whole = self.update(whole);
                self.end_leases_of_unionids().await;
                return Ok(whole);
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
                self.end_leases_of_unionids().await;
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

    /// Ends the leases that a change concerns: those of the people who were blocked or whose block
    /// was lifted, if nothing else has changed. Those of unionids wait for
    /// [`Self::end_leases_of_unionids`].
    fn end_leases(&self, before: &Revocations, current: &Revocations) {
        let people = current.changed_people(before);
        if current.differs_beyond_blocks(before) || people.len() > MOST_CHANGED {
            return self.leases.end_all();
        }
        for person in people {
            match person.person_id() {
                Some(PersonId::Subject(subject)) => self.leases.end(&name::locator(&subject)),
                Some(PersonId::UnionId(unionid)) => self.changed_unionids.lock().push(unionid),
                // A lifted block: it ends nothing.
                None => {}
            }
        }
    }

    /// Ends the leases of every subject of a unionid that was blocked, or whose block was lifted.
    async fn end_leases_of_unionids(&self) {
        let unionids = std::mem::take(&mut *self.changed_unionids.lock());
        if unionids.is_empty() {
            return;
        }
        // If this is cut short, it is unknown whose leases are left.
        let mut rest = EndsAllLeases { leases: &self.leases, is_needed: true };
        for unionid in unionids {
            let Ok(subjects) = self.unionids.subjects(&unionid).await else { return };
            subjects.iter().for_each(|subject| self.leases.end(&name::locator(subject)));
        }
        rest.is_needed = false;
    }

    /// Adds what was read to what is known: two readers may finish in another order than they
    /// began, and both of two histories count.
    ///
    /// The first reader of a change ends the leases that it concerns. The reader may be a sign-in
    /// or a read of the log. Without this, verdicts from before the change would be used until
    /// their re-check.
    fn update(&self, read: Revocations) -> Arc<Revocations> {
        if read.is_sealing() {
            self.keyring.start_sealing();
        }
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
        let current = current.unwrap_or(read);
        if let Some(before) = before
            && before != current
        {
            self.end_leases(&before, &current);
        }
        current
    }
}
