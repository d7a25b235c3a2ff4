//! One code, one exchange, however many nodes it is sent to: for gateways that share a store.
//!
//! The first node leaves a claim in the store and exchanges the code; the others wait for what becomes of it. The outcome
//! is sealed with a key that comes from the code itself: every node that is sent the code can open it, and whoever reads
//! the store cannot. Nothing here depends on a node's own keys. What one node is sent twice is `replay`'s, before this.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::SignInService;
use super::error::SignInError;
use super::flow::{SignInAttempt, SignInFlow};
use super::replay::SignInResult;
use crate::clock::Timestamp;
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::{AppId, Identity, OpenId, SessionId, Subject, UnionId};
use crate::store::{Key, Space, Store, StoreError};
use crate::wechat::Code;

/// What a login takes beside the exchange: opening the session in a store that is slow, and telling of it.
const MARGIN: Duration = Duration::from_secs(5);
/// How often another node's outcome is looked for.
const POLL: Duration = Duration::from_millis(50);
/// Shortest time that an outcome is there for those who wait already, where codes are not remembered at all.
const SHORTEST_MEMORY: Duration = Duration::from_secs(1);
/// Sets these keys apart from all else that may ever be derived from a code.
const SALT: &[u8] = b"menshen login claim 1";

const CALLER_BYTES: usize = 16;
const UNDER_WAY: u8 = 1;
const SETTLED: u8 = 2;

/// A code of one client's, as all nodes know it.
pub(super) struct CodeClaim {
    key: Key,
    appid: AppId,
    caller: [u8; CALLER_BYTES],
    seal: LessSafeKey,
}

/// A session, as nodes tell each other of it.
pub(super) trait SessionHandle: Sized {
    /// Its id, what its client holds of it, and its end.
    fn parts(&self) -> (&SessionId, &str, Timestamp);

    /// The session of these parts; `None` where what a client would hold is no such thing.
    fn from_parts(id: SessionId, credential: &str, expires_at: Timestamp) -> Option<Self>;
}

/// What the store says of a code.
enum ClaimRow<S> {
    /// Some node exchanges it for this client.
    UnderWay,
    /// It is another client's.
    OfAnother,
    /// This became of it.
    Settled(ExchangeOutcome<S>),
}

/// What became of a code: who signed in, and their session, or why there is none.
pub(super) type ExchangeOutcome<S> = Result<(Identity, S), SignInError>;

/// [`ExchangeOutcome`] as it is sealed; the app is the code_claim's.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeDocument<'a> {
    #[serde(borrow)]
    Granted(GrantDocument<'a>),
    #[serde(borrow)]
    Refused(&'a str),
}

#[derive(Serialize, Deserialize)]
struct GrantDocument<'a> {
    openid: &'a str,
    unionid: Option<&'a str>,
    session: &'a str,
    credential: &'a str,
    expires_at_millis: u64,
}

impl SignInService {
    /// Exchanges a code that no other node exchanges, or gives the answer of the node that does.
    pub(super) async fn exchange_once<G: SignInFlow>(
        &self,
        attempt: &SignInAttempt,
        code_claim: &CodeClaim,
    ) -> SignInResult<G> {
        let store = self.deps.sessions.core().store();
        let longest = self.deps.wechat.timeout().saturating_add(MARGIN);
        let claim = code_claim.claim_row(&*self.deps.entropy)?;
        match store.put_if_absent(&code_claim.key, claim.clone(), longest).await {
            Ok(true) => {
                let outcome = self.exchange::<G>(attempt).await;
                self.share_outcome(&**store, code_claim, &claim, &outcome).await;
                outcome
            }
            Ok(false) => self.wait_for_other(&**store, code_claim, longest).await,
            Err(error) => {
                if matches!(error, StoreError::NotReplicated { .. }) {
                    // It was made all the same, and would keep the code from being tried anew.
                    release(&**store, code_claim, &claim).await;
                }
                Err(error.into())
            }
        }
    }

