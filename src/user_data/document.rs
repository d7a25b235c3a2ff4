//! The JSON inside: which kind of data it is, and what it says of itself.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::OpenedUserData;
use crate::clock::Timestamp;
use crate::identity::UnionId;

/// What WeChat seals, by the fields that only this kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nickname and avatar: `wx.getUserInfo`.
    Profile,
    /// A phone number: the older button.
    Phone,
    /// Any other: a group, steps.
    Other,
}

/// An object whose names are unique.
pub(super) struct Document(Map<String, Value>);

const PROFILE: [&str; 7] = ["nickName", "gender", "language", "city", "province", "country", "avatarUrl"];
const PHONE: [&str; 3] = ["phoneNumber", "purePhoneNumber", "countryCode"];
/// What may stand beside the fields of any kind.
const COMMON: [&str; 3] = ["openId", "unionId", "watermark"];

impl Document {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        serde_json::from_str(text).ok()
    }

    pub(super) fn appid(&self) -> Option<&str> {
        self.watermark()?.get("appid")?.as_str()
    }

    /// When WeChat sealed it.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        self.watermark()?.get("timestamp")?.as_u64().map(Timestamp::from_seconds)
    }

    /// The openid, if there is one.
    ///
    /// # Errors
    /// There is something else in its place.
    pub(super) fn openid(&self) -> Result<Option<&str>, NotText> {
        self.text("openId")
    }

    /// The kind; `None` if it has fields of two kinds, or a phone number has fields of its own.
    pub(super) fn kind(&self) -> Option<Kind> {
        let has = |names: &[&str]| self.0.keys().any(|name| names.contains(&name.as_str()));
        match (has(&PROFILE), has(&PHONE)) {
            (true, true) => None,
            (true, false) => Some(Kind::Profile),
            (false, true) => {
                let is_known = |name: &String| PHONE.iter().chain(&COMMON).any(|known| known == name);
                self.0.keys().all(is_known).then_some(Kind::Phone)
            }
            (false, false) => Some(Kind::Other),
        }
    }

    /// Whether what it says twice is the same, and names are texts.
    pub(super) fn is_consistent(&self) -> bool {
        let is_phone_consistent = match self.kind() {
            Some(Kind::Phone) => match (self.text("phoneNumber"), self.text("purePhoneNumber")) {
                // With the code of the country before it, for numbers of other countries.
                (Ok(Some(number)), Ok(Some(pure))) => !pure.is_empty() && number.ends_with(pure),
                _ => false,
            },
            _ => true,
        };
        is_phone_consistent && self.text("unionId").is_ok()
    }

    pub(super) fn into_opened(self) -> OpenedUserData {
        let unionid = match (self.openid(), self.text("unionId")) {
            (Ok(Some(_)), Ok(Some(unionid))) => UnionId::parse(unionid).ok(),
            _ => None,
        };
        OpenedUserData { fields: self.0, unionid }
    }

    fn watermark(&self) -> Option<&Map<String, Value>> {
        self.0.get("watermark")?.as_object()
    }

    fn text(&self, name: &str) -> Result<Option<&str>, NotText> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(NotText),
        }
    }
}

/// A field is not a text.
pub(super) struct NotText;

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut fields = Map::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a name occurs twice"));
            }
        }
        Ok(Document(fields))
    }
}
