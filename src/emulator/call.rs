//! The log: every call to the emulated WeChat, and its result.

use std::collections::{BTreeMap, VecDeque};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::digest::sha256;

use super::answer::{CallOutcome, Reply};
use super::fault::Effect;
use super::identifier::hex;
use super::request::Request;

/// Longest answer the log keeps, in bytes.
const LOGGED_ANSWER: usize = 2048;

/// One call of a WeChat endpoint. The control endpoints are not logged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoggedCall {
    /// Counts the calls, from 1.
    pub number: u64,
    /// When it arrived, on the virtual clock.
    #[serde(rename = "at_ms", serialize_with = "millis")]
    pub at: Timestamp,
    /// The `Host` header.
    pub host: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query parameters, decoded; `secret` as its [`fingerprint`].
    pub query: BTreeMap<String, String>,
    /// The body if it was JSON, with a `secret` in it as its [`fingerprint`].
    pub body: Option<Value>,
    /// The names of its headers, in lower case. Only for tests in process.
    #[serde(skip)]
    pub header_names: Vec<String>,
    /// The faults that were played.
    pub faults: Vec<Effect>,
    /// What WeChat decided, 0 for success; absent if a fault prevented a decision.
    ///
    /// A call that was decided with 0 used its code up, even if the client got another answer.
    pub errcode: Option<i64>,
    /// How the call ended.
    pub ending: CallEnding,
    /// The HTTP status that was sent.
    pub status: Option<u16>,
    /// The start of the body that was sent, before compression.
    pub answer: Option<String>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnding {
    /// It has not ended yet.
    UnderWay,
    /// An HTTP reply was sent, or part of one.
    Answered,
    /// The connection was closed without a reply.
    Closed,
    /// The connection was reset.
    Reset,
}

/// The replacement of a secret in the log: the first 16 hexadecimal digits of its SHA-256, in
/// brackets.
///
/// Two fingerprints are equal when the secrets are, so that a test can tell which secret was sent.
pub fn fingerprint(secret: &str) -> String {
    let mut digits = hex(&sha256(&[secret.as_bytes()]));
    digits.truncate(16);
    format!("[sha256:{digits}]")
}

/// The newest calls.
#[derive(Debug)]
pub(super) struct Calls {
    list: VecDeque<LoggedCall>,
    capacity: usize,
    count: u64,
}

impl Calls {
    pub(super) fn new(capacity: usize) -> Self {
        Self { list: VecDeque::new(), capacity, count: 0 }
    }

    /// Logs a call as it arrives, and gives it a number.
    pub(super) fn arrive(&mut self, request: &Request, faults: Vec<Effect>, now: Timestamp) -> u64 {
        self.count += 1;
        if self.capacity == 0 {
            return self.count;
        }
        if self.list.len() >= self.capacity {
            self.list.pop_front();
        }
        self.list.push_back(LoggedCall {
            number: self.count,
            at: now,
            host: request.host.clone(),
            method: request.method.to_string(),
            path: request.path.clone(),
            query: redacted_query(&request.query),
            body: request.json().map(redacted_body),
            header_names: request.headers.keys().map(|name| name.as_str().to_owned()).collect(),
            faults,
            errcode: None,
            ending: CallEnding::UnderWay,
            status: None,
            answer: None,
        });
        self.count
    }

    /// Records what WeChat decided.
    pub(super) fn decide(&mut self, number: u64, errcode: i64) {
        if let Some(call) = self.find(number) {
            call.errcode = Some(errcode);
        }
    }

    /// Records what was sent.
    pub(super) fn depart(&mut self, number: u64, outcome: &CallOutcome) {
        let Some(call) = self.find(number) else { return };
        match outcome {
            CallOutcome::Closed => call.ending = CallEnding::Closed,
            CallOutcome::Reset => call.ending = CallEnding::Reset,
            CallOutcome::Reply(Reply { status, body, .. }) => {
                call.ending = CallEnding::Answered;
                call.status = Some(status.as_u16());
                let start = body.get(..LOGGED_ANSWER).unwrap_or(body);
                call.answer = Some(String::from_utf8_lossy(start).into_owned());
            }
        }
    }

    pub(super) fn to_vec(&self) -> Vec<LoggedCall> {
        self.list.iter().cloned().collect()
    }

    /// Clears the calls so far; the numbers continue. A call that has not ended is cleared too.
    pub(super) fn clear(&mut self) -> usize {
        let cleared = self.list.len();
        self.list.clear();
        cleared
    }

    fn find(&mut self, number: u64) -> Option<&mut LoggedCall> {
        let at = self.list.binary_search_by_key(&number, |call| call.number).ok()?;
        self.list.get_mut(at)
    }
}

fn redacted_query(query: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let redacted = |(name, value): (&String, &String)| match name.as_str() {
        "secret" => (name.clone(), fingerprint(value)),
        _ => (name.clone(), value.clone()),
    };
    query.iter().map(redacted).collect()
}

fn redacted_body(mut body: Value) -> Value {
    if let Some(secret) = body.get_mut("secret") {
        *secret = fingerprint(secret.as_str().unwrap_or_default()).into();
    }
    body
}

fn millis<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(at.millis())
}
