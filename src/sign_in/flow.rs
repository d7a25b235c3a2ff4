//! One code becomes one session. The limits are checked, the code is exchanged once, and a client
//! that lost the reply gets the same session again.
//!
//! [`SignInFlow`] says what a code is exchanged for and what its client gets: tokens for a mini
//! program, a cookie for a browser.

use std::net::IpAddr;
use std::sync::Arc;

use http::header;
use http::request::Parts;

use super::charge::CodeCharge;
use super::deps::SignInDependencies;
use super::error::SignInError;
use super::once::{
    CodeClaim, CodeMemory, Expiring, Once, SessionHandle, SignInResult, SignedIn, StoreClaims, once,
};
use crate::identity::{AppId, OpenId, SessionId, UnionId};
use crate::session::SessionError;
use crate::wechat::{App, Code};

/// A sign-in with a code that may be worth an exchange.
pub(super) struct SignInAttempt {
    /// Name of the app in the configuration.
    pub(super) app: Arc<str>,
    appid: AppId,
    pub(super) code: Code,
    pub(super) client: IpAddr,
    /// What tells one client from another.
    client_fields: Vec<Vec<u8>>,
    /// The client's `User-Agent`.
    pub(super) user_agent: Option<String>,
    /// The session that the browser holds now.
    pub(super) before: Option<SessionId>,
    /// What it took from the limits. `None` if a page of another site may have led the browser to
    /// this: it then does not count against the limit that the other clients at the address share.
    pub(super) charge: Option<CodeCharge>,
    /// Whether a failure does not count as a guess of the client: another person may have made the
    /// code up, or it was sent before.
    pub(super) is_blameless: bool,
}

/// What one kind of app exchanges a code for, and what its client gets.
pub(super) trait SignInFlow: Expiring + Send + Sync + 'static {
    /// The session that is opened.
    type Session: SessionHandle + Send + Sync;

    /// Asks WeChat, and opens a session for the user that it names.
    fn exchange(
        deps: &SignInDependencies,
        app: &App,
        attempt: &SignInAttempt,
    ) -> impl Future<Output = SignInResult<SignedIn<Self::Session>>> + Send;

    /// What the client gets.
    fn grant(deps: &SignInDependencies, signed_in: SignedIn<Self::Session>) -> SignInResult<Self>;

    /// What the client gets of an earlier grant: the same, if it is still good.
    fn renew(self, deps: &SignInDependencies) -> SignInResult<Self>;

    /// Checks that the session of an earlier grant has not ended: an ended session must not be
    /// given again.
    fn check(
        deps: &SignInDependencies,
        session: &Self::Session,
    ) -> impl Future<Output = SignInResult<()>> + Send;

    /// The session.
    fn session(&self) -> &Self::Session;
}

impl SignInAttempt {
    /// A sign-in to an app with a code. `client_fields` tell one client from another.
    pub(super) fn new(
        app: &App,
        code: Code,
        client_fields: &[impl AsRef<[u8]>],
        request: &Parts,
        client: IpAddr,
    ) -> Self {
        let user_agent = request.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        Self {
            app: app.name.clone(),
            appid: app.appid.clone(),
            code,
            client,
            client_fields: client_fields.iter().map(|field| field.as_ref().to_vec()).collect(),
            user_agent: user_agent.map(str::to_owned),
            before: None,
            charge: None,
            is_blameless: false,
        }
    }

    /// Checks that the user whom WeChat names may sign in with what the attempt took.
    pub(super) fn check_user(&self, openid: &OpenId) -> Result<(), SignInError> {
        self.charge.as_ref().map_or(Ok(()), |charge| charge.check_user(openid))
    }
}

/// Exchanges the code, or gives the outcome that it had before.
pub(super) async fn sign_in<F: SignInFlow>(
    deps: &Arc<SignInDependencies>,
    codes: &Arc<CodeMemory<F>>,
    attempt: SignInAttempt,
) -> SignInResult<F> {
    // In its own task: WeChat spends the code, whether or not this client waits for the answer.
    let (deps, codes) = (Arc::clone(deps), Arc::clone(codes));
    let task = tokio::spawn(async move { sign_in_once(&deps, &codes, attempt).await });
    task.await.unwrap_or(Err(SignInError::Internal))
}

