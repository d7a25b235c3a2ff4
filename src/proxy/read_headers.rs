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
    /// The headers of `tokens.sources.header`, as a list.
    pub(super) token_header: Option<HeaderValue>,
}

impl ReadHeaders {
    pub(super) fn new(sources: &TokenSources) -> Self {
        let token_headers = sources.headers_as_written();
        let authorization = sources.read_authorization().then_some("Authorization");
        let token_names = token_headers.iter().map(String::as_str);
        let names: Vec<&str> = authorization.into_iter().chain(token_names).chain(["Cookie"]).collect();
        let list =
            |names: &[&str]| HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("*"));
        Self {
            all: list(&names),
            all_and_origin: list(&[&names[..], &["Origin"]].concat()),
            token_header: (!token_headers.is_empty())
                .then(|| HeaderValue::try_from(token_headers.join(", ")).ok())
                .flatten(),
        }
    }
}
