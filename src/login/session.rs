//! Who is signed in, and since when: what a client shows its person.

use http::request::Parts;

use super::error::LoginError;
use super::{Answer, Login};
use crate::clock::Timestamp;

impl Login {
    pub(super) async fn respond_to_session(
        &self,
        request: &Parts,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let result = self.describe_session(request, now).await;
        result.unwrap_or_else(|error| Answer::refused_as_problem(&error, request_id))
    }

    /// Asks the store itself: what is remembered of a token does not say when its session was opened.
    async fn describe_session(&self, request: &Parts, now: Timestamp) -> Result<Answer, LoginError> {
        let caller = self.authenticate(&self.credential(request)?, now).await?;
        let sessions = self.parts.sessions.of_subject(&caller.identity().subject, now).await?;
        let session = sessions.iter().find(|session| session.id == *caller.session());
        Ok(Answer::session(&caller, session.ok_or(LoginError::SessionEnded)?))
    }
}
