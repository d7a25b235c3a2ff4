//! The body of a login: what format it is in, and the only two fields of it that count.
//!
//! Whatever else a client sends, an openid or an access token of its own, is read past: only a code, exchanged by the
//! gateway itself, says who somebody is.

use std::collections::BTreeSet;
use std::fmt;

use http::{HeaderMap, header};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::LoginError;
use crate::wechat::Code;

/// What a login asks for.
#[derive(Debug)]
pub(super) struct LoginBody {
    pub(super) code: Code,
    /// The app's name in the configuration.
    pub(super) app: Option<String>,
}

/// A body that no login can be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.description())]
pub(super) enum Malformed {
    Empty,
    NotAnObject,
    FieldTwice,
    NotText,
    CodeMissing,
    NotACode,
}

impl Malformed {
    /// The mistake, said to whoever wrote the client.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Empty => "the body is empty: send the code that wx.login gave as `code`",
            Self::NotAnObject => "the body is not one JSON object, although its Content-Type says JSON",
            Self::FieldTwice => "a field stands in the body twice",
            Self::NotText => "`code` and `app` must be strings",
            Self::CodeMissing => "`code` is missing: send the code that wx.login gave",
            Self::NotACode => "`code` is not one that wx.login gives: 1 to 128 letters, digits, `-` or `_`",
        }
    }
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Form,
}

impl Format {
    /// Finds the format in the header.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, LoginError> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let (first, second) = (types.next(), types.next());
        let Some(media_type) = first else {
            // A browser leaves the type out for a body that another site made it send; nobody means a JSON by that.
            return if has_body(headers) { Err(LoginError::MediaTypeUnsupported) } else { Ok(Self::Json) };
        };
        let text = media_type.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            _ if second.is_some() => Err(LoginError::MediaTypeUnsupported),
            "application/json" => Ok(Self::Json),
            "application/x-www-form-urlencoded" => Ok(Self::Form),
            other if other.starts_with("application/") && other.ends_with("+json") => Ok(Self::Json),
            _ => Err(LoginError::MediaTypeUnsupported),
        }
    }

    /// Reads a body.
    pub(super) fn read(self, body: &[u8]) -> Result<LoginBody, Malformed> {
        if body.is_empty() {
            return Err(Malformed::Empty);
        }
        let fields = match self {
            Self::Json => serde_json::from_slice::<Fields>(body).map_err(|_| Malformed::NotAnObject)?,
            Self::Form => Fields::of_form(body),
        };
        let code = fields.text("code")?.ok_or(Malformed::CodeMissing)?;
        let app = fields.text("app")?;
        fields.check_unique()?;

        Ok(LoginBody {
            code: Code::parse(code).map_err(|_| Malformed::NotACode)?,
            app: app.map(str::to_owned),
        })
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// Every field of a body, in order; a map would drop the first of two that have one name.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn of_form(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body);
        Self(pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect())
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Malformed> {
        match self.0.iter().find(|(other, _)| other == name) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some(_) => Err(Malformed::NotText),
        }
    }

    /// Refuses a name that stands twice: others on the way may have read the other one.
    fn check_unique(&self) -> Result<(), Malformed> {
        let mut names = BTreeSet::new();
        if self.0.iter().all(|(name, _)| names.insert(name)) { Ok(()) } else { Err(Malformed::FieldTwice) }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}
