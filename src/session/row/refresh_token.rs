//! Refresh tokens. A token holds the row's locator, a family id that all tokens of the session
//! share, and a secret that is good for one use.
//!
//! The store holds only hashes. During the grace time it also holds the successor of the spent
//! token, sealed under a key that is derived from the spent token: a reader of the store learns no
//! token.
//!
//! A row that says "spent" does not say whether the client got the successor: the write comes
//! first, and the fate of the answer is unknown. The successor therefore counts as delivered from
//! that write on, and the grace time starts there, whatever later answers say. Otherwise a thief
//! could prolong it.
//!
//! Only the client that spent the token gets the successor again. The row holds a hash of that
//! client, keyed with the spent token. A row that an older gateway wrote holds none; there every
//! client gets the successor.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::envelope::damaged;
use super::field::millis;
use super::name::{EntryId, Locator};
use super::seal::{self, SealedBox};
use crate::clock::Timestamp;
use crate::digest::sha256;
use crate::entropy::{self, Entropy};
use crate::session::client::Client;
use crate::session::error::{SessionError, internal};

const TOKEN_BYTES: usize = 64;
/// Characters of base64url that 64 bytes take.
const TOKEN_CHARACTERS: usize = 86;

/// A refresh token. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct RefreshToken(SecretString);

/// A text that cannot be a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token")]
pub struct InvalidRefreshToken;

impl RefreshToken {
    /// Parses a refresh token.
    ///
    /// # Errors
    /// [`InvalidRefreshToken`]: no gateway issued it.
    pub fn parse(text: &str) -> Result<Self, InvalidRefreshToken> {
        DecodedRefreshToken::decode(text).ok_or(InvalidRefreshToken)?;
        Ok(Self(text.into()))
    }

    /// The token for the client. It is a credential and must not be logged.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(in crate::session) fn decode(&self) -> Option<DecodedRefreshToken> {
        DecodedRefreshToken::decode(self.expose())
    }
}

/// The three fields of a token.
pub(in crate::session) struct DecodedRefreshToken {
    pub(in crate::session) locator: Locator,
    family: Zeroizing<[u8; 16]>,
    secret: Zeroizing<[u8; 32]>,
}

impl DecodedRefreshToken {
    /// Draws the first token of a session.
    pub(in crate::session) fn generate(
        locator: Locator,
        entropy: &dyn Entropy,
    ) -> Result<Self, SessionError> {
        let family = Zeroizing::new(entropy::bytes(entropy).map_err(internal)?);
        Ok(Self { locator, family, secret: generate_secret(entropy)? })
    }

    fn decode(text: &str) -> Option<Self> {
        if text.len() != TOKEN_CHARACTERS {
            return None;
        }
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        // Strict: no padding and no unused bits, so that one token has one text.
        let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        let (locator, rest) = bytes.split_first_chunk::<16>().filter(|_| length == TOKEN_BYTES)?;
        let (family, secret) = rest.split_first_chunk::<16>()?;
        let secret = secret.first_chunk::<32>()?;
        Some(Self { locator: *locator, family: Zeroizing::new(*family), secret: Zeroizing::new(*secret) })
    }

    pub(in crate::session) fn encode(&self) -> RefreshToken {
        let bytes = self.bytes();
        RefreshToken(URL_SAFE_NO_PAD.encode(bytes.as_slice()).into())
    }

    /// The token family of a session whose first token this is.
    pub(in crate::session) fn new_family(&self) -> RefreshTokenFamily {
        RefreshTokenFamily { id: self.family_hash(), current: self.hash(), spent: None }
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

    /// The hash of the client that shows this token. Its key is the token: a reader of the store
    /// cannot try addresses.
    pub(in crate::session) fn shown_by(&self, client: &Client) -> ClientHash {
        let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_slice()));
        hash.update(b"menshen refresh client v1");
        hash.update(&self.locator);
        hash.update(self.family.as_slice());
        for field in client.fields() {
            // A length before each field, so that none can reach into the next.
            hash.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(field);
        }
        let mut short = [0; 16];
        short.iter_mut().zip(hash.sign().as_ref()).for_each(|(to, from)| *to = *from);
        ClientHash(short.into())
    }

    /// Derives the key that seals this token's successor.
    fn successor_key(&self) -> Result<Zeroizing<[u8; 32]>, SessionError> {
        let mut key = Zeroizing::new([0; 32]);
        Salt::new(HKDF_SHA256, b"menshen refresh successor v1")
            .extract(self.secret.as_slice())
            .expand(&[&self.locator, self.family.as_slice()], HKDF_SHA256)
            .and_then(|output| output.fill(key.as_mut_slice()))
            .map_err(|_| internal("the cryptographic library derived no key"))?;
        Ok(key)
    }
}

/// What a session's entry holds of its refresh tokens.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct RefreshTokenFamily {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    current: [u8; 32],
    /// The token before the current one.
    #[n(2)]
    spent: Option<SpentToken>,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct SpentToken {
    #[cbor(n(0), with = "minicbor::bytes")]
    hash: [u8; 32],
    #[cbor(n(1), with = "millis")]
    at: Timestamp,
    #[n(2)]
    successor: SealedBox,
    /// The client that spent it; `None` if a gateway spent it that does not store the client.
    #[n(3)]
    client: Option<ClientHash>,
}

/// A client, as a hash that is keyed with the token that it shows.
#[derive(Clone, Copy, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub(in crate::session) struct ClientHash(#[n(0)] ByteArray<16>);

