//! People whom an operator, or the business's own program, binds to a user: whom backends are told, and what routes may ask
//! for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use serde::Serialize;

use super::answer::Answer;
use super::naming::{BindingRequest, Names};
use super::people::{Changed, read};
use super::session::{Deed, failed, misnamed};
use super::{Admin, BodyFault};
use crate::session::{PersonId, SessionError, UserBinding};
use crate::telemetry::audit_log::Event;

/// The answer to a look.
#[derive(Serialize)]
struct Look<'a> {
    scope: &'static str,
    /// `null` where there is none.
    binding: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    user: &'a str,
    claims: BTreeMap<&'a str, &'a str>,
    since: String,
}

impl Admin {
    pub(super) async fn bound(&self, request: &Parts, client: Option<SocketAddr>) -> Result<Answer, Answer> {
        let runtime = (self.current)();
        let names = Names::of_query(request.uri.query().unwrap_or_default());
        let person = self.person(names, &runtime)?;
        let bound = runtime.sessions.binding(&person).await;
        let scope = person.scope();
        let outcome = bound.as_ref().map(|_| None);
        self.audit(Deed { event: Event::Listing, scope: Some(&scope), client }, outcome);
        let bound = bound.map_err(|error| failed("look whom somebody is bound to", &error))?;
        self.log_deed("looked up the binding of", &person, client);
        Ok(Answer::json(&Look { scope: scope.as_str(), binding: bound.as_ref().map(document) }))
    }

    pub(super) async fn bind(
        &self,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Result<Answer, Answer> {
        let body = read(request, body).await?;
        let runtime = (self.current)();
        let asked = BindingRequest::of_json(&body).map_err(|error| misnamed(&error))?;
        let user = asked.user().map_err(|error| misnamed(&error))?;
        let person = self.person(Ok(asked.names()), &runtime)?;
        let changed = runtime.sessions.bind(&person, &user, self.shared.clock.now()).await;
        self.answer_change(Event::Bind, &person, client, changed)
    }

    pub(super) async fn unbind(
        &self,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Result<Answer, Answer> {
        let body = read(request, body).await?;
        let runtime = (self.current)();
        let person = self.person(Names::of_json(&body), &runtime)?;
        let changed = runtime.sessions.unbind(&person).await;
        self.answer_change(Event::Unbind, &person, client, changed)
    }

    fn answer_change(
        &self,
        event: Event,
        person: &PersonId,
        client: Option<SocketAddr>,
        changed: Result<bool, SessionError>,
    ) -> Result<Answer, Answer> {
        let scope = person.scope();
        self.audit(Deed { event, scope: Some(&scope), client }, changed.as_ref().map(|_| None));
        let changed = changed.map_err(|error| failed("change whom somebody is bound to", &error))?;
        let deed = if event == Event::Bind { "bound" } else { "unbound" };
        self.log_deed(deed, person, client);
        Ok(Answer::json(&Changed { scope: scope.as_str(), changed }))
    }
}

fn document(bound: &UserBinding) -> Document<'_> {
    let claims = bound.user.claims().map(|(name, value)| (name.as_str(), value.as_str()));
    Document { user: bound.user.id().as_str(), claims: claims.collect(), since: bound.since.to_string() }
}
