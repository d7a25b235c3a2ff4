//! Opening a session.

use tracing::warn;

use super::core::{Attempts, replacement};
use super::name::{self, Locator, SessionKey};
use super::record::{Entry, Record};
use super::refresh_token::Parts;
use super::seal::internal;
use super::{
    NewSession, OpenedBrowserSession, OpenedSession, SessionCookie, SessionError, SessionScope, Sessions,
    device,
};
use crate::clock::Timestamp;
use crate::entropy;
use crate::identity::SessionId;

/// A session to be opened, as its row will know it.
struct Opening<'a> {
    new: NewSession<'a>,
    locator: Locator,
    token: Parts,
    cookie: Option<[u8; 32]>,
    /// A session of the same person that ends for this one.
    replaces: Option<SessionKey>,
}

impl Sessions {
    /// Opens a session; once this returns it is as durable as the store makes it.
    ///
    /// # Errors
    /// [`SessionError::Blocked`], [`SessionError::Store`] and [`SessionError::Internal`]: there is no session then that
    /// anybody could use.
    pub async fn open(&self, new: NewSession<'_>, now: Timestamp) -> Result<OpenedSession, SessionError> {
        let locator = name::locator(&new.identity.subject);
        let token = Parts::draw(locator, self.core.entropy.as_ref())?;
        let refresh_token = token.token();
        let opening = Opening { new, locator, token, cookie: None, replaces: None };
        let (id, expires_at) = self.put(opening, now).await?;
        Ok(OpenedSession { id, refresh_token, expires_at })
    }

    /// Opens a session that a browser holds. The one that the browser held before ends: of the same person a moment later,
    /// since other requests of the browser may be under way, of another person at once.
    ///
    /// # Errors
    /// As [`Sessions::open`]. That the session of another person could not be ended is logged: to fail the login for it
    /// would help nobody.
    pub async fn open_in_browser(
        &self,
        new: NewSession<'_>,
        before: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<OpenedBrowserSession, SessionError> {
        let locator = name::locator(&new.identity.subject);
        let entropy = self.core.entropy.as_ref();
        // Drawn anew each time: whoever planted a cookie in the browser, or saw the old one, does not know it.
        let cookie = SessionCookie::draw(&locator, entropy)?;
        let (_, hash) = cookie.parts().ok_or_else(|| internal("a cookie was drawn that does not parse"))?;
        // Every row has a family of refresh tokens, and older gateways read none without. Nobody is told this one's first
        // token, and its hash alone is kept, so that nobody ever refreshes with it.
        let token = Parts::draw(locator, entropy)?;
        let parsed = before.and_then(name::parse);
        let replaces = parsed.filter(|(place, _)| *place == locator).map(|(_, key)| key);
        let opening = Opening { new, locator, token, cookie: Some(hash), replaces };
        let (id, expires_at) = self.put(opening, now).await?;
        if let Some(before) = before.filter(|_| replaces.is_none()) {
            // Only now: a login that fails leaves the browser what it had.
            let revoked = self.revoke(&SessionScope::Session(before.clone()), now).await;
            if let Err(error) = revoked {
                warn!("a browser changed persons, and the session of the one before goes on: {error}");
            }
        }
        Ok(OpenedBrowserSession { id, cookie, expires_at })
    }

    /// Puts a session into its person's row; its id, and when it ends at the latest.
    async fn put(
        &self,
        opening: Opening<'_>,
        now: Timestamp,
    ) -> Result<(SessionId, Timestamp), SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let Opening { new, locator, token, cookie, replaces } = opening;
        let subject = &new.identity.subject;
        let key = entropy::bytes(core.entropy.as_ref()).map_err(internal)?;
        let mut entry = Entry {
            key,
            created_at: now,
            last_seen_at: now,
            ends_at: now.plus(limits.lifetime),
            is_evicted: false,
            number: 0,
            family: token.found(),
            device: new.user_agent.and_then(device::label),
            cookie: cookie.map(Into::into),
        };
        let opened = (name::session_id(&locator, &key)?, entry.ends_at);

        let state = core.leases.subject(&locator);
        let _turn = state.turn().await?;
        let mut attempts = Attempts::default();
        loop {
            let row = core.read(locator).await?;
            // After the row, as in `read_with_marks`, and each time: this may have waited for others.
            let marks = core.founded_marks(now).await?;
            entry.number = marks.number;
            let mut record = row.as_ref().map_or_else(|| Record::new(subject), |row| row.record.clone());
            if record.learn(new.identity.unionid.as_ref()) {
                warn!("WeChat gave a person of {} another unionid: the new one counts", subject.appid);
            }
            if marks.block_out(&record.identity()) {
                return Err(SessionError::Blocked);
            }
            record.call(new.profile);
            // Before the session itself: one that no list names could not be ended by the person's unionid.
            let listing = match record.unionid() {
                Some(unionid) => core.list(unionid, subject, entry.ends_at, limits, now).await?,
                None => None,
            };
            record.tidy(limits, &marks, now);
            // Before the new one counts: a browser that signs in again must not push out another device.
            let is_replaced = replaces.is_some_and(|before| record.evict(&before, limits, now));
            let evicted = record.add(entry.clone(), limits, now);
            if let Some(secret) = new.session_key {
                self.keys.keep(&mut record, &locator, key, secret, core.entropy.as_ref())?;
            }
            let session = replacement(locator, row.as_ref(), &record, limits, now)?;
            if core.store.write_in_order(listing.into_iter().chain([session]).collect()).await? {
                core.metrics.evicted.inc_by(evicted);
                if is_replaced || evicted > 0 {
                    // Verdicts on this node say a later end; those of others are looked up again by themselves.
                    core.leases.end(&locator);
                }
                return Ok(opened);
            }
            attempts.again(core).await?;
        }
    }
}
