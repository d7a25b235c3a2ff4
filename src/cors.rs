//! Which pages of other origins may read an answer: the policy of one `cors` section, checked and
//! ready to be compared with requests.
//!
//! It follows the CORS protocol of the Fetch standard,
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>. It decides by the header of a request, and
//! knows the values that answers carry. `proxy` writes them, and `authn` decides whether a request
//! of another origin may use a cookie.

mod build;
#[cfg(test)]
mod tests;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method};

/// What pages of other origins may do, as one `cors` section says it.
#[derive(Debug)]
pub struct CorsPolicy {
    origins: ListedOrigins,
    credentials: bool,
    is_answered_by_backend: bool,
    methods: Vec<Method>,
    /// In lower case; not used if `has_every_header`.
    headers: Vec<HeaderName>,
    has_every_header: bool,
    values: AnswerValues,
}

/// The values that answers carry, made once.
#[derive(Debug)]
struct AnswerValues {
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    max_age: HeaderValue,
    exposed: Option<HeaderValue>,
    exposed_of_gateway: HeaderValue,
}

/// The origins that a policy lists.
#[derive(Debug)]
enum ListedOrigins {
    Every,
    /// As browsers write them.
    These(Box<[HeaderValue]>),
}

/// Why a browser does not let a page send the request that its preflight asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreflightError {
    /// The origin is not listed, or the request has not exactly one.
    Origin,
    /// The policy does not have the method.
    Method,
    /// The policy does not have one of the headers.
    Header,
}

impl PreflightError {
    /// The word in the access log and the metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Origin => "preflight_origin_refused",
            Self::Method => "preflight_method_refused",
            Self::Header => "preflight_header_refused",
        }
    }
}

static EVERY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ACCESS_CONTROL: &str = "access-control-";

impl CorsPolicy {
    /// The value of `Access-Control-Allow-Origin` for a request; `None` if its page may not read
    /// the answer.
    pub fn permitted_origin(&self, request: &HeaderMap) -> Option<&HeaderValue> {
        match &self.origins {
            // Also without an `Origin`, so that caches that ignore `Vary` have one answer for all.
            ListedOrigins::Every => Some(&EVERY),
            ListedOrigins::These(listed) => {
                let origin = only(request, &header::ORIGIN)?;
                listed.iter().find(|known| *known == origin)
            }
        }
    }

    /// Whether the page that made the request is of a listed origin and may use the browser's
    /// cookies.
    pub fn permits_credentials(&self, request: &HeaderMap) -> bool {
        self.credentials && self.permitted_origin(request).is_some()
    }

    /// Whether a request has one origin, and it is listed.
    pub fn lists_origin_of(&self, request: &HeaderMap) -> bool {
        only(request, &header::ORIGIN).is_some() && self.permitted_origin(request).is_some()
    }

    /// Whether the backend answers preflights.
    pub const fn is_answered_by_backend(&self) -> bool {
        self.is_answered_by_backend
    }

    /// Judges a preflight for the log. Whatever the verdict, the browser gets the whole policy if
    /// the origin is listed, judges by itself, and tells the page's author.
    ///
    /// # Errors
    /// [`PreflightError`], the first that applies.
    pub fn judge_preflight(
        &self,
        request: &HeaderMap,
        method: Option<&Method>,
    ) -> Result<(), PreflightError> {
        if !self.lists_origin_of(request) {
            return Err(PreflightError::Origin);
        }
        let method = method.ok_or(PreflightError::Method)?;
        // Fetch §3.2.2: a browser accepts these three though the answer does not name them.
        let is_safelisted = matches!(*method, Method::GET | Method::HEAD | Method::POST);
        if !is_safelisted && !self.methods.contains(method) {
            return Err(PreflightError::Method);
        }
        let lines = request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let mut names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let is_permitted = |name: &[u8]| {
            let name = name.trim_ascii();
            name.is_empty()
                || self.has_every_header
                || self.headers.iter().any(|known| known.as_str().as_bytes().eq_ignore_ascii_case(name))
        };
        if names.all(is_permitted) { Ok(()) } else { Err(PreflightError::Header) }
    }

    /// The headers of the answer to a preflight.
    pub fn preflight_fields(&self, request: &HeaderMap) -> impl Iterator<Item = AnswerField> {
        let values = &self.values;
        let origin = self.permitted_origin(request).filter(|_| self.lists_origin_of(request));
        origin.into_iter().flat_map(move |origin| {
            let fields = [
                (ALLOW_METHODS, Some(values.methods.clone())),
                (ALLOW_HEADERS, values.headers.clone()),
                (MAX_AGE, Some(values.max_age.clone())),
            ];
            self.origin_fields(origin)
                .chain(fields.into_iter().filter_map(|(name, value)| Some((name, value?))))
        })
    }

    /// The headers of an answer that a backend gave.
    pub fn fields(&self, request: &HeaderMap) -> impl Iterator<Item = AnswerField> {
        self.answer_fields(request, self.values.exposed.as_ref())
    }

    /// The headers of an answer that the gateway gives itself: with what a page can do about a
    /// refusal.
    pub fn gateway_fields(&self, request: &HeaderMap) -> impl Iterator<Item = AnswerField> {
        self.answer_fields(request, Some(&self.values.exposed_of_gateway))
    }

    fn answer_fields<'p>(
        &'p self,
        request: &HeaderMap,
        exposed: Option<&'p HeaderValue>,
    ) -> impl Iterator<Item = AnswerField> + use<'p> {
        let origin = self.permitted_origin(request);
        origin.into_iter().flat_map(move |origin| {
            self.origin_fields(origin).chain(exposed.map(|names| (EXPOSE_HEADERS, names.clone())))
        })
    }

    fn origin_fields(&self, origin: &HeaderValue) -> impl Iterator<Item = AnswerField> + use<> {
        let credentials = self.credentials.then_some((ALLOW_CREDENTIALS, TRUE));
        std::iter::once((ALLOW_ORIGIN, origin.clone())).chain(credentials)
    }
}

/// A header of an answer: its name as it is written over HTTP/1, and its value.
pub type AnswerField = (&'static str, HeaderValue);

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";
const ALLOW_METHODS: &str = "Access-Control-Allow-Methods";
const ALLOW_HEADERS: &str = "Access-Control-Allow-Headers";
const MAX_AGE: &str = "Access-Control-Max-Age";
const EXPOSE_HEADERS: &str = "Access-Control-Expose-Headers";

/// Whether a request is a preflight: a browser asks whether a page of another origin may send a
/// request. Fetch §3.2.2 calls it a CORS-preflight request.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The method that a preflight asks about; `None` if it names none, or several.
pub fn requested_method(headers: &HeaderMap) -> Option<Method> {
    Method::from_bytes(only(headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// Whether a header of a backend's answer is one that the policy replaces. With `is_preflight`, the
/// backend answers a preflight, and says itself what pages may send.
pub fn is_replaced(name: &HeaderName, is_preflight: bool) -> bool {
    let backends_own = [
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_MAX_AGE,
    ];
    name.as_str().starts_with(ACCESS_CONTROL) && !(is_preflight && backends_own.contains(name))
}

/// The value of a header that stands once. Of two, one may have been made up.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
