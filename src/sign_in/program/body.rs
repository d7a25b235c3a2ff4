//! The bodies of the endpoints: what format they are in, and the few fields of them that count.
//!
//! Other fields that a client sends, such as an openid or an access token of WeChat, are ignored:
//! only a code that the gateway exchanges itself, or a token of the gateway, identifies a user.

use std::collections::BTreeSet;
use std::fmt;

use http::{HeaderMap, header};
use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::malformed::MalformedBody;
use crate::sign_in::error::SignInError;
use crate::wechat::Code;

/// What a login asks for.
#[derive(Debug)]
pub(in crate::sign_in) struct LoginBody {
    pub(in crate::sign_in) code: Code,
    /// The app's name in the configuration.
    pub(in crate::sign_in) app: Option<String>,
    /// A refresh token that the client has from an earlier login. It is not spent: it says who the
    /// client was.
    pub(in crate::sign_in) refresh_token: Option<SecretString>,
}

/// What a refresh asks for.
#[derive(Debug)]
pub(in crate::sign_in) struct RefreshBody {
    /// The value of the field, which may be no refresh token.
    pub(in crate::sign_in) refresh_token: SecretString,
}

/// What a logout asks for.
#[derive(Debug)]
pub(in crate::sign_in) struct LogoutBody {
    pub(in crate::sign_in) target: LogoutTarget,
    /// Where the browser that sent a form wants to go afterwards.
    pub(in crate::sign_in) return_to: Option<String>,
}

/// What a logout ends.
#[derive(Debug)]
pub(in crate::sign_in) enum LogoutTarget {
    /// The session that the request's access token or cookie names, or every session of its user.
    Caller { everywhere: bool },
    /// The session of a refresh token, for a client whose access token has expired.
    RefreshToken(SecretString),
}

/// What the form of the question before a hand-over says.
#[derive(Debug)]
pub(in crate::sign_in) struct HandOverBody {
    /// The value of the field, which may be no ticket.
    pub(in crate::sign_in) ticket: SecretString,
    /// Where the browser wants to go afterwards.
    pub(in crate::sign_in) return_to: Option<String>,
}

/// What a program sends to have opened. It may be anything: only the key tells.
pub(in crate::sign_in) struct DecryptBody {
    pub(in crate::sign_in) encrypted_data: String,
    pub(in crate::sign_in) iv: String,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sign_in) enum BodyFormat {
    Json,
    Form,
}

