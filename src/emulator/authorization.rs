//! The request to a sign-in page: the app, the scope, and where the browser goes afterwards.

use std::collections::BTreeMap;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::config::{App, AppKind};

/// Longest `state`, in bytes. Per the guides of both kinds of sign-in.
const LONGEST_STATE: usize = 128;

/// What an app may learn about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The openid, without asking the person.
    #[serde(rename = "snsapi_base")]
    Base,
    /// The profile, too.
    #[serde(rename = "snsapi_userinfo")]
    UserInfo,
    /// The profile, by QR code.
    #[serde(rename = "snsapi_login")]
    Login,
}

impl Scope {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "snsapi_base",
            Self::UserInfo => "snsapi_userinfo",
            Self::Login => "snsapi_login",
        }
    }

    fn of(kind: AppKind, name: &str) -> Option<Self> {
        let scopes: &[Self] = match kind {
            AppKind::MiniProgram | AppKind::Mobile => &[],
            AppKind::Website => &[Self::Login],
            AppKind::OfficialAccount => &[Self::Base, Self::UserInfo],
        };
        scopes.iter().copied().find(|scope| scope.as_str() == name)
    }
}

/// Why a sign-in page shows an error instead. The numbers are WeChat's, of the official account's
/// page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// No `appid`.
    #[error("appid 为空 (appid is missing), 10012")]
    AppidMissing,
    /// No `redirect_uri`.
    #[error("redirect_uri 为空 (redirect_uri is missing), 10011")]
    RedirectUriMissing,
    /// No `scope`.
    #[error("scope 为空 (scope is missing), 10010")]
    ScopeMissing,
    /// No `state`, which an official account must send.
    #[error("state 为空 (state is missing), 10013")]
    StateMissing,
    /// The `state` is longer than 128 bytes.
    #[error("state 参数过长 (state is longer than 128 bytes)")]
    StateTooLong,
    /// The `state` has characters outside `a-zA-Z0-9`.
    #[error("state 参数错误 (state has other characters than letters and digits)")]
    StateMalformed,
    /// The official account's parameters are not in the order that WeChat matches.
    #[error("参数顺序错误 (the order is appid, redirect_uri, response_type=code, scope, state)")]
    ParameterOrder,
    /// No app has the `appid`.
    #[error("AppID 参数错误 (no app has this appid)")]
    UnknownApp,
    /// The app's kind uses another page.
    #[error("该 AppID 不能用于此页面 (the app is not of the kind that signs in here), 10016")]
    WrongKind,
    /// The host of the `redirect_uri` is not one of the app's, or the text is not an http(s) URI.
    #[error("redirect_uri 域名与后台配置不一致 (the host of redirect_uri is not the app's), 10003")]
    RedirectDomain,
    /// The app may not ask for the scope.
    #[error("Scope 参数错误或没有 Scope 权限 (the app has no right to this scope), 10005")]
    Scope,
}

/// A request for a sign-in that WeChat accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorization {
    pub(super) appid: String,
    pub(super) scope: Scope,
    pub(super) redirect_uri: RedirectUri,
    pub(super) state: String,
}

impl Authorization {
    /// Checks a request to the sign-in page of one kind of app.
    pub(super) fn check<'a>(
        apps: &BTreeMap<String, App>,
        kind: AppKind,
        parameter: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, AuthorizationError> {
        let appid = parameter("appid").ok_or(AuthorizationError::AppidMissing)?;
        let redirect_uri = parameter("redirect_uri").ok_or(AuthorizationError::RedirectUriMissing)?;
        let scope = parameter("scope").ok_or(AuthorizationError::ScopeMissing)?;
        let state = checked_state(kind, parameter("state"))?;
        let app = apps.get(appid).ok_or(AuthorizationError::UnknownApp)?;
        if app.kind != kind || matches!(kind, AppKind::MiniProgram | AppKind::Mobile) {
            return Err(AuthorizationError::WrongKind);
        }
        Ok(Self {
            appid: appid.into(),
            redirect_uri: RedirectUri::of(app, redirect_uri).ok_or(AuthorizationError::RedirectDomain)?,
            scope: Scope::of(kind, scope).ok_or(AuthorizationError::Scope)?,
            state: state.into(),
        })
    }

    /// Where the browser goes with a code.
    pub(super) fn granted(&self, code: &str) -> String {
        self.redirect_uri.with(&format!("code={code}&state={}", self.state))
    }

    /// Where the browser goes without a code, if it goes anywhere.
    pub(super) fn refused(&self) -> String {
        self.redirect_uri.with(&format!("state={}", self.state))
    }
}

fn checked_state(kind: AppKind, state: Option<&str>) -> Result<&str, AuthorizationError> {
    match state {
        None if kind == AppKind::OfficialAccount => Err(AuthorizationError::StateMissing),
        None => Ok(""),
        Some(state) if state.len() > LONGEST_STATE => Err(AuthorizationError::StateTooLong),
        Some(state) if !state.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Err(AuthorizationError::StateMalformed)
        }
        Some(state) => Ok(state),
    }
}

/// An http(s) URI whose host is one of its app's, of characters that a header and an attribute can
/// hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedirectUri(String);

impl RedirectUri {
    fn of(app: &App, text: &str) -> Option<Self> {
        // Browsers repair characters that RFC 3986 forbids, each in its own way, and so may find
        // another host.
        if !text.bytes().all(|b| b.is_ascii_graphic() && !br#""\<>^`{|}"#.contains(&b)) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let of_the_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = authority.host();
        let registered = app.redirect_domains.iter().any(|domain| domain.eq_ignore_ascii_case(host));
        (of_the_web && registered && !authority.as_str().contains('@')).then(|| Self(text.into()))
    }

    /// The URI with parameters added, before its fragment.
    fn with(&self, parameters: &str) -> String {
        let (base, fragment) = match self.0.split_once('#') {
            Some((base, fragment)) => (base, format!("#{fragment}")),
            None => (self.0.as_str(), String::new()),
        };
        let separator = match base.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        [base, separator, parameters, &fragment].concat()
    }
}
