//! `POST /auth/login`: a code from `wx.login` becomes a session and its tokens.

use super::request::read_body;
use crate::config::AppKind;
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::call::{ReadBody, SignInCall};
use crate::sign_in::error::SignInError;
use crate::sign_in::flow::{self, SignInAttempt};
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
    let attempt = read_attempt(service, call, body);
    let app = attempt.as_ref().ok().map(|attempt| attempt.app.clone());
    let result = match attempt {
        Ok(attempt) => flow::sign_in(deps, &service.settings.program_codes, attempt).await,
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
fn read_attempt(
    service: &SignInService,
    call: SignInCall<'_>,
    body: ReadBody,
) -> Result<SignInAttempt, SignInError> {
    let SignInCall { request, client, .. } = call;
    let (format, body) = read_body(service, request, body)?;
    let body = format.read_login(&body)?;
    let app = choose_app(service, body.app.as_deref())?;
    let fields = service.deps.sessions.client(client, &request.headers);
    Ok(SignInAttempt::new(app, body.code, fields.fields(), request, client))
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
