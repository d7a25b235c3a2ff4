//! What was asked for and by whom, in the audit log and in the log. People are named by a hash
//! alone.

use tracing::info;

use super::Management;
use super::requester::Requester;
use crate::identity::UserId;
use crate::session::{PersonId, SessionError, SessionScope};
use crate::telemetry::audit_log::{AuditEvent, AuditLogEntry};

/// What was asked for, for the audit log.
#[derive(Clone, Copy)]
pub(super) struct AuditedAction<'a> {
    pub(super) event: AuditEvent,
    pub(super) scope: Option<&'a SessionScope>,
    pub(super) requester: &'a Requester,
    /// The user of the business that a person is bound to.
    pub(super) user: Option<&'a UserId>,
}

impl Management {
    /// Writes what was asked for to the audit log, whether it succeeded or not.
    pub(super) fn audit(&self, action: AuditedAction<'_>, count: Result<Option<u64>, &SessionError>) {
        let outcome = match count {
            Ok(_) => "ok",
            Err(SessionError::Store(_)) => "store_unavailable",
            Err(SessionError::Ended | SessionError::Blocked | SessionError::Internal(_)) => "internal_error",
        };
        self.audit_outcome(action, outcome, count.ok().flatten());
    }

    /// Writes what was asked for to the audit log, with the word of its outcome.
    pub(super) fn audit_outcome(&self, action: AuditedAction<'_>, outcome: &str, count: Option<u64>) {
        let log = &self.shared.audit_log;
        if !log.is_on() {
            return;
        }
        let AuditedAction { event, scope, requester, user } = action;
        let runtime = (self.current)();
        let appid = match scope {
            Some(SessionScope::Subject(subject)) => Some(&subject.appid),
            Some(SessionScope::App(appid)) => Some(appid),
            _ => None,
        };
        log.write(&AuditLogEntry {
            client_address: requester.address,
            door: Some(requester.door.as_str()),
            requester: Some(&requester.name),
            app: appid.map(|appid| runtime.app_name(appid).unwrap_or(appid.as_str())),
            subject: scope.and_then(|scope| self.hash(scope)).as_deref(),
            bound_user: user.map(|user| self.shared.subject_hasher().hash_user(user)).as_deref(),
            scope: scope.map(SessionScope::as_str),
            session: scope.and_then(|scope| {
                if let SessionScope::Session(session) = scope { Some(session.as_str()) } else { None }
            }),
            count,
            ..AuditLogEntry::new(self.shared.clock.now(), event, outcome)
        });
    }

    /// Writes to the audit log that a program asked for what it may not.
    pub fn audit_refusal(&self, requester: &Requester) {
        let action = AuditedAction { event: AuditEvent::Refusal, scope: None, requester, user: None };
        self.audit_outcome(action, "not_permitted", None);
    }

    /// Logs what was done to sessions. `verb` is in the past tense.
    pub(super) fn log_sessions(
        &self,
        verb: &'static str,
        scope: &SessionScope,
        count: Option<u64>,
        requester: &Requester,
    ) {
        let (app, session) = match scope {
            SessionScope::Subject(subject) => (Some(&subject.appid), None),
            SessionScope::App(appid) => (Some(appid), None),
            SessionScope::Session(session) => (None, Some(session)),
            SessionScope::UnionId(_) | SessionScope::User(_) | SessionScope::OpenedBefore(_) => (None, None),
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
            client.address = requester.address.map(tracing::field::display),
            requester.name = requester.name,
            "{requester} {verb} sessions of one {name}"
        );
    }

    /// Logs what was done to a person. `verb` is in the past tense.
    pub(super) fn log_person(&self, verb: &'static str, person: &PersonId, requester: &Requester) {
        let scope = person.scope();
        let name = scope.as_str();
        info!(
            session.scope = name,
            user.hash = self.hash(&scope),
            client.address = requester.address.map(tracing::field::display),
            requester.name = requester.name,
            "{requester} {verb} one {name}"
        );
    }

    /// The hash of the person that a scope names, for logs.
    fn hash(&self, scope: &SessionScope) -> Option<String> {
        let hasher = self.shared.subject_hasher();
        match scope {
            SessionScope::Subject(subject) => Some(hasher.hash(subject)),
            SessionScope::UnionId(unionid) => Some(hasher.hash_unionid(unionid)),
            SessionScope::App(_)
            | SessionScope::Session(_)
            | SessionScope::User(_)
            | SessionScope::OpenedBefore(_) => None,
        }
    }
}
