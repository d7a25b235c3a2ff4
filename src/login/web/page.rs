//! Pages that say what happened.

use http::StatusCode;
use http::request::Parts;

use super::notice::notice;
use crate::login::error::LoginError;
use crate::login::{Answer, Login};
use crate::page::{Language, Message, Notice};

impl Login {
    /// The page of a refusal; `retry` is where the person can try again.
    pub(in crate::login) fn tell_refusal(
        &self,
        error: &LoginError,
        retry: Option<&str>,
        request: &Parts,
        request_id: &str,
    ) -> Answer {
        let message = Message { notice: notice(error), retry, request_id };
        self.tell_person(error.row().status, error.outcome(), &message, request).with_wait_of(error)
    }

    /// The page of a session that has ended.
    pub(in crate::login) fn tell_signed_out(&self, request: &Parts, request_id: &str) -> Answer {
        let retry = self.has_sign_in_page(request).then(|| self.sign_in_path());
        let message = Message { notice: Notice::SignedOut, retry: retry.as_deref(), request_id };
        self.tell_person(StatusCode::OK, "logged_out", &message, request)
    }

    pub(super) fn tell_person(
        &self,
        status: StatusCode,
        outcome: &'static str,
        message: &Message<'_>,
        request: &Parts,
    ) -> Answer {
        let language = Language::of(&request.headers);
        Answer::page(status, outcome, self.parts.pages.message(message, language), language)
    }
}
