//! An emulated WeChat for the demo and for tests. It is never on by default.
//!
//! It implements WeChat's wire format as the gateway sees it: the order of errors, the odd content
//! types, codes that work once within five minutes, and, on demand, the failures that occur in
//! production. The calls that replace the phone (`wx.login` and others) and the test controls are
//! reached in process, or over HTTP below `/__emu/`. `docs/emulator.md` is its manual. The emulator
//! and the gateway do not depend on each other.

mod access_token;
mod answer;
mod authorization;
mod call;
mod code;
mod config;
mod control;
mod endpoint;
mod errcode;
mod exchange;
mod fault;
mod grant;
mod identifier;
mod media;
mod media_file;
mod page;
mod qr_code;
mod quota;
mod request;
mod server;
mod session_key;
mod sign_in;
mod sns;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod user_data;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::entropy::{Entropy, NoEntropy};

pub use authorization::{AuthorizationError, Scope};
pub use call::{CallEnding, LoggedCall, fingerprint};
pub use config::{
    AcceptAnyCode, App, AppKind, Config, QrCodes, Quotas, RefusedSignIn, Rotate, SessionKeys, User,
};
pub use fault::{Effect, Errcode, InjectedFault};
pub use qr_code::{QrCode, QrCodeError, QrCodeStep};
pub use server::Running;
pub use sign_in::{EmulatedSignIn, SignedIn};
pub use user_data::SealedUserData;

use code::{Code, CodeKind};
use state::EmulatorState;

/// An emulated WeChat. It may listen on several addresses at once, as WeChat does.
#[derive(Debug)]
pub struct Emulator {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    advanced_millis: AtomicU64,
    max_connections: usize,
    qr_code_poll: Duration,
    /// Wakes the polls of pages, which then check what changed.
    qr_code_changed: Notify,
    state: Mutex<EmulatorState>,
}

/// The state in which a code is issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeState {
    /// Valid for five minutes.
    #[default]
    Fresh,
    /// Exchanged just now: answers 40163.
    Used,
    /// Issued five minutes ago: answers 40029.
    Expired,
}

