//! Token introspection: whether an access token is valid now, and whose it is. See RFC 7662.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::authn::{Authenticated, AuthnError};
use crate::management::{Management, ManagementAnswer, ManagementBodyError};

/// The answer about a valid token. The names of RFC 7662 §2.2, and ours.
#[derive(Serialize)]
struct ActiveAnswer<'a> {
    active: bool,
    token_type: &'static str,
    sub: String,
    exp: u64,
    sid: &'a str,
    app: &'a str,
    appid: &'a str,
    openid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unionid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<&'a str, &'a str>,
}

/// The answer about every other text. It does not say why. See RFC 7662 §2.2.
#[derive(Serialize)]
struct InactiveAnswer {
    active: bool,
}

#[derive(Deserialize)]
struct IntrospectBody {
    token: String,
}

/// Answers whether the token in the body is valid.
pub(super) async fn answer(
    management: &Management,
    request: &Parts,
    body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
) -> Result<ManagementAnswer, ManagementAnswer> {
    if request.method != Method::POST {
        return Err(ManagementAnswer::method_not_allowed("POST"));
    }
    let token = read_token(request, body).await?;
    let runtime = management.runtime();
    let now = management.shared().clock.now();
    match runtime.authenticator.introspect(token.expose_secret(), now).await {
        Ok(authenticated) => Ok(active(&authenticated)),
        Err(AuthnError::StoreUnavailable) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(ManagementAnswer::problem(status, "store_unavailable", None).with_retry_after(1))
        }
        Err(_) => Ok(ManagementAnswer::json(&InactiveAnswer { active: false })),
    }
}

fn active(authenticated: &Authenticated) -> ManagementAnswer {
    let identity = authenticated.identity();
    let claims = authenticated.user().map(|user| {
        user.claims().map(|(name, value)| (name.as_str(), value.as_str())).collect::<BTreeMap<_, _>>()
    });
    ManagementAnswer::json(&ActiveAnswer {
        active: true,
        token_type: "Bearer",
        sub: identity.subject.to_string(),
        exp: authenticated.expires_at().seconds(),
        sid: authenticated.session().as_str(),
        app: authenticated.app(),
        appid: identity.subject.appid.as_str(),
        openid: identity.subject.openid.as_str(),
        unionid: identity.unionid.as_ref().map(|unionid| unionid.as_str()),
        user: authenticated.user().map(|user| user.id().as_str()),
        claims: claims.unwrap_or_default(),
    })
}

/// Reads the token from a form, as RFC 7662 has it, or from JSON, as the other pages do.
async fn read_token(
    request: &Parts,
    body: impl Future<Output = Result<Bytes, ManagementBodyError>>,
) -> Result<SecretString, ManagementAnswer> {
    let media_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let token = if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let body = body.await.map_err(ManagementBodyError::answer)?;
        let mut tokens = form_urlencoded::parse(&body).filter(|(name, _)| name == "token");
        match (tokens.next(), tokens.next()) {
            (Some((_, token)), None) => Some(token.into_owned().into()),
            _ => None,
        }
    } else {
        let body = crate::management::read_json(request, body).await?;
        serde_json::from_slice::<IntrospectBody>(&body).ok().map(|body| body.token.into())
    };
    let missing = "write one `token`";
    token
        .ok_or_else(|| ManagementAnswer::problem(StatusCode::BAD_REQUEST, "request_malformed", Some(missing)))
}
