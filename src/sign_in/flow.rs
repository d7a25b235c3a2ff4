//! One code becomes one session, whichever way it came: exchanged once, remembered for a while, shared with other nodes.
//!
//! What a code is exchanged for, and what its client is given, is [`SignInFlow`]'s to say: tokens for a mini program, a cookie
//! for a browser.

use std::net::IpAddr;
use std::sync::Arc;

use http::header;
use http::request::Parts;

use super::claim::{CodeClaim, SessionHandle};
use super::error::SignInError;
use super::replay::{ClientKey, CodeKey, CodeMemory, Expiring, Flight, SignInResult, Turn};
use super::{SignInDependencies, SignInService};
use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId};
use crate::session::SessionError;
use crate::wechat::{App, Code};

/// A login that may be worth an exchange.
pub(super) struct SignInAttempt {
    /// Name of an app that the gateway serves.
    pub(super) app: Arc<str>,
    pub(super) key: CodeKey,
    pub(super) code: Code,
    pub(super) client: IpAddr,
    pub(super) client_key: ClientKey,
    /// What the client calls itself.
    pub(super) user_agent: Option<String>,
    /// Where several nodes may be sent the code.
    pub(super) claim: Option<CodeClaim>,
    /// The session that the browser holds now.
    pub(super) before: Option<SessionId>,
    /// Whether a page of another site may have led somebody's browser to this. It is then not taken from what others at their
    /// address may do.
    pub(super) is_led: bool,
    /// Whether a failure is no guess of the client's: the code may be somebody else's doing, or was sent before.
    pub(super) is_blameless: bool,
}

/// What a code becomes.
pub(super) trait SignInFlow: Expiring + Send + Sync + 'static {
    /// The session in it.
    type Session: SessionHandle + Send + Sync;

    /// Where answers of this kind are remembered.
    fn memory(service: &SignInService) -> &Arc<CodeMemory<Self>>;

    /// Asks WeChat, and opens a session for whoever it says signed in.
    fn exchange(
        service: &SignInService,
        app: &App,
        attempt: &SignInAttempt,
    ) -> impl Future<Output = Result<(Identity, Self::Session), SignInError>> + Send;

    /// What the client is given of a session.
    fn of(service: &SignInService, identity: Identity, session: Self::Session) -> SignInResult<Self>;

    /// The same of an earlier request, good now.
    fn renew(self, service: &SignInService) -> SignInResult<Self>;

    /// Makes sure that a session remembered is one still: one that was ended since must not come back to life.
    fn check(
        service: &SignInService,
        session: &Self::Session,
    ) -> impl Future<Output = Result<(), SignInError>> + Send;

    /// Who signed in, and the session.
    fn parts(&self) -> (&Identity, &Self::Session);
}

impl SignInService {
    /// A login of an app with a code. `client_fields` are the fields that tell one client from another.
    pub(super) fn attempt<G: SignInFlow>(
        &self,
        app: &App,
        code: Code,
        client_fields: &[&[u8]],
        request: &Parts,
        client: IpAddr,
    ) -> Result<SignInAttempt, SignInError> {
        let is_shared = self.deps.sessions.core().store().is_shared();
        let claim = is_shared.then(|| CodeClaim::new(&app.appid, &code, client_fields));
        let user_agent = request.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let memory = G::memory(self);
        Ok(SignInAttempt {
            app: app.name.clone(),
            key: memory.code(&app.appid, &code),
            client_key: memory.client(client_fields),
            claim: claim.transpose().map_err(|_| SignInError::Internal)?,
            user_agent: user_agent.map(str::to_owned),
            code,
            client,
            before: None,
            is_led: false,
            is_blameless: false,
        })
    }

    /// Exchanges the code, or gives the answer it got before.
    pub(super) async fn sign_in<G: SignInFlow>(
        self: &Arc<Self>,
        attempt: SignInAttempt,
        now: Timestamp,
    ) -> SignInResult<G> {
        if !attempt.is_led {
            self.deps.throttle.check_login_across_nodes(attempt.client).await?;
        }
        match G::memory(self).turn(attempt.key, attempt.client_key, now) {
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
            Turn::OtherClient => {
                self.note_failure(&attempt, &SignInError::CodeOfAnother);
                Err(SignInError::CodeOfAnother)
            }
        }
    }

    /// Makes the exchange and lets everybody know who waits for it.
    async fn fly<G: SignInFlow>(self: Arc<Self>, attempt: SignInAttempt, flight: Flight<G>) {
        let outcome = self.open_session(&attempt).await;
        match &outcome {
            Ok(_) => self.deps.throttle.record_login_success(attempt.client),
            Err(error) => self.note_failure(&attempt, error),
        }
        flight.land(outcome, self.deps.clock.now());
    }

    fn note_failure(&self, attempt: &SignInAttempt, error: &SignInError) {
        if error.is_failed_guess() && !attempt.is_blameless {
            self.deps.throttle.record_login_failure(attempt.client);
        }
    }

    async fn open_session<G: SignInFlow>(&self, attempt: &SignInAttempt) -> SignInResult<G> {
        // Before WeChat is asked: a code is worth one exchange, which would be lost.
        if !self.deps.sessions.core().is_available() {
            return Err(SignInError::StoreUnavailable);
        }
        match &attempt.claim {
            None => self.exchange(attempt).await,
            Some(claim) => self.exchange_once(attempt, claim).await,
        }
    }

    /// Exchanges the code with WeChat, whoever else may do so.
    pub(super) async fn exchange<G: SignInFlow>(&self, attempt: &SignInAttempt) -> SignInResult<G> {
        let SignInDependencies { wechat, throttle, .. } = &self.deps;
        let app = wechat.app(&attempt.app).ok_or(SignInError::AppUnknown)?;

        throttle.check_exchange().await?;
        let (identity, session) = G::exchange(self, app, attempt).await?;
        G::of(self, identity, session)
    }
}

/// A session that could not be opened, once the code was spent.
pub(super) fn open_failed(error: SessionError) -> SignInError {
    match SignInError::from(error) {
        SignInError::StoreUnavailable => SignInError::SessionNotKept,
        SignInError::UserBlocked => SignInError::UserBlocked,
        // One that ends before it begins is nothing that a client can do anything about.
        _ => SignInError::Internal,
    }
}
