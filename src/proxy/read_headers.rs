//! The headers that the gateway reads a caller from, as `Vary` names them.

use http::HeaderValue;

use crate::authn::TokenSources;

/// The headers that the gateway reads a caller from.
#[derive(Debug)]
pub(super) struct ReadHeaders {
    /// All of them, as a list.
    pub(super) all: HeaderValue,
    /// All of them and `Origin`.
    pub(super) all_and_origin: HeaderValue,
    /// The header of `tokens.sources.header`.
    pub(super) token_header: Option<HeaderValue>,
}

impl ReadHeaders {
    pub(super) fn new(sources: &TokenSources) -> Self {
        let token_header = sources.header_as_written();
        let authorization = sources.read_authorization().then_some("Authorization");
        let names: Vec<&str> = [authorization, token_header, Some("Cookie")].into_iter().flatten().collect();
        let list =
            |names: &[&str]| HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("*"));
        Self {
            all: list(&names),
            all_and_origin: list(&[&names[..], &["Origin"]].concat()),
            token_header: token_header.and_then(|name| HeaderValue::from_str(name).ok()),
        }
    }
}
