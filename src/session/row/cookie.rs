//! The cookie of a browser session: the row's locator and a secret. The store holds only a hash of
//! it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::name::Locator;
use crate::digest::sha256;
use crate::entropy::{self, Entropy};
use crate::session::error::{SessionError, internal};

const COOKIE_BYTES: usize = 48;
/// Characters of base64url that 48 bytes take.
const COOKIE_CHARACTERS: usize = 64;

/// A session's cookie: 64 characters of base64url. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct SessionCookie(SecretString);

/// A text that cannot be a session cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a session cookie")]
pub struct InvalidSessionCookie;

impl SessionCookie {
    /// Parses a cookie's value.
    ///
    /// # Errors
    /// [`InvalidSessionCookie`]: no gateway set it.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionCookie> {
        decode(text).ok_or(InvalidSessionCookie)?;
        Ok(Self(text.into()))
    }

    /// The value for the browser. It is a credential and must not be logged.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Draws the cookie of a new session.
    pub(in crate::session) fn generate(
        locator: &Locator,
        entropy: &dyn Entropy,
    ) -> Result<Self, SessionError> {
        let secret = Zeroizing::new(entropy::bytes::<32>(entropy).map_err(internal)?);
        let mut bytes = Zeroizing::new(Vec::with_capacity(COOKIE_BYTES));
        bytes.extend_from_slice(locator);
        bytes.extend_from_slice(secret.as_slice());
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes.as_slice()).into()))
    }

    /// The locator of the row, and the hash under which the row holds the cookie.
    pub(in crate::session) fn decode(&self) -> Option<(Locator, [u8; 32])> {
        decode(self.expose())
    }
}

fn decode(text: &str) -> Option<(Locator, [u8; 32])> {
    if text.len() != COOKIE_CHARACTERS {
        return None;
    }
    let mut bytes = Zeroizing::new([0; COOKIE_BYTES]);
    // Strict: no padding and no unused bits, so that one cookie has one text.
    let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    let (locator, _) = bytes.split_first_chunk::<16>().filter(|_| length == COOKIE_BYTES)?;
    Some((*locator, sha256(&[b"menshen session cookie v1", bytes.as_slice()])))
}
