//! Names of rows and sessions.
//!
//! A session's id holds the locator of its row. A row's key is a hash, so that it says nothing
//! about the person.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::digest::sha256;
use crate::identity::{SessionId, Subject, UnionId};
use crate::session::error::SessionError;
use crate::session::person::PersonId;
use crate::store::{Key, Space};

/// Names the row of a subject.
pub(in crate::session) type Locator = [u8; 16];
/// Names one session in its subject's row. Random.
pub(in crate::session) type EntryId = [u8; 16];

/// The key of the one row of revocations.
pub(in crate::session) const REVOCATIONS_KEY: Key =
    Key { space: Space::Revocation, name: *b"menshen-marks-v1" };

/// The locator of a subject's row.
pub(in crate::session) fn locator(subject: &Subject) -> Locator {
    hash_words("menshen subject v1", &[subject.appid.as_str(), subject.openid.as_str()])
}

/// The key of a subject's row.
pub(in crate::session) fn subject_key(locator: Locator) -> Key {
    Key { space: Space::Subject, name: locator }
}

/// The key of a unionid's row.
pub(in crate::session) fn unionid_key(unionid: &UnionId) -> Key {
    Key { space: Space::UnionId, name: hash_unionid(unionid) }
}

/// The key of a subject's row as a person.
pub(in crate::session) fn subject_person_key(locator: Locator) -> Key {
    Key { space: Space::Person, name: locator }
}

/// The key of a person's row.
pub(in crate::session) fn person_key(person: &PersonId) -> Key {
    match person {
        PersonId::Subject(subject) => subject_person_key(locator(subject)),
        PersonId::UnionId(unionid) => Key { space: Space::Person, name: hash_unionid(unionid) },
    }
}

/// Writes the id of a session.
pub(in crate::session) fn session_id(locator: &Locator, entry: &EntryId) -> Result<SessionId, SessionError> {
    let text = URL_SAFE_NO_PAD.encode([*locator, *entry].as_flattened());
    SessionId::parse(&text).map_err(|error| SessionError::Internal(error.to_string().into()))
}

/// Reads the id of a session; `None` if no gateway of this kind made it.
pub(in crate::session) fn parse_session_id(id: &SessionId) -> Option<(Locator, EntryId)> {
    let mut bytes = [0; 32];
    let length = URL_SAFE_NO_PAD.decode_slice(id.as_str(), &mut bytes).ok()?;
    let (locator, entry) = bytes.split_at_checked(16).filter(|_| length == bytes.len())?;
    Some((locator.try_into().ok()?, entry.try_into().ok()?))
}

/// Reads the id of a session that must belong to this subject.
///
/// # Errors
/// [`SessionError::Ended`]: it cannot be a session of the subject.
pub(in crate::session) fn locate(
    subject: &Subject,
    session: &SessionId,
) -> Result<(Locator, EntryId), SessionError> {
    let (row, entry) = parse_session_id(session).ok_or(SessionError::Ended)?;
    if row == locator(subject) { Ok((row, entry)) } else { Err(SessionError::Ended) }
}

fn hash_unionid(unionid: &UnionId) -> [u8; 16] {
    hash_words("menshen unionid v1", &[unionid.as_str()])
}

fn hash_words(domain: &str, words: &[&str]) -> [u8; 16] {
    let mut text = domain.as_bytes().to_vec();
    for word in words {
        // A length before each word: no two lists of words make the same text.
        text.extend_from_slice(&u32::try_from(word.len()).unwrap_or(u32::MAX).to_be_bytes());
        text.extend_from_slice(word.as_bytes());
    }
    let mut name = [0; 16];
    for (byte, hashed) in name.iter_mut().zip(sha256(&[&text])) {
        *byte = hashed;
    }
    name
}
