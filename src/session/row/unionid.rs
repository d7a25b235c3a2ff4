//! A unionid's row: the subjects of a person in the gateway's apps, so that all sessions of the
//! person can be found.
//!
//! It is never written after the subject's own row, and it lists a subject for longer than the
//! subject's sessions last: a session that is not found by unionid could not be ended by unionid.

use minicbor::{Decode, Encode};
use tracing::warn;

use super::envelope::damaged;
use super::field::{TextField, millis};
use crate::clock::Timestamp;
use crate::identity::{AppId, OpenId, Subject, UnionId};
use crate::store::StoreError;

/// Most subjects of one person: one for each of the gateway's apps.
const MOST_SUBJECTS: usize = 64;

#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct UnionIdRow {
    #[n(0)]
    unionid: TextField<UnionId>,
    #[n(1)]
    members: Vec<UnionIdMember>,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct UnionIdMember {
    #[n(0)]
    appid: TextField<AppId>,
    #[n(1)]
    openid: TextField<OpenId>,
    #[cbor(n(2), with = "millis")]
    until: Timestamp,
}

impl UnionIdRow {
    /// A row without subjects.
    pub(in crate::session) fn new(unionid: &UnionId) -> Self {
        Self { unionid: TextField(unionid.clone()), members: Vec::new() }
    }

    /// Returns the row if it is of this unionid.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub(in crate::session) fn require_unionid(self, unionid: &UnionId) -> Result<Self, StoreError> {
        if self.unionid.0 != *unionid {
            return Err(damaged("a row is of another unionid"));
        }
        Ok(self)
    }

    /// Whether the row lists a subject until this instant at least.
    pub(in crate::session) fn lists(&self, subject: &Subject, until: Timestamp) -> bool {
        self.members.iter().any(|member| member.subject() == *subject && member.until >= until)
    }

    /// The subjects, by app.
    pub(in crate::session) fn subjects(&self) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = self.members.iter().map(UnionIdMember::subject).collect();
        subjects.sort();
        subjects
    }

    /// When the last subject is no longer listed.
    pub(in crate::session) fn ends_at(&self) -> Option<Timestamp> {
        self.members.iter().map(|member| member.until).max()
    }

    /// Lists a subject until this instant at least.
    pub(in crate::session) fn add(&mut self, subject: &Subject, until: Timestamp, now: Timestamp) {
        let is_same = |member: &UnionIdMember| member.subject() == *subject;
        // Never shortened: sessions that were opened under a longer configured lifetime must still
        // be found.
        let before = self.members.iter().find(|member| is_same(member)).map(|member| member.until);
        let until = before.unwrap_or_default().max(until);
        self.members.retain(|member| member.until > now && !is_same(member));
        if self.members.len() >= MOST_SUBJECTS {
            let appid = &subject.appid;
            warn!(
                "a person signed in to more than {MOST_SUBJECTS} apps: with {appid} the oldest is no longer listed"
            );
            self.members.sort_by_key(|member| member.until);
            self.members.drain(..=self.members.len() - MOST_SUBJECTS);
        }
        let Subject { appid, openid } = subject.clone();
        self.members.push(UnionIdMember { appid: TextField(appid), openid: TextField(openid), until });
    }
}

impl UnionIdMember {
    fn subject(&self) -> Subject {
        Subject { appid: self.appid.0.clone(), openid: self.openid.0.clone() }
    }
}
