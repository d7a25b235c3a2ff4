//! Finds the token or session cookie of a request, in every place that may hold one. A request has
//! at most one.

use std::borrow::Cow;
use std::fmt;

use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

use super::AuthnError;
use crate::config::{self, Findings};
use crate::cookie::{self, OwnCookie};
use crate::token::VerifyError;

/// Headers with a meaning of their own, which cannot carry a bare token.
const RESERVED_HEADERS: [&str; 14] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Most headers that can carry a token: which of them did is one bit each.
const MAX_HEADERS: usize = 8;

/// A place that may carry a token, or a session's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The `Authorization` header.
    Authorization,
    /// The header named by `tokens.sources.header`.
    Header,
    /// The cookie named by `tokens.sources.cookie`.
    Cookie,
    /// The query parameter named by `tokens.sources.websocket_query`.
    Query,
    /// A query parameter named by `tokens.sources.query`, on a route with `token_in_query`.
    RouteQuery,
    /// The gateway's own cookie, with a session and no token.
    SessionCookie,
}

/// A token or session cookie that a request shows, and its places. It proves nothing.
#[derive(Clone)]
pub struct Credential<'a> {
    token: Cow<'a, str>,
    found_in: CredentialPlaces,
}

/// The places in which a credential stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialPlaces {
    sources: u8,
    /// Which of the headers of `tokens.sources.header` it stood in, one bit each.
    headers: u8,
    /// In `Authorization` without `Bearer`.
    is_bare: bool,
}

impl CredentialPlaces {
    /// No place at all.
    pub const NONE: Self = Self { sources: 0, headers: 0, is_bare: false };

    pub(crate) const fn only(source: Source) -> Self {
        Self { sources: bit(source), headers: 0, is_bare: false }
    }

    const fn contains(self, source: Source) -> bool {
        self.sources & bit(source) != 0
    }
}

