//! The store key: a random key of the store. It hashes the names of people who were erased, and
//! seals rows.
//!
//! The store holds it in a row of its own, sealed under each seal key of the configuration. A
//! change of the seal keys therefore writes this one row again: no name and no other row changes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::envelope::damaged;
use super::person::PersonField;
use super::seal::{self, SealedBox};
use super::session_key::{SealKey, SealKeys};
use crate::entropy::{self, Entropy};
use crate::session::error::{SessionError, internal};
use crate::store::{Key, Space, StoreError};

/// The key of the row.
pub(in crate::session) const STORE_KEY_KEY: Key = Key { space: Space::Key, name: *b"menshen-key---v1" };
/// The key of the row that says that a gateway cannot open the store key.
pub(in crate::session) const OBJECTION_KEY: Key = Key { space: Space::Key, name: *b"menshen-nokey-v1" };

const SALT: &[u8] = b"menshen store key v1";
/// Names what a box holds: a seal key also seals `session_key`s.
const PURPOSE: &[u8] = b"menshen store key v1";

/// The store key, as the two keys that are derived from it.
pub(in crate::session) struct StoreKey {
    secret: Zeroizing<[u8; 32]>,
    names: hmac::Key,
    rows: Prk,
}

/// The row of the store key.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct StoreKeyRow {
    #[n(0)]
    boxes: Vec<StoreKeyBox>,
    /// The key itself, if the gateways of a shared store have no seal key in common.
    #[n(1)]
    bare: Option<ByteArray<32>>,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct StoreKeyBox {
    #[n(0)]
    kid: String,
    #[n(1)]
    sealed: SealedBox,
}

impl StoreKey {
    /// Draws the key of a new store.
    pub(in crate::session) fn generate(entropy: &dyn Entropy) -> Result<Self, SessionError> {
        Self::new(Zeroizing::new(entropy::bytes(entropy).map_err(internal)?))
    }

    pub(in crate::session) fn new(secret: Zeroizing<[u8; 32]>) -> Result<Self, SessionError> {
        let extracted = Salt::new(HKDF_SHA256, SALT).extract(secret.as_slice());
        let mut names = Zeroizing::new([0; 32]);
        derive(&extracted, &[b"names"], &mut names)?;
        let names = hmac::Key::new(hmac::HMAC_SHA256, names.as_slice());
        Ok(Self { secret, names, rows: extracted })
    }

    /// Whether another key is this one.
    pub(in crate::session) fn is_same(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.secret.as_slice(), other.secret.as_slice()).is_ok()
    }

    /// The keyed hash of a person. Without the store key it shows nothing about the person.
    pub(in crate::session) fn hash(&self, person: &PersonField) -> [u8; 16] {
        let mut text = b"menshen person v1".to_vec();
        for word in person.words() {
            // A length before each word: no two lists of words make the same text.
            text.extend_from_slice(&u32::try_from(word.len()).unwrap_or(u32::MAX).to_be_bytes());
            text.extend_from_slice(word);
        }
        let hash = hmac::sign(&self.names, &text);
        hash.as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// Seals the content of a row. Each row has a key of its own, so that the limit on the uses of
    /// one key does not bound the number of rows.
    pub(in crate::session) fn seal_row(
        &self,
        key: &Key,
        content: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<SealedBox, StoreError> {
        self.row_key(key)
            .and_then(|(row_key, purpose)| seal::seal(&row_key, &purpose, content, entropy))
            .map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Opens the content of a row.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: it was sealed under another key, or for another row.
    pub(in crate::session) fn open_row(
        &self,
        key: &Key,
        sealed: &SealedBox,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let cannot_open = || damaged("a sealed row does not open");
        let (row_key, purpose) = self.row_key(key).map_err(|_| cannot_open())?;
        seal::open_all(&row_key, &purpose, sealed).map_err(|_| cannot_open())
    }

    fn row_key(&self, key: &Key) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), SessionError> {
        let purpose = [b"menshen row v1 ", &[key.space.letter() as u8][..], &key.name].concat();
        let mut row_key = Zeroizing::new([0; 32]);
        derive(&self.rows, &[b"row ", &purpose], &mut row_key)?;
        Ok((row_key, purpose))
    }
}

impl StoreKeyRow {
    /// The row that holds a key under these seal keys, or as it is.
    pub(in crate::session) fn new(
        key: &StoreKey,
        seal_keys: &SealKeys,
        is_bare: bool,
        entropy: &dyn Entropy,
    ) -> Result<Self, SessionError> {
        let boxed = |SealKey { kid, secret }: &SealKey| {
            let sealed = seal::seal(secret, &purpose(kid), key.secret.as_slice(), entropy)?;
            Ok(StoreKeyBox { kid: kid.clone(), sealed })
        };
        let boxes = seal_keys.iter().map(boxed).collect::<Result<_, SessionError>>()?;
        Ok(Self { boxes, bare: is_bare.then(|| (*key.secret).into()) })
    }

    /// The store key; `None` if no seal key opens it.
    ///
    /// # Errors
    /// [`SessionError`]: a box of this name does not open.
    pub(in crate::session) fn open(&self, seal_keys: &SealKeys) -> Result<Option<StoreKey>, SessionError> {
        for StoreKeyBox { kid, sealed } in &self.boxes {
            let Some(key) = seal_keys.iter().find(|key| key.kid == *kid) else { continue };
            if let Ok(secret) = seal::open::<32>(&key.secret, &purpose(kid), sealed) {
                return StoreKey::new(secret).map(Some);
            }
        }
        self.bare.as_ref().map(|secret| StoreKey::new(Zeroizing::new(**secret))).transpose()
    }

    /// Whether the row holds the key as it is.
    pub(in crate::session) const fn is_bare(&self) -> bool {
        self.bare.is_some()
    }

    /// The names of the seal keys that open it.
    pub(in crate::session) fn kids(&self) -> impl Iterator<Item = &str> {
        self.boxes.iter().map(|boxed| boxed.kid.as_str())
    }

    /// Whether exactly these seal keys open it.
    pub(in crate::session) fn is_under(&self, seal_keys: &SealKeys) -> bool {
        self.boxes.len() == seal_keys.iter().count()
            && self.boxes.iter().all(|boxed| {
                let key = seal_keys.iter().find(|key| key.kid == boxed.kid);
                key.is_some_and(|key| {
                    seal::open::<32>(&key.secret, &purpose(&boxed.kid), &boxed.sealed).is_ok()
                })
            })
    }
}

fn purpose(kid: &str) -> Vec<u8> {
    [PURPOSE, kid.as_bytes()].concat()
}

fn derive(from: &Prk, info: &[&[u8]], key: &mut Zeroizing<[u8; 32]>) -> Result<(), SessionError> {
    from.expand(info, HKDF_SHA256)
        .and_then(|output| output.fill(key.as_mut_slice()))
        .map_err(|_| internal("the cryptographic library derived no key"))
}
