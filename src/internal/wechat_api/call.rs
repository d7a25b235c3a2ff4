//! Which call of WeChat's API a request asks for, and whether its client may make it. No I/O.

use http::header::{HOST, HeaderMap, ORIGIN, PROXY_AUTHORIZATION, REFERER};
use http::request::Parts;
use http::{Method, StatusCode, Uri};

use crate::authn::{InternalClient, WeChatApiAccess};
use crate::config::{InternalPermission, Rate};
use crate::management::ManagementAnswer;
use crate::wechat::{ApiPath, RefusedApiPath};

/// The host that programs call.
const HOST_OF_API: &str = "api.weixin.qq.com";
/// The parameter that has the token.
const TOKEN_PARAMETER: &str = "access_token";
/// Where the paths of calls begin on the internal listener, before the name of the app.
const PATH_PREFIX: &str = "/wechat/";

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::internal) enum CallForm {
    /// `POST /wechat/shop/wxa/…` with `Authorization`.
    Path,
    /// `POST http://api.weixin.qq.com/wxa/…` with `Proxy-Authorization`.
    Proxy,
    /// `POST /wxa/…` with the host of WeChat's API, at an address of its own, without a
    /// credential.
    Alias,
}

impl CallForm {
    /// The form of a request to the internal listener; `None` if it is no call of WeChat's API.
    pub(in crate::internal) fn of(request: &Parts) -> Option<Self> {
        let is_proxied = request.method == Method::CONNECT
            || is_of_api(request.uri.authority().map(|authority| authority.as_str()))
            || request.headers.contains_key(PROXY_AUTHORIZATION);
        if is_proxied {
            Some(Self::Proxy)
        } else {
            request.uri.path().starts_with(PATH_PREFIX).then_some(Self::Path)
        }
    }
}

/// A call that its client may make.
#[derive(Debug)]
pub(super) struct PermittedCall<'c> {
    pub(super) app: &'c str,
    pub(super) path: ApiPath,
    /// The configured prefix that permits it.
    pub(super) prefix: &'c ApiPath,
    /// Without the token.
    pub(super) query: String,
    pub(super) rate: Rate,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedCall {
    /// `CONNECT`: what comes after it is encrypted.
    Tunnel,
    /// The client is not known.
    UnknownClient,
    /// Another host than that of WeChat's API.
    OtherHost,
    /// A browser sent it, for a page.
    FromBrowser,
    /// Not `GET` or `POST`.
    Method,
    /// The path is not one of WeChat's API.
    MalformedPath,
    /// No app is named, and the client has none by default.
    NoApp,
    /// What the client may does not have it.
    NotPermitted(&'static str),
}

/// Decides about a request. `client` is who sent it.
pub(super) fn decide<'c>(
    form: CallForm,
    request: &Parts,
    client: Option<&'c InternalClient>,
) -> Result<PermittedCall<'c>, RefusedCall> {
    if request.method == Method::CONNECT {
        return Err(RefusedCall::Tunnel);
    }
    let client = client.ok_or(RefusedCall::UnknownClient)?;
    let access = client
        .wechat_api()
        .filter(|_| client.may(InternalPermission::WechatApi))
        .ok_or(RefusedCall::NotPermitted("`may` of the client does not have `wechat_api`"))?;
    check_host(form, &request.uri, &request.headers)?;
    if ![Method::GET, Method::POST].contains(&request.method) {
        return Err(RefusedCall::Method);
    }
    let (app, path) = app_and_path(form, &request.uri, access)?;
    let path = match ApiPath::parse(&path) {
        Ok(path) => path,
        Err(RefusedApiPath::NotPlain) => return Err(RefusedCall::MalformedPath),
        Err(RefusedApiPath::OfCredentials) => {
            return Err(RefusedCall::NotPermitted("this path gives out or takes credentials of the app"));
        }
    };
    let prefix = access
        .paths()
        .find(|prefix| path.is_at_or_below(prefix))
        .ok_or(RefusedCall::NotPermitted("`wechat_api.paths` of the client does not have this path"))?;
    let query = without_token(request.uri.query().unwrap_or_default());
    Ok(PermittedCall { app, path, prefix, query, rate: access.rate() })
}

