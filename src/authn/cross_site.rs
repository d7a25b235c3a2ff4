//! Whether a page of another site made a browser send a request (CSRF).
//!
//! The rules are those of `CrossOriginProtection` in Go's `net/http`. A header that stands twice or
//! cannot be read counts as cross-site.

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::host::{Authority, request_authority};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request that a page of another site made may use a cookie, other than to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSite {
    /// The request is refused.
    Refuse,
    /// The request is allowed: the backend has its own protection.
    Allow,
}

/// Whether a request that changes something, or opens a tunnel, comes from another site's page.
///
/// `Sec-Fetch-Site` decides if the browser sends it. Otherwise `Origin` is compared with the host
/// of the request. A request with neither does not come from a browser that another page could make
/// send it.
pub fn is_cross_site(request: &Parts, is_websocket: bool) -> bool {
    let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    // GET opens a tunnel, and what the client sends through it later is not checked again.
    if reads && !is_websocket {
        return false;
    }
    match single_header(&request.headers, &SEC_FETCH_SITE) {
        // `same-site` is refused: another party may own a page of another subdomain.
        SingleHeader::One(site) => !matches!(site.as_bytes(), b"same-origin" | b"none"),
        SingleHeader::Several => true,
        SingleHeader::Absent => match single_header(&request.headers, &ORIGIN) {
            SingleHeader::Absent => false,
            SingleHeader::One(origin) => !is_own_origin(origin, request),
            SingleHeader::Several => true,
        },
    }
}

/// How often a header stands in a request.
enum SingleHeader<'a> {
    Absent,
    One(&'a HeaderValue),
    Several,
}

fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> SingleHeader<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => SingleHeader::Absent,
        (Some(value), None) => SingleHeader::One(value),
        (Some(_), Some(_)) => SingleHeader::Several,
    }
}

/// Whether an origin is that of the request itself. Behind a proxy that speaks TLS the browser's
/// scheme is not known, so the scheme of the origin gives the default port.
fn is_own_origin(origin: &HeaderValue, request: &Parts) -> bool {
    let is_own = || {
        let origin = origin.to_str().ok()?;
        let (named, default_port) = match origin.split_once("://")? {
            ("https", named) => (named, 443),
            ("http", named) => (named, 80),
            _ => return None,
        };
        let named = Authority::parse(named)?;
        let own = Authority::parse(request_authority(request)?)?;
        let is_same_port = named.port.unwrap_or(default_port) == own.port.unwrap_or(default_port);
        Some(is_same_port && named.host.eq_ignore_ascii_case(own.host))
    };
    is_own().unwrap_or(false)
}
