//! How rows and sessions are named: a session's id says where its row is, and a row's name says nothing of a person.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::SessionError;
use crate::digest::sha256;
use crate::identity::{SessionId, Subject, UnionId};
use crate::store::{Key, Space};

/// Where a subject's row is.
pub(super) type Locator = [u8; 16];
/// Which session of a subject; random.
pub(super) type SessionKey = [u8; 16];

/// The one row of what was revoked for whole apps.
pub(super) const REVOCATION: Key = Key { space: Space::Revocation, name: *b"menshen-marks-v1" };

pub(super) fn locator(subject: &Subject) -> Locator {
    hashed("menshen subject v1", &[subject.appid.as_str(), subject.openid.as_str()])
}

pub(super) fn row(locator: Locator) -> Key {
    Key { space: Space::Subject, name: locator }
}

pub(super) fn unionid_row(unionid: &UnionId) -> Key {
    Key { space: Space::UnionId, name: unionid_hash(unionid) }
}

fn unionid_hash(unionid: &UnionId) -> [u8; 16] {
    hashed("menshen unionid v1", &[unionid.as_str()])
}

/// Where the user stands whom a subject was bound to.
pub(super) fn binding_of_subject(locator: Locator) -> Key {
    Key { space: Space::Binding, name: locator }
}

/// Where the user stands whom a unionid was bound to.
pub(super) fn binding_of_unionid(unionid: &UnionId) -> Key {
    Key { space: Space::Binding, name: unionid_hash(unionid) }
}

pub(super) fn session_id(locator: &Locator, key: &SessionKey) -> Result<SessionId, SessionError> {
    let text = URL_SAFE_NO_PAD.encode([*locator, *key].as_flattened());
    SessionId::parse(&text).map_err(|error| SessionError::Internal(error.to_string().into()))
}

/// What an id says; nothing where no gateway of this kind made it.
pub(super) fn parse(id: &SessionId) -> Option<(Locator, SessionKey)> {
    let mut bytes = [0; 32];
    let length = URL_SAFE_NO_PAD.decode_slice(id.as_str(), &mut bytes).ok()?;
    let (locator, key) = bytes.split_at_checked(16).filter(|_| length == bytes.len())?;
    Some((locator.try_into().ok()?, key.try_into().ok()?))
}

fn hashed(domain: &str, words: &[&str]) -> [u8; 16] {
    let mut text = domain.as_bytes().to_vec();
    for word in words {
        // A length before each word: no two lists of words make one text.
        text.extend_from_slice(&u32::try_from(word.len()).unwrap_or(u32::MAX).to_be_bytes());
        text.extend_from_slice(word.as_bytes());
    }
    let mut name = [0; 16];
    for (byte, hashed) in name.iter_mut().zip(sha256(&[&text])) {
        *byte = hashed;
    }
    name
}
