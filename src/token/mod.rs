//! Access tokens: issues and verifies them, and holds the keys for it.
//!
//! A token is a JWT (RFC 7519, RFC 9068) that names a subject and a session. This module decides
//! whether a text is a token of ours that is valid now. `route` decides which app may call which
//! route, and `authn` remembers verdicts.

mod claims;
mod encoding;
mod generate;
mod header;
mod jwk;
mod jws;
mod key;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

pub use self::claims::VerifiedClaims;
use self::claims::{Expectations, MAX_LIFETIME, NewClaims, UnverifiedClaims};
pub use self::generate::{GenerateError, GeneratedKey, generate_key};
use self::jws::UnverifiedJws;
use self::keys::KeyRing;
use crate::clock::Timestamp;
use crate::config::{self, Findings, TokenType};
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::{Identity, SessionId, Subject};
use crate::key_file::OnMissingKey;

const MIN_LIFETIME: Duration = Duration::from_secs(60);
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
/// Longest `iss` and `aud`: both are in every token.
const MAX_NAME_BYTES: usize = 256;

/// Mints and verifies access tokens.
pub struct Tokens {
    keys: KeyRing,
    jwks: Bytes,
    expected: Expectations,
    token_type: TokenType,
    lifetime: Duration,
}

/// A new access token; `Debug` does not show it.
#[derive(Debug)]
pub struct Minted {
    token: SecretString,
    /// How long it is valid.
    pub expires_in: Duration,
    /// Until when it is valid.
    pub expires_at: Timestamp,
}

impl Minted {
    /// The token as the client gets it.
    pub fn expose(&self) -> &str {
        self.token.expose_secret()
    }
}

/// A token could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// There was no randomness for the token's id.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The claims could not be written.
    #[error("the claims could not be written")]
    Claims(#[from] serde_json::Error),
    /// The key did not sign.
    #[error("the token could not be signed")]
    Signature(#[from] aws_lc_rs::error::Unspecified),
}

/// Why a text is not a valid access token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a compact JWS with a header like ours: too long, not three parts, not strict base64url,
    /// not our `typ`.
    #[error("not an access token")]
    Malformed,
    /// `kid` names no key in use.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// `alg` is not the key's.
    #[error("the algorithm is not the key's")]
    WrongAlgorithm,
    /// The signature is not by the key.
    #[error("the signature is wrong")]
    BadSignature,
    /// Signed by our key, but the claims are missing, twice, of a wrong type, or contradict each
    /// other.
    #[error("the claims are wrong")]
    InvalidClaims,
    /// `iss` is another gateway.
    #[error("issued by another gateway")]
    WrongIssuer,
    /// `aud` is another audience.
    #[error("meant for another audience")]
    WrongAudience,
    /// `nbf` or `iat` lies in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// `exp` has come.
    #[error("expired")]
    Expired,
}

impl Tokens {
    /// Reads or makes the keys, and checks the section.
    pub fn build(
        config: &config::Tokens,
        data_dir: &Path,
        missing: OnMissingKey,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        let keys = findings.scope(|findings| {
            check(config, findings);
            KeyRing::build(config, data_dir, missing, entropy, findings)
        })?;
        let expected = Expectations {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            clock_skew: *config.clock_skew,
        };
        let (token_type, lifetime) = (config.token_type, *config.lifetime);
        Some(Self { jwks: keys.jwks(), keys, expected, token_type, lifetime })
    }

