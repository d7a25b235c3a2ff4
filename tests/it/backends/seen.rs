//! What a program says that it sees of a request.

use serde_json::Value;

use crate::common::{Recorded, Response};
use crate::paths::reading::decode;

/// A request as a program reads it; every program of `tests/fixtures/backends` writes the same
/// members.
#[derive(Clone, Debug)]
pub struct Seen {
    json: Value,
}

impl Seen {
    /// Nothing, if another program answered.
    pub fn of(response: &Response) -> Option<Self> {
        Self::parse(&response.body).filter(|_| response.status == 200)
    }

    pub fn parse(body: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(body).ok()?;
        json.get("backend")?;
        Some(Self { json })
    }

    /// As if the program had written down a request of HTTP.
    pub fn recorded(&self) -> Recorded {
        let headers = self.json["headers"].as_array().unwrap().iter();
        let lines: String =
            headers.map(|line| format!("\r\n{}: {}", text(&line[0]), text(&line[1]))).collect();
        let head = format!("{} {} HTTP/1.1{lines}", self.method(), self.target());
        Recorded { head, body: self.body() }
    }

    /// Every way in which the program reads an identity header: `openid`, `unionid`, `appid` or
    /// `source`.
    pub fn identity(&self, member: &str) -> Vec<Option<&str>> {
        self.json["identity"][member].as_array().unwrap().iter().map(Value::as_str).collect()
    }

    pub fn method(&self) -> &str {
        text(&self.json["method"])
    }

    /// The request target, undecoded.
    pub fn target(&self) -> &str {
        text(&self.json["target"])
    }

    /// The path of the target, decoded once.
    pub fn decoded_path(&self) -> String {
        decode(self.target().split('?').next().unwrap())
    }

    /// Every way in which the program reads the path, with its name.
    pub fn paths(&self) -> Vec<(&str, &str)> {
        let paths = self.json["paths"].as_object().unwrap();
        paths.iter().map(|(name, path)| (name.as_str(), text(path))).collect()
    }

    pub fn body(&self) -> Vec<u8> {
        text(&self.json["body"]).chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
