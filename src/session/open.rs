//! Opening a session.

use tracing::warn;
use zeroize::Zeroizing;

use super::device;
use super::error::{SessionError, internal};
use super::node::attempts::Attempts;
use super::node::subject_rows::StoredSubject;
use super::person::PersonId;
use super::row::cookie::SessionCookie;
use super::row::name::{self, EntryId, Locator};
use super::row::refresh_token::{DecodedRefreshToken, RefreshToken};
use super::row::revocations::Revocations;
use super::row::subject::{SessionEntry, SubjectRow};
use super::scope::SessionScope;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::entropy;
use crate::identity::{Identity, Profile, SessionId};

/// A sign-in that succeeded.
pub struct NewSession<'a> {
    /// The person who signed in.
    pub identity: &'a Identity,
    /// WeChat's `session_key`, if the sign-in brought one.
    pub session_key: Option<&'a Zeroizing<[u8; 16]>>,
    /// The client's `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// The person's profile, if the sign-in brought one.
    pub profile: Option<&'a Profile>,
}

/// A session that is in the store.
#[derive(Clone, Debug)]
pub struct OpenedSession {
    /// Its id: names the row and the session in it.
    pub id: SessionId,
    /// Good for one [`Sessions::refresh`].
    pub refresh_token: RefreshToken,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A session that is in the store, and whose cookie a browser holds.
#[derive(Clone, Debug)]
pub struct OpenedBrowserSession {
    /// Its id: names the row and the session in it.
    pub id: SessionId,
    /// Good as long as the session lives.
    pub cookie: SessionCookie,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A session that is being opened.
struct SessionOpening<'a> {
    new: NewSession<'a>,
    locator: Locator,
    entry: SessionEntry,
    /// A session of the same person that this one replaces.
    replaces: Option<EntryId>,
}

impl Sessions {
    /// Opens a session. When this returns, the session is as durable as the store makes it.
    ///
    /// # Errors
    /// [`SessionError::Blocked`], [`SessionError::Store`] and [`SessionError::Internal`]: there is
    /// no session that a client could use.
    pub async fn open(&self, new: NewSession<'_>, now: Timestamp) -> Result<OpenedSession, SessionError> {
        let locator = name::locator(&new.identity.subject);
        let token = DecodedRefreshToken::generate(locator, self.core.entropy.as_ref())?;
        let entry = self.new_entry(&new, &token, None, now)?;
        let opening = SessionOpening { new, locator, entry, replaces: None };
        let (id, expires_at) = self.put(opening, now).await?;
        Ok(OpenedSession { id, refresh_token: token.encode(), expires_at })
    }

