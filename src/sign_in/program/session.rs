//! `GET /auth/session`: who is signed in, and since when.

use crate::authn::{AuthnError, Credential};
use crate::clock::Timestamp;
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::browser::without_session;
use crate::sign_in::call::SignInCall;
use crate::sign_in::error::SignInError;
use crate::sign_in::service::SignInService;

/// Answers a request for the session.
pub(in crate::sign_in) async fn respond(service: &SignInService, call: SignInCall<'_>) -> SignInAnswer {
    let (is_cookie, result) = match service.credential(call.request, call.cross_site) {
        Ok(Some(credential)) => {
            (credential.is_session_cookie(), describe_session(service, &credential, call.now).await)
        }
        Ok(None) => (false, Err(AuthnError::NoToken.into())),
        Err(error) => (false, Err(error)),
    };
    match result {
        Ok(answer) => answer,
        Err(error) => {
            let answer = SignInAnswer::refused_as_problem(&error.reply(), call.request_id);
            if is_cookie && error.is_of_no_session() { without_session(answer) } else { answer }
        }
    }
}

/// Asks the store: the cached verdict on a token does not say when its session was opened.
async fn describe_session(
    service: &SignInService,
    credential: &Credential<'_>,
    now: Timestamp,
) -> Result<SignInAnswer, SignInError> {
    let caller = service.authenticate(credential, now).await?;
    // After the caller is known: no other session can use the limit up.
    service.deps.throttle.check_session(caller.session().as_str())?;
    let sessions = service.deps.sessions.list_by_subject(&caller.identity().subject, now).await?;
    let session = sessions.iter().find(|session| session.id == *caller.session());
    Ok(SignInAnswer::session(&caller, session.ok_or(SignInError::SessionEnded)?))
}
