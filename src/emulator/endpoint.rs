//! WeChat's endpoints: the order of their checks, and their answers.
//!
//! Every decision is made under one lock, so if many calls race for one code, exactly one wins.

use aws_lc_rs::hmac;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::clock::Timestamp;
use crate::entropy::Entropy;

use super::access_token;
use super::answer::{Members, members};
use super::code::{Code, CodeKind};
use super::config::App;
use super::errcode::{self, WeChatRefusal};
use super::identifier::hex;
use super::request::Request;
use super::state::EmulatorState;

/// The result of a call: the members of a success, or an error.
pub(super) type Decision = Result<Members, WeChatRefusal>;

/// Every path [`EmulatorState::decide`] knows.
pub(super) const PATHS: [&str; 12] = [
    "/sns/jscode2session",
    "/sns/oauth2/access_token",
    "/sns/oauth2/refresh_token",
    "/sns/userinfo",
    "/sns/auth",
    "/cgi-bin/token",
    "/cgi-bin/stable_token",
    "/wxa/checksession",
    "/wxa/business/getuserphonenumber",
    "/wxa/msg_sec_check",
    "/cgi-bin/media/upload",
    "/cgi-bin/media/get",
];

impl EmulatorState {
    /// Decides a call; a path WeChat does not have is `None`.
    pub(super) fn decide(
        &mut self,
        request: &Request,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Option<Decision> {
        Some(match request.path.as_str() {
            "/sns/jscode2session" => self.code_to_session(request, now, entropy),
            "/sns/oauth2/access_token" => self.code_to_token(request, now, entropy),
            "/sns/oauth2/refresh_token" => self.refresh_token(request, now, entropy),
            "/sns/userinfo" => self.user_info(request, now),
            "/sns/auth" => self.check_grant(request, now),
            "/cgi-bin/token" => self.token(request, now, entropy),
            "/cgi-bin/stable_token" => self.stable_token(request, now, entropy),
            "/wxa/checksession" => self.check_session(request, now),
            "/wxa/business/getuserphonenumber" => self.phone_number(request, now),
            "/wxa/msg_sec_check" => self.message_check(request, now),
            "/cgi-bin/media/upload" => self.media_upload(request, now, entropy),
            "/cgi-bin/media/get" => self.media_get(request, now),
            _ => return None,
        })
    }

    /// `GET /sns/jscode2session`.
    fn code_to_session(&mut self, request: &Request, now: Timestamp, entropy: &dyn Entropy) -> Decision {
        let Code { appid, wxid, .. } = self.redeem(request, "js_code", &[CodeKind::Login], now)?;
        let openid = self.identifiers.openid(&wxid, &appid);
        let session_key = self.session_keys.current_or_new(&appid, &openid, now, entropy);
        let session_key = session_key.map_err(|_| errcode::SYSTEM_ERROR)?;
        let mut session = members([("session_key", session_key.into()), ("openid", openid.into())]);
        if let Some(unionid) = self.unionid(&appid, &wxid) {
            session.push(("unionid".into(), unionid.into()));
        }
        Ok(session)
    }

    /// Uses up the code of a call. The order of the checks is part of the contract.
    pub(super) fn redeem(
        &mut self,
        request: &Request,
        parameter: &str,
        kinds: &[CodeKind],
        now: Timestamp,
    ) -> Result<Code, WeChatRefusal> {
        // Parameters count in the query only: a POST with them in its body is "appid missing".
        let appid = request.required("appid", errcode::APPID_MISSING)?;
        let secret = request.required("secret", errcode::APPSECRET_MISSING)?;
        let text = request.required(parameter, errcode::MISSING_CODE)?;
        self.check_grant_type(request.parameter("grant_type"), "authorization_code")?;
        self.authenticate(appid, secret)?;
        self.accept_any(text, appid, kinds, now);
        self.quotas.exchange(appid, self.codes.owner(text, appid, kinds), now)?;
        let code = self.codes.redeem(text, appid, kinds, now)?;
        if self.users.get(&code.wxid).is_some_and(|user| user.risk) {
            return Err(errcode::CODE_BLOCKED);
        }
        Ok(code)
    }

    /// Makes a code of the developer out of one that was not issued, if `accept_any_code` says so.
    /// From here on it is a code as any other: it works once.
    fn accept_any(&mut self, text: &str, appid: &str, kinds: &[CodeKind], now: Timestamp) {
        let Some(wxid) = self.owner_of_any_code.clone() else { return };
        if !kinds.contains(&CodeKind::Login) || self.codes.has(text) {
            return;
        }
        tracing::warn!(appid, "accepted a code that this emulator did not issue, as a code of `{wxid}`");
        let code = Code { appid: appid.into(), wxid, kind: CodeKind::Login, issued: now, used: None };
        self.codes.insert(text.into(), code, now);
    }

    /// `GET /cgi-bin/token`.
    fn token(&mut self, request: &Request, now: Timestamp, entropy: &dyn Entropy) -> Decision {
        let appid = request.required("appid", errcode::APPID_MISSING)?;
        let secret = request.required("secret", errcode::APPSECRET_MISSING)?;
        self.check_grant_type(request.parameter("grant_type"), "client_credential")?;
        let app = self.authenticate(appid, secret)?;
        check_address(app, request)?;
        self.quotas.token(appid, now)?;
        let token = self.tokens.mint(appid, now, entropy)?;
        Ok(members([("access_token", token.into()), ("expires_in", access_token::LIFE.as_secs().into())]))
    }

    /// `POST /cgi-bin/stable_token`.
    fn stable_token(&mut self, request: &Request, now: Timestamp, entropy: &dyn Entropy) -> Decision {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            grant_type: String,
            #[serde(default)]
            appid: String,
            #[serde(default)]
            secret: String,
            #[serde(default)]
            force_refresh: bool,
        }
        let body: Body = posted_json(request)?;
        if body.appid.is_empty() {
            return Err(errcode::APPID_MISSING);
        }
        if body.secret.is_empty() {
            return Err(errcode::APPSECRET_MISSING);
        }
        self.check_grant_type(Some(&body.grant_type), "client_credential")?;
        let app = self.authenticate(&body.appid, &body.secret)?;
        check_address(app, request)?;
        let (token, left) = self.tokens.stable(&body.appid, body.force_refresh, now, entropy)?;
        Ok(members([("access_token", token.into()), ("expires_in", left.as_secs().into())]))
    }

