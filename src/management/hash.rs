//! The page that shows the hash of a person, for a search in the logs.

use serde::Serialize;

use super::Management;
use super::answer::ManagementAnswer;
use super::audit::AuditedAction;
use super::people::one_person;
use super::requester::Requester;
use super::scope_request::ScopeRequest;
use crate::identity::UserId;
use crate::runtime::Runtime;
use crate::session::{PersonId, SessionScope};
use crate::telemetry::audit_log::AuditEvent;

/// The answer about one person: `hash` is what the logs say now, `hashes` also what they said under
/// older keys.
#[derive(Serialize)]
struct HashAnswer<'a> {
    scope: &'static str,
    hash: &'a str,
    hashes: &'a [String],
}

/// The answer about a user: the hashes of the people who are bound to it, and that of the user.
#[derive(Serialize)]
struct UserHashAnswer<'a> {
    scope: &'static str,
    hashes: &'a [String],
    bound_user_hash: &'a str,
}

impl Management {
    /// Shows the hash of a person, or of all who are bound to a user. A person is not looked up:
    /// the person may be unknown.
    pub(super) async fn show_hash(
        &self,
        query: &str,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let runtime = self.runtime();
        let scope = self.scope(ScopeRequest::parse_query(query), &runtime)?;
        if let SessionScope::User(user) = &scope {
            return self.show_hashes_of(user, &runtime, requester).await;
        }
        let person = one_person(scope)?;
        let hashes = self.hashes(&person);
        let scope = person.scope();
        self.audit(AuditedAction::new(AuditEvent::Listing, requester).of(&scope), Ok(None));
        self.log_person("looked up the hash of", &person, requester);
        let hash = hashes.first().map(String::as_str).unwrap_or_default();
        Ok(ManagementAnswer::json(&HashAnswer { scope: scope.as_str(), hash, hashes: &hashes }))
    }

    async fn show_hashes_of(
        &self,
        user: &UserId,
        runtime: &Runtime,
        requester: &Requester,
    ) -> Result<ManagementAnswer, ManagementAnswer> {
        let people = self.bound_people(user, runtime).await?;
        let scope = SessionScope::User(user.clone());
        let action = AuditedAction::new(AuditEvent::Listing, requester).of(&scope).with_people(&people);
        self.audit(action, Ok(None));
        people.iter().for_each(|person| self.log_person("looked up the hash of", person, requester));
        let hashes: Vec<String> = people.iter().flat_map(|person| self.hashes(person)).collect();
        let bound_user_hash = &self.shared.subject_hasher().hash_user(user);
        Ok(ManagementAnswer::json(&UserHashAnswer {
            scope: scope.as_str(),
            hashes: &hashes,
            bound_user_hash,
        }))
    }

    /// The person as logs showed them under each key, the one in use first.
    fn hashes(&self, person: &PersonId) -> Vec<String> {
        match person {
            PersonId::Subject(subject) => self.shared.subject_hasher().hashes(subject),
            PersonId::UnionId(unionid) => self.shared.subject_hasher().unionid_hashes(unionid),
        }
    }
}
