//! What all configurations of a gateway share: the store, and what this node follows in it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::form::RowForms;
use super::keyring::StoreKeyring;
use super::lease::Leases;
use super::log_follower::LogFollower;
use super::metrics::SessionMetrics;
use super::people::PersonRows;
use super::revocation_cache::RevocationCache;
use super::subject_rows::{StoredSubject, SubjectRows};
use super::unionid_rows::UnionIdRows;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::session::person::PersonId;
use crate::session::row::invalidation::Invalidation;
use crate::session::row::name::{self, Locator};
use crate::session::row::revocations::Revocations;
use crate::store::{Key, Store, StoreError, StoreHealth};
use crate::telemetry::metrics::Metrics;

/// What all configurations of a gateway share: the store, and what this node follows in it.
pub struct Core {
    pub(in crate::session) store: Arc<dyn Store>,
    pub(in crate::session) entropy: Arc<dyn Entropy>,
    pub(in crate::session) metrics: SessionMetrics,
    pub(in crate::session) health: Arc<StoreHealth>,
    pub(in crate::session) leases: Arc<Leases>,
    pub(in crate::session) revocations: Arc<RevocationCache>,
    pub(in crate::session) subjects: SubjectRows,
    pub(in crate::session) unionids: UnionIdRows,
    pub(in crate::session) people: Arc<PersonRows>,
    pub(in crate::session) log: LogFollower,
    pub(in crate::session) keyring: Arc<StoreKeyring>,
    pub(in crate::session) forms: RowForms,
}

impl Core {
    /// Follows sessions in this store, and keeps its health.
    pub fn new(
        store: Arc<dyn Store>,
        health: Arc<StoreHealth>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let leases = Arc::new(Leases::default());
        let keyring = Arc::new(StoreKeyring::new(Arc::clone(&store), Arc::clone(&entropy)));
        let revocations = Arc::new(RevocationCache::new(
            Arc::clone(&store),
            Arc::clone(&entropy),
            Arc::clone(&leases),
            Arc::clone(&keyring),
        ));
        let people = Arc::new(PersonRows::new(
            Arc::clone(&store),
            Arc::clone(&entropy),
            Arc::clone(&revocations),
            Arc::clone(&keyring),
        ));
        Self {
            metrics: SessionMetrics::new(&metrics),
            subjects: SubjectRows::new(Arc::clone(&store), Arc::clone(&keyring)),
            unionids: UnionIdRows::new(Arc::clone(&store), Arc::clone(&keyring)),
            forms: RowForms::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                Arc::clone(&revocations),
                Arc::clone(&people),
                Arc::clone(&keyring),
            ),
            people,
            keyring,
            log: LogFollower::new(
                Arc::clone(&store),
                clock,
                Arc::clone(&leases),
                Arc::clone(&revocations),
                Arc::clone(&health),
            ),
            store,
            entropy,
            health,
            leases,
            revocations,
        }
    }

    /// Follows what other nodes change, for as long as it is polled, and records the store's
    /// health.
    pub async fn follow(&self) {
        tokio::join!(self.log.follow(), self.people.follow(), self.forms.follow());
    }

    /// Ends the leases of a person's sessions, here and on the other nodes.
    pub(in crate::session) async fn publish_person(
        &self,
        person: &PersonId,
        written: Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let of_subject = |subject| Invalidation::Subject(name::locator(subject));
        let invalidations = match person {
            PersonId::Subject(subject) => vec![of_subject(subject)],
            // Read after the person's row was written: a subject that is not listed yet signs in
            // later, and reads what was written.
            PersonId::UnionId(unionid) => match self.unionids.subjects(unionid).await {
                Ok(subjects) => subjects.iter().map(of_subject).collect(),
                Err(_) => vec![Invalidation::Everything],
            },
        };
        let mut outcome = written.clone();
        for invalidation in invalidations {
            match &invalidation {
                Invalidation::Subject(locator) => self.leases.end(locator),
                Invalidation::Everything => self.leases.end_all(),
            }
            let published = self.log.publish_result(written.clone(), &invalidation).await;
            outcome = outcome.and(published);
        }
        outcome
    }

    /// Writes a row of another module, so that only the store key opens it.
    ///
    /// # Errors
    /// [`StoreError`]: the store does not answer, or no seal key of this gateway opens its key.
    pub async fn seal_row<T: Encode<()> + Sync>(&self, key: &Key, row: &T) -> Result<Bytes, StoreError> {
        self.keyring.encode_sealed(key, row).await
    }

    /// Reads what [`Core::seal_row`] wrote under this key.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: the bytes are not such a row. Others: as [`Core::seal_row`].
    pub async fn open_row<T>(&self, key: &Key, bytes: &[u8]) -> Result<T, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        self.keyring.decode_sealed(key, bytes).await
    }

    /// The store that the rows are in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Moves when every verdict on this node must be made again.
    pub fn epoch(&self) -> u64 {
        self.leases.epoch()
    }

    /// Reads a subject's row and then the revocations, which are then at least as new as every
    /// session in the row. Revocations that were read earlier know less than a session that another
    /// node has opened since, and the session would look like one of a lost history.
    pub(in crate::session) async fn read_subject(
        &self,
        locator: Locator,
    ) -> Result<Option<(StoredSubject, Arc<Revocations>)>, StoreError> {
        let Some(stored) = self.subjects.read(locator).await? else { return Ok(None) };
        Ok(Some((stored, self.revocations.current().await?)))
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("store", &self.store).finish_non_exhaustive()
    }
}
