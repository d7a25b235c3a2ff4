//! What the POST endpoints of programs have in common: the check by the header, and the body.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::body::BodyFormat;
use crate::authn::{CrossSite, is_cross_site};
use crate::sign_in::browser::is_sent_without_preflight;
use crate::sign_in::call::{BodyLimit, ReadBody, SignInCall};
use crate::sign_in::error::SignInError;
use crate::sign_in::service::SignInService;

/// Checks that a request is one of a program. It counts nothing: a good token or a known user in it
/// must not be refused for what others at the address did.
pub(in crate::sign_in) fn precheck_program(
    service: &SignInService,
    call: SignInCall<'_>,
) -> Result<Option<BodyLimit>, SignInError> {
    let body_limit = precheck_post(service, call.request)?;
    refuse_cross_site(call.request, call.cross_site)?;
    Ok(body_limit)
}

/// Checks that the body of a request is worth reading.
pub(in crate::sign_in) fn precheck_post(
    service: &SignInService,
    request: &Parts,
) -> Result<Option<BodyLimit>, SignInError> {
    if request.method != Method::POST {
        return Err(SignInError::MethodNotAllowed);
    }
    if declared_length(&request.headers).is_some_and(|length| length > service.settings.max_body_bytes) {
        return Err(SignInError::BodyTooLarge);
    }
    BodyFormat::of(&request.headers)?;
    Ok(Some(BodyLimit { max_bytes: service.settings.max_body_bytes, timeout: service.settings.body_timeout }))
}

/// Refuses what a page of another site makes a visitor's browser send: its codes and tokens are
/// made up, and each of them would count as a failure of all clients that share the visitor's
/// address. A browser asks first whether it may send JSON, which the gateway allows only if `cors`
/// lists the page's origin. It sends anything else without asking.
pub(super) fn refuse_cross_site(request: &Parts, allowed: CrossSite) -> Result<(), SignInError> {
    let is_json = BodyFormat::of(&request.headers)? == BodyFormat::Json;
    let is_asked = is_json && request.headers.contains_key(header::CONTENT_TYPE);
    if is_sent_without_preflight(&request.headers) || !is_asked && is_cross_site(request, false, allowed) {
        return Err(SignInError::CrossSite);
    }
    Ok(())
}

/// The body as it arrived, and its format.
pub(in crate::sign_in) fn read_body(
    service: &SignInService,
    request: &Parts,
    body: ReadBody,
) -> Result<(BodyFormat, Bytes), SignInError> {
    let body = body?;
    if body.len() > service.settings.max_body_bytes {
        return Err(SignInError::BodyTooLarge);
    }
    Ok((BodyFormat::of(&request.headers)?, body))
}

/// The length that the header declares; a chunked body has none and is measured as it is read.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().unwrap_or_default();
    // A length that is no number, or too large for one, is larger than every limit.
    Some(text.parse().unwrap_or(usize::MAX))
}
