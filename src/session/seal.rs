//! AES-256-GCM over a few bytes, with a nonce drawn for each.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::SessionError;
use crate::entropy::{self, Entropy};

/// What was sealed.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct SealedBox {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; NONCE_LEN],
    /// Followed by the tag.
    #[cbor(n(1), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
}

/// It was not sealed with this key, or not for this purpose, or is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CannotOpen;

pub(super) fn seal(
    key: &[u8; 32],
    purpose: &[u8],
    secret: &[u8],
    entropy: &dyn Entropy,
) -> Result<SealedBox, SessionError> {
    let nonce: [u8; NONCE_LEN] = entropy::bytes(entropy).map_err(internal)?;
    let mut ciphertext = secret.to_vec();
    self::key(key)
        .and_then(|key| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(purpose), &mut ciphertext).map_err(|_| CannotOpen)
        })
        .map_err(|CannotOpen| SessionError::Internal("the cryptographic library did not seal".into()))?;
    Ok(SealedBox { nonce, ciphertext })
}

pub(super) fn open<const N: usize>(
    key: &[u8; 32],
    purpose: &[u8],
    sealed: &SealedBox,
) -> Result<Zeroizing<[u8; N]>, CannotOpen> {
    let mut bytes = Zeroizing::new(sealed.ciphertext.clone());
    let nonce = Nonce::assume_unique_for_key(sealed.nonce);
    let opened =
        self::key(key)?.open_in_place(nonce, Aad::from(purpose), &mut bytes).map_err(|_| CannotOpen)?;
    let mut secret = Zeroizing::new([0; N]);
    if opened.len() != N {
        return Err(CannotOpen);
    }
    secret.copy_from_slice(opened);
    Ok(secret)
}

fn key(key: &[u8; 32]) -> Result<LessSafeKey, CannotOpen> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| CannotOpen)
}

pub(super) fn internal(error: impl std::fmt::Display) -> SessionError {
    SessionError::Internal(error.to_string().into())
}
