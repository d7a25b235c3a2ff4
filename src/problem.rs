//! The error document of RFC 9457, as every endpoint outside the login sends it.

use serde::Serialize;

/// A problem document.
///
/// See RFC 9457 §3.1; `code` and `request_id` are our extension members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem<'a> {
    /// Kind of problem; `about:blank` means that the status alone describes it.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Short text, fixed for each kind.
    pub title: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// What happened in this case; never a host, an address or a stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Stable machine word.
    pub code: &'a str,
    /// The request's id, as in the access log.
    pub request_id: &'a str,
}

/// Media type of [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

impl Problem<'_> {
    /// The document as JSON bytes.
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings and a number always serialises. If it failed, the body would be empty
        // and the status correct.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
