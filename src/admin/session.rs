//! Sessions as an operator sees and ends them. Every look and every end is in the log, without the person's ids.

use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Serialize;
use tracing::{error, info};

use super::answer::Answer;
use super::naming::{Misnamed, Names};
use super::{Admin, BodyFault, origin};
use crate::runtime::Runtime;
use crate::session::{SessionError, SessionInfo, SessionScope};
use crate::telemetry::audit_log::{Entry, Event};

/// Wait until the store may be back, in seconds.
const STORE_SECONDS: u64 = 1;

/// What there is to ask of sessions.
#[derive(Clone, Copy)]
pub(super) enum SessionPage {
    /// `/sessions`
    List,
    /// `/sessions/revoke`
    Revoke,
}

/// What an operator does, for the audit log.
#[derive(Clone, Copy)]
pub(super) struct Deed<'a> {
    pub(super) event: Event,
    pub(super) scope: Option<&'a SessionScope>,
    pub(super) client: Option<SocketAddr>,
}

/// The answer to a listing.
#[derive(Serialize)]
struct Listing<'a> {
    sessions: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    /// The app's name; left out where it is no longer configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    appid: &'a str,
    openid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unionid: Option<&'a str>,
    created_at: String,
    last_seen_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
}

/// The answer to a revocation.
#[derive(Serialize)]
struct Revoked {
    scope: &'static str,
    /// `null` where nobody knows without looking at every session.
    ended: Option<u64>,
}

impl Admin {
    pub(super) async fn answer_sessions(
        &self,
        page: SessionPage,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Answer {
        if let Err(refusal) = origin::admit(request) {
            return refusal.answer();
        }
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let answer = match page {
            SessionPage::List if is_read => self.list(request, client).await,
            SessionPage::Revoke if request.method == Method::POST => self.revoke(request, client, body).await,
            SessionPage::List => Err(Answer::method_not_allowed("GET, HEAD")),
            SessionPage::Revoke => Err(Answer::method_not_allowed("POST")),
        };
        answer.unwrap_or_else(|refused| refused)
    }

    async fn list(&self, request: &Parts, client: Option<SocketAddr>) -> Result<Answer, Answer> {
        let runtime = (self.current)();
        let now = self.shared.clock.now();
        let names = Names::of_query(request.uri.query().unwrap_or_default());
        let scope = names
            .and_then(|names| names.scope(|name| runtime.appid(name), now))
            .map_err(|error| misnamed(&error))?;
        let sessions = match &scope {
            SessionScope::Subject(subject) => runtime.sessions.list_by_subject(subject, now).await,
            SessionScope::UnionId(unionid) => runtime.sessions.list_by_unionid(unionid, now).await,
            SessionScope::Session(_) | SessionScope::App(_) | SessionScope::OpenedBefore(_) => {
                return Err(misnamed(&Misnamed::Missing("nobody is named")));
            }
        };
        let count = sessions.as_ref().map(|sessions| Some(sessions.len() as u64));
        self.audit(Deed { event: Event::Listing, scope: Some(&scope), client }, count);
        let sessions = sessions.map_err(|error| failed("list sessions", &error))?;
        let count = sessions.len();
        self.log("listed", &scope, Some(count as u64), client);
        let sessions = sessions.iter().map(|session| row(session, &runtime)).collect();
        Ok(Answer::json(&Listing { sessions }))
    }

    async fn revoke(
        &self,
        request: &Parts,
        client: Option<SocketAddr>,
        body: impl Future<Output = Result<Bytes, BodyFault>>,
    ) -> Result<Answer, Answer> {
        origin::admit_json(&request.headers).map_err(origin::Refusal::answer)?;
        let body = body.await.map_err(BodyFault::answer)?;
        let runtime = (self.current)();
        let now = self.shared.clock.now();
        let names = Names::of_json(&body);
        let scope = names
            .and_then(|names| names.scope(|name| runtime.appid(name), now))
            .map_err(|error| misnamed(&error))?;
        let ended = runtime.sessions.revoke(&scope, now).await;
        let count = ended.as_ref().copied();
        self.audit(Deed { event: Event::Revocation, scope: Some(&scope), client }, count);
        let ended = ended.map_err(|error| failed("revoke sessions", &error))?;
        self.log("revoked", &scope, ended, client);
        Ok(Answer::json(&Revoked { scope: scope.as_str(), ended }))
    }

    /// Tells what an operator did, to whom by a hash alone.
    fn log(&self, deed: &'static str, scope: &SessionScope, count: Option<u64>, client: Option<SocketAddr>) {
        let (app, session) = match scope {
            SessionScope::Subject(subject) => (Some(&subject.appid), None),
            SessionScope::App(appid) => (Some(appid), None),
            SessionScope::Session(session) => (None, Some(session)),
            SessionScope::UnionId(_) | SessionScope::OpenedBefore(_) => (None, None),
        };
        let before = if let SessionScope::OpenedBefore(instant) = scope { Some(instant) } else { None };
        let name = scope.as_str();
        info!(
            session.scope = name,
            session.count = count,
            user.hash = self.hash(scope),
            app.id = app.map(tracing::field::display),
            session.id = session.map(tracing::field::display),
            session.opened_before = before.map(tracing::field::display),
            client.address = client.map(|client| tracing::field::display(client.ip())),
            "an operator {deed} sessions of one {name}"
        );
    }
}

impl Admin {
    /// Notes in the audit log what an operator did, or tried.
    pub(super) fn audit(&self, deed: Deed<'_>, count: Result<Option<u64>, &SessionError>) {
        let outcome = match count {
            Ok(_) => "ok",
            Err(SessionError::Store(_)) => "store_unavailable",
            Err(SessionError::Ended | SessionError::Blocked | SessionError::Internal(_)) => "internal_error",
        };
        self.audit_word(deed, outcome, count.ok().flatten());
    }

