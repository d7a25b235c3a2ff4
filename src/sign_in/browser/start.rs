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

/// Answers `GET /auth/web/{app}/start`.
pub(in crate::sign_in) async fn respond(service: &SignInService, call: SignInCall<'_>) -> SignInAnswer {
    let SignInCall { request, request_id, .. } = call;
    let app = service.app_in_path(request).ok_or(BrowserError::NothingToSignInTo);
    let (app, own) = match app.and_then(|app| Ok((app, service.own_origin(request)?))) {
        Ok(found) => found,
        Err(error) => return service.error_page(error, Action::Nothing, request, request_id),
    };
    let return_to = service.return_to(Query::of(request).return_to(), own);
    let mut answer = match send_to_wechat(service, app, own, &return_to, call).await {
        Ok(answer) => answer,
        Err(error) => {
            let retry = service.start_path(app, &return_to);
            service.error_page(error, Action::Link(&retry), request, request_id)
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
    service: &SignInService,
    app: &App,
    own: &Origin,
    return_to: &ReturnTo,
    call: SignInCall<'_>,
) -> Result<SignInAnswer, SignInError> {
    check_sign_in_limit(service, call).await?;
    let begun = begin(service, app, own, return_to, call).await?;
    let visit = Visit {
        redirect_uri: &begun.redirect_uri,
        state: begun.state.expose(),
        is_english: Language::of(&call.request.headers) == Language::English,
    };
    let page = service.deps.wechat.page_url(app, &visit).ok_or(SignInError::Internal)?;
    Ok(SignInAnswer::see_other("started", &page)?.with_cookie(begun.cookie))
}

/// Begins a sign-in: a user who comes back with its state, in the same browser, is redirected
/// to `return_to`.
pub(super) async fn begin(
    service: &SignInService,
    app: &App,
    own: &Origin,
    return_to: &ReturnTo,
    call: SignInCall<'_>,
) -> Result<StartedSignIn, SignInError> {
    let SignInCall { request, client, now, .. } = call;
    let SignInDependencies { store, store_health, entropy, .. } = &*service.deps;
    // Without the store no user could come back from WeChat.
    if !store_health.is_available() {
        return Err(SignInError::StoreUnavailable);
    }
    let browser = Browser::of(&request.headers, &**entropy)?;
    let state = SignInState::draw(&**entropy)?;
    let app_names = (&*app.name, app.appid.as_str());
    let sign_in = SignInRecord::new(app_names, own.as_str(), return_to.location(), browser.hash(), now);
    let client = service.deps.sessions.client(client, &request.headers);
    let sign_in = sign_in.started_by(state.client(&client), may_be_cross_site(&request.headers));
    sign_in.insert(&**store, &state).await?;
    Ok(StartedSignIn {
        state,
        redirect_uri: service.callback_url(app, own),
        cookie: browser.set_cookie().ok_or(SignInError::Internal)?,
    })
}
