//! A header name in the configuration: a whole name, or the beginning of names.

use http::HeaderName;

use super::names::plain;

/// `X-Corp-User` or `X-Corp-*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamePattern {
    /// Lower case, with `-` for each other character that is no letter or digit: an alias is
    /// recognised by the plain name that it stands for.
    pub(super) text: String,
    /// Whether every name that begins so is meant.
    pub(super) is_prefix: bool,
}

/// Least characters of a beginning, not counting `x-`. A shorter one would mean nearly every
/// header.
const MIN_PREFIX: usize = 2;

impl NamePattern {
    /// Parses a name of the configuration.
    ///
    /// # Errors
    /// What is wrong with it, for a finding.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |begin| (begin, true));
        if name.contains('*') {
            return Err("has a `*` before its end");
        }
        let name = HeaderName::try_from(name).map_err(|_| "is not a header name")?;
        let text = plain(name.as_str());
        let word = text.strip_prefix("x-").unwrap_or(&text);
        if is_prefix && word.len() < MIN_PREFIX {
            return Err("means nearly every header");
        }
        Ok(Self { text, is_prefix })
    }

    /// Whether a plain name is meant.
    pub(super) fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_the_beginning_of_names() {
        for (pattern, name, matches) in [
            ("X-Corp-User", "x-corp-user", true),
            ("X-Corp-User", "x-corp-user-id", false),
            ("X_Corp.User", "x-corp-user", true),
            ("X-Corp-*", "x-corp-user", true),
            ("X-Corp-*", "x-corp-", true),
            ("X-Corp-*", "x-corporate", false),
            ("X-MS-CLIENT-PRINCIPAL*", "x-ms-client-principal", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).unwrap().matches(name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_means_nearly_every_header_is_refused() {
        for pattern in ["*", "x*", "X-*", "x-a*", "a*", "a*b", "**", "X-*-User", "", "a b", "é"] {
            assert!(NamePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
