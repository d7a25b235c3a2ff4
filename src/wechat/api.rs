//! Requests and replies, exactly as on WeChat's wire.
//!
//! WeChat answers HTTP 200 even to a request that it refuses, labels its JSON `text/plain`, and
//! leaves `errcode` out of a success. Only the body decides. Its `errmsg` changes without notice;
//! only the call's id is read from it.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::App;
use super::error::{self, ReplyFault, WeChatError};
use crate::identity::{OpenId, UnionId};

/// Longest code accepted, in bytes; WeChat's have 32.
const MAX_CODE_BYTES: usize = 128;

/// A login code, as `wx.login` gives it to a mini program and WeChat's page to a browser. Good for
/// one exchange within five minutes; a website's, within ten.
#[derive(Clone)]
pub struct Code(SecretString);

/// A text that does not have the form of a WeChat code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a code of 1 to 128 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidCode;

impl Code {
    /// Parses a code.
    ///
    /// # Errors
    /// [`InvalidCode`] on anything but 1 to 128 characters out of `[A-Za-z0-9_-]`: the code is sent
    /// in the query of our request, together with our secret.
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

/// The key that WeChat shares with the gateway for one user's data; zeroed when dropped.
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

    /// The bytes of the key, for the session store.
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

/// WeChat's reply to a code.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    /// The user's id within the app.
    pub openid: OpenId,
    /// The user's id across apps; present only if the app is bound to an open platform account.
    pub unionid: Option<UnionId>,
    /// Decrypts the data that WeChat encrypted for this user.
    pub session_key: SessionKey,
}

/// One call, before a host is chosen for it. The parameters hold the app's secret, a code or a
/// token, so a URL made of them must not be logged.
pub(super) struct ApiCall<'a, T> {
    pub(super) endpoint: ApiEndpoint,
    pub(super) parameters: Vec<(&'static str, &'a str)>,
    /// The JSON of a POST. It holds the app's secret. `None`: a GET.
    pub(super) posted: Option<Vec<u8>>,
    /// Reads a reply without an errcode, and checks that it is complete.
    pub(super) read: fn(&str) -> Result<T, WeChatError>,
}

impl<T> ApiCall<'_, T> {
    /// The URL of the call at a host.
    pub(super) fn url(&self, host: &Url) -> Url {
        let mut url = host.clone();
        url.set_path(self.endpoint.path());
        if !self.parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.parameters);
        }
        url
    }

    /// The reply as text. Half a character in a nickname, or a raw control character, must not cost
    /// the user's ids. An id with such a character is refused as malformed nevertheless.
    fn text<'b>(&self, body: &'b [u8]) -> Option<Cow<'b, str>> {
        if self.endpoint != ApiEndpoint::UserInfo {
            return str::from_utf8(body).ok().map(Cow::Borrowed);
        }
        let text = String::from_utf8_lossy(body);
        let has_control = text.bytes().any(|byte| byte.is_ascii_control());
        Some(if has_control { escape_control_characters(&text).into() } else { text })
    }

    /// Reads the JSON of a reply and ignores its `Content-Type`.
    pub(super) fn reply(&self, body: &[u8]) -> ApiReply<T> {
        let not_json = || WeChatError::UnexpectedReply(ReplyFault::NotJson);
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let Some(text) = self.text(body) else { return not_json().into() };
        let text = &*text;
        match serde_json::from_str(text).map(|ReplyStatus { errcode }| errcode) {
            Ok(0) => ApiReply { errcode: 0, rid: None, result: (self.read)(text) },
            Ok(errcode) => {
                let errmsg = display_text(text, "errmsg");
                ApiReply {
                    errcode,
                    rid: find_rid(&errmsg).map(str::to_owned),
                    result: Err(error::from_errcode(errcode, &errmsg)),
                }
            }
            Err(_) => not_json().into(),
        }
    }
}

/// The endpoints of WeChat's API that the gateway calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiEndpoint {
    CodeExchange,
    PageCodeExchange,
    TokenRefresh,
    UserInfo,
    StableToken,
    Token,
}

impl ApiEndpoint {
    const fn path(self) -> &'static str {
        match self {
            Self::CodeExchange => "/sns/jscode2session",
            Self::PageCodeExchange => "/sns/oauth2/access_token",
            Self::TokenRefresh => "/sns/oauth2/refresh_token",
            Self::UserInfo => "/sns/userinfo",
            Self::StableToken => "/cgi-bin/stable_token",
            Self::Token => "/cgi-bin/token",
        }
    }

    /// Its name in metrics and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CodeExchange => "jscode2session",
            Self::PageCodeExchange => "oauth2_access_token",
            Self::TokenRefresh => "oauth2_refresh_token",
            Self::UserInfo => "userinfo",
            Self::StableToken => "stable_token",
            Self::Token => "token",
        }
    }
}

/// WeChat's reply to a call, and WeChat's id of the call if it refuses.
pub(super) struct ApiReply<T> {
    pub(super) errcode: i64,
    pub(super) rid: Option<String>,
    pub(super) result: Result<T, WeChatError>,
}

impl<T> From<WeChatError> for ApiReply<T> {
    fn from(error: WeChatError) -> Self {
        Self { errcode: 0, rid: None, result: Err(error) }
    }
}

