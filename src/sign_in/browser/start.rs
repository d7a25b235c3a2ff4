//! The start of a sign-in: generates a state, stores its record, and redirects the browser to
//! WeChat.

use http::HeaderValue;
use tracing::debug;

use super::browser_cookie::Browser;
use super::endpoint::Query;
use super::limit::check_sign_in_limit;
use super::state::{SignInRecord, SignInState};
use super::{BrowserError, Origin, ReturnTo, may_be_cross_site};
use crate::page::{Action, Language};
use crate::sign_in::error::SignInError;
use crate::sign_in::{SignInAnswer, SignInCall, SignInDependencies, SignInService};
use crate::wechat::{App, Visit};

/// A sign-in that was started.
pub(super) struct StartedSignIn {
    pub(super) state: SignInState,
    pub(super) redirect_uri: String,
    /// The cookie that the browser must send with the callback.
    pub(super) cookie: HeaderValue,
}

impl SignInService {
    /// Answers `GET /auth/web/{app}/start`.
    pub(in crate::sign_in) async fn respond_to_start(&self, call: SignInCall<'_>) -> SignInAnswer {
        let SignInCall { request, request_id, .. } = call;
        let own = self.origins.of(request);
        let (Some(app), Some(own)) = (self.app_in_path(request), own) else {
            return self.error_page(BrowserError::NothingToSignInTo, Action::Nothing, request, request_id);
        };
        let return_to = self.return_to(Query::of(request).return_to(), own);
        let mut answer = match self.send_to_wechat(app, own, &return_to, call).await {
            Ok(answer) => answer,
            Err(error) => {
                let retry = self.start_path(app, &return_to);
                self.error_page(error, Action::Link(&retry), request, request_id)
            }
        };
        let outcome = answer.outcome;
        debug!(
            sign_in.outcome = outcome,
            http.request.id = request_id,
            "answered the start of a sign-in: {outcome}"
        );
        answer.app = Some(app.name.clone());
        answer
    }

    async fn send_to_wechat(
        &self,
        app: &App,
        own: &Origin,
        return_to: &ReturnTo,
        call: SignInCall<'_>,
    ) -> Result<SignInAnswer, SignInError> {
        check_sign_in_limit(&self.deps.throttle, call.request, call.client)?;
        let begun = self.begin(app, own, return_to, call).await?;
        let visit = Visit {
            redirect_uri: &begun.redirect_uri,
            state: begun.state.expose(),
            is_english: Language::of(&call.request.headers) == Language::English,
        };
        let page = self.deps.wechat.page_url(app, &visit).ok_or(SignInError::Internal)?;
        Ok(SignInAnswer::see_other("started", &page)?.with_cookie(begun.cookie))
    }

    /// Begins a sign-in: a user who comes back with its state, in the same browser, is redirected
    /// to `return_to`.
    pub(super) async fn begin(
        &self,
        app: &App,
        own: &Origin,
        return_to: &ReturnTo,
        call: SignInCall<'_>,
    ) -> Result<StartedSignIn, SignInError> {
        let SignInCall { request, client, now, .. } = call;
        let SignInDependencies { store, store_health, entropy, .. } = &*self.deps;
        // Without the store no user could come back from WeChat.
        if !store_health.is_available() {
            return Err(SignInError::StoreUnavailable);
        }
        let browser = Browser::of(&request.headers, &**entropy)?;
        let state = SignInState::draw(&**entropy)?;
        let app_names = (&*app.name, app.appid.as_str());
        let sign_in = SignInRecord::new(app_names, own.as_str(), return_to.location(), browser.hash(), now);
        let sign_in =
            sign_in.started_by(state.client(client, &request.headers), may_be_cross_site(&request.headers));
        sign_in.insert(&**store, &state).await?;
        Ok(StartedSignIn {
            state,
            redirect_uri: self.callback_url(app, own),
            cookie: browser.set_cookie().ok_or(SignInError::Internal)?,
        })
    }
}
