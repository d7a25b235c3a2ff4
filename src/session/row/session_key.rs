//! WeChat's `session_key` in a row: sealed, and bound to the session whose sign-in brought it.

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::envelope::damaged;
use super::name::{EntryId, Locator};
use super::seal::{self, SealedBox};
use crate::entropy::Entropy;
use crate::identity::Subject;
use crate::session::error::{SessionError, internal};

/// A key that seals.
pub(in crate::session) struct SealKey {
    pub(in crate::session) kid: String,
    pub(in crate::session) secret: Zeroizing<[u8; 32]>,
}

/// The keys of the configuration. The first one seals; every one opens.
pub(in crate::session) struct SealKeys {
    pub(in crate::session) first: SealKey,
    pub(in crate::session) others: Vec<SealKey>,
    /// Whether the configuration names them, so that all gateways of a store can have them.
    pub(in crate::session) are_configured: bool,
}

/// A `session_key` as the row holds it.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct SealedSessionKey {
    #[n(0)]
    kid: String,
    /// The session whose sign-in brought it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(in crate::session) session: EntryId,
    /// Grows by one with each sign-in of the subject.
    #[n(2)]
    generation: u64,
    #[n(3)]
    sealed: SealedBox,
}

/// What a sealed key is bound to. Under any other binding it does not open.
#[derive(Clone, Copy)]
pub(in crate::session) struct SealPurpose<'a> {
    pub(in crate::session) subject: &'a Subject,
    pub(in crate::session) locator: &'a Locator,
    pub(in crate::session) session: &'a EntryId,
    pub(in crate::session) generation: u64,
}

impl SealKeys {
    /// Every key, the one that seals first.
    pub(in crate::session) fn iter(&self) -> impl Iterator<Item = &SealKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Seals a `session_key` with the first key.
    pub(in crate::session) fn seal(
        &self,
        purpose: SealPurpose<'_>,
        secret: &[u8; 16],
        entropy: &dyn Entropy,
    ) -> Result<SealedSessionKey, SessionError> {
        let SealKey { kid, secret: key } = &self.first;
        let sealed = seal::seal(key, &purpose.encode(kid), secret, entropy)?;
        let SealPurpose { session, generation, .. } = purpose;
        Ok(SealedSessionKey { kid: kid.clone(), session: *session, generation, sealed })
    }

    /// Opens a subject's `session_key`. If another key than the first one opened it, the second
    /// value is the same secret sealed with the first key.
    pub(in crate::session) fn open(
        &self,
        subject: &Subject,
        locator: &Locator,
        sealed: &SealedSessionKey,
        entropy: &dyn Entropy,
    ) -> Result<(Zeroizing<[u8; 16]>, Option<SealedSessionKey>), SessionError> {
        let SealedSessionKey { kid, session, generation, sealed } = sealed;
        let key = self
            .iter()
            .find(|key| key.kid == *kid)
            .ok_or_else(|| internal(format!("no seal key is named `{kid}`")))?;
        let purpose = SealPurpose { subject, locator, session, generation: *generation };
        let secret = seal::open(&key.secret, &purpose.encode(kid), sealed)
            .map_err(|_| damaged("a sealed session_key does not open"))?;
        let resealed =
            if *kid == self.first.kid { None } else { Some(self.seal(purpose, &secret, entropy)?) };
        Ok((secret, resealed))
    }
}

impl SealPurpose<'_> {
    fn encode(&self, kid: &str) -> Vec<u8> {
        let mut purpose = b"menshen session_key v1".to_vec();
        for word in [kid, self.subject.appid.as_str(), self.subject.openid.as_str()] {
            purpose.extend_from_slice(&u32::try_from(word.len()).unwrap_or(u32::MAX).to_be_bytes());
            purpose.extend_from_slice(word.as_bytes());
        }
        purpose.extend_from_slice(self.locator);
        purpose.extend_from_slice(self.session);
        purpose.extend_from_slice(&self.generation.to_be_bytes());
        purpose
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::identity::{AppId, OpenId};

    #[test]
    fn a_sealed_key_opens_where_it_was_sealed_and_nowhere_else() {
        let key = |kid: &str| SealKey { kid: kid.into(), secret: Zeroizing::new([7; 32]) };
        let keys = SealKeys { first: key("k"), others: vec![key("other")], are_configured: true };
        let subject = |appid: &str, openid: &str| Subject {
            appid: AppId::parse(appid).unwrap(),
            openid: OpenId::parse(openid).unwrap(),
        };
        let (alice, locator, session) = (subject("wx1", "o-alice"), [1; 16], [2; 16]);
        let purpose = SealPurpose { subject: &alice, locator: &locator, session: &session, generation: 3 };
        let sealed = keys.seal(purpose, &[9; 16], &SystemEntropy).unwrap();
        let open = |subject: &Subject, locator: &Locator, sealed: &SealedSessionKey| {
            keys.open(subject, locator, sealed, &SystemEntropy).map(|(secret, _)| *secret)
        };
        assert_eq!(open(&alice, &locator, &sealed).unwrap(), [9; 16]);

        for (moved_to, subject, locator, sealed) in [
            ("another app", subject("wx2", "o-alice"), locator, sealed.clone()),
            ("another person", subject("wx1", "o-bob"), locator, sealed.clone()),
            ("between both", subject("wx1o", "-alice"), locator, sealed.clone()),
            ("another row", alice.clone(), [0; 16], sealed.clone()),
            (
                "another session",
                alice.clone(),
                locator,
                SealedSessionKey { session: [0; 16], ..sealed.clone() },
            ),
            (
                "another generation",
                alice.clone(),
                locator,
                SealedSessionKey { generation: 4, ..sealed.clone() },
            ),
            (
                "another key's name",
                alice.clone(),
                locator,
                SealedSessionKey { kid: "other".into(), ..sealed.clone() },
            ),
        ] {
            assert!(open(&subject, &locator, &sealed).is_err(), "{moved_to}");
        }
    }
}