impl BodyFormat {
    /// Finds the format in the header.
    pub(in crate::sign_in) fn of(headers: &HeaderMap) -> Result<Self, SignInError> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let (first, second) = (types.next(), types.next());
        let Some(media_type) = first else {
            // A browser leaves the type out of a body that another site made it send. It is no
            // JSON.
            return if has_body(headers) { Err(SignInError::MediaTypeUnsupported) } else { Ok(Self::Json) };
        };
        let text = media_type.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            _ if second.is_some() => Err(SignInError::MediaTypeUnsupported),
            "application/json" => Ok(Self::Json),
            "application/x-www-form-urlencoded" => Ok(Self::Form),
            other if other.starts_with("application/") && other.ends_with("+json") => Ok(Self::Json),
            _ => Err(SignInError::MediaTypeUnsupported),
        }
    }

    /// Reads the body of a login.
    pub(in crate::sign_in) fn read_login(self, body: &[u8]) -> Result<LoginBody, MalformedBody> {
        let fields = self.fields(body)?;
        let code = fields.text("code")?.ok_or(MalformedBody::CodeMissing)?;
        let app = fields.text("app")?;
        // Any other value than a text is a field of the client's own, as every unknown field is.
        let refresh_token = fields.text("refresh_token").unwrap_or_default();
        fields.check_unique()?;

        Ok(LoginBody {
            code: Code::parse(code).map_err(|_| MalformedBody::NotACode)?,
            app: app.map(str::to_owned),
            refresh_token: refresh_token.map(SecretString::from),
        })
    }

    /// Reads the body of a refresh, as of RFC 6749 §6; a client may leave `grant_type` out.
    pub(in crate::sign_in) fn read_refresh(self, body: &[u8]) -> Result<RefreshBody, MalformedBody> {
        let fields = self.fields(body)?;
        let refresh_token = fields.text("refresh_token")?.ok_or(MalformedBody::RefreshTokenMissing)?;
        let grant_type = fields.text("grant_type")?;
        fields.check_unique()?;

        if grant_type.is_some_and(|grant_type| grant_type != "refresh_token") {
            return Err(MalformedBody::NotARefresh);
        }
        Ok(RefreshBody { refresh_token: refresh_token.into() })
    }

    /// Reads the body of a logout, which may be empty.
    pub(in crate::sign_in) fn read_logout(self, body: &[u8]) -> Result<LogoutBody, MalformedBody> {
        if body.is_empty() {
            return Ok(LogoutBody { target: LogoutTarget::Caller { everywhere: false }, return_to: None });
        }
        let fields = self.fields(body)?;
        let refresh_token = fields.text("refresh_token")?;
        let everywhere = self.truth(&fields, "everywhere")?;
        let return_to = if self == Self::Form { fields.text("return_to")? } else { None };
        fields.check_unique()?;

        let target = match refresh_token {
            Some(_) if everywhere => return Err(MalformedBody::EverywhereByRefreshToken),
            Some(token) => LogoutTarget::RefreshToken(token.into()),
            None => LogoutTarget::Caller { everywhere },
        };
        Ok(LogoutBody { target, return_to: return_to.map(str::to_owned) })
    }

    /// Reads the form of the question before a hand-over.
    pub(in crate::sign_in) fn read_hand_over(self, body: &[u8]) -> Result<HandOverBody, MalformedBody> {
        let fields = self.fields(body)?;
        let ticket = fields.text("t")?.ok_or(MalformedBody::TicketMissing)?;
        let return_to = fields.text("return_to")?;
        fields.check_unique()?;

        Ok(HandOverBody { ticket: ticket.into(), return_to: return_to.map(str::to_owned) })
    }

    /// Reads what a program has from WeChat, in WeChat's spelling.
    pub(in crate::sign_in) fn read_decrypt(self, body: &[u8]) -> Result<DecryptBody, MalformedBody> {
        let fields = self.fields(body)?;
        let encrypted_data = fields.text("encryptedData")?.ok_or(MalformedBody::SealedDataMissing)?;
        let iv = fields.text("iv")?.ok_or(MalformedBody::SealedDataMissing)?;
        fields.check_unique()?;

        Ok(DecryptBody { encrypted_data: encrypted_data.to_owned(), iv: iv.to_owned() })
    }

    /// Reads one field of a body, a text; `None` if it is missing.
    pub(in crate::sign_in) fn read_text(
        self,
        body: &[u8],
        name: &str,
    ) -> Result<Option<String>, MalformedBody> {
        let fields = self.fields(body)?;
        let text = fields.text(name)?.map(str::to_owned);
        fields.check_unique()?;
        Ok(text)
    }

    fn fields(self, body: &[u8]) -> Result<BodyFields, MalformedBody> {
        match self {
            _ if body.is_empty() => Err(MalformedBody::Empty),
            Self::Json => serde_json::from_slice(body).map_err(|_| MalformedBody::NotAnObject),
            Self::Form => Ok(BodyFields::of_form(body)),
        }
    }

    /// A field that is `true` or `false`; `false` if it is missing. Any other value is a mistake:
    /// read as `false` it would leave sessions open that the client believes ended.
    fn truth(self, fields: &BodyFields, name: &str) -> Result<bool, MalformedBody> {
        match (self, fields.find(name)) {
            (_, None) => Ok(false),
            (Self::Json, Some(Value::Bool(truth))) => Ok(*truth),
            (Self::Form, Some(Value::String(text))) if text == "true" => Ok(true),
            (Self::Form, Some(Value::String(text))) if text == "false" => Ok(false),
            _ => Err(MalformedBody::EverywhereNotBoolean),
        }
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// Every field of a body, in order; a map would drop the first of two that have one name.
struct BodyFields(Vec<(String, Value)>);

impl BodyFields {
    fn of_form(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body);
        Self(pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect())
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.0.iter().find_map(|(other, value)| (other == name).then_some(value))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, MalformedBody> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(MalformedBody::NotText),
        }
    }

    /// Refuses a name that occurs twice: a proxy before the gateway may have read the other value.
    fn check_unique(&self) -> Result<(), MalformedBody> {
        let mut names = BTreeSet::new();
        if self.0.iter().all(|(name, _)| names.insert(name)) {
            Ok(())
        } else {
            Err(MalformedBody::FieldTwice)
        }
    }
}

impl<'de> Deserialize<'de> for BodyFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BodyFieldsVisitor)
    }
}

struct BodyFieldsVisitor;

impl<'de> Visitor<'de> for BodyFieldsVisitor {
    type Value = BodyFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BodyFields, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(BodyFields(fields))
    }
}
