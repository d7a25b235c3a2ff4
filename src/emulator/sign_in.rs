//! The person's part of a sign-in to a website or an official account, on the phone.

use std::pin::pin;

use http::StatusCode;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::entropy::{Entropy, NoEntropy};

use super::answer::Reply;
use super::authorization::Authorization;
use super::code::{Code, CodeKind};
use super::config::{App, AppKind};
use super::qr_code::{QrCode, QrCodeError, QrCodeStep};
use super::request::Request;
use super::state::EmulatorState;
use super::{ControlError, Emulator, identifier};

/// A sign-in without pages: the parameters that the browser sends, and the person who agrees.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmulatedSignIn {
    /// A website or an official account.
    pub appid: String,
    /// The person.
    pub wxid: String,
    /// Where the browser goes afterwards; its host is one of the app's.
    pub redirect_uri: String,
    /// `snsapi_login` of a website, `snsapi_base` or `snsapi_userinfo` of an official account.
    pub scope: String,
    /// The value that is returned unchanged: 1 to 128 letters and digits. A website may leave it
    /// empty.
    #[serde(default)]
    pub state: String,
}

/// The result of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SignedIn {
    /// The code for the app's server.
    pub code: String,
    /// Where the browser goes, with the code.
    pub location: String,
}

impl Emulator {
    /// Signs a person in as the pages do, in one call.
    ///
    /// # Errors
    /// [`ControlError`] if a page would show an error.
    pub fn sign_in(&self, order: &EmulatedSignIn) -> Result<SignedIn, ControlError> {
        let now = self.now();
        let mut state = self.state.lock();
        state.check_person(&order.appid, &order.wxid)?;
        let kind = state.apps.get(&order.appid).map_or(AppKind::Website, |app| app.kind);
        let parameter = |name: &str| {
            let value = match name {
                "appid" => &order.appid,
                "redirect_uri" => &order.redirect_uri,
                "scope" => &order.scope,
                _ => &order.state,
            };
            Some(value.as_str()).filter(|value| !value.is_empty())
        };
        let authorization = Authorization::check(&state.apps, kind, parameter)?;
        let code = state.issue_page_code(&authorization, &order.wxid, now, &*self.entropy)?;
        Ok(SignedIn { location: authorization.granted(&code), code })
    }

    /// The QR codes that pages show, oldest first; codes that expired long ago are removed.
    pub fn qr_codes(&self) -> Vec<QrCode> {
        self.state.lock().qr_codes.to_vec(self.now())
    }

    /// A person scans a QR code.
    ///
    /// # Errors
    /// [`ControlError`]: the code has expired or has been scanned.
    pub fn scan(&self, uuid: &str, wxid: &str) -> Result<(), ControlError> {
        if wxid.is_empty() {
            return Err(ControlError::EmptyWxid);
        }
        self.change(uuid, |_, step| match step {
            QrCodeStep::Waiting | QrCodeStep::Cancelled => Ok(QrCodeStep::Scanned { wxid: wxid.into() }),
            QrCodeStep::Scanned { .. } | QrCodeStep::Confirmed { .. } => {
                Err(QrCodeError::AlreadyScanned.into())
            }
            QrCodeStep::Expired => Err(QrCodeError::Expired.into()),
        })
    }

    /// The person who scanned a QR code agrees: the page continues with a code.
    ///
    /// # Errors
    /// [`ControlError`]: the code has expired or has not been scanned.
    pub fn confirm(&self, uuid: &str) -> Result<(), ControlError> {
        let now = self.now();
        self.change(uuid, |state, step| {
            let wxid = scanned(step)?;
            let authorization = state.qr_codes.authorization(uuid).cloned().ok_or(QrCodeError::Expired)?;
            let code = state.issue_page_code(&authorization, &wxid, now, &*self.entropy)?;
            Ok(QrCodeStep::Confirmed { wxid, code })
        })
    }

    /// The person who scanned a QR code refuses.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub fn cancel(&self, uuid: &str) -> Result<(), ControlError> {
        self.change(uuid, |_, step| scanned(step).map(|_| QrCodeStep::Cancelled))
    }

    /// Expires a QR code.
    ///
    /// # Errors
    /// [`ControlError`]: the code has already expired or was confirmed.
    pub fn expire(&self, uuid: &str) -> Result<(), ControlError> {
        self.change(uuid, |_, step| match step {
            QrCodeStep::Waiting | QrCodeStep::Scanned { .. } | QrCodeStep::Cancelled => {
                Ok(QrCodeStep::Expired)
            }
            QrCodeStep::Confirmed { .. } => Err(QrCodeError::AlreadyScanned.into()),
            QrCodeStep::Expired => Err(QrCodeError::Expired.into()),
        })
    }

    /// Answers a page's poll for what the phone did; it is held until there is news, as at WeChat.
    pub(super) async fn poll(&self, request: &Request) -> Reply {
        let uuid = request.parameter("uuid").unwrap_or_default();
        let last = request.parameter("last").unwrap_or_default();
        let news = async {
            loop {
                let mut changed = pin!(self.qr_code_changed.notified());
                // From here on a change wakes this poll, so no change is lost between the check and
                // the wait.
                changed.as_mut().enable();
                let step = self.state.lock().qr_codes.step(uuid, self.now());
                if step != QrCodeStep::Waiting && step.errcode().to_string() != last {
                    return step;
                }
                changed.await;
            }
        };
        let step = tokio::time::timeout(self.qr_code_poll, news).await.unwrap_or(QrCodeStep::Waiting);
        let code = if let QrCodeStep::Confirmed { code, .. } = &step { code } else { "" };
        let script = format!("window.wx_errcode={};window.wx_code='{code}';", step.errcode());
        Reply::new(StatusCode::OK, "text/javascript", script).uncached()
    }

    fn change(
        &self,
        uuid: &str,
        next: impl FnOnce(&mut EmulatorState, QrCodeStep) -> Result<QrCodeStep, ControlError>,
    ) -> Result<(), ControlError> {
        let mut state = self.state.lock();
        let step = state.qr_codes.step(uuid, self.now());
        let step = next(&mut state, step)?;
        state.qr_codes.set(uuid, step);
        drop(state);
        self.qr_code_changed.notify_waiters();
        Ok(())
    }
}

fn scanned(step: QrCodeStep) -> Result<String, ControlError> {
    match step {
        QrCodeStep::Scanned { wxid } => Ok(wxid),
        QrCodeStep::Waiting | QrCodeStep::Cancelled => Err(QrCodeError::NotScanned.into()),
        QrCodeStep::Confirmed { .. } => Err(QrCodeError::AlreadyScanned.into()),
        QrCodeStep::Expired => Err(QrCodeError::Expired.into()),
    }
}

impl EmulatorState {
    /// Makes the code that a page sends to an app.
    pub(super) fn issue_page_code(
        &mut self,
        authorization: &Authorization,
        wxid: &str,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<String, NoEntropy> {
        let text = identifier::login_code(entropy)?;
        let kind = CodeKind::Page(authorization.scope);
        let appid = authorization.appid.clone();
        let code = Code { appid, wxid: wxid.into(), kind, issued: now, used: None };
        self.codes.insert(text.clone(), code, now);
        Ok(text)
    }

    /// The display name of an app.
    pub(super) fn app_name(&self, appid: &str) -> String {
        let app: Option<&App> = self.apps.get(appid);
        app.and_then(|app| app.title.clone().or_else(|| app.name.clone())).unwrap_or_else(|| appid.to_owned())
    }
}