    /// Tells the other nodes. Whether they hear of it or not, this one's client gets its answer.
    async fn share_outcome<G: SignInFlow>(
        &self,
        store: &dyn Store,
        code_claim: &CodeClaim,
        claim: &Bytes,
        outcome: &SignInResult<G>,
    ) {
        let settled = match outcome {
            Ok(grant) => Ok(grant.parts()),
            Err(error) if error.is_settled() => Err(error),
            Err(_) => return release(store, code_claim, claim).await,
        };
        let memory = G::memory(self).window().max(SHORTEST_MEMORY);
        let shared = match code_claim.outcome_row(settled, &*self.deps.entropy) {
            Ok(row) => store.compare_and_set(&code_claim.key, claim, row, memory).await,
            Err(_) => return release(store, code_claim, claim).await,
        };
        if let Err(error) = shared {
            tracing::warn!("a login's outcome was not shared: {error}");
        }
    }

    async fn wait_for_other<G: SignInFlow>(
        &self,
        store: &dyn Store,
        code_claim: &CodeClaim,
        longest: Duration,
    ) -> SignInResult<G> {
        let settled = timeout(longest, async {
            loop {
                // A claim that is gone was given up: the code may be good, and the client sends it again.
                let row = store.get(&code_claim.key).await?.ok_or(SignInError::WeChatBusy)?;
                match code_claim.read(&row)? {
                    ClaimRow::UnderWay => sleep(POLL).await,
                    ClaimRow::OfAnother => return Err(SignInError::CodeOfAnother),
                    ClaimRow::Settled(settled) => return settled,
                }
            }
        });
        let (identity, session) = settled.await.unwrap_or(Err(SignInError::WeChatBusy))?;
        G::check(self, &session).await?;
        G::of(self, identity, session)
    }
}

/// Gives a code free that is not spent. Should the store not hear of it, the claim ends by itself.
async fn release(store: &dyn Store, code_claim: &CodeClaim, claim: &Bytes) {
    if let Err(error) = store.compare_and_delete(&code_claim.key, claim).await {
        tracing::debug!("a claim was left to its end: {error}");
    }
}

impl CodeClaim {
    /// Derives from a code what nodes tell each other about it by. `caller` are the fields that tell clients apart.
    pub(super) fn new(appid: &AppId, code: &Code, caller: &[&[u8]]) -> Result<Self, Unspecified> {
        let code = code.expose().as_bytes();
        let secret = Salt::new(HKDF_SHA256, SALT).extract(code);
        let app = appid.as_str().as_bytes();
        let seal: UnboundKey = secret.expand(&[b"seal ", app], &AES_256_GCM)?.into();
        let hasher: hmac::Key = secret.expand(&[b"caller ", app], hmac::HMAC_SHA256)?.into();
        let mut name = digest::Context::new(&digest::SHA256);
        let mut hashed = hmac::Context::with_key(&hasher);
        // Each field with its length before it, so that none can reach into the next.
        for field in [b"login code", app, code] {
            name.update(&field.len().to_le_bytes());
            name.update(field);
        }
        for field in caller {
            hashed.update(&field.len().to_le_bytes());
            hashed.update(field);
        }
        Ok(Self {
            key: Key { space: Space::Code, name: beginning(name.finish().as_ref())? },
            appid: appid.clone(),
            caller: beginning(hashed.sign().as_ref())?,
            seal: LessSafeKey::new(seal),
        })
    }

    /// The row of whoever exchanges the code; no two are the same, so that nobody ends another's.
    pub(super) fn claim_row(&self, entropy: &dyn Entropy) -> Result<Bytes, NoEntropy> {
        let id = entropy::bytes::<16>(entropy)?;
        Ok([&self.header(UNDER_WAY), &id[..]].concat().into())
    }

