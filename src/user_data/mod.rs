//! WeChat's sealed user data (`encryptedData`): whether they open with a session key, are of this
//! app and user and fresh, and which of their fields may go to whom.
//!
//! # What can be promised
//! WeChat seals with AES-128-CBC and adds no MAC. Who has a sealed text and knows what it says can
//! choose its first 16 bytes by another `iv`, cut it anywhere before, and garble a block in order
//! to flip bits of the next one. So these hold, whatever a client sends:
//!
//! - An `openId` that is accepted is that of the session, and the `appid` of the watermark is that
//!   of the app: both are compared with what WeChat said at the sign-in.
//! - No bit of one sealed text can be flipped so that its phone number changes: the text has only
//!   the fields of a phone number, none twice, and the number stands in it twice.
//! - A `unionId` is used only beside the session's `openId`.
//!
//! It cannot be excluded that a text is put together from several texts under one key, in the form
//! of another kind of data. Nothing but WeChat can tell: so a phone number, which a business
//! believes, must not reach a backend before WeChat's `checkencryptedmsg` has agreed.
//!
//! All failures that depend on the key are one error, and take the same steps: a client must not
//! learn whether the padding was right. The module does no I/O.

mod document;
mod encrypted;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod policy;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use zeroize::Zeroizing;

use self::document::{Document, Kind};
pub use self::encrypted::EncryptedUserData;
pub use self::policy::UserDataPolicy;
use crate::clock::Timestamp;
use crate::identity::{Subject, UnionId};

/// How many session keys are tried: the newest of a user, and the one before. A sign-in on another
/// device may have brought a newer key than the one that WeChat sealed with.
pub const KEYS_TRIED: usize = 2;

/// How far WeChat's clock may be ahead of the gateway's.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// User data that were opened. `Debug` does not show them.
#[derive(Clone, PartialEq)]
pub struct OpenedUserData {
    fields: serde_json::Map<String, serde_json::Value>,
    unionid: Option<UnionId>,
}

/// The data do not open with the keys, or are not of this app and user, or are too old. There is no
/// variant: a client must not learn which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data do not open with the session's key")]
pub struct StaleKey;

/// Whose data are expected, and when.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The app and the user of the session.
    pub subject: &'a Subject,
    /// Oldest accepted watermark.
    pub max_age: Duration,
    /// The present time.
    pub now: Timestamp,
}

/// Opens user data with the newest session keys of a user, the newest first. It tries as many keys
/// whether or not the first one fits, and whether or not there are so many.
///
/// # Errors
/// [`StaleKey`]
pub fn open(
    keys: &[Zeroizing<[u8; 16]>],
    encrypted: &EncryptedUserData,
    expected: Expected<'_>,
) -> Result<OpenedUserData, StaleKey> {
    let nothing = Zeroizing::new([0; 16]);
    let mut opened = Err(StaleKey);
    for place in 0..KEYS_TRIED {
        let key = keys.get(place);
        let tried = open_with(key.unwrap_or(&nothing), encrypted, expected);
        if opened.is_err() && key.is_some() {
            opened = tried;
        }
    }
    opened
}

/// Takes every step even if one before has failed.
fn open_with(
    key: &[u8; 16],
    encrypted: &EncryptedUserData,
    expected: Expected<'_>,
) -> Result<OpenedUserData, StaleKey> {
    let (text, is_padded) = encrypted.decrypt(key).ok_or(StaleKey)?;
    let document = Document::parse(&text);
    let is_theirs = document.as_ref().is_some_and(|document| is_expected(document, expected));
    match document {
        Some(document) if is_padded && is_theirs => Ok(document.into_opened()),
        _ => Err(StaleKey),
    }
}

/// Whether a document is of the expected app and user, fresh, and of one kind.
fn is_expected(document: &Document, expected: Expected<'_>) -> bool {
    let Expected { subject, max_age, now } = expected;
    let is_of_app = document.appid() == Some(subject.appid.as_str());
    let is_fresh = document
        .timestamp()
        .is_some_and(|sealed_at| sealed_at <= now.plus(CLOCK_SKEW) && now.since(sealed_at) <= max_age);
    let is_of_user = match (document.openid(), document.kind()) {
        (Ok(Some(openid)), _) => openid == subject.openid.as_str(),
        // WeChat names the user in a profile, and not in the others.
        (Ok(None), kind) => kind != Some(Kind::Profile),
        (Err(_), _) => false,
    };
    let is_consistent = document.kind().is_some() && document.is_consistent();
    is_of_app & is_fresh & is_of_user & is_consistent
}

impl OpenedUserData {
    /// The fields of a list, as WeChat spells them. Fields that the data do not have are left out.
    pub fn only(&self, names: &[String]) -> serde_json::Map<String, serde_json::Value> {
        let is_named = |(name, _): &(&String, &serde_json::Value)| names.contains(name);
        let fields = self.fields.iter().filter(is_named);
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The unionid, if the data name it beside the user's openid.
    pub const fn unionid(&self) -> Option<&UnionId> {
        self.unionid.as_ref()
    }
}

impl std::fmt::Debug for OpenedUserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenedUserData([redacted])")
    }
}
