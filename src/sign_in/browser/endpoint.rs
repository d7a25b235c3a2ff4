//! The paths of a sign-in, and the apps that they name.

use http::Method;
use http::request::Parts;

use super::{BrowserError, Origin, ReturnTo};
use crate::sign_in::SignInService;
use crate::wechat::App;

const FOLDER: &str = "/web/";
/// The parameter that tells the sign-in page that the browser should send a session cookie.
const GIVEN_COOKIE: &str = "given_cookie";

/// The app that a path below the prefix names: `/web/{app}/start`.
fn app_name(below_prefix: &str) -> Option<&str> {
    let (app, _) = below_prefix.strip_prefix(FOLDER)?.split_once('/')?;
    Some(app)
}

impl SignInService {
    /// The app that the path of a request names, if browsers can sign in to it.
    pub(super) fn app_in_path(&self, request: &Parts) -> Option<&App> {
        let rest = request.uri.path().strip_prefix(self.settings.path_prefix.as_str())?;
        self.browser_app(app_name(rest)?)
    }

    /// The app of this name, if browsers can sign in to it.
    pub(super) fn browser_app(&self, name: &str) -> Option<&App> {
        self.deps.wechat.app(name).filter(|app| app.kind.is_for_browsers())
    }

    /// Every app that browsers can sign in to.
    pub(super) fn browser_apps(&self) -> impl Iterator<Item = &App> {
        self.deps.wechat.apps().filter(|app| app.kind.is_for_browsers())
    }

    /// Whether a request asks for the sign-in page. There is none without an app for browsers.
    pub(in crate::sign_in) fn is_sign_in_page(&self, request: &Parts) -> bool {
        request.method == Method::GET && self.browser_apps().next().is_some()
    }

    /// Whether browsers can sign in at the origin of this request.
    pub(in crate::sign_in) fn has_sign_in_page(&self, request: &Parts) -> bool {
        self.settings.origins.of(request).is_some() && self.browser_apps().next().is_some()
    }

    /// The origin that a request was made to.
    ///
    /// # Errors
    /// [`BrowserError::OriginUnknown`] if `login.origins` does not have it,
    /// [`BrowserError::NothingToSignInTo`] if that list is empty.
    pub(super) fn own_origin(&self, request: &Parts) -> Result<&Origin, BrowserError> {
        let origins = &self.settings.origins;
        origins.of(request).ok_or(match origins.is_empty() {
            true => BrowserError::NothingToSignInTo,
            false => BrowserError::OriginUnknown,
        })
    }

    /// The path at which a sign-in to an app starts.
    pub(super) fn start_path(&self, app: &App, return_to: &ReturnTo) -> String {
        let path = format!("{}{FOLDER}{}/start", self.settings.path_prefix, app.name);
        with_query(path, &[("return_to", return_to.location())])
    }

    /// The URL that WeChat redirects back to. No part of it comes from a request: the configuration
    /// names every origin.
    pub(super) fn callback_url(&self, app: &App, own: &Origin) -> String {
        format!("{}{}{FOLDER}{}/callback", own.as_str(), self.settings.path_prefix, app.name)
    }

    /// The path of the sign-in page.
    pub(super) fn sign_in_path(&self) -> String {
        format!("{}/login", self.settings.path_prefix)
    }

    /// The path of the sign-in page that offers these apps.
    pub(super) fn sign_in_path_for<'a>(
        &self,
        return_to: Option<&'a ReturnTo>,
        apps: impl Iterator<Item = &'a str>,
    ) -> String {
        let return_to = return_to.map(|place| ("return_to", place.location()));
        let parameters: Vec<(&str, &str)> =
            return_to.into_iter().chain(apps.map(|app| ("app", app))).collect();
        with_query(self.sign_in_path(), &parameters)
    }

    /// The path of the sign-in page for a browser that just received a session cookie. If the
    /// browser sends the cookie, the page redirects it to `return_to`.
    pub(super) fn sign_in_path_with_cookie(&self, app: &App, return_to: &ReturnTo) -> String {
        let parameters = [("return_to", return_to.location()), ("app", &*app.name), (GIVEN_COOKIE, "1")];
        with_query(self.sign_in_path(), &parameters)
    }

    /// The place that a text from a request names, or the root if the text is not accepted.
    pub(super) fn return_to(&self, text: Option<&str>, own: &Origin) -> ReturnTo {
        text.and_then(|text| self.allowed_return_to(text, own)).unwrap_or_else(ReturnTo::root)
    }

    /// The place that a text from a request names, if it is accepted.
    pub(in crate::sign_in) fn allowed_return_to(&self, text: &str, own: &Origin) -> Option<ReturnTo> {
        ReturnTo::parse(text, own, &self.settings.return_to, &self.settings.path_prefix)
    }
}

/// The parameters of a query. Unknown parameters are ignored.
pub(in crate::sign_in) struct Query {
    pairs: Vec<(String, String)>,
}

/// How often a parameter occurs in a query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::sign_in) enum Parameter<'a> {
    Missing,
    One(&'a str),
    Several,
}

impl Query {
    pub(in crate::sign_in) fn of(request: &Parts) -> Self {
        let query = request.uri.query().unwrap_or_default();
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect() }
    }

    /// The one value of a parameter.
    pub(in crate::sign_in) fn one<'a>(&'a self, name: &'a str) -> Parameter<'a> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (None, _) => Parameter::Missing,
            (Some(value), None) => Parameter::One(value),
            (Some(_), Some(_)) => Parameter::Several,
        }
    }

    /// Every value of a parameter, in order.
    pub(in crate::sign_in) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether the browser just received a session cookie.
    pub(super) fn is_given_cookie(&self) -> bool {
        self.all(GIVEN_COOKIE).next().is_some()
    }

    /// The place that the browser wants to return to. `None` if the query names none or several.
    pub(super) fn return_to(&self) -> Option<&str> {
        match self.one("return_to") {
            Parameter::One(text) => Some(text),
            Parameter::Missing | Parameter::Several => None,
        }
    }
}

/// Adds a query of these parameters to a path.
fn with_query(path: String, parameters: &[(&str, &str)]) -> String {
    let length = path.len();
    form_urlencoded::Serializer::for_suffix(path + "?", length + 1).extend_pairs(parameters).finish()
}
