//! The grant of a browser's sign-in: a session that a cookie identifies.

use crate::clock::Timestamp;
use crate::identity::{Identity, SessionId, Subject};
use crate::session::{NewSession, OpenedBrowserSession, SessionCookie, SessionError};
use crate::sign_in::deps::SignInDependencies;
use crate::sign_in::error::SignInError;
use crate::sign_in::flow::{SignInAttempt, SignInFlow, open_failed, require_unionid};
use crate::sign_in::once::{Expiring, SessionHandle, SignInResult, SignedIn};
use crate::wechat::App;

/// The identity of the user, and the session that was opened.
#[derive(Clone, Debug)]
pub(in crate::sign_in) struct BrowserGrant {
    pub(super) identity: Identity,
    pub(super) session: OpenedBrowserSession,
}

impl BrowserGrant {
    /// Who signed in.
    pub(in crate::sign_in) const fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl SignInFlow for BrowserGrant {
    type Session = OpenedBrowserSession;

    async fn exchange(
        deps: &SignInDependencies,
        app: &App,
        attempt: &SignInAttempt,
    ) -> SignInResult<SignedIn<OpenedBrowserSession>> {
        let SignInDependencies { wechat, sessions, clock, .. } = deps;
        let exchange = wechat.exchange_page_code(app, &attempt.code).await?;
        attempt.check_user(&exchange.openid)?;

        let subject = Subject { appid: app.appid.clone(), openid: exchange.openid };
        let identity = Identity { subject, unionid: require_unionid(app, exchange.unionid)? };
        let new = NewSession {
            identity: &identity,
            session_key: None,
            user_agent: attempt.user_agent.as_deref(),
            profile: exchange.profile.as_ref(),
        };
        let opened = sessions.open_in_browser(new, attempt.before.as_ref(), clock.now()).await;
        Ok(SignedIn { identity, session: opened.map_err(open_failed)? })
    }

    fn grant(_: &SignInDependencies, signed_in: SignedIn<OpenedBrowserSession>) -> SignInResult<Self> {
        Ok(Self { identity: signed_in.identity, session: signed_in.session })
    }

    fn renew(self, _: &SignInDependencies) -> SignInResult<Self> {
        Ok(self)
    }

    async fn check(deps: &SignInDependencies, session: &OpenedBrowserSession) -> SignInResult<()> {
        let SignInDependencies { sessions, clock, .. } = deps;
        match sessions.check_cookie(&session.cookie, clock.now()).await {
            Ok(_) => Ok(()),
            Err(SessionError::Ended) => Err(SignInError::CodeAlreadyUsed),
            Err(error) => Err(error.into()),
        }
    }

    fn session(&self) -> &OpenedBrowserSession {
        &self.session
    }
}

impl Expiring for BrowserGrant {
    fn good_until(&self) -> Timestamp {
        self.session.expires_at
    }
}

impl SessionHandle for OpenedBrowserSession {
    fn fields(&self) -> (&SessionId, &str, Timestamp) {
        (&self.id, self.cookie.expose(), self.expires_at)
    }

    fn from_fields(id: SessionId, credential: &str, expires_at: Timestamp) -> Option<Self> {
        Some(Self { id, cookie: SessionCookie::parse(credential).ok()?, expires_at })
    }
}
