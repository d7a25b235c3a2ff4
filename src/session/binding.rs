//! People who are bound: whom the business itself knows them as, and what it says of them.
//!
//! A binding belongs to a person in one app, or to a unionid; it has a row of its own, and outlives sessions. It is read
//! with the session it is believed with, and a change of it ends the leases of the person's sessions, as a revocation does.
//! The row of marks says whether anybody ever was bound: until then no row is looked for.

use minicbor::{Decode, Encode};

use super::block::Who;
use super::core::{Attempts, Core};
use super::field::{Word, millis};
use super::follow::Heard;
use super::marks::{FOREVER, Marks};
use super::name::{self, Locator};
use super::record::Record;
use super::row;
use super::{PersonId, SessionError, Sessions};
use crate::clock::Timestamp;
use crate::identity::{ClaimName, ClaimValue, User, UserId};
use crate::store::{Key, StoreError};

/// Whom a person is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBinding {
    /// The business's own user.
    pub user: User,
    /// Since when, with these claims.
    pub since: Timestamp,
}

impl Sessions {
    /// Binds a person to a user, in place of whom they were bound to: at once on this node, within a second on every other.
    /// Whether anything is other than before.
    ///
    /// # Errors
    /// [`SessionError::Store`]: they may be bound all the same.
    pub async fn bind(&self, person: &PersonId, user: &User, now: Timestamp) -> Result<bool, SessionError> {
        let core = &self.core;
        // Before the row, which nobody would look for otherwise.
        core.mark_bindings(person, now).await?;
        let done = core.put_binding(person, user, now).await;
        Ok(core.tell_of_person(person, done).await?)
    }

    /// Forgets whom a person was bound to. Whether they were bound.
    ///
    /// # Errors
    /// [`SessionError::Store`]: they may be unbound all the same.
    pub async fn unbind(&self, person: &PersonId) -> Result<bool, SessionError> {
        let core = &self.core;
        let done = core.remove_binding(person).await;
        Ok(core.tell_of_person(person, done).await?)
    }

    /// Whom a person in one app, or a unionid, is bound to: exactly this one, whatever holds where both are.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn binding(&self, person: &PersonId) -> Result<Option<UserBinding>, SessionError> {
        let bound = self.core.read_binding(&key(person), &Who::from(person)).await?;
        Ok(bound.map(UserBinding::try_from).transpose()?)
    }
}

impl Core {
    /// Says in the row of marks that there are bindings of this kind.
    async fn mark_bindings(&self, person: &PersonId, now: Timestamp) -> Result<(), StoreError> {
        let bindings = Bindings::of(person);
        if self.current_marks().await?.bindings.is_some_and(|marked| marked.has(bindings)) {
            return Ok(());
        }
        let marked = self.change_marks(|marks| marks.bind(bindings, now)).await;
        if marked.is_err() {
            // They may have been written all the same.
            self.marks.store(None);
        }
        marked
    }

    /// Writes the row, whatever stands there: also one that nobody can read. Whether it says something else than before.
    async fn put_binding(&self, person: &PersonId, user: &User, now: Timestamp) -> Result<bool, StoreError> {
        let (key, who) = (key(person), Who::from(person));
        let before = match self.read_binding(&key, &who).await {
            Err(StoreError::Damaged(_)) => None,
            read => read?.and_then(|binding| UserBinding::try_from(binding).ok()),
        };
        let same = before.filter(|before| before.user == *user);
        let since = same.as_ref().map_or(now, |before| before.since);
        // Also where it says the same: an earlier try may have told nobody, or not enough servers.
        let value = row::encode(&key, &Binding::new(who, user, since))?;
        self.store.put(&key, value, FOREVER).await?;
        Ok(same.is_none())
    }

    /// Removes the row, whatever stands there: also one that nobody can read. Whether it was there.
    async fn remove_binding(&self, person: &Person) -> Result<bool, StoreError> {
        let key = key(person);
        let mut attempts = Attempts::default();
        loop {
            let Some(before) = self.store.get(&key).await? else { return Ok(false) };
            if self.store.compare_and_delete(&key, &before).await? {
                return Ok(true);
            }
            attempts.again(self).await?;
        }
    }

    /// Ends the leases of a person's sessions, here and on the other nodes.
    async fn tell_of_person(
        &self,
        person: &PersonId,
        done: Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let heard = match person {
            PersonId::Subject(subject) => vec![Heard::Subject(name::locator(subject))],
            // Read after the row was written: who is not listed yet signs in later, and reads what was written.
            PersonId::UnionId(unionid) => match self.listed(unionid).await {
                Ok(subjects) => subjects.iter().map(|one| Heard::Subject(name::locator(one))).collect(),
                Err(_) => vec![Heard::Everything],
            },
        };
        let mut outcome = done.clone();
        for heard in heard {
            match &heard {
                Heard::Subject(locator) => self.leases.end(locator),
                Heard::Everything => self.leases.end_all(),
            }
            let told = self.tell_if_done(done.clone(), &heard).await;
            outcome = outcome.and(told);
        }
        outcome
    }

