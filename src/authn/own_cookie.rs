//! The gateway's own cookies in a request.
//!
//! Read byte by byte: what other cookies hold, text or not, is their backend's business and hinders nobody here.

use http::HeaderMap;
use http::header::COOKIE;

use super::Refusal;

/// The cookie of a session that a browser holds.
pub const SESSION_COOKIE: &str = "__Host-menshen";
/// What the gateway's own cookies begin with. No backend ever receives one.
pub const OWN_COOKIES: &str = "__Host-menshen";

/// Where the hyphen stands in [`OWN_COOKIES`]: rare in headers, and without upper and lower case.
const HYPHEN: usize = 6;
const _: () = assert!(matches!(OWN_COOKIES.as_bytes().split_at(HYPHEN), (_, [b'-', ..])), "it stands there");

/// Whether a `Cookie` line has the name of a cookie of ours anywhere, in upper or lower case: some backends read names
/// without regard to case, take quotes off them, or end a cookie at a comma.
pub fn mentions_own_cookie(line: &[u8]) -> bool {
    let own = OWN_COOKIES.as_bytes();
    memchr::memchr_iter(b'-', line).any(|at| {
        let found = at.checked_sub(HYPHEN).and_then(|start| line.get(start..start + own.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(own))
    })
}

/// A `Cookie` line without the cookies that mention one of ours; `None` when nothing is left.
pub fn without_own_cookies(line: &[u8]) -> Option<Vec<u8>> {
    let rest: Vec<&[u8]> = pairs(line).filter(|pair| !mentions_own_cookie(pair)).collect();
    (!rest.is_empty()).then(|| rest.join(&b"; "[..]))
}

/// What a request shows of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCookie<'a> {
    /// None.
    Nothing,
    /// This value; empty without a `=`, and where it is not even text: no gateway set it.
    One(&'a str),
    /// Two of one name: nobody can say which is meant.
    Unclear,
}

impl<'a> OwnCookie<'a> {
    /// What a request shows of a cookie of ours. The one way to read them, so that none counts in one place and not in
    /// another.
    pub fn of(headers: &'a HeaderMap, name: &str) -> Self {
        let mut found = Self::Nothing;
        for line in headers.get_all(COOKIE) {
            // Most lines end here, at the price of a look for a hyphen.
            if !mentions_own_cookie(line.as_bytes()) {
                continue;
            }
            for value in pairs(line.as_bytes()).filter_map(|pair| value_of(pair, name)) {
                if found != Self::Nothing {
                    return Self::Unclear;
                }
                found = Self::One(std::str::from_utf8(value).unwrap_or_default());
            }
        }
        found
    }
}

/// The value of the session cookie.
pub(super) fn session_cookie(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    match OwnCookie::of(headers, SESSION_COOKIE) {
        OwnCookie::Nothing => Ok(None),
        OwnCookie::One(value) => Ok(Some(value)),
        OwnCookie::Unclear => Err(Refusal::SeveralTokens),
    }
}

/// The value, if this is the cookie's name; without a `=` it is empty.
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
    fn only_the_cookies_of_our_own_are_taken_out_of_a_line() {
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
            let kept = without_own_cookies(line.as_bytes());
            assert_eq!(kept.as_deref(), rest.map(str::as_bytes), "{line:?}");
        }
    }
}
