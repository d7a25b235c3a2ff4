//! A person as a row names them.

use minicbor::{Decode, Encode};

use super::field::TextField;
use crate::identity::{AppId, OpenId, Subject, UnionId};
use crate::session::person::PersonId;

/// A person, by unionid or by subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub(in crate::session) enum PersonField {
    #[n(0)]
    UnionId(#[n(0)] TextField<UnionId>),
    #[n(1)]
    Subject(#[n(0)] TextField<AppId>, #[n(1)] TextField<OpenId>),
}

impl PersonField {
    /// Bytes of its identifiers.
    pub(in crate::session) fn byte_len(&self) -> usize {
        match self {
            Self::UnionId(unionid) => unionid.0.as_str().len(),
            Self::Subject(appid, openid) => appid.0.as_str().len() + openid.0.as_str().len(),
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

impl From<&PersonField> for PersonId {
    fn from(field: &PersonField) -> Self {
        match field {
            PersonField::UnionId(unionid) => Self::UnionId(unionid.0.clone()),
            PersonField::Subject(appid, openid) => {
                Self::Subject(Subject { appid: appid.0.clone(), openid: openid.0.clone() })
            }
        }
    }
}
