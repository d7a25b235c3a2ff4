//! Rows that only the store key opens. They have a version of their own, which gateways of the
//! previous version refuse to read.

use bytes::Bytes;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::envelope::{self, damaged};
use super::seal::SealedBox;
use super::store_key::StoreKey;
use crate::entropy::Entropy;
use crate::store::{Key, StoreError};

const VERSION: u8 = 2;

/// Writes a row so that only the store key opens it.
///
/// # Errors
/// [`StoreError`]: the value cannot be encoded, or not sealed.
pub(in crate::session) fn encode<T: Encode<()>>(
    key: &Key,
    value: &T,
    store_key: &StoreKey,
    entropy: &dyn Entropy,
) -> Result<Bytes, StoreError> {
    let mut content = Zeroizing::new(Vec::new());
    minicbor::encode(value, &mut *content).map_err(|_| damaged("a row cannot be written"))?;
    envelope::written(key, VERSION, &store_key.seal_row(key, &content, entropy)?)
}

/// Whether these bytes are a sealed row.
pub(in crate::session) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION)
}

/// Reads the box of the sealed row that stands under this key.
///
/// # Errors
/// [`StoreError::Damaged`]: as [`envelope::decode`].
pub(in crate::session) fn sealed_box(key: &Key, bytes: &[u8]) -> Result<SealedBox, StoreError> {
    envelope::parsed(envelope::body(key, VERSION, bytes)?)
}

/// Opens the box of a row.
///
/// # Errors
/// [`StoreError::Damaged`]: the store key does not open it, or what is in it is not of this type.
pub(in crate::session) fn open<T>(
    key: &Key,
    sealed: &SealedBox,
    store_key: &StoreKey,
) -> Result<T, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    envelope::parsed(&store_key.open_row(key, sealed)?)
}
