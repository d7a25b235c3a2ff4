//! A unionid's row: which subjects it is, so that all sessions of a person can be found.
//!
//! It is never written after the subject's own row, and lists a subject for longer than its sessions last: a session
//! that is not found this way could not be ended this way.

use minicbor::{Decode, Encode};
use tracing::warn;

use super::core::Core;
use super::field::{Word, millis};
use super::limits::Limits;
use super::{name, row};
use crate::clock::Timestamp;
use crate::identity::{AppId, OpenId, Subject, UnionId};
use crate::store::{self, StoreError, Write};

/// Most subjects of one person: one for each of the gateway's apps.
const MOST_SUBJECTS: usize = 64;

#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Listing {
    #[n(0)]
    unionid: Word<UnionId>,
    #[n(1)]
    members: Vec<Member>,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct Member {
    #[n(0)]
    appid: Word<AppId>,
    #[n(1)]
    openid: Word<OpenId>,
    #[cbor(n(2), with = "millis")]
    until: Timestamp,
}

impl Core {
    /// What lists a subject for as long as a session of theirs may last; nothing where that is so already.
    pub(super) async fn list(
        &self,
        unionid: &UnionId,
        subject: &Subject,
        sessions_end: Timestamp,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Option<Write>, StoreError> {
        let key = name::unionid_row(unionid);
        let before = self.store.get(&key).await?;
        let mut listing = match &before {
            Some(bytes) => Listing::read(unionid, bytes)?,
            None => Listing { unionid: Word(unionid.clone()), members: Vec::new() },
        };
        if listing.lists(subject, sessions_end) {
            return Ok(None);
        }
        listing.add(subject, sessions_end.plus(limits.listing_slack()), now);
        let end = listing.members.iter().map(|member| member.until).max().unwrap_or(now);
        let value = row::encode(&key, &listing)?;
        let ttl = store::ttl_until(limits.row_end(end), now);
        Ok(Some(Write { key, expected: before, value, ttl }))
    }

    /// The subjects that a unionid is, or was; by app.
    pub(super) async fn listed(&self, unionid: &UnionId) -> Result<Vec<Subject>, StoreError> {
        let Some(bytes) = self.store.get(&name::unionid_row(unionid)).await? else { return Ok(Vec::new()) };
        let listing = Listing::read(unionid, &bytes)?;
        let mut subjects: Vec<Subject> = listing.members.iter().map(Member::subject).collect();
        subjects.sort();
        Ok(subjects)
    }
}

impl Listing {
    /// A row of one subject.
    #[cfg(test)]
    pub(super) fn of(unionid: &UnionId, subject: &Subject, until: Timestamp) -> Self {
        let mut listing = Self { unionid: Word(unionid.clone()), members: Vec::new() };
        listing.add(subject, until, Timestamp::default());
        listing
    }

    fn read(unionid: &UnionId, bytes: &[u8]) -> Result<Self, StoreError> {
        let listing: Self = row::decode(&name::unionid_row(unionid), bytes)?;
        if listing.unionid.0 != *unionid {
            return Err(row::damaged("a row is of another unionid"));
        }
        Ok(listing)
    }

    fn lists(&self, subject: &Subject, until: Timestamp) -> bool {
        self.members.iter().any(|member| member.subject() == *subject && member.until >= until)
    }

    fn add(&mut self, subject: &Subject, until: Timestamp, now: Timestamp) {
        let is_known = |member: &Member| member.subject() == *subject;
        // Never shortened: sessions that were opened while the configuration said more are still to be found.
        let known = self.members.iter().find(|member| is_known(member)).map(|member| member.until);
        let until = known.unwrap_or_default().max(until);
        self.members.retain(|member| member.until > now && !is_known(member));
        if self.members.len() >= MOST_SUBJECTS {
            let appid = &subject.appid;
            warn!(
                "a person signed in to more than {MOST_SUBJECTS} apps: with {appid} the oldest is no longer listed"
            );
            self.members.sort_by_key(|member| member.until);
            self.members.drain(..=self.members.len() - MOST_SUBJECTS);
        }
        let Subject { appid, openid } = subject.clone();
        self.members.push(Member { appid: Word(appid), openid: Word(openid), until });
    }
}

impl Member {
    fn subject(&self) -> Subject {
        Subject { appid: self.appid.0.clone(), openid: self.openid.0.clone() }
    }
}