    /// As [`Admin::audit`], in a word.
    pub(super) fn audit_word(&self, deed: Deed<'_>, outcome: &str, count: Option<u64>) {
        let log = &self.shared.audit_log;
        if !log.is_on() {
            return;
        }
        let Deed { event, scope, client } = deed;
        let runtime = (self.current)();
        let appid = match scope {
            Some(SessionScope::Subject(subject)) => Some(&subject.appid),
            Some(SessionScope::App(appid)) => Some(appid),
            _ => None,
        };
        log.write(&Entry {
            client_address: client.map(|client| client.ip()),
            app: appid.map(|appid| runtime.app_name(appid).unwrap_or(appid.as_str())),
            subject: scope.and_then(|scope| self.hash(scope)).as_deref(),
            scope: scope.map(SessionScope::as_str),
            session: scope.and_then(|scope| {
                if let SessionScope::Session(session) = scope { Some(session.as_str()) } else { None }
            }),
            count,
            ..Entry::new(self.shared.clock.now(), event, outcome)
        });
    }

    /// The person that a scope is about, as logs may show them.
    pub(super) fn hash(&self, scope: &SessionScope) -> Option<String> {
        let hasher = self.shared.subject_hasher();
        match scope {
            SessionScope::Subject(subject) => Some(hasher.hash(subject)),
            SessionScope::UnionId(unionid) => Some(hasher.hash_unionid(unionid)),
            SessionScope::App(_) | SessionScope::Session(_) | SessionScope::OpenedBefore(_) => None,
        }
    }
}

fn row<'a>(session: &'a SessionInfo, runtime: &'a Runtime) -> Row<'a> {
    let subject = &session.identity.subject;
    Row {
        id: session.id.as_str(),
        app: runtime.app_name(&subject.appid),
        appid: subject.appid.as_str(),
        openid: subject.openid.as_str(),
        unionid: session.identity.unionid.as_ref().map(|unionid| unionid.as_str()),
        created_at: session.created_at.to_string(),
        last_seen_at: session.last_seen_at.to_string(),
        expires_at: session.expires_at.to_string(),
        device: session.device.as_deref(),
    }
}

pub(super) fn misnamed(error: &Misnamed) -> Answer {
    Answer::problem(StatusCode::BAD_REQUEST, "request_malformed", Some(&error.to_string()))
}

/// Nothing is said to be done that may not have been.
pub(super) fn failed(deed: &'static str, error: &SessionError) -> Answer {
    error!("an operator could not {deed}: {error}");
    match error {
        SessionError::Store(_) => {
            let detail = "the store did not answer: all, some or none of it may have been done; ask again";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Answer::problem(status, "store_unavailable", Some(detail)).after(STORE_SECONDS)
        }
        SessionError::Ended | SessionError::Blocked | SessionError::Internal(_) => {
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", None)
        }
    }
}
