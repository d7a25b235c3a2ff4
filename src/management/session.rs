//! The pages where an operator lists and ends sessions. Every call is in the logs, without the
//! person's ids.

use super::requester::Requester;

use serde::Serialize;

use super::Management;
use super::answer::ManagementAnswer;
use super::audit::AuditedAction;
use super::scope_request::ScopeRequest;
use crate::runtime::Runtime;
use crate::session::{PersonId, SessionInfo, SessionScope};
use crate::telemetry::audit_log::AuditEvent;

/// The answer to a listing.
#[derive(Serialize)]
struct SessionList<'a> {
    sessions: Vec<SessionItem<'a>>,
}

#[derive(Serialize)]
pub(super) struct SessionItem<'a> {
    id: &'a str,
    /// The app's name; left out if the app is no longer configured.
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
struct RevocationAnswer {
    scope: &'static str,
    /// The number of ended sessions; `null` if a count would need a look at every session.
    ended: Option<u64>,
}

impl Management {
    /// Lists the sessions of one person.
    pub(super) async fn list_sessions(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let now = self.shared.clock.now();
        let (scope, people) = self.people(ScopeRequest::parse_query(query), &runtime).await?;
        let mut sessions = Ok(Vec::new());
        for person in &people {
            let listed = match person {
                PersonId::Subject(subject) => runtime.sessions.list_by_subject(subject, now).await,
                PersonId::UnionId(unionid) => runtime.sessions.list_by_unionid(unionid, now).await,
            };
            sessions = sessions.and_then(|mut sessions| {
                sessions.extend(listed?);
                Ok(sessions)
            });
        }
        let count = sessions.as_ref().map(|sessions| Some(sessions.len() as u64));
        let action = AuditedAction::new(AuditEvent::Listing, requester).of(&scope).with_people(&people);
        self.audit(action, count);
        let sessions = sessions.map_err(|error| ManagementAnswer::session_error("list sessions", &error))?;
        self.log_sessions("listed", &scope, Some(sessions.len() as u64), requester);
        let sessions = sessions.iter().map(|session| session_item(session, &runtime)).collect();
        Ok(ManagementAnswer::json(&SessionList { sessions }))
    }

    /// Ends the sessions of one scope.
    pub(super) async fn revoke_sessions(
        &self,
        body: &[u8],
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = (self.current)();
        let scope = self.scope(ScopeRequest::parse_json(body), &runtime)?;
        // For the audit log. Who is bound to a user can change while the sessions are ended.
        let people = match &scope {
            SessionScope::User(user) => self.bound_people(user, &runtime).await?,
            _ => Vec::new(),
        };
        let ended = runtime.sessions.revoke(&scope, self.shared.clock.now()).await;
        let count = ended.as_ref().copied();
        let action = AuditedAction::new(AuditEvent::Revocation, requester).of(&scope).with_people(&people);
        self.audit(action, count);
        let ended = ended.map_err(|error| ManagementAnswer::session_error("revoke sessions", &error))?;
        self.log_sessions("revoked", &scope, ended, requester);
        Ok(ManagementAnswer::json(&RevocationAnswer { scope: scope.as_str(), ended }))
    }
}

pub(super) fn session_item<'a>(session: &'a SessionInfo, runtime: &'a Runtime) -> SessionItem<'a> {
    let subject = &session.identity.subject;
    SessionItem {
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
