//! The form of every row: a version, CBOR, and a checksum over both and the row's key.
//!
//! `sealed` writes rows of another version, with a sealed box in place of the CBOR.
//!
//! The store is trusted; disks and cables are not. Without the checksum a flipped bit in an instant
//! could prolong a session, and a row under the key of another row could be read as that row.

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode};

use crate::digest::sha256;
use crate::store::{Key, StoreError};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

/// Writes a row.
///
/// # Errors
/// [`StoreError::Damaged`]: the value cannot be encoded.
pub(in crate::session) fn encode<T: Encode<()>>(key: &Key, value: &T) -> Result<Bytes, StoreError> {
    written(key, VERSION, value)
}

/// Writes a row of a version.
///
/// # Errors
/// [`StoreError::Damaged`]: the value cannot be encoded.
pub(super) fn written<T: Encode<()>>(key: &Key, version: u8, value: &T) -> Result<Bytes, StoreError> {
    let mut bytes = vec![version];
    minicbor::encode(value, &mut bytes).map_err(|_| damaged("a row cannot be written"))?;
    let checksum = checksum(key, &bytes);
    bytes.extend_from_slice(&checksum);
    Ok(bytes.into())
}

/// Reads the row that stands under this key.
///
/// # Errors
/// [`StoreError::Damaged`]: the bytes are not a row of this key, version and type.
pub(in crate::session) fn decode<T>(key: &Key, bytes: &[u8]) -> Result<T, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    parsed(body(key, VERSION, bytes)?)
}

/// What is between the version and the checksum of a row of this version.
///
/// # Errors
/// [`StoreError::Damaged`]: the bytes are not a row of this key and version.
pub(super) fn body<'a>(key: &Key, version: u8, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let (body, sum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("a row is too short"))?;
    if checksum(key, body) != *sum {
        return Err(damaged("a row's checksum is wrong"));
    }
    match body.split_first() {
        Some((found, body)) if *found == version => Ok(body),
        _ => Err(damaged("a row has an unknown version")),
    }
}

/// Reads a value that takes all of these bytes.
///
/// # Errors
/// [`StoreError::Damaged`]
pub(super) fn parsed<T>(cbor: &[u8]) -> Result<T, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    let mut decoder = Decoder::new(cbor);
    let value = decoder.decode().map_err(|_| damaged("a row does not decode"))?;
    if decoder.position() != cbor.len() {
        return Err(damaged("a row has bytes after its end"));
    }
    Ok(value)
}

/// Adds the checksum to a body, whatever the body says.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::session) fn with_checksum(key: &Key, body: &[u8]) -> Vec<u8> {
    [body, &checksum(key, body)].concat()
}

/// The error for a row that cannot be read.
pub(in crate::session) fn damaged(why: &str) -> StoreError {
    StoreError::Damaged(why.into())
}

fn checksum(key: &Key, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = sha256(&[&[key.space.letter() as u8], &key.name, body]);
    hash.first_chunk().copied().unwrap_or_default()
}
