//! Cookies: the names of the gateway's own, how any cookie is read from `Cookie` lines and removed
//! from them, and how a cookie is set.
//!
//! Lines are read byte by byte: what the cookies of a backend hold, text or not, does not matter
//! here.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// What the names of the gateway's own cookies begin with. No backend receives such a cookie.
pub const OWN_PREFIX: &str = "__Host-menshen";
/// The cookie of a session that a browser holds.
pub const SESSION: &str = "__Host-menshen";
/// The cookie that tells which browser began a sign-in.
pub const BROWSER: &str = "__Host-menshen-browser";

/// Position of the hyphen in [`OWN_PREFIX`]: rare in headers, and the same in upper and lower case.
const HYPHEN: usize = 6;
const _: () =
    assert!(matches!(OWN_PREFIX.as_bytes().split_at(HYPHEN), (_, [b'-', ..])), "the hyphen stands there");

/// What a request shows of one cookie of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCookie<'a> {
    /// The cookie is not there.
    Absent,
    /// The cookie has this value. It is empty if there is no `=`, or if the value is not text: the
    /// gateway never set such a cookie.
    One(&'a str),
    /// Two cookies have the name, so it is not known which one is meant.
    Several,
}

impl<'a> OwnCookie<'a> {
    /// Reads a cookie of the gateway. All code reads them here, so that a cookie never counts in
    /// one place and not in another.
    pub fn of(headers: &'a HeaderMap, name: &str) -> Self {
        let mut found = Self::Absent;
        for line in headers.get_all(COOKIE) {
            // Most lines end here, at the price of a search for a hyphen.
            if !mentions_own(line.as_bytes()) {
                continue;
            }
            for value in values(line.as_bytes(), name) {
                if found != Self::Absent {
                    return Self::Several;
                }
                found = Self::One(str::from_utf8(value).unwrap_or_default());
            }
        }
        found
    }
}

/// Whether a name begins as those of the gateway's own cookies do, in upper or lower case.
pub fn is_own_name(name: &str) -> bool {
    let start = name.as_bytes().get(..OWN_PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX.as_bytes()))
}

/// Whether a `Cookie` line has the name of a cookie of the gateway anywhere, in upper or lower
/// case.
///
/// Some backends ignore case in names, remove quotes from them, or end a cookie at a comma.
pub fn mentions_own(line: &[u8]) -> bool {
    let own = OWN_PREFIX.as_bytes();
    memchr::memchr_iter(b'-', line).any(|at| {
        let found = at.checked_sub(HYPHEN).and_then(|start| line.get(start..start + own.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(own))
    })
}

/// Whether a `Set-Cookie` line sets a cookie that a client may send back as one of the gateway's.
///
/// The value counts too: browsers send a cookie without a name back as if its value were name and
/// value.
pub fn sets_own(line: &HeaderValue) -> bool {
    mentions_own(line.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default())
}

/// Removes the cookies that mention one of the gateway's from a `Cookie` line; `None` when nothing
/// is left.
pub fn without_own(line: &[u8]) -> Option<Vec<u8>> {
    retain(line, |pair| !mentions_own(pair))
}

/// Removes the cookies of one name from a `Cookie` line; `None` when nothing is left.
///
/// Reads the line as [`values`] does, so that what was read as a token is what is removed.
pub fn without(line: &[u8], name: &str) -> Option<Vec<u8>> {
    retain(line, |pair| value_of(pair, name).is_none())
}

/// The values that a `Cookie` line gives a name. A cookie without a `=` has an empty value.
pub fn values<'a>(line: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    pairs(line).filter_map(move |pair| value_of(pair, name))
}

/// Joins `Cookie` lines to the one line that HTTP/1.1 allows; `None` when nothing is left. See
/// RFC 9113 §8.2.3.
pub fn join(lines: &[Vec<u8>]) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).filter(|line| !line.is_empty()).collect();
    HeaderValue::try_from(lines.join(&b"; "[..])).ok().filter(|value| !value.is_empty())
}

