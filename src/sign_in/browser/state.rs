//! The state of a sign-in: a random word that goes through WeChat, and its record in the store.
//!
//! The word names the record and contains nothing. A record is valid for ten minutes and for one
//! code: the first code that comes back is bound to it, for all nodes, and the same code gets the
//! same answer again. For ten more minutes the record tells which page the user came from, so that
//! a user who was too slow can try again from there.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::BrowserError;
use crate::clock::Timestamp;
use crate::digest::sha256;
use crate::entropy::{self, Entropy, NoEntropy};
use crate::session::Client;
use crate::sign_in::error::SignInError;
use crate::store::{Key, Space, Store, ttl_until};
use crate::wechat::Code;

/// Longest time between the start and the callback.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

/// How long a record is kept after that, only to tell which page the user came from.
const AFTERLIFE: Duration = Duration::from_secs(600);
/// 190 bits. WeChat accepts up to 128 characters.
const CHARACTERS: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Longest state that is looked up. States of this gateway have [`CHARACTERS`].
const MAX_CHARACTERS: usize = 128;
/// The first byte of a record.
const VERSION: u8 = 1;
/// Attempts to update a record concurrently. A caller that loses the first attempt finds the record
/// bound in the second.
const MAX_ROUNDS: usize = 3;

/// A state: 32 letters and digits. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct SignInState(SecretString);

/// The stored record of a sign-in.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct SignInRecord {
    /// Name of the app in the configuration.
    #[n(0)]
    pub(super) app: String,
    /// The `appid` of the app, because a reload may give the name to another app.
    #[n(1)]
    pub(super) appid: String,
    /// The origin at which the browser started.
    #[n(2)]
    pub(super) origin: String,
    /// The place that the browser returns to after sign-in.
    #[n(3)]
    pub(super) return_to: String,
    /// The hash of the cookie of the browser that started.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(super) browser: [u8; 32],
    #[n(5)]
    created_at_millis: u64,
    /// The hash of the code that came back with the state.
    #[n(6)]
    code: Option<CodeHash>,
    /// The client that started.
    #[n(7)]
    started_by: Option<BeginnerHash>,
    /// The client that sent the code.
    #[n(8)]
    brought_by: Option<BeginnerHash>,
    /// Whether a page of another site may have caused the start.
    #[n(9)]
    cross_site: Option<bool>,
}

/// A client, identified by its network and user agent. It is a hash that includes the state, so
/// that the store learns neither of them.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub(super) struct BeginnerHash(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

/// The client that sends a code.
#[derive(Clone, Copy)]
pub(super) struct Bearer {
    pub(super) client: BeginnerHash,
    /// Whether it has the cookie of the browser that started.
    pub(super) is_browser: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
struct CodeHash(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

/// A record that was read from the store.
pub(super) struct StoredSignIn {
    key: Key,
    row: Bytes,
    pub(super) sign_in: SignInRecord,
}

impl SignInState {
    /// Generates a state.
    pub(super) fn draw(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let mut text = String::with_capacity(CHARACTERS);
        // One byte in 32 is skipped, so that every character is equally likely; 32 times 64 bytes
        // are enough.
        for _ in 0..32 {
            let bytes = Zeroizing::new(entropy::bytes::<64>(entropy)?);
            let fair = bytes.iter().filter(|byte| usize::from(**byte) < ALPHABET.len() * 4);
            let drawn = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
            text.extend(drawn.map(|byte| char::from(*byte)).take(CHARACTERS - text.len()));
            if text.len() == CHARACTERS {
                return Ok(Self(text.into()));
            }
        }
        Err(NoEntropy)
    }

    /// Parses a state that came back. Only the store knows whether the gateway generated it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_valid = (1..=MAX_CHARACTERS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then(|| Self(text.into()))
    }

    /// The state itself, a secret.
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The client that sent a request of this sign-in.
    pub(super) fn client(&self, client: &Client) -> BeginnerHash {
        let mut text = Vec::new();
        for field in client.fields() {
            // The length comes before each field, so that two lists of fields never have one
            // encoding.
            text.extend_from_slice(&field.len().to_le_bytes());
            text.extend_from_slice(field);
        }
        let text = sha256(&[text.as_slice()]);
        BeginnerHash(sha256(&[b"menshen sign-in client v1", &text, self.expose().as_bytes()]))
    }

    /// The name of the state, a hash that is not secret.
    pub(super) fn name(&self) -> [u8; 16] {
        let hash = sha256(&[b"menshen sign-in state v1", self.expose().as_bytes()]);
        hash.first_chunk().copied().unwrap_or_default()
    }

    fn key(&self) -> Key {
        Key { space: Space::SignIn, name: self.name() }
    }
}

impl fmt::Debug for SignInState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State([redacted])")
    }
}

impl SignInRecord {
    /// A sign-in that starts now.
    pub(super) fn new(
        app: (&str, &str),
        origin: &str,
        return_to: &str,
        browser: [u8; 32],
        now: Timestamp,
    ) -> Self {
        let (name, appid) = app;
        Self {
            app: name.into(),
            appid: appid.into(),
            origin: origin.into(),
            return_to: return_to.into(),
            browser,
            created_at_millis: now.millis(),
            code: None,
            started_by: None,
            brought_by: None,
            cross_site: None,
        }
    }