/// Why the emulator cannot carry out a control call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The appid is not configured.
    #[error("appid `{appid}` is not configured; known: {known}")]
    UnknownApp {
        /// The appid that was named.
        appid: String,
        /// The configured ones.
        known: String,
    },
    /// The wxid is empty.
    #[error("`wxid` is empty: name a person, such as `alice`")]
    EmptyWxid,
    /// The app's users sign in on pages, not with `wx.login`.
    #[error("`{0}` is no mini program: its users sign in on pages")]
    NoMiniProgram(String),
    /// The app's users do not sign in with WeChat's SDK.
    #[error("`{0}` is no mobile app: its users do not sign in with the SDK")]
    NoMobileApp(String),
    /// A sign-in page would show an error.
    #[error(transparent)]
    Authorization(#[from] AuthorizationError),
    /// A phone cannot do this with a QR code.
    #[error(transparent)]
    QrCode(#[from] QrCodeError),
    /// The person never logged in to the app, or the key has expired.
    #[error("`{0}` has no session key there: call wx.login first")]
    NoSessionKey(String),
    /// The system gave no random bytes.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl Emulator {
    /// Builds an emulator without any state.
    pub fn new(config: Config, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Arc<Self> {
        if let Some(wxid) = config.accept_any_code.wxid() {
            tracing::warn!(
                wxid,
                "`accept_any_code` is on: every code that this emulator did not issue signs in as `{wxid}`; \
                 keep it away from real data"
            );
        }
        Arc::new(Self {
            clock,
            entropy,
            advanced_millis: AtomicU64::new(0),
            max_connections: config.max_connections,
            qr_code_poll: *config.qr_codes.poll,
            qr_code_changed: Notify::new(),
            state: Mutex::new(EmulatorState::new(config)),
        })
    }

    /// Serves HTTP on an address, on the current tokio runtime, until the returned handle is
    /// dropped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn listen(self: &Arc<Self>, address: SocketAddr) -> io::Result<Running> {
        server::listen(Arc::clone(self), address)
    }

    /// `wx.login` on a person's phone: a code that works once, within five minutes.
    ///
    /// # Errors
    /// [`ControlError`], for an app that is not configured or an empty wxid.
    pub fn wx_login(&self, appid: &str, wxid: &str) -> Result<String, ControlError> {
        self.wx_login_as(appid, wxid, CodeState::Fresh)
    }

    /// `wx.login`, with a code that is new, already used or expired.
    ///
    /// # Errors
    /// As [`Self::wx_login`].
    pub fn wx_login_as(&self, appid: &str, wxid: &str, code: CodeState) -> Result<String, ControlError> {
        let text = identifier::login_code(&*self.entropy)?;
        let now = self.now();
        let mut state = self.state.lock();
        state.check_user(appid, wxid)?;
        let openid = state.identifiers.openid(wxid, appid);
        state.session_keys.log_in(appid, &openid, now, &*self.entropy)?;
        state.codes.insert(text.clone(), issued(appid, wxid, CodeKind::Login, code, now), now);
        Ok(text)
    }

    /// The `getPhoneNumber` event on a person's phone: a code for the person's number.
    ///
    /// # Errors
    /// As [`Self::wx_login`].
    pub fn phone_code(&self, appid: &str, wxid: &str) -> Result<String, ControlError> {
        let text = identifier::phone_code(&*self.entropy)?;
        let now = self.now();
        let mut state = self.state.lock();
        state.check_user(appid, wxid)?;
        state.codes.insert(text.clone(), issued(appid, wxid, CodeKind::Phone, CodeState::Fresh, now), now);
        Ok(text)
    }

    /// A person who agrees on the phone when a mobile app asks with WeChat's SDK: a code that works
    /// once, within ten minutes.
    ///
    /// # Errors
    /// [`ControlError`], [`ControlError::NoMobileApp`] among them.
    pub fn sdk_code(&self, appid: &str, wxid: &str) -> Result<String, ControlError> {
        let text = identifier::login_code(&*self.entropy)?;
        let now = self.now();
        let mut state = self.state.lock();
        state.check_person(appid, wxid)?;
        if state.apps.get(appid).is_none_or(|app| app.kind != AppKind::Mobile) {
            return Err(ControlError::NoMobileApp(appid.into()));
        }
        state.codes.insert(text.clone(), issued(appid, wxid, CodeKind::Sdk, CodeState::Fresh, now), now);
        Ok(text)
    }

    /// The person's openid in one app.
    pub fn openid(&self, appid: &str, wxid: &str) -> String {
        self.state.lock().identifiers.openid(wxid, appid)
    }

    /// The person's unionid in all apps of the same Open Platform account; `None` if the app is not
    /// bound.
    pub fn unionid(&self, appid: &str, wxid: &str) -> Option<String> {
        self.state.lock().unionid(appid, wxid)
    }

    /// The current session key of a person who logged in.
    pub fn session_key(&self, appid: &str, wxid: &str) -> Option<String> {
        let now = self.now();
        let state = self.state.lock();
        let openid = state.identifiers.openid(wxid, appid);
        state.session_keys.current(&openid, now).map(str::to_owned)
    }

    /// The current session keys of all users. Only the gateway may ever see them.
    pub fn session_keys(&self) -> Vec<String> {
        self.state.lock().session_keys.all()
    }

    /// The access and refresh tokens of all users. Only the gateway may ever see them.
    pub fn people_tokens(&self) -> Vec<String> {
        self.state.lock().grants.all()
    }

    /// The access tokens of all apps. Only the gateway may ever see them.
    pub fn app_tokens(&self) -> Vec<String> {
        self.state.lock().tokens.all()
    }

    /// Revokes every access token of an app and of its users at once, as if another server had
    /// requested one and the overlap had passed.
    ///
    /// # Errors
    /// [`ControlError::UnknownApp`].
    pub fn revoke_tokens(&self, appid: &str) -> Result<(), ControlError> {
        let now = self.now();
        let mut state = self.state.lock();
        state.app_mut(appid)?;
        state.tokens.revoke(appid, now);
        state.grants.revoke(appid);
        Ok(())
    }

    /// Resets an app's secret, as in WeChat's console: the old one stops working at once.
    ///
    /// # Errors
    /// [`ControlError::UnknownApp`].
    pub fn reset_secret(&self, appid: &str, secret: &str) -> Result<(), ControlError> {
        self.state.lock().app_mut(appid)?.secret = secret.to_owned();
        Ok(())
    }

    /// Freezes an app's secret, as in WeChat's console, or thaws it.
    ///
    /// # Errors
    /// [`ControlError::UnknownApp`].
    pub fn freeze_secret(&self, appid: &str, frozen: bool) -> Result<(), ControlError> {
        self.state.lock().app_mut(appid)?.frozen = frozen;
        Ok(())
    }

    /// Injects a fault. Faults add up; if two contradict each other, the first wins.
    pub fn inject(&self, fault: InjectedFault) {
        self.state.lock().faults.inject(fault);
    }

    /// Clears the faults, and returns how many were left.
    pub fn clear_faults(&self) -> usize {
        self.state.lock().faults.clear()
    }

    /// The faults in force, with what is left of them.
    pub fn faults(&self) -> Vec<InjectedFault> {
        self.state.lock().faults.to_vec()
    }

    /// The newest calls, oldest first.
    pub fn calls(&self) -> Vec<LoggedCall> {
        self.state.lock().calls.to_vec()
    }

    /// Clears the log of calls, and returns how many there were.
    pub fn clear_calls(&self) -> usize {
        self.state.lock().calls.clear()
    }

    /// Moves the virtual clock forward; it otherwise follows the clock given to the emulator.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.advanced_millis.fetch_add(millis, Ordering::SeqCst);
        self.qr_code_changed.notify_waiters();
    }

    /// The time on the virtual clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now().plus(Duration::from_millis(self.advanced_millis.load(Ordering::SeqCst)))
    }
}

