//! The names of people who are blocked or bound.

use super::scope::SessionScope;
use crate::identity::{Subject, UnionId};

/// A person, in every app or in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonId {
    /// In every app in which this unionid is known.
    UnionId(UnionId),
    /// In one app.
    Subject(Subject),
}

impl PersonId {
    /// The scope of the person's sessions.
    pub fn scope(&self) -> SessionScope {
        match self {
            Self::UnionId(unionid) => SessionScope::UnionId(unionid.clone()),
            Self::Subject(subject) => SessionScope::Subject(subject.clone()),
        }
    }
}
