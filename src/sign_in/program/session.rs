//! Who is signed in, and since when: what a client shows its person.

use http::request::Parts;

use crate::authn::{AuthnError, Credential};
use crate::clock::Timestamp;
use crate::sign_in::browser::without_session;
use crate::sign_in::error::SignInError;
use crate::sign_in::{SignInAnswer, SignInService};

impl SignInService {
    pub(in crate::sign_in) async fn respond_to_session(
        &self,
        request: &Parts,
        now: Timestamp,
        request_id: &str,
    ) -> SignInAnswer {
        let (is_cookie, result) = match self.credential(request) {
            Ok(Some(credential)) => {
                (credential.is_session_cookie(), self.describe_session(&credential, now).await)
            }
            Ok(None) => (false, Err(AuthnError::NoToken.into())),
            Err(error) => (false, Err(error)),
        };
        match result {
            Ok(answer) => answer,
            Err(error) => {
                let answer = SignInAnswer::refused_as_problem(&error, request_id);
                if is_cookie && error.is_of_no_session() { without_session(answer) } else { answer }
            }
        }
    }

    /// Asks the store itself: what is remembered of a token does not say when its session was opened.
    async fn describe_session(
        &self,
        credential: &Credential<'_>,
        now: Timestamp,
    ) -> Result<SignInAnswer, SignInError> {
        let caller = self.authenticate(credential, now).await?;
        let sessions = self.deps.sessions.list_by_subject(&caller.identity().subject, now).await?;
        let session = sessions.iter().find(|session| session.id == *caller.session());
        Ok(SignInAnswer::session(&caller, session.ok_or(SignInError::SessionEnded)?))
    }
}
