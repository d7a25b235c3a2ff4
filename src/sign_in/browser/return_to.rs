//! The place that a browser returns to after sign-in. Every text from a request passes this check
//! before it becomes a `Location`.
//!
//! A text that a browser, a proxy or a backend could read as another place is refused, not
//! repaired. `/` is used instead.

use std::borrow::Cow;

use percent_encoding::{CONTROLS, utf8_percent_encode};
use url::Url;

use super::origin::Origin;
use crate::path::canonicalise;

/// Longest place accepted, in bytes.
const MAX_BYTES: usize = 2048;

/// A place that a browser may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sign_in) struct ReturnTo(Box<str>);

impl ReturnTo {
    /// Parses a path of the origin at which the sign-in began, or a URL of that or another allowed
    /// origin. Paths below `path_prefix` of the own origin are refused, because the sign-in
    /// endpoints would cause a redirect loop.
    pub(in crate::sign_in) fn parse(
        text: &str,
        own: &Origin,
        allowed: &[Origin],
        path_prefix: &str,
    ) -> Option<Self> {
        // The URL parser removes tabs and line ends and turns `\` into `/`, so they are refused
        // first.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' || !byte.is_ascii();
        let is_plain = text.len() <= MAX_BYTES && text.bytes().all(is_plain);
        if !is_plain {
            return None;
        }
        let (origin, place) = if text.starts_with('/') {
            (own, ReturnTarget::parse(text)?)
        } else {
            let (authority, place) = split_url(text)?;
            let named = Url::parse(authority).ok()?;
            let origin = std::iter::once(own).chain(allowed).find(|origin| origin.is_of(&named))?;
            (origin, ReturnTarget::parse(place)?)
        };
        if origin == own && place.is_below(path_prefix) || place.0.len() > MAX_BYTES {
            return None;
        }
        let url = Url::parse(&format!("{}{}", origin.as_str(), place.0)).ok()?;
        // The checks above exclude this. It is checked again, because a mistake in them would send
        // the browser to another site.
        if !origin.is_of(&url) {
            return None;
        }
        if text.starts_with('/') { Some(Self(place.0.into())) } else { Some(Self(String::from(url).into())) }
    }

    /// The root of the origin, used if a sign-in names no other place.
    pub(in crate::sign_in) fn root() -> Self {
        Self("/".into())
    }

    /// The place as the value of `Location`: visible ASCII.
    pub(in crate::sign_in) fn location(&self) -> &str {
        &self.0
    }
}

/// A canonical path with its query and fragment.
struct ReturnTarget(String);

impl ReturnTarget {
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(['?', '#']).unwrap_or(text.len());
        let (path, rest) = text.split_at_checked(end)?;
        let path = escape(if path.is_empty() { "/" } else { path });
        Some(Self(format!("{}{}", canonicalise(&path).ok()?, escape(rest))))
    }

    fn is_below(&self, prefix: &str) -> bool {
        let rest = self.0.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }
}

/// Escapes text beyond ASCII, as a browser does.
fn escape(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, CONTROLS).into()
}

/// Splits an `http` or `https` URL into scheme and authority, and the rest. `https:evil.example`,
/// `https:///evil.example` and URLs with a user name are refused, because clients read them
/// differently.
fn split_url(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let length = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, _) = rest.split_at_checked(length)?;
    if authority.is_empty() || authority.contains('@') || !authority.is_ascii() {
        return None;
    }
    text.split_at_checked(text.len() - rest.len() + length)
}

#[cfg(test)]
mod tests;
