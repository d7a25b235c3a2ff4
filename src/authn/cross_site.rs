//! Whether a page of another site made a browser send a request (CSRF).
//!
//! The rules are those of `CrossOriginProtection` in Go's `net/http`. A header that stands twice or
//! cannot be read counts as cross-site.

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::host::{Authority, is_loopback, request_authority};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request that a page of another site made may use a cookie, other than to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSite {
    /// The request is refused.
    Refuse,
    /// The request is allowed if its page is of the same site. The caller has checked that the
    /// operator lists the origin of the page.
    AllowSameSite,
    /// The request is allowed: the backend has its own protection.
    Allow,
}

/// Whether a request that changes something, or opens a tunnel, comes from another site's page.
///
/// `Sec-Fetch-Site` decides if the browser sends it. Otherwise `Origin` is compared with the host
/// of the request. A request with neither does not come from a browser that another page could make
/// send it. `allowed` says what a page of another origin may do.
pub fn is_cross_site(request: &Parts, is_websocket: bool, allowed: CrossSite) -> bool {
    let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    // GET opens a tunnel, and what the client sends through it later is not checked again.
    (!reads || is_websocket) && is_cross_site_change(request, allowed)
}

/// As [`is_cross_site`], for a request that changes something whatever its method.
pub fn is_cross_site_change(request: &Parts, allowed: CrossSite) -> bool {
    match (allowed, single_header(&request.headers, &SEC_FETCH_SITE)) {
        (CrossSite::Allow, _) => false,
        // Only the browser knows which hosts are one site: the gateway has no list of public
        // suffixes.
        (CrossSite::AllowSameSite, SingleHeader::One(site)) if site == "same-site" => false,
        // Another party may own a page of another subdomain.
        (_, SingleHeader::One(site)) => !matches!(site.as_bytes(), b"same-origin" | b"none"),
        (_, SingleHeader::Several) => true,
        (allowed, SingleHeader::Absent) => match single_header(&request.headers, &ORIGIN) {
            SingleHeader::Absent => false,
            SingleHeader::One(origin) => !PageOrigin::parse(origin).is_some_and(|page| {
                page.is_of(request) || allowed == CrossSite::AllowSameSite && page.is_of_host(request)
            }),
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

/// The origin of a page, as its browser names it.
struct PageOrigin<'a> {
    named: Authority<'a>,
    is_https: bool,
}

impl<'a> PageOrigin<'a> {
    fn parse(origin: &'a HeaderValue) -> Option<Self> {
        let (is_https, named) = match origin.to_str().ok()?.split_once("://")? {
            ("https", named) => (true, named),
            ("http", named) => (false, named),
            _ => return None,
        };
        Some(Self { named: Authority::parse(named)?, is_https })
    }

    /// Whether the request goes to this origin. Behind a proxy that speaks TLS the browser's scheme
    /// is not known, so the scheme of the origin gives the default port.
    fn is_of(&self, request: &Parts) -> bool {
        let default_port = if self.is_https { 443 } else { 80 };
        own_authority(request).is_some_and(|own| {
            self.named.port.unwrap_or(default_port) == own.port.unwrap_or(default_port)
                && self.named.host.eq_ignore_ascii_case(own.host)
        })
    }

    /// Whether the request goes to the same host, whatever the port. Such an origin is of the same
    /// site; of other hosts the gateway cannot tell. Over plain HTTP anyone on the network could
    /// have written the page.
    fn is_of_host(&self, request: &Parts) -> bool {
        (self.is_https || is_loopback(self.named.host))
            && own_authority(request).is_some_and(|own| self.named.host.eq_ignore_ascii_case(own.host))
    }
}

fn own_authority(request: &Parts) -> Option<Authority<'_>> {
    Authority::parse(request_authority(request)?)
}