/// Checks that WeChat's API is meant. A page in a browser must not reach an address that asks for
/// no credential.
fn check_host(form: CallForm, uri: &Uri, headers: &HeaderMap) -> Result<(), RefusedCall> {
    let authority = uri.authority().map(|authority| authority.as_str());
    match form {
        CallForm::Path => Ok(()),
        CallForm::Proxy if is_of_api(authority) && uri.scheme_str() == Some("http") => Ok(()),
        CallForm::Proxy => Err(RefusedCall::OtherHost),
        CallForm::Alias => {
            let mut hosts = headers.get_all(HOST).iter();
            let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(RefusedCall::OtherHost) };
            if !is_of_api(host.to_str().ok()) || (authority.is_some() && !is_of_api(authority)) {
                return Err(RefusedCall::OtherHost);
            }
            let is_of_browser = |name: &str| name.starts_with("sec-fetch-") || name.starts_with("sec-ch-");
            let is_from_page = headers.contains_key(ORIGIN)
                || headers.contains_key(REFERER)
                || headers.keys().any(|name| is_of_browser(name.as_str()));
            if is_from_page { Err(RefusedCall::FromBrowser) } else { Ok(()) }
        }
    }
}

/// Whether an authority is WeChat's API, with any port: the port is that of the address in its
/// place.
fn is_of_api(authority: Option<&str>) -> bool {
    let Some(authority) = authority else { return false };
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    host.eq_ignore_ascii_case(HOST_OF_API)
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes the token of the program from a query, in every spelling of its name: the first one that
/// WeChat reads must be the gateway's.
fn without_token(query: &str) -> String {
    let is_token = |pair: &&str| {
        let name = form_urlencoded::parse(pair.as_bytes()).next();
        name.is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case(TOKEN_PARAMETER))
    };
    query.split('&').filter(|pair| !is_token(pair)).collect::<Vec<_>>().join("&")
}

/// The app that is named, or the client's own, and the path of the call.
fn app_and_path<'c>(
    form: CallForm,
    uri: &Uri,
    access: &'c WeChatApiAccess,
) -> Result<(&'c str, String), RefusedCall> {
    if form != CallForm::Path {
        return access.default_app().map(|app| (app, uri.path().to_owned())).ok_or(RefusedCall::NoApp);
    }
    let rest = uri.path().strip_prefix(PATH_PREFIX).unwrap_or_default();
    let (name, path) = rest.split_once('/').ok_or(RefusedCall::MalformedPath)?;
    let app = access
        .app(name)
        .ok_or(RefusedCall::NotPermitted("`wechat_api.apps` of the client does not have this app"))?;
    Ok((app, format!("/{path}")))
}

