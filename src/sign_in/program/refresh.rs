//! `POST /auth/refresh`: a refresh token becomes an access token, and the next refresh token. See
//! RFC 6749 §6 and RFC 9700 §4.14.2.

use std::sync::OnceLock;

use http::StatusCode;
use secrecy::ExposeSecret as _;
use tracing::{debug, info};

use super::grant::TokenGrant;
use super::request::read_body;
use crate::identity::{Identity, Subject};
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
        Err(error) => {
            let answer = SignInAnswer::refused(&error.reply(), request_id);
            // For the logs: they must say whose token was stolen.
            let whose = error.subject().cloned().map(|subject| Identity { subject, unionid: None });
            match whose.and_then(|identity| service.named(identity)) {
                Some((app, identity)) => answer.of(&app, &identity),
                None => answer,
            }
        }
    };
    let outcome = answer.outcome;
    if answer.response.status() == StatusCode::TOO_MANY_REQUESTS {
        // A flood of them must not fill the log.
        debug!(http.request.id = request_id, "a refresh was throttled");
    } else {
        info!(refresh.outcome = outcome, http.request.id = request_id, "a refresh ended: {outcome}");
    }
    answer
}

async fn refresh(service: &SignInService, call: SignInCall<'_>, body: ReadBody) -> SignInResult<TokenGrant> {
    let (format, body) = read_body(service, call.request, body)?;
    let body = format.read_refresh(&body)?;

    // Access tokens of a removed app are refused; its sessions stay for the case that it is added
    // again.
    let within_limit = OnceLock::new();
    let permits = |user: &Subject| {
        let check = || service.deps.throttle.check_refresh_of(user);
        service.app_of(&user.appid).is_some() && within_limit.get_or_init(check).is_ok()
    };
    let token = body.refresh_token.expose_secret();
    match (spend(service, token, permits, call).await, within_limit.get()) {
        (Err(SignInError::RefreshTokenInvalid), Some(Err(throttled))) => Err((*throttled).into()),
        (refreshed, _) => {
            let RefreshedSession { identity, session } = refreshed?;
            TokenGrant::mint(&service.deps, identity, session)
        }
    }
}

/// Spends a refresh token. It is judged before anything is refused: a good one is not refused for
/// what others at the address did. One that is not valid counts as a failure of the address, and
/// many of them are answered that they come too often.
pub(super) async fn spend(
    service: &SignInService,
    refresh_token: &str,
    permits: impl Fn(&Subject) -> bool + Send + Sync,
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
    if matches!(refreshed, Err(RefreshError::Invalid)) {
        service.deps.throttle.charge_failed_refresh(address)?;
    }
    Ok(refreshed?)
}
