//! The ticket of a hand-over: a random word that a program passes to a web-view, and its record in
//! the store.
//!
//! The word names the record, which names the session that is handed over. It is good once, for all
//! nodes: the first that spends it wins. A spent record stays until it ends, so that a page that is
//! loaded again in the browser that spent it needs no second ticket.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use minicbor::{Decode, Encode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::BrowserError;
use crate::clock::Timestamp;
use crate::digest::sha256;
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::SessionId;
use crate::sign_in::error::SignInError;
use crate::store::{Key, Space, Store, ttl_until};

/// Longest time between the ticket and the page that is opened with it.
pub(in crate::sign_in) const TICKET_LIFETIME: Duration = Duration::from_secs(60);

const BYTES: usize = 32;
/// Characters of base64url that 32 bytes take.
const CHARACTERS: usize = 43;
/// The first byte of a record.
const VERSION: u8 = 1;

/// A ticket: 43 characters of base64url. `Debug` does not show it.
#[derive(Clone)]
pub(in crate::sign_in) struct Ticket(SecretString);

/// The record of a ticket. It names no person: the id of a session has a hash.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(in crate::sign_in) struct TicketRecord {
    /// The session that is handed over.
    #[n(0)]
    session: String,
    #[n(1)]
    created_at_millis: u64,
    #[n(2)]
    is_spent: bool,
}

/// A record that was read from the store, and is not too old.
pub(super) struct StoredTicket {
    key: Key,
    row: Bytes,
    record: TicketRecord,
    /// The session that is handed over.
    pub(super) session: SessionId,
}

impl Ticket {
    /// Generates a ticket.
    pub(in crate::sign_in) fn draw(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let bytes = Zeroizing::new(entropy::bytes::<BYTES>(entropy)?);
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes.as_slice()).into()))
    }

    /// Parses a ticket that came back. Only the store knows whether the gateway generated it.
    pub(in crate::sign_in) fn parse(text: &str) -> Option<Self> {
        // Strict: no padding and no unused bits, so that one ticket has one text.
        let is_valid = text.len() == CHARACTERS
            && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| Zeroizing::new(bytes).len() == BYTES);
        is_valid.then(|| Self(text.into()))
    }

    /// The ticket itself, a secret.
    pub(in crate::sign_in) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    fn key(&self) -> Key {
        let hash = sha256(&[b"menshen hand-over ticket v1", self.expose().as_bytes()]);
        Key { space: Space::SignIn, name: hash.first_chunk().copied().unwrap_or_default() }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket([redacted])")
    }
}

impl TicketRecord {
    /// The record of a ticket for this session.
    pub(in crate::sign_in) fn new(session: &SessionId, now: Timestamp) -> Self {
        Self { session: session.as_str().into(), created_at_millis: now.millis(), is_spent: false }
    }

    /// Stores the record under its ticket.
    pub(in crate::sign_in) async fn insert(
        &self,
        store: &dyn Store,
        ticket: &Ticket,
    ) -> Result<(), SignInError> {
        if store.put_if_absent(&ticket.key(), self.encode()?, TICKET_LIFETIME).await? {
            return Ok(());
        }
        tracing::error!("generated a ticket that exists already");
        Err(SignInError::Internal)
    }

    fn ends_at(&self) -> Timestamp {
        Timestamp::from_millis(self.created_at_millis).plus(TICKET_LIFETIME)
    }

    fn encode(&self) -> Result<Bytes, SignInError> {
        let mut row = vec![VERSION];
        minicbor::encode(self, &mut row).map_err(|_| SignInError::Internal)?;
        Ok(row.into())
    }

    fn decode(row: &[u8]) -> Option<(Self, SessionId)> {
        let [VERSION, cbor @ ..] = row else { return None };
        let mut decoder = minicbor::Decoder::new(cbor);
        let record: Self = decoder.decode().ok()?;
        let session = SessionId::parse(&record.session).ok()?;
        (decoder.position() == cbor.len()).then_some((record, session))
    }

    /// Reads a record and writes it again.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn recode(row: &[u8]) -> Option<(Self, Bytes)> {
        let (record, _) = Self::decode(row)?;
        let _ = record.ends_at();
        let written = record.encode().ok()?;
        Some((record, written))
    }
}

impl StoredTicket {
    /// Looks up the record of a ticket, spent or not.
    ///
    /// # Errors
    /// [`BrowserError::TicketUnknown`] if it is too old or never existed; otherwise the error of
    /// the store.
    pub(super) async fn look_up(
        store: &dyn Store,
        ticket: &Ticket,
        now: Timestamp,
    ) -> Result<Self, BrowserError> {
        let key = ticket.key();
        let row = store.get(&key).await?.ok_or(BrowserError::TicketUnknown)?;
        let Some((record, session)) = TicketRecord::decode(&row) else {
            tracing::error!("the store holds a malformed record of a ticket");
            return Err(SignInError::Internal.into());
        };
        // The store deletes rows by its own clock.
        if now >= record.ends_at() {
            return Err(BrowserError::TicketUnknown);
        }
        Ok(Self { key, row, record, session })
    }

    /// Whether it was spent.
    pub(super) const fn is_spent(&self) -> bool {
        self.record.is_spent
    }

    /// Spends the ticket.
    ///
    /// # Errors
    /// [`BrowserError::TicketUnknown`] if it was spent before, or at the same time.
    pub(super) async fn spend(self, store: &dyn Store, now: Timestamp) -> Result<SessionId, BrowserError> {
        if self.record.is_spent {
            return Err(BrowserError::TicketUnknown);
        }
        let spent = TicketRecord { is_spent: true, ..self.record };
        let ttl = ttl_until(spent.ends_at(), now);
        if store.compare_and_set(&self.key, &self.row, spent.encode()?, ttl).await? {
            Ok(self.session)
        } else {
            Err(BrowserError::TicketUnknown)
        }
    }
}
