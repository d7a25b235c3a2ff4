//! What the store knows about a person: who they are in which app, their sessions, bindings and
//! blocks. PIPL art. 45.

use std::collections::BTreeSet;

use super::error::SessionError;
use super::list::{SessionInfo, session_infos};
use super::person::PersonId;
use super::row::name;
use super::row::person_row::UserBinding;
use super::row::subject::SubjectRow;
use super::sessions::Sessions;
use crate::clock::Timestamp;
use crate::identity::{Identity, Profile, Subject, UnionId, UserId};
use crate::store::StoreError;

/// Everything that the store knows about a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonalData {
    /// The person in each app that the person signed in to and has a session in.
    pub apps: Vec<PersonInApp>,
    /// The users that the person is bound to.
    pub bindings: Vec<BoundPerson>,
    /// The blocks of the person, with the instant of each.
    pub blocks: Vec<(PersonId, Timestamp)>,
    /// Rows that could not be read. Each of them may be of the person.
    pub unreadable_rows: u64,
}

/// A person in one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonInApp {
    /// Who the person is.
    pub identity: Identity,
    /// Nickname and avatar.
    pub profile: Profile,
    /// The live sessions, oldest first.
    pub sessions: Vec<SessionInfo>,
    /// Whether a `session_key` of WeChat is kept, sealed.
    pub has_session_key: bool,
}

/// A person who is bound to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPerson {
    /// The person.
    pub person: PersonId,
    /// The user.
    pub binding: UserBinding,
}

/// What names a person in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PersonNames {
    pub(super) subjects: BTreeSet<Subject>,
    pub(super) unionids: BTreeSet<UnionId>,
    pub(super) unreadable_rows: u64,
}

impl Sessions {
    /// Everything that the store knows of the person with these names. If a unionid of the person
    /// is known, this is the person in every app, and every row is read.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn personal_data(
        &self,
        names: &[PersonId],
        now: Timestamp,
    ) -> Result<PersonalData, SessionError> {
        let names = self.find_person(names).await?;
        let mut data = PersonalData { unreadable_rows: names.unreadable_rows, ..PersonalData::default() };
        for subject in &names.subjects {
            data.apps.extend(self.person_in_app(subject, now).await?);
        }
        for person in names.ids() {
            if let Some(binding) = self.core.people.binding(&person).await? {
                data.bindings.push(BoundPerson { person: person.clone(), binding });
            }
            if let Some(number) = self.core.people.block_number(&person).await? {
                data.blocks.push((person, Timestamp::from_millis(number)));
            }
        }
        Ok(data)
    }

    /// The people who are bound to a user, or to any user, in the order of their ids. Reads the row
    /// of every person.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn list_bound(&self, user: Option<&UserId>) -> Result<Vec<BoundPerson>, SessionError> {
        let bindings = self.core.people.bindings().await?.into_iter();
        let is_meant = |bound: &BoundPerson| user.is_none_or(|user| bound.binding.user.id() == user);
        Ok(bindings.map(|(person, binding)| BoundPerson { person, binding }).filter(is_meant).collect())
    }

    async fn person_in_app(
        &self,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Option<PersonInApp>, SessionError> {
        let locator = name::locator(subject);
        let Some((stored, revocations)) = self.core.read_subject(locator).await? else { return Ok(None) };
        let row = &stored.row;
        Ok(Some(PersonInApp {
            identity: row.identity(),
            profile: row.profile(),
            sessions: session_infos(row, &locator, &self.limits, &revocations, now)?,
            has_session_key: row.session_keys().next().is_some(),
        }))
    }

    /// Every name of a person in the store: the subjects of each unionid, and the unionid of each
    /// subject.
    pub(super) async fn find_person(&self, known: &[PersonId]) -> Result<PersonNames, StoreError> {
        let mut names = PersonNames::default();
        for name in known {
            match name {
                PersonId::Subject(subject) => _ = names.subjects.insert(subject.clone()),
                PersonId::UnionId(unionid) => _ = names.unionids.insert(unionid.clone()),
            }
        }
        self.follow_names(&mut names).await?;
        if names.unionids.is_empty() {
            return Ok(names);
        }
        // The row of a unionid lists its subjects, but it can be lost or damaged.
        let mut from = None;
        loop {
            let page = self.core.subjects.page(from.as_ref()).await?;
            names.unreadable_rows += page.unreadable;
            let is_of_person =
                |row: &&SubjectRow| row.unionid().is_some_and(|unionid| names.unionids.contains(unionid));
            let found: Vec<Subject> =
                page.rows.iter().filter(is_of_person).map(SubjectRow::subject).collect();
            names.subjects.extend(found);
            from = page.next;
            if from.is_none() {
                return Ok(names);
            }
        }
    }

    /// Adds what the rows of these names name, until they name nothing new.
    async fn follow_names(&self, names: &mut PersonNames) -> Result<(), StoreError> {
        let (mut subjects, mut unionids) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let next = names.subjects.difference(&subjects).next().cloned();
            if let Some(subject) = next {
                match self.core.subjects.read(name::locator(&subject)).await {
                    Ok(stored) => {
                        names.unionids.extend(stored.and_then(|stored| stored.row.unionid().cloned()))
                    }
                    // It can still be erased by its name.
                    Err(StoreError::Damaged(_)) => names.unreadable_rows += 1,
                    Err(error) => return Err(error),
                }
                subjects.insert(subject);
                continue;
            }
            let Some(unionid) = names.unionids.difference(&unionids).next().cloned() else { return Ok(()) };
            match self.core.unionids.subjects(&unionid).await {
                Ok(listed) => names.subjects.extend(listed),
                Err(StoreError::Damaged(_)) => names.unreadable_rows += 1,
                Err(error) => return Err(error),
            }
            unionids.insert(unionid);
        }
    }
}

impl PersonNames {
    /// Adds what was found later.
    pub(super) fn add(&mut self, later: Self) {
        self.subjects.extend(later.subjects);
        self.unionids.extend(later.unionids);
        self.unreadable_rows = later.unreadable_rows;
    }

    /// Each name, by which the person may be bound or blocked.
    pub(super) fn ids(&self) -> impl Iterator<Item = PersonId> {
        let subjects = self.subjects.iter().cloned().map(PersonId::Subject);
        subjects.chain(self.unionids.iter().cloned().map(PersonId::UnionId))
    }
}
