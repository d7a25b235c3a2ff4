//! What a browser's login gives: a session, held by a cookie.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId, Subject};
use crate::session::{NewSession, OpenedInBrowser, SessionCookie, SessionError};
use crate::sign_in::claim::Kept;
use crate::sign_in::error::LoginError;
use crate::sign_in::flow::{Attempt, Granted, not_kept};
use crate::sign_in::replay::{Outcome, Remembered, Replay};
use crate::sign_in::{Dependencies, Login};
use crate::wechat::App;

/// What a browser's login gives.
#[derive(Clone, Debug)]
pub(in crate::sign_in) struct BrowserGrant {
    pub(super) identity: Identity,
    pub(super) session: OpenedInBrowser,
}

impl Granted for BrowserGrant {
    type Session = OpenedInBrowser;

    fn memory(login: &Login) -> &Arc<Replay<Self>> {
        &login.replay_in_browser
    }

    async fn exchange(
        login: &Login,
        app: &App,
        attempt: &Attempt,
    ) -> Result<(Identity, OpenedInBrowser), LoginError> {
        let Dependencies { wechat, sessions, clock, .. } = &login.parts;
        let exchange = wechat.exchange_page_code(app, &attempt.code).await?;

        let subject = Subject { appid: app.appid.clone(), openid: exchange.openid };
        let identity = Identity { subject, unionid: exchange.unionid };
        let new = NewSession {
            identity: &identity,
            session_key: None,
            user_agent: attempt.user_agent.as_deref(),
            profile: exchange.profile.as_ref(),
        };
        let opened = sessions.open_in_browser(new, attempt.before.as_ref(), clock.now()).await;
        Ok((identity, opened.map_err(not_kept)?))
    }

    fn of(_: &Login, identity: Identity, session: OpenedInBrowser) -> Outcome<Self> {
        Ok(Self { identity, session })
    }

    fn renew(self, _: &Login) -> Outcome<Self> {
        Ok(self)
    }

    async fn check(login: &Login, session: &OpenedInBrowser) -> Result<(), LoginError> {
        let Dependencies { sessions, clock, .. } = &login.parts;
        match sessions.check_cookie(&session.cookie, clock.now()).await {
            Ok(_) => Ok(()),
            Err(SessionError::Ended) => Err(LoginError::CodeAlreadyUsed),
            Err(error) => Err(error.into()),
        }
    }

    fn parts(&self) -> (&Identity, &OpenedInBrowser) {
        (&self.identity, &self.session)
    }
}

impl Remembered for BrowserGrant {
    fn good_until(&self) -> Timestamp {
        self.session.expires_at
    }
}

impl Kept for OpenedInBrowser {
    fn parts(&self) -> (&SessionId, &str, Timestamp) {
        (&self.id, self.cookie.expose(), self.expires_at)
    }

    fn from_parts(id: SessionId, credential: &str, expires_at: Timestamp) -> Option<Self> {
        Some(Self { id, cookie: SessionCookie::parse(credential).ok()?, expires_at })
    }
}
