//! Takes the gateway's own token out of a request, so that a backend never holds what would sign in elsewhere.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::EditHeaders;
use crate::authn;
use crate::config::TokenSources;

/// Removes the token from every place a token is read from.
///
/// `Authorization` is removed when it looks like a token of ours; another scheme may be the backend's own.
pub fn strip(request: &mut impl EditHeaders, sources: &TokenSources, header_name: Option<&HeaderName>) {
    let reads_authorization = sources.bearer || sources.raw_authorization;
    if reads_authorization && request.headers().get_all(header::AUTHORIZATION).iter().any(looks_like_token) {
        request.remove(&header::AUTHORIZATION);
    }
    if let Some(name) = header_name {
        request.remove(name);
    }
    if let Some(cookie) = &sources.cookie
        && request.headers().contains_key(header::COOKIE)
    {
        let rest = cookies(request.headers(), Some(cookie));
        set_cookie(request, rest);
    }
}

/// Joins the `Cookie` lines that HTTP/2 clients may send apart; HTTP/1.1 has one, RFC 9113 §8.2.3.
pub fn join_cookies(request: &mut impl EditHeaders) {
    if request.headers().get_all(header::COOKIE).iter().nth(1).is_some() {
        let joined = cookies(request.headers(), None);
        set_cookie(request, joined);
    }
}

/// Whether an `Authorization` value holds a compact JWS, with or without the scheme `Bearer`.
fn looks_like_token(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let token = match bytes.split_first_chunk::<7>() {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest.trim_ascii_start(),
        _ => bytes,
    };
    token.starts_with(b"eyJ") && token.iter().filter(|byte| **byte == b'.').count() == 2
}

/// Every `Cookie` line in one, without the cookie of this name.
fn cookies(headers: &HeaderMap, without: Option<&str>) -> String {
    // A line that is not text cannot be searched for our cookie, so it does not pass.
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let kept: Vec<Cow<'_, str>> = lines
        .filter_map(|line| match without {
            Some(name) => authn::cookie_without(line, name).map(Cow::Owned),
            None => Some(Cow::Borrowed(line)),
        })
        .collect();
    kept.join("; ")
}

fn set_cookie(request: &mut impl EditHeaders, cookies: String) {
    static COOKIE: Bytes = Bytes::from_static(b"Cookie");

    request.remove(&header::COOKIE);
    if !cookies.is_empty()
        && let Ok(value) = HeaderValue::try_from(cookies)
    {
        request.set(&COOKIE, value);
    }
}
