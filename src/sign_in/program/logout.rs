//! `POST /auth/logout`: a user signs out, of this session or of all of theirs.

use std::sync::Arc;

use http::header;
use http::request::Parts;
use secrecy::ExposeSecret as _;
use tracing::info;

use super::body::{BodyFormat, LogoutBody, LogoutTarget};
use super::refresh::spend;
use super::request::{read_body, refuse_cross_site};
use crate::authn::{AuthnError, Credential, Source};
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::page::Action;
use crate::session::{RefreshToken, RevocableSession, SessionCookie, SessionScope};
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::browser::{ReturnTo, has_session_cookie, is_navigation, without_session};
use crate::sign_in::call::{ReadBody, SignInCall};
use crate::sign_in::deps::SignInDependencies;
use crate::sign_in::error::SignInError;
use crate::sign_in::service::SignInService;

/// What a logout asks for.
struct LogoutRequest {
    format: BodyFormat,
    target: LogoutTarget,
    return_to: Option<ReturnTo>,
}

/// A logout that succeeded.
#[derive(Default)]
struct LogoutOutcome {
    /// The app and the user whose session ended, if one did.
    who: Option<(Arc<str>, Identity)>,
    /// Whether the browser holds a cookie that opens no session now.
    is_cookie_dead: bool,
}

