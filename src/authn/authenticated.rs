//! Proof of who signed in.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::clock::Timestamp;
use crate::config::AppKind;
use crate::identity::{Identity, Profile, SessionId, User};
use crate::session::{CheckedSession, Lease};

/// The source of a call by a program, in the words of WeChat Cloud Run.
const OF_A_PROGRAM: HeaderValue = HeaderValue::from_static("wx_client");
/// The source of a call by a page.
const OF_A_PAGE: HeaderValue = HeaderValue::from_static("wx_http");

/// Proof that a request shows a valid token or cookie of a configured app, whose session has not
/// ended.
///
/// Only [`super::Authenticator`] makes one.
#[derive(Clone)]
pub struct Authenticated(Arc<Proof>);

struct Proof {
    identity: Identity,
    /// Boxed, because most people are not bound to a user and the cache has one `Proof` for each
    /// token.
    user: Option<Box<User>>,
    session: SessionId,
    expires_at: Timestamp,
    lease: Lease,
    recheck_at: Timestamp,
    app: Arc<str>,
    /// `None` for a session cookie.
    kid: Option<Arc<str>>,
    subject_hash: String,
    header_values: HeaderValues,
}

/// What the identity headers say, ready to be inserted.
#[derive(Clone, Debug)]
pub struct HeaderValues {
    /// The openid.
    pub openid: HeaderValue,
    /// The unionid, if it is known.
    pub unionid: Option<HeaderValue>,
    /// The appid.
    pub appid: HeaderValue,
    /// The id that the business uses for the person, if the person is bound to a user.
    pub user: Option<Box<HeaderValue>>,
    /// The source of the call, in the words of WeChat Cloud Run.
    pub source: HeaderValue,
    /// Nickname and avatar, if backends receive them.
    pub profile: Option<Box<ProfileValues>>,
}

/// What the headers of a profile say. Both are the person's own words.
#[derive(Clone, Debug)]
pub struct ProfileValues {
    /// Percent-encoded UTF-8: all but letters, digits, `-`, `.`, `_` and `~`. See RFC 3986 §2.3.
    pub nickname: Option<HeaderValue>,
    /// A URL of visible ASCII.
    pub avatar: Option<HeaderValue>,
}

impl Authenticated {
    /// Who signed in.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The user of the business that the person is bound to.
    pub fn user(&self) -> Option<&User> {
        self.0.user.as_deref()
    }

    /// The configured name of the app that the person signed in to.
    pub fn app(&self) -> &Arc<str> {
        &self.0.app
    }

    /// The login that the token or cookie belongs to.
    pub fn session(&self) -> &SessionId {
        &self.0.session
    }

    /// The id of the key that signed the token; `None` for a session cookie.
    pub fn kid(&self) -> Option<&str> {
        self.0.kid.as_deref()
    }

    /// When the token or cookie stops being valid.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// The subject as logs show it: a hash that begins with the id of its key.
    pub fn subject_hash(&self) -> &str {
        &self.0.subject_hash
    }

    /// What the identity headers say.
    pub fn header_values(&self) -> &HeaderValues {
        &self.0.header_values
    }

    /// The lease of the session: when it ends, the session must be looked up again.
    pub fn lease(&self) -> &Lease {
        &self.0.lease
    }

    /// When the session must be looked up again even if the lease has not ended. Never after
    /// [`Authenticated::expires_at`].
    pub fn recheck_at(&self) -> Timestamp {
        self.0.recheck_at
    }

