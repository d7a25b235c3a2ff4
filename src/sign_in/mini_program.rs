//! A mini program's login: a code from `wx.login` becomes a session and its tokens.

use std::sync::Arc;

use super::claim::Kept;
use super::error::LoginError;
use super::flow::{Attempt, Granted, not_kept};
use super::replay::{Outcome, Remembered, Replay};
use super::{Dependencies, Login};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::{Identity, SessionId, Subject};
use crate::session::{NewSession, Opened, RefreshToken};
use crate::token::Minted;
use crate::wechat::App;

/// What a login or a refresh gives.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) token: Arc<Minted>,
    pub(super) identity: Identity,
    pub(super) session: Opened,
}

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

    /// Mints the token of a session.
    pub(super) fn grant(&self, identity: Identity, session: Opened) -> Outcome<Grant> {
        let Dependencies { tokens, clock, entropy, .. } = &self.parts;
        let token = tokens.mint(&identity, &session.id, session.expires_at, clock.now(), &**entropy)?;
        Ok(Grant { token: Arc::new(token), identity, session })
    }
}

impl Granted for Grant {
    type Session = Opened;

    fn memory(login: &Login) -> &Arc<Replay<Self>> {
        &login.replay
    }

    async fn exchange(login: &Login, app: &App, attempt: &Attempt) -> Result<(Identity, Opened), LoginError> {
        let Dependencies { wechat, sessions, clock, .. } = &login.parts;
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
        Ok((identity, session))
    }

    fn of(login: &Login, identity: Identity, session: Opened) -> Outcome<Self> {
        login.grant(identity, session)
    }

    /// A reload since may have taken away the key that signed the token, and the code cannot be exchanged again.
    fn renew(self, login: &Login) -> Outcome<Self> {
        let Dependencies { tokens, clock, .. } = &login.parts;
        if tokens.verify(self.token.expose(), clock.now()).is_ok() {
            return Ok(self);
        }
        login.grant(self.identity, self.session)
    }

    /// Also a refresh token that was spent since is no answer: it would end the session.
    async fn check(login: &Login, session: &Opened) -> Result<(), LoginError> {
        let Dependencies { sessions, clock, .. } = &login.parts;
        if sessions.is_unspent(&session.refresh_token, clock.now()).await? {
            Ok(())
        } else {
            Err(LoginError::CodeAlreadyUsed)
        }
    }

    fn parts(&self) -> (&Identity, &Opened) {
        (&self.identity, &self.session)
    }
}

impl Remembered for Grant {
    fn good_until(&self) -> Timestamp {
        self.token.expires_at
    }
}

impl Kept for Opened {
    fn parts(&self) -> (&SessionId, &str, Timestamp) {
        (&self.id, self.refresh_token.expose(), self.expires_at)
    }

    fn from_parts(id: SessionId, credential: &str, expires_at: Timestamp) -> Option<Self> {
        Some(Self { id, refresh_token: RefreshToken::parse(credential).ok()?, expires_at })
    }
}