impl Credential<'_> {
    /// The token as it came, or the value of the session cookie.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether this is a session cookie, and no token.
    pub fn is_session_cookie(&self) -> bool {
        self.is_in(Source::SessionCookie)
    }

    /// Whether a browser may have added it by itself. A page must know a token to put it in another
    /// place.
    pub fn is_in_cookies_alone(&self) -> bool {
        let elsewhere = [Source::Authorization, Source::Header, Source::Query, Source::RouteQuery];
        !elsewhere.into_iter().any(|source| self.is_in(source))
    }

    /// Whether the token stands in this place. The gateway removes it from there before it
    /// forwards.
    pub fn is_in(&self, source: Source) -> bool {
        self.found_in.contains(source)
    }

    /// All its places.
    pub const fn places(&self) -> CredentialPlaces {
        self.found_in
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential([redacted], found_in: {:#08b})", self.found_in.sources)
    }
}

/// The places a token is read from.
#[derive(Clone, Debug)]
pub struct TokenSources {
    bearer: bool,
    raw_authorization: bool,
    headers: Vec<HeaderName>,
    headers_as_written: Vec<String>,
    cookie: Option<String>,
    websocket_query: Option<String>,
    query: Vec<String>,
}

impl TokenSources {
    /// Checks the names and that there is a place at all.
    pub(crate) fn build(config: &config::TokenSources, findings: &mut Findings) -> Option<Self> {
        let config::TokenSources { bearer, raw_authorization, header, cookie, websocket_query, query } =
            config;
        findings.scope(|findings| {
            let is_off = !bearer && !raw_authorization;
            let has_query = websocket_query.is_some() || !query.is_empty();
            if is_off && header.is_empty() && cookie.is_none() && !has_query {
                findings
                    .error("tokens.sources", "no token can reach the gateway: every source is off")
                    .hint("write `bearer: true`");
            }
            if header.len() > MAX_HEADERS {
                findings
                    .error("tokens.sources.header", format!("{} headers are too many", header.len()))
                    .hint(format!("write {MAX_HEADERS} at most"));
            }
            let headers: Vec<HeaderName> =
                header.iter().filter_map(|name| header_name(name, findings)).collect();
            if let Some(twice) = headers
                .iter()
                .enumerate()
                .find_map(|(index, name)| headers.iter().take(index).find(|earlier| *earlier == name))
            {
                findings
                    .error("tokens.sources.header", format!("`{twice}` is listed twice"))
                    .hint("remove one");
            }
            if let Some(name) = cookie.as_deref().filter(|name| !is_token(name)) {
                findings
                    .error("tokens.sources.cookie", format!("`{name}` is not a cookie name"))
                    .hint("write letters, digits, `-` and `_`");
            }
            if let Some(name) = cookie.as_deref().filter(|name| cookie::is_own_name(name)) {
                findings
                    .error("tokens.sources.cookie", format!("`{name}` is a cookie of the gateway's own"))
                    .hint("choose another name, such as `token`");
            }
            if let Some(name) = websocket_query {
                check_query_name(name, "tokens.sources.websocket_query", findings);
            }
            for name in query {
                check_query_name(name, "tokens.sources.query", findings);
            }
            Some(Self {
                bearer: *bearer,
                raw_authorization: *raw_authorization,
                headers,
                headers_as_written: header.clone(),
                cookie: cookie.clone(),
                websocket_query: websocket_query.clone(),
                query: query.clone(),
            })
        })
    }

    /// Whether `Authorization` is read at all.
    pub const fn read_authorization(&self) -> bool {
        self.bearer || self.raw_authorization
    }

    /// The headers that carry the bare token.
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// The names of those headers, in the letter case of the configuration.
    pub fn headers_as_written(&self) -> &[String] {
        &self.headers_as_written
    }

    /// The cookie that carries the token.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// The query parameter that carries the token on WebSocket upgrades.
    pub fn websocket_query(&self) -> Option<&str> {
        self.websocket_query.as_deref()
    }

    /// The query without the parameters that may carry a token, on any route; `None` if it has none
    /// of them. Reads the query as a token is read, so that what was read is what is removed.
    pub fn query_without_tokens(&self, query: &str) -> Option<String> {
        let has_token = |pair: &str| {
            let mut names = self.websocket_query.iter().chain(&self.query);
            names.any(|name| parameter_named(pair, name).is_some())
        };
        if !query.split('&').any(has_token) {
            return None;
        }
        let kept: Vec<&str> = query.split('&').filter(|pair| !has_token(pair)).collect();
        Some(kept.join("&"))
    }

    /// Searches every place. `reads_query` says whether the route reads tokens in the query. The
    /// same token in two places is one token. Two different tokens are refused, and so are a token
    /// and a session cookie.
    pub(super) fn find<'a>(
        &self,
        request: &'a Parts,
        is_websocket: bool,
        reads_query: bool,
    ) -> Result<Option<Credential<'a>>, AuthnError> {
        let mut found = None;
        let (headers, query) = (&request.headers, request.uri.query().unwrap_or_default());
        if self.read_authorization() {
            let (token, is_bare) = self.in_authorization(headers)?;
            add(&mut found, Source::Authorization, token)?;
            if let Some(credential) = &mut found {
                credential.found_in.is_bare = is_bare;
            }
        }
        for (index, name) in self.headers.iter().enumerate() {
            let token = in_header(headers, name)?.filter(|token| !token.is_empty());
            let is_there = token.is_some();
            add(&mut found, Source::Header, token)?;
            if let Some(credential) = found.as_mut().filter(|_| is_there) {
                credential.found_in.headers |= 1 << (index % MAX_HEADERS);
            }
        }
        if let Some(name) = &self.cookie {
            add(&mut found, Source::Cookie, in_cookie(headers, name)?)?;
        }
        if let Some(name) = self.websocket_query.as_deref().filter(|_| is_websocket) {
            add(&mut found, Source::Query, in_query(query, name)?)?;
        }
        for name in self.query.iter().filter(|_| reads_query) {
            add(&mut found, Source::RouteQuery, in_query(query, name)?)?;
        }
        match (session_cookie(headers)?, &found) {
            (None, _) => Ok(found),
            (Some(_), Some(_)) => Err(AuthnError::SeveralTokens),
            (Some(cookie), None) => {
                let found_in = CredentialPlaces::only(Source::SessionCookie);
                Ok(Some(Credential { token: cookie.into(), found_in }))
            }
        }
    }

    /// Whether a credential that was found in these places by the sources `before` is found in one
    /// of them by these.
    pub(super) fn find_also(&self, before: &Self, places: CredentialPlaces, reads_query: bool) -> bool {
        let named_alike = |source: Source, now: Option<&str>, then: Option<&str>| {
            places.contains(source) && now.is_some() && now == then
        };
        let reads_authorization = if places.is_bare { self.raw_authorization } else { self.bearer };
        let mut headers_before = before.headers.iter().enumerate();
        let reads_header = headers_before.any(|(index, name)| {
            places.headers & (1 << (index % MAX_HEADERS)) != 0 && self.headers.contains(name)
        });
        places.contains(Source::SessionCookie)
            || places.contains(Source::Authorization) && reads_authorization
            || places.contains(Source::Header) && reads_header
            || named_alike(Source::Cookie, self.cookie(), before.cookie())
            || named_alike(Source::Query, self.websocket_query(), before.websocket_query())
            || reads_query
                && places.contains(Source::RouteQuery)
                && before.query.iter().all(|name| self.query.contains(name))
    }

    /// `Bearer <token>` (RFC 6750 §2.1) or the bare token, and whether it is bare. Another scheme
    /// may be the backend's own.
    fn in_authorization<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Result<(Option<Cow<'a, str>>, bool), AuthnError> {
        let Some(value) = only_value(headers, &AUTHORIZATION)? else { return Ok((None, false)) };
        let scheme_end = value.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(value.len());
        let (scheme, rest) =
            value.split_at_checked(scheme_end).ok_or(AuthnError::Token(VerifyError::Malformed))?;
        if self.bearer && scheme.eq_ignore_ascii_case("bearer") {
            let token = rest.trim_start_matches(' ');
            // `Bearer:x` and `Bearer\tx` look like bearer tokens, and are malformed. `Bearer` alone
            // has an empty token.
            return if token.len() < rest.len() || rest.is_empty() {
                Ok((Some(token.into()), false))
            } else {
                Err(AuthnError::Token(VerifyError::Malformed))
            };
        }
        let is_bare = self.raw_authorization && !value.contains([' ', '\t']);
        Ok((is_bare.then_some(value.into()), is_bare))
    }
}

