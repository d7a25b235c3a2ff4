//! Removes the gateway's own tokens and cookies from a request, so that a backend never has a
//! credential that is valid for other backends.

use bytes::Bytes;
use http::{HeaderValue, header};

use super::EditHeaders;
use crate::authn::TokenSources;
use crate::cookie;

/// Removes the token from every header a token is read from.
///
/// `Authorization` is removed when the gateway read its token there, or when it looks like a token
/// of ours: another scheme may be the backend's own.
pub fn strip(request: &mut impl EditHeaders, sources: &TokenSources, was_in_authorization: bool) {
    let looks_like_ours = || {
        let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
        sources.read_authorization() && values.any(looks_like_token)
    };
    if was_in_authorization || looks_like_ours() {
        request.remove(&header::AUTHORIZATION);
    }
    for name in sources.headers() {
        request.remove(name);
    }
    if let Some(name) = sources.cookie() {
        edit_cookies(request, |line| cookie::without(line, name));
    }
}

/// Removes the gateway's own cookies, whatever the route: the others go on as they came, text or
/// not.
pub fn strip_own_cookies(request: &mut impl EditHeaders) {
    let lines = request.headers().get_all(header::COOKIE);
    // Nearly every request ends here: without cookies at the price of one look into the map.
    if lines.iter().any(|line| cookie::mentions_own(line.as_bytes())) {
        let kept: Vec<Vec<u8>> =
            lines.iter().filter_map(|line| cookie::without_own(line.as_bytes())).collect();
        set_cookies(request, &kept);
    }
}

/// Joins the `Cookie` lines that HTTP/2 clients may send apart; HTTP/1.1 has one, RFC 9113 §8.2.3.
pub fn join_cookies(request: &mut impl EditHeaders) {
    if request.headers().get_all(header::COOKIE).iter().nth(1).is_some() {
        edit_cookies(request, |line| Some(line.trim_ascii().to_vec()));
    }
}

/// Whether an `Authorization` value holds a compact JWS, with or without the scheme `Bearer`.
fn looks_like_token(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let token = match bytes.split_first_chunk::<7>() {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer ") => rest.trim_ascii_start(),
        _ => bytes,
    };
    token.starts_with(b"eyJ") && memchr::memchr_iter(b'.', token).count() == 2
}

/// Replaces all `Cookie` lines by one, made of what `edit` leaves of each.
fn edit_cookies(request: &mut impl EditHeaders, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if !request.headers().contains_key(header::COOKIE) {
        return;
    }
    let lines = request.headers().get_all(header::COOKIE).iter();
    let kept: Vec<Vec<u8>> = lines.filter_map(|line| edit(line.as_bytes())).collect();
    set_cookies(request, &kept);
}

fn set_cookies(request: &mut impl EditHeaders, lines: &[Vec<u8>]) {
    static COOKIE: Bytes = Bytes::from_static(b"Cookie");

    request.remove(&header::COOKIE);
    if let Some(value) = cookie::join(lines) {
        request.set(&COOKIE, value);
    }
}
