//! The way back from WeChat: the state that left, the browser that left, and a code that becomes a session.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;

use super::browser::{self, Proof};
use super::endpoint::{Parameter, Query};
use super::state::{Found, State};
use super::{BrowserGrant, ReturnTo, cookie};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::SessionId;
use crate::login::error::LoginError;
use crate::login::replay::{Outcome, caller_address, caller_fields};
use crate::login::{Answer, Login};
use crate::session::SessionError;
use crate::wechat::{App, Code};

/// What WeChat's app sends in the place of a code when a person refuses; its documents speak of no code at all.
const REFUSED: &str = "authdeny";

/// A browser that came back, and is who left.
struct Arrival {
    state: State,
    found: Found,
    proof: Proof,
    /// None where the person refused.
    code: Option<Code>,
    return_to: ReturnTo,
}

impl Login {
    /// Answers `GET /auth/web/{app}/callback`.
    ///
    /// As with every login, an exchange that was begun goes on when the future is dropped: the browser asks again.
    pub(in crate::login) async fn respond_to_callback(
        self: &Arc<Self>,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
        request_id: &str,
    ) -> Answer {
        let started = self.parts.clock.instant();
        let Some(app) = self.app_in_path(request) else {
            return self.tell_refusal(&LoginError::NothingToSignInTo, None, request, request_id);
        };
        let mut return_to = ReturnTo::root();
        let result = match self.receive(app, request, client, now).await {
            Ok(arrival) => {
                return_to = arrival.return_to.clone();
                let place = self.place_for(app, &arrival);
                let grant = self.let_in(app, arrival, request, client, now).await;
                grant.and_then(|grant| Ok((self.lead_back(app, &grant, &place)?, grant)))
            }
            Err(error) => Err(error),
        };
        let mut answer = match result {
            Ok((answer, grant)) => answer.of(&app.name, &grant.identity),
            Err(error) => {
                if error == LoginError::StateUnknown {
                    self.parts.throttle.login_failed(client);
                }
                let retry = self.start_path(app, &return_to);
                self.tell_refusal(&error, Some(&retry), request, request_id)
            }
        };
        answer.app = Some(app.name.clone());
        self.ended(app.kind, started, &answer, request_id);
        answer
    }

    /// Makes sure that what comes back left from here. Nothing is spent yet: whoever brings a state that is not theirs
    /// takes it from nobody.
    async fn receive(
        &self,
        app: &App,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<Arrival, LoginError> {
        self.parts.throttle.admit_login(client)?;
        let own = self.origins.of(request).ok_or(LoginError::NothingToSignInTo)?;
        let query = Query::of(request);
        let state = match query.one("state") {
            Parameter::Missing => return Err(LoginError::StateMissing),
            Parameter::One(text) => State::parse(text).ok_or(LoginError::StateMalformed)?,
            Parameter::Several => return Err(LoginError::StateMalformed),
        };
        let code = match query.one("code") {
            Parameter::Missing | Parameter::One(REFUSED) => None,
            Parameter::One(text) => Some(Code::parse(text).map_err(|_| LoginError::CodeMalformed)?),
            Parameter::Several => return Err(LoginError::CodeMalformed),
        };
        let core = self.parts.sessions.core();
        if !core.is_available() {
            return Err(LoginError::StoreUnavailable);
        }

        let found = Found::look_up(&**core.store(), &state, now).await?;
        let sign_in = &found.sign_in;
        if *sign_in.app != *app.name || sign_in.appid != app.appid.as_str() {
            return Err(LoginError::StateOfOtherApp);
        }
        if sign_in.origin != own.as_str() {
            return Err(LoginError::StateOfOtherOrigin);
        }
        let proof = browser::check(&request.headers, &sign_in.browser, app.browser_check)?;
        // Read anew: a reload may have taken the place off the list.
        let return_to = self.return_to(Some(&sign_in.return_to), own);
        Ok(Arrival { state, found, proof, code, return_to })
    }

    /// Spends the state, and exchanges the code or gives the answer it got before.
    async fn let_in(
        self: &Arc<Self>,
        app: &App,
        arrival: Arrival,
        request: &Parts,
        client: IpAddr,
        now: Timestamp,
    ) -> Outcome<BrowserGrant> {
        let Arrival { state, found, proof, code, .. } = arrival;
        let code = code.ok_or(LoginError::PersonRefused)?;
        let before = self.session_before(&request.headers, now).await?;
        let store = self.parts.sessions.core().store();
        found.bind(&**store, &state, &code, now).await?;

        let name = state.name();
        let address = caller_address(client);
        let caller = match proof {
            // The browser is known, wherever it asks from: its second request may take another way.
            Proof::Cookie => vec![&b"browser"[..], &name],
            // Nothing else tells it from somebody who saw its address bar.
            Proof::Nothing => {
                let fields = caller_fields(&address, &request.headers);
                [&b"client"[..], &name].into_iter().chain(fields).collect()
            }
        };
        let mut attempt = self.attempt::<BrowserGrant>(app, code, &caller, request, client)?;
        attempt.before = before;
        self.sign_in::<BrowserGrant>(attempt, now).await
    }

    /// The session that the browser holds now, which ends when it gets another.
    async fn session_before(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<SessionId>, LoginError> {
        let Some(cookie) = cookie::session(headers) else { return Ok(None) };
        match self.parts.sessions.check_cookie(&cookie, now).await {
            Ok(session) => Ok(Some(session.id)),
            Err(SessionError::Ended | SessionError::Blocked) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a browser goes that is let in: to where it was, by way of the sign-in page where it has shown no cookie.
    fn place_for(&self, app: &App, arrival: &Arrival) -> String {
        match arrival.proof {
            Proof::Cookie => arrival.return_to.location().to_owned(),
            Proof::Nothing => self.way_with_cookie(app, &arrival.return_to),
        }
    }

    /// Leads a person who signed in to a place. The cookie is new, whatever the browser had before.
    fn lead_back(&self, app: &App, grant: &BrowserGrant, place: &str) -> Result<Answer, LoginError> {
        let session = &grant.session;
        let cookie = cookie::set_session(&session.cookie, session.expires_at, self.parts.clock.now());
        // A browser carries WeChat's `#wechat_redirect` on to a place without a fragment, RFC 9110 §10.2.2, and pages that
        // find their way by it would be lost.
        let is_carried = app.kind == AppKind::OfficialAccount && !place.contains('#');
        let answer = Answer::see_other("ok", &format!("{place}{}", if is_carried { "#" } else { "" }))?;
        Ok(answer.with_cookie(cookie.ok_or(LoginError::Internal)?))
    }
}
