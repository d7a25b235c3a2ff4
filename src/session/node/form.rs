//! When rows are sealed: once no gateway of the previous version runs on the store, because it
//! could not read them.
//!
//! The row of revocations says so, and every node reads it. A file has one gateway, so its rows are
//! sealed from the start. On a shared store this node waits until no gateway of the previous
//! version has written its sign of life for a minute, and no gateway says that it cannot open the
//! store key. Rows of the earlier form are then written again, and stay readable until they are.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use minicbor::{Decode, Encode};
use tracing::{debug, info};

use super::keyring::StoreKeyring;
use super::people::PersonRows;
use super::revocation_cache::RevocationCache;
use crate::clock::{Clock, Timestamp};
use crate::session::row::limits::row_end;
use crate::session::row::person_row::PersonRow;
use crate::session::row::revocations::{FOREVER, Revocations};
use crate::session::row::sealed;
use crate::session::row::subject::SubjectRow;
use crate::session::row::unionid::UnionIdRow;
use crate::store::{self, Key, Space, Store, StoreError};

/// How often this node looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many looks in a row must find no objection on a shared store: a gateway that cannot open the
/// store key looks as often.
const QUIET_LOOKS: u32 = 3;
/// How many rows are read at once to be sealed, and how many are written at the same time.
const PAGE: usize = 500;
const WRITES_AT_ONCE: usize = 32;

/// Decides about the form of rows, and seals the rows that are not sealed yet.
pub(in crate::session) struct RowForms {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    revocations: Arc<RevocationCache>,
    people: Arc<PersonRows>,
    keyring: Arc<StoreKeyring>,
}

impl RowForms {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        revocations: Arc<RevocationCache>,
        people: Arc<PersonRows>,
        keyring: Arc<StoreKeyring>,
    ) -> Self {
        Self { store, clock, revocations, people, keyring }
    }

    /// Keeps the store key, and seals rows when that is possible, for as long as it is polled.
    pub(super) async fn follow(&self) {
        let mut quiet = 0;
        loop {
            if let Err(error) = self.look(&mut quiet).await {
                // The store says itself that it does not answer, and the keyring what it lacks.
                debug!("the form of rows could not be looked at: {error}");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Looks once; `quiet` counts the looks that found no objection to sealing.
    pub(in crate::session) async fn look(&self, quiet: &mut u32) -> Result<(), StoreError> {
        self.keyring.tend().await?;
        let revocations = self.revocations.cached().await?;
        if revocations.is_sealed_throughout() {
            return Ok(());
        }
        *quiet = if self.is_possible().await? { quiet.saturating_add(1) } else { 0 };
        if *quiet < if self.store.is_shared() { QUIET_LOOKS } else { 1 } {
            return Ok(());
        }
        if !revocations.is_sealing() {
            // Counts again, so that every node has read that rows are sealed before the last row of
            // the earlier form is looked for.
            *quiet = 0;
            self.start().await?;
            if self.store.is_shared() {
                return Ok(());
            }
        }
        self.seal_every_row().await
    }

    /// Whether rows are sealed in this store, or can be at once.
    pub(in crate::session) async fn is_possible(&self) -> Result<bool, StoreError> {
        if self.store.has_older_peer().await? {
            return Ok(false);
        }
        let (_, is_bare) = self.keyring.key_or_new().await?;
        Ok(is_bare || !self.keyring.is_objected_to().await?)
    }

    async fn start(&self) -> Result<(), StoreError> {
        let settled = self.people.settle_changes(None).await?;
        let (key, _) = self.keyring.key_or_new().await?;
        let now = self.clock.now();
        let change = |row: &mut Revocations| row.start_sealing(&settled, |person| key.hash(person), now);
        if self.people.change_revocations(change).await? {
            info!(
                "rows of the store are sealed from now on: gateways of the previous version cannot read them"
            );
        }
        Ok(())
    }

    async fn seal_every_row(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.seal_space::<SubjectRow>(Space::Subject, |row| until(row_end(row.latest_end()), now)).await?;
        let listed_until = |row: &UnionIdRow| until(row_end(row.ends_at().unwrap_or(now)), now);
        self.seal_space::<UnionIdRow>(Space::UnionId, listed_until).await?;
        self.seal_space::<PersonRow>(Space::Person, |_| FOREVER).await?;
        self.people.change_revocations(Revocations::mark_sealed_throughout).await?;
        // The file still has the bytes of before.
        self.store.reclaim().await
    }

    async fn seal_space<T>(
        &self,
        space: Space,
        lasts: impl Fn(&T) -> Duration + Send + Sync,
    ) -> Result<(), StoreError>
    where
        T: Encode<()> + for<'b> Decode<'b, ()> + Send + Sync,
    {
        let mut next = None;
        loop {
            let page = self.store.scan(space, next.as_ref(), PAGE).await?;
            let bare = page.rows.into_iter().filter(|(_, bytes)| !sealed::is_sealed(bytes));
            let writes = bare.map(|(key, bytes)| self.seal(key, bytes, &lasts));
            stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect::<Vec<()>>().await?;
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// Seals a row as it is. A row that changed meanwhile was sealed with the change.
    async fn seal<T>(
        &self,
        key: Key,
        bytes: bytes::Bytes,
        lasts: &(impl Fn(&T) -> Duration + Send + Sync),
    ) -> Result<(), StoreError>
    where
        T: Encode<()> + for<'b> Decode<'b, ()> + Send + Sync,
    {
        match self.keyring.decode::<T>(&key, &bytes).await {
            Ok(row) => {
                let value = self.keyring.encode(&key, &row).await?;
                self.store.compare_and_set(&key, &bytes, value, lasts(&row)).await.map(drop)
            }
            // It gives no access, and stays for `menshen store verify`.
            Err(StoreError::Damaged(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn until(end: Timestamp, now: Timestamp) -> Duration {
    store::ttl_until(end, now)
}