    /// Mints a token for a session that ends at `session_end`. It is valid for the configured
    /// lifetime, and never longer than its session. In the last second of a session the token is
    /// already expired.
    ///
    /// # Errors
    /// [`MintError`], by variant.
    pub fn mint(
        &self,
        identity: &Identity,
        session: &SessionId,
        session_end: Timestamp,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Minted, MintError> {
        let issued_at = now.seconds();
        let expires_at = issued_at.saturating_add(self.lifetime.as_secs());
        // An `exp` before `iat` would be a contradiction rather than an end.
        let expires_at = expires_at.min(session_end.seconds()).max(issued_at);
        let claims = NewClaims {
            iss: &self.expected.issuer,
            sub: identity.subject.to_string(),
            aud: &self.expected.audience,
            exp: expires_at,
            iat: issued_at,
            nbf: issued_at,
            jti: entropy::identifier(entropy)?,
            sid: session,
            client_id: &identity.subject.appid,
            appid: &identity.subject.appid,
            openid: &identity.subject.openid,
            unionid: identity.unionid.as_ref(),
        };
        let token = self.keys.signing().sign(&serde_json::to_vec(&claims)?, self.token_type)?;
        Ok(Minted {
            token: token.into(),
            expires_in: Duration::from_secs(expires_at - issued_at),
            expires_at: Timestamp::from_seconds(expires_at),
        })
    }

    /// Verifies a token, and returns its claims if it is one of ours and valid now.
    ///
    /// # Errors
    /// [`VerifyError`], by variant. The claims are checked only after the signature.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedClaims, VerifyError> {
        let jws = UnverifiedJws::parse(token, self.token_type)?;
        let key = self.keys.find(jws.kid()).ok_or(VerifyError::UnknownKey)?;
        let payload = jws.payload_signed_by(key)?;
        UnverifiedClaims::parse(payload)?.check(&self.expected, key.kid(), now)
    }

    /// Checks whether a token that `before` verified with the key of this id would be verified now,
    /// its times aside.
    ///
    /// # Errors
    /// [`VerifyError`], as for the token.
    pub fn verify_also(&self, before: &Self, kid: &str) -> Result<(), VerifyError> {
        if self.token_type != before.token_type {
            return Err(VerifyError::Malformed);
        }
        let key = self.keys.find(kid).ok_or(VerifyError::UnknownKey)?;
        let key_before = before.keys.find(kid).ok_or(VerifyError::UnknownKey)?;
        if key.algorithm_name() != key_before.algorithm_name() {
            return Err(VerifyError::WrongAlgorithm);
        }
        if !key.is_same(key_before) {
            return Err(VerifyError::BadSignature);
        }
        if self.expected.issuer != before.expected.issuer {
            return Err(VerifyError::WrongIssuer);
        }
        if self.expected.audience != before.expected.audience {
            return Err(VerifyError::WrongAudience);
        }
        Ok(())
    }

    /// Verifies that a token is one of ours, even if it has expired, and returns who signed in.
    /// This admits no request: it only says who the client was.
    ///
    /// # Errors
    /// [`VerifyError`], by variant.
    pub fn past_subject(&self, token: &str) -> Result<Subject, VerifyError> {
        let jws = UnverifiedJws::parse(token, self.token_type)?;
        let key = self.keys.find(jws.kid()).ok_or(VerifyError::UnknownKey)?;
        let payload = jws.payload_signed_by(key)?;
        UnverifiedClaims::parse(payload)?.check_but_times(&self.expected)
    }

    /// The public keys as a JWK Set (RFC 7517 §5): what a backend needs to verify tokens itself.
    pub fn jwks(&self) -> Bytes {
        self.jwks.clone()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("expected", &self.expected).field("keys", &self.keys).finish()
    }
}

fn check(config: &config::Tokens, findings: &mut Findings) {
    for (path, name) in [("tokens.issuer", &config.issuer), ("tokens.audience", &config.audience)] {
        if name.trim().is_empty() || name.len() > MAX_NAME_BYTES {
            findings.error(path, format!("`{name}` is not a valid name")).hint(format!(
                "write 1 to {MAX_NAME_BYTES} bytes, such as `menshen` or `https://auth.example.com`"
            ));
        }
    }
    let config::Tokens { lifetime, clock_skew, .. } = config;
    if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&**lifetime) {
        findings
            .error("tokens.lifetime", format!("`{lifetime}` is out of range"))
            .hint("write `1m` to `24h`");
    }
    if **clock_skew > MAX_CLOCK_SKEW {
        findings
            .error("tokens.clock_skew", format!("`{clock_skew}` is out of range"))
            .hint("write `0s` to `5m`");
    }
}
