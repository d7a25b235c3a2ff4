//! `POST /auth/wechat/decrypt`: opens WeChat's sealed user data with the session's key, and gives
//! the client the fields that it may have.

use std::sync::Arc;

use tracing::debug;

use super::body::DecryptBody;
use super::request::read_body;
use crate::authn::{Authenticated, AuthnError};
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::call::{ReadBody, SignInCall};
use crate::sign_in::deps::SignInDependencies;
use crate::sign_in::error::SignInError;
use crate::sign_in::service::SignInService;
use crate::user_data::{EncryptedUserData, Expected, OpenedUserData, StaleKey, UserDataPolicy, open};

/// Answers a request to open user data.
pub(in crate::sign_in) async fn respond(
    service: &Arc<SignInService>,
    call: SignInCall<'_>,
    body: ReadBody,
) -> SignInAnswer {
    let Some(policy) = &service.user_data else { return SignInAnswer::not_found(call.request_id) };
    let answer = match decrypt(service, policy, call, body).await {
        Ok(answer) => answer,
        Err(error) => SignInAnswer::refused_as_problem(&error.reply(), call.request_id),
    };
    let outcome = answer.outcome;
    service.deps.metrics.user_data.with_label_values(&[outcome]).inc();
    debug!(
        user_data.outcome = outcome,
        http.request.id = call.request_id,
        "user data were judged: {outcome}"
    );
    answer
}

async fn decrypt(
    service: &SignInService,
    policy: &UserDataPolicy,
    call: SignInCall<'_>,
    body: ReadBody,
) -> Result<SignInAnswer, SignInError> {
    let (format, body) = read_body(service, call.request, body)?;
    let body = format.read_decrypt(&body)?;
    let credential = service.credential(call.request, call.cross_site)?.ok_or(AuthnError::NoToken)?;
    let caller = service.authenticate(&credential, call.now).await?;

    let opened = open_data(&service.deps, policy, &caller, &body, call).await?;
    let deps = &service.deps;
    let Ok(opened) = opened else {
        // After it was judged: data that open are never refused for those that did not.
        deps.throttle.charge_stale_user_data(caller.session().as_str())?;
        return Err(SignInError::SessionKeyStale);
    };
    let subject = &caller.identity().subject;
    if let Some(unionid) =
        opened.unionid().filter(|unionid| caller.identity().unionid.as_ref() != Some(*unionid))
    {
        deps.sessions.join_unionid(subject, caller.session(), unionid, call.now).await?;
    }
    Ok(SignInAnswer::user_data(&opened.only(&policy.client)).of(caller.app(), caller.identity()))
}

/// Opens the data. What is not base64 of whole blocks is answered as what does not open: its client
/// knows as much without the key.
async fn open_data(
    deps: &SignInDependencies,
    policy: &UserDataPolicy,
    caller: &Authenticated,
    body: &DecryptBody,
    call: SignInCall<'_>,
) -> Result<Result<OpenedUserData, StaleKey>, SignInError> {
    let subject = &caller.identity().subject;
    let keys = deps.sessions.newest_session_keys(subject, caller.session(), call.now).await?;
    let Some(encrypted) = EncryptedUserData::parse(&body.encrypted_data, &body.iv) else {
        return Ok(Err(StaleKey));
    };
    let expected = Expected { subject, max_age: policy.max_age, now: call.now };
    Ok(open(&keys, &encrypted, expected))
}