impl RefusedCall {
    /// What the client is answered.
    pub(super) fn answer(self, form: CallForm) -> ManagementAnswer {
        let problem = |status, code, detail| ManagementAnswer::problem(status, code, Some(detail));
        match self {
            Self::Tunnel => {
                let detail = "TLS hides the request: call `http://api.weixin.qq.com/…`, not `https://`";
                problem(StatusCode::METHOD_NOT_ALLOWED, "tunnel_refused", detail).with_allow("GET, POST")
            }
            Self::UnknownClient => match form {
                CallForm::Path => {
                    let detail = "send the token of a client: `Authorization: Bearer …`";
                    problem(StatusCode::UNAUTHORIZED, "client_unknown", detail).with_bearer_challenge()
                }
                CallForm::Proxy => {
                    let detail = "send the name and the token of a client: `http_proxy=http://name:token@…`";
                    problem(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "client_unknown", detail)
                        .with_proxy_challenge()
                }
                CallForm::Alias => {
                    let detail = "`internal.wechat_alias.client` is not configured any more";
                    problem(StatusCode::FORBIDDEN, "client_unknown", detail)
                }
            },
            Self::OtherHost => {
                let detail = "only `http://api.weixin.qq.com` is called from here";
                problem(StatusCode::FORBIDDEN, "host_not_permitted", detail)
            }
            Self::FromBrowser => problem(
                StatusCode::FORBIDDEN,
                "browser_refused",
                "this address is for programs, not for pages",
            ),
            Self::Method => ManagementAnswer::method_not_allowed("GET, POST"),
            Self::MalformedPath => {
                let detail = RefusedApiPath::NotPlain.to_string();
                problem(StatusCode::BAD_REQUEST, "path_malformed", &detail)
            }
            Self::NoApp => {
                let detail = "`wechat_api.default_app` of the client says which app is meant";
                problem(StatusCode::FORBIDDEN, "app_unknown", detail)
            }
            Self::NotPermitted(detail) => problem(StatusCode::FORBIDDEN, "not_permitted", detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_token_of_the_program_is_removed_in_every_spelling() {
        for (query, expected) in [
            ("", ""),
            ("access_token=mine", ""),
            ("access_token=mine&a=1", "a=1"),
            ("a=1&access_token=mine&b=2", "a=1&b=2"),
            ("access%5Ftoken=mine&a=1", "a=1"),
            ("%61ccess_token=mine&a=1", "a=1"),
            ("ACCESS_TOKEN=mine&a=1", "a=1"),
            ("access_token&a=1", "a=1"),
            ("+access_token=mine&a=1", "a=1"),
            ("a=access_token&my_access_token=1", "a=access_token&my_access_token=1"),
            ("a=%E4%BF%A1&b=x%2Fy", "a=%E4%BF%A1&b=x%2Fy"),
        ] {
            assert_eq!(without_token(query), expected, "{query}");
        }
    }

    #[test]
    fn a_request_has_one_form() {
        let credential = ("Proxy-Authorization", "Basic eA==");
        for (method, uri, headers, expected) in [
            ("POST", "/wechat/shop/wxa/x", &[][..], Some(CallForm::Path)),
            ("POST", "http://api.weixin.qq.com/wxa/x", &[], Some(CallForm::Proxy)),
            ("POST", "http://API.weixin.qq.com:80/wxa/x", &[], Some(CallForm::Proxy)),
            ("CONNECT", "api.weixin.qq.com:443", &[], Some(CallForm::Proxy)),
            ("GET", "http://other.test/x", &[credential], Some(CallForm::Proxy)),
            ("POST", "/people/bind", &[], None),
            ("POST", "http://internal/people/bind", &[], None),
            ("POST", "/wechat", &[], None),
        ] {
            assert_eq!(CallForm::of(&parts(method, uri, headers)), expected, "{method} {uri}");
        }
    }

    #[test]
    fn only_the_host_of_wechats_api_is_called_and_no_page_calls_without_a_credential() {
        let api = ("Host", "api.weixin.qq.com");
        let alias = |headers: &[(&str, &str)]| {
            let parts = parts("POST", "/wxa/x", headers);
            check_host(CallForm::Alias, &parts.uri, &parts.headers)
        };
        assert_eq!(alias(&[api]), Ok(()));
        assert_eq!(alias(&[("Host", "Api.Weixin.QQ.com:8080")]), Ok(()));
        for host in [
            "127.0.0.1",
            "localhost",
            "evil.test",
            "api.weixin.qq.com.evil.test",
            "api.weixin.qq.com:x",
            "x@api.weixin.qq.com",
        ] {
            assert_eq!(alias(&[("Host", host)]), Err(RefusedCall::OtherHost), "{host}");
        }
        assert_eq!(alias(&[]), Err(RefusedCall::OtherHost));
        assert_eq!(alias(&[api, api]), Err(RefusedCall::OtherHost));
        for header in [
            ("Origin", "null"),
            ("Referer", "https://a.test/"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-CH-UA", "x"),
        ] {
            assert_eq!(alias(&[api, header]), Err(RefusedCall::FromBrowser), "{header:?}");
        }
        for uri in [
            "https://api.weixin.qq.com/x",
            "http://other.test/x",
            "http://api.weixin.qq.com.other.test/x",
            "http://x:y@api.weixin.qq.com/x",
            "/x",
        ] {
            let parts = parts("POST", uri, &[api]);
            assert_eq!(
                check_host(CallForm::Proxy, &parts.uri, &parts.headers),
                Err(RefusedCall::OtherHost),
                "{uri}"
            );
        }
    }
}
