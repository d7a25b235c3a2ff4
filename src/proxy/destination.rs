//! Whether a request that copies or moves something stays on its route.
//!
//! The backend writes to the path in `Destination`, which the rules of that path's route may not
//! permit. So the destination must be a path of the request's own route, in its canonical form.

use std::sync::Arc;

use http::HeaderMap;
use http::uri::{PathAndQuery, Uri};
use pingora::http::RequestHeader;

use super::admit::Admitted;
use super::current::Current;
use super::reason::Reason;
use super::refusal::Refusal;
use super::routed::Routed;
use crate::host::request_authority;
use crate::path::canonicalise;

/// Checks the destination of COPY and MOVE; RFC 4918 §10.3.
///
/// # Errors
/// [`Reason::DestinationRefused`]
pub(super) fn check(
    request: &RequestHeader,
    routed: &Routed,
    admitted: &Admitted,
    current: &Current,
) -> Result<(), Refusal> {
    let runtime = current.runtime();
    let found = request_authority(request)
        .and_then(|authority| path(&request.headers, authority))
        .filter(|path| runtime.sign_in.endpoint(path).is_none())
        .and_then(|path| runtime.routes.find(&admitted.host, &path, &request.method).ok());
    if found.is_some_and(|route| Arc::ptr_eq(route, &routed.route)) {
        Ok(())
    } else {
        Err(Refusal::without_route(Reason::DestinationRefused))
    }
}

/// The canonical path of the one destination, if it is on the request's own host: an absolute path,
/// or `http` or `https` with the request's authority.
fn path(headers: &HeaderMap, authority: &str) -> Option<String> {
    let mut destinations = headers.get_all("destination").iter();
    let destination = destinations.next()?.to_str().ok()?;
    if destinations.next().is_some() || destination.contains(['#', '?']) {
        return None;
    }
    let path = if destination.starts_with('/') {
        destination.parse::<PathAndQuery>().ok()?.path().to_owned()
    } else {
        let uri: Uri = destination.parse().ok()?;
        let is_own = uri.authority().is_some_and(|own| own.as_str().eq_ignore_ascii_case(authority));
        if !is_own || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return None;
        }
        uri.path().to_owned()
    };
    // What is not canonical could be read as another path. It is forwarded as it came.
    let is_canonical = destination.ends_with(&path) && canonicalise(&path).is_ok_and(|own| own == path);
    is_canonical.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_one_canonical_path_on_the_requests_own_host() {
        for (destinations, expected) in [
            (&["/dav/b"][..], Some("/dav/b")),
            (&["https://a.test/dav/b"], Some("/dav/b")),
            (&["http://A.TEST/dav/%20b"], Some("/dav/%20b")),
            (&[], None),
            (&["/dav/b", "/dav/b"], None),
            (&["http://b.test/dav/b"], None),
            (&["http://a.test:80/dav/b"], None),
            (&["http://u@a.test/dav/b"], None),
            (&["ftp://a.test/dav/b"], None),
            (&["//a.test/dav/b"], None),
            (&["dav/b"], None),
            (&["/dav/../admin"], None),
            (&["/dav/%2e%2e/admin"], None),
            (&["/dav/%61"], None),
            (&["/dav/b?x"], None),
            (&["/dav/b#x"], None),
            (&["/dav//b"], None),
            (&["/dav/b;x"], None),
            (&["/dav/%2Fb"], None),
            (&[""], None),
        ] {
            let mut headers = HeaderMap::new();
            for destination in destinations {
                headers.append("destination", destination.parse().unwrap());
            }

            assert_eq!(path(&headers, "a.test").as_deref(), expected, "{destinations:?}");
        }
    }
}
