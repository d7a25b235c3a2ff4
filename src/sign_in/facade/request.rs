//! What a façade checks by the header alone, and where it finds the code.

use std::borrow::Cow;

use http::{Method, header};
use tracing::debug;

use super::endpoint::{CodeSource, Facade};
use crate::authn::is_cross_site_change;
use crate::config::AppKind;
use crate::sign_in::answer::SignInAnswer;
use crate::sign_in::browser::{Parameter, Query, is_navigation, is_prefetch, is_sent_without_preflight};
use crate::sign_in::call::{BodyLimit, ReadBody, SignInCall};
use crate::sign_in::error::SignInError;
use crate::sign_in::program::body::BodyFormat;
use crate::sign_in::program::malformed::MalformedBody;
use crate::sign_in::program::request::{precheck_post, read_body};
use crate::sign_in::record::count_sign_in;
use crate::sign_in::service::SignInService;
use crate::wechat::Code;

/// Decides by the header alone whether a request is worth reading. It counts nothing against the
/// client's address.
#[expect(clippy::result_large_err, reason = "the answer goes straight to the client, once")]
pub(in crate::sign_in) fn precheck(
    service: &SignInService,
    facade: &Facade,
    call: SignInCall<'_>,
) -> Result<Option<BodyLimit>, SignInAnswer> {
    check(service, facade, call).map_err(|error| {
        count_sign_in(&service.deps, AppKind::MiniProgram, error.code());
        debug!(
            login.outcome = error.code(),
            http.request.id = call.request_id,
            "login refused unread: {error}"
        );
        facade.refuse(&error, call)
    })
}

fn check(
    service: &SignInService,
    facade: &Facade,
    call: SignInCall<'_>,
) -> Result<Option<BodyLimit>, SignInError> {
    if !facade.methods.contains(&call.request.method) {
        return Err(SignInError::MethodNotAllowed);
    }
    refuse_cross_site(facade, call)?;
    if facade.reads_body() { precheck_post(service, call.request) } else { Ok(None) }
}

/// Refuses what a page of another site makes a visitor's browser send, and what a browser fetches
/// before its user wants it. Also a GET: it would spend a code, or count as a failed guess of all
/// clients at the visitor's address.
///
/// A browser asks first whether it may send JSON or a header of the client's own, which the gateway
/// allows only if `cors` lists the page's origin. `wx.request` says JSON in a GET too, so it is not
/// refused in the developer tools, which are a browser.
fn refuse_cross_site(facade: &Facade, call: SignInCall<'_>) -> Result<(), SignInError> {
    let SignInCall { request, cross_site, .. } = call;
    let headers = &request.headers;
    let is_json =
        headers.contains_key(header::CONTENT_TYPE) && BodyFormat::of(headers) == Ok(BodyFormat::Json);
    let is_asked = is_json || matches!(facade.code, CodeSource::Header(_));
    let is_opened = request.method == Method::GET && !is_asked && is_navigation(request);
    let is_forced = is_prefetch(headers) || is_sent_without_preflight(headers) || is_opened;
    if is_forced || !is_asked && is_cross_site_change(request, cross_site) {
        return Err(SignInError::CrossSite);
    }
    Ok(())
}

impl Facade {
    /// The code of a request that passed [`precheck`].
    pub(super) fn read_code(
        &self,
        service: &SignInService,
        call: SignInCall<'_>,
        body: ReadBody,
    ) -> Result<Code, SignInError> {
        let missing = SignInError::RequestMalformed(MalformedBody::CodeMissing);
        let twice = SignInError::RequestMalformed(MalformedBody::FieldTwice);
        let code: Cow<'_, str> = match &self.code {
            CodeSource::Query(name) => match Query::of(call.request).one(name) {
                Parameter::Missing => return Err(missing),
                Parameter::Several => return Err(twice),
                Parameter::One(text) => text.to_owned().into(),
            },
            CodeSource::Header(name) => {
                let mut values = call.request.headers.get_all(name).iter();
                let value = values.next().ok_or(missing)?;
                if values.next().is_some() {
                    return Err(twice);
                }
                value.to_str().unwrap_or_default().into()
            }
            CodeSource::Field(name) => {
                let (format, body) = read_body(service, call.request, body)?;
                format.read_text(&body, name)?.ok_or(missing)?.into()
            }
        };
        Ok(Code::parse(&code).map_err(|_| MalformedBody::NotACode)?)
    }
}