    /// Whom a subject itself is bound to. Reads nothing where nobody ever was.
    pub(super) async fn binding_of_subject(
        &self,
        locator: Locator,
        bindings: Option<Bindings>,
    ) -> Result<Option<Binding>, StoreError> {
        if !bindings.is_some_and(|bindings| bindings.of_subjects) {
            return Ok(None);
        }
        let key = name::binding_of_subject(locator);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        row::decode(&key, &bytes).map(Some)
    }

    /// The user that holds for a person: the subject's own, or their unionid's; never some of both.
    pub(super) async fn user_of(
        &self,
        record: &Record,
        own: Option<Binding>,
        bindings: Option<Bindings>,
    ) -> Result<Option<User>, StoreError> {
        let has_more = bindings.is_some_and(|bindings| bindings.of_unionids);
        let binding = match (own, record.unionid()) {
            (Some(own), _) => Some(own.of(&Who::from(&record.subject()))?),
            (None, Some(unionid)) if has_more => {
                let person = PersonId::UnionId(unionid.clone());
                self.read_binding(&key(&person), &Who::from(&person)).await?
            }
            (None, _) => None,
        };
        Ok(binding.map(UserBinding::try_from).transpose()?.map(|bound| bound.user))
    }

    async fn read_binding(&self, key: &Key, who: &Who) -> Result<Option<Binding>, StoreError> {
        let Some(bytes) = self.store.get(key).await? else { return Ok(None) };
        row::decode::<Binding>(key, &bytes)?.of(who).map(Some)
    }
}

fn key(person: &PersonId) -> Key {
    match person {
        PersonId::Subject(subject) => name::binding_of_subject(name::locator(subject)),
        PersonId::UnionId(unionid) => name::binding_of_unionid(unionid),
    }
}

/// Of which kinds there are bindings, or were once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Bindings {
    #[n(0)]
    of_subjects: bool,
    #[n(1)]
    of_unionids: bool,
}

impl Bindings {
    const fn of(person: &PersonId) -> Self {
        let of_subjects = matches!(person, PersonId::Subject(_));
        Self { of_subjects, of_unionids: !of_subjects }
    }

    /// Whether these are the others, too.
    const fn has(self, others: Self) -> bool {
        (self.of_subjects || !others.of_subjects) && (self.of_unionids || !others.of_unionids)
    }

    /// Adds what another row says.
    pub(super) fn merge(&mut self, other: Self) {
        self.of_subjects |= other.of_subjects;
        self.of_unionids |= other.of_unionids;
    }
}

impl Marks {
    fn bind(&mut self, bindings: Bindings, now: Timestamp) {
        self.found(now);
        // Of two rows the one with the higher number is kept.
        self.count(now);
        self.bindings.get_or_insert_default().merge(bindings);
    }
}

/// A row: who is bound, and to whom.
#[derive(Clone, PartialEq, Encode, Decode)]
pub(super) struct Binding {
    #[n(0)]
    who: Who,
    #[n(1)]
    user: Word<UserId>,
    #[n(2)]
    claims: Vec<Claim>,
    #[cbor(n(3), with = "millis")]
    since: Timestamp,
}

#[derive(Clone, PartialEq, Encode, Decode)]
struct Claim {
    #[n(0)]
    name: Word<ClaimName>,
    #[n(1)]
    value: Word<ClaimValue>,
}

impl Binding {
    pub(super) fn new(who: Who, user: &User, since: Timestamp) -> Self {
        let claim = |(name, value): (&ClaimName, &ClaimValue)| Claim {
            name: Word(name.clone()),
            value: Word(value.clone()),
        };
        Self { who, user: Word(user.id().clone()), claims: user.claims().map(claim).collect(), since }
    }

    /// The same, if it is of this person.
    fn of(self, who: &Who) -> Result<Self, StoreError> {
        if self.who == *who { Ok(self) } else { Err(row::damaged("a binding is of another person")) }
    }
}

impl TryFrom<Binding> for UserBinding {
    type Error = StoreError;

    /// Nobody is bound to some of a user: a claim too many or twice is damage.
    fn try_from(binding: Binding) -> Result<Self, StoreError> {
        let claims = binding.claims.into_iter().map(|claim| (claim.name.0, claim.value.0));
        let user = User::new(binding.user.0, claims)
            .map_err(|_| row::damaged("a binding has claims that nobody can have"))?;
        Ok(Self { user, since: binding.since })
    }
}
