//! The session cookie: reads it from requests and sets it in responses.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::clock::Timestamp;
use crate::cookie::{self, OwnCookie};
use crate::session::SessionCookie;
use crate::sign_in::SignInAnswer;

/// The session cookie of a request, if it has exactly one that is well-formed.
pub(super) fn of(headers: &HeaderMap) -> Option<SessionCookie> {
    match OwnCookie::of(headers, cookie::SESSION) {
        OwnCookie::One(value) => SessionCookie::parse(value).ok(),
        OwnCookie::Absent | OwnCookie::Several => None,
    }
}

/// Whether a request has exactly one well-formed session cookie.
pub(in crate::sign_in) fn has_session_cookie(headers: &HeaderMap) -> bool {
    of(headers).is_some()
}

/// The `Set-Cookie` value of a session that ends at `ends_at`.
pub(super) fn set(session: &SessionCookie, ends_at: Timestamp, now: Timestamp) -> Option<HeaderValue> {
    cookie::set(cookie::SESSION, session.expose(), ends_at.since(now))
}

/// Adds the deletion of the session cookie to an answer.
pub(in crate::sign_in) fn without_session(answer: SignInAnswer) -> SignInAnswer {
    match cookie::set(cookie::SESSION, "", Duration::ZERO) {
        Some(cookie) => answer.with_cookie(cookie),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn cookie_and_its_deletion_have_the_same_attributes() {
        let now = Timestamp::from_seconds(1000);
        let cookie = SessionCookie::parse(&"A".repeat(64)).unwrap();
        let flags = "Secure; HttpOnly; SameSite=Lax";
        let session = set(&cookie, Timestamp::from_seconds(4600), now).unwrap();
        assert_eq!(session, format!("__Host-menshen={}; Path=/; Max-Age=3600; {flags}", "A".repeat(64)));
        assert!(session.is_sensitive());
        let answer = without_session(SignInAnswer::logged_out());
        let deletion = &answer.response.headers()[header::SET_COOKIE];
        assert_eq!(deletion, &format!("__Host-menshen=; Path=/; Max-Age=0; {flags}"));
        let browser = cookie::set(cookie::BROWSER, "x", Duration::from_secs(600)).unwrap();
        assert_eq!(browser, format!("__Host-menshen-browser=x; Path=/; Max-Age=600; {flags}"));
    }
}
