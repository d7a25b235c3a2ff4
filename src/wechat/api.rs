//! Requests and replies, exactly as on WeChat's wire.
//!
//! WeChat answers HTTP 200 even to what it refuses, calls its JSON `text/plain`, and leaves `errcode` out of a success:
//! only the body decides. Its `errmsg` changes without notice and is read for nothing but the call's id.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::Zeroizing;

use super::App;
use super::error::{self, Error, Fault};
use crate::identity::{OpenId, UnionId};

/// Name of the code exchange, as metrics call it.
pub(super) const CODE_EXCHANGE: &str = "jscode2session";

/// Longest code accepted, in bytes; WeChat's have 32.
const MAX_CODE_BYTES: usize = 128;

/// A login code, as `wx.login` gives it to a mini program. Good for one exchange within five minutes.
#[derive(Clone)]
pub struct Code(SecretString);

/// A text that no code of WeChat's looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a code of 1 to 128 characters out of A-Z a-z 0-9 _ -")]
pub struct InvalidCode;

impl Code {
    /// Parses a code.
    ///
    /// # Errors
    /// [`InvalidCode`] on anything but 1 to 128 characters out of `[A-Za-z0-9_-]`: the code stands in the query of our
    /// request, beside our secret.
    pub fn parse(text: &str) -> Result<Self, InvalidCode> {
        let is_valid = (1..=MAX_CODE_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if is_valid { Ok(Self(text.into())) } else { Err(InvalidCode) }
    }

    /// The code itself: a credential, never to be logged.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code([redacted])")
    }
}

/// The key that WeChat shares with the gateway for one person's data; zeroed when dropped.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<[u8; 16]>);

/// A text that is not the base64 of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the base64 of 16 bytes")]
pub struct InvalidSessionKey;

impl SessionKey {
    /// Parses a key from its canonical base64, 24 characters.
    ///
    /// # Errors
    /// [`InvalidSessionKey`] on anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| InvalidSessionKey)?);
        <[u8; 16]>::try_from(bytes.as_slice())
            .map(|key| Self(Zeroizing::new(key)))
            .map_err(|_| InvalidSessionKey)
    }

    /// The key itself, for whoever keeps it.
    pub fn into_bytes(self) -> Zeroizing<[u8; 16]> {
        self.0
    }

    /// The key itself: never to be logged, nor given to a client.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey([redacted])")
    }
}

/// What WeChat gives for a code.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    /// The person, within the app.
    pub openid: OpenId,
    /// The person across apps; only where the app is bound to an open platform account.
    pub unionid: Option<UnionId>,
    /// Opens what WeChat sealed for this person.
    pub session_key: SessionKey,
}

/// `GET /sns/jscode2session`. The secret and the code stand in this URL: it must not reach a log.
pub(super) fn code_exchange_url(host: &Url, app: &App, code: &Code) -> Url {
    let mut url = host.clone();
    url.set_path("/sns/jscode2session");
    url.query_pairs_mut()
        .append_pair("appid", app.appid.as_str())
        .append_pair("secret", app.secret.expose_secret())
        .append_pair("js_code", code.expose())
        .append_pair("grant_type", "authorization_code");
    url
}

/// The reply to `GET /sns/jscode2session`, before it is believed.
#[derive(Deserialize)]
pub(super) struct CodeReply<'a> {
    #[serde(default, deserialize_with = "number_or_text")]
    pub(super) errcode: i64,
    #[serde(default)]
    errmsg: Value,
    #[serde(borrow)]
    openid: Option<Text<'a>>,
    #[serde(borrow)]
    unionid: Option<Text<'a>>,
    #[serde(borrow)]
    session_key: Option<Text<'a>>,
}

/// A string left where it stands: an owned one would leave a copy of the session key in freed memory.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> CodeReply<'a> {
    /// Reads the JSON, whatever the reply's `Content-Type` says of it.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let text = std::str::from_utf8(body).map_err(|_| Error::UnexpectedReply(Fault::NotJson))?;
        serde_json::from_str(text).map_err(|_| Error::UnexpectedReply(Fault::NotJson))
    }

    /// WeChat's id of the call, where the reply gives one.
    pub(super) fn rid(&self) -> Option<String> {
        self.errmsg.as_str().and_then(find_rid).map(str::to_owned)
    }

    /// Believes the reply only when it is whole: an error, or an identity and its key.
    pub(super) fn into_result(self) -> Result<CodeExchange, Error> {
        if self.errcode != 0 {
            return Err(error::of_errcode(self.errcode));
        }
        let openid = self.openid.ok_or(Error::UnexpectedReply(Fault::OpenId))?;
        let session_key = self.session_key.ok_or(Error::UnexpectedReply(Fault::SessionKey))?;
        // Documented as absent where unknown; an empty one names nobody either.
        let unionid = self.unionid.filter(|unionid| !unionid.0.is_empty());

        Ok(CodeExchange {
            openid: OpenId::parse(&openid.0).map_err(|_| Error::UnexpectedReply(Fault::OpenId))?,
            unionid: unionid
                .map(|unionid| UnionId::parse(&unionid.0))
                .transpose()
                .map_err(|_| Error::UnexpectedReply(Fault::UnionId))?,
            session_key: SessionKey::parse(&session_key.0)
                .map_err(|_| Error::UnexpectedReply(Fault::SessionKey))?,
        })
    }
}

/// Reads an errcode: a number, in some replies in quotes.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Errcode {
        Number(i64),
        Text(String),
    }

    match Errcode::deserialize(deserializer)? {
        Errcode::Number(number) => Ok(number),
        Errcode::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Finds the call's id in an errmsg: `rid: ` and three groups of 8 hexadecimal digits; anything else is not logged.
fn find_rid(errmsg: &str) -> Option<&str> {
    let (_, rest) = errmsg.split_once("rid: ")?;
    let rid = rest.split(|c: char| !c.is_ascii_hexdigit() && c != '-').next()?;
    let is_valid =
        rid.len() == 26 && rid.split('-').count() == 3 && rid.split('-').all(|group| group.len() == 8);
    is_valid.then_some(rid)
}
