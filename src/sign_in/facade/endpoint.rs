//! A façade, as its section describes it.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::json_template::JsonTemplate;
use crate::path::PathTree;

/// A façade, checked and ready.
#[derive(Debug)]
pub(in crate::sign_in) struct Facade {
    pub(in crate::sign_in) path: String,
    pub(super) methods: Vec<Method>,
    /// The methods, as an `Allow` header lists them.
    pub(super) allow: HeaderValue,
    /// The app's name in the configuration; `None`: the only one.
    pub(super) app: Option<String>,
    pub(super) code: CodeSource,
    pub(super) answer: JsonTemplate,
    pub(super) error: JsonTemplate,
    /// Of errors; `None`: that of the error.
    pub(super) status: Option<StatusCode>,
}

/// Where a client sends the code.
#[derive(Debug)]
pub(super) enum CodeSource {
    Query(String),
    Header(HeaderName),
    Field(String),
}

impl Facade {
    /// Notes that the path belongs to the gateway.
    pub(in crate::sign_in) fn note_path(&self, own: &mut PathTree<bool>) {
        *own.entry(without_slash(&self.path)) = Some(true);
    }

    /// Whether the request has a body that says something.
    pub(super) const fn reads_body(&self) -> bool {
        matches!(self.code, CodeSource::Field(_))
    }
}

/// A path as paths are compared: without a slash at the end.
pub(super) fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}
