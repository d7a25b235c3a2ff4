//! The sign-in page: the apps that are offered, and the browsers that are redirected at once.

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use tracing::debug;

use super::endpoint::Query;
use super::limit::check_sign_in_limit;
use super::start::{StartedSignIn, begin};
use super::{BrowserError, Origin, ReturnTo, session_cookie};
use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::page::{Action, Choice, Language, Message, Notice, SignInPage, SignInWidget};
use crate::session::SessionError;
use crate::sign_in::error::SignInError;
use crate::sign_in::{SignInAnswer, SignInCall, SignInService};
use crate::wechat::App;

/// WeChat's script embeds WeChat's page in a frame. The frame learns the origin of this page, but
/// not its path.
const REFERRER_POLICY: &str = "strict-origin-when-cross-origin";

/// What the sign-in page offers for a request.
struct Offer<'a> {
    own: &'a Origin,
    apps: Vec<&'a App>,
    return_to: ReturnTo,
    is_given_cookie: bool,
}

/// Answers `GET /auth/login`.
pub(in crate::sign_in) async fn respond(service: &SignInService, call: SignInCall<'_>) -> SignInAnswer {
    let SignInCall { request, request_id, .. } = call;
    let answer = match offer(service, request) {
        Ok(offer) => {
            let shown = show(service, &offer, call).await;
            shown.unwrap_or_else(|error| {
                let names = offer.apps.iter().map(|app| &*app.name);
                let retry = service.sign_in_path_for(Some(&offer.return_to), names);
                service.error_page(error, Action::Link(&retry), request, request_id)
            })
        }
        Err(error) => service.error_page(error, Action::Nothing, request, request_id),
    };
    let outcome = answer.outcome;
    debug!(
        sign_in.outcome = outcome,
        http.request.id = request_id,
        "answered a request for the sign-in page: {outcome}"
    );
    answer
}

/// The apps that the request names, in its order, or all apps; and the place to return to.
fn offer<'a>(service: &'a SignInService, request: &Parts) -> Result<Offer<'a>, BrowserError> {
    let own = service.own_origin(request)?;
    let query = Query::of(request);
    let mut apps: Vec<&App> = Vec::new();
    let mut names = query.all("app").peekable();
    if names.peek().is_none() {
        apps.extend(service.browser_apps());
    }
    for app in names.filter_map(|name| service.browser_app(name)) {
        if !apps.iter().any(|other| other.name == app.name) {
            apps.push(app);
        }
    }
    if apps.is_empty() {
        return Err(BrowserError::NothingToSignInTo);
    }
    let return_to = service.return_to(query.return_to(), own);
    Ok(Offer { own, apps, return_to, is_given_cookie: query.is_given_cookie() })
}

async fn show(
    service: &SignInService,
    offer: &Offer<'_>,
    call: SignInCall<'_>,
) -> Result<SignInAnswer, SignInError> {
    let SignInCall { request, now, request_id, .. } = call;
    if is_signed_in(service, &offer.apps, &request.headers, now).await? {
        return SignInAnswer::see_other("signed_in_already", offer.return_to.location());
    }
    if offer.is_given_cookie {
        // A browser that stores no cookies would be signed in again in a loop, without a
        // question to the user. Each sign-in could end a session of the user on another device.
        let retry = offer.apps.first().map(|app| service.start_path(app, &offer.return_to));
        let action = retry.as_deref().map_or(Action::Nothing, Action::Link);
        return Ok(service.error_page(BrowserError::BrowserCookieMissing, action, request, request_id));
    }
    let is_in_wechat = is_in_wechat(&request.headers);
    let official_account = offer.apps.iter().find(|app| app.kind == AppKind::OfficialAccount);
    if let Some(app) = official_account.filter(|_| is_in_wechat) {
        return SignInAnswer::see_other("sign_in", &service.start_path(app, &offer.return_to));
    }
    check_sign_in_limit(service, call).await?;
    let website = offer.apps.iter().find(|app| app.kind == AppKind::Website);
    let Some(website) = website else {
        let message = Message::new(Notice::OpenInWeChat, Action::Nothing, request_id);
        return Ok(service.message_page(StatusCode::OK, "open_in_wechat", &message, request));
    };
    render(service, offer, website, call).await
}

/// Whether the browser has a session of an offered app. A session of another app does not
/// count, because it would cause a redirect loop.
pub(super) async fn is_signed_in(
    service: &SignInService,
    apps: &[&App],
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<bool, SignInError> {
    let Some(cookie) = session_cookie::of(headers) else { return Ok(false) };
    match service.deps.sessions.check_cookie(&cookie, now).await {
        Ok(session) => Ok(apps.iter().any(|app| app.appid == session.identity.subject.appid)),
        Err(SessionError::Ended | SessionError::Blocked) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn render(
    service: &SignInService,
    offer: &Offer<'_>,
    website: &App,
    call: SignInCall<'_>,
) -> Result<SignInAnswer, SignInError> {
    let is_in_wechat = is_in_wechat(&call.request.headers);
    let hrefs: Vec<String> = offer.apps.iter().map(|app| service.start_path(app, &offer.return_to)).collect();
    let choices = offer.apps.iter().zip(&hrefs);
    let choices: Vec<Choice<'_>> =
        choices.map(|(app, href)| Choice { title: &app.title, kind: app.kind, href }).collect();
    // A phone cannot scan its own screen.
    let script = service.deps.wechat.widget().filter(|_| !is_in_wechat);
    let begun = match script {
        Some(_) => Some(begin(service, website, offer.own, &offer.return_to, call).await?),
        None => None,
    };
    let widget = script.zip(begun.as_ref()).map(|(script, begun)| SignInWidget {
        script: script.script,
        frame_origin: script.frame_origin,
        appid: website.appid.as_str(),
        redirect_uri: &begun.redirect_uri,
        state: begun.state.expose(),
    });
    let language = Language::of(&call.request.headers);
    let page = SignInPage {
        choices: &choices,
        widget,
        is_in_wechat,
        is_on_phone: is_on_phone(&call.request.headers),
    };
    let page = service.deps.pages.sign_in(&page, language, &*service.deps.entropy)?;
    let answer = SignInAnswer::page(StatusCode::OK, "sign_in", page, language);
    let answer = answer.with_referrer_policy(REFERRER_POLICY);
    Ok(match begun {
        Some(StartedSignIn { cookie, .. }) => answer.with_cookie(cookie),
        None => answer,
    })
}

/// Whether the request is from WeChat's own browser, which can sign in to an official account and
/// cannot scan its own screen. WeCom's browser also sends `MicroMessenger`, adds its own name, and
/// cannot use WeChat accounts.
pub(super) fn is_in_wechat(headers: &HeaderMap) -> bool {
    agents(headers).any(|agent| agent.contains("MicroMessenger") && !agent.contains("wxwork"))
}

/// Whether the request is from a phone, which cannot scan its own screen either. Only the text of
/// the page depends on it.
fn is_on_phone(headers: &HeaderMap) -> bool {
    agents(headers).any(|agent| agent.contains("Mobile"))
}

fn agents(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::USER_AGENT).iter().filter_map(|agent| agent.to_str().ok())
}
