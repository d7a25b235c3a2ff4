//! Which requests are admitted: by method, target, host, header names, count and size, framing.
//!
//! Runs before every other step, on what the client really sent. An admitted request has one
//! canonical path and one canonical host, and both matching and forwarding use these. If a route
//! may accept a path although it has no canonical form, `routing` decides. This decides by syntax
//! alone: no route is looked up and no caller is known.

use std::borrow::Cow;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::config::{self, HeaderNames};
use crate::host::{Authority, is_host_name, request_authority};
use crate::identity_headers::has_unusual_character;
use crate::path::{AmbiguousPath, PathError, canonicalise};
use crate::route::METHODS;

/// The limits that a request must keep.
#[derive(Clone, Debug)]
pub struct Admission {
    max_header_bytes: usize,
    max_header_fields: usize,
    max_target_bytes: usize,
    header_names: HeaderNames,
    /// The methods besides [`METHODS`] that a route names.
    named_methods: Vec<Method>,
    allow: HeaderValue,
}

/// A request as the client sent it, as far as Pingora keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'r> {
    /// The request, parsed.
    pub parts: &'r Parts,
    /// The request target as sent, without a fragment.
    pub target: &'r [u8],
    /// The header block as sent; HTTP/1 only.
    pub raw_header: Option<&'r [u8]>,
}

/// The canonical form of a request that is admitted.
#[derive(Debug, PartialEq, Eq)]
pub struct CanonicalRequest<'r> {
    /// The host it asks for: lower case, without port and trailing dot.
    pub host: Cow<'r, str>,
    /// The target to use instead, if the one sent was not canonical.
    pub rewritten_target: Option<PathAndQuery>,
    /// The authority to use instead, if the one sent was not canonical.
    pub rewritten_authority: Option<String>,
    /// Set if backends read the path in more than one way. It is forwarded as it came, if the
    /// readings have one route, and it accepts them.
    pub ambiguous_path: Option<Box<AmbiguousPath>>,
    /// `OPTIONS *`: about the gateway itself.
    pub is_about_server: bool,
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The method is not one the gateway admits.
    #[error("the method is not admitted")]
    Method,
    /// The request target is too long.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The header block is too large, or has too many fields.
    #[error("the header is too large")]
    HeaderTooLarge,
    /// The request target is not a path, or not one for this host.
    #[error("the request target is malformed")]
    Target,
    /// The path has a spelling that a backend could read as another path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no host, more than one, or one that is not a host name.
    #[error("the host is missing or malformed")]
    Host,
    /// A header name has a character that some backends read as another one.
    #[error("a header name has a character outside letters, digits and `-`")]
    HeaderName,
    /// The body's length is missing or stated twice.
    #[error("the length of the body is ambiguous")]
    Framing,
    /// A line ends without CR.
    #[error("a line of the header does not end with CR LF")]
    LineEnding,
    /// The request line is not a method, a target and a version of HTTP/1.
    #[error("the request line is malformed")]
    RequestLine,
    /// A line of the header is no field: it has no colon or no name, or goes on with the line
    /// before it.
    #[error("a line of the header is not a field")]
    HeaderLine,
    /// The value of a field has a control character.
    #[error("the value of a header field has a control character")]
    HeaderValue,
    /// The client speaks TLS to a listener without TLS.
    #[error("this listener does not speak TLS")]
    Tls,
    /// A chunked body is not framed as RFC 9112 §7.1 says.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// `Expect` asks for something other than `100-continue`.
    #[error("the expectation cannot be met")]
    Expectation,
}

impl AdmissionError {
    /// The status it is answered with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Target
            | Self::Path(_)
            | Self::Host
            | Self::HeaderName
            | Self::Framing
            | Self::LineEnding
            | Self::RequestLine
            | Self::HeaderLine
            | Self::HeaderValue
            | Self::Tls
            | Self::Chunk => StatusCode::BAD_REQUEST,
        }
    }

    /// The word in logs, metrics and answers.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Method => "method_not_admitted",
            Self::TargetTooLong => "target_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::Target => "target_malformed",
            Self::Path(_) => "path_refused",
            Self::Host => "host_malformed",
            Self::HeaderName => "header_name_refused",
            Self::Framing => "framing_ambiguous",
            Self::LineEnding => "line_ending_malformed",
            Self::RequestLine => "request_line_malformed",
            Self::HeaderLine => "header_line_malformed",
            Self::HeaderValue => "header_value_malformed",
            Self::Tls => "tls_on_plain_listener",
            Self::Chunk => "chunk_malformed",
            Self::Expectation => "expectation_failed",
        }
    }
}

