//! The callback from WeChat: verifies the state and the browser, and exchanges the code for a
//! session.

use std::sync::Arc;

use http::HeaderMap;

use super::browser_cookie::{self, BrowserProof};
use super::endpoint::{Parameter, Query};
use super::sign_in_page::is_signed_in;
use super::state::{Bearer, BeginnerHash, SignInRecord, SignInState, StoredSignIn};
use super::{BrowserError, BrowserGrant, ReturnTo, session_cookie};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::SessionId;
use crate::page::Action;
use crate::session::SessionError;
use crate::sign_in::charge::CodeCharge;
use crate::sign_in::error::SignInError;
use crate::sign_in::flow::{self, SignInAttempt};
use crate::sign_in::record::record_sign_in;
use crate::sign_in::{SignInAnswer, SignInCall, SignInService};
use crate::wechat::{App, Code};

/// What WeChat's app sends instead of a code if the user refuses; its documents say that it sends
/// no code.
const REFUSED: &str = "authdeny";
/// Longest wait after which the same callback may still succeed: WeChat's codes are valid for five
/// minutes.
const LONGEST_WAIT_SECONDS: u64 = 60;

/// A callback whose state and browser are verified.
struct VerifiedCallback {
    state: SignInState,
    found: StoredSignIn,
    client: BeginnerHash,
    proof: BrowserProof,
    /// None if the user refused.
    code: Option<Code>,
    /// What the code took from the limits of the client's address, unless a page of another site
    /// may have caused the callback.
    charge: Option<CodeCharge>,
}

/// Answers `GET /auth/web/{app}/callback`.
///
/// As with every sign-in, a started exchange continues if the future is dropped, because the
/// browser may retry.
pub(in crate::sign_in) async fn respond(service: &Arc<SignInService>, call: SignInCall<'_>) -> SignInAnswer {
    let SignInCall { request, request_id, .. } = call;
    let started = service.deps.clock.instant();
    let Some(app) = service.app_in_path(request) else {
        return service.error_page(BrowserError::NothingToSignInTo, Action::Nothing, request, request_id);
    };
    let mut return_to = ReturnTo::root();
    let result = match verify_state(service, app, call, &mut return_to).await {
        Ok(arrival) => complete_sign_in(service, app, arrival, &return_to, call).await,
        Err(error) => Err(error),
    };
    let mut answer = result.unwrap_or_else(|error| {
        let start = service.start_path(app, &return_to);
        let action = if is_worth_a_reload(&error) { Action::Reload(&start) } else { Action::Link(&start) };
        service.error_page(error, action, request, request_id)
    });
    answer.app = Some(app.name.clone());
    record_sign_in(&service.deps, app.kind, started, &answer, request_id);
    answer
}

