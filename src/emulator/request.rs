//! A request as it came off the wire, taken apart once.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
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
    /// The names in the query as they stand there, in their order.
    pub(super) names: Vec<String>,
    /// Decoded; of a parameter that stands twice, the first.
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
            names: pairs(query).map(|(name, _)| decode(name)).collect(),
            query: parse_query(query),
            body,
        }
    }

    /// A query parameter; an empty one counts as absent.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A query parameter that must be there, or else the error.
    pub(super) fn required(&self, name: &str, absent: WeChatRefusal) -> Result<&str, WeChatRefusal> {
        self.parameter(name).ok_or(absent)
    }

    /// The body as a form.
    pub(super) fn form(&self) -> BTreeMap<String, String> {
        parse_query(&String::from_utf8_lossy(&self.body))
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for (name, value) in pairs(query) {
        parameters.entry(decode(name)).or_insert_with(|| decode(value));
    }
    parameters
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Undoes percent-encoding and `+`; what does not decode stays as it is.
fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after.split_first_chunk::<2>().and_then(|(digits, _)| hex_byte(*digits))) {
            (b'%', Some(value)) => {
                decoded.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_byte(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}
