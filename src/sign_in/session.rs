//! Who is signed in, and since when: what a client shows its person.

use http::request::Parts;

use super::browser::without_session;
use super::error::LoginError;
use super::{Answer, Login};
use crate::authn::{Credential, Refusal};
use crate::clock::Timestamp;

impl Login {
    pub(super) async fn respond_to_session(
        &self,
        request: &Parts,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let (is_cookie, result) = match self.credential(request) {
            Ok(Some(credential)) => {
                (credential.is_session_cookie(), self.describe_session(&credential, now).await)
            }
            Ok(None) => (false, Err(Refusal::NoToken.into())),
            Err(error) => (false, Err(error)),
        };
        match result {
            Ok(answer) => answer,
            Err(error) => {
                let answer = Answer::refused_as_problem(&error, request_id);
                if is_cookie && error.is_of_no_session() { without_session(answer) } else { answer }
            }
        }
    }

    /// Asks the store itself: what is remembered of a token does not say when its session was opened.
    async fn describe_session(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<Answer, LoginError> {
        let caller = self.authenticate(credential, now).await?;
        let sessions = self.parts.sessions.of_subject(&caller.identity().subject, now).await?;
        let session = sessions.iter().find(|session| session.id == *caller.session());
        Ok(Answer::session(&caller, session.ok_or(LoginError::SessionEnded)?))
    }
}
