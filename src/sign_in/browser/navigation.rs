//! Decides which requests open a page in a browser, and redirects them to the sign-in page.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::{Origin, ReturnTo};
use crate::page::{Action, Message, Notice};
use crate::sign_in::error::SignInError;
use crate::sign_in::{SignInAnswer, SignInService};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// The headers by which browsers mark a prefetch. All but the first are from older browsers.
const PURPOSES: [HeaderName; 4] = [
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("purpose"),
    HeaderName::from_static("x-purpose"),
    HeaderName::from_static("x-moz"),
];
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Why a user does not get a page, and would not get it after another sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageDenial {
    /// The session cannot be looked up now.
    StoreUnavailable,
    /// An operator blocks the user.
    Blocked,
    /// The route does not permit the user.
    NotPermitted,
}

impl SignInService {
    /// Redirects a user who opens a page without a session to the sign-in page, which redirects
    /// back after the sign-in. `None` if the request does not open a page, or if no browser can
    /// sign in.
    ///
    /// `apps` are the apps that the user may sign in to, the preferred app first.
    pub fn sign_in_redirect(&self, request: &Parts, apps: &[Arc<str>]) -> Option<SignInAnswer> {
        if !opens_page(request, apps) {
            return None;
        }
        let own = self.settings.origins.of(request)?;
        // A page that is not accepted later leads to the root anyway, and would make the address
        // long.
        let place = self.requested_page(request, own);
        let path = self.sign_in_path_for(place.as_ref(), apps.iter().map(|app| &**app));
        SignInAnswer::see_other("sign_in", &path).ok()
    }

    /// Whether a user who has no session opens a page at a host that is not one of `login.origins`,
    /// so that the user cannot sign in here.
    pub fn is_at_unknown_origin(&self, request: &Parts, apps: &[Arc<str>]) -> bool {
        let origins = &self.settings.origins;
        opens_page(request, apps) && !origins.is_empty() && origins.of(request).is_none()
    }

    /// The page that says to a user why a request was refused. `None` if no user reads the answer.
    pub fn refusal_page(
        &self,
        status: StatusCode,
        message: &Message<'_>,
        request: &Parts,
    ) -> Option<Response<Bytes>> {
        let page = || self.message_page(status, message.notice.as_str(), message, request).response;
        is_read_by_user(request).then(page)
    }

    /// The page for a user whose request was denied and would be denied after another sign-in.
    /// `None` as with [`SignInService::sign_in_redirect`].
    pub fn denial_page(
        &self,
        why: PageDenial,
        request: &Parts,
        apps: &[Arc<str>],
        request_id: &str,
    ) -> Option<SignInAnswer> {
        if !opens_page(request, apps) {
            return None;
        }
        let place = self.settings.origins.of(request).and_then(|own| self.requested_page(request, own));
        let logout = self.logout_path();
        let sign_out_action = Self::sign_out_action(&logout, place.as_ref(), &request.headers);
        Some(match why {
            PageDenial::StoreUnavailable => {
                let retry = place.as_ref().map_or(Action::Nothing, |place| Action::Link(place.location()));
                self.error_page(SignInError::StoreUnavailable, retry, request, request_id)
            }
            PageDenial::Blocked => {
                self.error_page(SignInError::UserBlocked, sign_out_action, request, request_id)
            }
            PageDenial::NotPermitted => {
                let message = Message::new(Notice::NotPermitted, sign_out_action, request_id);
                self.message_page(StatusCode::FORBIDDEN, "not_admitted", &message, request)
            }
        })
    }

    /// The page that a request asks for, if a browser may be redirected to it.
    fn requested_page(&self, request: &Parts, own: &Origin) -> Option<ReturnTo> {
        request.uri.path_and_query().and_then(|place| self.allowed_return_to(place.as_str(), own))
    }
}

/// Whether a user opens a page of a route that browsers can sign in to.
fn opens_page(request: &Parts, apps: &[Arc<str>]) -> bool {
    !apps.is_empty() && request.method == Method::GET && is_navigation(request)
}

