//! A mini program's login: a code from `wx.login` becomes a session and its tokens.

use std::net::IpAddr;
use std::sync::Arc;

use super::claim::Ticket;
use super::error::LoginError;
use super::replay::{Caller, CodeKey, Flight, Turn};
use super::{Dependencies, Login};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::{Identity, Subject};
use crate::session::{NewSession, Opened, SessionError};
use crate::token::Minted;
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
}

/// What a login or a refresh gives.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) token: Arc<Minted>,
    pub(super) identity: Identity,
    pub(super) session: Opened,
}

/// How a login ended, as everybody is told who sent its code.
pub(super) type Outcome = Result<Grant, LoginError>;

impl Login {
    /// Finds the mini program of this name; the name may be left out where there is one only.
    pub(super) fn choose_app(&self, name: Option<&str>) -> Result<&App, LoginError> {
        let is_mini_program = |app: &&App| app.kind == AppKind::MiniProgram;
        if let Some(name) = name {
            let app = self.parts.wechat.app(name).filter(is_mini_program);
            return app.ok_or(LoginError::AppUnknown);
        }
        let mut apps = self.parts.wechat.apps().filter(is_mini_program);
        match (apps.next(), apps.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(LoginError::AppMissing),
        }
    }

    /// Exchanges the code, or gives the answer it got before.
    pub(super) async fn sign_in(self: &Arc<Self>, attempt: Attempt, now: Timestamp) -> Outcome {
        self.parts.throttle.admit_login_everywhere(attempt.client).await?;
        match self.replay.turn(attempt.key, attempt.caller, now) {
            Turn::First(flight) => {
                let landing = flight.landing();
                // Its own task: the code is spent once WeChat saw it, whether or not this client waits for the answer.
                tokio::spawn(Arc::clone(self).fly(attempt, flight));
                landing.wait().await
            }
            Turn::UnderWay(landing) => self.renew(landing.wait().await?),
            Turn::Known(Ok(grant)) => {
                self.check_remembered(&grant.session).await?;
                self.renew(grant)
            }
            Turn::Known(Err(error)) => {
                if error.is_failed_guess() {
                    self.parts.throttle.login_failed(attempt.client);
                }
                Err(error)
            }
            Turn::OtherCaller => {
                self.parts.throttle.login_failed(attempt.client);
                Err(LoginError::CodeOfAnother)
            }
        }
    }

    /// Makes the exchange and lets everybody know who waits for it.
    async fn fly(self: Arc<Self>, attempt: Attempt, flight: Flight) {
        let outcome = self.open_session(&attempt).await;
        match &outcome {
            Ok(_) => self.parts.throttle.login_succeeded(attempt.client),
            Err(error) if error.is_failed_guess() => self.parts.throttle.login_failed(attempt.client),
            Err(_) => {}
        }
        flight.land(outcome, self.parts.clock.now());
    }

    async fn open_session(&self, attempt: &Attempt) -> Outcome {
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
    pub(super) async fn exchange(&self, attempt: &Attempt) -> Outcome {
        let Dependencies { wechat, sessions, throttle, clock, .. } = &self.parts;
        let app = wechat.app(&attempt.app).ok_or(LoginError::AppUnknown)?;

        throttle.admit_exchange().await?;
        let exchange = wechat.exchange_code(app, &attempt.code).await?;

        let subject = Subject { appid: app.appid.clone(), openid: exchange.openid };
        let identity = Identity { subject, unionid: exchange.unionid };
        let session_key = exchange.session_key.into_bytes();
        let new = NewSession {
            identity: &identity,
            session_key: Some(&session_key),
            user_agent: attempt.user_agent.as_deref(),
            profile: None,
        };
        let session = sessions.open(new, clock.now()).await.map_err(not_kept)?;
        self.grant(identity, session)
    }

    /// Mints the token of a session.
    pub(super) fn grant(&self, identity: Identity, session: Opened) -> Outcome {
        let Dependencies { tokens, clock, entropy, .. } = &self.parts;
        let token = tokens.mint(&identity, &session.id, session.expires_at, clock.now(), &**entropy)?;
        Ok(Grant { token: Arc::new(token), identity, session })
    }

    /// The grant of an earlier request, with a token that is good now: a reload since may have taken away the key that
    /// signed it, and the code cannot be exchanged again.
    fn renew(&self, grant: Grant) -> Outcome {
        let Dependencies { tokens, clock, .. } = &self.parts;
        if tokens.verify(grant.token.expose(), clock.now()).is_ok() {
            return Ok(grant);
        }
        self.grant(grant.identity, grant.session)
    }

    /// Makes sure that an answer remembered is one still. A session that was ended since must not come back to life, and a
    /// refresh token that was spent since would end it.
    pub(super) async fn check_remembered(&self, session: &Opened) -> Result<(), LoginError> {
        let Dependencies { sessions, clock, .. } = &self.parts;
        if sessions.is_unspent(&session.refresh_token, clock.now()).await? {
            Ok(())
        } else {
            Err(LoginError::CodeAlreadyUsed)
        }
    }
}

/// A session that could not be opened, once the code was spent.
fn not_kept(error: SessionError) -> LoginError {
    match LoginError::from(error) {
        LoginError::StoreUnavailable => LoginError::SessionNotKept,
        LoginError::UserBlocked => LoginError::UserBlocked,
        // One that ends before it begins is nothing that a client can do anything about.
        _ => LoginError::Internal,
    }
}