/// The value of the session cookie.
pub(super) fn session_cookie(headers: &HeaderMap) -> Result<Option<&str>, AuthnError> {
    match OwnCookie::of(headers, cookie::SESSION) {
        OwnCookie::Absent => Ok(None),
        OwnCookie::One(value) => Ok(Some(value)),
        OwnCookie::Several => Err(AuthnError::SeveralTokens),
    }
}

fn in_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, AuthnError> {
    Ok(only_value(headers, name)?.map(Cow::Borrowed))
}

fn in_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, AuthnError> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        // The bytes of other cookies do not matter: they are of other applications.
        for value in cookie::values(line.as_bytes(), name) {
            if found.replace(Cow::Borrowed(visible(value)?)).is_some() {
                return Err(AuthnError::SeveralTokens);
            }
        }
    }
    Ok(found)
}

fn in_query<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, AuthnError> {
    let mut found = None;
    for value in query.split('&').filter_map(|pair| parameter_named(pair, name)) {
        let value = percent_decode(value).ok_or(AuthnError::Token(VerifyError::Malformed))?;
        if found.replace(value).is_some() {
            return Err(AuthnError::SeveralTokens);
        }
    }
    Ok(found)
}

fn add<'a>(
    found: &mut Option<Credential<'a>>,
    source: Source,
    token: Option<Cow<'a, str>>,
) -> Result<(), AuthnError> {
    // Programs send an empty value if the user is signed out.
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(()) };
    match found {
        Some(credential) if credential.token != token => Err(AuthnError::SeveralTokens),
        Some(credential) => {
            credential.found_in.sources |= bit(source);
            Ok(())
        }
        None => {
            *found = Some(Credential { token, found_in: CredentialPlaces::only(source) });
            Ok(())
        }
    }
}

fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, AuthnError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthnError::SeveralTokens);
    }
    visible(value.as_bytes()).map(Some)
}

/// The value as text, if it is visible ASCII: a byte above 0x7f reads differently on every server.
fn visible(value: &[u8]) -> Result<&str, AuthnError> {
    // Looks at every byte, instead of ending at the first that is not visible: then the compiler
    // compares many bytes at once.
    let is_visible = value.iter().fold(true, |so_far, byte| so_far & matches!(byte, b'\t' | b' '..=b'~'));
    let text = str::from_utf8(value).ok().filter(|_| is_visible);
    text.map(|text| text.trim_matches([' ', '\t'])).ok_or(AuthnError::Token(VerifyError::Malformed))
}

/// The parameter's value, still encoded, if this is its name, however encoded.
fn parameter_named<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
    (percent_decode(found)? == name).then_some(value)
}

/// Decodes `%xx`; returns `None` on a broken escape, and on bytes that are not UTF-8.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    // The crate leaves a broken escape as it is; a backend may read it in another way.
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

fn check_query_name(name: &str, at: &str, findings: &mut Findings) {
    if !is_query_name(name) {
        findings
            .error(at, format!("`{}` is not a parameter name", name.escape_debug()))
            .hint("write letters, digits, `-`, `.`, `_` and `~`");
    }
}

fn header_name(name: &str, findings: &mut Findings) -> Option<HeaderName> {
    let path = "tokens.sources.header";
    match HeaderName::try_from(name) {
        Ok(parsed) if RESERVED_HEADERS.contains(&parsed.as_str()) => {
            findings
                .error(path, format!("`{name}` has another meaning"))
                .hint("choose a name of your own, such as `X-Token`");
            None
        }
        Ok(parsed) => Some(parsed),
        Err(_) => {
            findings
                .error(path, format!("`{name}` is not a header name"))
                .hint("write letters, digits and `-`, such as `X-Token`");
            None
        }
    }
}

const fn bit(source: Source) -> u8 {
    1 << source as u8
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A character of a `token`: of a method, of the name of a field, of a scheme. See RFC 9110 §5.6.2.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Unreserved characters only, which clients do not encode. See RFC 3986 §2.3.
fn is_query_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}
