//! Refresh tokens: where the row is, a word that only tokens of the session share, and a secret good for one use.
//!
//! The store has hashes alone. The successor of a spent token is there too, for the grace time, but sealed under a key
//! that the spent token itself gives: whoever reads the store learns no token.
//!
//! A row that says of a token that it is spent says nothing of whether the successor was told: the write comes first, and
//! what becomes of the answer nobody can write down. So it counts as told from that write on, and the grace time runs from
//! there, whoever asks again and whatever they are answered: else a thief could prolong it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decode, Encode};
use secrecy::{ExposeSecret as _, SecretString};
use std::time::Duration;
use zeroize::Zeroizing;

use super::SessionError;
use super::field::millis;
use super::name::{Locator, SessionKey};
use super::seal::{self, SealedBox, internal};
use crate::clock::Timestamp;
use crate::digest::sha256;
use crate::entropy::{self, Entropy};

const TOKEN_BYTES: usize = 64;
/// Characters of base64url that 64 bytes take.
const TOKEN_CHARACTERS: usize = 86;

/// A refresh token; `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct RefreshToken(SecretString);

/// A text that no refresh token of ours looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token")]
pub struct InvalidRefreshToken;

impl RefreshToken {
    /// Parses a refresh token.
    ///
    /// # Errors
    /// [`InvalidRefreshToken`] on what no gateway of ours issued.
    pub fn parse(text: &str) -> Result<Self, InvalidRefreshToken> {
        Parts::read(text).ok_or(InvalidRefreshToken)?;
        Ok(Self(text.into()))
    }

    /// The token as the client gets it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(super) fn parts(&self) -> Option<Parts> {
        Parts::read(self.expose())
    }
}

/// What a token is made of.
pub(super) struct Parts {
    pub(super) locator: Locator,
    family: Zeroizing<[u8; 16]>,
    secret: Zeroizing<[u8; 32]>,
}

impl Parts {
    /// The first token of a session.
    pub(super) fn draw(locator: Locator, entropy: &dyn Entropy) -> Result<Self, SessionError> {
        let family = Zeroizing::new(entropy::bytes(entropy).map_err(internal)?);
        Ok(Self { locator, family, secret: draw_secret(entropy)? })
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARACTERS {
            return None;
        }
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        // Strict: neither padding nor bits that mean nothing, so that one token has one text.
        let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        let (locator, rest) = bytes.split_first_chunk::<16>().filter(|_| length == TOKEN_BYTES)?;
        let (family, secret) = rest.split_first_chunk::<16>()?;
        let secret = secret.first_chunk::<32>()?;
        Some(Self { locator: *locator, family: Zeroizing::new(*family), secret: Zeroizing::new(*secret) })
    }

    pub(super) fn token(&self) -> RefreshToken {
        let bytes = self.bytes();
        RefreshToken(URL_SAFE_NO_PAD.encode(bytes.as_slice()).into())
    }

    /// The family of a session whose first token this is.
    pub(super) fn found(&self) -> Family {
        Family { id: self.family_hash(), current: self.hash(), spent: None }
    }

    fn successor(&self, secret: Zeroizing<[u8; 32]>) -> Self {
        Self { locator: self.locator, family: self.family.clone(), secret }
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES));
        bytes.extend_from_slice(&self.locator);
        bytes.extend_from_slice(self.family.as_slice());
        bytes.extend_from_slice(self.secret.as_slice());
        bytes
    }

    fn hash(&self) -> [u8; 32] {
        sha256(&[b"menshen refresh token v1", &self.bytes()])
    }

    fn family_hash(&self) -> [u8; 32] {
        sha256(&[b"menshen refresh family v1", self.family.as_slice()])
    }

    /// The key that this token's successor is sealed with.
    fn key(&self) -> Result<Zeroizing<[u8; 32]>, SessionError> {
        let mut key = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, b"menshen refresh successor v1")
            .extract(self.secret.as_slice())
            .expand(&[&self.locator, self.family.as_slice()], HKDF_SHA256)
            .and_then(|output| output.fill(key.as_mut_slice()))
            .map_err(|_| internal("the cryptographic library derived no key"))?;
        Ok(key)
    }
}

/// What a session's row knows of its refresh tokens.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Family {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    current: [u8; 32],
    /// The one before the current one.
    #[n(2)]
    spent: Option<Spent>,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct Spent {
    #[cbor(n(0), with = "minicbor::bytes")]
    hash: [u8; 32],
    #[cbor(n(1), with = "millis")]
    at: Timestamp,
    #[n(2)]
    successor: SealedBox,
}

/// What a token of this family is.
pub(super) enum Use {
    /// The one that may be spent.
    Current,
    /// Spent just now, and its successor not yet: the reply may have been lost.
    Repeated(Parts),
    /// Spent before, or never issued: somebody has what they should not.
    Reused,
}

impl Family {
    pub(super) fn is_of(&self, token: &Parts) -> bool {
        is_same(&self.id, &token.family_hash())
    }

    /// Says what a token of this family is. Once the successor is spent, the token is no longer the spent one.
    pub(super) fn judge(
        &self,
        token: &Parts,
        session: &SessionKey,
        grace: Duration,
        now: Timestamp,
    ) -> Result<Use, SessionError> {
        let hash = token.hash();
        if is_same(&self.current, &hash) {
            return Ok(Use::Current);
        }
        let Some(spent) = self.spent.as_ref().filter(|spent| is_same(&spent.hash, &hash)) else {
            return Ok(Use::Reused);
        };
        if now.since(spent.at) >= grace {
            return Ok(Use::Reused);
        }
        let secret = seal::open(&*token.key()?, session, &spent.successor)
            .map_err(|_| super::row::damaged("a refresh token's successor does not open"))?;
        Ok(Use::Repeated(token.successor(secret)))
    }

    /// Spends the current token, which this must be, and gives the next.
    pub(super) fn rotate(
        &mut self,
        token: &Parts,
        session: &SessionKey,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Parts, SessionError> {
        let next = token.successor(draw_secret(entropy)?);
        let successor = seal::seal(&*token.key()?, session, next.secret.as_slice(), entropy)?;
        self.spent = Some(Spent { hash: self.current, at: now, successor });
        self.current = next.hash();
        Ok(next)
    }
}

fn draw_secret(entropy: &dyn Entropy) -> Result<Zeroizing<[u8; 32]>, SessionError> {
    entropy::bytes(entropy).map(Zeroizing::new).map_err(internal)
}

fn is_same(known: &[u8], given: &[u8]) -> bool {
    verify_slices_are_equal(known, given).is_ok()
}
