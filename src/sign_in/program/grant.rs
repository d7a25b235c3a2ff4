//! What a program gets, a mini program or a page of another origin: a session's access token and
//! refresh token.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::{Identity, OpenId, Profile, SessionId, Subject, UnionId};
use crate::session::{NewSession, OpenedSession, RefreshToken};
use crate::sign_in::deps::SignInDependencies;
use crate::sign_in::error::SignInError;
use crate::sign_in::flow::{SignInAttempt, SignInFlow, open_failed, require_unionid};
use crate::sign_in::once::{Expiring, SessionHandle, SignInResult, SignedIn};
use crate::token::Minted;
use crate::wechat::{App, CodeExchange, PageExchange, SessionKey};

/// What a login or a refresh gives.
#[derive(Clone, Debug)]
pub(in crate::sign_in) struct TokenGrant {
    pub(in crate::sign_in) token: Arc<Minted>,
    pub(in crate::sign_in) identity: Identity,
    pub(in crate::sign_in) session: OpenedSession,
}

impl TokenGrant {
    /// Mints the token of a session.
    pub(in crate::sign_in) fn mint(
        deps: &SignInDependencies,
        identity: Identity,
        session: OpenedSession,
    ) -> SignInResult<Self> {
        let SignInDependencies { tokens, clock, entropy, .. } = deps;
        let token = tokens.mint(&identity, &session.id, session.expires_at, clock.now(), &**entropy)?;
        Ok(Self { token: Arc::new(token), identity, session })
    }
}

/// What WeChat says of a user, to a mini program, an official account or a mobile app.
struct ExchangedUser {
    openid: OpenId,
    unionid: Option<UnionId>,
    /// Of a mini program alone.
    session_key: Option<SessionKey>,
    /// Of an official account alone, if the page asked for it.
    profile: Option<Profile>,
}

impl ExchangedUser {
    async fn ask(deps: &SignInDependencies, app: &App, attempt: &SignInAttempt) -> SignInResult<Self> {
        if app.kind == AppKind::MiniProgram {
            let exchange = deps.wechat.exchange_code(app, &attempt.code).await?;
            let CodeExchange { openid, unionid, session_key } = exchange;
            return Ok(Self { openid, unionid, session_key: Some(session_key), profile: None });
        }
        let exchange = deps.wechat.exchange_page_code(app, &attempt.code).await?;
        let PageExchange { openid, unionid, profile } = exchange;
        Ok(Self { openid, unionid, session_key: None, profile })
    }
}

impl SignInFlow for TokenGrant {
    type Session = OpenedSession;

    async fn exchange(
        deps: &SignInDependencies,
        app: &App,
        attempt: &SignInAttempt,
    ) -> SignInResult<SignedIn<OpenedSession>> {
        let SignInDependencies { sessions, clock, .. } = deps;
        let ExchangedUser { openid, unionid, session_key, profile } =
            ExchangedUser::ask(deps, app, attempt).await?;
        attempt.check_user(&openid)?;

        let subject = Subject { appid: app.appid.clone(), openid };
        let identity = Identity { subject, unionid: require_unionid(app, unionid)? };
        let session_key = session_key.map(SessionKey::into_bytes);
        let new = NewSession {
            identity: &identity,
            session_key: session_key.as_ref(),
            user_agent: attempt.user_agent.as_deref(),
            profile: profile.as_ref(),
        };
        let session = sessions.open(new, clock.now()).await.map_err(open_failed)?;
        Ok(SignedIn { identity, session })
    }

    fn grant(deps: &SignInDependencies, signed_in: SignedIn<OpenedSession>) -> SignInResult<Self> {
        Self::mint(deps, signed_in.identity, signed_in.session)
    }

    /// A reload since may have removed the key that signed the token, and the code cannot be
    /// exchanged again.
    fn renew(self, deps: &SignInDependencies) -> SignInResult<Self> {
        let SignInDependencies { tokens, clock, .. } = deps;
        if tokens.verify(self.token.expose(), clock.now()).is_ok() {
            return Ok(self);
        }
        Self::mint(deps, self.identity, self.session)
    }

    /// A refresh token that was spent since is no answer either: it would end the session.
    async fn check(deps: &SignInDependencies, session: &OpenedSession) -> SignInResult<()> {
        let SignInDependencies { sessions, clock, .. } = deps;
        if sessions.is_unspent(&session.refresh_token, clock.now()).await? {
            Ok(())
        } else {
            Err(SignInError::CodeAlreadyUsed)
        }
    }

    fn session(&self) -> &OpenedSession {
        &self.session
    }
}

impl Expiring for TokenGrant {
    fn good_until(&self) -> Timestamp {
        self.token.expires_at
    }
}

impl SessionHandle for OpenedSession {
    fn fields(&self) -> (&SessionId, &str, Timestamp) {
        (&self.id, self.refresh_token.expose(), self.expires_at)
    }

    fn from_fields(id: SessionId, credential: &str, expires_at: Timestamp) -> Option<Self> {
        Some(Self { id, refresh_token: RefreshToken::parse(credential).ok()?, expires_at })
    }
}
