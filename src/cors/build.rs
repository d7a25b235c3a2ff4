//! Builds a policy from its section, and reports what makes no sense in it.

use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::{AnswerValues, CorsPolicy, ListedOrigins};
use crate::config::{self, Findings, Preflight};
use crate::host;

/// Longest time that a browser may be asked to remember a preflight. Browsers keep none longer.
const MOST_MAX_AGE_SECONDS: u64 = 86_400;

/// Headers of the gateway's own answers that a page needs: when to ask again, and what to name in a
/// report.
const OWN_HEADERS: [&str; 5] =
    ["Retry-After", "X-Request-Id", "WWW-Authenticate", "RateLimit", "RateLimit-Policy"];

impl CorsPolicy {
    /// Checks the section at the key `at`. `known` are the methods that it may name; `default` are
    /// those that it means if it names none.
    pub fn build(
        config: &config::Cors,
        at: &str,
        known: &[Method],
        default: &[Method],
        findings: &mut Findings,
    ) -> Option<Self> {
        findings.scope(|findings| {
            let origins = build_origins(config, at, findings);
            let methods = if config.methods.is_empty() {
                default.to_vec()
            } else {
                build_methods(&config.methods, at, known, findings)
            };
            let headers = build_headers(&config.headers, config, &format!("{at}.headers"), findings);
            let exposed =
                build_headers(&config.expose_headers, config, &format!("{at}.expose_headers"), findings);
            check_max_age(config, at, findings);
            let values = AnswerValues {
                methods: list(methods.iter().map(Method::as_str))?,
                headers: headers.value(|names| {
                    // Fetch §3.2.5: `*` does not stand for `Authorization`.
                    if names == ["*"] { vec!["*", "Authorization"] } else { names.to_vec() }
                }),
                max_age: HeaderValue::from(config.max_age.as_secs()),
                exposed: exposed.value(<[&str]>::to_vec),
                exposed_of_gateway: exposed
                    .value(with_own_headers)
                    .or_else(|| list(OWN_HEADERS.into_iter()))?,
            };
            Some(Self {
                origins: origins?,
                credentials: config.credentials,
                is_answered_by_backend: config.preflight == Preflight::Backend,
                methods,
                has_every_header: headers.is_every(),
                headers: headers.parsed,
                values,
            })
        })
    }
}

/// A list of header names.
struct HeaderNames<'c> {
    written: Vec<&'c str>,
    parsed: Vec<HeaderName>,
}

impl HeaderNames<'_> {
    fn is_every(&self) -> bool {
        self.written == ["*"]
    }

    /// The names as the value of a header, after `edit`.
    fn value<'n>(&'n self, edit: impl FnOnce(&[&'n str]) -> Vec<&'n str>) -> Option<HeaderValue> {
        if self.written.is_empty() { None } else { list(edit(&self.written).into_iter()) }
    }
}

fn with_own_headers<'n>(names: &[&'n str]) -> Vec<&'n str> {
    let is_named = |own: &&str| names.iter().any(|name| name.eq_ignore_ascii_case(own));
    names.iter().copied().chain(OWN_HEADERS.into_iter().filter(|own| !is_named(own))).collect()
}

fn build_headers<'c>(
    names: &'c [String],
    config: &config::Cors,
    key: &str,
    findings: &mut Findings,
) -> HeaderNames<'c> {
    let mut built = HeaderNames { written: Vec::new(), parsed: Vec::new() };
    for (index, name) in names.iter().enumerate() {
        let at = format!("{key}[{index}]");
        if name == "*" {
            if config.credentials {
                refuse_every(at, "header", findings);
            } else if names.len() > 1 {
                findings.error(at, "`*` already means every header").hint("remove the other names, or `*`");
            }
            built.written.push(name);
            continue;
        }
        match name.parse::<HeaderName>() {
            Ok(parsed) if built.parsed.contains(&parsed) => {
                findings.error(at, format!("`{name}` is listed twice")).hint("remove one");
            }
            Ok(parsed) => {
                built.written.push(name);
                built.parsed.push(parsed);
            }
            Err(_) => {
                findings
                    .error(at, format!("`{}` is not the name of a header", name.escape_debug()))
                    .hint("write a name such as `X-Requested-With`");
            }
        }
    }
    built
}

fn build_methods(names: &[String], at: &str, known: &[Method], findings: &mut Findings) -> Vec<Method> {
    let mut methods = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = format!("{at}.methods[{index}]");
        match known.iter().find(|method| method.as_str() == name) {
            Some(method) if methods.contains(method) => {
                findings.error(at, format!("`{name}` is listed twice")).hint("remove one");
            }
            Some(method) => methods.push(method.clone()),
            None if name == "*" => {
                findings.error(at, "`*` is not a method").hint("write `methods: []`: every method");
            }
            None => {
                findings
                    .error(at, format!("`{}` is not a method that the gateway accepts", name.escape_debug()))
                    .did_you_mean(&name.to_ascii_uppercase(), known.iter().map(Method::as_str));
            }
        }
    }
    methods
}

