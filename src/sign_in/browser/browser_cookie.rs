//! The cookie that tells which browser began a sign-in: a random word, one for all of its tabs.
//!
//! The record of a sign-in has the hash of the word. Without it, an attacker could make a user open
//! a callback URL of the attacker, and the user would be signed in as the attacker. See RFC 9700
//! §4.7.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use super::BrowserError;
use super::state::LIFETIME;
use crate::config::BrowserCheck;
use crate::cookie::{self, OwnCookie};
use crate::digest::sha256;
use crate::entropy::{self, Entropy, NoEntropy};

/// 128 bits in base64url.
const BYTES: usize = 16;
const CHARACTERS: usize = 22;

/// A browser that is about to sign in.
#[derive(Clone, Debug)]
pub(super) struct Browser(SecretString);

/// What a browser that came back has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrowserProof {
    /// It has the cookie of the browser that began.
    Cookie,
    /// It has no cookie, and the app does not require one.
    Nothing,
}

impl Browser {
    /// The browser that a request came from, or a new one. Tabs of one browser share its word, so
    /// that they do not replace each other's.
    pub(super) fn of(headers: &HeaderMap, entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        match OwnCookie::of(headers, cookie::BROWSER) {
            OwnCookie::One(value) if is_well_formed(value) => Ok(Self(value.into())),
            _ => Ok(Self(entropy::identifier(entropy)?.into())),
        }
    }

    /// The hash that a record has of it.
    pub(super) fn hash(&self) -> [u8; 32] {
        hash(self.0.expose_secret())
    }

    /// The `Set-Cookie` value, valid for the whole lifetime.
    pub(super) fn set_cookie(&self) -> Option<HeaderValue> {
        cookie::set(cookie::BROWSER, self.0.expose_secret(), LIFETIME)
    }
}

/// Decides whether the browser that comes back may be the one that began.
///
/// # Errors
/// [`BrowserError::BrowserMismatch`] if the browser shows another cookie than that of the browser
/// that began, even if the check is loose; [`BrowserError::BrowserCookieMissing`] if it shows none
/// and the check is strict.
pub(super) fn check(
    headers: &HeaderMap,
    began: &[u8; 32],
    how: BrowserCheck,
) -> Result<BrowserProof, BrowserError> {
    match (OwnCookie::of(headers, cookie::BROWSER), how) {
        (OwnCookie::One(value), _) if is_well_formed(value) && hash(value) == *began => {
            Ok(BrowserProof::Cookie)
        }
        (OwnCookie::One(_) | OwnCookie::Several, _) => Err(BrowserError::BrowserMismatch),
        (OwnCookie::Absent, BrowserCheck::Strict) => Err(BrowserError::BrowserCookieMissing),
        (OwnCookie::Absent, BrowserCheck::Loose) => Ok(BrowserProof::Nothing),
    }
}

fn is_well_formed(value: &str) -> bool {
    // Strict: neither padding nor bits that mean nothing, so that one browser has one word.
    value.len() == CHARACTERS && URL_SAFE_NO_PAD.decode(value).is_ok_and(|bytes| bytes.len() == BYTES)
}

fn hash(value: &str) -> [u8; 32] {
    sha256(&[b"menshen browser cookie v1", value.as_bytes()])
}
