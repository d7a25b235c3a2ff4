//! Takes the gateway's own token out of a request, so that a backend never holds what would sign in elsewhere.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::EditHeaders;
use crate::config::TokenSources;

/// Removes the token from every place a token is read from.
///
/// `Authorization` is removed when `held_token` says the gateway read it, or when it looks like a token of ours:
/// other schemes may be the backend's own.
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
        let rest = cookies_without(request.headers(), Some(cookie));
        set_cookie(request, rest);
    }
}

/// Joins the `Cookie` lines that HTTP/2 clients may send apart; HTTP/1.1 has one, RFC 9113 §8.2.3.
pub fn join_cookies(request: &mut impl EditHeaders) {
    if request.headers().get_all(header::COOKIE).iter().nth(1).is_some() {
        let joined = cookies_without(request.headers(), None);
        set_cookie(request, joined);
    }
}

/// The query without a parameter; `None` when nothing is left.
pub fn query_without<'q>(query: &'q str, parameter: &str) -> Option<Cow<'q, str>> {
    let is_other = |pair: &&str| pair.split('=').next() != Some(parameter);
    if query.split('&').all(|pair| is_other(&pair)) {
        return Some(Cow::Borrowed(query));
    }
    let rest: Vec<&str> = query.split('&').filter(is_other).collect();
    if rest.is_empty() { None } else { Some(Cow::Owned(rest.join("&"))) }
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

fn cookies_without(headers: &HeaderMap, name: Option<&str>) -> String {
    let mut kept = String::new();
    for line in headers.get_all(header::COOKIE) {
        // A line that is not text cannot be searched for our cookie, so it does not pass.
        let Ok(line) = line.to_str() else { continue };
        for pair in line.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            if name.is_some() && pair.split('=').next().map(str::trim) == name {
                continue;
            }
            if !kept.is_empty() {
                kept.push_str("; ");
            }
            kept.push_str(pair);
        }
    }
    kept
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
