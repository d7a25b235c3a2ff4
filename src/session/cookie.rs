//! The cookie of a session that a browser holds: where the row is, and a secret. The store has its hash alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::SessionError;
use super::name::Locator;
use super::seal::internal;
use crate::digest::sha256;
use crate::entropy::{self, Entropy};

const COOKIE_BYTES: usize = 48;
/// Characters of base64url that 48 bytes take.
const COOKIE_CHARACTERS: usize = 64;

/// A session's cookie: 64 characters of base64url. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct SessionCookie(SecretString);

/// A text that no session cookie of ours looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session cookie")]
pub struct InvalidSessionCookie;

impl SessionCookie {
    /// Parses a cookie's value.
    ///
    /// # Errors
    /// [`InvalidSessionCookie`] on what no gateway of ours set.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionCookie> {
        read(text).ok_or(InvalidSessionCookie)?;
        Ok(Self(text.into()))
    }

    /// The value as the browser gets it: a credential, never to be logged.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(super) fn draw(locator: &Locator, entropy: &dyn Entropy) -> Result<Self, SessionError> {
        let secret = Zeroizing::new(entropy::bytes::<32>(entropy).map_err(internal)?);
        let mut bytes = Zeroizing::new(Vec::with_capacity(COOKIE_BYTES));
        bytes.extend_from_slice(locator);
        bytes.extend_from_slice(secret.as_slice());
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes.as_slice()).into()))
    }

    /// Where the row is, and what it knows the cookie by.
    pub(super) fn parts(&self) -> Option<(Locator, [u8; 32])> {
        read(self.expose())
    }
}

fn read(text: &str) -> Option<(Locator, [u8; 32])> {
    if text.len() != COOKIE_CHARACTERS {
        return None;
    }
    let mut bytes = Zeroizing::new([0; COOKIE_BYTES]);
    // Strict: neither padding nor bits that mean nothing, so that one cookie has one text.
    let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    let (locator, _) = bytes.split_first_chunk::<16>().filter(|_| length == COOKIE_BYTES)?;
    Some((*locator, sha256(&[b"menshen session cookie v1", bytes.as_slice()])))
}
