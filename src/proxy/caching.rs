//! Which answers of backends shared caches may keep, and for whom. The backend does not see the
//! token or cookie that decided, so it cannot say.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

use super::permit::Permit;
use super::read_headers::ReadHeaders;
use crate::config::Access;

static AUTHORIZATION: HeaderValue = HeaderValue::from_static("Authorization");
static COOKIE: HeaderValue = HeaderValue::from_static("Cookie");
pub(super) static ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
static AUTHORIZATION_AND_ORIGIN: HeaderValue = HeaderValue::from_static("Authorization, Origin");
static COOKIE_AND_ORIGIN: HeaderValue = HeaderValue::from_static("Cookie, Origin");

/// Keeps an answer to one person from being shown to another by a cache.
///
/// Caches know that an answer to `Authorization` is for one person, RFC 9111 §3.5, but not that an
/// answer to a cookie or to another header is; and some of them, nginx among them, do not know it
/// of `Authorization`. So every answer that depends on such a header says so in `Vary`.
///
/// `must-revalidate` lets caches share an answer to `Authorization`, RFC 9111 §3.5. A backend that
/// never sees that header does not mean this, so such an answer is private too.
pub(super) fn restrict(
    response: &mut ResponseHeader,
    permit: &Permit,
    read: &ReadHeaders,
) -> pingora::Result<()> {
    let route = &permit.route;
    if response.status.is_informational() {
        return Ok(());
    }
    // The answer depends on the page's origin too; with its name in one value with the other, the
    // line is written once.
    let is_by_origin = route.cors.is_some();
    if route.access == Access::Public {
        return if is_by_origin { add_vary(response, &ORIGIN) } else { Ok(()) };
    }
    let place = permit.credential;
    let is_person = permit.authenticated().is_some();
    let is_left_to_caches = place.is_in_authorization && !says(&response.headers, &["must-revalidate"]);
    let may_be_shared = || is_left_to_caches || route.allow_shared_caching || is_shared(&response.headers);
    if is_person && !may_be_shared() {
        make_private(response)?;
    }
    if route.access == Access::Optional {
        // Also the answer to an anonymous client: another client's header would have changed it.
        return add_vary(response, if is_by_origin { &read.all_and_origin } else { &read.all });
    }
    if place.is_in_cookies {
        add_vary(response, if is_by_origin { &COOKIE_AND_ORIGIN } else { &COOKIE })?;
    }
    if let Some(name) = read.token_header.as_ref().filter(|_| place.is_in_header) {
        add_vary(response, name)?;
    }
    if place.is_in_authorization {
        return add_vary(response, if is_by_origin { &AUTHORIZATION_AND_ORIGIN } else { &AUTHORIZATION });
    }
    if is_by_origin && !place.is_in_cookies { add_vary(response, &ORIGIN) } else { Ok(()) }
}

/// Whether the backend itself says that shared caches may keep its answer.
fn is_shared(headers: &HeaderMap) -> bool {
    says(headers, &["public", "s-maxage"]) && !says(headers, &["private", "no-store"])
}

/// Makes an answer private. What the backend says of its age stays, for the browser's own cache.
///
/// If the answer does not say how long it is fresh, caches would guess, and a browser would show it
/// again without asking, also to the next person who signs in there.
fn make_private(response: &mut ResponseHeader) -> pingora::Result<()> {
    let targeted: Vec<HeaderName> =
        response.headers.keys().filter(|name| is_for_shared_caches(name)).cloned().collect();
    for name in targeted {
        response.remove_header(&name);
    }
    let headers = &response.headers;
    if says(headers, &["private", "no-store"]) {
        return Ok(());
    }
    let stated = joined(headers, &header::CACHE_CONTROL);
    let value = match stated.as_slice() {
        [] if headers.contains_key(header::EXPIRES) => HeaderValue::from_static("private"),
        [] => HeaderValue::from_static("private, no-cache"),
        stated => HeaderValue::from_bytes(&[&b"private, "[..], stated].concat())
            .unwrap_or(HeaderValue::from_static("private, no-cache")),
    };
    response.insert_header(header::CACHE_CONTROL, value)
}

/// Whether a header says to shared caches alone how long to keep an answer. They prefer it to
/// `Cache-Control`: RFC 9213, Edge Architecture, nginx.
fn is_for_shared_caches(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("-cache-control")
        || matches!(name, "surrogate-control" | "edge-control" | "x-accel-expires")
}

/// Whether `Cache-Control` has one of these directives, for the whole answer: `private="X"` is
/// about a header.
fn says(headers: &HeaderMap, directives: &[&str]) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    lines.flat_map(|line| directives_of(line.as_bytes())).any(|directive| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let is_about_a_header = directive.contains(&b'"');
        let is_named = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
        !is_about_a_header && directives.iter().any(is_named)
    })
}

/// The members of a list, in which a quoted text may have commas.
fn directives_of(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    line.split(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    })
}

/// Adds names to `Vary`, in one line: some caches read only one.
fn add_vary(response: &mut ResponseHeader, names: &HeaderValue) -> pingora::Result<()> {
    match vary_with(&response.headers, names) {
        Some(vary) => response.insert_header("Vary", vary),
        None => Ok(()),
    }
}

/// `Vary` with these names added, in one line: some caches read only one. `None` if it stands for
/// every name.
pub(super) fn vary_with(headers: &HeaderMap, names: &HeaderValue) -> Option<HeaderValue> {
    let stated = joined(headers, &header::VARY);
    if stated.is_empty() {
        return Some(names.clone());
    }
    let members: Vec<&[u8]> = stated.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    if members.contains(&&b"*"[..]) {
        return None;
    }
    let is_stated = |name: &[u8]| members.iter().any(|member| member.eq_ignore_ascii_case(name));
    let mut line = stated.clone();
    for name in names.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if !is_stated(name) {
            line.extend_from_slice(b", ");
            line.extend_from_slice(name);
        }
    }
    Some(HeaderValue::from_bytes(&line).unwrap_or(HeaderValue::from_static("*")))
}

/// The lines of a header as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    lines.join(&b", "[..])
}

#[cfg(test)]
mod tests;