/// Claims the code among the requests that this node gets. What the attempt took from the limits is
/// given back, unless it was a failed guess.
async fn sign_in_once<F: SignInFlow>(
    deps: &SignInDependencies,
    codes: &Arc<CodeMemory<F>>,
    attempt: SignInAttempt,
) -> SignInResult<F> {
    let claims = codes.claims(&attempt.appid, &attempt.code, &attempt.client_fields, &*deps.clock);
    let exchange = || open_session::<F>(deps, codes, &attempt);
    let (outcome, is_new) = match once(&claims, exchange).await {
        Ok(Once::Exchanged(outcome)) => (outcome, true),
        Ok(Once::Joined(outcome)) => (outcome.and_then(|grant| grant.renew(deps)), false),
        Ok(Once::Repeated(outcome)) => (give_again(deps, outcome).await, false),
        Err(error) => (Err(error), false),
    };
    let taken = attempt.charge.map(|charge| charge.taken);
    match (&outcome, taken) {
        (Ok(_), Some(taken)) if is_new => taken.succeed(),
        (Err(error), Some(taken)) if error.is_failed_guess() && !attempt.is_blameless => taken.fail().await,
        _ => {}
    }
    outcome
}

/// Gives the outcome of an earlier request again, if its session goes on.
async fn give_again<F: SignInFlow>(deps: &SignInDependencies, outcome: SignInResult<F>) -> SignInResult<F> {
    let grant = outcome?;
    F::check(deps, grant.session()).await?;
    grant.renew(deps)
}

/// Claims the code among the nodes that share a store, and gives the client what it gets of the
/// session.
async fn open_session<F: SignInFlow>(
    deps: &SignInDependencies,
    codes: &CodeMemory<F>,
    attempt: &SignInAttempt,
) -> SignInResult<F> {
    // Before WeChat is asked: a code can be exchanged once, and without the store its session is
    // lost.
    if !deps.store_health.is_available() {
        return Err(SignInError::StoreUnavailable);
    }
    let exchange = || exchange::<F>(deps, attempt);
    let signed_in = if deps.store.is_shared() {
        let claim = CodeClaim::new(&attempt.appid, &attempt.code, &attempt.client_fields);
        let claims = StoreClaims {
            claim: &claim.map_err(|_| SignInError::Internal)?,
            store: &*deps.store,
            entropy: &*deps.entropy,
            exchange_timeout: deps.wechat.timeout(),
            window: codes.window(),
        };
        match once(&claims, exchange).await? {
            Once::Exchanged(outcome) => outcome?,
            Once::Joined(outcome) | Once::Repeated(outcome) => {
                let signed_in = outcome?;
                F::check(deps, &signed_in.session).await?;
                signed_in
            }
        }
    } else {
        exchange().await?
    };
    F::grant(deps, signed_in)
}

/// Exchanges the code with WeChat.
async fn exchange<F: SignInFlow>(
    deps: &SignInDependencies,
    attempt: &SignInAttempt,
) -> SignInResult<SignedIn<F::Session>> {
    let app = deps.wechat.app(&attempt.app).ok_or(SignInError::AppUnknown)?;
    let standing = match &attempt.charge {
        Some(charge) => charge.taken.standing(),
        None => deps.throttle.standing(attempt.client),
    };
    deps.throttle.check_exchange(standing).await?;
    F::exchange(deps, app, attempt).await
}

/// The unionid of an exchange, if the app lets users sign in without one.
pub(super) fn require_unionid(app: &App, unionid: Option<UnionId>) -> SignInResult<Option<UnionId>> {
    if unionid.is_none() && app.refuses_unknown_unionid {
        return Err(SignInError::UnionIdUnknown);
    }
    Ok(unionid)
}

/// A session that could not be opened, once the code was spent.
pub(super) fn open_failed(error: SessionError) -> SignInError {
    match SignInError::from(error) {
        SignInError::StoreUnavailable => SignInError::SessionNotKept,
        SignInError::UserBlocked => SignInError::UserBlocked,
        // A client can do nothing about a session that ends before it begins.
        _ => SignInError::Internal,
    }
}
