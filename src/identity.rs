//! Who signed in: the parsed identifiers of WeChat, the pair that names a subject, and the
//! business's own user.
//!
//! Every identifier is safe in an HTTP header. A value that is not safe never becomes one of these
//! types.

mod profile;
mod user;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::profile::Profile;
pub use self::user::{
    ClaimName, ClaimValue, InvalidClaimName, InvalidClaimValue, InvalidClaims, InvalidUserId, MOST_CLAIMS,
    User, UserId,
};

/// Longest appid, openid or unionid accepted, in bytes; WeChat's are 18 to 28.
pub const MAX_IDENTIFIER_BYTES: usize = 128;

/// A value that is not an identifier as WeChat writes them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of 1 to 128 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidIdentifier;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the identifier.
            ///
            /// # Errors
            /// [`InvalidIdentifier`] on anything but 1 to 128 characters out of `[A-Za-z0-9_-]`: a
            /// newline or a control character in one must never reach a header.
            pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
                let is_valid = !text.is_empty()
                    && text.len() <= MAX_IDENTIFIER_BYTES
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
                if is_valid { Ok(Self(text.into())) } else { Err(InvalidIdentifier) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidIdentifier;

            fn try_from(text: String) -> Result<Self, InvalidIdentifier> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(identifier: $name) -> Self {
                identifier.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

identifier! {
    /// An app's id at WeChat.
    AppId
}
identifier! {
    /// A person's id within one app.
    OpenId
}
identifier! {
    /// A person's id across the apps of one open platform account.
    UnionId
}

identifier! {
    /// A login's session; random, names the session in every token of it.
    SessionId
}

/// Who signed in: an openid means nothing without the app it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The app the person signed in to.
    pub appid: AppId,
    /// The person within that app.
    pub openid: OpenId,
}

impl fmt::Display for Subject {
    /// Writes `appid:openid`, the `sub` of our tokens; `:` is in neither alphabet, so it parses
    /// back uniquely.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.appid, self.openid)
    }
}

/// A subject with its unionid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who signed in.
    pub subject: Subject,
    /// Known only if the app is bound to an open platform account; never used as a key.
    pub unionid: Option<UnionId>,
}
