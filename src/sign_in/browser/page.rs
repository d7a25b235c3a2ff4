//! Pages that report an error or the end of a session to the user.

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::notice::notice;
use super::sign_in_page::is_in_wechat;
use super::{BrowserError, ReturnTo, session_cookie};
use crate::page::{Action, Language, Message, Notice, SignOut};
use crate::sign_in::error::{ErrorReply, SignInError};
use crate::sign_in::{SignInAnswer, SignInService};

impl SignInService {
    /// The page of an error, with the action that is offered to the user.
    pub(in crate::sign_in) fn error_page(
        &self,
        error: impl Into<BrowserError>,
        action: Action<'_>,
        request: &Parts,
        request_id: &str,
    ) -> SignInAnswer {
        let error = error.into();
        self.error_page_as(notice(&error), &error.reply(), action, request, request_id)
    }

    fn error_page_as(
        &self,
        notice: Notice,
        reply: &ErrorReply,
        action: Action<'_>,
        request: &Parts,
        request_id: &str,
    ) -> SignInAnswer {
        let wait_seconds = reply.retry_after_seconds;
        let action = if notice.leads_home() { Action::Home } else { action };
        let message = Message { wait_seconds, ..Message::new(notice, action, request_id) };
        // A 401 must name an authentication scheme (RFC 9110 §15.5.2), and a browser has none for
        // this. The user tries again instead.
        let status = match reply.status {
            StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
            status => status,
        };
        self.message_page(status, reply.outcome, &message, request).with_wait_of(reply)
    }

    /// The page of a session that has ended.
    pub(in crate::sign_in) fn signed_out_page(&self, request: &Parts, request_id: &str) -> SignInAnswer {
        let retry = self.has_sign_in_page(request).then(|| self.sign_in_path());
        let action = retry.as_deref().map_or(Action::Nothing, Action::Link);
        let message = Message::new(Notice::SignedOut, action, request_id);
        self.message_page(StatusCode::OK, "logged_out", &message, request)
    }

    /// The page of a failed logout: the session is still valid.
    pub(in crate::sign_in) fn still_signed_in_page(
        &self,
        error: &SignInError,
        return_to: Option<&ReturnTo>,
        everywhere: bool,
        request: &Parts,
        request_id: &str,
    ) -> SignInAnswer {
        let path = self.logout_path();
        let return_to = return_to.and_then(|place| form_target(place, &request.headers));
        let action = Action::SignOut(SignOut { path: &path, return_to, everywhere });
        self.error_page_as(Notice::StillSignedIn, &error.reply(), action, request, request_id)
    }

    /// The action by which a denied user signs out, to sign in as another user. No action if the
    /// request has no session cookie. `path` is the path of the logout endpoint.
    pub(super) fn sign_out_action<'a>(
        path: &'a str,
        place: Option<&'a ReturnTo>,
        headers: &HeaderMap,
    ) -> Action<'a> {
        if !session_cookie::has_session_cookie(headers) {
            return Action::Nothing;
        }
        let return_to = place.and_then(|place| form_target(place, headers));
        Action::SignOut(SignOut { path, return_to, everywhere: false })
    }

    pub(super) fn logout_path(&self) -> String {
        format!("{}/logout", self.settings.path_prefix)
    }

    /// The path that the question before a hand-over is answered at.
    pub(super) fn hand_over_confirm_path(&self) -> String {
        format!("{}/ticket/confirm", self.settings.path_prefix)
    }

    /// The place that an answer to a form may redirect to, if its page's policy lets it.
    pub(super) fn form_target<'a>(&self, place: &'a ReturnTo, request: &Parts) -> Option<&'a str> {
        form_target(place, &request.headers)
    }

    pub(super) fn message_page(
        &self,
        status: StatusCode,
        outcome: &'static str,
        message: &Message<'_>,
        request: &Parts,
    ) -> SignInAnswer {
        let language = Language::of(&request.headers);
        let answer =
            SignInAnswer::page(status, outcome, self.deps.pages.message(message, language), language);
        match message.action {
            // If the policy sends no referrer, a browser sends `Origin: null` with a form, and
            // older browsers send no other header that shows the origin.
            Action::SignOut(_) => answer.with_referrer_policy("same-origin"),
            Action::Nothing | Action::Link(_) | Action::Home | Action::Reload(_) => answer,
        }
    }
}

/// The place that the form of a page may redirect to in the end. Browsers check every redirect of a
/// form against the page's policy: they refuse another origin, and also WeChat's page, to which
/// WeChat's browser is redirected from every page that requires a sign-in.
fn form_target<'a>(place: &'a ReturnTo, headers: &HeaderMap) -> Option<&'a str> {
    Some(place.location()).filter(|place| place.starts_with('/') && !is_in_wechat(headers))
}
