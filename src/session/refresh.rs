//! Spending a refresh token for the next one. See RFC 9700 §4.14.2.

use tracing::{info, warn};

use super::client::Client;
use super::error::{RefreshError, SessionError};
use super::node::attempts::Attempts;
use super::node::metrics::RefreshOutcome;
use super::node::subject_rows::StoredSubject;
use super::open::OpenedSession;
use super::row::name::{self, EntryId};
use super::row::refresh_token::{ClientHash, DecodedRefreshToken, RefreshToken, TokenUse};
use super::row::revocations::Revocations;
use super::row::subject::{SessionEntry, SubjectRow};
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Identity, Subject};

/// A refresh token as a client shows it.
struct ShownToken {
    token: DecodedRefreshToken,
    client: ClientHash,
}

/// A refresh token was spent; this is the session with the next one.
#[derive(Clone, Debug)]
pub struct RefreshedSession {
    /// The person.
    pub identity: Identity,
    /// The session, with its next refresh token.
    pub session: OpenedSession,
}

impl Sessions {
    /// Spends a refresh token and returns the next. A retry of the same client within the grace
    /// time gets the same next one.
    ///
    /// # Errors
    /// [`RefreshError`], by variant.
    pub async fn refresh(
        &self,
        token: &RefreshToken,
        client: &Client,
        now: Timestamp,
    ) -> Result<RefreshedSession, RefreshError> {
        self.refresh_if(token, client, |_| true, now).await
    }

    /// As [`Sessions::refresh`], if `allows` allows the token's user. The token of another user is
    /// not spent.
    ///
    /// # Errors
    /// [`RefreshError`], by variant.
    pub async fn refresh_if(
        &self,
        token: &RefreshToken,
        client: &Client,
        allows: impl Fn(&Subject) -> bool + Send + Sync,
        now: Timestamp,
    ) -> Result<RefreshedSession, RefreshError> {
        let result = match token.decode() {
            Some(token) => {
                let client = token.shown_by(client);
                self.rotate(&ShownToken { token, client }, allows, now).await
            }
            None => Err(RefreshError::Invalid),
        };
        self.core.metrics.count_refresh(match &result {
            Ok((_, outcome)) => *outcome,
            Err(error) => RefreshOutcome::from(error),
        });
        result.map(|(refreshed, _)| refreshed)
    }

    /// Whether a refresh token is the current one of a live session.
    ///
    /// # Errors
    /// [`SessionError::Blocked`] and [`SessionError::Store`]
    pub async fn is_unspent(&self, token: &RefreshToken, now: Timestamp) -> Result<bool, SessionError> {
        let Some(token) = token.decode() else { return Ok(false) };
        let Some((stored, revocations)) = self.core.read_subject(token.locator).await? else {
            return Ok(false);
        };
        let mut live = stored.row.live_entries(&self.limits, &revocations, now);
        let Some(entry) = live.find(|entry| entry.family.contains(&token)) else { return Ok(false) };
        let people = self.core.people.of_row(&stored.row, &revocations).await?;
        match people.user_of(entry.revocation_number) {
            Err(SessionError::Ended) => return Ok(false),
            judged => judged?,
        };
        Ok(entry.family.is_current(&token))
    }