/// Verifies that the sign-in began here. It does not use up the state, so that another client
/// cannot spoil it. `return_to` becomes the page that the user came from, when it is known that
/// the browser is the one that was there.
///
/// It counts nothing before the browser is verified: a page can send its visitors here with
/// made-up states, and would lock out every client at their addresses. A state has 190 bits and
/// cannot be guessed, and a lookup in the store costs no more than one of a made-up session
/// cookie.
async fn verify_state(
    service: &SignInService,
    app: &App,
    call: SignInCall<'_>,
    return_to: &mut ReturnTo,
) -> Result<VerifiedCallback, BrowserError> {
    let SignInCall { request, client, now, .. } = call;
    let own = service.own_origin(request)?;
    let query = Query::of(request);
    let state = match query.one("state") {
        Parameter::Missing => return Err(BrowserError::StateMissing),
        Parameter::One(text) => SignInState::parse(text).ok_or(BrowserError::StateMalformed)?,
        Parameter::Several => return Err(BrowserError::StateMalformed),
    };
    let code = match query.one("code") {
        Parameter::Missing | Parameter::One(REFUSED) => None,
        Parameter::One(text) => Some(Code::parse(text).map_err(|_| BrowserError::CodeMalformed)?),
        Parameter::Several => return Err(BrowserError::CodeMalformed),
    };
    if !service.deps.store_health.is_available() {
        return Err(SignInError::StoreUnavailable.into());
    }

    let found = StoredSignIn::look_up(&*service.deps.store, &state, now).await?;
    let sign_in = &found.sign_in;
    if *sign_in.app != *app.name || sign_in.appid != app.appid.as_str() {
        return Err(BrowserError::StateOfOtherApp);
    }
    if sign_in.origin != own.as_str() {
        return Err(BrowserError::StateOfOtherOrigin);
    }
    let client_hash = state.client(&service.deps.sessions.client(client, &request.headers));
    let proof = browser_cookie::check(&request.headers, &sign_in.browser, app.browser_check);
    // Only the user may learn the page. If a browser lost its cookie, as WeChat's does, address
    // and user agent must match. A browser with another cookie is another browser.
    let is_theirs = match &proof {
        Ok(_) => true,
        Err(error) => *error == BrowserError::BrowserCookieMissing && sign_in.is_started_by(client_hash),
    };
    if is_theirs {
        // Checked again, because a reload of the configuration may have removed the origin.
        *return_to = service.return_to(Some(&sign_in.return_to), own);
    }
    // Before the browser is checked, because its cookie ends with the state. A browser that
    // still has both may be signed in already; see `complete_sign_in`.
    let is_used_here = matches!(proof, Ok(BrowserProof::Cookie)) && sign_in.has_code();
    if sign_in.is_expired(now) && !is_used_here {
        return Err(BrowserError::StateUnknown);
    }
    let proof = proof?;
    let charge = match &code {
        _ if is_cross_site(proof, sign_in) => {
            service.deps.throttle.check_cross_site(client)?;
            None
        }
        Some(code) => Some(service.charge_code(&app.appid, code, None, call).await?),
        None => None,
    };
    Ok(VerifiedCallback { state, found, client: client_hash, proof, code, charge })
}

/// Exchanges the code and redirects the user back.
///
/// A user who taps twice, or goes back to WeChat's page and agrees again, comes back with a
/// used state, and usually with another code. The user is signed in already and is redirected;
/// the session does not change. This holds only in the browser that began, because only its
/// user may learn the page.
async fn complete_sign_in(
    service: &Arc<SignInService>,
    app: &App,
    arrival: VerifiedCallback,
    return_to: &ReturnTo,
    call: SignInCall<'_>,
) -> Result<SignInAnswer, BrowserError> {
    let proof = arrival.proof;
    let is_repeated = arrival.found.sign_in.has_code() && proof == BrowserProof::Cookie;
    match exchange_code(service, app, arrival, call).await {
        Ok(grant) => {
            let answer = redirect_back(service, app, &grant, &target_after(service, app, proof, return_to))?;
            Ok(answer.of(&app.name, &grant.identity))
        }
        Err(error)
            if is_repeated
                && is_of_used_state(&error)
                && is_signed_in(service, &[app], &call.request.headers, call.now).await? =>
        {
            let target = with_own_fragment(app, return_to.location());
            Ok(SignInAnswer::see_other("signed_in_already", &target)?)
        }
        Err(error) => Err(error),
    }
}

