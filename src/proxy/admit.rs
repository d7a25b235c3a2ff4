//! The first step of the decision: a request is admitted, and gets its one canonical target and
//! host.

use std::sync::Arc;

use http::header;
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::admission::{Admission, AdmissionError, CanonicalRequest, Received, with_path_and_query};
use super::reason::Reason;
use super::refusal::Refusal;
use crate::host::request_authority;
use crate::path::AmbiguousPath;

/// A request that was admitted. Its header has the canonical target and host; an ambiguous path has
/// no canonical form, and is as it came.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Lower case, without port and trailing dot.
    pub(super) host: Arc<str>,
    /// The host and the port as sent, if they differ from `host`.
    pub(super) sent_authority: Option<Box<str>>,
    /// Set if backends read the path in more than one way.
    pub(super) ambiguous_path: Option<Box<AmbiguousPath>>,
    /// `OPTIONS *`: the request is about the gateway itself.
    pub(super) is_about_server: bool,
}

/// Admits a request, and rewrites its target and host to their canonical form.
///
/// # Errors
/// [`Reason::Admission`]
pub(super) fn admit(session: &mut Session, admission: &Admission) -> Result<Admitted, Refusal> {
    // A clone of the bytes counts a reference: the request is borrowed below.
    let raw_header = session.as_downstream().as_http1().map(|http1| http1.get_headers_raw_bytes());
    let request = session.req_header();
    let received = Received { parts: request, target: request.raw_path(), raw_header: raw_header.as_deref() };
    let refused = |error| Refusal::without_route(Reason::Admission(error));
    let canonical = admission.admit(&received).map_err(refused)?;
    let CanonicalRequest { host, rewritten_target, rewritten_authority, ambiguous_path, is_about_server } =
        canonical;
    let sent_authority = request_authority(request).filter(|sent| *sent != &*host).map(Box::from);
    let admitted = Admitted { host: host.into(), sent_authority, ambiguous_path, is_about_server };
    if !is_about_server && (rewritten_target.is_some() || rewritten_authority.is_some()) {
        rewrite(session.req_header_mut(), rewritten_target, rewritten_authority)
            .ok_or_else(|| refused(AdmissionError::Target))?;
    }
    Ok(admitted)
}

/// Writes the canonical target and host into the request. From here on the request has no other.
fn rewrite(
    request: &mut RequestHeader,
    target: Option<PathAndQuery>,
    authority: Option<String>,
) -> Option<()> {
    if let Some(target) = target {
        request.set_uri(with_path_and_query(&request.uri, target)?);
    }
    if let Some(authority) = authority {
        if request.uri.authority().is_some() {
            let mut parts = request.uri.clone().into_parts();
            parts.authority = Some(authority.parse().ok()?);
            request.set_uri(http::Uri::from_parts(parts).ok()?);
        }
        if request.headers.contains_key(header::HOST) {
            request.insert_header(header::HOST, authority).ok()?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
