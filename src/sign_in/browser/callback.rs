//! The way back from WeChat: the state that left, the browser that left, and a code that becomes a session.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;

use super::browser_cookie::{self, BrowserProof};
use super::endpoint::{Parameter, Query};
use super::state::{Bearer, ClientHash, SignInRecord, SignInState, StoredSignIn};
use super::{BrowserGrant, ReturnTo, session_cookie};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::SessionId;
use crate::page::Action;
use crate::session::SessionError;
use crate::sign_in::error::SignInError;
use crate::sign_in::flow::{self, SignInAttempt};
use crate::sign_in::once::SignInResult;
use crate::sign_in::{SignInAnswer, SignInService};
use crate::wechat::{App, Code};

/// What WeChat's app sends in the place of a code when a person refuses; its documents speak of no code at all.
const REFUSED: &str = "authdeny";
/// Longest wait after which the same way back is worth taking again: WeChat's codes are good for five minutes.
const LONGEST_WAIT_SECONDS: u64 = 60;

/// A browser that came back, and is who left.
struct VerifiedCallback {
    state: SignInState,
    found: StoredSignIn,
    client: ClientHash,
    proof: BrowserProof,
    /// None where the person refused.
    code: Option<Code>,
}

impl SignInService {
    /// Answers `GET /auth/web/{app}/callback`.
    ///
    /// As with every login, an exchange that was begun goes on when the future is dropped: the browser asks again.
    pub(in crate::sign_in) async fn respond_to_callback(
        self: &Arc<Self>,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> SignInAnswer {
        let started = self.deps.clock.instant();
        let Some(app) = self.app_in_path(request) else {
            return self.error_page(&SignInError::NothingToSignInTo, Action::Nothing, request, request_id);
        };
        let mut return_to = ReturnTo::root();
        let result = match self.verify_state(app, request, client, now, &mut return_to).await {
            Ok(arrival) => self.complete_sign_in(app, arrival, &return_to, request, client, now).await,
            Err(error) => Err(error),
        };
        let mut answer = result.unwrap_or_else(|error| {
            let start = self.start_path(app, &return_to);
            let action =
                if is_worth_a_reload(&error) { Action::Reload(&start) } else { Action::Link(&start) };
            self.error_page(&error, action, request, request_id)
        });
        answer.app = Some(app.name.clone());
        self.ended(app.kind, started, &answer, request_id);
        answer
    }

    /// Makes sure that what comes back left from here. Nothing is spent yet: whoever brings a state that is not theirs
    /// takes it from nobody. `return_to` becomes where the person was, once it is known that they are who was there.
    ///
    /// Nothing is counted either before a browser has shown that it left: any page can lead its visitors here with states
    /// that it made up, and would lock out everybody at their addresses. Nobody guesses one of 2^190 states, and a look at the
    /// store is no more than a made-up session's cookie costs.
    async fn verify_state(
        &self,
        app: &App,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
        return_to: &mut ReturnTo,
    ) -> Result<VerifiedCallback, SignInError> {
        let own = self.origins.of(request).ok_or(SignInError::NothingToSignInTo)?;
        let query = Query::of(request);
        let state = match query.one("state") {
            Parameter::Missing => return Err(SignInError::StateMissing),
            Parameter::One(text) => SignInState::parse(text).ok_or(SignInError::StateMalformed)?,
            Parameter::Several => return Err(SignInError::StateMalformed),
        };
        let code = match query.one("code") {
            Parameter::Missing | Parameter::One(REFUSED) => None,
            Parameter::One(text) => Some(Code::parse(text).map_err(|_| SignInError::CodeMalformed)?),
            Parameter::Several => return Err(SignInError::CodeMalformed),
        };
        if !self.deps.store_health.is_available() {
            return Err(SignInError::StoreUnavailable);
        }

        let found = StoredSignIn::look_up(&*self.deps.store, &state, now).await?;
        let sign_in = &found.sign_in;
        if *sign_in.app != *app.name || sign_in.appid != app.appid.as_str() {
            return Err(SignInError::StateOfOtherApp);
        }
        if sign_in.origin != own.as_str() {
            return Err(SignInError::StateOfOtherOrigin);
        }
        let client_hash = state.client(client, &request.headers);
        let proof = browser_cookie::check(&request.headers, &sign_in.browser, app.browser_check);
        // The place may be nobody else's business. Of a browser that has lost its cookie, as WeChat's does, address and user
        // agent must do; one that shows another cookie is another browser.
        let is_theirs = match &proof {
            Ok(_) => true,
            Err(error) => *error == SignInError::BrowserCookieMissing && sign_in.is_started_by(client_hash),
        };
        if is_theirs {
            // Read anew: a reload of the configuration may have taken the place off the list.
            *return_to = self.return_to(Some(&sign_in.return_to), own);
        }
        // First: the cookie has ended with it. Whoever has both may have been let in by it, see below.
        let is_used_here = matches!(proof, Ok(BrowserProof::Cookie)) && sign_in.has_code();
        if sign_in.is_expired(now) && !is_used_here {
            return Err(SignInError::StateUnknown);
        }
        let proof = proof?;
        if is_cross_site(proof, sign_in) {
            self.deps.throttle.check_cross_site(client)?;
        } else {
            self.deps.throttle.check_login(client)?;
        }
        Ok(VerifiedCallback { state, found, client: client_hash, proof, code })
    }

    /// Lets the person in and leads them to where they were.
    ///
    /// Who taps twice, or goes back to WeChat's page and agrees once more, comes back with a state that is used, and mostly
    /// with another code. They are signed in already, and are led on; their session stays as it is. Only in the browser that
    /// began, so that the place is the person's own.
    async fn complete_sign_in(
        self: &Arc<Self>,
        app: &App,
        arrival: VerifiedCallback,
        return_to: &ReturnTo,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<SignInAnswer, SignInError> {
        let proof = arrival.proof;
        let is_repeated = arrival.found.sign_in.has_code() && proof == BrowserProof::Cookie;
        match self.exchange_code(app, arrival, request, client, now).await {
            Ok(grant) => {
                let answer = self.redirect_back(app, &grant, &self.target_after(app, proof, return_to))?;
                Ok(answer.of(&app.name, &grant.identity))
            }
            Err(error)
                if is_repeated
                    && is_of_used_state(&error)
                    && self.is_signed_in(&[app], &request.headers, now).await? =>
            {
                SignInAnswer::see_other("signed_in_already", &with_own_fragment(app, return_to.location()))
            }
            Err(error) => Err(error),
        }
    }

    /// Spends the state, and exchanges the code or gives the answer it got before.
    async fn exchange_code(
        self: &Arc<Self>,
        app: &App,
        arrival: VerifiedCallback,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
    ) -> SignInResult<BrowserGrant> {
        let VerifiedCallback { state, found, client: client_hash, proof, code } = arrival;
        let code = code.ok_or(SignInError::PersonRefused)?;
        let before = self.session_before(&request.headers, now).await?;
        let store = &self.deps.store;
        let is_cross_site = is_cross_site(proof, &found.sign_in);
        let is_repeated = found.sign_in.has_code();
        let bearer = Bearer { client: client_hash, is_browser: proof == BrowserProof::Cookie };
        found.bind(&**store, &state, &code, bearer, now).await?;

        // The record has said who may bring the code again. A browser may show its cookie the one time and not the other.
        let client_fields = [&b"browser"[..], &state.name()];
        let mut attempt = SignInAttempt::new(app, code, &client_fields, request, client);
        attempt.before = before;
        attempt.is_cross_site = is_cross_site;
        // Without the cookie somebody else may have begun, and made the code up. With it no page can have: it knows no state.
        attempt.is_blameless = is_repeated || proof == BrowserProof::Nothing;
        flow::sign_in(&self.deps, &self.browser_codes, attempt).await
    }

    /// The session that the browser holds now, which ends when it gets another.
    async fn session_before(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<SessionId>, SignInError> {
        let Some(cookie) = session_cookie::of(headers) else { return Ok(None) };
        match self.deps.sessions.check_cookie(&cookie, now).await {
            Ok(session) => Ok(Some(session.id)),
            Err(SessionError::Ended | SessionError::Blocked) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a browser goes that is let in: to where it was, by way of the sign-in page where it has shown no cookie.
    fn target_after(&self, app: &App, proof: BrowserProof, return_to: &ReturnTo) -> String {
        match proof {
            BrowserProof::Cookie => return_to.location().to_owned(),
            BrowserProof::Nothing => self.sign_in_path_with_cookie(app, return_to),
        }
    }

    /// Leads a person who signed in to a place. The cookie is new, whatever the browser had before.
    fn redirect_back(
        &self,
        app: &App,
        grant: &BrowserGrant,
        place: &str,
    ) -> Result<SignInAnswer, SignInError> {
        let session = &grant.session;
        let cookie = session_cookie::set(&session.cookie, session.expires_at, self.deps.clock.now());
        let answer = SignInAnswer::see_other("ok", &with_own_fragment(app, place))?;
        Ok(answer.with_cookie(cookie.ok_or(SignInError::Internal)?))
    }
}

/// Whether a page of another site may be why a browser comes back: one that need not show that it began, or was led to begin.
fn is_cross_site(proof: BrowserProof, sign_in: &SignInRecord) -> bool {
    proof == BrowserProof::Nothing || sign_in.is_cross_site()
}

/// A place with a fragment of its own. A browser carries WeChat's `#wechat_redirect` on to one without, RFC 9110 §10.2.2, and
/// pages that find their way by it would be lost.
fn with_own_fragment(app: &App, place: &str) -> String {
    let is_carried = app.kind == AppKind::OfficialAccount && !place.contains('#');
    format!("{place}{}", if is_carried { "#" } else { "" })
}

/// Whether code and state may be as good as before in a while: nothing was asked of WeChat, or it was busy. A page offers its
/// own address then, which the browser knows; the code stands in no page.
fn is_worth_a_reload(error: &SignInError) -> bool {
    match error {
        SignInError::Throttled { retry_after_seconds } => *retry_after_seconds <= LONGEST_WAIT_SECONDS,
        SignInError::StoreUnavailable | SignInError::WeChatBusy => true,
        _ => false,
    }
}

/// Whether a way back that was taken before is refused so.
const fn is_of_used_state(error: &SignInError) -> bool {
    matches!(
        error,
        SignInError::StateUnknown
            | SignInError::CodeInvalid
            | SignInError::CodeAlreadyUsed
            | SignInError::CodeOfAnother
    )
}
