//! What WeChat shares with the gateway for a person's data: sealed, and bound to the session whose login brought it.

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::SessionError;
use super::name::{Locator, SessionKey};
use super::record::Record;
use super::row;
use super::seal::{self, SealedBox, internal};
use crate::entropy::Entropy;
use crate::identity::Subject;

/// A key that seals.
pub(super) struct SealKey {
    pub(super) kid: String,
    pub(super) secret: Zeroizing<[u8; 32]>,
}

/// The keys; the first seals, all open.
pub(super) struct SealKeys {
    pub(super) first: SealKey,
    pub(super) others: Vec<SealKey>,
}

/// A session_key as the row holds it.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Sealed {
    #[n(0)]
    kid: String,
    /// Whose login brought it.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) session: SessionKey,
    /// One more with each login of the subject.
    #[n(2)]
    generation: u64,
    #[n(3)]
    sealed: SealedBox,
}

impl SealKeys {
    /// Puts the newest key of a subject into its row.
    pub(super) fn keep(
        &self,
        record: &mut Record,
        locator: &Locator,
        session: SessionKey,
        secret: &[u8; 16],
        entropy: &dyn Entropy,
    ) -> Result<(), SessionError> {
        record.generation = record.generation.saturating_add(1);
        let generation = record.generation;
        record.sealed = Some(self.seal(&record.subject(), locator, session, generation, secret, entropy)?);
        Ok(())
    }

    /// Opens a subject's key. Sealed anew where another key than the first opened it.
    pub(super) fn open(
        &self,
        subject: &Subject,
        locator: &Locator,
        sealed: &Sealed,
        entropy: &dyn Entropy,
    ) -> Result<(Zeroizing<[u8; 16]>, Option<Sealed>), SessionError> {
        let Sealed { kid, session, generation, sealed } = sealed;
        let key = std::iter::once(&self.first)
            .chain(&self.others)
            .find(|key| key.kid == *kid)
            .ok_or_else(|| internal(format!("no seal key is named `{kid}`")))?;
        let purpose = purpose(kid, subject, locator, session, *generation);
        let secret = seal::open(&key.secret, &purpose, sealed)
            .map_err(|_| row::damaged("a sealed session_key does not open"))?;
        let anew = if *kid == self.first.kid {
            None
        } else {
            Some(self.seal(subject, locator, *session, *generation, &secret, entropy)?)
        };
        Ok((secret, anew))
    }

    fn seal(
        &self,
        subject: &Subject,
        locator: &Locator,
        session: SessionKey,
        generation: u64,
        secret: &[u8; 16],
        entropy: &dyn Entropy,
    ) -> Result<Sealed, SessionError> {
        let SealKey { kid, secret: key } = &self.first;
        let purpose = purpose(kid, subject, locator, &session, generation);
        let sealed = seal::seal(key, &purpose, secret, entropy)?;
        Ok(Sealed { kid: kid.clone(), session, generation, sealed })
    }
}

/// What a sealed key is bound to: moved to any other place it does not open.
fn purpose(
    kid: &str,
    subject: &Subject,
    locator: &Locator,
    session: &SessionKey,
    generation: u64,
) -> Vec<u8> {
    let mut purpose = b"menshen session_key v1".to_vec();
    for word in [kid, subject.appid.as_str(), subject.openid.as_str()] {
        purpose.extend_from_slice(&u32::try_from(word.len()).unwrap_or(u32::MAX).to_be_bytes());
        purpose.extend_from_slice(word.as_bytes());
    }
    purpose.extend_from_slice(locator);
    purpose.extend_from_slice(session);
    purpose.extend_from_slice(&generation.to_be_bytes());
    purpose
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::identity::{AppId, OpenId};

    #[test]
    fn a_sealed_key_opens_where_it_was_sealed_and_nowhere_else() {
        let key = |kid: &str| SealKey { kid: kid.into(), secret: Zeroizing::new([7; 32]) };
        let keys = SealKeys { first: key("k"), others: vec![key("other")] };
        let subject = |appid: &str, openid: &str| Subject {
            appid: AppId::parse(appid).unwrap(),
            openid: OpenId::parse(openid).unwrap(),
        };
        let (alice, locator, session) = (subject("wx1", "o-alice"), [1; 16], [2; 16]);
        let sealed = keys.seal(&alice, &locator, session, 3, &[9; 16], &SystemEntropy).unwrap();
        let open = |subject: &Subject, locator: &Locator, sealed: &Sealed| {
            keys.open(subject, locator, sealed, &SystemEntropy).map(|(secret, _)| *secret)
        };
        assert_eq!(open(&alice, &locator, &sealed).unwrap(), [9; 16]);

        for (moved_to, subject, locator, sealed) in [
            ("another app", subject("wx2", "o-alice"), locator, sealed.clone()),
            ("another person", subject("wx1", "o-bob"), locator, sealed.clone()),
            ("between both", subject("wx1o", "-alice"), locator, sealed.clone()),
            ("another row", alice.clone(), [0; 16], sealed.clone()),
            ("another session", alice.clone(), locator, Sealed { session: [0; 16], ..sealed.clone() }),
            ("another generation", alice.clone(), locator, Sealed { generation: 4, ..sealed.clone() }),
            ("another key's name", alice.clone(), locator, Sealed { kid: "other".into(), ..sealed.clone() }),
        ] {
            assert!(open(&subject, &locator, &sealed).is_err(), "{moved_to}");
        }
    }
}
