//! People in logs: the same hash for the same person, from which the openid cannot be found.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;

use crate::config::{self, Findings};
use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::{Subject, UnionId, UserId};
use crate::key_file::OnMissingKey;
use crate::key_file::named::{KeyUse, NamedKey};

/// Bytes of a hash: 128 bits, so that two people never share one.
const HASH_BYTES: usize = 16;
const KEYS: KeyUse = KeyUse {
    at: "telemetry.user_hash_keys",
    file: "user-hash-key",
    id_label: b"menshen user hash key id v1",
    loss: "logs name people by other hashes from then on",
};

/// Hashes people with a secret key. The keys are read once for a process, so that a reload changes
/// no hash.
///
/// A hash is `kid:` and 32 hexadecimal characters.
#[derive(Clone)]
pub struct SubjectHasher(Arc<HashKeys>);

struct HashKeys {
    /// Hashes what is written.
    first: HashKey,
    /// Hash what was written before.
    others: Vec<HashKey>,
}

struct HashKey {
    kid: String,
    key: hmac::Key,
}

impl SubjectHasher {
    /// Reads the configured keys, or the one in the data directory, which is made if it is not
    /// there.
    pub fn build(
        keys: &[config::UserHashKey],
        data_dir: &Path,
        missing: OnMissingKey,
        is_shared: bool,
        entropy: &dyn Entropy,
        findings: &mut Findings,
    ) -> Option<Self> {
        findings.scope(|findings| {
            if !keys.is_empty() {
                let keys = keys.iter().map(|key| (key.kid.as_str(), &key.secret));
                return Self::of(KEYS.configured(keys, findings)?);
            }
            if is_shared {
                findings
                    .error(KEYS.at, "with a store on Redis, all gateways must hash people with the same key")
                    .hint(
                        "write `[{ kid: a, secret: { file: path } }]`, the same on every gateway; \
                         `openssl rand -base64 32` makes a secret",
                    );
                return None;
            }
            Self::of(vec![KEYS.made(data_dir, missing, entropy, findings)?])
        })
    }

    /// Draws a key that is kept nowhere, for a check of a configuration.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub fn ephemeral(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let secret = entropy::bytes::<32>(entropy)?;
        let first = HashKey { kid: "ephemeral".to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &secret) };
        Ok(Self(Arc::new(HashKeys { first, others: Vec::new() })))
    }

    fn of(keys: Vec<NamedKey>) -> Option<Self> {
        let mut keys = keys.into_iter().map(|key| HashKey {
            kid: key.kid,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.secret.as_slice()),
        });
        Some(Self(Arc::new(HashKeys { first: keys.next()?, others: keys.collect() })))
    }

    /// The subject as logs show it.
    pub fn hash(&self, subject: &Subject) -> String {
        self.0.first.hash(&subject.to_string())
    }

    /// As [`SubjectHasher::hash`], for a person across apps. No subject begins with `*:`.
    pub fn hash_unionid(&self, unionid: &UnionId) -> String {
        self.0.first.hash(&unionid_text(unionid))
    }

    /// As [`SubjectHasher::hash`], for a user of the business. No subject begins with `@:`.
    pub fn hash_user(&self, user: &UserId) -> String {
        self.0.first.hash(&format!("@:{}", user.as_str()))
    }

    /// The subject as logs showed it under each key, the one in use first.
    pub fn hashes(&self, subject: &Subject) -> Vec<String> {
        self.hash_with_all(&subject.to_string())
    }

    /// As [`SubjectHasher::hashes`], for a person across apps.
    pub fn unionid_hashes(&self, unionid: &UnionId) -> Vec<String> {
        self.hash_with_all(&unionid_text(unionid))
    }

    fn hash_with_all(&self, text: &str) -> Vec<String> {
        let HashKeys { first, others } = &*self.0;
        [first].into_iter().chain(others).map(|key| key.hash(text)).collect()
    }
}

impl HashKey {
    fn hash(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        let digits = tag.as_ref().iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}"));
        format!("{}:{}", self.kid, digits.collect::<String>())
    }
}

fn unionid_text(unionid: &UnionId) -> String {
    format!("*:{unionid}")
}

impl std::fmt::Debug for SubjectHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubjectHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::identity::{AppId, OpenId};

    fn subject() -> Subject {
        Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse("o1").unwrap() }
    }

    fn key(kid: &str, secret: &str) -> config::UserHashKey {
        config::UserHashKey { kid: kid.into(), secret: config::SecretSource::Inline(secret.into()) }
    }

    fn build(keys: &[config::UserHashKey], is_shared: bool, folder: &Path) -> Result<SubjectHasher, String> {
        let mut findings = Findings::default();
        let missing = OnMissingKey::Create;
        let built = SubjectHasher::build(keys, folder, missing, is_shared, &SystemEntropy, &mut findings);
        built.ok_or_else(|| findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn hash_begins_with_its_kid_and_is_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();

        let first = build(&[], false, folder.path()).unwrap().hash(&subject());
        let again = build(&[], false, folder.path()).unwrap().hash(&subject());

        assert_eq!(first, again);
        let (kid, digits) = first.split_once(':').unwrap();
        assert!(kid.starts_with("made-") && digits.len() == 32, "{first}");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(build(&[], false, other.path()).unwrap().hash(&subject()), first);
    }

    #[test]
    fn first_key_hashes_and_every_key_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) =
            ("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=");
        let old = build(&[key("2025", a)], true, folder.path()).unwrap();

        let new = build(&[key("2026", b), key("2025", a)], true, folder.path()).unwrap();

        assert!(new.hash(&subject()).starts_with("2026:"));
        assert_eq!(new.hashes(&subject()), [new.hash(&subject()), old.hash(&subject())]);
        assert_eq!(fs_entries(folder.path()), 0, "no key is made where one is configured");
    }

    fn fs_entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn gateways_that_share_a_store_must_have_a_common_key() {
        let folder = tempfile::tempdir().unwrap();

        let said = build(&[], true, folder.path()).unwrap_err();

        assert!(said.starts_with("telemetry.user_hash_keys: "), "{said}");
        assert_eq!(fs_entries(folder.path()), 0);
    }

    #[test]
    fn person_unionid_and_user_of_the_same_text_have_different_hashes() {
        let hasher = SubjectHasher::ephemeral(&SystemEntropy).unwrap();

        let hashes = [
            hasher.hash(&subject()),
            hasher.hash_unionid(&UnionId::parse("o1").unwrap()),
            hasher.hash_user(&UserId::parse("o1").unwrap()),
        ];

        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2], "{hashes:?}");
    }
}
