//! A subject's row: who they are, their sessions, and what WeChat shares with the gateway for their data.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::SessionInfo;
use super::custody::Sealed;
use super::field::{Called, Word, millis};
use super::limits::Limits;
use super::marks::Marks;
use super::name::{self, Locator, SessionKey};
use super::refresh_token::Family;
use crate::clock::Timestamp;
use crate::identity::{AppId, Identity, OpenId, Profile, Subject, UnionId};
use crate::session::SessionError;

#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Record {
    #[n(0)]
    appid: Word<AppId>,
    #[n(1)]
    openid: Word<OpenId>,
    #[n(2)]
    unionid: Option<Word<UnionId>>,
    /// Oldest first.
    #[n(3)]
    pub(super) entries: Vec<Entry>,
    #[n(4)]
    pub(super) sealed: Option<Sealed>,
    /// How many session_keys this row has seen.
    #[n(5)]
    pub(super) generation: u64,
    /// What the person calls themselves, by their last login that said.
    #[n(6)]
    profile: Option<Called>,
}

/// One session.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Entry {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) key: SessionKey,
    #[cbor(n(1), with = "millis")]
    pub(super) created_at: Timestamp,
    #[cbor(n(2), with = "millis")]
    pub(super) last_seen_at: Timestamp,
    #[cbor(n(3), with = "millis")]
    pub(super) ends_at: Timestamp,
    /// Whether it was one too many: it goes on for a moment, and does not count.
    #[n(4)]
    pub(super) is_evicted: bool,
    /// The number of the revocation row when it was opened.
    #[n(5)]
    pub(super) number: u64,
    #[n(6)]
    pub(super) family: Family,
    #[n(7)]
    pub(super) device: Option<String>,
    /// What the cookie is known by, where a browser holds the session.
    #[n(8)]
    pub(super) cookie: Option<ByteArray<32>>,
}

impl Record {
    pub(super) fn new(subject: &Subject) -> Self {
        Self {
            appid: Word(subject.appid.clone()),
            openid: Word(subject.openid.clone()),
            unionid: None,
            entries: Vec::new(),
            sealed: None,
            generation: 0,
            profile: None,
        }
    }

    pub(super) fn subject(&self) -> Subject {
        Subject { appid: self.appid.0.clone(), openid: self.openid.0.clone() }
    }

    pub(super) fn unionid(&self) -> Option<&UnionId> {
        self.unionid.as_ref().map(|unionid| &unionid.0)
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { subject: self.subject(), unionid: self.unionid().cloned() }
    }

    /// Takes what a login says of the unionid; whether it contradicts what stood here.
    pub(super) fn learn(&mut self, unionid: Option<&UnionId>) -> bool {
        let Some(unionid) = unionid else { return false };
        let before = self.unionid.replace(Word(unionid.clone()));
        before.is_some_and(|before| before.0 != *unionid)
    }

    /// Takes what a login says of the profile; what stood here stays where it says nothing of one.
    pub(super) fn call(&mut self, profile: Option<&Profile>) {
        if let Some(profile) = profile {
            self.profile = Some(Called(profile.clone())).filter(|_| !profile.is_empty());
        }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile.as_ref().map(|Called(profile)| profile.clone()).unwrap_or_default()
    }

    pub(super) fn has_nothing(&self) -> bool {
        self.entries.is_empty() && self.sealed.is_none()
    }

    /// The number that a session knows; 0 where there is none.
    pub(super) fn number(&self, key: &SessionKey) -> u64 {
        self.entries.iter().find(|entry| entry.key == *key).map_or(0, |entry| entry.number)
    }

    /// The session whose cookie has this hash.
    pub(super) fn of_cookie(&self, hash: &[u8; 32]) -> Option<SessionKey> {
        let is_its = |cookie: &ByteArray<32>| verify_slices_are_equal(&**cookie, hash).is_ok();
        self.entries.iter().find(|entry| entry.cookie.as_ref().is_some_and(is_its)).map(|entry| entry.key)
    }