fn check_max_age(config: &config::Cors, at: &str, findings: &mut Findings) {
    if config.max_age.as_secs() > MOST_MAX_AGE_SECONDS {
        findings
            .error(format!("{at}.max_age"), format!("`{}` is too long", config.max_age))
            .hint("write `1d` or less, such as `10m`");
    }
}

fn build_origins(config: &config::Cors, at: &str, findings: &mut Findings) -> Option<ListedOrigins> {
    if config.origins.is_empty() {
        findings
            .error(format!("{at}.origins"), "no origin is listed")
            .hint("write origins such as `https://h5.example.com`, or remove `cors`");
        return None;
    }
    let mut listed: Vec<HeaderValue> = Vec::with_capacity(config.origins.len());
    for (index, text) in config.origins.iter().enumerate() {
        let at = format!("{at}.origins[{index}]");
        if text == "*" {
            if config.credentials {
                refuse_every(at, "origin", findings);
            } else if config.origins.len() > 1 {
                findings.error(at, "`*` already means every origin").hint("remove the other origins, or `*`");
            }
            continue;
        }
        match parse_origin(text) {
            Ok(origin) if listed.contains(&origin.value) => {
                findings.error(at, format!("`{text}` is listed twice")).hint("remove one");
            }
            Ok(origin) => {
                if origin.is_in_the_clear {
                    findings
                        .warning(at, format!("everyone on the network can change the pages of `{text}`"))
                        .hint("serve them over `https://`; `http://` is for development");
                }
                listed.push(origin.value);
            }
            Err(error) => error.report(at, text, findings),
        }
    }
    if config.origins == ["*"] {
        Some(ListedOrigins::Every)
    } else {
        Some(ListedOrigins::These(listed.into()))
    }
}

/// Fetch §3.2.5: with credentials, browsers do not read `*` as every one.
fn refuse_every(at: String, what: &str, findings: &mut Findings) {
    findings
        .error(at, format!("`*` with `credentials: true` would let pages of every {what} act as the user"))
        .hint("name each one, or remove `credentials`");
}

/// An origin of a list.
#[derive(Debug, PartialEq, Eq)]
struct ParsedOrigin {
    /// As browsers write it.
    value: HeaderValue,
    /// Plain HTTP over a network.
    is_in_the_clear: bool,
}

/// What is wrong with the text of an origin.
#[derive(Debug, PartialEq, Eq)]
enum OriginError {
    Null,
    Pattern,
    NotAnOrigin,
    HasUser,
    HasPath { origin: String },
}

/// Reads an origin, and writes it as browsers do: lower case, Punycode, no default port.
fn parse_origin(text: &str) -> Result<ParsedOrigin, OriginError> {
    if text.eq_ignore_ascii_case("null") {
        return Err(OriginError::Null);
    }
    if text.contains('*') {
        return Err(OriginError::Pattern);
    }
    // The URL parser skips blanks and control characters, and reads `\` as `/`.
    let is_plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '\\');
    let (_, named) = text.split_once("://").filter(|_| is_plain).ok_or(OriginError::NotAnOrigin)?;
    let url = Url::parse(text).map_err(|_| OriginError::NotAnOrigin)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OriginError::HasUser);
    }
    let host = url.host_str().unwrap_or_default();
    let is_web = matches!(url.scheme(), "http" | "https");
    if !is_web || host.is_empty() || host.ends_with('.') || !host.bytes().all(host::is_plain_byte) {
        return Err(OriginError::NotAnOrigin);
    }
    let origin = url.origin().ascii_serialization();
    if named.contains(['/', '?', '#']) {
        return Err(OriginError::HasPath { origin });
    }
    let is_in_the_clear = url.scheme() == "http" && !host::is_loopback(host);
    let value = HeaderValue::try_from(origin).map_err(|_| OriginError::NotAnOrigin)?;
    Ok(ParsedOrigin { value, is_in_the_clear })
}

impl OriginError {
    fn report(self, at: String, text: &str, findings: &mut Findings) {
        const EXAMPLE: &str = "write scheme, host and port, such as `https://h5.example.com`";

        let shown = text.escape_debug();
        match self {
            Self::Null => findings
                .error(at, "`null` is the origin of every sandboxed frame and local file, of any site")
                .hint("serve the page over `https://`, and write its origin"),
            Self::Pattern => findings
                .error(at, format!("`{shown}` is a pattern: one lost subdomain would be enough to use it"))
                .hint("name each origin"),
            Self::NotAnOrigin => findings.error(at, format!("`{shown}` is not an origin")).hint(EXAMPLE),
            // The text is not repeated, because it may contain a password.
            Self::HasUser => findings.error(at, "remove the user and the password").hint(EXAMPLE),
            Self::HasPath { origin } => findings
                .error(at, format!("`{shown}` is more than an origin"))
                .hint(format!("write `{origin}`")),
        };
    }
}

/// Names as the value of a header.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> Option<HeaderValue> {
    HeaderValue::try_from(names.collect::<Vec<_>>().join(", ")).ok()
}