/// The value of `Allow`.
pub(super) fn allow<'m>(methods: impl Iterator<Item = &'m Method>) -> HeaderValue {
    let names: Vec<&str> = methods.map(Method::as_str).collect();
    // The names of methods have no character that a header may not have.
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

impl Admission {
    /// Reads the limits from the configuration.
    pub fn new(limits: &config::Limits) -> Self {
        Self {
            named_methods: Vec::new(),
            allow: HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            max_header_bytes: limits.max_header.as_usize(),
            max_header_fields: limits.max_header_fields,
            max_target_bytes: limits.max_uri.as_usize(),
            header_names: limits.header_names,
        }
    }

    /// Admits these methods too, which some route serves.
    pub fn with_named_methods(self, named_methods: Vec<Method>) -> Self {
        let allow = allow(METHODS.iter().chain(&named_methods));
        Self { named_methods, allow, ..self }
    }

    /// The value of `Allow` for what is not about a route: all methods that are admitted.
    pub const fn allow(&self) -> &HeaderValue {
        &self.allow
    }

    /// Decides whether a request is admitted.
    ///
    /// # Errors
    /// [`AdmissionError`], the first reason found.
    pub fn admit<'r>(&self, received: &Received<'r>) -> Result<CanonicalRequest<'r>, AdmissionError> {
        let parts = received.parts;
        if !METHODS.contains(&parts.method) && !self.named_methods.contains(&parts.method) {
            return Err(AdmissionError::Method);
        }
        self.check_size(received)?;
        if self.header_names == HeaderNames::Refuse && refused_name(&parts.headers).is_some() {
            return Err(AdmissionError::HeaderName);
        }
        check_framing(received)?;
        check_expectation(&parts.headers)?;
        let authority = request_authority(parts).ok_or(AdmissionError::Host)?;
        let (host, rewritten_authority) = canonical_host(authority)?;
        let admitted = CanonicalRequest {
            host,
            rewritten_target: None,
            rewritten_authority,
            ambiguous_path: None,
            is_about_server: false,
        };
        if received.target == b"*" {
            let is_about_server = parts.method == Method::OPTIONS;
            return if is_about_server {
                Ok(CanonicalRequest { is_about_server, ..admitted })
            } else {
                Err(AdmissionError::Target)
            };
        }
        let CanonicalTarget { rewritten_target, ambiguous_path } = canonical_target(received, authority)?;
        Ok(CanonicalRequest { rewritten_target, ambiguous_path, ..admitted })
    }

    fn check_size(&self, received: &Received<'_>) -> Result<(), AdmissionError> {
        let headers = &received.parts.headers;
        if received.target.len() > self.max_target_bytes {
            return Err(AdmissionError::TargetTooLong);
        }
        // Over HTTP/2 the parts of `Cookie` are one field, joined with `; `; RFC 9113 §8.2.3.
        let more_cookies = || match received.parts.version {
            Version::HTTP_2 => headers.get_all(header::COOKIE).iter().count().saturating_sub(1),
            _ => 0,
        };
        let header_bytes = || {
            let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
            fields.sum::<usize>() - more_cookies() * (header::COOKIE.as_str().len() + 2)
        };
        let has_too_many =
            headers.len() > self.max_header_fields && headers.len() - more_cookies() > self.max_header_fields;
        let is_too_large = has_too_many
            || received.raw_header.map_or_else(header_bytes, <[u8]>::len) > self.max_header_bytes;
        if is_too_large { Err(AdmissionError::HeaderTooLarge) } else { Ok(()) }
    }
}

/// The first header name that is refused for its characters.
pub fn refused_name(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| has_unusual_character(name))
}

/// Refuses every message whose end two readers could see at different places; RFC 9112 §6.3.
fn check_framing(received: &Received<'_>) -> Result<(), AdmissionError> {
    let headers = &received.parts.headers;
    if received.raw_header.is_some_and(has_bare_line_feed) {
        return Err(AdmissionError::LineEnding);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let is_number =
            !length.is_empty() && length.len() <= 19 && length.as_bytes().iter().all(u8::is_ascii_digit);
        if !is_number || lengths.next().is_some() {
            return Err(AdmissionError::Framing);
        }
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked_alone = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        let is_http1 = received.parts.version == Version::HTTP_11;
        // Pingora removes Content-Length if there is Transfer-Encoding; the raw header still has
        // it.
        let has_length = headers.contains_key(header::CONTENT_LENGTH)
            || received.raw_header.is_some_and(has_content_length);
        if !is_chunked_alone || !is_http1 || has_length {
            return Err(AdmissionError::Framing);
        }
    }
    Ok(())
}

fn has_bare_line_feed(raw: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', raw).any(|at| at == 0 || raw.get(at - 1) != Some(&b'\r'))
}

