//! `POST /auth/login`: a code from `wx.login`, of an official account with `code_login`, or from
//! WeChat's SDK in a mobile app, becomes a session and its tokens.

use std::sync::Arc;

use super::body::LoginBody;
use super::grant::TokenGrant;
use super::request::read_body;
use crate::config::AppKind;
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::call::{ReadBody, SignInCall};
use crate::sign_in::error::SignInError;
use crate::sign_in::flow::{self, SignInAttempt};
use crate::sign_in::once::SignInResult;
use crate::sign_in::record::record_sign_in;
use crate::sign_in::service::SignInService;
use crate::wechat::App;

/// Answers a login.
pub(in crate::sign_in) async fn respond(
    service: &SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> SignInAnswer {
    let deps = &service.deps;
    let started = deps.clock.instant();
    let body = read_login(service, call, body);
    let app = body.as_ref().ok().map(|(app, _)| Arc::clone(&app.name));
    let flow = body.as_ref().map_or(AppKind::MiniProgram, |(app, _)| app.kind);
    let result = match body {
        Ok((app, body)) => sign_in(service, call, app, body).await,
        Err(error) => Err(error),
    };

    let mut answer = match &result {
        Ok(grant) => SignInAnswer::granted("ok", grant, deps.clock.now()),
        Err(error) => SignInAnswer::refused(&error.reply(), call.request_id),
    };
    answer.app = app;
    record_sign_in(deps, flow, started, &answer, call.request_id);
    answer
}

/// Reads the app and the code, without a question to WeChat.
fn read_login<'a>(
    service: &'a SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> Result<(&'a App, LoginBody), SignInError> {
    let (format, body) = read_body(service, call.request, body)?;
    let body = format.read_login(&body)?;
    Ok((choose_app(service, body.app.as_deref())?, body))
}

/// Signs in with a code.
pub(in crate::sign_in) async fn sign_in(
    service: &SignInService,
    call: SignInCall<'_>,
    app: &App,
    body: LoginBody,
) -> SignInResult<TokenGrant> {
    let SignInCall { request, client, .. } = call;
    let LoginBody { code, refresh_token, .. } = body;
    let charge = service.charge_code(&app.appid, &code, refresh_token.as_ref(), call).await?;
    let fields = service.deps.sessions.client(client, &request.headers);
    let mut attempt = SignInAttempt::new(app, code, fields.fields(), request, client);
    attempt.charge = Some(charge);
    flow::sign_in(&service.deps, &service.settings.program_codes, attempt).await
}

/// Finds the app of this name. The name may be left out if there is only one mini program; if there
/// is none, only one official account with `code_login`; and if there is none of these either, only
/// one mobile app.
pub(in crate::sign_in) fn choose_app<'a>(
    service: &'a SignInService,
    name: Option<&str>,
) -> Result<&'a App, SignInError> {
    let wechat = &service.deps.wechat;
    if let Some(name) = name {
        return wechat.app(name).filter(|app| app.permits_code_login()).ok_or(SignInError::AppUnknown);
    }
    let first_two = |kind| {
        let mut apps = wechat.apps().filter(|app| app.kind == kind && app.permits_code_login());
        (apps.next(), apps.next())
    };
    let found = match first_two(AppKind::MiniProgram) {
        (None, _) => match first_two(AppKind::OfficialAccount) {
            (None, _) => first_two(AppKind::Mobile),
            found => found,
        },
        found => found,
    };
    match found {
        (Some(only), None) => Ok(only),
        _ => Err(SignInError::AppMissing),
    }
}