/// The errcode of an answer; 0 if it has none that can be read.
pub(super) fn errcode_of(body: &[u8]) -> i64 {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_or(0, |ReplyStatus { errcode }| errcode)
}

/// The part that all replies share.
#[derive(Deserialize)]
struct ReplyStatus {
    #[serde(default, deserialize_with = "number_or_text")]
    errcode: i64,
}

/// A string that borrows from the reply. An owned string leaves a copy of a key or a token in freed
/// memory.
#[derive(Deserialize)]
pub(super) struct ReplyText<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Reads a reply's members.
pub(super) fn members<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, WeChatError> {
    serde_json::from_str(text).map_err(|_| WeChatError::UnexpectedReply(ReplyFault::NotJson))
}

/// A member of a reply that is only shown to people: empty if it is absent or no text. Characters
/// that are broken, such as half an emoji, are left out.
pub(super) fn display_text(text: &str, name: &str) -> String {
    let found = FindMember(name).deserialize(&mut serde_json::Deserializer::from_str(text));
    found.unwrap_or_default().replace(char::REPLACEMENT_CHARACTER, "")
}

/// Finds one member of an object, and reads it as text.
struct FindMember<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for FindMember<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FindMember<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<String, A::Error> {
        let mut found = String::new();
        while let Some(AnyText(name)) = members.next_key()? {
            if name == self.0 {
                AnyText(found) = members.next_value()?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Text in which a surrogate may stand alone, as WeChat writes an emoji that it cut in two. Only
/// the bytes of such text can be read.
struct AnyText(String);

impl<'de> Deserialize<'de> for AnyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = AnyText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<AnyText, E> {
                Ok(AnyText(String::from_utf8_lossy(bytes).into_owned()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// The openid of a reply, which has one.
pub(super) fn openid(text: Option<&ReplyText<'_>>) -> Result<OpenId, WeChatError> {
    text.and_then(|text| OpenId::parse(&text.0).ok()).ok_or(WeChatError::UnexpectedReply(ReplyFault::OpenId))
}

/// The unionid of a reply. It is documented as absent if unknown; an empty one is treated as
/// absent.
pub(super) fn unionid(text: Option<&ReplyText<'_>>) -> Result<Option<UnionId>, WeChatError> {
    let text = text.filter(|unionid| !unionid.0.is_empty());
    text.map(|unionid| UnionId::parse(&unionid.0))
        .transpose()
        .map_err(|_| WeChatError::UnexpectedReply(ReplyFault::UnionId))
}

/// The exchange of a mini program's code.
pub(super) fn code_exchange<'a>(app: &'a App, code: &'a Code) -> ApiCall<'a, CodeExchange> {
    ApiCall {
        endpoint: ApiEndpoint::CodeExchange,
        parameters: vec![
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose_secret()),
            ("js_code", code.expose()),
            ("grant_type", "authorization_code"),
        ],
        posted: None,
        read: read_code_exchange,
    }
}

/// The exchange of a mini program's code, to read replies by.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const fn unsent_code_exchange() -> ApiCall<'static, CodeExchange> {
    ApiCall {
        endpoint: ApiEndpoint::CodeExchange,
        parameters: Vec::new(),
        posted: None,
        read: read_code_exchange,
    }
}

fn read_code_exchange(text: &str) -> Result<CodeExchange, WeChatError> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        openid: Option<ReplyText<'a>>,
        #[serde(borrow)]
        unionid: Option<ReplyText<'a>>,
        #[serde(borrow)]
        session_key: Option<ReplyText<'a>>,
    }

    let members: Members<'_> = members(text)?;
    let openid = openid(members.openid.as_ref())?;
    let session_key = members.session_key.ok_or(WeChatError::UnexpectedReply(ReplyFault::SessionKey))?;
    Ok(CodeExchange {
        openid,
        unionid: unionid(members.unionid.as_ref())?,
        session_key: SessionKey::parse(&session_key.0)
            .map_err(|_| WeChatError::UnexpectedReply(ReplyFault::SessionKey))?,
    })
}

/// Writes raw control characters within strings as JSON demands it (RFC 8259 §7).
pub(super) fn escape_control_characters(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 5);
    let mut is_in_string = false;
    let mut follows_backslash = false;
    for character in text.chars() {
        if is_in_string && character.is_ascii_control() {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            is_in_string ^= character == '"' && !follows_backslash;
            escaped.push(character);
        }
        follows_backslash = character == '\\' && !follows_backslash;
    }
    escaped
}

/// Reads an errcode: a number, which some replies write in quotes.
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

/// Finds the call's id in an errmsg: `rid: ` and three groups of 8 hexadecimal digits; anything
/// else is not logged.
fn find_rid(errmsg: &str) -> Option<&str> {
    let (_, rest) = errmsg.split_once("rid: ")?;
    let rid = rest.split(|c: char| !c.is_ascii_hexdigit() && c != '-').next()?;
    let is_valid =
        rid.len() == 26 && rid.split('-').count() == 3 && rid.split('-').all(|group| group.len() == 8);
    is_valid.then_some(rid)
}