/// Answers a logout.
pub(in crate::sign_in) async fn respond(
    service: &SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> SignInAnswer {
    let asked = read_logout(service, call, body);
    let result = match &asked {
        Ok(asked) => log_out(service, asked, call).await,
        Err(error) => Err(error.clone()),
    };
    let answer = result.unwrap_or_else(|error| failure_answer(service, &error, asked.as_ref().ok(), call));
    let outcome = answer.outcome;
    info!(logout.outcome = outcome, http.request.id = call.request_id, "a logout ended: {outcome}");
    answer
}

fn read_logout(
    service: &SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> Result<LogoutRequest, SignInError> {
    let (format, body) = read_body(service, call.request, body)?;
    let LogoutBody { target, return_to } = format.read_logout(&body)?;
    let own = service.settings.origins.of(call.request);
    let return_to = return_to.zip(own).and_then(|(text, own)| service.allowed_return_to(&text, own));
    Ok(LogoutRequest { format, target, return_to })
}

/// Says that no session ended. A user of a browser with a session cookie must not believe that they
/// are signed out while they are signed in.
fn failure_answer(
    service: &SignInService,
    error: &SignInError,
    asked: Option<&LogoutRequest>,
    call: SignInCall<'_>,
) -> SignInAnswer {
    let SignInCall { request, request_id, .. } = call;
    if !is_navigation(request) {
        return SignInAnswer::refused_as_problem(&error.reply(), request_id);
    }
    if !has_session_cookie(&request.headers) {
        return service.error_page(error.clone(), Action::Nothing, request, request_id);
    }
    // The user did not ask for what another site's page asked for.
    let asked = asked.filter(|_| *error != SignInError::CrossSite);
    let return_to = asked.and_then(|asked| asked.return_to.as_ref());
    let everywhere =
        asked.is_some_and(|asked| matches!(asked.target, LogoutTarget::Caller { everywhere: true }));
    service.still_signed_in_page(error, return_to, everywhere, request, request_id)
}

async fn log_out(
    service: &SignInService,
    asked: &LogoutRequest,
    call: SignInCall<'_>,
) -> Result<SignInAnswer, SignInError> {
    let SignInCall { request, request_id, .. } = call;
    let done = match &asked.target {
        LogoutTarget::RefreshToken(token) => {
            refuse_cross_site(request, call.cross_site)?;
            log_out_by_refresh_token(service, token.expose_secret(), call).await?
        }
        LogoutTarget::Caller { everywhere } => {
            log_out_caller(service, call, asked.format, *everywhere).await?
        }
    };

    let answer = match &asked.return_to {
        Some(return_to) => SignInAnswer::see_other("logged_out", return_to.location())?,
        None if is_navigation(request) => service.signed_out_page(request, request_id),
        None => SignInAnswer::logged_out(),
    };
    let answer = if done.is_cookie_dead { without_session(answer) } else { answer };
    Ok(match &done.who {
        Some((app, identity)) => answer.of(app, identity),
        None => answer,
    })
}

/// Ends the session that the request's access token or cookie names, or all of its person.
async fn log_out_caller(
    service: &SignInService,
    call: SignInCall<'_>,
    format: BodyFormat,
    everywhere: bool,
) -> Result<LogoutOutcome, SignInError> {
    let SignInCall { request, now, cross_site, .. } = call;
    let credential = match service.credential(request, cross_site)? {
        Some(credential) => credential,
        // A user who signs out in a second tab is signed out already.
        None if is_navigation(request) => return Ok(LogoutOutcome::default()),
        None => return Err(AuthnError::NoToken.into()),
    };
    if is_added_by_browser(&credential) && !is_declared_json(request, format) {
        return Err(SignInError::MediaTypeUnsupported);
    }
    let is_cookie_dead = credential.is_session_cookie();
    match end_session_of(service, &credential, everywhere, now).await {
        Ok(who) => Ok(LogoutOutcome { who: Some(who), is_cookie_dead }),
        // No session to end. A browser that gets an error keeps the cookie.
        Err(error) if is_cookie_dead && error.is_of_no_session() => {
            Ok(LogoutOutcome { who: None, is_cookie_dead })
        }
        Err(error) => Err(error),
    }
}

async fn end_session_of(
    service: &SignInService,
    credential: &Credential<'_>,
    everywhere: bool,
    now: Timestamp,
) -> Result<(Arc<str>, Identity), SignInError> {
    let RevocableSession { id, identity } = find_session_to_end(service, credential, now).await?;
    let app = service.app_of(&identity.subject.appid).ok_or(SignInError::Internal)?;

    if everywhere {
        service.deps.sessions.revoke_person(&identity, now).await?;
    } else {
        service.deps.sessions.revoke(&SessionScope::Session(id), now).await?;
    }
    Ok((Arc::clone(&app.name), identity))
}

/// Finds the session to end, also of a blocked user: once the block is lifted, the session would
/// sign in any person who has the device.
async fn find_session_to_end(
    service: &SignInService,
    credential: &Credential<'_>,
    now: Timestamp,
) -> Result<RevocableSession, SignInError> {
    let SignInDependencies { sessions, tokens, .. } = &*service.deps;
    // The store may know a unionid that the token is too old to name.
    match service.authenticate(credential, now).await {
        Ok(caller) => Ok(sessions.find_revocable(&caller.identity().subject, caller.session(), now).await?),
        Err(SignInError::UserBlocked) if credential.is_session_cookie() => {
            let cookie = SessionCookie::parse(credential.token());
            let cookie = cookie.map_err(|_| SignInError::SessionEnded)?;
            Ok(sessions.find_revocable_by_cookie(&cookie, now).await?)
        }
        Err(SignInError::UserBlocked) => {
            let claims = tokens.verify(credential.token(), now).map_err(AuthnError::from)?;
            Ok(sessions.find_revocable(&claims.identity().subject, claims.session(), now).await?)
        }
        Err(error) => Err(error),
    }
}

/// Ends the session of a refresh token, for a client whose access token has expired. This spends
/// the token: one that was spent before ends its session as it does in a refresh. A token that
/// names no session is refused, because it does not say which session ended.
async fn log_out_by_refresh_token(
    service: &SignInService,
    token: &str,
    call: SignInCall<'_>,
) -> Result<LogoutOutcome, SignInError> {
    let now = call.now;
    match spend(service, token, |_| true, call).await {
        Ok(refreshed) => {
            service.deps.sessions.revoke(&SessionScope::Session(refreshed.session.id), now).await?;
            Ok(LogoutOutcome { who: service.named(refreshed.identity), ..LogoutOutcome::default() })
        }
        Err(SignInError::RefreshTokenReused(subject)) => {
            let identity = Identity { subject: *subject, unionid: None };
            Ok(LogoutOutcome { who: service.named(identity), ..LogoutOutcome::default() })
        }
        // The token is not spent, or another client spent it, such as the user's own before it
        // changed its network. It ends its session nevertheless.
        Err(SignInError::UserBlocked | SignInError::RefreshTokenOfAnother(_)) => {
            let token = RefreshToken::parse(token).map_err(|_| SignInError::RefreshTokenInvalid)?;
            let RevocableSession { id, identity, .. } =
                service.deps.sessions.find_revocable_by_refresh_token(&token, now).await?;
            service.deps.sessions.revoke(&SessionScope::Session(id), now).await?;
            Ok(LogoutOutcome { who: service.named(identity), ..LogoutOutcome::default() })
        }
        Err(error) => Err(error),
    }
}

/// Whether a browser may have sent the token on behalf of a page of another site.
fn is_added_by_browser(credential: &Credential<'_>) -> bool {
    credential.is_in(Source::Cookie)
        && !credential.is_in(Source::Authorization)
        && !credential.is_in(Source::Header)
}

/// Whether the request declares JSON, which a browser sends to another site only after a preflight
/// request. A browser sends a form, or a request without a body, without one.
fn is_declared_json(request: &Parts, format: BodyFormat) -> bool {
    format == BodyFormat::Json && request.headers.contains_key(header::CONTENT_TYPE)
}
