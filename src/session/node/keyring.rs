//! The store key on this node: reads it, makes it, keeps it sealed under the seal keys of the
//! configuration, and seals and opens rows with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use minicbor::{Decode, Encode};
use tracing::{error, info, warn};

use crate::entropy::Entropy;
use crate::session::error::SessionError;
use crate::session::row::envelope;
use crate::session::row::revocations::FOREVER;
use crate::session::row::sealed;
use crate::session::row::session_key::SealKeys;
use crate::session::row::store_key::{OBJECTION_KEY, STORE_KEY_KEY, StoreKey, StoreKeyRow};
use crate::store::{Key, Store, StoreError};

/// How long an objection stands that is not repeated.
const OBJECTION_LASTS: Duration = Duration::from_secs(60);

/// Keeps the store key.
pub(in crate::session) struct StoreKeyring {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    /// Of the configuration that runs; `None` before there is one.
    seal_keys: ArcSwapOption<SealKeys>,
    /// The seal keys that the row was last looked at with.
    tended_with: ArcSwapOption<SealKeys>,
    key: ArcSwapOption<StoreKey>,
    is_sealing: AtomicBool,
    has_failed: AtomicBool,
}

impl StoreKeyring {
    pub(super) fn new(store: Arc<dyn Store>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            store,
            entropy,
            seal_keys: ArcSwapOption::empty(),
            tended_with: ArcSwapOption::empty(),
            key: ArcSwapOption::empty(),
            is_sealing: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Uses these seal keys from now on.
    pub(in crate::session) fn use_seal_keys(&self, seal_keys: &Arc<SealKeys>) {
        self.seal_keys.store(Some(Arc::clone(seal_keys)));
    }

    /// Uses these seal keys if there are none yet: a configuration that is only checked must not
    /// replace the keys of the one that runs.
    pub(in crate::session) fn use_first_seal_keys(&self, seal_keys: &Arc<SealKeys>) {
        if self.seal_keys.load().is_none() {
            self.use_seal_keys(seal_keys);
        }
    }

    /// Seals rows from now on.
    pub(super) fn start_sealing(&self) {
        self.is_sealing.store(true, Ordering::Release);
    }

    /// The store key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: there is none, or no seal key of this gateway opens it.
    pub(in crate::session) async fn key(&self) -> Result<Arc<StoreKey>, StoreError> {
        if let Some(key) = self.key.load_full() {
            return Ok(key);
        }
        let row = self.row().await?.ok_or_else(|| unavailable("the store has no key of its own"))?;
        let key = self.opened(&row.0)?.ok_or_else(|| self.cannot_open(&row.0))?;
        Ok(self.remember(key))
    }

    /// Requires that the store key opens, if the store has one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no seal key of this gateway opens it.
    pub(in crate::session) async fn require_key(&self) -> Result<(), StoreError> {
        if self.key.load().is_none() && self.row().await?.is_some() {
            self.key().await?;
        }
        Ok(())
    }

    /// The store key; made if there is none. The second value is whether every gateway can read it,
    /// because it stands in the store as it is.
    pub(super) async fn key_or_new(&self) -> Result<(Arc<StoreKey>, bool), StoreError> {
        let seal_keys = self.seal_keys()?;
        if self.row().await?.is_none() {
            let key = match self.key.load_full() {
                // The store has lost it.
                Some(key) => key,
                None => Arc::new(StoreKey::generate(&*self.entropy).map_err(failed)?),
            };
            let is_bare = self.store.is_shared() && !seal_keys.are_configured;
            let row = StoreKeyRow::new(&key, &seal_keys, is_bare, &*self.entropy).map_err(failed)?;
            let value = envelope::encode(&STORE_KEY_KEY, &row)?;
            // If another gateway was faster, its key is the one.
            self.store.put_if_absent(&STORE_KEY_KEY, value, FOREVER).await?;
        }
        let (row, _) = self.row().await?.ok_or_else(|| unavailable("the store has no key of its own"))?;
        let key = self.opened(&row)?.ok_or_else(|| self.cannot_open(&row))?;
        Ok((self.remember(key), row.is_bare()))
    }

    /// Keeps the row of the store key under the seal keys that are configured, after each change of
    /// them, and objects if none of them opens it.
    pub(super) async fn tend(&self) -> Result<(), StoreError> {
        let seal_keys = self.seal_keys()?;
        let is_tended = self.tended_with.load().as_ref().is_some_and(|known| Arc::ptr_eq(known, &seal_keys));
        if is_tended && !self.store.is_shared() {
            return Ok(());
        }
        let Some((row, bytes)) = self.row().await? else {
            if self.key.load().is_some() {
                warn!("the store had lost its key: it was put back");
                self.key_or_new().await?;
            }
            return Ok(());
        };
        let Some(key) = self.opened(&row)? else {
            self.object().await?;
            let error = self.cannot_open(&row);
            if !self.has_failed.swap(true, Ordering::Relaxed) {
                error!("rows of the store cannot be read: {error}");
            }
            return Err(error);
        };
        self.has_failed.store(false, Ordering::Relaxed);
        let key = self.remember(key);
        if row.is_bare() && !row.kids().any(|kid| seal_keys.iter().any(|key| key.kid == kid)) {
            self.object().await?;
        }
        if !is_tended {
            self.write_under(&seal_keys, &key, &row, bytes).await?;
        }
        Ok(())
    }

    /// Writes the row so that exactly these seal keys open it. The operator adds a key on every
    /// gateway before it seals on one, so the gateways always have one in common.
    async fn write_under(
        &self,
        seal_keys: &Arc<SealKeys>,
        key: &StoreKey,
        row: &StoreKeyRow,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let is_bare = row.is_bare() && (!seal_keys.are_configured || self.is_objected_to().await?);
        if is_bare == row.is_bare() && row.is_under(seal_keys) {
            self.tended_with.store(Some(Arc::clone(seal_keys)));
            return Ok(());
        }
        let written = StoreKeyRow::new(key, seal_keys, is_bare, &*self.entropy).map_err(failed)?;
        let value = envelope::encode(&STORE_KEY_KEY, &written)?;
        if self.store.compare_and_set(&STORE_KEY_KEY, &bytes, value, FOREVER).await? {
            info!("the key of the store is sealed with the configured `sessions.seal_keys`");
            self.tended_with.store(Some(Arc::clone(seal_keys)));
        }
        Ok(())
    }

    /// Whether a gateway said within the last minute that it cannot open the store key.
    pub(super) async fn is_objected_to(&self) -> Result<bool, StoreError> {
        Ok(self.store.is_shared() && self.store.get(&OBJECTION_KEY).await?.is_some())
    }

    async fn object(&self) -> Result<(), StoreError> {
        if self.store.is_shared() {
            self.store.put(&OBJECTION_KEY, Bytes::new(), OBJECTION_LASTS).await?;
        }
        Ok(())
    }

    /// Writes a row, sealed if rows are sealed in this store.
    pub(in crate::session) async fn encode<T: Encode<()> + Sync>(
        &self,
        key: &Key,
        value: &T,
    ) -> Result<Bytes, StoreError> {
        if !self.is_sealing.load(Ordering::Acquire) {
            return envelope::encode(key, value);
        }
        let store_key = self.key().await?;
        sealed::encode(key, value, &store_key, &*self.entropy)
    }

    /// Writes a row that is sealed from the first version that has it.
    pub(super) async fn encode_sealed<T: Encode<()> + Sync>(
        &self,
        key: &Key,
        value: &T,
    ) -> Result<Bytes, StoreError> {
        let store_key = match self.key.load_full() {
            Some(store_key) => store_key,
            None => self.key_or_new().await?.0,
        };
        sealed::encode(key, value, &store_key, &*self.entropy)
    }

    /// Reads a row that is always sealed.
    pub(super) async fn decode_sealed<T>(&self, key: &Key, bytes: &[u8]) -> Result<T, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let sealed = sealed::sealed_box(key, bytes)?;
        sealed::open(key, &sealed, &*self.key().await?)
    }

