//! A subject's row: the identity, the sessions, and the sealed `session_key`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::field::{ProfileField, TextField, millis};
use super::limits::SessionLimits;
use super::name::{EntryId, Locator};
use super::refresh_token::RefreshTokenFamily;
use super::revocations::Revocations;
use super::session_key::{SealKeys, SealPurpose, SealedSessionKey};
use crate::clock::Timestamp;
use crate::entropy::Entropy;
use crate::identity::{AppId, Identity, OpenId, Profile, Subject, UnionId};
use crate::session::error::SessionError;

#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct SubjectRow {
    #[n(0)]
    appid: TextField<AppId>,
    #[n(1)]
    openid: TextField<OpenId>,
    #[n(2)]
    unionid: Option<TextField<UnionId>>,
    /// Oldest first.
    #[n(3)]
    pub(in crate::session) entries: Vec<SessionEntry>,
    #[n(4)]
    pub(in crate::session) session_key: Option<SealedSessionKey>,
    /// How many session_keys this row has held.
    #[n(5)]
    generation: u64,
    /// From the last sign-in that brought a profile.
    #[n(6)]
    profile: Option<ProfileField>,
    /// The `session_key` before the newest one.
    #[n(7)]
    previous_session_key: Option<SealedSessionKey>,
}

/// One session.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct SessionEntry {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(in crate::session) id: EntryId,
    #[cbor(n(1), with = "millis")]
    pub(in crate::session) created_at: Timestamp,
    /// When it was last used, except for refreshes: a thief who saw this move after a refresh would
    /// know when to show the spent token.
    #[cbor(n(2), with = "millis")]
    pub(in crate::session) last_seen_at: Timestamp,
    #[cbor(n(3), with = "millis")]
    pub(in crate::session) expires_at: Timestamp,
    /// Whether another session took its place: it goes on for a moment, and does not count.
    #[n(4)]
    pub(in crate::session) is_evicted: bool,
    /// The number of the revocations row when the session was opened.
    #[n(5)]
    pub(in crate::session) revocation_number: u64,
    #[n(6)]
    pub(in crate::session) family: RefreshTokenFamily,
    #[n(7)]
    pub(in crate::session) device: Option<String>,
    /// The hash of the cookie, if a browser holds the session.
    #[n(8)]
    pub(in crate::session) cookie: Option<ByteArray<32>>,
    /// Set if the session was handed over to a web-view: it then ends with another session.
    #[n(9)]
    pub(in crate::session) handed_over: Option<HandedOver>,
}

/// What only a session has that was handed over to a web-view.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(in crate::session) struct HandedOver {
    /// The session of the program that handed it over.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(in crate::session) parent: EntryId,
    /// The hash of the cookie. It does not stand where that of other browsers stands: a gateway of
    /// the version before would believe it there, and would not end the session with its parent.
    #[n(1)]
    pub(in crate::session) cookie: ByteArray<32>,
}

impl SubjectRow {
    pub(in crate::session) fn new(subject: &Subject) -> Self {
        Self {
            appid: TextField(subject.appid.clone()),
            openid: TextField(subject.openid.clone()),
            unionid: None,
            entries: Vec::new(),
            session_key: None,
            generation: 0,
            profile: None,
            previous_session_key: None,
        }
    }

    pub(in crate::session) fn subject(&self) -> Subject {
        Subject { appid: self.appid.0.clone(), openid: self.openid.0.clone() }
    }

    pub(in crate::session) fn unionid(&self) -> Option<&UnionId> {
        self.unionid.as_ref().map(|unionid| &unionid.0)
    }

    pub(in crate::session) fn identity(&self) -> Identity {
        Identity { subject: self.subject(), unionid: self.unionid().cloned() }
    }

    pub(in crate::session) fn profile(&self) -> Profile {
        self.profile.as_ref().map(|ProfileField(profile)| profile.clone()).unwrap_or_default()
    }

    /// Sets the unionid if the sign-in brought one; whether it replaces a different one.
    pub(in crate::session) fn set_unionid(&mut self, unionid: Option<&UnionId>) -> bool {
        let Some(unionid) = unionid else { return false };
        let before = self.unionid.replace(TextField(unionid.clone()));
        before.is_some_and(|before| before.0 != *unionid)
    }

    /// Sets the profile if the sign-in brought one.
    pub(in crate::session) fn set_profile(&mut self, profile: Option<&Profile>) {
        if let Some(profile) = profile {
            self.profile = Some(ProfileField(profile.clone())).filter(|_| !profile.is_empty());
        }
    }

