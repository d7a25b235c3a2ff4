//! What was revoked for whole apps: one row, which every node keeps in memory.
//!
//! It counts. A session knows the number that stood here when it was opened; a mark is the number at which its app was
//! revoked. So a session is judged by what came before it, whatever the clocks of the nodes say.

use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::core::{Attempts, Core};
use super::field::{Word, millis};
use super::{name, row};
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::store::StoreError;

/// The row never ends: were it to count from 0 again, a mark would not end the sessions that know a higher number.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Clone, Default, PartialEq, Encode, Decode)]
pub(super) struct Marks {
    /// Grows by one with each mark.
    #[n(0)]
    pub(super) number: u64,
    #[n(1)]
    apps: Vec<AppMark>,
    /// Ends every session, of every app, that knows a lower number.
    #[n(2)]
    everything: u64,
    #[cbor(n(3), with = "millis")]
    opened_before: Timestamp,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct AppMark {
    #[n(0)]
    appid: Word<AppId>,
    #[n(1)]
    number: u64,
}

impl Marks {
    /// Whether a session of this app that was opened then has been revoked.
    ///
    /// One that knows a number which is still to come is of a history that this row has lost: it is not believed.
    pub(super) fn end(&self, appid: &AppId, number: u64, created_at: Timestamp) -> bool {
        number > self.number
            || number < self.everything
            || created_at < self.opened_before
            || self.apps.iter().any(|mark| mark.appid.0 == *appid && number < mark.number)
    }

    pub(super) fn revoke_app(&mut self, appid: &AppId) {
        self.number = self.number.saturating_add(1);
        self.apps.retain(|mark| mark.appid.0 != *appid);
        self.apps.push(AppMark { appid: Word(appid.clone()), number: self.number });
    }

    /// Revokes what was opened before an instant, and never what is still to be opened: an operator who mistypes a year
    /// would else lock everybody out. Up to now is said by number too, since clocks differ.
    pub(super) fn revoke_opened_before(&mut self, instant: Timestamp, now: Timestamp) {
        self.number = self.number.saturating_add(1);
        self.opened_before = self.opened_before.max(instant.min(now));
        if instant >= now {
            self.everything = self.number;
        }
    }
}

impl Core {
    /// The marks as last heard of; what was never read is read now.
    pub(super) async fn marks(&self) -> Result<Arc<Marks>, StoreError> {
        match self.marks.load_full() {
            Some(marks) => Ok(marks),
            None => self.read_marks().await,
        }
    }

    /// The marks as they are: from memory only where nobody else can have changed them.
    pub(super) async fn current_marks(&self) -> Result<Arc<Marks>, StoreError> {
        if self.store.is_shared() { self.read_marks().await } else { self.marks().await }
    }

    /// The marks, at least as new as a session that knows this number.
    pub(super) async fn marks_since(&self, number: u64) -> Result<Arc<Marks>, StoreError> {
        let marks = self.marks().await?;
        if number > marks.number { self.read_marks().await } else { Ok(marks) }
    }

    pub(super) async fn read_marks(&self) -> Result<Arc<Marks>, StoreError> {
        let bytes = self.store.get(&name::REVOCATION).await?;
        let marks = match &bytes {
            Some(bytes) => row::decode(&name::REVOCATION, bytes)?,
            None => Marks::default(),
        };
        Ok(self.remember_marks(marks))
    }

    /// Changes the marks in the store, then in memory.
    pub(super) async fn change_marks(&self, change: impl Fn(&mut Marks)) -> Result<(), StoreError> {
        let key = &name::REVOCATION;
        let mut attempts = Attempts::default();
        loop {
            let before = self.store.get(key).await?;
            let mut marks = match &before {
                Some(bytes) => row::decode(key, bytes)?,
                None => Marks::default(),
            };
            change(&mut marks);
            let value = row::encode(key, &marks)?;
            let is_written = match before {
                Some(before) => self.store.compare_and_set(key, &before, value, FOREVER).await?,
                None => self.store.put_if_absent(key, value, FOREVER).await?,
            };
            if is_written {
                self.remember_marks(marks);
                return Ok(());
            }
            attempts.again(self).await?;
        }
    }

    /// Keeps the newer of what is known and what was read: two readers may end in the other order than they began.
    fn remember_marks(&self, read: Marks) -> Arc<Marks> {
        let mut newest = Arc::new(read);
        self.marks.rcu(|known| {
            if let Some(known) = known.as_ref().filter(|known| known.number > newest.number) {
                newest = Arc::clone(known);
            }
            Some(Arc::clone(&newest))
        });
        newest
    }
}
