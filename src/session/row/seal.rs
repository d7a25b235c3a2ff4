//! AES-256-GCM over a few bytes, with a random nonce for each message.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy};
use crate::session::error::{SessionError, internal};

/// A sealed secret.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct SealedBox {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; NONCE_LEN],
    /// The tag follows the ciphertext.
    #[cbor(n(1), with = "minicbor::bytes")]
    ciphertext: Vec<u8>,
}

/// The box was sealed with another key or for another purpose, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct CannotOpen;

/// Seals a secret for a purpose: the box opens for the same purpose only.
pub(in crate::session) fn seal(
    key: &[u8; 32],
    purpose: &[u8],
    secret: &[u8],
    entropy: &dyn Entropy,
) -> Result<SealedBox, SessionError> {
    let nonce: [u8; NONCE_LEN] = entropy::bytes(entropy).map_err(internal)?;
    let mut ciphertext = secret.to_vec();
    aead_key(key)
        .and_then(|key| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(nonce, Aad::from(purpose), &mut ciphertext).map_err(|_| CannotOpen)
        })
        .map_err(|CannotOpen| SessionError::Internal("the cryptographic library did not seal".into()))?;
    Ok(SealedBox { nonce, ciphertext })
}

/// Opens a box.
pub(in crate::session) fn open<const N: usize>(
    key: &[u8; 32],
    purpose: &[u8],
    sealed: &SealedBox,
) -> Result<Zeroizing<[u8; N]>, CannotOpen> {
    let opened = open_all(key, purpose, sealed)?;
    let mut secret = Zeroizing::new([0; N]);
    if opened.len() != N {
        return Err(CannotOpen);
    }
    secret.copy_from_slice(&opened);
    Ok(secret)
}

/// Opens a box of any length.
pub(in crate::session) fn open_all(
    key: &[u8; 32],
    purpose: &[u8],
    sealed: &SealedBox,
) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
    let mut bytes = Zeroizing::new(sealed.ciphertext.clone());
    let nonce = Nonce::assume_unique_for_key(sealed.nonce);
    let length =
        aead_key(key)?.open_in_place(nonce, Aad::from(purpose), &mut bytes).map_err(|_| CannotOpen)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

fn aead_key(key: &[u8; 32]) -> Result<LessSafeKey, CannotOpen> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| CannotOpen)
}
