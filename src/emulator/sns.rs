//! The endpoints for the code of a sign-in page: `/sns/oauth2/*`, `/sns/userinfo`, `/sns/auth`.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::entropy::Entropy;

use super::answer::{Members, members};
use super::authorization::Scope;
use super::code::{Code, CodeKind};
use super::config::User;
use super::endpoint::Decision;
use super::errcode::{self, WeChatRefusal};
use super::grant::{self, Grant, Tokens};
use super::request::Request;
use super::state::EmulatorState;

impl EmulatorState {
    /// `GET /sns/oauth2/access_token`.
    pub(super) fn code_to_token(
        &mut self,
        request: &Request,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Decision {
        let code = self.redeem(request, "code", CodeKind::PAGE, now)?;
        let grant = self.grant(code);
        let tokens = self.grants.issue(grant.clone(), now, entropy)?;
        let mut answer = token_members(tokens, &grant);
        if grant.scope != Scope::Base {
            self.add_unionid(&grant, &mut answer);
        }
        if grant.is_snapshot {
            answer.push(("is_snapshotuser".into(), 1.into()));
        }
        Ok(answer)
    }

    /// `GET /sns/oauth2/refresh_token`, which needs no secret.
    pub(super) fn refresh_token(
        &mut self,
        request: &Request,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Decision {
        let appid = request.required("appid", errcode::APPID_MISSING)?;
        let refresh = request.required("refresh_token", errcode::REFRESH_TOKEN_MISSING)?;
        self.check_grant_type(request.parameter("grant_type"), "refresh_token")?;
        if !self.apps.contains_key(appid) {
            return Err(errcode::INVALID_APPID);
        }
        let (tokens, grant) = self.grants.refresh(appid, refresh, now, entropy)?;
        Ok(token_members(tokens, &grant))
    }

    /// `GET /sns/userinfo`.
    pub(super) fn user_info(&self, request: &Request, now: Timestamp) -> Decision {
        let grant = self.granted(request, now)?;
        if grant.scope == Scope::Base || grant.is_snapshot {
            return Err(errcode::API_UNAUTHORIZED);
        }
        let plain = User::new(grant.wxid.as_str());
        let user = self.users.get(&grant.wxid).unwrap_or(&plain);
        let mut answer = members([
            ("openid", grant.openid.clone().into()),
            ("nickname", self.nickname(&grant.wxid).into()),
            ("sex", user.sex.into()),
            ("language", "".into()),
            ("city", user.city.clone().into()),
            ("province", user.province.clone().into()),
            ("country", user.country.clone().into()),
            ("headimgurl", self.avatar(&grant.wxid).into()),
            ("privilege", Value::from(user.privilege.clone())),
        ]);
        self.add_unionid(grant, &mut answer);
        Ok(answer)
    }

    /// `GET /sns/auth`.
    pub(super) fn check_grant(&self, request: &Request, now: Timestamp) -> Decision {
        self.granted(request, now)?;
        Ok(members([("errcode", 0.into()), ("errmsg", "ok".into())]))
    }

    /// The grant of a call's access token, if the openid in the call belongs to it.
    fn granted(&self, request: &Request, now: Timestamp) -> Result<&Grant, WeChatRefusal> {
        let token = request.required("access_token", errcode::ACCESS_TOKEN_MISSING)?;
        let grant = self.grants.of(token, now)?;
        let openid = request.required("openid", errcode::INVALID_OPENID)?;
        if grant.openid == openid { Ok(grant) } else { Err(errcode::INVALID_OPENID) }
    }

    fn grant(&self, code: Code) -> Grant {
        let Code { appid, wxid, kind, .. } = code;
        // Only codes of pages and of the SDK come here; any other code gets the smallest scope.
        let scope = match kind {
            CodeKind::Page(scope) => scope,
            CodeKind::Sdk => Scope::UserInfo,
            CodeKind::Login | CodeKind::Phone => Scope::Base,
        };
        let is_page = kind == CodeKind::Page(Scope::UserInfo);
        let is_snapshot = is_page && self.users.get(&wxid).is_some_and(|user| user.snapshot);
        let openid = if is_snapshot {
            self.identifiers.snapshot_openid(&wxid, &appid)
        } else {
            self.identifiers.openid(&wxid, &appid)
        };
        Grant { appid, wxid, openid, scope, is_snapshot }
    }

    fn add_unionid(&self, grant: &Grant, answer: &mut Members) {
        let Some(platform) = self.apps.get(&grant.appid).and_then(|app| app.open_platform.as_deref()) else {
            return;
        };
        let unionid = if grant.is_snapshot {
            self.identifiers.snapshot_unionid(platform)
        } else {
            self.identifiers.unionid(&grant.wxid, platform)
        };
        answer.push(("unionid".into(), unionid.into()));
    }
}

fn token_members(tokens: Tokens, grant: &Grant) -> Members {
    members([
        ("access_token", tokens.access.into()),
        ("expires_in", grant::ACCESS_LIFE.as_secs().into()),
        ("refresh_token", tokens.refresh.into()),
        ("openid", grant.openid.clone().into()),
        ("scope", grant.scope.as_str().into()),
    ])
}
