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
    pub(super) requester: &'a Requester,
    scope: Option<&'a SessionScope>,
    /// The user of the business that a person is bound to.
    user: Option<&'a UserId>,
    /// The people who are bound to the user that the scope names.
    people: &'a [PersonId],
}

impl<'a> AuditedAction<'a> {
    /// An action that names no sessions and no person.
    pub(super) const fn new(event: AuditEvent, requester: &'a Requester) -> Self {
        Self { event, requester, scope: None, user: None, people: &[] }
    }

    /// With the sessions or the person that it is about.
    pub(super) const fn of(self, scope: &'a SessionScope) -> Self {
        Self { scope: Some(scope), ..self }
    }

    /// With the user that a person is bound to.
    pub(super) const fn with_user(self, user: Option<&'a UserId>) -> Self {
        Self { user, ..self }
    }

    /// With the people that the scope stands for, if it names them by their user: the log must say
    /// of each of them what was done.
    pub(super) const fn with_people(self, people: &'a [PersonId]) -> Self {
        Self { people, ..self }
    }
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
        if !self.shared.audit_log.is_on() {
            return;
        }
        match action.scope {
            Some(SessionScope::User(user)) if !action.people.is_empty() => {
                for person in action.people {
                    self.audit_line(action.with_user(Some(user)), Some(&person.scope()), outcome, count);
                }
            }
            Some(SessionScope::User(user)) => {
                self.audit_line(action.with_user(Some(user)), None, outcome, count);
            }
            scope => self.audit_line(action, scope, outcome, count),
        }
    }

    /// Writes one line. `named` says whom or what it is about.
    fn audit_line(
        &self,
        action: AuditedAction<'_>,
        named: Option<&SessionScope>,
        outcome: &str,
        count: Option<u64>,
    ) {
        let AuditedAction { event, requester, scope, user, .. } = action;
        let runtime = (self.current)();
        let appid = match named {
            Some(SessionScope::Subject(subject)) => Some(&subject.appid),
            Some(SessionScope::App(appid)) => Some(appid),
            _ => None,
        };
        self.shared.audit_log.write(&AuditLogEntry {
            client_address: requester.address,
            door: Some(requester.door.as_str()),
            requester: Some(&requester.name),
            app: appid.map(|appid| runtime.app_name(appid).unwrap_or(appid.as_str())),
            subject: named.and_then(|named| self.hash(named)).as_deref(),
            bound_user: user.map(|user| self.shared.subject_hasher().hash_user(user)).as_deref(),
            scope: scope.map(SessionScope::as_str),
            session: named.and_then(|named| {
                if let SessionScope::Session(session) = named { Some(session.as_str()) } else { None }
            }),
            count,
            ..AuditLogEntry::new(self.shared.clock.now(), event, outcome)
        });
    }

    /// Writes to the audit log that a program asked for what it may not.
    pub fn audit_refusal(&self, requester: &Requester) {
        self.audit_outcome(AuditedAction::new(AuditEvent::Refusal, requester), "not_permitted", None);
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
