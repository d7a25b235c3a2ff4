//! The pages where an operator blocks people: their sessions are not valid, and they cannot sign
//! in.

use super::requester::Requester;

use http::StatusCode;
use serde::Serialize;
use tracing::info;

use super::Management;
use super::answer::ManagementAnswer;
use super::audit::AuditedAction;
use super::person_name::{PersonName, person_name};
use super::scope_request::{ScopeError, ScopeRequest};
use crate::identity::UserId;
use crate::runtime::Runtime;
use crate::session::{BlockedName, BlockedPerson, PersonId, SessionScope};
use crate::telemetry::audit_log::AuditEvent;

/// The answer to a change of a block or a binding.
#[derive(Serialize)]
pub(super) struct ChangeAnswer {
    pub(super) scope: &'static str,
    /// Whether the request changed anything.
    pub(super) changed: bool,
    /// Apps in which the person may go on, because no unionid is known of their users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unreached_apps: Vec<String>,
}

/// The answer to a listing.
#[derive(Serialize)]
struct BlockedList<'a> {
    people: Vec<BlockedItem<'a>>,
}

#[derive(Serialize)]
struct BlockedItem<'a> {
    #[serde(flatten)]
    name: Option<PersonName<'a>>,
    /// The keyed hash of a person who was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<String>,
    since: String,
}

impl Management {
    /// Lists the blocked people.
    pub(super) async fn list_blocked(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        if !query.is_empty() {
            return Err(ScopeError::Unknown(query.to_owned()).answer());
        }
        let runtime = (self.current)();
        let blocked = runtime.sessions.list_blocked().await;
        let count = blocked.as_ref().map(|blocked| Some(blocked.len() as u64));
        self.audit(AuditedAction::new(AuditEvent::Listing, requester), count);
        let blocked =
            blocked.map_err(|error| ManagementAnswer::session_error("list blocked people", &error))?;
        info!(
            client.address = requester.address.map(tracing::field::display),
            requester.name = requester.name,
            "{requester} listed blocked people"
        );
        let people = blocked.iter().map(|blocked| blocked_item(blocked, &runtime)).collect();
        Ok(ManagementAnswer::json(&BlockedList { people }))
    }

    /// Blocks a person, or lifts the block.
    pub(super) async fn change_block(
        &self,
        is_block: bool,
        body: &[u8],
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let now = self.shared.clock.now();
        let (scope, people) = self.people(ScopeRequest::parse_json(body), &runtime).await?;
        let (event, verb) =
            if is_block { (AuditEvent::Block, "blocked") } else { (AuditEvent::Unblock, "unblocked") };
        let mut done = Ok(false);
        for person in &people {
            let changed = if is_block {
                runtime.sessions.block(person, now).await
            } else {
                runtime.sessions.unblock(person, now).await
            };
            done = match (done, changed) {
                (Ok(before), Ok(changed)) => Ok(before || changed),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        let action = AuditedAction::new(event, requester).of(&scope).with_people(&people);
        self.audit(action, done.as_ref().map(|_| None));
        let changed =
            done.map_err(|error| ManagementAnswer::session_error("block or unblock a person", &error))?;
        people.iter().for_each(|person| self.log_person(verb, person, requester));
        let unreached_apps = if is_block { unreached_apps(&people, &runtime).await? } else { Vec::new() };
        Ok(ManagementAnswer::json(&ChangeAnswer { scope: scope.as_str(), changed, unreached_apps }))
    }

    /// The scope that a request names.
    pub(super) fn scope(
        &self,
        request: Result<ScopeRequest, ScopeError>,
        runtime: &Runtime,
    ) -> Result<SessionScope, ManagementAnswer> {
        let now = self.shared.clock.now();
        let scope = request.and_then(|request| request.scope(|name| runtime.appid(name), now));
        scope.map_err(|error| error.answer())
    }

    /// The people that a request names: one, or all who are bound to a user.
    pub(super) async fn people(
        &self,
        request: Result<ScopeRequest, ScopeError>,
        runtime: &Runtime,
    ) -> Result<(SessionScope, Vec<PersonId>), ManagementAnswer> {
        let scope = self.scope(request, runtime)?;
        let people = match &scope {
            SessionScope::Subject(subject) => vec![PersonId::Subject(subject.clone())],
            SessionScope::UnionId(unionid) => vec![PersonId::UnionId(unionid.clone())],
            SessionScope::User(user) => self.bound_people(user, runtime).await?,
            SessionScope::Session(_) | SessionScope::App(_) | SessionScope::OpenedBefore(_) => {
                return Err(ScopeError::Missing("no person or scope is named").answer());
            }
        };
        if people.is_empty() {
            let detail = Some("no person is bound to this user");
            return Err(ManagementAnswer::problem(StatusCode::NOT_FOUND, "user_unknown", detail));
        }
        Ok((scope, people))
    }

    /// The people who are bound to a user.
    pub(super) async fn bound_people(
        &self,
        user: &UserId,
        runtime: &Runtime,
    ) -> Result<Vec<PersonId>, ManagementAnswer> {
        let bound = runtime.sessions.list_bound(Some(user)).await;
        let bound = bound.map_err(|error| ManagementAnswer::session_error("look for a user", &error))?;
        Ok(bound.into_iter().map(|bound| bound.person).collect())
    }

    /// The one person that a request names. A scope that is narrower or wider is refused.
    pub(super) fn person(
        &self,
        request: Result<ScopeRequest, ScopeError>,
        runtime: &Runtime,
    ) -> Result<PersonId, ManagementAnswer> {
        one_person(self.scope(request, runtime)?)
    }
}

/// The one person that a scope is. A scope that is narrower or wider is refused.
pub(super) fn one_person(scope: SessionScope) -> Result<PersonId, ManagementAnswer> {
    match scope {
        SessionScope::Subject(subject) => Ok(PersonId::Subject(subject)),
        SessionScope::UnionId(unionid) => Ok(PersonId::UnionId(unionid)),
        SessionScope::Session(_)
        | SessionScope::User(_)
        | SessionScope::App(_)
        | SessionScope::OpenedBefore(_) => Err(ScopeError::Missing("no person or scope is named").answer()),
    }
}

/// The apps that a block of a person does not reach: WeChat gives no unionid of their users, and
/// the person is not known there.
async fn unreached_apps(people: &[PersonId], runtime: &Runtime) -> Result<Vec<String>, ManagementAnswer> {
    let mut known = Vec::new();
    let mut has_unionid = false;
    for person in people {
        match person {
            PersonId::Subject(subject) => known.push(subject.appid.clone()),
            PersonId::UnionId(unionid) => {
                has_unionid = true;
                let subjects =
                    runtime.sessions.subjects_of(unionid).await.map_err(|error| {
                        ManagementAnswer::session_error("list the apps of a person", &error)
                    })?;
                known.extend(subjects.into_iter().map(|subject| subject.appid));
            }
        }
    }
    let apps = runtime.apps_without_unionid().filter(|(_, appid)| has_unionid && !known.contains(appid));
    Ok(apps.map(|(name, _)| name.to_owned()).collect())
}

fn blocked_item<'a>(blocked: &'a BlockedPerson, runtime: &'a Runtime) -> BlockedItem<'a> {
    let since = blocked.since.to_string();
    match &blocked.person {
        BlockedName::Person(person) => {
            BlockedItem { name: Some(person_name(person, runtime)), erased: None, since }
        }
        BlockedName::Erased(hash) => {
            let erased = Some(format!("{:032x}", u128::from_be_bytes(*hash)));
            BlockedItem { name: None, erased, since }
        }
    }
}
