//! The gateway's two cookies: of a session, and of a browser that is about to have one.
//!
//! Both are `__Host-` cookies: only this host over TLS can set them, so that no page of a neighbouring host plants one.
//! Each answer names every attribute anew; a deletion without `Secure` would be ignored.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::authn::{OwnCookie, SESSION_COOKIE};
use crate::clock::Timestamp;
use crate::session::SessionCookie;
use crate::sign_in::Answer;

const BROWSER_COOKIE: &str = "__Host-menshen-browser";

/// The session cookie to hand out, good until `ends_at`.
pub(super) fn set_session(cookie: &SessionCookie, ends_at: Timestamp, now: Timestamp) -> Option<HeaderValue> {
    set(SESSION_COOKIE, cookie.expose(), ends_at.since(now))
}

/// An answer that has the browser forget its session cookie.
pub(in crate::sign_in) fn without_session(answer: Answer) -> Answer {
    match set(SESSION_COOKIE, "", Duration::ZERO) {
        Some(cookie) => answer.with_cookie(cookie),
        None => answer,
    }
}

/// The session cookie of a request, where it shows one that could be ours.
pub(super) fn session(headers: &HeaderMap) -> Option<SessionCookie> {
    match OwnCookie::of(headers, SESSION_COOKIE) {
        OwnCookie::One(value) => SessionCookie::parse(value).ok(),
        OwnCookie::Nothing | OwnCookie::Unclear => None,
    }
}

/// Whether a request shows a session cookie that could be ours.
pub(in crate::sign_in) fn has_session_cookie(headers: &HeaderMap) -> bool {
    session(headers).is_some()
}

/// The browser cookie to hand out.
pub(super) fn set_browser(value: &str, lifetime: Duration) -> Option<HeaderValue> {
    set(BROWSER_COOKIE, value, lifetime)
}

/// What a request shows of the browser cookie.
pub(super) fn browser(headers: &HeaderMap) -> OwnCookie<'_> {
    OwnCookie::of(headers, BROWSER_COOKIE)
}

fn set(name: &str, value: &str, lifetime: Duration) -> Option<HeaderValue> {
    let seconds = lifetime.as_secs();
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let lines = lines.iter().map(|line| (header::COOKIE, HeaderValue::from_bytes(line).unwrap()));
        lines.collect()
    }

    #[test]
    fn a_cookie_counts_where_it_stands_once() {
        let table: [(&[&[u8]], OwnCookie<'_>); 13] = [
            (&[], OwnCookie::Nothing),
            (&[b""], OwnCookie::Nothing),
            (&[b"a=b; __Host-menshen-browse=x; __Host-menshen-browserx=y"], OwnCookie::Nothing),
            (&[b"__host-menshen-browser=x"], OwnCookie::Nothing),
            (&[b"a=__Host-menshen-browser=x"], OwnCookie::Nothing),
            (&[b"__Host-menshen-browser=x"], OwnCookie::One("x")),
            (&[b"a=b", b"c=d;__Host-menshen-browser = x ;e=f"], OwnCookie::One("x")),
            (&[b"__Host-menshen-browser"], OwnCookie::One("")),
            (&[b"__Host-menshen-browser=x=y"], OwnCookie::One("x=y")),
            (&[b"__Host-menshen-browser=x; __Host-menshen-browser=x"], OwnCookie::Unclear),
            (&[b"__Host-menshen-browser=x", b"__Host-menshen-browser=y"], OwnCookie::Unclear),
            (&[b"__Host-menshen-browser=x; a=\xff"], OwnCookie::One("x")),
            (&[b"__Host-menshen-browser=\xff"], OwnCookie::One("")),
        ];
        for (lines, expected) in table {
            assert_eq!(browser(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn every_attribute_stands_on_a_cookie_and_on_its_deletion() {
        let now = Timestamp::from_seconds(1000);
        let cookie = SessionCookie::parse(&"A".repeat(64)).unwrap();
        let flags = "Secure; HttpOnly; SameSite=Lax";
        let set = set_session(&cookie, Timestamp::from_seconds(4600), now).unwrap();
        assert_eq!(set, format!("__Host-menshen={}; Path=/; Max-Age=3600; {flags}", "A".repeat(64)));
        assert!(set.is_sensitive());
        let answer = without_session(Answer::logged_out());
        let deletion = &answer.response.headers()[header::SET_COOKIE];
        assert_eq!(deletion, &format!("__Host-menshen=; Path=/; Max-Age=0; {flags}"));
        let browser = set_browser("x", Duration::from_secs(600)).unwrap();
        assert_eq!(browser, format!("__Host-menshen-browser=x; Path=/; Max-Age=600; {flags}"));
    }
}
