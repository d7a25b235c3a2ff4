//! `POST /auth/refresh`: a refresh token becomes an access token, and the next refresh token. See
//! RFC 6749 §6 and RFC 9700 §4.14.2.

use secrecy::ExposeSecret as _;
use tracing::info;

use super::grant::TokenGrant;
use super::request::read_body;
use crate::identity::AppId;
use crate::session::{RefreshError, RefreshToken, RefreshedSession};
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::call::{ReadBody, SignInCall};
use crate::sign_in::error::SignInError;
use crate::sign_in::once::SignInResult;
use crate::sign_in::service::SignInService;

/// Answers a refresh.
pub(in crate::sign_in) async fn respond(
    service: &SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> SignInAnswer {
    let request_id = call.request_id;
    let answer = match refresh(service, call, body).await {
        Ok(grant) => {
            let answer = SignInAnswer::granted("refreshed", &grant, service.deps.clock.now());
            match service.app_of(&grant.identity.subject.appid) {
                Some(app) => answer.of(&app.name, &grant.identity),
                None => answer,
            }
        }
        Err(error) => SignInAnswer::refused(&error.reply(), request_id),
    };
    let outcome = answer.outcome;
    info!(refresh.outcome = outcome, http.request.id = request_id, "a refresh ended: {outcome}");
    answer
}

async fn refresh(service: &SignInService, call: SignInCall<'_>, body: ReadBody) -> SignInResult<TokenGrant> {
    let (format, body) = read_body(service, call.request, body)?;
    let body = format.read_refresh(&body)?;

    // Access tokens of a removed app are refused; its sessions stay for the case that it is added
    // again.
    let is_configured = |appid: &AppId| service.app_of(appid).is_some();
    let token = body.refresh_token.expose_secret();
    let RefreshedSession { identity, session } = spend(service, token, is_configured, call).await?;
    TokenGrant::mint(&service.deps, identity, session)
}

/// Spends a refresh token. One that is not valid counts as a failed login of the client: a client
/// that sends many of them makes them up, and each costs a look-up in the store.
pub(super) async fn spend(
    service: &SignInService,
    refresh_token: &str,
    permits: impl Fn(&AppId) -> bool + Send + Sync,
    call: SignInCall<'_>,
) -> Result<RefreshedSession, SignInError> {
    let token = RefreshToken::parse(refresh_token).map_err(|_| SignInError::RefreshTokenInvalid)?;
    // As before a login: a refresh token is not spent while the store is unavailable.
    if !service.deps.store_health.is_available() {
        return Err(SignInError::StoreUnavailable);
    }
    let SignInCall { request, client: address, now, .. } = call;
    let sessions = &service.deps.sessions;
    let client = sessions.client(address, &request.headers);
    let refreshed = sessions.refresh_if(&token, &client, permits, now).await;
    if matches!(refreshed, Err(RefreshError::Invalid | RefreshError::Reused)) {
        service.deps.throttle.record_login_failure(address);
    }
    Ok(refreshed?)
}