    /// The row of what became of it.
    pub(super) fn outcome_row<S: SessionHandle>(
        &self,
        settled: Result<(&Identity, &S), &SignInError>,
        entropy: &dyn Entropy,
    ) -> Result<Bytes, SignInError> {
        let document = match settled {
            Ok((identity, session)) => {
                let (id, credential, expires_at) = session.parts();
                OutcomeDocument::Granted(GrantDocument {
                    openid: identity.subject.openid.as_str(),
                    unionid: identity.unionid.as_ref().map(UnionId::as_str),
                    session: id.as_str(),
                    credential,
                    expires_at_millis: expires_at.millis(),
                })
            }
            Err(error) => OutcomeDocument::Refused(error.code()),
        };
        // Room for all of it at once: a buffer that grows leaves copies of the token behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(1024));
        serde_json::to_writer(&mut *sealed, &document).map_err(|_| SignInError::Internal)?;
        let nonce = entropy::bytes::<NONCE_LEN>(entropy)?;
        let header = self.header(SETTLED);
        let nonce_of_seal = Nonce::assume_unique_for_key(nonce);
        self.seal
            .seal_in_place_append_tag(nonce_of_seal, Aad::from(&header), &mut *sealed)
            .map_err(|_| SignInError::Internal)?;
        Ok([&header[..], &nonce, &sealed].concat().into())
    }

    /// Reads a row that some node wrote.
    ///
    /// # Errors
    /// [`SignInError::Internal`] for one that none did.
    fn read<S: SessionHandle>(&self, row: &[u8]) -> Result<ClaimRow<S>, SignInError> {
        self.try_read(row).ok_or_else(|| {
            tracing::error!("the store holds what no node wrote of a login");
            SignInError::Internal
        })
    }

    fn try_read<S: SessionHandle>(&self, row: &[u8]) -> Option<ClaimRow<S>> {
        let (header, rest) = row.split_at_checked(1 + CALLER_BYTES)?;
        let (kind, caller) = header.split_first()?;
        match *kind {
            UNDER_WAY | SETTLED if caller != self.caller => Some(ClaimRow::OfAnother),
            UNDER_WAY => Some(ClaimRow::UnderWay),
            SETTLED => self.open(header, rest).map(ClaimRow::Settled),
            _ => None,
        }
    }

    fn open<S: SessionHandle>(&self, header: &[u8], rest: &[u8]) -> Option<ExchangeOutcome<S>> {
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.seal.open_in_place(nonce, Aad::from(header), &mut sealed).ok()?;
        match serde_json::from_slice(text).ok()? {
            OutcomeDocument::Refused(code) => settled_refusal(code).map(Err),
            OutcomeDocument::Granted(opening) => self.parse_grant(&opening).map(Ok),
        }
    }

    fn parse_grant<S: SessionHandle>(&self, opening: &GrantDocument<'_>) -> Option<(Identity, S)> {
        let openid = OpenId::parse(opening.openid).ok()?;
        let unionid = opening.unionid.map(UnionId::parse).transpose().ok()?;
        let identity = Identity { subject: Subject { appid: self.appid.clone(), openid }, unionid };
        let expires_at = Timestamp::from_millis(opening.expires_at_millis);
        let session = S::from_parts(SessionId::parse(opening.session).ok()?, opening.credential, expires_at)?;
        Some((identity, session))
    }

    #[cfg(test)]
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    #[cfg(test)]
    pub(super) fn caller(&self) -> [u8; CALLER_BYTES] {
        self.caller
    }

    /// What a row says became of the code, whoever sent it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn open_row<S: SessionHandle>(&self, row: &[u8]) -> Option<ExchangeOutcome<S>> {
        let (header, rest) = row.split_at_checked(1 + CALLER_BYTES)?;
        self.open(header, rest)
    }

    fn header(&self, kind: u8) -> [u8; 1 + CALLER_BYTES] {
        let mut header = [kind; 1 + CALLER_BYTES];
        if let Some((_, caller)) = header.split_first_mut() {
            caller.copy_from_slice(&self.caller);
        }
        header
    }
}

/// The refusals that are for good, by their words.
fn settled_refusal(code: &str) -> Option<SignInError> {
    let known = [
        SignInError::CodeInvalid,
        SignInError::CodeAlreadyUsed,
        SignInError::UserBlocked,
        SignInError::SnapshotVisitor,
    ];
    known.into_iter().find(|error| error.code() == code)
}

fn beginning(hash: &[u8]) -> Result<[u8; 16], Unspecified> {
    hash.first_chunk().copied().ok_or(Unspecified)
}
