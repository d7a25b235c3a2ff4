//! Whether a page of another site made a browser send a request (CSRF).

use http::request::Parts;

/// Whether a request that a page of another site made may use a cookie, other than to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossSite {
    /// It is refused.
    Refuse,
    /// It may: the backend has protection of its own.
    Allow,
}

/// Whether a request that changes something, or opens a tunnel, comes from another site's page.
///
/// `Sec-Fetch-Site` decides where the browser sends it, else `Origin` against the request's own host; a request with
/// neither is from no browser that could be made to send it.
pub(super) fn is_cross_site(request: &Parts, is_websocket: bool) -> bool {
    let _ = (request, is_websocket);
    true
}
