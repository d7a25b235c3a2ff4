//! Subjects in logs: the same hash for the same person, from which the openid cannot be found.

use siphasher::sip128::SipHasher24;

use crate::entropy::{self, Entropy, NoEntropy};
use crate::identity::{Subject, UnionId};

/// Hashes subjects with a secret key. The key is drawn once for a process, so that a reload changes
/// no hash.
#[derive(Clone, Copy)]
pub struct SubjectHasher(SipHasher24);

impl SubjectHasher {
    /// Draws a key.
    ///
    /// # Errors
    /// [`NoEntropy`]
    pub fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        entropy::bytes::<16>(entropy).map(|key| Self(SipHasher24::new_with_key(&key)))
    }

    /// The subject as logs may show it: 16 hexadecimal characters.
    pub fn hash(&self, subject: &Subject) -> String {
        self.hash_text(&subject.to_string())
    }

    /// As [`SubjectHasher::hash`], for a person across apps. No subject begins with `*:`.
    pub fn hash_unionid(&self, unionid: &UnionId) -> String {
        self.hash_text(&format!("*:{unionid}"))
    }

    fn hash_text(&self, text: &str) -> String {
        format!("{:016x}", self.0.hash(text.as_bytes()).h1)
    }
}

impl std::fmt::Debug for SubjectHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubjectHasher")
    }
}
