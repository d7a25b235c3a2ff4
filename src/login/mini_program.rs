//! A mini program's login: a code from `wx.login` becomes a token.

use std::net::IpAddr;
use std::sync::Arc;

use super::error::LoginError;
use super::replay::{Caller, CodeKey, Flight, Turn};
use super::{Dependencies, Login};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::entropy::{self, Entropy};
use crate::identity::{Identity, SessionId, Subject};
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
}

/// What a login gives.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) token: Arc<Minted>,
    pub(super) identity: Identity,
    pub(super) session: SessionId,
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
        match self.replay.turn(attempt.key, attempt.caller, now) {
            Turn::First(flight) => {
                let landing = flight.landing();
                // Its own task: the code is spent once WeChat saw it, whether or not this client waits for the answer.
                tokio::spawn(Arc::clone(self).fly(attempt, flight));
                landing.wait().await
            }
            Turn::UnderWay(landing) => self.renew(landing.wait().await?),
            Turn::Known(Ok(grant)) => self.renew(grant),
            Turn::Known(Err(error)) => {
                if error.is_failed_guess() {
                    self.parts.throttle.login_failed(attempt.client);
                }
                Err(error)
            }
            Turn::OtherCaller => {
                self.parts.throttle.login_failed(attempt.client);
                Err(LoginError::CodeAlreadyUsed)
            }
        }
    }

    /// Makes the exchange and lets everybody know who waits for it.
    async fn fly(self: Arc<Self>, attempt: Attempt, flight: Flight) {
        let outcome = self.exchange(&attempt).await;
        match &outcome {
            Ok(_) => self.parts.throttle.login_succeeded(attempt.client),
            Err(error) if error.is_failed_guess() => self.parts.throttle.login_failed(attempt.client),
            Err(_) => {}
        }
        flight.land(outcome, self.parts.clock.now());
    }

    async fn exchange(&self, attempt: &Attempt) -> Outcome {
        let Dependencies { wechat, tokens, throttle, clock, entropy, .. } = &self.parts;
        let app = wechat.app(&attempt.app).ok_or(LoginError::AppUnknown)?;

        throttle.admit_exchange()?;
        let exchange = wechat.exchange_code(app, &attempt.code).await?;

        let subject = Subject { appid: app.appid.clone(), openid: exchange.openid };
        let identity = Identity { subject, unionid: exchange.unionid };
        let session = new_session(&**entropy)?;
        let token = tokens.mint(&identity, &session, clock.now(), &**entropy)?;
        Ok(Grant { token: Arc::new(token), identity, session })
    }

    /// The grant of an earlier request, with a token that is good now: a reload since may have taken away the key that
    /// signed it, and the code cannot be exchanged again.
    fn renew(&self, grant: Grant) -> Outcome {
        let Dependencies { tokens, clock, entropy, .. } = &self.parts;
        let now = clock.now();
        if tokens.verify(grant.token.expose(), now).is_ok() {
            return Ok(grant);
        }
        let token = tokens.mint(&grant.identity, &grant.session, now, &**entropy)?;
        Ok(Grant { token: Arc::new(token), ..grant })
    }
}

fn new_session(entropy: &dyn Entropy) -> Result<SessionId, LoginError> {
    // base64url is within the alphabet of identifiers.
    SessionId::parse(&entropy::identifier(entropy)?).map_err(|_| LoginError::Internal)
}