    async fn rotate(
        &self,
        shown: &ShownToken,
        allows: impl Fn(&Subject) -> bool + Send + Sync,
        now: Timestamp,
    ) -> Result<(RefreshedSession, RefreshOutcome), RefreshError> {
        let (core, limits) = (&self.core, &self.limits);
        let ShownToken { token, client } = shown;
        let state = core.leases.subject(&token.locator);
        let _lock = state.lock().await?;
        let mut attempts = Attempts::default();
        let mut is_writable = false;
        loop {
            let (stored, revocations) =
                core.read_subject(token.locator).await?.ok_or(RefreshError::Invalid)?;
            let mut live = stored.row.live_entries(limits, &revocations, now);
            // A client that does not know the family must not be able to end the session.
            let entry = live.find(|entry| entry.family.contains(token)).ok_or(RefreshError::Invalid)?;
            // The token of a blocked person stays as it is: it is good again when the block is
            // lifted.
            let people = core.people.of_row(&stored.row, &revocations).await?;
            people.user_of(entry.revocation_number)?;
            let token_use = entry.family.classify(token, client, &entry.id, limits.refresh_grace, now)?;
            let is_allowed = allows(&stored.row.subject());
            let is_written = match token_use {
                // A token that is used twice was stolen, whichever app it is of.
                TokenUse::Reused => return Err(self.end_reused(&stored, entry.id, now).await),
                TokenUse::OfOtherClient => return Err(of_other_client(stored.row.subject())),
                _ if !is_allowed => return Err(RefreshError::AppNotAllowed),
                // Once the row says that the token is spent, its successor may have reached the
                // client, and a client that shows the token after the grace time ends the session.
                // A store that keeps no writes, or answers none, would so end the session of every
                // client that refreshes meanwhile. The store must therefore keep the row as it is
                // first.
                TokenUse::Current if !is_writable => {
                    is_writable = self.rewrite(&stored, token, now).await?;
                    is_writable
                }
                TokenUse::Current => {
                    let (row, answer) = self.spend(&stored.row, &entry.id, shown, &revocations, now)?;
                    if core.subjects.replace(token.locator, Some(&stored), &row, limits, now).await? {
                        return Ok((answer, RefreshOutcome::Rotated));
                    }
                    false
                }
                TokenUse::Repeated(next) => {
                    // The client that spent the token may have been answered that the write is not
                    // on enough servers yet. Written once more it is, or this is an error too.
                    if !core.store.is_shared() || self.rewrite(&stored, token, now).await? {
                        return Ok((refreshed(&stored.row, entry, &next)?, RefreshOutcome::Repeated));
                    }
                    false
                }
            };
            if !is_written {
                attempts.wait(core.entropy.as_ref()).await?;
            }
        }
    }

    /// Writes a row as it is; `false` if another writer was faster.
    async fn rewrite(
        &self,
        stored: &StoredSubject,
        token: &DecodedRefreshToken,
        now: Timestamp,
    ) -> Result<bool, RefreshError> {
        let subjects = &self.core.subjects;
        Ok(subjects.replace(token.locator, Some(stored), &stored.row, &self.limits, now).await?)
    }

    /// The row with the token spent, and the answer for the client.
    fn spend(
        &self,
        before: &SubjectRow,
        id: &EntryId,
        shown: &ShownToken,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<(SubjectRow, RefreshedSession), RefreshError> {
        let mut row = before.clone();
        let entry = row.entry_mut(id).ok_or(RefreshError::Invalid)?;
        let ShownToken { token, client } = shown;
        let next = entry.family.rotate(token, *client, &entry.id, self.core.entropy.as_ref(), now)?;
        let answer = refreshed(before, entry, &next)?;
        row.remove_ended(&self.limits, revocations, now);
        Ok((row, answer))
    }

    /// Ends the session of a token that was used twice.
    async fn end_reused(&self, stored: &StoredSubject, id: EntryId, now: Timestamp) -> RefreshError {
        let subject = stored.row.subject();
        let locator = name::locator(&subject);
        warn!("a refresh token was used twice: its session of {} is ended", subject.appid);
        let mut removed = self.remove_session(locator, &id, now).await;
        for _ in 0..2 {
            // A client that asks again is answered that the session is unknown, so this is the time
            // to insist.
            if removed.is_ok() {
                break;
            }
            removed = self.remove_session(locator, &id, now).await;
        }
        let result = removed.map(Some).map_err(SessionError::from);
        self.core.metrics.count_reuse(&result);
        match result {
            Ok(_) => RefreshError::Reused(Box::new(subject)),
            Err(error) => RefreshError::Session(error),
        }
    }
}

/// A spent token came from another client: a thief who read it elsewhere, or the user's own client
/// after it changed its network. Neither gets the next token.
fn of_other_client(subject: Subject) -> RefreshError {
    info!("a spent refresh token of {} came from another client", subject.appid);
    RefreshError::OfOtherClient(Box::new(subject))
}

fn refreshed(
    row: &SubjectRow,
    entry: &SessionEntry,
    next: &DecodedRefreshToken,
) -> Result<RefreshedSession, SessionError> {
    let id = name::session_id(&next.locator, &entry.id)?;
    let session = OpenedSession { id, refresh_token: next.encode(), expires_at: entry.expires_at };
    Ok(RefreshedSession { identity: row.identity(), session })
}
