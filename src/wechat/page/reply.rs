//! The calls of a sign-in with a browser, and the checks of their replies.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::identity::{OpenId, Profile, UnionId};
use crate::wechat::api::{self, ApiCall, ApiEndpoint, ReplyText};
use crate::wechat::{App, Code, ReplyFault, WeChatError};

/// WeChat's reply to a page's code or a refresh token: the user's ids, and tokens to ask for the
/// profile.
pub(super) struct PageGrant {
    pub(super) openid: OpenId,
    pub(super) unionid: Option<UnionId>,
    pub(super) access_token: SecretString,
    pub(super) refresh_token: Option<SecretString>,
    /// Whether the scope allows the gateway to ask for the profile.
    pub(super) has_profile: bool,
    /// Whether the scope is the one that WeChat's SDK for mobile apps asks for.
    pub(super) is_of_sdk: bool,
}

/// WeChat's profile of a user.
pub(super) struct UserInfo {
    pub(super) openid: OpenId,
    pub(super) unionid: Option<UnionId>,
    pub(super) profile: Profile,
}

/// The exchange of a page's code.
pub(super) fn code_exchange<'a>(app: &'a App, code: &'a Code) -> ApiCall<'a, PageGrant> {
    ApiCall {
        endpoint: ApiEndpoint::PageCodeExchange,
        parameters: vec![
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose_secret()),
            ("code", code.expose()),
            ("grant_type", "authorization_code"),
        ],
        posted: None,
        read: read_grant,
    }
}

/// The call that replaces a stale access token.
pub(super) fn token_refresh<'a>(app: &'a App, refresh_token: &'a SecretString) -> ApiCall<'a, PageGrant> {
    ApiCall {
        endpoint: ApiEndpoint::TokenRefresh,
        parameters: vec![
            ("appid", app.appid.as_str()),
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose_secret()),
        ],
        posted: None,
        read: read_grant,
    }
}

/// The call for the profile of the user whom an access token names.
pub(super) fn user_info<'a>(access_token: &'a SecretString, openid: &'a OpenId) -> ApiCall<'a, UserInfo> {
    ApiCall {
        endpoint: ApiEndpoint::UserInfo,
        parameters: vec![
            ("access_token", access_token.expose_secret()),
            ("openid", openid.as_str()),
            ("lang", "zh_CN"),
        ],
        posted: None,
        read: read_user_info,
    }
}

/// The exchange of a page's code and the call for a profile, to read replies by.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const fn unsent() -> (ApiCall<'static, PageGrant>, ApiCall<'static, UserInfo>) {
    (
        ApiCall {
            endpoint: ApiEndpoint::PageCodeExchange,
            parameters: Vec::new(),
            posted: None,
            read: read_grant,
        },
        ApiCall {
            endpoint: ApiEndpoint::UserInfo,
            parameters: Vec::new(),
            posted: None,
            read: read_user_info,
        },
    )
}

fn read_grant(text: &str) -> Result<PageGrant, WeChatError> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        access_token: Option<ReplyText<'a>>,
        #[serde(borrow)]
        refresh_token: Option<ReplyText<'a>>,
        #[serde(borrow)]
        openid: Option<ReplyText<'a>>,
        #[serde(borrow)]
        unionid: Option<ReplyText<'a>>,
        #[serde(borrow)]
        scope: Option<ReplyText<'a>>,
        #[serde(default)]
        is_snapshotuser: Value,
    }

    let members: Members<'_> = api::members(text)?;
    refuse_snapshot(&members.is_snapshotuser)?;
    let token = |text: Option<ReplyText<'_>>| {
        text.filter(|text| !text.0.is_empty()).map(|text| SecretString::from(text.0.as_ref()))
    };
    Ok(PageGrant {
        openid: api::openid(members.openid.as_ref())?,
        unionid: api::unionid(members.unionid.as_ref())?,
        access_token: token(members.access_token)
            .ok_or(WeChatError::UnexpectedReply(ReplyFault::AccessToken))?,
        refresh_token: token(members.refresh_token),
        has_profile: members.scope.as_ref().is_some_and(|scope| has_profile(&scope.0)),
        is_of_sdk: members.scope.is_some_and(|scope| scope.0 == "snsapi_userinfo"),
    })
}

fn read_user_info(text: &str) -> Result<UserInfo, WeChatError> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        openid: Option<ReplyText<'a>>,
        #[serde(borrow)]
        unionid: Option<ReplyText<'a>>,
        #[serde(default)]
        is_snapshotuser: Value,
    }

    let members: Members<'_> = api::members(text)?;
    refuse_snapshot(&members.is_snapshotuser)?;
    Ok(UserInfo {
        openid: api::openid(members.openid.as_ref())?,
        unionid: api::unionid(members.unionid.as_ref())?,
        profile: Profile::new(&api::display_text(text, "nickname"), &api::display_text(text, "headimgurl")),
    })
}

/// Refuses a visitor of a snapshot page, since several users share the ids that WeChat invents for
/// them. Any value that is not clearly "no" counts as "yes".
fn refuse_snapshot(mark: &Value) -> Result<(), WeChatError> {
    let is_no = match mark {
        Value::Null => true,
        Value::Bool(is_snapshot) => !is_snapshot,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => matches!(text.as_str(), "0" | "false" | ""),
        Value::Array(_) | Value::Object(_) => false,
    };
    if is_no { Ok(()) } else { Err(WeChatError::SnapshotVisitor) }
}

/// Whether a scope allows the gateway to ask for the profile; an unknown scope does not. WeChat
/// separates several scopes by commas.
fn has_profile(scope: &str) -> bool {
    scope.split(',').any(|scope| matches!(scope, "snsapi_userinfo" | "snsapi_login"))
}
