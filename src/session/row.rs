//! How a row is written: a version, CBOR, and a checksum over both and the row's own name.
//!
//! The store is trusted, disks and cables are not: a flipped bit in an instant would else prolong a session, and a row
//! that stands where another belongs would else be somebody else's.

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode};

use crate::digest::sha256;
use crate::store::{Key, StoreError};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 8;

pub(super) fn encode<T: Encode<()>>(key: &Key, value: &T) -> Result<Bytes, StoreError> {
    let mut bytes = vec![VERSION];
    minicbor::encode(value, &mut bytes).map_err(|_| damaged("a row cannot be written"))?;
    let checksum = checksum(key, &bytes);
    bytes.extend_from_slice(&checksum);
    Ok(bytes.into())
}

pub(super) fn decode<T>(key: &Key, bytes: &[u8]) -> Result<T, StoreError>
where
    T: for<'b> Decode<'b, ()>,
{
    let (body, sum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("a row is too short"))?;
    if checksum(key, body) != *sum {
        return Err(damaged("a row's checksum is wrong"));
    }
    let [VERSION, cbor @ ..] = body else { return Err(damaged("a row is of an unknown version")) };
    let mut decoder = Decoder::new(cbor);
    let value = decoder.decode().map_err(|_| damaged("a row does not decode"))?;
    if decoder.position() != cbor.len() {
        return Err(damaged("a row has something behind its end"));
    }
    Ok(value)
}

/// A row of these bytes, whatever they say, as if it had been written so.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn with_checksum(key: &Key, body: &[u8]) -> Vec<u8> {
    [body, &checksum(key, body)].concat()
}

pub(super) fn damaged(why: &str) -> StoreError {
    StoreError::Damaged(why.into())
}

fn checksum(key: &Key, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = sha256(&[&[key.space.letter() as u8], &key.name, body]);
    hash.first_chunk().copied().unwrap_or_default()
}
