//! A person as a row names them.

use minicbor::{Decode, Encode};

use super::field::TextField;
use super::name;
use crate::identity::{AppId, OpenId, Subject, UnionId};
use crate::session::person::PersonId;
use crate::store::{Key, Space};

/// A person, by unionid or by subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(in crate::session) enum PersonField {
    #[n(0)]
    UnionId(#[n(0)] TextField<UnionId>),
    #[n(1)]
    Subject(#[n(0)] TextField<AppId>, #[n(1)] TextField<OpenId>),
    /// A person who was erased, or whose block was lifted: the keyed hash of what named them. No
    /// gateway of the previous version reads it.
    #[n(2)]
    Hashed(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]),
}

impl PersonField {
    /// Bytes of its identifiers.
    pub(in crate::session) fn byte_len(&self) -> usize {
        match self {
            Self::UnionId(unionid) => unionid.0.as_str().len(),
            Self::Subject(appid, openid) => appid.0.as_str().len() + openid.0.as_str().len(),
            Self::Hashed(hash) => hash.len(),
        }
    }

    /// What names the person, as words to hash. The first one is the kind.
    pub(in crate::session) fn words(&self) -> Vec<&[u8]> {
        match self {
            Self::UnionId(unionid) => vec![b"unionid", unionid.0.as_str().as_bytes()],
            Self::Subject(appid, openid) => {
                vec![b"subject", appid.0.as_str().as_bytes(), openid.0.as_str().as_bytes()]
            }
            Self::Hashed(hash) => vec![b"hashed", hash],
        }
    }

    /// The person; `None` if only the hash is known.
    pub(in crate::session) fn person_id(&self) -> Option<PersonId> {
        match self {
            Self::UnionId(unionid) => Some(PersonId::UnionId(unionid.0.clone())),
            Self::Subject(appid, openid) => {
                Some(PersonId::Subject(Subject { appid: appid.0.clone(), openid: openid.0.clone() }))
            }
            Self::Hashed(_) => None,
        }
    }

    /// The key of the row of this person.
    pub(in crate::session) fn row_key(&self) -> Key {
        match self {
            Self::Hashed(hash) => Key { space: Space::Person, name: *hash },
            Self::UnionId(unionid) => name::person_key(&PersonId::UnionId(unionid.0.clone())),
            Self::Subject(appid, openid) => {
                let subject = Subject { appid: appid.0.clone(), openid: openid.0.clone() };
                name::subject_person_key(name::locator(&subject))
            }
        }
    }
}

impl From<&UnionId> for PersonField {
    fn from(unionid: &UnionId) -> Self {
        Self::UnionId(TextField(unionid.clone()))
    }
}

impl From<&Subject> for PersonField {
    fn from(subject: &Subject) -> Self {
        Self::Subject(TextField(subject.appid.clone()), TextField(subject.openid.clone()))
    }
}

impl From<&PersonId> for PersonField {
    fn from(person: &PersonId) -> Self {
        match person {
            PersonId::UnionId(unionid) => Self::from(unionid),
            PersonId::Subject(subject) => Self::from(subject),
        }
    }
}