/// What a token of a family is good for.
pub(in crate::session) enum TokenUse {
    /// The client may spend it.
    Current,
    /// It was spent within the grace time and its successor was not: the answer may have been lost.
    /// Holds the successor.
    Repeated(DecodedRefreshToken),
    /// As before, but another client spent it.
    OfOtherClient,
    /// It was spent earlier, or never issued: the token was stolen.
    Reused,
}

impl RefreshTokenFamily {
    /// Whether a token is of this family.
    pub(in crate::session) fn contains(&self, token: &DecodedRefreshToken) -> bool {
        is_equal(&self.id, &token.family_hash())
    }

    /// Whether a token is the current one.
    pub(in crate::session) fn is_current(&self, token: &DecodedRefreshToken) -> bool {
        is_equal(&self.current, &token.hash())
    }

    /// When the last token was spent; the start of time if none was.
    pub(in crate::session) fn spent_at(&self) -> Timestamp {
        self.spent.as_ref().map(|spent| spent.at).unwrap_or_default()
    }

    /// Tells what a token of this family is good for, to this client. Once its successor is spent,
    /// the token is no longer the spent one, and counts as reused.
    pub(in crate::session) fn classify(
        &self,
        token: &DecodedRefreshToken,
        client: &ClientHash,
        session: &EntryId,
        grace: Duration,
        now: Timestamp,
    ) -> Result<TokenUse, SessionError> {
        if self.is_current(token) {
            return Ok(TokenUse::Current);
        }
        let hash = token.hash();
        let Some(spent) = self.spent.as_ref().filter(|spent| is_equal(&spent.hash, &hash)) else {
            return Ok(TokenUse::Reused);
        };
        if now.since(spent.at) >= grace {
            return Ok(TokenUse::Reused);
        }
        if spent.client.is_some_and(|ClientHash(known)| !is_equal(&*known, &*client.0)) {
            return Ok(TokenUse::OfOtherClient);
        }
        let secret = seal::open(&*token.successor_key()?, session, &spent.successor)
            .map_err(|_| damaged("a refresh token's successor does not open"))?;
        Ok(TokenUse::Repeated(token.successor(secret)))
    }

    /// Spends the current token, which `token` must be, for a client, and returns its successor.
    pub(in crate::session) fn rotate(
        &mut self,
        token: &DecodedRefreshToken,
        client: ClientHash,
        session: &EntryId,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<DecodedRefreshToken, SessionError> {
        let next = token.successor(generate_secret(entropy)?);
        let successor = seal::seal(&*token.successor_key()?, session, next.secret.as_slice(), entropy)?;
        self.spent = Some(SpentToken { hash: self.current, at: now, successor, client: Some(client) });
        self.current = next.hash();
        Ok(next)
    }
}

fn generate_secret(entropy: &dyn Entropy) -> Result<Zeroizing<[u8; 32]>, SessionError> {
    entropy::bytes(entropy).map(Zeroizing::new).map_err(internal)
}

fn is_equal(known: &[u8], given: &[u8]) -> bool {
    verify_slices_are_equal(known, given).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    const SESSION: EntryId = [1; 16];
    const GRACE: Duration = Duration::from_secs(10);

    /// A family as the version before reads and writes it.
    #[derive(Encode, Decode)]
    struct OldFamily {
        #[cbor(n(0), with = "minicbor::bytes")]
        id: [u8; 32],
        #[cbor(n(1), with = "minicbor::bytes")]
        current: [u8; 32],
        #[n(2)]
        spent: Option<OldSpentToken>,
    }

    #[derive(Encode, Decode)]
    struct OldSpentToken {
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: [u8; 32],
        #[cbor(n(1), with = "millis")]
        at: Timestamp,
        #[n(2)]
        successor: SealedBox,
    }

    #[test]
    fn a_token_that_the_version_before_spent_is_repeated_to_every_client() {
        let token = DecodedRefreshToken::generate([7; 16], &SystemEntropy).unwrap();
        let mut family = token.new_family();
        let shown = token.shown_by(&Client::for_test([192, 0, 2, 1], "one"));
        let now = Timestamp::from_seconds(1_800_000_000);
        let next = family.rotate(&token, shown, &SESSION, &SystemEntropy, now).unwrap();
        let other = token.shown_by(&Client::for_test([198, 51, 100, 1], "other"));
        let classify = |family: &RefreshTokenFamily| family.classify(&token, &other, &SESSION, GRACE, now);
        assert!(matches!(classify(&family), Ok(TokenUse::OfOtherClient)));

        // The version before reads the row, and drops what it does not know when it writes it.
        let read: OldFamily = minicbor::decode(&minicbor::to_vec(&family).unwrap()).unwrap();
        let written: RefreshTokenFamily = minicbor::decode(&minicbor::to_vec(&read).unwrap()).unwrap();

        let Ok(TokenUse::Repeated(repeated)) = classify(&written) else { panic!("not repeated") };
        assert_eq!(repeated.hash(), next.hash());
    }

    #[test]
    fn the_hash_of_a_client_says_nothing_without_the_token() {
        let tokens = [(); 2].map(|()| DecodedRefreshToken::generate([7; 16], &SystemEntropy).unwrap());
        let client = Client::for_test([192, 0, 2, 1], "one");

        let [one, other] = tokens.map(|token| token.shown_by(&client));

        assert!(one != other);
    }
}
