//! Gives a request to the handler of its endpoint.

use std::sync::Arc;

use tracing::debug;

use super::answer::SignInAnswer;
use super::browser::{BrowserError, is_navigation};
use super::call::{BodyLimit, ReadBody, SignInCall};
use super::endpoint::Endpoint;
use super::error::SignInError;
use super::program::request::{precheck_post, precheck_program};
use super::program::{login, logout, refresh, session};
use super::record::count_sign_in;
use super::service::SignInService;
use crate::config::AppKind;

impl SignInService {
    /// Finds the endpoint of a canonical path; `None` leaves the path to the routes.
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        Endpoint::find(path, &self.path_prefix)
    }

    /// Decides by the header alone whether a request is worth reading; returns the limits of the
    /// body to read before [`SignInService::respond`], or `None` if the endpoint reads no body.
    ///
    /// # Errors
    /// The answer to give instead.
    #[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
    pub fn precheck(
        &self,
        endpoint: Endpoint,
        call: SignInCall<'_>,
    ) -> Result<Option<BodyLimit>, SignInAnswer> {
        let SignInCall { request, client, request_id, .. } = call;
        let throttle = &self.deps.throttle;
        match endpoint {
            Endpoint::Unknown => Err(SignInAnswer::not_found(request_id)),
            Endpoint::Jwks | Endpoint::Session | Endpoint::Start | Endpoint::Callback
                if !endpoint.has_method(&request.method) =>
            {
                Err(SignInAnswer::method_not_allowed(endpoint.allow(), request_id))
            }
            Endpoint::Jwks | Endpoint::Session => Ok(None),
            Endpoint::Start | Endpoint::Callback => precheck_page(call),
            Endpoint::Login if self.is_sign_in_page(request) => precheck_page(call),
            Endpoint::Login => precheck_program(self, request, || throttle.check_login(client))
                .map_err(|error| self.refuse_login_unread(&error, call)),
            Endpoint::Refresh => precheck_program(self, request, || throttle.check_refresh(client))
                .map_err(|error| SignInAnswer::refused(&error.reply(), request_id)),
            Endpoint::Logout => precheck_post(self, request)
                .map_err(|error| SignInAnswer::refused_as_problem(&error.reply(), request_id)),
        }
    }

    /// Answers a request that passed [`SignInService::precheck`]; `body` is what that asked for.
    ///
    /// An exchange that was begun goes on when the future is dropped: a mini program in the
    /// background loses the reply and sends the same code again.
    pub async fn respond(
        self: &Arc<Self>,
        endpoint: Endpoint,
        call: SignInCall<'_>,
        body: ReadBody,
    ) -> SignInAnswer {
        let SignInCall { request, request_id, .. } = call;
        match endpoint {
            Endpoint::Unknown => SignInAnswer::not_found(request_id),
            Endpoint::Jwks => SignInAnswer::jwks(self.deps.tokens.jwks(), &request.method),
            Endpoint::Start => self.respond_to_start(call).await,
            Endpoint::Callback => self.respond_to_callback(call).await,
            Endpoint::Login if self.is_sign_in_page(request) => self.respond_with_sign_in_page(call).await,
            Endpoint::Login => login::respond(self, call, body).await,
            Endpoint::Refresh => refresh::respond(self, call, body).await,
            Endpoint::Logout => logout::respond(self, call, body).await,
            Endpoint::Session => session::respond(self, call).await,
        }
    }

    fn refuse_login_unread(&self, error: &SignInError, call: SignInCall<'_>) -> SignInAnswer {
        count_sign_in(&self.deps, AppKind::MiniProgram, error.code());
        debug!(
            login.outcome = error.code(),
            http.request.id = call.request_id,
            "login refused unread: {error}"
        );
        let answer = SignInAnswer::refused(&error.reply(), call.request_id);
        let has_page = *error == SignInError::MethodNotAllowed && self.has_sign_in_page(call.request);
        if has_page { answer.with_allow("GET, POST") } else { answer }
    }
}

/// Checks that a browser opens a page, before anything is counted: pictures in a page of another
/// site, and what it has browsers fetch ahead, must not lock out the other clients at the visitor's
/// address.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
fn precheck_page(call: SignInCall<'_>) -> Result<Option<BodyLimit>, SignInAnswer> {
    if !is_navigation(call.request) {
        return Err(SignInAnswer::refused_as_problem(&BrowserError::NotNavigated.reply(), call.request_id));
    }
    Ok(None)
}
