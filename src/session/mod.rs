//! Sessions: opened by a login, looked up by every token, renewed by refresh tokens, ended by whoever may.
//!
//! A person in one app has one row in the store, with all their sessions in it; a session is what that row says it is.
//! Every change is one compare-and-set of that row, so that no store needs more than one atomic row. Verdicts that other
//! modules remember hold a [`Lease`], which ends when the row may have changed. Who may revoke, and what a client is told,
//! are decided elsewhere.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::clock::{Clock, Timestamp};
use crate::config::{self, Findings};
use crate::entropy::Entropy;
use crate::identity::{AppId, Identity, SessionId, Subject, UnionId};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::token::OnMissingKey;

/// What all configurations of a gateway share: the store, and what this node follows in it.
pub struct Core {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    /// Moves when every verdict on this node must be made anew.
    epoch: Arc<AtomicU64>,
}

/// The sessions, under one configuration.
pub struct Sessions {
    core: Arc<Core>,
    config: config::Sessions,
}

/// A login that succeeded.
pub struct NewSession<'a> {
    /// Who signed in.
    pub identity: &'a Identity,
    /// What WeChat shares with the gateway for this person's data.
    pub session_key: Option<&'a Zeroizing<[u8; 16]>>,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
}

/// A session that is in the store.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its id: names the row and the session in it.
    pub id: SessionId,
    /// Good for one [`Sessions::refresh`].
    pub refresh_token: RefreshToken,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A refresh token; `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct RefreshToken(SecretString);

/// A text that no refresh token of ours looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token")]
pub struct InvalidRefreshToken;

/// A refresh token was taken, and this is the next.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// Whose it is.
    pub identity: Identity,
    /// The session, with its next refresh token.
    pub session: Opened,
}

/// A session that goes on.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Ends when the session must be looked up again before it is believed.
    pub lease: Lease,
    /// When it must be looked up again whatever happens. Never after the session's end.
    pub recheck_at: Timestamp,
    /// When the session ends at the latest.
    pub expires_at: Timestamp,
    /// Who it belongs to, as the store knows it: the unionid may be newer than the token's.
    pub identity: Identity,
}

/// Whether what was looked up still holds, for all that is known here; asking costs two loads.
#[derive(Clone, Debug)]
pub struct Lease {
    epoch: Arc<AtomicU64>,
    epoch_seen: u64,
}

impl Lease {
    /// Whether nothing was heard since that could have ended the session.
    pub fn is_current(&self) -> bool {
        self.epoch.load(Ordering::Acquire) == self.epoch_seen
    }

    /// Waits until [`Lease::is_current`] may be false.
    pub async fn ended(&self) {
        std::future::pending().await
    }

    /// A lease that never ends, for tests of what is done with one.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self { epoch: Arc::default(), epoch_seen: 0 }
    }
}

/// What a session is called where it is listed. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub identity: Identity,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, to within a sixteenth of the idle timeout.
    pub last_seen_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// What the client called itself, in a few printable characters.
    pub device: Option<String>,
}

/// Whose sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This one.
    Session(SessionId),
    /// All of a person in one app.
    Subject(Subject),
    /// All of a person, in every app.
    UnionId(UnionId),
    /// All of an app.
    App(AppId),
    /// All that were opened before this instant.
    OpenedBefore(Timestamp),
}

impl Scope {
    /// The scope's name, in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
            Self::UnionId(_) => "unionid",
            Self::App(_) => "app",
            Self::OpenedBefore(_) => "opened_before",
        }
    }
}

/// Why there is no session to speak of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It was revoked, has expired, or never was.
    #[error("the session has ended")]
    Ended,
    /// The store did not say; nobody is to be believed, or told that it worked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway itself failed.
    #[error("the gateway failed: {0}")]
    Internal(Arc<str>),
}

/// Why a refresh token was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// Its session has ended, or there never was such a token.
    #[error("the refresh token is not valid")]
    Invalid,
    /// It was spent before, so somebody else has it; its session was ended. See RFC 9700 §4.14.2.
    #[error("the refresh token was used twice")]
    Reused,
    /// As [`SessionError::Store`] and [`SessionError::Internal`].
    #[error(transparent)]
    Session(SessionError),
}

impl RefreshToken {
    /// Parses a refresh token.
    ///
    /// # Errors
    /// [`InvalidRefreshToken`] on what no gateway of ours issued.
    pub fn parse(_text: &str) -> Result<Self, InvalidRefreshToken> {
        Err(InvalidRefreshToken)
    }

    /// The token as the client gets it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl Core {
    /// Follows sessions in this store.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, clock, entropy, metrics, epoch: Arc::default() }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Follows what other nodes revoke, for as long as it is polled, and keeps [`Core::is_available`].
    pub async fn follow(&self) {
        std::future::pending().await
    }

    /// Whether the store answered lately: whether logins can succeed.
    pub fn is_available(&self) -> bool {
        true
    }

    /// Moves when every verdict on this node must be made anew.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

impl Sessions {
    /// Checks the section, and reads or makes the keys that seal.
    pub fn build(
        config: &config::Sessions,
        _data_dir: &Path,
        _missing: OnMissingKey,
        core: Arc<Core>,
        _findings: &mut Findings,
    ) -> Option<Self> {
        Some(Self { core, config: config.clone() })
    }

    /// What all configurations share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Opens a session; once this returns it is as durable as the store makes it.
    ///
    /// # Errors
    /// [`SessionError::Store`] and [`SessionError::Internal`]: there is no session then that anybody could use.
    pub async fn open(&self, _new: NewSession<'_>, _now: Timestamp) -> Result<Opened, SessionError> {
        Err(SessionError::Ended)
    }

    /// Looks a session up, and notes now and then that it is in use.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn check(
        &self,
        _subject: &Subject,
        _session: &SessionId,
        _now: Timestamp,
    ) -> Result<Checked, SessionError> {
        Err(SessionError::Ended)
    }

    /// Takes a refresh token and gives the next; a retry within the grace time gets the same next one.
    ///
    /// # Errors
    /// [`RefreshError`], by variant.
    pub async fn refresh(&self, _token: &RefreshToken, _now: Timestamp) -> Result<Refreshed, RefreshError> {
        Err(RefreshError::Invalid)
    }

    /// Ends sessions: at once on this node, within a second on every other. Gives how many ended, where that is known.
    /// Ending what has ended already succeeds.
    ///
    /// # Errors
    /// [`SessionError::Store`]: some or all may go on; ask again.
    pub async fn revoke(&self, _scope: &Scope, _now: Timestamp) -> Result<Option<u64>, SessionError> {
        Err(SessionError::Ended)
    }

    /// The sessions of a person in one app, oldest first.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn of_subject(
        &self,
        _subject: &Subject,
        _now: Timestamp,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        Err(SessionError::Ended)
    }

    /// The sessions of a person in every app, by app and then oldest first.
    ///
    /// # Errors
    /// [`SessionError::Store`]
    pub async fn of_unionid(
        &self,
        _unionid: &UnionId,
        _now: Timestamp,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        Err(SessionError::Ended)
    }

    /// What WeChat shares with the gateway for a person's data, if that is what this session's login brought.
    /// Sealed anew on the way when the key that seals has changed.
    ///
    /// # Errors
    /// [`SessionError`], by variant.
    pub async fn session_key(
        &self,
        _subject: &Subject,
        _session: &SessionId,
        _now: Timestamp,
    ) -> Result<Option<Zeroizing<[u8; 16]>>, SessionError> {
        Err(SessionError::Ended)
    }

    /// Sessions in an embedded store in `folder`, under the default configuration.
    #[cfg(test)]
    pub(crate) fn for_test(folder: &Path, clock: Arc<dyn Clock>) -> Arc<Self> {
        use crate::entropy::SystemEntropy;

        let metrics = Arc::new(Metrics::new().unwrap());
        let mut findings = Findings::default();
        let store = crate::store::open(
            &config::Store::default(),
            folder,
            Arc::clone(&clock),
            &metrics,
            &mut findings,
        );
        let store = store.unwrap_or_else(|| panic!("{findings:?}"));
        let core = Arc::new(Core::new(store, clock, Arc::new(SystemEntropy), metrics));
        let config = config::Sessions::default();
        let sessions = Self::build(&config, folder, OnMissingKey::Create, core, &mut findings);
        Arc::new(sessions.unwrap_or_else(|| panic!("{findings:?}")))
    }

    /// How long a refresh token gets the same answer again.
    pub fn refresh_grace(&self) -> Duration {
        *self.config.refresh_grace
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("store", &self.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("core", &self.core).finish_non_exhaustive()
    }
}
