//! People whom an operator blocks, everywhere: their sessions are not believed, and they cannot sign in.

use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Serialize;
use tracing::info;

use super::answer::Answer;
use super::naming::{Misnamed, Names};
use super::session::{Deed, failed, misnamed};
use super::{Admin, BodyFault, origin};
use crate::runtime::Runtime;
use crate::session::{BlockError, BlockedPerson, MOST_BLOCKED, PersonId, SessionScope};
use crate::telemetry::audit_log::Event;

/// What there is to ask of people.
#[derive(Clone, Copy)]
pub(super) enum PeoplePage {
    /// `/people/block`
    Block,
    /// `/people/unblock`
    Unblock,
    /// `/people/blocked`
    Blocked,
    /// `/people/bind`
    Bind,
    /// `/people/unbind`
    Unbind,
    /// `/people/bound`
    Bound,
}

/// The answer to a block, a binding, or the end of one.
#[derive(Serialize)]
pub(super) struct Changed {
    pub(super) scope: &'static str,
    /// Whether anything is other than before.
    pub(super) changed: bool,
}

/// The answer to a listing.
#[derive(Serialize)]
struct Listing<'a> {
    people: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    unionid: Option<&'a str>,
    /// The app's name; left out where it is no longer configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    appid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openid: Option<&'a str>,
    since: String,
}

impl Admin {
    pub(super) async fn answer_people(
        &self,
        page: PeoplePage,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Answer {
        if let Err(refusal) = origin::admit(request) {
            return refusal.answer();
        }
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let is_look = matches!(page, PeoplePage::Blocked | PeoplePage::Bound);
        let answer = match page {
            _ if is_look && !is_read => Err(Answer::method_not_allowed("GET, HEAD")),
            _ if !is_look && request.method != Method::POST => Err(Answer::method_not_allowed("POST")),
            PeoplePage::Blocked => self.blocked(request, client).await,
            PeoplePage::Bound => self.bound(request, client).await,
            PeoplePage::Bind => self.bind(request, client, body).await,
            PeoplePage::Unbind => self.unbind(request, client, body).await,
            PeoplePage::Block => self.change_block(true, request, client, body).await,
            PeoplePage::Unblock => self.change_block(false, request, client, body).await,
        };
        answer.unwrap_or_else(|refused| refused)
    }

    async fn blocked(&self, request: &Parts, client: Option<SocketAddr>) -> Result<Answer, Answer> {
        if let Some(query) = request.uri.query().filter(|query| !query.is_empty()) {
            return Err(misnamed(&Misnamed::Unknown(query.to_owned())));
        }
        let runtime = (self.current)();
        let blocked = runtime.sessions.list_blocked().await;
        let count = blocked.as_ref().map(|blocked| Some(blocked.len() as u64));
        self.audit(Deed { event: Event::Listing, scope: None, client }, count);
        let blocked = blocked.map_err(|error| failed("list who is blocked", &error))?;
        info!(
            client.address = client.map(|client| tracing::field::display(client.ip())),
            "an operator listed who is blocked"
        );
        Ok(Answer::json(&Listing { people: blocked.iter().map(|blocked| row(blocked, &runtime)).collect() }))
    }

    async fn change_block(
        &self,
        is_block: bool,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Result<Answer, Answer> {
        let body = read(request, body).await?;
        let runtime = (self.current)();
        let now = self.shared.clock.now();
        let person = self.person(Names::of_json(&body), &runtime)?;
        let scope = person.scope();

        let (event, done, deed) = if is_block {
            (Event::Block, runtime.sessions.block(&person, now).await, "blocked")
        } else {
            let lifted = runtime.sessions.unblock(&person, now).await;
            (Event::Unblock, lifted.map_err(BlockError::Session), "let in again")
        };
        let deed_in_log = Deed { event, scope: Some(&scope), client };
        let changed = match done {
            Ok(changed) => changed,
            Err(BlockError::Full) => {
                self.audit_word(deed_in_log, "too_many_blocked", None);
                let detail =
                    format!("no more than {MOST_BLOCKED} can be: let somebody in again, or use `deny_lists`");
                return Err(Answer::problem(StatusCode::CONFLICT, "too_many_blocked", Some(&detail)));
            }
            Err(BlockError::Session(error)) => {
                self.audit(deed_in_log, Err(&error));
                return Err(failed("change who is blocked", &error));
            }
        };
        self.audit(deed_in_log, Ok(None));
        self.log_deed(deed, &person, client);
        Ok(Answer::json(&Changed { scope: scope.as_str(), changed }))
    }

    /// The one person that is named.
    pub(super) fn person(
        &self,
        names: Result<Names, Misnamed>,
        runtime: &Runtime,
    ) -> Result<PersonId, Answer> {
        let now = self.shared.clock.now();
        let scope = names.and_then(|names| names.scope(|name| runtime.appid(name), now));
        scope.and_then(person).map_err(|error| misnamed(&error))
    }

    /// Tells what an operator did, to whom by a hash alone, and nothing that was said of them.
    pub(super) fn log_deed(&self, deed: &'static str, person: &PersonId, client: Option<SocketAddr>) {
        let scope = person.scope();
        let name = scope.as_str();
        info!(
            session.scope = name,
            user.hash = self.hash(&scope),
            client.address = client.map(|client| tracing::field::display(client.ip())),
            "an operator {deed} one {name}"
        );
    }
}

/// The body of a request that changes something about people.
pub(super) async fn read(
    request: &Parts,
    body: impl Future<Output = Result<Bytes, BodyFault>>,
) -> Result<Bytes, Answer> {
    origin::admit_json(&request.headers).map_err(origin::Refusal::answer)?;
    body.await.map_err(BodyFault::answer)
}

/// The one person that is named: nothing narrower, and nothing wider.
fn person(scope: SessionScope) -> Result<PersonId, Misnamed> {
    match scope {
        SessionScope::Subject(subject) => Ok(PersonId::Subject(subject)),
        SessionScope::UnionId(unionid) => Ok(PersonId::UnionId(unionid)),
        SessionScope::Session(_) | SessionScope::App(_) | SessionScope::OpenedBefore(_) => {
            Err(Misnamed::Missing("nobody is named"))
        }
    }
}

fn row<'a>(blocked: &'a BlockedPerson, runtime: &'a Runtime) -> Row<'a> {
    let since = blocked.since.to_string();
    match &blocked.person {
        PersonId::UnionId(unionid) => {
            Row { unionid: Some(unionid.as_str()), app: None, appid: None, openid: None, since }
        }
        PersonId::Subject(subject) => Row {
            unionid: None,
            app: runtime.app_name(&subject.appid),
            appid: Some(subject.appid.as_str()),
            openid: Some(subject.openid.as_str()),
            since,
        },
    }
}