    /// Reads a row, sealed or not.
    pub(in crate::session) async fn decode<T>(&self, key: &Key, bytes: &[u8]) -> Result<T, StoreError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        if !sealed::is_sealed(bytes) {
            return envelope::decode(key, bytes);
        }
        let sealed = sealed::sealed_box(key, bytes)?;
        sealed::open(key, &sealed, &*self.key().await?)
    }

    async fn row(&self) -> Result<Option<(StoreKeyRow, Bytes)>, StoreError> {
        let Some(bytes) = self.store.get(&STORE_KEY_KEY).await? else { return Ok(None) };
        Ok(Some((envelope::decode(&STORE_KEY_KEY, &bytes)?, bytes)))
    }

    fn opened(&self, row: &StoreKeyRow) -> Result<Option<StoreKey>, StoreError> {
        row.open(&*self.seal_keys()?).map_err(failed)
    }

    /// Of two keys the one that the store has counts.
    fn remember(&self, key: StoreKey) -> Arc<StoreKey> {
        let known = self.key.load_full().filter(|known| known.is_same(&key));
        let key = known.unwrap_or_else(|| Arc::new(key));
        self.key.store(Some(Arc::clone(&key)));
        key
    }

    fn seal_keys(&self) -> Result<Arc<SealKeys>, StoreError> {
        self.seal_keys.load_full().ok_or_else(|| unavailable("no seal key is known yet"))
    }

    fn cannot_open(&self, row: &StoreKeyRow) -> StoreError {
        let kids: Vec<&str> = row.kids().collect();
        StoreError::Unavailable(
            format!(
                "the key of the store is sealed with `{}`: add this key to `sessions.seal_keys`",
                kids.join("` and `")
            )
            .into(),
        )
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(why.into())
}

fn failed(error: SessionError) -> StoreError {
    StoreError::Unavailable(error.to_string().into())
}