fn has_content_length(raw: &[u8]) -> bool {
    let name = header::CONTENT_LENGTH.as_str().as_bytes();
    raw.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_at_checked(name.len()))
        .any(|(start, rest)| start.eq_ignore_ascii_case(name) && rest.starts_with(b":"))
}

fn check_expectation(headers: &HeaderMap) -> Result<(), AdmissionError> {
    let is_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(header::EXPECT).iter().all(is_continue) {
        Ok(())
    } else {
        Err(AdmissionError::Expectation)
    }
}

/// Returns the canonical host of an authority, and the whole authority rewritten if it was not
/// canonical.
fn canonical_host(authority: &str) -> Result<(Cow<'_, str>, Option<String>), AdmissionError> {
    let parsed = Authority::parse(authority).ok_or(AdmissionError::Host)?;
    let without_dot = parsed.host_without_dot();
    let host = if without_dot.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(without_dot.to_ascii_lowercase())
    } else {
        Cow::Borrowed(without_dot)
    };
    if !is_host_name(&host) {
        return Err(AdmissionError::Host);
    }
    let rewritten = (*host != *parsed.host).then(|| match parsed.port {
        Some(port) => format!("{host}:{port}"),
        None => host.clone().into_owned(),
    });
    Ok((host, rewritten))
}

/// The canonical form of a target.
#[derive(Default)]
struct CanonicalTarget {
    rewritten_target: Option<PathAndQuery>,
    ambiguous_path: Option<Box<AmbiguousPath>>,
}

/// Brings the target into origin form with a canonical path. A path that has no canonical form, and
/// that a route may accept, is left as it is.
fn canonical_target(received: &Received<'_>, authority: &str) -> Result<CanonicalTarget, AdmissionError> {
    // The parsed target has lost its fragment and what followed it.
    let has_fragment = received.raw_header.is_some_and(|raw| {
        let raw = raw.trim_ascii_start();
        let request_line = memchr::memchr(b'\n', raw).and_then(|end| raw.get(..end)).unwrap_or(raw);
        memchr::memchr(b'#', request_line).is_some()
    });
    let target = std::str::from_utf8(received.target).map_err(|_| AdmissionError::Target)?;
    if has_fragment || target.contains('#') {
        return Err(AdmissionError::Target);
    }
    let origin = if target.starts_with('/') { target } else { origin_form(target, authority)? };
    let (path, query) = origin.split_once('?').map_or((origin, None), |(path, query)| (path, Some(query)));
    let query = query.map(canonical_query).transpose()?;
    let (canonical, ambiguous_path) = match canonicalise(path) {
        Ok(canonical) => (canonical, None),
        Err(_) => (Cow::Borrowed(path), Some(Box::new(AmbiguousPath::parse(path)?))),
    };
    let is_as_it_came = matches!(canonical, Cow::Borrowed(_)) && !matches!(query, Some(Cow::Owned(_)));
    if is_as_it_came && origin.len() == target.len() {
        return Ok(CanonicalTarget { rewritten_target: None, ambiguous_path });
    }
    let rewritten = match query {
        Some(query) => format!("{canonical}?{query}"),
        None => canonical.into_owned(),
    };
    let rewritten_target = Some(PathAndQuery::try_from(rewritten).map_err(|_| AdmissionError::Target)?);
    Ok(CanonicalTarget { rewritten_target, ambiguous_path })
}

/// A query with the escapes that a browser would write for text beyond ASCII: some backends refuse
/// such text, and others read it as Latin-1.
fn canonical_query(query: &str) -> Result<Cow<'_, str>, AdmissionError> {
    // `"`, `<` and `>` may not stand in a URI, RFC 3986 §2. The guard has escaped them.
    let is_query_character = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>');
    if query.bytes().all(is_query_character) {
        return Ok(Cow::Borrowed(query));
    }
    if query.bytes().all(|byte| is_query_character(byte) || !byte.is_ascii()) {
        return Ok(utf8_percent_encode(query, CONTROLS).into());
    }
    Err(AdmissionError::Target)
}

/// The origin form of an absolute-form target that names the request's own host; RFC 9112 §3.2.2.
fn origin_form<'t>(target: &'t str, authority: &str) -> Result<&'t str, AdmissionError> {
    let rest = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"))
        .ok_or(AdmissionError::Target)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (named, origin) = rest.split_at_checked(end).ok_or(AdmissionError::Target)?;
    match origin {
        _ if !named.eq_ignore_ascii_case(authority) => Err(AdmissionError::Host),
        "" => Ok("/"),
        origin if origin.starts_with('/') => Ok(origin),
        _ => Err(AdmissionError::Target),
    }
}

/// A URI with another path and query.
pub fn with_path_and_query(uri: &Uri, path_and_query: PathAndQuery) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests;