/// The `Set-Cookie` value of a cookie of the gateway, valid for `lifetime`; zero deletes it.
///
/// `__Host-` cookies can be set over TLS by this host only, so that a page of a neighbouring host
/// cannot plant one. Each value has every attribute: a browser ignores a deletion without `Secure`.
pub fn set(name: &str, value: &str, lifetime: Duration) -> Option<HeaderValue> {
    let seconds = lifetime.as_secs();
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn retain(line: &[u8], keeps: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let rest: Vec<&[u8]> = pairs(line).filter(|pair| keeps(pair)).collect();
    (!rest.is_empty()).then(|| rest.join(&b"; "[..]))
}

/// The value, if the cookie has this name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
    let (found, value) = pair.split_at_checked(end)?;
    (found.trim_ascii_end() == name.as_bytes())
        .then(|| value.strip_prefix(b"=").unwrap_or(value).trim_ascii_start())
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateways_own_cookies_are_removed_from_a_line() {
        for (line, rest) in [
            ("a=1", Some("a=1")),
            ("a=1; b=2", Some("a=1; b=2")),
            ("a=1;b=2 ;; c", Some("a=1; b=2; c")),
            ("__Host-menshen=x", None),
            ("a=1; __Host-menshen=x; b=2", Some("a=1; b=2")),
            ("__host-MENSHEN-browser=x; a=1", Some("a=1")),
            ("a=__Host-menshen; b=2", Some("b=2")),
            ("__Hos=1; Host-menshen=2", Some("__Hos=1; Host-menshen=2")),
            ("", None),
            (" ; ", None),
        ] {
            let kept = without_own(line.as_bytes());
            assert_eq!(kept.as_deref(), rest.map(str::as_bytes), "{line:?}");
        }
    }

    #[test]
    fn removing_a_cookie_keeps_the_others() {
        let table = [
            ("session=t", None),
            ("a=1; session=t; b=2", Some("a=1; b=2")),
            ("session = t;a=1", Some("a=1")),
            ("session", None),
            ("a=1", Some("a=1")),
            ("Session=t", Some("Session=t")),
            ("a=session=t", Some("a=session=t")),
            ("", None),
        ];
        for (line, expected) in table {
            let rest = without(line.as_bytes(), "session");
            assert_eq!(rest.as_deref(), expected.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn cookie_is_read_only_if_it_occurs_once() {
        let table: [(&[&[u8]], OwnCookie<'_>); 13] = [
            (&[], OwnCookie::Absent),
            (&[b""], OwnCookie::Absent),
            (&[b"a=b; __Host-menshen-browse=x; __Host-menshen-browserx=y"], OwnCookie::Absent),
            (&[b"__host-menshen-browser=x"], OwnCookie::Absent),
            (&[b"a=__Host-menshen-browser=x"], OwnCookie::Absent),
            (&[b"__Host-menshen-browser=x"], OwnCookie::One("x")),
            (&[b"a=b", b"c=d;__Host-menshen-browser = x ;e=f"], OwnCookie::One("x")),
            (&[b"__Host-menshen-browser"], OwnCookie::One("")),
            (&[b"__Host-menshen-browser=x=y"], OwnCookie::One("x=y")),
            (&[b"__Host-menshen-browser=x; __Host-menshen-browser=x"], OwnCookie::Several),
            (&[b"__Host-menshen-browser=x", b"__Host-menshen-browser=y"], OwnCookie::Several),
            (&[b"__Host-menshen-browser=x; a=\xff"], OwnCookie::One("x")),
            (&[b"__Host-menshen-browser=\xff"], OwnCookie::One("")),
        ];
        for (lines, expected) in table {
            let headers: HeaderMap =
                lines.iter().map(|line| (COOKIE, HeaderValue::from_bytes(line).unwrap())).collect();
            assert_eq!(OwnCookie::of(&headers, BROWSER), expected, "{lines:?}");
        }
    }
}