    /// Adds the client that started, and whether a page of another site may have caused the start.
    pub(super) fn started_by(self, client: BeginnerHash, is_cross_site: bool) -> Self {
        Self { started_by: Some(client), cross_site: Some(is_cross_site), ..self }
    }

    /// Whether a page of another site may have caused the start. Inside WeChat the rest of the
    /// sign-in may happen without the user.
    pub(super) fn is_cross_site(&self) -> bool {
        self.cross_site == Some(true)
    }

    /// Whether this client started it, by its address and user agent.
    pub(super) fn is_started_by(&self, client: BeginnerHash) -> bool {
        self.started_by == Some(client)
    }

    /// Whether a code has come back with it.
    pub(super) const fn has_code(&self) -> bool {
        self.code.is_some()
    }

    /// Stores the record under its state.
    pub(super) async fn insert(&self, store: &dyn Store, state: &SignInState) -> Result<(), SignInError> {
        let row = self.encode()?;
        if store.put_if_absent(&state.key(), row, LIFETIME.saturating_add(AFTERLIFE)).await? {
            return Ok(());
        }
        // This does not happen by chance. If the source of randomness repeats itself, two browsers
        // must not share a state.
        tracing::error!("generated a state that exists already");
        Err(SignInError::Internal)
    }

    /// Whether its lifetime is over, so that it signs no user in.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.ends_at()
    }

    fn ends_at(&self) -> Timestamp {
        Timestamp::from_millis(self.created_at_millis).plus(LIFETIME)
    }

    fn deleted_at(&self) -> Timestamp {
        self.ends_at().plus(AFTERLIFE)
    }

    fn encode(&self) -> Result<Bytes, SignInError> {
        let mut row = vec![VERSION];
        minicbor::encode(self, &mut row).map_err(|_| SignInError::Internal)?;
        Ok(row.into())
    }

    #[cfg(test)]
    pub(super) fn written(&self) -> Bytes {
        self.encode().unwrap()
    }

    /// Reads a record and writes it again.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn recode(row: &[u8]) -> Option<(Self, Bytes)> {
        let sign_in = Self::decode(row)?;
        let _ = sign_in.deleted_at();
        let written = sign_in.encode().ok()?;
        Some((sign_in, written))
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let [VERSION, cbor @ ..] = row else { return None };
        let mut decoder = minicbor::Decoder::new(cbor);
        let sign_in = decoder.decode().ok()?;
        (decoder.position() == cbor.len()).then_some(sign_in)
    }
}

impl StoredSignIn {
    /// Looks up the record of a state, also for a while after the state expired.
    ///
    /// # Errors
    /// [`BrowserError::StateUnknown`] if the record is deleted or never existed; otherwise the
    /// error of the store.
    pub(super) async fn look_up(
        store: &dyn Store,
        state: &SignInState,
        now: Timestamp,
    ) -> Result<Self, BrowserError> {
        let key = state.key();
        let row = store.get(&key).await?.ok_or(BrowserError::StateUnknown)?;
        let Some(sign_in) = SignInRecord::decode(&row) else {
            tracing::error!("the store holds a malformed record of a sign-in");
            return Err(SignInError::Internal.into());
        };
        // The store deletes rows by its own clock.
        if now >= sign_in.deleted_at() {
            return Err(BrowserError::StateUnknown);
        }
        Ok(Self { key, row, sign_in })
    }

    /// Binds the state to the first code that comes back with it. Only the same code may come
    /// again: from the browser that started, or, without its cookie, from the client that sent the
    /// code first. Only the client distinguishes a browser that lost its cookie from a person who
    /// saw the address bar.
    ///
    /// # Errors
    /// [`BrowserError::StateUnknown`] if the state is expired or another code was first;
    /// [`SignInError::CodeOfAnother`] if another client was first.
    pub(super) async fn bind(
        mut self,
        store: &dyn Store,
        state: &SignInState,
        code: &Code,
        bearer: Bearer,
        now: Timestamp,
    ) -> Result<SignInRecord, BrowserError> {
        let hash = CodeHash(sha256(&[b"menshen sign-in code v1", code.expose().as_bytes()]));
        for _ in 0..MAX_ROUNDS {
            let is_bearer = bearer.is_browser || self.sign_in.brought_by == Some(bearer.client);
            match self.sign_in.code {
                _ if self.sign_in.is_expired(now) => return Err(BrowserError::StateUnknown),
                Some(bound) if bound == hash && is_bearer => return Ok(self.sign_in),
                Some(bound) if bound == hash => return Err(SignInError::CodeOfAnother.into()),
                Some(_) => return Err(BrowserError::StateUnknown),
                None => {}
            }
            let brought_by = Some(bearer.client);
            let bound = SignInRecord { code: Some(hash), brought_by, ..self.sign_in.clone() };
            let ttl = ttl_until(bound.deleted_at(), now);
            if store.compare_and_set(&self.key, &self.row, bound.encode()?, ttl).await? {
                return Ok(bound);
            }
            self = Self::look_up(store, state, now).await?;
        }
        Err(SignInError::StoreUnavailable.into())
    }
}

#[cfg(test)]
mod tests;
