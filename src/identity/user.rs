//! The user of the business that a person is bound to: an id and claims.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Longest user id, and longest value of a claim, in bytes.
const MAX_BYTES: usize = 128;
/// Longest name of a claim, in bytes.
const MAX_NAME_BYTES: usize = 32;
/// Most claims of one user.
pub const MOST_CLAIMS: usize = 16;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $error:ident, $message:literal, $is_valid:expr) => {
        #[doc = concat!("Text that is no [`", stringify!($name), "`].")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = "Parses it.\n\n# Errors"]
            #[doc = concat!("[`", stringify!($error), "`]: ", $message, ".")]
            pub fn parse(text: &str) -> Result<Self, $error> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) { Ok(Self(text.into())) } else { Err($error) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

word! {
    /// The id that the business uses for a person. None of its characters has a meaning in a
    /// header, in a list or between quotes.
    UserId, InvalidUserId,
    "not a user id of 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ + = -",
    |text| (1..=MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~:@+=-".contains(&byte))
}
word! {
    /// The name of a claim, such as `role`.
    #[derive(Debug)]
    ClaimName, InvalidClaimName,
    "not a claim's name of 1 to 32 characters out of a-z 0-9 _ that begins with a letter",
    |text| text.len() <= MAX_NAME_BYTES
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
word! {
    /// The value of a claim, such as `editor`.
    #[derive(Debug)]
    ClaimValue, InvalidClaimValue,
    "not a claim's value of 1 to 128 visible ASCII characters",
    |text| (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A user of the business, to which a person who signs in with WeChat is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    id: UserId,
    claims: BTreeMap<ClaimName, ClaimValue>,
}

/// Why claims are not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClaims {
    /// More than [`MOST_CLAIMS`].
    #[error("more than {MOST_CLAIMS} claims")]
    TooMany,
    /// Two claims have the same name, so it is not known which one is meant.
    #[error("a claim occurs twice")]
    Twice,
}

impl User {
    /// A user with these claims.
    ///
    /// # Errors
    /// [`InvalidClaims`]
    pub fn new(
        id: UserId,
        claims: impl IntoIterator<Item = (ClaimName, ClaimValue)>,
    ) -> Result<Self, InvalidClaims> {
        let mut distinct = BTreeMap::new();
        for (name, value) in claims {
            if distinct.insert(name, value).is_some() {
                return Err(InvalidClaims::Twice);
            }
            if distinct.len() > MOST_CLAIMS {
                return Err(InvalidClaims::TooMany);
            }
        }
        Ok(Self { id, claims: distinct })
    }

    /// The id that the business uses.
    pub const fn id(&self) -> &UserId {
        &self.id
    }

    /// The value of a claim, if the user has it.
    pub fn claim(&self, name: &ClaimName) -> Option<&ClaimValue> {
        self.claims.get(name)
    }

    /// Every claim, by name.
    pub fn claims(&self) -> impl Iterator<Item = (&ClaimName, &ClaimValue)> {
        self.claims.iter()
    }
}

/// Hides the id: logs must not contain it.
impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, value: &str) -> (ClaimName, ClaimValue) {
        (ClaimName::parse(name).unwrap(), ClaimValue::parse(value).unwrap())
    }

    #[test]
    fn a_user_id_is_plain_text_that_a_header_can_carry() {
        let long = "a".repeat(128);
        for text in
            ["42", "a", "550e8400-e29b-41d4-a716-446655440000", "x@y.test", "urn:u:1", "a+b=~_", &long]
        {
            let id = UserId::parse(text).unwrap();

            assert_eq!(id.as_str(), text);
            assert_eq!(format!("{id:?}"), "[redacted]");
            assert!(http::HeaderValue::from_str(text).is_ok());
        }
        let too_long = "a".repeat(129);
        for text in
            ["", " ", "a b", "a,b", "a\"b", "a'b", "a/b", "a;b", "a\r\nb", "a\0", "用户", "é", &too_long]
        {
            assert_eq!(UserId::parse(text), Err(InvalidUserId), "{text:?}");
        }
        for byte in (0..=u8::MAX).map(char::from).filter(|byte| !byte.is_ascii_alphanumeric()) {
            let is_admitted = UserId::parse(&byte.to_string()).is_ok();
            assert_eq!(is_admitted, "._~:@+=-".contains(byte), "{byte:?}");
        }
    }

    #[test]
    fn a_claim_has_a_plain_name_and_a_visible_value() {
        let long = "a".repeat(32);
        for name in ["a", "role", "level_2", &long] {
            assert!(ClaimName::parse(name).is_ok(), "{name}");
        }
        let too_long = "a".repeat(33);
        for name in ["", "Role", "_a", "2a", "a-b", "a b", "rôle", &too_long] {
            assert_eq!(ClaimName::parse(name), Err(InvalidClaimName), "{name}");
        }
        let (long, too_long) = ("!".repeat(128), "!".repeat(129));
        for value in ["a", "Editor,admin", "\"", &long] {
            assert!(ClaimValue::parse(value).is_ok(), "{value}");
        }
        for value in ["", " ", "a b", "a\n", "é", &too_long] {
            assert_eq!(ClaimValue::parse(value), Err(InvalidClaimValue), "{value}");
        }
    }

    #[test]
    fn no_user_has_more_claims_than_there_is_room_for_nor_one_twice() {
        let id = || UserId::parse("42").unwrap();
        let many = |count: usize| (0..count).map(|number| claim(&format!("c{number}"), "x"));

        let user = User::new(id(), [claim("role", "editor"), claim("level", "3")]).unwrap();

        assert_eq!(user.claim(&claim("role", "x").0), Some(&claim("role", "editor").1));
        assert_eq!(user.claim(&claim("rol", "x").0), None);
        assert_eq!(User::new(id(), many(MOST_CLAIMS)).unwrap().claims().count(), MOST_CLAIMS);
        assert_eq!(User::new(id(), many(MOST_CLAIMS + 1)), Err(InvalidClaims::TooMany));
        assert_eq!(User::new(id(), [claim("a", "1"), claim("a", "1")]), Err(InvalidClaims::Twice));
    }
}