/// Whether a browser shows the answer to its user. A form is such a request only if the browser
/// says so: programs that send no `Sec-Fetch-Mode` post too, whatever they accept.
fn is_read_by_user(request: &Parts) -> bool {
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    is_navigation(request) && (is_read || request.headers.contains_key(SEC_FETCH_MODE))
}

/// Whether a browser requests a page to show to its user. If the browser sends no `Sec-Fetch-Mode`,
/// `Accept` decides. See https://www.w3.org/TR/fetch-metadata/.
pub(in crate::sign_in) fn is_navigation(request: &Parts) -> bool {
    let headers = &request.headers;
    !is_embedded(headers)
        && !is_prefetch(headers)
        && (headers.contains_key(SEC_FETCH_MODE) || accepts_html(headers) && !is_by_script(headers))
}

/// Whether a browser prefetches a page that its user may never open. Any page of any site can cause
/// this, and in all other headers such a request looks as if the user had typed the address.
/// See https://wicg.github.io/nav-speculation/prefetch.html.
pub(in crate::sign_in) fn is_prefetch(headers: &HeaderMap) -> bool {
    let values = PURPOSES.into_iter().flat_map(|name| headers.get_all(name));
    values.filter_map(|value| value.to_str().ok()).any(|value| {
        let value = value.to_ascii_lowercase();
        ["prefetch", "prerender", "preview"].iter().any(|purpose| value.contains(purpose))
    })
}

/// Whether a page of another site may have caused the request: by a popup whose location it sets,
/// by a form, or by a redirect. Such a page can repeat it often without the user's knowledge. It
/// did not cause the request if the user typed the address or followed a link of this origin.
pub(in crate::sign_in) fn may_be_cross_site(headers: &HeaderMap) -> bool {
    let says = |word: &[u8]| header_is(headers, &SEC_FETCH_SITE, word) == Some(true);
    !says(b"same-origin") && !says(b"none")
}

/// Whether a browser says that a page of another site, or of another origin of the same site, led
/// it here. WeChat's program opens a page as if the user had typed its address. A browser that does
/// not say what led it here is not suspected: those of older phones never do.
pub(in crate::sign_in) fn is_led_by_other_site(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_FETCH_SITE) && may_be_cross_site(headers)
}

/// Whether a browser says that it does not request a page to show, but an image, a frame, or data
/// for a script.
fn is_embedded(headers: &HeaderMap) -> bool {
    let mode = header_is(headers, &SEC_FETCH_MODE, b"navigate");
    let is_page = header_is(headers, &SEC_FETCH_DEST, b"document");
    // If a service worker forwards the request of a page, the destination is lost. A service worker
    // cannot forge the mode.
    let is_passed_on = mode == Some(true) && header_is(headers, &SEC_FETCH_DEST, b"empty") == Some(true);
    mode == Some(false) || is_page == Some(false) && !is_passed_on
}

/// Whether a browser says that it sends this request for a page of another site without a
/// preflight: a form, or a `no-cors` request of a script. A script can also send the content types
/// of forms in `cors` mode without a preflight; this function does not detect that.
pub(in crate::sign_in) fn is_sent_without_preflight(headers: &HeaderMap) -> bool {
    let is_asked = |mode: &HeaderValue| !matches!(mode.as_bytes(), b"navigate" | b"no-cors");
    let is_elsewhere = header_is(headers, &SEC_FETCH_SITE, b"same-origin") == Some(false);
    is_elsewhere && !headers.get_all(SEC_FETCH_MODE).iter().all(is_asked)
}

/// Whether a script library sent the request. Android apps such as WeChat send their own name in
/// `X-Requested-With` when they open a page.
fn is_by_script(headers: &HeaderMap) -> bool {
    let mut names = headers.get_all(X_REQUESTED_WITH).iter();
    names.any(|name| name.as_bytes().eq_ignore_ascii_case(b"XMLHttpRequest"))
}

/// Whether a header has this value and no other; `None` if it is absent.
fn header_is(headers: &HeaderMap, name: &HeaderName, word: &[u8]) -> Option<bool> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.as_bytes() == word && values.next().is_none())
}

/// Whether `Accept` names `text/html`. `*/*` does not count, because programs send it.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut types = lines.flat_map(|line| line.split(',')).map(|range| range.split(';').next());
    types.any(|media_type| media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case("text/html")))
}
