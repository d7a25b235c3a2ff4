//! What the endpoints check by the header alone, before a body is read.

use http::{HeaderValue, Method};
use tracing::debug;

use super::answer::SignInAnswer;
use super::browser::{BrowserError, is_navigation};
use super::call::{BodyLimit, SignInCall};
use super::error::SignInError;
use super::program::request::{precheck_post, precheck_program};
use super::record::count_sign_in;
use super::service::SignInService;
use crate::config::AppKind;

/// The check of one endpoint, which gets the methods that an `Allow` header lists.
pub(super) type Precheck = fn(&SignInService, SignInCall<'_>, &'static str) -> PrecheckResult;

/// The limits of the body to read, `None` if the endpoint reads no body; or the answer to give
/// instead.
type PrecheckResult = Result<Option<BodyLimit>, SignInAnswer>;

/// A program reads: any request with one of the methods.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn read(_: &SignInService, call: SignInCall<'_>, allow: &'static str) -> PrecheckResult {
    check_method(call, allow).map(|()| None)
}

/// A browser opens a page.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn page(_: &SignInService, call: SignInCall<'_>, allow: &'static str) -> PrecheckResult {
    check_method(call, allow)?;
    check_navigation(call)
}

/// A program posts a code, or a browser opens the sign-in page.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn login(service: &SignInService, call: SignInCall<'_>, _: &'static str) -> PrecheckResult {
    if service.is_sign_in_page(call.request) {
        return check_navigation(call);
    }
    precheck_program(service, call).map_err(|error| refuse_login(service, &error, call))
}

/// A program posts sealed user data.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn decrypt(service: &SignInService, call: SignInCall<'_>, allow: &'static str) -> PrecheckResult {
    match &service.user_data {
        Some(_) => logout(service, call, allow),
        None => Err(SignInAnswer::not_found(call.request_id)),
    }
}

/// A program posts for a ticket, or a browser opens a page with one.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn ticket(_: &SignInService, call: SignInCall<'_>, allow: &'static str) -> PrecheckResult {
    check_method(call, allow)?;
    if call.request.method == Method::POST { Ok(None) } else { check_navigation(call) }
}

/// A program posts a refresh token.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn refresh(service: &SignInService, call: SignInCall<'_>, _: &'static str) -> PrecheckResult {
    precheck_program(service, call).map_err(|error| SignInAnswer::refused(&error.reply(), call.request_id))
}

/// A program or a page posts that a session ends, or a page that a hand-over may go on.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(super) fn logout(service: &SignInService, call: SignInCall<'_>, _: &'static str) -> PrecheckResult {
    precheck_post(service, call.request)
        .map_err(|error| SignInAnswer::refused_as_problem(&error.reply(), call.request_id))
}

#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
fn check_method(call: SignInCall<'_>, allow: &'static str) -> Result<(), SignInAnswer> {
    if allow.split(", ").any(|name| name == call.request.method.as_str()) {
        Ok(())
    } else {
        Err(SignInAnswer::method_not_allowed(allow, call.request_id))
    }
}

/// Checks that a browser opens a page, before anything is counted: pictures in a page of another
/// site, and what it has browsers fetch ahead, must not lock out the other clients at the visitor's
/// address.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
fn check_navigation(call: SignInCall<'_>) -> PrecheckResult {
    if is_navigation(call.request) {
        Ok(None)
    } else {
        Err(SignInAnswer::refused_as_problem(&BrowserError::NotNavigated.reply(), call.request_id))
    }
}

fn refuse_login(service: &SignInService, error: &SignInError, call: SignInCall<'_>) -> SignInAnswer {
    count_sign_in(&service.deps, AppKind::MiniProgram, error.code());
    debug!(login.outcome = error.code(), http.request.id = call.request_id, "login refused unread: {error}");
    let answer = SignInAnswer::refused(&error.reply(), call.request_id);
    let has_page = *error == SignInError::MethodNotAllowed && service.has_sign_in_page(call.request);
    if has_page { answer.with_allow(HeaderValue::from_static("GET, POST")) } else { answer }
}