    /// Puts the newest `session_key` of the subject into the row, and keeps the one before. WeChat
    /// often gives the same one again: then the one before stays.
    pub(in crate::session) fn set_session_key(
        &mut self,
        keys: &SealKeys,
        locator: &Locator,
        session: &EntryId,
        secret: &[u8; 16],
        entropy: &dyn Entropy,
    ) -> Result<(), SessionError> {
        self.generation = self.generation.saturating_add(1);
        let (subject, generation) = (self.subject(), self.generation);
        let purpose = SealPurpose { subject: &subject, locator, session, generation };
        let before = self.session_key.replace(keys.seal(purpose, secret, entropy)?);
        // One that does not open, because its seal key is gone, is of no use.
        let opened = before.and_then(|before| {
            let (known, _) = keys.open(&subject, locator, &before, entropy).ok()?;
            Some((before, *known != *secret))
        });
        if let Some((before, true)) = opened {
            self.previous_session_key = Some(before);
        }
        Ok(())
    }

    /// Removes every `session_key`.
    pub(in crate::session) fn clear_session_keys(&mut self) {
        self.session_key = None;
        self.previous_session_key = None;
    }

    /// The `session_key`s, the newest first.
    pub(in crate::session) fn session_keys(&self) -> impl Iterator<Item = &SealedSessionKey> {
        self.session_key.iter().chain(&self.previous_session_key)
    }

    /// Whether the row holds nothing that is worth a row.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.session_keys().next().is_none()
    }

    /// The number of the revocations row when the session was opened; 0 if the row does not have
    /// the session.
    pub(in crate::session) fn revocation_number(&self, id: &EntryId) -> u64 {
        self.entries.iter().find(|entry| entry.id == *id).map_or(0, |entry| entry.revocation_number)
    }

    /// The session whose cookie has this hash.
    pub(in crate::session) fn find_by_cookie(&self, hash: &[u8; 32]) -> Option<EntryId> {
        let is_equal = |cookie: &ByteArray<32>| verify_slices_are_equal(&**cookie, hash).is_ok();
        self.entries.iter().find(|entry| entry.cookie_hash().is_some_and(is_equal)).map(|entry| entry.id)
    }

    /// The session with this id, if it is live.
    pub(in crate::session) fn live_entry(
        &self,
        id: &EntryId,
        limits: &SessionLimits,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Option<&SessionEntry> {
        self.entries.iter().find(|entry| entry.id == *id && self.is_live(entry, limits, revocations, now))
    }

    /// Every live session.
    pub(in crate::session) fn live_entries(
        &self,
        limits: &SessionLimits,
        revocations: &Revocations,
        now: Timestamp,
    ) -> impl Iterator<Item = &SessionEntry> {
        self.entries.iter().filter(move |entry| self.is_live(entry, limits, revocations, now))
    }

    fn is_live(
        &self,
        entry: &SessionEntry,
        limits: &SessionLimits,
        revocations: &Revocations,
        now: Timestamp,
    ) -> bool {
        let goes_on = |entry: &SessionEntry| {
            now < entry.ends_at(limits)
                && !revocations.has_revoked(&self.appid.0, entry.revocation_number, entry.created_at)
        };
        goes_on(entry) && (entry.handed_over.is_none() || self.parent_of(entry).is_some_and(goes_on))
    }

    /// The session with which this one ends, if it was handed over and the row has that one.
    pub(in crate::session) fn parent_of(&self, entry: &SessionEntry) -> Option<&SessionEntry> {
        let parent = entry.handed_over.as_ref()?.parent;
        // A session that was handed over hands nothing over.
        self.entries.iter().find(|other| other.id == parent && other.handed_over.is_none())
    }

    pub(in crate::session) fn entry_mut(&mut self, id: &EntryId) -> Option<&mut SessionEntry> {
        self.entries.iter_mut().find(|entry| entry.id == *id)
    }

    /// Removes sessions that have ended, and their `session_key`. A session with a higher number
    /// than these revocations is not believed, and stays in the row: it is good again when a node
    /// that remembers the later revocations has put them back.
    pub(in crate::session) fn remove_ended(
        &mut self,
        limits: &SessionLimits,
        revocations: &Revocations,
        now: Timestamp,
    ) {
        let is_kept = |entry: &SessionEntry| {
            let is_ahead = revocations.is_older_than(entry.revocation_number) && now < entry.ends_at(limits);
            is_ahead || self.is_live(entry, limits, revocations, now)
        };
        // All are judged before one is removed: some end with another one of the row.
        let mut kept = self.entries.iter().map(is_kept).collect::<Vec<bool>>().into_iter();
        self.entries.retain(|_| kept.next().unwrap_or_default());
        self.remove_orphaned_session_key();
    }

    /// Removes a session, and what was handed over from it; whether the row had it.
    pub(in crate::session) fn remove(&mut self, id: &EntryId) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.id != *id && !entry.is_child_of(id));
        self.remove_orphaned_session_key();
        self.entries.len() < before
    }

    fn remove_orphaned_session_key(&mut self) {
        let entries = &self.entries;
        let has_session = |key: &SealedSessionKey| entries.iter().any(|entry| entry.id == key.session);
        self.session_key = self.session_key.take().filter(has_session);
        self.previous_session_key = self.previous_session_key.take().filter(has_session);
    }

    /// Adds a session, and evicts the oldest ones if there are too many; how many it evicted.
    pub(in crate::session) fn add(
        &mut self,
        entry: SessionEntry,
        limits: &SessionLimits,
        now: Timestamp,
    ) -> u64 {
        self.entries.push(entry);
        // A web-view is no device of its own.
        let counts = |entry: &&SessionEntry| !entry.is_evicted && entry.handed_over.is_none();
        let counted = self.entries.iter().filter(counts).count();
        let too_many = counted.saturating_sub(limits.max_per_subject);
        for entry in self.entries.iter_mut().filter(|entry| counts(&&**entry)).take(too_many) {
            entry.evict(limits, now);
        }
        self.remove_surplus(limits);
        u64::try_from(too_many).unwrap_or(u64::MAX)
    }

    /// Adds a session that is handed over from another one of the row. It takes the place of the
    /// one that was handed over from there before. Returns whether there was one.
    pub(in crate::session) fn add_child(
        &mut self,
        entry: SessionEntry,
        parent: &EntryId,
        limits: &SessionLimits,
        now: Timestamp,
    ) -> bool {
        // Of those that end in a moment only the last is kept: hand-overs in a row must not fill
        // the row of the subject.
        self.entries.retain(|entry| !(entry.is_evicted && entry.is_child_of(parent)));
        let mut before = self.entries.iter_mut().filter(|entry| entry.is_child_of(parent)).peekable();
        let is_replaced = before.peek().is_some();
        before.for_each(|entry| entry.evict(limits, now));
        self.entries.push(entry);
        self.remove_surplus(limits);
        is_replaced
    }

    /// Removes the oldest sessions of a row that has more than it may hold, those first that end in
    /// a moment.
    fn remove_surplus(&mut self, limits: &SessionLimits) {
        let mut surplus = self.entries.len().saturating_sub(limits.most_entries());
        self.entries.retain(|entry| {
            let is_removed = surplus > 0 && entry.is_evicted;
            surplus -= usize::from(is_removed);
            !is_removed
        });
        self.entries.drain(..surplus);
        self.remove_orphaned_session_key();
    }

    /// Evicts a session because another one takes its place; whether the row had it.
    pub(in crate::session) fn evict(&mut self, id: &EntryId, limits: &SessionLimits, now: Timestamp) -> bool {
        self.entry_mut(id).map(|entry| entry.evict(limits, now)).is_some()
    }

    /// Writes down that a session was used, and with it the one with which it ends: its person is
    /// there.
    pub(in crate::session) fn touch(&mut self, id: &EntryId, now: Timestamp) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.touch(now);
        let Some(parent) = entry.handed_over.as_ref().map(|handed_over| handed_over.parent) else { return };
        if let Some(parent) = self.entry_mut(&parent) {
            parent.touch(now);
        }
    }

    /// When the last session of the row ends, if all are used until then.
    pub(in crate::session) fn latest_end(&self) -> Timestamp {
        self.entries.iter().map(|entry| entry.expires_at).max().unwrap_or_default()
    }

    /// When the last session of the row ends, if none is used again.
    pub(in crate::session) fn ends_at(&self, limits: &SessionLimits) -> Timestamp {
        self.entries.iter().map(|entry| entry.ends_at(limits)).max().unwrap_or_default()
    }
}

