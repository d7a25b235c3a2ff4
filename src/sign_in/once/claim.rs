//! The claim of a code in a shared store: the name of its row, and the row with its outcome.
//!
//! The outcome is sealed with a key that is derived from the code: every node that gets the code
//! can open the row, and a reader of the store cannot. The node's own keys are not used.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::SignInResult;
use crate::clock::Timestamp;
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::{AppId, Identity, OpenId, SessionId, Subject, UnionId};
use crate::sign_in::error::SignInError;
use crate::store::{Key, Space};
use crate::wechat::Code;

/// Separates these keys from everything else that may be derived from a code.
const SALT: &[u8] = b"menshen login claim 1";

const CLIENT_BYTES: usize = 16;
const UNDER_WAY: u8 = 1;
const SETTLED: u8 = 2;

/// A code of one client, as all nodes know it.
pub(in crate::sign_in) struct CodeClaim {
    pub(super) key: Key,
    appid: AppId,
    client: [u8; CLIENT_BYTES],
    seal: LessSafeKey,
}

/// A user that signed in, and the session.
#[derive(Clone, Debug)]
pub(in crate::sign_in) struct SignedIn<S> {
    pub(in crate::sign_in) identity: Identity,
    pub(in crate::sign_in) session: S,
}

/// A session with the credential that its client holds, as nodes share it.
pub(in crate::sign_in) trait SessionHandle: Sized {
    /// The session's id, its client's credential, and its end.
    fn fields(&self) -> (&SessionId, &str, Timestamp);

    /// The session of these fields; `None` if the credential is malformed.
    fn from_fields(id: SessionId, credential: &str, expires_at: Timestamp) -> Option<Self>;
}

/// The state of a code in the store.
pub(super) enum ClaimRow<S> {
    /// A node exchanges it for this client.
    UnderWay,
    /// Another client sent it.
    OfOtherClient,
    /// This is the outcome for this client.
    Settled(SignInResult<SignedIn<S>>),
}

/// An outcome as it is sealed; the app is the claim's.
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

impl CodeClaim {
    /// Derives the name of a code's row and the key of its outcome. `client_fields` tell one client
    /// from another.
    pub(in crate::sign_in) fn new(
        appid: &AppId,
        code: &Code,
        client_fields: &[impl AsRef<[u8]>],
    ) -> Result<Self, Unspecified> {
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
        for field in client_fields {
            let field = field.as_ref();
            hashed.update(&field.len().to_le_bytes());
            hashed.update(field);
        }
        Ok(Self {
            key: Key { space: Space::Code, name: beginning(name.finish().as_ref())? },
            appid: appid.clone(),
            client: beginning(hashed.sign().as_ref())?,
            seal: LessSafeKey::new(seal),
        })
    }

    /// The row of the node that exchanges the code. No two are the same, so that no node removes
    /// another's.
    pub(in crate::sign_in) fn claim_row(&self, entropy: &dyn Entropy) -> Result<Bytes, NoEntropy> {
        let id = entropy::bytes::<16>(entropy)?;
        Ok([&self.header(UNDER_WAY), &id[..]].concat().into())
    }

    /// The row of the outcome.
    pub(in crate::sign_in) fn outcome_row<S: SessionHandle>(
        &self,
        outcome: Result<&SignedIn<S>, &SignInError>,
        entropy: &dyn Entropy,
    ) -> Result<Bytes, SignInError> {
        let document = match outcome {
            Ok(SignedIn { identity, session }) => {
                let (id, credential, expires_at) = session.fields();
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

    /// Reads a row.
    ///
    /// # Errors
    /// [`SignInError::Internal`] if no node wrote it.
    pub(super) fn read<S: SessionHandle>(&self, row: &[u8]) -> Result<ClaimRow<S>, SignInError> {
        self.try_read(row).ok_or_else(|| {
            tracing::error!("the store has a row of a login that no gateway wrote");
            SignInError::Internal
        })
    }

    fn try_read<S: SessionHandle>(&self, row: &[u8]) -> Option<ClaimRow<S>> {
        let (header, rest) = row.split_at_checked(1 + CLIENT_BYTES)?;
        let (kind, client) = header.split_first()?;
        match *kind {
            UNDER_WAY | SETTLED if client != self.client => Some(ClaimRow::OfOtherClient),
            UNDER_WAY => Some(ClaimRow::UnderWay),
            SETTLED => self.open(header, rest).map(ClaimRow::Settled),
            _ => None,
        }
    }

    fn open<S: SessionHandle>(&self, header: &[u8], rest: &[u8]) -> Option<SignInResult<SignedIn<S>>> {
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.seal.open_in_place(nonce, Aad::from(header), &mut sealed).ok()?;
        match serde_json::from_slice(text).ok()? {
            OutcomeDocument::Refused(code) => settled_refusal(code).map(Err),
            OutcomeDocument::Granted(opening) => self.parse_grant(&opening).map(Ok),
        }
    }

    fn parse_grant<S: SessionHandle>(&self, opening: &GrantDocument<'_>) -> Option<SignedIn<S>> {
        let openid = OpenId::parse(opening.openid).ok()?;
        let unionid = opening.unionid.map(UnionId::parse).transpose().ok()?;
        let identity = Identity { subject: Subject { appid: self.appid.clone(), openid }, unionid };
        let expires_at = Timestamp::from_millis(opening.expires_at_millis);
        let session =
            S::from_fields(SessionId::parse(opening.session).ok()?, opening.credential, expires_at)?;
        Some(SignedIn { identity, session })
    }

    #[cfg(test)]
    pub(in crate::sign_in) fn key(&self) -> &Key {
        &self.key
    }

    #[cfg(test)]
    pub(in crate::sign_in) fn client(&self) -> [u8; CLIENT_BYTES] {
        self.client
    }

    /// The outcome in a row of any client.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(in crate::sign_in) fn open_row<S: SessionHandle>(
        &self,
        row: &[u8],
    ) -> Option<SignInResult<SignedIn<S>>> {
        let (header, rest) = row.split_at_checked(1 + CLIENT_BYTES)?;
        self.open(header, rest)
    }

    fn header(&self, kind: u8) -> [u8; 1 + CLIENT_BYTES] {
        let mut header = [kind; 1 + CLIENT_BYTES];
        if let Some((_, client)) = header.split_first_mut() {
            client.copy_from_slice(&self.client);
        }
        header
    }
}

/// The refusals that cannot change, by their words.
fn settled_refusal(code: &str) -> Option<SignInError> {
    let known = [
        SignInError::CodeInvalid,
        SignInError::CodeAlreadyUsed,
        SignInError::UserBlocked,
        SignInError::UnionIdUnknown,
        SignInError::SnapshotVisitor,
    ];
    known.into_iter().find(|error| error.code() == code)
}

fn beginning(hash: &[u8]) -> Result<[u8; 16], Unspecified> {
    hash.first_chunk().copied().ok_or(Unspecified)
}
