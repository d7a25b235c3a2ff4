//! What was revoked for whole apps, and who is blocked: one row, which every node keeps in memory.
//!
//! It counts. A session knows the number that stood here when it was opened; a mark is the number at which its app was
//! revoked. So a session is judged by what came before it, whatever the clocks of the nodes say.
//!
//! No session knows 0: the first one founds the row. So a row that is gone ends every session, and revives none. A store
//! may also fall back to an earlier row, as when a replica takes over that had not got the last: what a node remembers
//! is put back then, and a number that was given once is not given again.

use std::sync::Arc;
use std::time::Duration;

use minicbor::{Decode, Encode};
use tracing::warn;

use super::binding::Bindings;
use super::block::Blocks;
use super::core::{Attempts, Core};
use super::field::{Word, millis};
use super::{name, row};
use crate::clock::Timestamp;
use crate::identity::AppId;
use crate::store::StoreError;

/// The row never ends: were it to count from 0 again, a mark would not end the sessions that know a higher number.
pub(super) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Clone, Default, PartialEq, Encode, Decode)]
pub(super) struct Marks {
    /// Grows with each mark. At least the time, in milliseconds: one that the store lost is not given to another mark.
    #[n(0)]
    pub(super) number: u64,
    #[n(1)]
    apps: Vec<AppMark>,
    /// Ends every session, of every app, that knows a lower number.
    #[n(2)]
    everything: u64,
    #[cbor(n(3), with = "millis")]
    opened_before: Timestamp,
    /// Nothing where nobody ever was blocked: a gateway that knows of no blocks wrote the row, or there were none.
    #[n(4)]
    pub(super) blocks: Option<Blocks>,
    /// Nothing where nobody ever was bound, so that nobody looks for what is not there.
    #[n(5)]
    pub(super) bindings: Option<Bindings>,
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
        self.are_behind(number)
            || number < self.everything
            || created_at < self.opened_before
            || self.apps.iter().any(|mark| mark.appid.0 == *appid && number < mark.number)
    }

    /// Whether a session that knows this number knows of marks that these do not.
    pub(super) const fn are_behind(&self, number: u64) -> bool {
        number > self.number
    }

    pub(super) const fn are_founded(&self) -> bool {
        self.number > 0
    }

    /// Begins to count. What was opened before has lost its history, and ends.
    pub(super) fn found(&mut self, now: Timestamp) {
        if !self.are_founded() {
            self.count(now);
            self.everything = self.number;
        }
    }

    pub(super) fn count(&mut self, now: Timestamp) {
        self.number = self.number.saturating_add(1).max(now.millis());
    }

    /// These with what another row says besides; nothing where it says nothing besides. Numbers do not tell: a row that
    /// went on from an earlier one has a higher number, and lacks what was lost.
    fn with(&self, other: &Self) -> Option<Self> {
        if self == other {
            return None;
        }
        let mut both = self.clone();
        both.merge(other);
        (both != *self).then_some(both)
    }

    /// Adds what another row says.
    fn merge(&mut self, other: &Self) {
        self.number = self.number.max(other.number);
        self.everything = self.everything.max(other.everything);
        self.opened_before = self.opened_before.max(other.opened_before);
        if let Some(blocks) = &other.blocks {
            self.blocks.get_or_insert_default().merge(blocks);
        }
        if let Some(bindings) = other.bindings {
            self.bindings.get_or_insert_default().merge(bindings);
        }
        for mark in &other.apps {
            match self.apps.iter_mut().find(|known| known.appid == mark.appid) {
                Some(known) => known.number = known.number.max(mark.number),
                None => self.apps.push(mark.clone()),
            }
        }
    }

    pub(super) fn revoke_app(&mut self, appid: &AppId, now: Timestamp) {
        self.found(now);
        self.count(now);
        self.apps.retain(|mark| mark.appid.0 != *appid);
        self.apps.push(AppMark { appid: Word(appid.clone()), number: self.number });
    }

    /// Revokes what was opened before an instant, and never what is still to be opened: an operator who mistypes a year
    /// would else lock everybody out. Up to now is said by number, since clocks differ: by a slow one, what is still to be
    /// opened would be of before.
    pub(super) fn revoke_opened_before(&mut self, instant: Timestamp, now: Timestamp) {
        self.found(now);
        self.count(now);
        if instant >= now {
            self.everything = self.number;
        } else {
            self.opened_before = self.opened_before.max(instant);
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
        if marks.are_behind(number) { self.read_marks().await } else { Ok(marks) }
    }

    /// The marks to open a session under.
    pub(super) async fn founded_marks(&self, now: Timestamp) -> Result<Arc<Marks>, StoreError> {
        let marks = self.current_marks().await?;
        if marks.are_founded() {
            return Ok(marks);
        }
        self.change_marks(|marks| marks.found(now)).await?;
        self.current_marks().await
    }

    pub(super) async fn read_marks(&self) -> Result<Arc<Marks>, StoreError> {
        let key = &name::REVOCATION;
        let mut attempts = Attempts::default();
        loop {
            let bytes = self.store.get(key).await?;
            let read = decode(bytes.as_deref())?;
            let remembered = self.remembered_marks.load_full();
            let Some(whole) = remembered.and_then(|remembered| read.with(&remembered)) else {
                return Ok(self.remember_marks(read));
            };
            // Where somebody changed it since the row was read, nothing was lost, and nothing is written.
            if self.write_marks(bytes.as_deref(), &whole).await? {
                warn!(
                    "the store had lost what was revoked for whole apps, who is blocked, or that people are bound: it was put back"
                );
                return Ok(self.remember_marks(whole));
            }
            attempts.again(self).await?;
        }
    }

    /// Changes the marks in the store, then in memory.
    pub(super) async fn change_marks<T: Send>(
        &self,
        change: impl Fn(&mut Marks) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            let before = self.store.get(&name::REVOCATION).await?;
            let mut marks = decode(before.as_deref())?;
            if let Some(remembered) = self.remembered_marks.load_full() {
                marks.merge(&remembered);
            }
            let changed = change(&mut marks);
            if self.write_marks(before.as_deref(), &marks).await? {
                self.remember_marks(marks);
                return Ok(changed);
            }
            attempts.again(self).await?;
        }
    }

    /// Puts marks where `before` stood; `false` when something else stands there by now.
    async fn write_marks(&self, before: Option<&[u8]>, marks: &Marks) -> Result<bool, StoreError> {
        let key = &name::REVOCATION;
        let value = row::encode(key, marks)?;
        match before {
            Some(before) => self.store.compare_and_set(key, before, value, FOREVER).await,
            None => self.store.put_if_absent(key, value, FOREVER).await,
        }
    }

    /// Keeps what was read with all that was known: two readers may end in the other order than they began, and of two
    /// histories both count. Whoever reads of a change first, a login as well as a look at the log, ends the leases: what
    /// was believed by the marks before would else be believed until its re-check.
    fn remember_marks(&self, read: Marks) -> Arc<Marks> {
        let read = Arc::new(read);
        self.remembered_marks.rcu(|known| {
            let whole = known.as_ref().and_then(|known| read.with(known));
            Some(whole.map_or_else(|| Arc::clone(&read), Arc::new))
        });
        let mut current = None;
        let before = self.marks.rcu(|_| {
            current = self.remembered_marks.load_full();
            current.clone()
        });
        if before.is_some() && before != current {
            self.leases.end_all();
        }
        current.unwrap_or(read)
    }
}

fn decode(bytes: Option<&[u8]>) -> Result<Marks, StoreError> {
    match bytes {
        Some(bytes) => {
            let mut marks: Marks = row::decode(&name::REVOCATION, bytes)?;
            if let Some(blocks) = &mut marks.blocks {
                blocks.sort();
            }
            Ok(marks)
        }
        None => Ok(Marks::default()),
    }
}
