//! A request as received, parsed once.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;

use super::errcode::WeChatRefusal;

/// A request, its body read to the end.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) peer: SocketAddr,
    pub(super) host: String,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) user_agent: String,
    pub(super) headers: HeaderMap,
    /// The names in the query, undecoded and in their order.
    pub(super) names: Vec<String>,
    /// As it came.
    pub(super) raw_query: String,
    /// Decoded; if a parameter occurs twice, the first one.
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(peer: SocketAddr, parts: &http::request::Parts, body: Bytes) -> Self {
        let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let query = parts.uri.query().unwrap_or_default();
        Self {
            peer,
            host: header(header::HOST).unwrap_or_default().to_owned(),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            user_agent: header(header::USER_AGENT).unwrap_or_default().to_owned(),
            headers: parts.headers.clone(),
            names: form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect(),
            raw_query: query.to_owned(),
            query: parse_form(query.as_bytes()),
            body,
        }
    }

    /// A query parameter; an empty one counts as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A required query parameter, or the error if it is absent.
    pub(super) fn required(&self, name: &str, absent: WeChatRefusal) -> Result<&str, WeChatRefusal> {
        self.parameter(name).ok_or(absent)
    }

    /// The body as a form.
    pub(super) fn form(&self) -> BTreeMap<String, String> {
        parse_form(&self.body)
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Returns the parameters of a query or a form, decoded; if a name occurs twice, the first one.
fn parse_form(text: &[u8]) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(text) {
        parameters.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    parameters
}