impl SessionEntry {
    /// When the session ends if it is not used again.
    pub(in crate::session) fn ends_at(&self, limits: &SessionLimits) -> Timestamp {
        self.expires_at.min(limits.idle_end(self.last_used_at()))
    }

    /// The hash of the cookie, if a browser or a web-view holds the session.
    fn cookie_hash(&self) -> Option<&ByteArray<32>> {
        self.cookie.as_ref().or_else(|| self.handed_over.as_ref().map(|handed_over| &handed_over.cookie))
    }

    /// Whether the session was handed over from this one.
    fn is_child_of(&self, parent: &EntryId) -> bool {
        self.handed_over.as_ref().is_some_and(|handed_over| handed_over.parent == *parent)
    }

    /// When the session was last used: a refresh is a use.
    pub(in crate::session) fn last_used_at(&self) -> Timestamp {
        self.last_seen_at.max(self.family.spent_at())
    }

    /// Lets the session end after the eviction delay, but never later than before.
    fn evict(&mut self, limits: &SessionLimits, now: Timestamp) {
        self.is_evicted = true;
        self.expires_at = self.expires_at.min(now.plus(limits.eviction_delay));
    }

    /// Writes down that the session was used.
    fn touch(&mut self, now: Timestamp) {
        self.last_seen_at = self.last_seen_at.max(now);
    }
}
