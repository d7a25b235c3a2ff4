//! The calls behind a sign-in with a browser, and what of their replies is believed.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::identity::{OpenId, Profile, UnionId};
use crate::wechat::api::{self, Call, Endpoint, Text};
use crate::wechat::{App, Code, Error, Fault};

/// What WeChat gives for a page's code, or for a refresh token: a person, and tokens to ask about them.
pub(super) struct Grant {
    pub(super) openid: OpenId,
    pub(super) unionid: Option<UnionId>,
    pub(super) access_token: SecretString,
    pub(super) refresh_token: Option<SecretString>,
    /// Whether the scope lets one ask for the profile.
    pub(super) has_profile: bool,
}

/// What WeChat says of a person.
pub(super) struct UserInfo {
    pub(super) openid: OpenId,
    pub(super) unionid: Option<UnionId>,
    pub(super) profile: Profile,
}

/// The exchange of a page's code.
pub(super) fn code_exchange<'a>(app: &'a App, code: &'a Code) -> Call<'a, Grant> {
    Call {
        endpoint: Endpoint::PageCodeExchange,
        parameters: vec![
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose_secret()),
            ("code", code.expose()),
            ("grant_type", "authorization_code"),
        ],
        read: read_grant,
    }
}

/// A fresh access token for one that is stale.
pub(super) fn token_refresh<'a>(app: &'a App, refresh_token: &'a SecretString) -> Call<'a, Grant> {
    Call {
        endpoint: Endpoint::TokenRefresh,
        parameters: vec![
            ("appid", app.appid.as_str()),
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose_secret()),
        ],
        read: read_grant,
    }
}

/// The person whom an access token stands for.
pub(super) fn user_info<'a>(access_token: &'a SecretString, openid: &'a OpenId) -> Call<'a, UserInfo> {
    Call {
        endpoint: Endpoint::UserInfo,
        parameters: vec![
            ("access_token", access_token.expose_secret()),
            ("openid", openid.as_str()),
            ("lang", "zh_CN"),
        ],
        read: read_user_info,
    }
}

/// The exchange of a page's code and the question for a profile, to read replies by.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const fn unsent() -> (Call<'static, Grant>, Call<'static, UserInfo>) {
    (
        Call { endpoint: Endpoint::PageCodeExchange, parameters: Vec::new(), read: read_grant },
        Call { endpoint: Endpoint::UserInfo, parameters: Vec::new(), read: read_user_info },
    )
}

fn read_grant(text: &str) -> Result<Grant, Error> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        access_token: Option<Text<'a>>,
        #[serde(borrow)]
        refresh_token: Option<Text<'a>>,
        #[serde(borrow)]
        openid: Option<Text<'a>>,
        #[serde(borrow)]
        unionid: Option<Text<'a>>,
        #[serde(borrow)]
        scope: Option<Text<'a>>,
        #[serde(default)]
        is_snapshotuser: Value,
    }

    let members: Members<'_> = api::members(text)?;
    refuse_snapshot(&members.is_snapshotuser)?;
    let token = |text: Option<Text<'_>>| {
        text.filter(|text| !text.0.is_empty()).map(|text| SecretString::from(text.0.as_ref()))
    };
    Ok(Grant {
        openid: api::openid(members.openid.as_ref())?,
        unionid: api::unionid(members.unionid.as_ref())?,
        access_token: token(members.access_token).ok_or(Error::UnexpectedReply(Fault::AccessToken))?,
        refresh_token: token(members.refresh_token),
        has_profile: members.scope.is_some_and(|scope| has_profile(&scope.0)),
    })
}

fn read_user_info(text: &str) -> Result<UserInfo, Error> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(borrow)]
        openid: Option<Text<'a>>,
        #[serde(borrow)]
        unionid: Option<Text<'a>>,
        #[serde(borrow)]
        nickname: Option<Text<'a>>,
        #[serde(borrow)]
        headimgurl: Option<Text<'a>>,
        #[serde(default)]
        is_snapshotuser: Value,
    }

    let members: Members<'_> = api::members(text)?;
    refuse_snapshot(&members.is_snapshotuser)?;
    let text = |text: &'_ Option<Text<'_>>| text.as_ref().map(|text| text.0.to_string()).unwrap_or_default();
    Ok(UserInfo {
        openid: api::openid(members.openid.as_ref())?,
        unionid: api::unionid(members.unionid.as_ref())?,
        profile: Profile::new(&text(&members.nickname), &text(&members.headimgurl)),
    })
}

/// Refuses a visitor of a snapshot page: several people share the ids that WeChat makes up for them. Whatever is not
/// plainly "no" is taken for a yes.
fn refuse_snapshot(mark: &Value) -> Result<(), Error> {
    let is_no = match mark {
        Value::Null => true,
        Value::Bool(is_snapshot) => !is_snapshot,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => matches!(text.as_str(), "0" | "false" | ""),
        Value::Array(_) | Value::Object(_) => false,
    };
    if is_no { Ok(()) } else { Err(Error::SnapshotVisitor) }
}

/// Whether a scope lets one ask for the profile; an unknown one does not. WeChat separates several by commas.
fn has_profile(scope: &str) -> bool {
    scope.split(',').any(|scope| matches!(scope, "snsapi_userinfo" | "snsapi_login"))
}
