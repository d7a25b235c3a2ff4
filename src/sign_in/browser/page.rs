//! Pages that say what happened.

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::notice::notice;
use super::sign_in_page::is_in_wechat;
use super::{ReturnTo, session_cookie};
use crate::page::{Action, Language, Message, Notice, SignOut};
use crate::sign_in::error::SignInError;
use crate::sign_in::{SignInAnswer, SignInService};

impl SignInService {
    /// The page of a refusal, with what the person can do.
    pub(in crate::sign_in) fn error_page(
        &self,
        error: &SignInError,
        action: Action<'_>,
        request: &Parts,
        request_id: &str,
    ) -> SignInAnswer {
        self.error_page_as(notice(error), error, action, request, request_id)
    }

    fn error_page_as(
        &self,
        notice: Notice,
        error: &SignInError,
        action: Action<'_>,
        request: &Parts,
        request_id: &str,
    ) -> SignInAnswer {
        let wait_seconds = error.reply().retry_after_seconds;
        let message = Message { wait_seconds, ..Message::new(notice, action, request_id) };
        // A 401 asks for credentials that a browser would have to know how to send, RFC 9110 §15.5.2; a person tries again.
        let status = match error.reply().status {
            StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
            status => status,
        };
        self.message_page(status, error.outcome(), &message, request).with_wait_of(error)
    }

    /// The page of a session that has ended.
    pub(in crate::sign_in) fn signed_out_page(&self, request: &Parts, request_id: &str) -> SignInAnswer {
        let retry = self.has_sign_in_page(request).then(|| self.sign_in_path());
        let action = retry.as_deref().map_or(Action::Nothing, Action::Link);
        let message = Message::new(Notice::SignedOut, action, request_id);
        self.message_page(StatusCode::OK, "logged_out", &message, request)
    }

    /// The page of a session that should have ended, and goes on.
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
        self.error_page_as(Notice::StillSignedIn, error, action, request, request_id)
    }

    /// What lets a person sign out who is refused as who they are, and sign in as somebody else; nothing where it is no cookie
    /// that says who they are. `path` is that of the logout.
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
        format!("{}/logout", self.path_prefix)
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
            // Without a referrer a browser sends `Origin: null` with a form, which older ones say nothing else by.
            Action::SignOut(_) => answer.with_referrer_policy("same-origin"),
            Action::Nothing | Action::Link(_) | Action::Reload(_) => answer,
        }
    }
}

/// Where a form of a page of ours may lead in the end. Browsers hold the page's policy against every step on the way: another
/// origin is refused, and so is WeChat's page, to which its own browser is sent on from whatever asks for a sign-in.
fn form_target<'a>(place: &'a ReturnTo, headers: &HeaderMap) -> Option<&'a str> {
    Some(place.location()).filter(|place| place.starts_with('/') && !is_in_wechat(headers))
}
