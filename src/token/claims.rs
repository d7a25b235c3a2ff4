//! The claims of a token: [`UnverifiedClaims`] as parsed, [`VerifiedClaims`] when every rule is
//! met.

use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::VerifyError;
use super::encoding::parse_object;
use crate::clock::Timestamp;
use crate::identity::{AppId, Identity, OpenId, SessionId, Subject, UnionId};

/// Longest lifetime of an access token, whatever its claims say.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The claims of a verified token. Only [`super::Tokens::verify`] makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedClaims {
    identity: Identity,
    session: SessionId,
    expires_at: Timestamp,
    kid: Arc<str>,
}

impl VerifiedClaims {
    /// Who signed in.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The login this token belongs to.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// When the token stops being valid: it is valid while `now < expires_at`.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The id of the key that signed the token.
    pub const fn kid(&self) -> &Arc<str> {
        &self.kid
    }
}

/// What the claims of our tokens must be.
#[derive(Clone, Debug)]
pub(super) struct Expectations {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) clock_skew: Duration,
}

/// The claims as we write them.
#[derive(Serialize)]
pub(super) struct NewClaims<'a> {
    pub(super) iss: &'a str,
    pub(super) sub: String,
    pub(super) aud: &'a str,
    pub(super) exp: u64,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) jti: String,
    pub(super) sid: &'a SessionId,
    /// The app again: RFC 9068 §2.2 requires the claim.
    pub(super) client_id: &'a AppId,
    pub(super) appid: &'a AppId,
    pub(super) openid: &'a OpenId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unionid: Option<&'a UnionId>,
}

/// The claims as parsed: only their JSON types are checked, and that each stands at most once.
///
/// An unknown claim is ignored (RFC 7519 §4), so that a newer gateway can add one while older ones
/// run.
#[derive(Deserialize)]
pub(super) struct UnverifiedClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
    sid: SessionId,
    appid: AppId,
    openid: OpenId,
    #[serde(default, deserialize_with = "present")]
    unionid: Option<UnionId>,
}

impl UnverifiedClaims {
    /// Parses a payload whose signature is verified.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, VerifyError> {
        parse_object(payload).ok_or(VerifyError::InvalidClaims)
    }

    /// Checks the claims against every rule.
    pub(super) fn check(
        self,
        expected: &Expectations,
        kid: &Arc<str>,
        now: Timestamp,
    ) -> Result<VerifiedClaims, VerifyError> {
        self.check_names(expected)?;
        self.check_times(expected.clock_skew, now)?;
        let subject = self.subject()?;
        Ok(VerifiedClaims {
            identity: Identity { subject, unionid: self.unionid },
            session: self.sid,
            expires_at: Timestamp::from_seconds(self.exp),
            kid: Arc::clone(kid),
        })
    }

    /// Checks every claim but the times, and returns who signed in.
    pub(super) fn check_but_times(self, expected: &Expectations) -> Result<Subject, VerifyError> {
        self.check_names(expected)?;
        self.subject()
    }

    fn check_names(&self, expected: &Expectations) -> Result<(), VerifyError> {
        if self.iss != expected.issuer {
            return Err(VerifyError::WrongIssuer);
        }
        if self.aud != expected.audience {
            return Err(VerifyError::WrongAudience);
        }
        Ok(())
    }

    fn subject(&self) -> Result<Subject, VerifyError> {
        let subject = Subject { appid: self.appid.clone(), openid: self.openid.clone() };
        if self.sub != subject.to_string() || self.jti.is_empty() {
            return Err(VerifyError::InvalidClaims);
        }
        Ok(subject)
    }

    /// `iat` is bounded by now, and `exp` by `iat`, so that no later arithmetic can overflow.
    fn check_times(&self, clock_skew: Duration, now: Timestamp) -> Result<(), VerifyError> {
        let latest_start = now.plus(clock_skew).seconds();
        if self.iat > latest_start || self.nbf > latest_start {
            return Err(VerifyError::NotYetValid);
        }
        let lifetime = self.exp.checked_sub(self.iat).ok_or(VerifyError::InvalidClaims)?;
        if lifetime > MAX_LIFETIME.as_secs() {
            return Err(VerifyError::InvalidClaims);
        }
        // No leeway: the cache, the logs and the client all use `exp` as it is.
        if now < Timestamp::from_seconds(self.exp) { Ok(()) } else { Err(VerifyError::Expired) }
    }
}

/// Parses an optional claim: it may be absent, but not `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnionId>, D::Error> {
    let text = String::deserialize(deserializer)?;
    UnionId::parse(&text).map(Some).map_err(D::Error::custom)
}