    /// Opens a session that a browser holds, and ends the session that the browser held before. A
    /// session of the same person ends a moment later, because other requests of the browser may be
    /// under way; a session of another person ends at once.
    ///
    /// # Errors
    /// As [`Sessions::open`]. If the session of another person could not be ended, that is logged:
    /// a failed sign-in would help no user.
    pub async fn open_in_browser(
        &self,
        new: NewSession<'_>,
        before: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<OpenedBrowserSession, SessionError> {
        let locator = name::locator(&new.identity.subject);
        let entropy = self.core.entropy.as_ref();
        // A new one each time: an attacker who planted a cookie in the browser, or saw the old one,
        // does not know it.
        let cookie = SessionCookie::generate(&locator, entropy)?;
        let (_, hash) = cookie.decode().ok_or_else(|| internal("a cookie was drawn that does not parse"))?;
        // Every entry has a family of refresh tokens, and older gateways read no entry without one.
        // The first token of this family is given to no client, and only its hash is kept, so no
        // client can refresh with it.
        let token = DecodedRefreshToken::generate(locator, entropy)?;
        let entry = self.new_entry(&new, &token, Some(hash), now)?;
        let replaces = before
            .and_then(name::parse_session_id)
            .filter(|(row, _)| *row == locator)
            .map(|(_, entry)| entry);
        let opening = SessionOpening { new, locator, entry, replaces };
        let (id, expires_at) = self.put(opening, now).await?;
        if let Some(before) = before.filter(|_| replaces.is_none()) {
            // After the sign-in: if it fails, the browser keeps the session that it had.
            self.end_previous(before, now).await;
        }
        Ok(OpenedBrowserSession { id, cookie, expires_at })
    }

    /// Ends the session of another person that a browser held until now. If that fails, it is
    /// logged: a failed sign-in would help no user.
    pub(super) async fn end_previous(&self, before: &SessionId, now: Timestamp) {
        let revoked = self.revoke(&SessionScope::Session(before.clone()), now).await;
        if let Err(error) = revoked {
            warn!("another person signed in with a browser, and the previous session was not ended: {error}");
        }
    }

    fn new_entry(
        &self,
        new: &NewSession<'_>,
        token: &DecodedRefreshToken,
        cookie: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Result<SessionEntry, SessionError> {
        Ok(SessionEntry {
            id: entropy::bytes(self.core.entropy.as_ref()).map_err(internal)?,
            created_at: now,
            last_seen_at: now,
            expires_at: now.plus(self.limits.lifetime),
            is_evicted: false,
            revocation_number: 0,
            family: token.new_family(),
            device: new.user_agent.and_then(device::label),
            cookie: cookie.map(Into::into),
            handed_over: None,
        })
    }

    /// Puts a session into its subject's row. Returns its id, and when it ends at the latest.
    async fn put(
        &self,
        mut opening: SessionOpening<'_>,
        now: Timestamp,
    ) -> Result<(SessionId, Timestamp), SessionError> {
        let core = &self.core;
        let locator = opening.locator;
        let opened = (name::session_id(&locator, &opening.entry.id)?, opening.entry.expires_at);

        let state = core.leases.subject(&locator);
        let _lock = state.lock().await?;
        let mut attempts = Attempts::default();
        loop {
            let stored = core.subjects.read(locator).await?;
            // After the row, as in `Core::read_subject`, and in each attempt: this task may have
            // waited for others.
            let revocations = core.revocations.initialized(now).await?;
            opening.entry.revocation_number = revocations.number;
            if self.try_put(&opening, stored.as_ref(), &revocations, now).await? {
                return Ok(opened);
            }
            attempts.wait(core.entropy.as_ref()).await?;
        }
    }

    /// Puts a session into the row that was read; `false` if another writer was faster.
    async fn try_put(
        &self,
        opening: &SessionOpening<'_>,
        stored: Option<&StoredSubject>,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<bool, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let SessionOpening { new, locator, entry, replaces } = opening;
        let subject = &new.identity.subject;
        let mut row = stored.map_or_else(|| SubjectRow::new(subject), |stored| stored.row.clone());
        if row.set_unionid(new.identity.unionid.as_ref()) {
            warn!("WeChat gave a person of {} another unionid: the new one counts", subject.appid);
        }
        self.refuse_blocked(&row, revocations).await?;
        row.set_profile(new.profile);
        // Before the session itself: a session that no unionid lists could not be ended by unionid.
        let listing = match row.unionid() {
            Some(unionid) => core.unionids.write_for(unionid, subject, entry.expires_at, limits, now).await?,
            None => None,
        };
        row.remove_ended(limits, revocations, now);
        if !self.keeps_session_keys {
            row.clear_session_keys();
        }
        // Before the new one counts: a browser that signs in again must not push out another
        // device.
        let is_replaced = replaces.is_some_and(|before| row.evict(&before, limits, now));
        let evicted = row.add(entry.clone(), limits, now);
        if let Some(secret) = new.session_key.filter(|_| self.keeps_session_keys) {
            row.set_session_key(&self.keys, locator, &entry.id, secret, core.entropy.as_ref())?;
        }
        let write = core.subjects.replacement(*locator, stored, &row, limits, now).await?;
        let is_newly_listed = listing.is_some();
        let is_written = core.store.write_in_order(listing.into_iter().chain([write]).collect()).await?;
        if is_written && is_newly_listed {
            // An operator who blocked the unionid meanwhile did not find this subject in the list.
            let revocations = core.revocations.current().await?;
            self.refuse_blocked(&row, &revocations).await?;
        }
        if is_written {
            core.metrics.evicted.inc_by(evicted);
            if is_replaced || evicted > 0 {
                // Verdicts on this node hold a later end. Other nodes look the sessions up again by
                // themselves.
                core.leases.end(locator);
            }
        }
        Ok(is_written)
    }

    /// Refuses a person who is blocked. If the subject has just become known of a blocked unionid,
    /// its sessions without that unionid end too.
    pub(super) async fn refuse_blocked(
        &self,
        row: &SubjectRow,
        revocations: &Revocations,
    ) -> Result<(), SessionError> {
        let people = self.core.people.of_row(row, revocations).await?;
        if people.is_newly_linked() {
            self.core.publish_person(&PersonId::Subject(row.subject()), Ok(true)).await?;
        }
        if people.are_blocked() { Err(SessionError::Blocked) } else { Ok(()) }
    }
}
