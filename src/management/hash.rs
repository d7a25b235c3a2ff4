//! The page that shows the hash of a person, for a search in the logs.

use serde::Serialize;

use super::Management;
use super::answer::ManagementAnswer;
use super::audit::AuditedAction;
use super::requester::Requester;
use super::scope_request::ScopeRequest;
use crate::session::PersonId;
use crate::telemetry::audit_log::AuditEvent;

/// The answer: `hash` is what the logs say now, `hashes` also what they said under older keys.
#[derive(Serialize)]
struct HashAnswer<'a> {
    scope: &'static str,
    hash: &'a str,
    hashes: &'a [String],
}

impl Management {
    /// Shows the hash of a person. Nothing is looked up: the person may be unknown.
    pub(super) fn show_hash(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let person = self.person(ScopeRequest::parse_query(query), &self.runtime())?;
        let hasher = self.shared.subject_hasher();
        let hashes = match &person {
            PersonId::Subject(subject) => hasher.hashes(subject),
            PersonId::UnionId(unionid) => hasher.unionid_hashes(unionid),
        };
        let scope = person.scope();
        let action = AuditedAction { event: AuditEvent::Listing, scope: Some(&scope), requester, user: None };
        self.audit(action, Ok(None));
        self.log_person("looked up the hash of", &person, requester);
        let hash = hashes.first().map(String::as_str).unwrap_or_default();
        Ok(ManagementAnswer::json(&HashAnswer { scope: scope.as_str(), hash, hashes: &hashes }))
    }
}
