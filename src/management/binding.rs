//! The pages where an operator, or a program of the business, binds people to users. Backends
//! receive the user, and routes can require it.

use super::requester::Requester;
use std::collections::BTreeMap;

use serde::Serialize;

use super::Management;
use super::answer::ManagementAnswer;
use super::audit::AuditedAction;
use super::people::ChangeAnswer;
use super::scope_request::{BindingRequest, ScopeRequest};
use crate::session::{PersonId, SessionError, SessionScope, UserBinding};
use crate::telemetry::audit_log::AuditEvent;

/// The answer to a look at a binding.
#[derive(Serialize)]
struct BindingAnswer<'a> {
    scope: &'static str,
    /// `null` if the person is not bound.
    binding: Option<BindingDocument<'a>>,
}

#[derive(Serialize)]
pub(super) struct BindingDocument<'a> {
    user: &'a str,
    claims: BTreeMap<&'a str, &'a str>,
    since: String,
}

impl Management {
    /// Shows the user that a person is bound to.
    pub(super) async fn show_binding(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let person = self.person(ScopeRequest::parse_query(query), &runtime)?;
        let bound = runtime.sessions.binding(&person).await;
        let scope = person.scope();
        let outcome = bound.as_ref().map(|_| None);
        self.audit(AuditedAction::new(AuditEvent::Listing, requester).of(&scope), outcome);
        let bound = bound.map_err(|error| ManagementAnswer::session_error("look up a binding", &error))?;
        self.log_person("looked up the binding of", &person, requester);
        let binding = bound.as_ref().map(document);
        Ok(ManagementAnswer::json(&BindingAnswer { scope: scope.as_str(), binding }))
    }

    /// Binds a person to a user.
    pub(super) async fn bind(
        &self,
        body: &[u8],
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let request = BindingRequest::parse_json(body).map_err(|error| error.answer())?;
        let user = request.user().map_err(|error| error.answer())?;
        let person = self.person(Ok(request.scope_request()), &runtime)?;
        let changed = runtime.sessions.bind(&person, &user, self.shared.clock.now()).await;
        let scope = person.scope();
        let action = AuditedAction::new(AuditEvent::Bind, requester).of(&scope).with_user(Some(user.id()));
        self.answer_change(action, &scope, &[person], changed)
    }

    /// Ends the binding of a person, or of all who are bound to a user.
    pub(super) async fn unbind(
        &self,
        body: &[u8],
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let (scope, people) = self.people(ScopeRequest::parse_json(body), &runtime).await?;
        let mut changed = Ok(false);
        for person in &people {
            // One that fails must not keep the others bound.
            let unbound = runtime.sessions.unbind(person).await;
            changed = changed.and_then(|before| Ok(before | unbound?));
        }
        let action = AuditedAction::new(AuditEvent::Unbind, requester).of(&scope).with_people(&people);
        self.answer_change(action, &scope, &people, changed)
    }

    fn answer_change(
        &self,
        action: AuditedAction<'_>,
        scope: &SessionScope,
        people: &[PersonId],
        changed: Result<bool, SessionError>,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        self.audit(action, changed.as_ref().map(|_| None));
        let changed = changed.map_err(|error| ManagementAnswer::session_error("change a binding", &error))?;
        let verb = if action.event == AuditEvent::Bind { "bound" } else { "unbound" };
        people.iter().for_each(|person| self.log_person(verb, person, action.requester));
        Ok(ManagementAnswer::json(&ChangeAnswer {
            scope: scope.as_str(),
            changed,
            unreached_apps: Vec::new(),
        }))
    }
}

pub(super) fn document(bound: &UserBinding) -> BindingDocument<'_> {
    let claims = bound.user.claims().map(|(name, value)| (name.as_str(), value.as_str()));
    BindingDocument {
        user: bound.user.id().as_str(),
        claims: claims.collect(),
        since: bound.since.to_string(),
    }
}
