//! The control endpoints, `/__emu/…`: JSON in, JSON out, 400 with a sentence for an invalid
//! request.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::Duration;

use super::answer::Reply;
use super::fault::{Effect, InjectedFault};
use super::request::Request;
use super::{CodeState, ControlError, Emulator, endpoint, page};

/// Largest body a fault may ask for.
const HUGEST_BODY: u64 = 64 * 1024 * 1024;

/// Why a control request was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the body is not what this endpoint takes: {0}")]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Order(#[from] ControlError),
    #[error("{0}")]
    Fault(String),
    #[error("the phone can `scan`, `confirm`, `cancel` or `expire`, not `{0}`")]
    Action(String),
    #[error("there is no control endpoint here; see docs/emulator.md")]
    UnknownPath,
    #[error("this endpoint takes {0}")]
    Method(&'static str),
}

impl Refused {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Body(_) | Self::Order(_) | Self::Fault(_) | Self::Action(_) => StatusCode::BAD_REQUEST,
            Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    appid: String,
    wxid: String,
}

impl Emulator {
    /// Carries out a control request.
    pub(super) fn control(&self, request: &Request) -> Reply {
        match self.obey(request) {
            Ok(value) => Reply::json(StatusCode::OK, &value),
            Err(refused) => Reply::json(refused.status(), &json!({ "error": refused.to_string() })),
        }
    }

    fn obey(&self, request: &Request) -> Result<Value, Refused> {
        let path = request.path.strip_prefix("/__emu/").unwrap_or_default();
        match path {
            "wx.login" => self.order_login(post(request)?),
            "getPhoneNumber" => self.order_phone_code(post(request)?),
            "sdk.login" => self.order_sdk_code(post(request)?),
            "encrypt" => self.order_encrypt(post(request)?),
            "identity" => self.order_identity(post(request)?),
            "app" => self.order_app(post(request)?),
            "authorize" => self.order_sign_in(post(request)?),
            "qr" => match request.method {
                Method::GET => Ok(json!({ "qr_codes": self.qr_codes() })),
                _ => Err(Refused::Method("GET")),
            },
            "time/advance" => self.order_advance(post(request)?),
            "fault" => match request.method {
                Method::POST => self.order_fault(post(request)?),
                Method::GET => Ok(json!({ "faults": self.faults() })),
                Method::DELETE => Ok(json!({ "cleared": self.clear_faults() })),
                _ => Err(Refused::Method("GET, POST or DELETE")),
            },
            "log" => match request.method {
                Method::GET => Ok(json!({ "calls": self.calls() })),
                Method::DELETE => Ok(json!({ "cleared": self.clear_calls() })),
                _ => Err(Refused::Method("GET or DELETE")),
            },
            _ => {
                let named = path.strip_prefix("qr/").and_then(|rest| rest.split_once('/'));
                let (uuid, action) = named.ok_or(Refused::UnknownPath)?;
                self.order_phone(uuid, action, post(request)?)
            }
        }
    }

    fn order_login(&self, body: Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Login {
            appid: String,
            wxid: String,
            #[serde(default)]
            state: CodeState,
        }
        let Login { appid, wxid, state } = serde_json::from_value(body)?;
        Ok(json!({ "code": self.wx_login_as(&appid, &wxid, state)? }))
    }

    fn order_phone_code(&self, body: Value) -> Result<Value, Refused> {
        let Person { appid, wxid } = serde_json::from_value(body)?;
        Ok(json!({ "code": self.phone_code(&appid, &wxid)? }))
    }

    fn order_sdk_code(&self, body: Value) -> Result<Value, Refused> {
        let Person { appid, wxid } = serde_json::from_value(body)?;
        Ok(json!({ "code": self.sdk_code(&appid, &wxid)? }))
    }

    fn order_encrypt(&self, body: Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Encrypt {
            appid: String,
            wxid: String,
            data: Option<Value>,
        }
        let Encrypt { appid, wxid, data } = serde_json::from_value(body)?;
        Ok(json!(self.encrypt(&appid, &wxid, data)?))
    }

    fn order_identity(&self, body: Value) -> Result<Value, Refused> {
        let Person { appid, wxid } = serde_json::from_value(body)?;
        self.state.lock().check_person(&appid, &wxid)?;
        let mut identity = Map::new();
        identity.insert("openid".into(), self.openid(&appid, &wxid).into());
        if let Some(unionid) = self.unionid(&appid, &wxid) {
            identity.insert("unionid".into(), unionid.into());
        }
        if let Some(session_key) = self.session_key(&appid, &wxid) {
            identity.insert("session_key".into(), session_key.into());
        }
        Ok(identity.into())
    }

    fn order_app(&self, body: Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Change {
            appid: String,
            secret: Option<String>,
            frozen: Option<bool>,
        }
        let Change { appid, secret, frozen } = serde_json::from_value(body)?;
        self.state.lock().app_mut(&appid)?;
        if let Some(secret) = secret {
            self.reset_secret(&appid, &secret)?;
        }
        if let Some(frozen) = frozen {
            self.freeze_secret(&appid, frozen)?;
        }
        Ok(json!({ "appid": appid }))
    }

    fn order_sign_in(&self, body: Value) -> Result<Value, Refused> {
        Ok(json!(self.sign_in(&serde_json::from_value(body)?)?))
    }

    fn order_phone(&self, uuid: &str, action: &str, body: Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Scan {
            wxid: String,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        if action == "scan" {
            let Scan { wxid } = serde_json::from_value(body)?;
            self.scan(uuid, &wxid)?;
        } else {
            let Nothing {} = serde_json::from_value(body)?;
            match action {
                "confirm" => self.confirm(uuid)?,
                "cancel" => self.cancel(uuid)?,
                "expire" => self.expire(uuid)?,
                other => return Err(Refused::Action(other.to_owned())),
            }
        }
        let shown = self.qr_codes().into_iter().find(|shown| shown.uuid == uuid);
        Ok(json!(shown))
    }

    fn order_advance(&self, body: Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Advance {
            by: Duration,
        }
        let Advance { by } = serde_json::from_value(body)?;
        self.advance(*by);
        Ok(json!({ "now_ms": self.now().millis() }))
    }

    fn order_fault(&self, body: Value) -> Result<Value, Refused> {
        let fault: InjectedFault = serde_json::from_value(body)?;
        self.check_fault(&fault)?;
        self.inject(fault);
        Ok(json!({ "faults": self.faults() }))
    }

    /// A fault that never matches a call is a typing error; a test that relies on it would pass
    /// without testing anything.
    fn check_fault(&self, fault: &InjectedFault) -> Result<(), Refused> {
        if let Some(appid) = &fault.appid {
            self.state.lock().app_mut(appid)?;
        }
        let known = [&endpoint::PATHS[..], &page::PATHS[..]].concat();
        if let Some(path) = fault.path.as_ref().filter(|path| !known.contains(&path.as_str())) {
            let known = known.join(", ");
            return Err(Refused::Fault(format!("path `{path}` is not one of WeChat's here; known: {known}")));
        }
        if fault.times == Some(0) || fault.percent == 0 || fault.percent > 100 {
            return Err(Refused::Fault("`times` is at least 1, `percent` from 1 to 100".into()));
        }
        if let Effect::HugeBody(size) = &fault.effect
            && size.0 > HUGEST_BODY
        {
            return Err(Refused::Fault("`huge_body` is at most 64MiB".into()));
        }
        Ok(())
    }
}

fn post(request: &Request) -> Result<Value, Refused> {
    if request.method != Method::POST {
        return Err(Refused::Method("POST"));
    }
    Ok(serde_json::from_slice(&request.body)?)
}
