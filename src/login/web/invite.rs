//! Which requests are a person's who opens a page, and where such a person is sent to sign in.

use std::sync::Arc;

use http::header::{ACCEPT, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::endpoint::with_query;
use crate::login::{Answer, Login};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

impl Login {
    /// The answer that leads a person who opens a page to the sign-in page, and back afterwards.
    pub(in crate::login) fn way_to_sign_in(&self, request: &Parts, apps: &[Arc<str>]) -> Option<Answer> {
        if apps.is_empty() || request.method != Method::GET || !is_navigation(request) {
            return None;
        }
        let own = self.origins.of(request)?;
        // One that would not be taken back leads to the root all the same, and makes a long address.
        let place =
            request.uri.path_and_query().and_then(|place| self.allowed_return_to(place.as_str(), own));
        let return_to = place.as_ref().map(|place| ("return_to", place.location()));
        let apps = apps.iter().map(|app| ("app", &**app));
        let parameters: Vec<(&str, &str)> = return_to.into_iter().chain(apps).collect();
        Answer::see_other("sign_in", &with_query(self.sign_in_path(), &parameters)).ok()
    }
}

/// Whether a browser asks for a page to show, on behalf of a person. Where it does not say so itself, what it accepts does.
/// See https://www.w3.org/TR/fetch-metadata/.
pub(in crate::login) fn is_navigation(request: &Parts) -> bool {
    let headers = &request.headers;
    let mode = said(headers, &SEC_FETCH_MODE, b"navigate");
    let destination = said(headers, &SEC_FETCH_DEST, b"document");
    match (mode, destination) {
        (Some(true), Some(true) | None) => true,
        (None, Some(true) | None) => accepts_html(headers) && !headers.contains_key(X_REQUESTED_WITH),
        (Some(false), _) | (_, Some(false)) => false,
    }
}

/// Whether a header says this and nothing else; `None` where it is not there.
fn said(headers: &HeaderMap, name: &HeaderName, word: &[u8]) -> Option<bool> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.as_bytes() == word && values.next().is_none())
}

/// Whether pages are named among what a client accepts; `*/*` is what every program sends.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut types = lines.flat_map(|line| line.split(',')).map(|range| range.split(';').next());
    types.any(|media_type| media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case("text/html")))
}