    /// The session, if it goes on.
    pub(super) fn live(
        &self,
        key: &SessionKey,
        limits: &Limits,
        marks: &Marks,
        now: Timestamp,
    ) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key && self.is_live(entry, limits, marks, now))
    }

    pub(super) fn all_live(
        &self,
        limits: &Limits,
        marks: &Marks,
        now: Timestamp,
    ) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| self.is_live(entry, limits, marks, now))
    }

    fn is_live(&self, entry: &Entry, limits: &Limits, marks: &Marks, now: Timestamp) -> bool {
        now < entry.end(limits) && !marks.end(&self.appid.0, entry.number, entry.created_at)
    }

    pub(super) fn entry_mut(&mut self, key: &SessionKey) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == *key)
    }

    /// Forgets sessions that have ended, and what they alone needed. One that knows more than these marks is not believed,
    /// and stays: it is good again once a node that remembers them puts the later marks back.
    pub(super) fn tidy(&mut self, limits: &Limits, marks: &Marks, now: Timestamp) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|entry| {
            let knows_more = marks.are_behind(entry.number) && now < entry.end(limits);
            knows_more || self.is_live(entry, limits, marks, now)
        });
        self.entries = entries;
        self.drop_orphaned_key();
    }

    /// Removes a session; whether it was there.
    pub(super) fn remove(&mut self, key: &SessionKey) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.key != *key);
        self.drop_orphaned_key();
        self.entries.len() < before
    }

    fn drop_orphaned_key(&mut self) {
        let entries = &self.entries;
        self.sealed =
            self.sealed.take().filter(|sealed| entries.iter().any(|entry| entry.key == sealed.session));
    }

    /// Adds a session, and gives the oldest their end where there are too many; how many it gave one.
    pub(super) fn add(&mut self, entry: Entry, limits: &Limits, now: Timestamp) -> u64 {
        self.entries.push(entry);
        let counted = self.entries.iter().filter(|entry| !entry.is_evicted).count();
        let too_many = counted.saturating_sub(limits.max_per_subject);
        for entry in self.entries.iter_mut().filter(|entry| !entry.is_evicted).take(too_many) {
            entry.evict(limits, now);
        }
        let unlisted = self.entries.len().saturating_sub(limits.most_listed());
        self.entries.drain(..unlisted);
        self.drop_orphaned_key();
        u64::try_from(too_many).unwrap_or(u64::MAX)
    }

    /// Gives a session its end, since another takes its place; whether it was there.
    pub(super) fn evict(&mut self, key: &SessionKey, limits: &Limits, now: Timestamp) -> bool {
        self.entry_mut(key).map(|entry| entry.evict(limits, now)).is_some()
    }

    /// When the last of the sessions ends.
    pub(super) fn end(&self, limits: &Limits) -> Timestamp {
        self.entries.iter().map(|entry| entry.end(limits)).max().unwrap_or_default()
    }

    pub(super) fn infos(
        &self,
        locator: &Locator,
        limits: &Limits,
        marks: &Marks,
        now: Timestamp,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        let info = |entry: &Entry| {
            Ok(SessionInfo {
                id: name::session_id(locator, &entry.key)?,
                identity: self.identity(),
                created_at: entry.created_at,
                last_seen_at: entry.last_seen_at,
                expires_at: entry.ends_at,
                device: entry.device.clone(),
                profile: self.profile(),
            })
        };
        self.all_live(limits, marks, now).map(info).collect()
    }
}

impl Entry {
    /// When it ends if it is not used again.
    pub(super) fn end(&self, limits: &Limits) -> Timestamp {
        self.ends_at.min(limits.idle_end(self.last_seen_at))
    }

    /// It ends in a moment, and never later than it would have.
    fn evict(&mut self, limits: &Limits, now: Timestamp) {
        self.is_evicted = true;
        self.ends_at = self.ends_at.min(now.plus(limits.eviction_delay));
    }

    pub(super) fn see(&mut self, now: Timestamp) {
        self.last_seen_at = self.last_seen_at.max(now);
    }
}
