//! The headers that the gateway reads a caller from, as `Vary` names them.

use http::HeaderValue;

use crate::authn::TokenSources;

/// The headers that the gateway reads a caller from.
#[derive(Debug)]
pub(super) struct ReadHeaders {
    /// All of them, as a list.
    pub(super) all: HeaderValue,
    /// The header of `tokens.sources.header`.
    pub(super) token_header: Option<HeaderValue>,
}

impl ReadHeaders {
    pub(super) fn new(sources: &TokenSources) -> Self {
        let token_header = sources.header_as_written();
        let authorization = sources.read_authorization().then_some("Authorization");
        let names: Vec<&str> = [authorization, token_header, Some("Cookie")].into_iter().flatten().collect();
        Self {
            all: HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("*")),
            token_header: token_header.and_then(|name| HeaderValue::from_str(name).ok()),
        }
    }
}
