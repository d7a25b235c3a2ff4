//! Handing a program's session over to a web-view: the web-view gets a session of its own, with a
//! cookie, that ends with the program's.

use super::device;
use super::error::{SessionError, internal};
use super::node::attempts::Attempts;
use super::node::subject_rows::StoredSubject;
use super::open::OpenedBrowserSession;
use super::row::cookie::SessionCookie;
use super::row::name::{self, EntryId, Locator};
use super::row::refresh_token::DecodedRefreshToken;
use super::row::revocations::Revocations;
use super::row::subject::{HandedOver, SessionEntry, SubjectRow};
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::entropy;
use crate::identity::{Identity, SessionId};

/// A session that a web-view got from a program.
#[derive(Clone, Debug)]
pub struct HandedOverSession {
    /// The person.
    pub identity: Identity,
    /// The session of the web-view.
    pub session: OpenedBrowserSession,
}

/// A hand-over that is under way.
struct HandOver<'a> {
    locator: Locator,
    parent: EntryId,
    /// A session of the same subject that the browser held before.
    replaces: Option<EntryId>,
    cookie: [u8; 32],
    user_agent: Option<&'a str>,
}

impl Sessions {
    /// Whose session this is, if it is live and can be handed over.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn identity_to_hand_over(
        &self,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Identity, SessionError> {
        let (locator, parent) = name::parse_session_id(session).ok_or(SessionError::Ended)?;
        let (stored, revocations) = self.core.read_subject(locator).await?.ok_or(SessionError::Ended)?;
        self.require_parent(&stored.row, &parent, &revocations, now).await?;
        Ok(stored.row.identity())
    }

    /// Opens a session for a web-view that ends with the session `parent` of a program, and ends
    /// the session `before` that the browser held, as [`Sessions::open_in_browser`] does. A session
    /// that was handed over from `parent` before ends a moment later.
    ///
    /// # Errors
    /// [`SessionError`], by variant. [`SessionError::Ended`]: `parent` is not live, or was itself
    /// handed over.
    pub async fn hand_over(
        &self,
        parent: &SessionId,
        before: Option<&SessionId>,
        user_agent: Option<&str>,
        now: Timestamp,
    ) -> Result<HandedOverSession, SessionError> {
        let core = &self.core;
        let (locator, parent) = name::parse_session_id(parent).ok_or(SessionError::Ended)?;
        let cookie = SessionCookie::generate(&locator, core.entropy.as_ref())?;
        let (_, hash) = cookie.decode().ok_or_else(|| internal("a cookie was drawn that does not parse"))?;
        let replaces = before
            .and_then(name::parse_session_id)
            .filter(|(row, _)| *row == locator)
            .map(|(_, entry)| entry);
        let hand_over = HandOver { locator, parent, replaces, cookie: hash, user_agent };

        let state = core.leases.subject(&locator);
        let lock = state.lock().await?;
        let mut attempts = Attempts::default();
        let (identity, entry) = loop {
            let (stored, revocations) = core.read_subject(locator).await?.ok_or(SessionError::Ended)?;
            if let Some(entry) = self.try_hand_over(&hand_over, &stored, &revocations, now).await? {
                break (stored.row.identity(), entry);
            }
            attempts.wait(core.entropy.as_ref()).await?;
        };
        drop(lock);
        if let Some(before) = before.filter(|_| replaces.is_none()) {
            self.end_previous(before, now).await;
        }
        let id = name::session_id(&locator, &entry.id)?;
        let session = OpenedBrowserSession { id, cookie, expires_at: entry.expires_at };
        Ok(HandedOverSession { identity, session })
    }

    /// Adds the session to the row that was read; `None` if another writer was faster.
    async fn try_hand_over(
        &self,
        hand_over: &HandOver<'_>,
        stored: &StoredSubject,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<Option<SessionEntry>, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let HandOver { locator, parent, replaces, cookie, user_agent } = hand_over;
        let expires_at = self.require_parent(&stored.row, parent, revocations, now).await?;
        let token = DecodedRefreshToken::generate(*locator, core.entropy.as_ref())?;
        let entry = SessionEntry {
            id: entropy::bytes(core.entropy.as_ref()).map_err(internal)?,
            created_at: now,
            last_seen_at: now,
            expires_at,
            is_evicted: false,
            revocation_number: revocations.number,
            // As for every browser: only the hash of the first token is kept, and no client has it.
            family: token.new_family(),
            device: user_agent.and_then(device::label),
            cookie: None,
            handed_over: Some(HandedOver { parent: *parent, cookie: (*cookie).into() }),
        };
        let mut row = stored.row.clone();
        row.remove_ended(limits, revocations, now);
        let is_child_replaced = row.add_child(entry.clone(), parent, limits, now);
        let is_replaced = replaces.is_some_and(|before| row.evict(&before, limits, now));
        row.touch(&entry.id, now);
        let is_written = core.subjects.replace(*locator, Some(stored), &row, limits, now).await?;
        if is_written && (is_replaced || is_child_replaced) {
            // Verdicts on this node hold a later end.
            core.leases.end(locator);
        }
        Ok(is_written.then_some(entry))
    }

    /// Checks that a session can be handed over, and returns when it ends at the latest.
    async fn require_parent(
        &self,
        row: &SubjectRow,
        parent: &EntryId,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<Timestamp, SessionError> {
        let entry = row.live_entry(parent, &self.limits, revocations, now);
        let entry = entry.filter(|entry| entry.handed_over.is_none()).ok_or(SessionError::Ended)?;
        self.core.people.of_row(row, revocations).await?.user_of(entry.revocation_number)?;
        Ok(entry.expires_at)
    }
}
