//! The origins at which browsers reach the gateway. The configuration names them exactly, and the
//! authority of a request selects one. No text from a client becomes part of an address.

use std::fmt;

use http::request::Parts;
use url::Url;

use crate::config::Findings;
use crate::host::{self, Authority, request_authority};

/// Scheme, host and port, exactly as browsers serialize them. See RFC 6454 §6.2.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::sign_in) struct Origin {
    text: Box<str>,
    host: Box<str>,
    port: u16,
    default_port: u16,
}

impl Origin {
    /// The origin as text, without a slash at the end. It is safe in a header, a URL and a content
    /// security policy.
    pub(in crate::sign_in) fn as_str(&self) -> &str {
        &self.text
    }

    fn parse(text: &str) -> Result<Self, OriginSyntaxError> {
        let url = Url::parse(text).map_err(|_| OriginSyntaxError::NotAnOrigin)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginSyntaxError::HasUser);
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(OriginSyntaxError::NotAnOrigin);
        };
        let default_port = match url.scheme() {
            "https" => 443,
            "http" if host::is_loopback(host) => 80,
            "http" => return Err(OriginSyntaxError::InTheClear),
            _ => return Err(OriginSyntaxError::NotAnOrigin),
        };
        // The URL parser accepts `;` and `'` in a host. In a content security policy they end a
        // directive or a keyword.
        if host.ends_with('.') || !host.bytes().all(host::is_plain_byte) {
            return Err(OriginSyntaxError::NotAnOrigin);
        }
        let written = url.origin().ascii_serialization();
        if written != text {
            return Err(OriginSyntaxError::Misspelt { written });
        }
        Ok(Self { text: written.into(), host: host.into(), port, default_port })
    }

    /// Whether a URL has this origin.
    pub(super) fn is_of(&self, url: &Url) -> bool {
        url.origin().ascii_serialization() == *self.text
    }

    /// Whether a request with this authority was made to this origin. An authority without a port
    /// means the default port of the scheme.
    fn has_authority(&self, authority: &Authority<'_>) -> bool {
        self.host.eq_ignore_ascii_case(authority.host_without_dot())
            && self.port == authority.port.unwrap_or(self.default_port)
    }

    /// Whether one authority could mean both origins. A request does not contain its scheme.
    fn is_confusable_with(&self, other: &Self) -> bool {
        let is_default = |origin: &Self| origin.port == origin.default_port;
        self.host == other.host && (self.port == other.port || is_default(self) && is_default(other))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The origins at which browsers reach the gateway, `login.origins`.
#[derive(Debug, Default)]
pub(in crate::sign_in) struct Origins(Vec<Origin>);

impl Origins {
    /// Checks `login.origins`. An invalid origin is a finding and is omitted.
    pub(in crate::sign_in) fn build(list: &[String], findings: &mut Findings) -> Self {
        let mut origins: Vec<Origin> = Vec::with_capacity(list.len());
        for (key, origin) in parse_all("login.origins", list, findings) {
            if let Some(other) = origins.iter().find(|other| other.is_confusable_with(&origin)) {
                let reason = format!(
                    "`{}` cannot be distinguished from `{}` by the `Host` of a request",
                    origin.as_str(),
                    other.as_str()
                );
                findings.error(key, reason).hint("keep one of the two");
            }
            origins.push(origin);
        }
        Self(origins)
    }

    /// The origin that a request was made to. Only the request's own authority decides; forwarded
    /// headers of a proxy in front are ignored.
    pub(in crate::sign_in) fn of(&self, request: &Parts) -> Option<&Origin> {
        let authority = Authority::parse(request_authority(request)?)?;
        self.0.iter().find(|origin| origin.has_authority(&authority))
    }

    /// Whether no origin is configured, so that no browser can sign in.
    pub(in crate::sign_in) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Checks `login.return_to`, the allowed origins of other sites. An invalid origin is a finding and
/// is omitted.
pub(in crate::sign_in) fn build_return_to(list: &[String], findings: &mut Findings) -> Vec<Origin> {
    parse_all("login.return_to", list, findings).into_iter().map(|(_, origin)| origin).collect()
}

/// The origins of a list with their config keys. An invalid or repeated origin is a finding.
fn parse_all(key: &str, list: &[String], findings: &mut Findings) -> Vec<(String, Origin)> {
    let mut origins: Vec<(String, Origin)> = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let key = format!("{key}[{index}]");
        match Origin::parse(text) {
            Ok(origin) if origins.iter().any(|(_, other)| *other == origin) => {
                findings.error(key, format!("`{text}` is listed twice")).hint("remove one");
            }
            Ok(origin) => origins.push((key, origin)),
            Err(fault) => fault.report(key, text, findings),
        }
    }
    origins
}

/// What is wrong with the text of an origin.
#[derive(Debug, PartialEq, Eq)]
enum OriginSyntaxError {
    NotAnOrigin,
    HasUser,
    InTheClear,
    Misspelt { written: String },
}

impl OriginSyntaxError {
    fn report(self, key: String, text: &str, findings: &mut Findings) {
        let shown = text.escape_debug();
        match self {
            Self::NotAnOrigin => findings
                .error(key, format!("`{shown}` is not an origin"))
                .hint("write a scheme and a host, such as `https://shop.example.com`"),
            // The text is not repeated, because it may contain a password.
            Self::HasUser => findings
                .error(key, "remove the user and the password")
                .hint("write a scheme and a host, such as `https://shop.example.com`"),
            Self::InTheClear => findings
                .error(key, format!("`{shown}` sends sessions without encryption"))
                .hint("write `https://`; `http://` is for loopback only"),
            Self::Misspelt { written } => findings
                .error(key, format!("`{shown}` is not an origin as browsers write it"))
                .hint(format!("write `{written}`")),
        };
    }
}

#[cfg(test)]
pub(super) fn origin(text: &str) -> Origin {
    Origin::parse(text).unwrap()
}

#[cfg(test)]
mod tests;
