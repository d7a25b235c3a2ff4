//! One code becomes one session, whichever way it came: exchanged once, remembered for a while, shared with other nodes.
//!
//! What a code is exchanged for, and what its client is given, is [`Granted`]'s to say: tokens for a mini program, a cookie
//! for a browser.

use std::net::IpAddr;
use std::sync::Arc;

use http::header;
use http::request::Parts;

use super::claim::{Kept, Ticket};
use super::error::LoginError;
use super::replay::{Caller, CodeKey, Flight, Outcome, Remembered, Replay, Turn};
use super::{Dependencies, Login};
use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId};
use crate::session::SessionError;
use crate::wechat::{App, Code};

/// A login that may be worth an exchange.
pub(super) struct Attempt {
    /// Name of an app that the gateway serves.
    pub(super) app: Arc<str>,
    pub(super) key: CodeKey,
    pub(super) code: Code,
    pub(super) client: IpAddr,
    pub(super) caller: Caller,
    /// What the client calls itself.
    pub(super) user_agent: Option<String>,
    /// Where several nodes may be sent the code.
    pub(super) ticket: Option<Ticket>,
    /// The session that the browser holds now.
    pub(super) before: Option<SessionId>,
    /// Whether a page of another site may have led somebody's browser to this. It is then not taken from what others at their
    /// address may do.
    pub(super) is_led: bool,
    /// Whether a failure is no guess of the client's: the code may be somebody else's doing, or was sent before.
    pub(super) is_blameless: bool,
}

/// What a code becomes.
pub(super) trait Granted: Remembered + Send + Sync + 'static {
    /// The session in it.
    type Session: Kept + Send + Sync;

    /// Where answers of this kind are remembered.
    fn memory(login: &Login) -> &Arc<Replay<Self>>;

    /// Asks WeChat, and opens a session for whoever it says signed in.
    fn exchange(
        login: &Login,
        app: &App,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<(Identity, Self::Session), LoginError>> + Send;

    /// What the client is given of a session.
    fn of(login: &Login, identity: Identity, session: Self::Session) -> Outcome<Self>;

    /// The same of an earlier request, good now.
    fn renew(self, login: &Login) -> Outcome<Self>;

    /// Makes sure that a session remembered is one still: one that was ended since must not come back to life.
    fn check(login: &Login, session: &Self::Session) -> impl Future<Output = Result<(), LoginError>> + Send;

    /// Who signed in, and the session.
    fn parts(&self) -> (&Identity, &Self::Session);
}

impl Login {
    /// A login of an app with a code. `caller` are the fields that tell one client from another.
    pub(super) fn attempt<G: Granted>(
        &self,
        app: &App,
        code: Code,
        caller: &[&[u8]],
        request: &Parts,
        client: IpAddr,
    ) -> Result<Attempt, LoginError> {
        let is_shared = self.parts.sessions.core().store().is_shared();
        let ticket = is_shared.then(|| Ticket::new(&app.appid, &code, caller));
        let user_agent = request.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let memory = G::memory(self);
        Ok(Attempt {
            app: app.name.clone(),
            key: memory.code(&app.appid, &code),
            caller: memory.caller(caller),
            ticket: ticket.transpose().map_err(|_| LoginError::Internal)?,
            user_agent: user_agent.map(str::to_owned),
            code,
            client,
            before: None,
            is_led: false,
            is_blameless: false,
        })
    }

    /// Exchanges the code, or gives the answer it got before.
    pub(super) async fn sign_in<G: Granted>(
        self: &Arc<Self>,
        attempt: Attempt,
        now: Timestamp,
    ) -> Outcome<G> {
        if !attempt.is_led {
            self.parts.throttle.check_login_across_nodes(attempt.client).await?;
        }
        match G::memory(self).turn(attempt.key, attempt.caller, now) {
            Turn::First(flight) => {
                let landing = flight.landing();
                // Its own task: the code is spent once WeChat saw it, whether or not this client waits for the answer.
                tokio::spawn(Arc::clone(self).fly(attempt, flight));
                landing.wait().await
            }
            Turn::UnderWay(landing) => landing.wait().await?.renew(self),
            Turn::Known(Ok(grant)) => {
                let (_, session) = grant.parts();
                G::check(self, session).await?;
                grant.renew(self)
            }
            Turn::Known(Err(error)) => {
                self.note_failure(&attempt, &error);
                Err(error)
            }
            Turn::OtherCaller => {
                self.note_failure(&attempt, &LoginError::CodeOfAnother);
                Err(LoginError::CodeOfAnother)
            }
        }
    }

    /// Makes the exchange and lets everybody know who waits for it.
    async fn fly<G: Granted>(self: Arc<Self>, attempt: Attempt, flight: Flight<G>) {
        let outcome = self.open_session(&attempt).await;
        match &outcome {
            Ok(_) => self.parts.throttle.record_login_success(attempt.client),
            Err(error) => self.note_failure(&attempt, error),
        }
        flight.land(outcome, self.parts.clock.now());
    }

    fn note_failure(&self, attempt: &Attempt, error: &LoginError) {
        if error.is_failed_guess() && !attempt.is_blameless {
            self.parts.throttle.record_login_failure(attempt.client);
        }
    }

    async fn open_session<G: Granted>(&self, attempt: &Attempt) -> Outcome<G> {
        // Before WeChat is asked: a code is worth one exchange, which would be lost.
        if !self.parts.sessions.core().is_available() {
            return Err(LoginError::StoreUnavailable);
        }
        match &attempt.ticket {
            None => self.exchange(attempt).await,
            Some(ticket) => self.exchange_once(attempt, ticket).await,
        }
    }

    /// Exchanges the code with WeChat, whoever else may do so.
    pub(super) async fn exchange<G: Granted>(&self, attempt: &Attempt) -> Outcome<G> {
        let Dependencies { wechat, throttle, .. } = &self.parts;
        let app = wechat.app(&attempt.app).ok_or(LoginError::AppUnknown)?;

        throttle.check_exchange().await?;
        let (identity, session) = G::exchange(self, app, attempt).await?;
        G::of(self, identity, session)
    }
}

/// A session that could not be opened, once the code was spent.
pub(super) fn not_kept(error: SessionError) -> LoginError {
    match LoginError::from(error) {
        LoginError::StoreUnavailable => LoginError::SessionNotKept,
        LoginError::UserBlocked => LoginError::UserBlocked,
        // One that ends before it begins is nothing that a client can do anything about.
        _ => LoginError::Internal,
    }
}