impl EmulatorState {
    fn check_person(&self, appid: &str, wxid: &str) -> Result<(), ControlError> {
        if wxid.is_empty() {
            return Err(ControlError::EmptyWxid);
        }
        if self.apps.contains_key(appid) { Ok(()) } else { Err(self.unknown_app(appid)) }
    }

    /// Checks that a person can use a mini program.
    fn check_user(&self, appid: &str, wxid: &str) -> Result<(), ControlError> {
        self.check_person(appid, wxid)?;
        let of_another_kind = |app: &App| app.kind != AppKind::MiniProgram;
        if self.apps.get(appid).is_some_and(of_another_kind) {
            return Err(ControlError::NoMiniProgram(appid.into()));
        }
        Ok(())
    }

    fn app_mut(&mut self, appid: &str) -> Result<&mut App, ControlError> {
        let unknown = self.unknown_app(appid);
        self.apps.get_mut(appid).ok_or(unknown)
    }

    fn unknown_app(&self, appid: &str) -> ControlError {
        let known = self.apps.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        ControlError::UnknownApp { appid: appid.into(), known }
    }
}

fn issued(appid: &str, wxid: &str, kind: CodeKind, code: CodeState, now: Timestamp) -> Code {
    let life = u64::try_from(kind.life().as_millis()).unwrap_or(u64::MAX);
    let issued = match code {
        CodeState::Expired => Timestamp::from_millis(now.millis().saturating_sub(life)),
        CodeState::Fresh | CodeState::Used => now,
    };
    let used = (code == CodeState::Used).then_some(now);
    Code { appid: appid.into(), wxid: wxid.into(), kind, issued, used }
}
