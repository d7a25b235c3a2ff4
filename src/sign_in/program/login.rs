//! `POST /auth/login`: a code from `wx.login` becomes a session and its tokens.

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
    let result = match body {
        Ok((app, body)) => sign_in(service, call, app, body).await,
        Err(error) => Err(error),
    };

    let mut answer = match &result {
        Ok(grant) => SignInAnswer::granted("ok", grant, deps.clock.now()),
        Err(error) => SignInAnswer::refused(&error.reply(), call.request_id),
    };
    answer.app = app;
    record_sign_in(deps, AppKind::MiniProgram, started, &answer, call.request_id);
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

async fn sign_in(
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

/// Finds the mini program of this name; the name may be left out if there is only one.
fn choose_app<'a>(service: &'a SignInService, name: Option<&str>) -> Result<&'a App, SignInError> {
    let wechat = &service.deps.wechat;
    let is_mini_program = |app: &&App| app.kind == AppKind::MiniProgram;
    if let Some(name) = name {
        return wechat.app(name).filter(is_mini_program).ok_or(SignInError::AppUnknown);
    }
    let mut apps = wechat.apps().filter(is_mini_program);
    match (apps.next(), apps.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(SignInError::AppMissing),
    }
}
