//! Opening a session.

use tracing::warn;

use super::core::{Attempts, replacement};
use super::record::{Entry, Record};
use super::refresh_token::Parts;
use super::seal::internal;
use super::{NewSession, Opened, SessionError, Sessions, device, name};
use crate::clock::Timestamp;
use crate::entropy;

impl Sessions {
    /// Opens a session; once this returns it is as durable as the store makes it.
    ///
    /// # Errors
    /// [`SessionError::Store`] and [`SessionError::Internal`]: there is no session then that anybody could use.
    pub async fn open(&self, new: NewSession<'_>, now: Timestamp) -> Result<Opened, SessionError> {
        let (core, limits) = (&self.core, &self.limits);
        let subject = &new.identity.subject;
        let locator = name::locator(subject);
        let key = entropy::bytes(core.entropy.as_ref()).map_err(internal)?;
        let token = Parts::draw(locator, core.entropy.as_ref())?;
        let marks = core.founded_marks(now).await?;
        let entry = Entry {
            key,
            created_at: now,
            last_seen_at: now,
            ends_at: now.plus(limits.lifetime),
            is_evicted: false,
            number: marks.number,
            family: token.found(),
            device: new.user_agent.and_then(device::label),
        };
        let opened = Opened {
            id: name::session_id(&locator, &key)?,
            refresh_token: token.token(),
            expires_at: entry.ends_at,
        };

        let state = core.leases.subject(&locator);
        let _turn = state.turn().await?;
        let mut attempts = Attempts::default();
        loop {
            let row = core.read(locator).await?;
            let mut record = row.as_ref().map_or_else(|| Record::new(subject), |row| row.record.clone());
            if record.learn(new.identity.unionid.as_ref()) {
                warn!("WeChat gave a person of {} another unionid: the new one counts", subject.appid);
            }
            // Before the session itself: one that no list names could not be ended by the person's unionid.
            let listing = match record.unionid() {
                Some(unionid) => core.list(unionid, subject, entry.ends_at, limits, now).await?,
                None => None,
            };
            record.tidy(limits, &marks, now);
            let evicted = record.add(entry.clone(), limits, now);
            if let Some(secret) = new.session_key {
                self.keys.keep(&mut record, &locator, key, secret, core.entropy.as_ref())?;
            }
            let session = replacement(locator, row.as_ref(), &record, limits, now)?;
            if core.store.write_in_order(listing.into_iter().chain([session]).collect()).await? {
                if evicted > 0 {
                    core.metrics.evicted.inc_by(evicted);
                    // Verdicts on this node say a later end; those of others are looked up again by themselves.
                    core.leases.end(&locator);
                }
                return Ok(opened);
            }
            attempts.again(core).await?;
        }
    }
}
