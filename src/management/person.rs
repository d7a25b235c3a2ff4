//! The pages where a person is shown and erased, and where bindings are listed.

use http::StatusCode;
use serde::Serialize;
use tracing::info;

use super::Management;
use super::answer::ManagementAnswer;
use super::audit::AuditedAction;
use super::binding::{BindingDocument, document};
use super::person_name::{PersonName, person_name};
use super::requester::Requester;
use super::scope_request::{ScopeError, ScopeRequest};
use super::session::{SessionItem, session_item};
use crate::runtime::Runtime;
use crate::session::{
    BoundPerson, EraseError, ErasedPerson, PersonId, PersonInApp, PersonalData, SessionScope,
};
use crate::telemetry::audit_log::AuditEvent;

/// What the store knows about a person.
#[derive(Serialize)]
struct PersonDocument<'a> {
    apps: Vec<AppItem<'a>>,
    bindings: Vec<BindingItem<'a>>,
    blocks: Vec<BlockItem<'a>>,
    unreadable_rows: u64,
}

/// A person in one app.
#[derive(Serialize)]
struct AppItem<'a> {
    #[serde(flatten)]
    name: PersonName<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nickname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<&'a str>,
    /// Whether WeChat's `session_key` is kept, sealed. It is not shown.
    has_session_key: bool,
    sessions: Vec<SessionItem<'a>>,
}

#[derive(Serialize)]
struct BindingList<'a> {
    bindings: Vec<BindingItem<'a>>,
}

#[derive(Serialize)]
struct BindingItem<'a> {
    #[serde(flatten)]
    name: PersonName<'a>,
    #[serde(flatten)]
    binding: BindingDocument<'a>,
}

#[derive(Serialize)]
struct BlockItem<'a> {
    #[serde(flatten)]
    name: PersonName<'a>,
    since: String,
}

/// The answer to an erasure.
#[derive(Serialize)]
struct ErasureAnswer {
    scope: &'static str,
    apps: u64,
    sessions: u64,
    bindings: u64,
    /// Blocks that stay.
    blocks: u64,
    /// Whether the store has lost the bytes too.
    reclaimed: bool,
    unreadable_rows: u64,
}

impl Management {
    /// Shows what the store knows about a person.
    pub(super) async fn show_person(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let (scope, people) = self.people(ScopeRequest::parse_query(query), &runtime).await?;
        let data = runtime.sessions.personal_data(&people, self.shared.clock.now()).await;
        let action = AuditedAction::new(AuditEvent::Listing, requester).of(&scope).with_people(&people);
        self.audit(action, data.as_ref().map(|_| None));
        let data = data.map_err(|error| ManagementAnswer::session_error("show a person", &error))?;
        people.iter().for_each(|person| self.log_person("looked at the data of", person, requester));
        Ok(ManagementAnswer::json(&person_document(&data, &runtime)))
    }

    /// Erases a person.
    pub(super) async fn erase_person(
        &self,
        body: &[u8],
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let (scope, people) = self.people(ScopeRequest::parse_json(body), &runtime).await?;
        let erased = runtime.sessions.erase(&people, self.shared.clock.now()).await;
        let action = AuditedAction::new(AuditEvent::Erasure, requester).of(&scope).with_people(&people);
        match erased {
            Ok(erased) => {
                runtime.sign_in.forget(&erased.subjects);
                self.audit(action, Ok(Some(erased.apps)));
                people.iter().for_each(|person| self.log_person("erased", person, requester));
                Ok(ManagementAnswer::json(&erasure_answer(&scope, &erased)))
            }
            Err(error @ EraseError::OlderGateway) => {
                self.audit_outcome(action, "older_gateway", None);
                let detail = error.to_string();
                Err(ManagementAnswer::problem(StatusCode::CONFLICT, "older_gateway", Some(&detail)))
            }
            Err(EraseError::Session(error)) => {
                self.audit(action, Err(&error));
                Err(ManagementAnswer::session_error("erase a person", &error))
            }
        }
    }

    /// Lists who is bound to a user, or to any.
    pub(super) async fn list_bindings(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let scope = match query {
            "" => None,
            query => Some(self.scope(ScopeRequest::parse_query(query), &runtime)?),
        };
        let user = match &scope {
            None => None,
            Some(SessionScope::User(user)) => Some(user),
            Some(_) => return Err(ScopeError::Missing("only `user` can be named here").answer()),
        };
        let bound = runtime.sessions.list_bound(user).await;
        let count = bound.as_ref().map(|bound| u64::try_from(bound.len()).ok());
        let action = AuditedAction::new(AuditEvent::Listing, requester);
        self.audit(scope.as_ref().map_or(action, |scope| action.of(scope)), count);
        let bound = bound.map_err(|error| ManagementAnswer::session_error("list bindings", &error))?;
        info!(
            client.address = requester.address.map(tracing::field::display),
            requester.name = requester.name,
            "{requester} listed bindings"
        );
        let bindings = bound.iter().map(|bound| binding_item(bound, &runtime)).collect();
        Ok(ManagementAnswer::json(&BindingList { bindings }))
    }
}

fn person_document<'a>(data: &'a PersonalData, runtime: &'a Runtime) -> PersonDocument<'a> {
    let block = |(person, since): &'a (PersonId, crate::clock::Timestamp)| BlockItem {
        name: person_name(person, runtime),
        since: since.to_string(),
    };
    PersonDocument {
        apps: data.apps.iter().map(|app| app_item(app, runtime)).collect(),
        bindings: data.bindings.iter().map(|bound| binding_item(bound, runtime)).collect(),
        blocks: data.blocks.iter().map(block).collect(),
        unreadable_rows: data.unreadable_rows,
    }
}

fn app_item<'a>(app: &'a PersonInApp, runtime: &'a Runtime) -> AppItem<'a> {
    let subject = &app.identity.subject;
    AppItem {
        name: PersonName {
            unionid: app.identity.unionid.as_ref().map(|unionid| unionid.as_str()),
            app: runtime.app_name(&subject.appid),
            appid: Some(subject.appid.as_str()),
            openid: Some(subject.openid.as_str()),
        },
        nickname: app.profile.nickname(),
        avatar: app.profile.avatar(),
        has_session_key: app.has_session_key,
        sessions: app.sessions.iter().map(|session| session_item(session, runtime)).collect(),
    }
}

fn binding_item<'a>(bound: &'a BoundPerson, runtime: &'a Runtime) -> BindingItem<'a> {
    BindingItem { name: person_name(&bound.person, runtime), binding: document(&bound.binding) }
}

const fn erasure_answer(scope: &SessionScope, erased: &ErasedPerson) -> ErasureAnswer {
    ErasureAnswer {
        scope: scope.as_str(),
        apps: erased.apps,
        sessions: erased.sessions,
        bindings: erased.bindings,
        blocks: erased.blocks,
        reclaimed: erased.is_reclaimed,
        unreadable_rows: erased.unreadable_rows,
    }
}