/// Binds the state to the code, and exchanges the code or returns the result of its first
/// exchange.
async fn exchange_code(
    service: &Arc<SignInService>,
    app: &App,
    arrival: VerifiedCallback,
    call: SignInCall<'_>,
) -> Result<BrowserGrant, BrowserError> {
    let SignInCall { request, client, now, .. } = call;
    let VerifiedCallback { state, found, client: client_hash, proof, code, charge } = arrival;
    let code = code.ok_or(BrowserError::PersonRefused)?;
    let before = session_before(service, &request.headers, now).await?;
    let store = &service.deps.store;
    let is_repeated = found.sign_in.has_code();
    let bearer = Bearer { client: client_hash, is_browser: proof == BrowserProof::Cookie };
    found.bind(&**store, &state, &code, bearer, now).await?;

    // The record decides who may send the code again. A browser may show its cookie in one
    // request and not in the next.
    let client_fields = [&b"browser"[..], &state.name()];
    let mut attempt = SignInAttempt::new(app, code, &client_fields, request, client);
    attempt.before = before;
    let is_own_start = charge.is_some() && !is_repeated;
    attempt.charge = charge;
    // Without the cookie, an attacker may have begun and made up the code. With it that is not
    // possible, because a page does not know the state.
    attempt.is_blameless = is_repeated || proof == BrowserProof::Nothing;
    let grant = flow::sign_in(&service.deps, &service.settings.browser_codes, attempt).await?;
    if is_own_start {
        service.deps.throttle.give_back_sign_in(client);
    }
    Ok(grant)
}

/// The session that the browser holds now. It ends when the browser gets another.
async fn session_before(
    service: &SignInService,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<SessionId>, SignInError> {
    let Some(cookie) = session_cookie::of(headers) else { return Ok(None) };
    match service.deps.sessions.check_cookie(&cookie, now).await {
        Ok(session) => Ok(Some(session.id)),
        Err(SessionError::Ended | SessionError::Blocked) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The page that a browser is redirected to after sign-in: the page that it came from, or first
/// the sign-in page if it has shown no cookie.
fn target_after(service: &SignInService, app: &App, proof: BrowserProof, return_to: &ReturnTo) -> String {
    match proof {
        BrowserProof::Cookie => return_to.location().to_owned(),
        BrowserProof::Nothing => service.sign_in_path_with_cookie(app, return_to),
    }
}

/// Redirects a signed-in user to a page. The session cookie is always new.
fn redirect_back(
    service: &SignInService,
    app: &App,
    grant: &BrowserGrant,
    place: &str,
) -> Result<SignInAnswer, SignInError> {
    let session = &grant.session;
    let cookie = session_cookie::set(&session.cookie, session.expires_at, service.deps.clock.now());
    let answer = SignInAnswer::see_other("ok", &with_own_fragment(app, place))?;
    Ok(answer.with_cookie(cookie.ok_or(SignInError::Internal)?))
}

/// Whether a page of another site may have caused the callback: the browser did not prove that it
/// began, or such a page may have caused the start.
fn is_cross_site(proof: BrowserProof, sign_in: &SignInRecord) -> bool {
    proof == BrowserProof::Nothing || sign_in.is_cross_site()
}

/// The page with a fragment of its own. Otherwise a browser adds WeChat's `#wechat_redirect` to it
/// (RFC 9110 §10.2.2), and pages that use the fragment for navigation would fail.
fn with_own_fragment(app: &App, place: &str) -> String {
    let is_carried = app.kind == AppKind::OfficialAccount && !place.contains('#');
    format!("{place}{}", if is_carried { "#" } else { "" })
}

/// Whether the same code and state may succeed later: WeChat was not called, or it was busy. The
/// page then offers its own address, which the browser knows; no page contains the code.
fn is_worth_a_reload(error: &BrowserError) -> bool {
    let BrowserError::SignIn(error) = error else { return false };
    match error {
        SignInError::Throttled { retry_after_seconds } => *retry_after_seconds <= LONGEST_WAIT_SECONDS,
        SignInError::StoreUnavailable | SignInError::WeChatBusy => true,
        _ => false,
    }
}

/// Whether a callback that was used before is refused with this error.
const fn is_of_used_state(error: &BrowserError) -> bool {
    matches!(
        error,
        BrowserError::StateUnknown
            | BrowserError::SignIn(
                SignInError::CodeInvalid | SignInError::CodeAlreadyUsed | SignInError::CodeOfAnother
            )
    )
}