    /// `GET /wxa/checksession`: the signature is of the empty text, keyed by the session key as its
    /// base64 text.
    fn check_session(&self, request: &Request, now: Timestamp) -> Decision {
        let appid = self.token_app(request, now)?;
        let openid = request.required("openid", errcode::INVALID_OPENID)?;
        if !self.session_keys.has_seen(&appid, openid) {
            return Err(errcode::INVALID_OPENID);
        }
        if request.parameter("sig_method") != Some("hmac_sha256") {
            return Err(errcode::INVALID_SIG_METHOD);
        }
        let key = self.session_keys.current(openid, now).ok_or(errcode::INVALID_SIGNATURE)?;
        let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), b"");
        if request.parameter("signature") != Some(&hex(expected.as_ref())) {
            return Err(errcode::INVALID_SIGNATURE);
        }
        Ok(members([("errcode", 0.into()), ("errmsg", "ok".into())]))
    }

    /// `POST /wxa/business/getuserphonenumber`.
    fn phone_number(&mut self, request: &Request, now: Timestamp) -> Decision {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            code: String,
            openid: Option<String>,
        }
        let appid = self.token_app(request, now)?;
        let body: Body = posted_json(request)?;
        let owner = self.codes.owner(&body.code, &appid, &[CodeKind::Phone]).ok_or(errcode::INVALID_CODE)?;
        let openid = self.identifiers.openid(owner, &appid);
        if body.openid.is_some_and(|claimed| claimed != openid) {
            return Err(errcode::INVALID_CODE);
        }
        // A phone code that was used is "invalid", never "been used".
        let code = self.codes.redeem(&body.code, &appid, &[CodeKind::Phone], now);
        let phone = self.phone(&code.map_err(|_| errcode::INVALID_CODE)?.wxid);
        let phone_info = json!({
            "phoneNumber": phone,
            "purePhoneNumber": phone,
            "countryCode": "86",
            "watermark": { "timestamp": now.seconds(), "appid": appid },
        });
        Ok(members([("errcode", 0.into()), ("errmsg", "ok".into()), ("phone_info", phone_info)]))
    }

    pub(super) fn check_grant_type(&self, given: Option<&str>, wanted: &str) -> Result<(), WeChatRefusal> {
        if self.grant_type_required && given != Some(wanted) {
            return Err(errcode::INVALID_GRANT_TYPE);
        }
        Ok(())
    }

    fn authenticate(&self, appid: &str, secret: &str) -> Result<&App, WeChatRefusal> {
        let app = self.apps.get(appid).ok_or(errcode::INVALID_APPID)?;
        if app.frozen {
            return Err(errcode::APPSECRET_FROZEN);
        }
        if app.secret != secret {
            return Err(errcode::INVALID_APPSECRET);
        }
        Ok(app)
    }

    pub(super) fn token_app(&self, request: &Request, now: Timestamp) -> Result<String, WeChatRefusal> {
        let token = request.required("access_token", errcode::ACCESS_TOKEN_MISSING)?;
        self.tokens.app_of(token, now)
    }
}

fn check_address(app: &App, request: &Request) -> Result<(), WeChatRefusal> {
    let address = request.peer.ip().to_canonical();
    if app.ip_whitelist.is_empty() || app.ip_whitelist.contains(&address) {
        return Ok(());
    }
    Err(WeChatRefusal::invalid_ip(address))
}

pub(super) fn posted_json<T: for<'de> Deserialize<'de>>(request: &Request) -> Result<T, WeChatRefusal> {
    if request.method != Method::POST {
        return Err(errcode::REQUIRE_POST);
    }
    if request.body.is_empty() {
        return Err(errcode::EMPTY_POST);
    }
    serde_json::from_slice(&request.body).map_err(|_| errcode::DATA_FORMAT_ERROR)
}