    /// Makes the proof from the session, whose unionid may be newer than the token's. The token,
    /// signed by the key `kid`, or the cookie is valid until `expires_at`.
    pub(super) fn new(
        checked: CheckedSession,
        kid: Option<Arc<str>>,
        expires_at: Timestamp,
        app: &ConfiguredApp,
        subject_hash: String,
        tells_profile: bool,
    ) -> Result<Self, InvalidHeaderValue> {
        let CheckedSession { id, lease, recheck_at, identity, profile, user, parent, .. } = checked;
        // A web-view holds what was handed over to it, whatever the app is.
        let source = if parent.is_some() { OF_A_PAGE } else { app.source.clone() };
        let profile = Some(profile).filter(|profile| tells_profile && !profile.is_empty());
        Ok(Self(Arc::new(Proof {
            header_values: HeaderValues::new(&identity, user.as_ref(), profile.as_ref(), source)?,
            identity,
            user: user.map(Box::new),
            session: id,
            expires_at,
            lease,
            recheck_at: recheck_at.min(expires_at),
            app: Arc::clone(&app.name),
            kid,
            subject_hash,
        })))
    }

    /// Whether the session need not be looked up again.
    pub(super) fn is_current(&self, now: Timestamp) -> bool {
        now < self.0.recheck_at && self.0.lease.is_current()
    }

    /// A proof that proves nothing, for tests of code that receives one.
    #[cfg(test)]
    pub(crate) fn for_test(
        identity: Identity,
        user: Option<User>,
        profile: Option<&Profile>,
        app: &str,
    ) -> Self {
        let app = ConfiguredApp::new(app, AppKind::MiniProgram);
        Self(Arc::new(Proof {
            header_values: HeaderValues::new(&identity, user.as_ref(), profile, app.source).unwrap(),
            identity,
            user: user.map(Box::new),
            session: SessionId::parse("session-for-test").unwrap(),
            expires_at: Timestamp::from_millis(u64::MAX),
            lease: Lease::for_test(),
            recheck_at: Timestamp::from_millis(u64::MAX),
            app: app.name,
            kid: None,
            subject_hash: "0123456789abcdef".into(),
        }))
    }
}

impl fmt::Debug for Authenticated {
    /// Shows the subject as logs may.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticated({} of {})", self.0.subject_hash, self.0.app)
    }
}

impl HeaderValues {
    fn new(
        identity: &Identity,
        user: Option<&User>,
        profile: Option<&Profile>,
        source: HeaderValue,
    ) -> Result<Self, InvalidHeaderValue> {
        let unionid = identity.unionid.as_ref().map(|unionid| HeaderValue::from_str(unionid.as_str()));
        let user = user.map(|user| HeaderValue::from_str(user.id().as_str()));
        Ok(Self {
            openid: HeaderValue::from_str(identity.subject.openid.as_str())?,
            unionid: unionid.transpose()?,
            appid: HeaderValue::from_str(identity.subject.appid.as_str())?,
            user: user.transpose()?.map(Box::new),
            source,
            profile: profile.map(ProfileValues::new).transpose()?.map(Box::new),
        })
    }
}

impl ProfileValues {
    fn new(profile: &Profile) -> Result<Self, InvalidHeaderValue> {
        let nickname = profile.nickname().map(|nickname| HeaderValue::try_from(percent_encode(nickname)));
        let avatar = profile.avatar().map(HeaderValue::from_str);
        Ok(Self { nickname: nickname.transpose()?, avatar: avatar.transpose()? })
    }
}

/// Encodes all but the unreserved characters of RFC 3986 §2.3.
fn percent_encode(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// What authentication needs to know of an app.
#[derive(Debug)]
pub(super) struct ConfiguredApp {
    pub(super) name: Arc<str>,
    source: HeaderValue,
}

impl ConfiguredApp {
    pub(super) fn new(name: &str, kind: AppKind) -> Self {
        let source = match kind {
            AppKind::MiniProgram | AppKind::Mobile => OF_A_PROGRAM,
            AppKind::Website | AppKind::OfficialAccount => OF_A_PAGE,
        };
        Self { name: name.into(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_header_value_uses_only_harmless_characters() {
        assert_eq!(percent_encode("Az09-._~"), "Az09-._~");
        assert_eq!(percent_encode("小 a\n%+/"), "%E5%B0%8F%20a%0A%25%2B%2F");
    }
}
