//! Tells requests of an operator's tool from requests of a web page in an operator's browser.
//!
//! The admin listener asks for no password. A page of any site can make a browser on this machine
//! send requests to loopback (CSRF), and it can read the answers if its own name resolves to this
//! address (DNS rebinding). A browser marks such requests with headers that tools do not send:
//! these requests are refused here.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode};

use super::answer::AdminAnswer;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Why a request does not count as an operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OriginError {
    #[error("the request has no `Host`, or more than one")]
    HostMalformed,
    #[error("write the admin listener's IP address, or `localhost`, as the host")]
    HostIsName,
    #[error("web pages may not send this request")]
    WebPage,
    #[error("send `Content-Type: application/json`")]
    NotJson,
}

impl OriginError {
    pub(super) fn answer(self) -> AdminAnswer {
        let (status, code) = match self {
            Self::HostMalformed => (StatusCode::BAD_REQUEST, "host_malformed"),
            Self::HostIsName => (StatusCode::MISDIRECTED_REQUEST, "host_not_admitted"),
            Self::WebPage => (StatusCode::FORBIDDEN, "web_page_refused"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_unsupported"),
        };
        AdminAnswer::problem(status, code, Some(&self.to_string()))
    }
}

/// Refuses requests that a web page can make a browser send.
///
/// # Errors
/// [`OriginError`], by variant.
pub(super) fn check(request: &Parts) -> Result<(), OriginError> {
    check_host(request)?;
    // Same-origin pages are refused as well: the listener serves none.
    if request.headers.contains_key(ORIGIN) {
        return Err(OriginError::WebPage);
    }
    // "none": the operator typed the address.
    let is_own = |site: &[u8]| [b"none".as_slice(), b"same-origin"].contains(&site);
    let mut sites = request.headers.get_all(SEC_FETCH_SITE).iter();
    if sites.any(|site| !is_own(site.as_bytes())) {
        return Err(OriginError::WebPage);
    }
    Ok(())
}

/// Refuses a body that is not JSON: a page can send other types across sites without a preflight.
///
/// # Errors
/// [`OriginError::NotJson`]
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), OriginError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else { return Err(OriginError::NotJson) };
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(OriginError::NotJson) }
}

/// Refuses a `Host` that is a name: the name of any site can resolve to this address (DNS
/// rebinding).
fn check_host(request: &Parts) -> Result<(), OriginError> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(OriginError::HostMalformed) };
    let host: Authority =
        host.to_str().ok().and_then(|host| host.parse().ok()).ok_or(OriginError::HostMalformed)?;
    let has_port = host.port_u16().is_some();
    if !has_port && host.as_str().len() != host.host().len() {
        return Err(OriginError::HostMalformed);
    }
    // A target in absolute form has the host a second time.
    let hosts = [Some(&host), request.uri.authority()];
    if hosts.into_iter().flatten().all(is_number_or_localhost) {
        Ok(())
    } else {
        Err(OriginError::HostIsName)
    }
}

fn is_number_or_localhost(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let has_user = authority.as_str().contains('@');
    !has_user && (host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
        let builder = Request::get(target);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn host_is_a_number_or_localhost() {
        use OriginError::{HostIsName, HostMalformed};
        for (hosts, expected) in [
            (["127.0.0.1:9901"].as_slice(), Ok(())),
            (&["127.0.0.1"], Ok(())),
            (&["10.1.2.3:9901"], Ok(())),
            (&["[::1]:9901"], Ok(())),
            (&["[::1]"], Ok(())),
            (&["localhost:9901"], Ok(())),
            (&["LocalHost"], Ok(())),
            (&[], Err(HostMalformed)),
            (&[""], Err(HostMalformed)),
            (&["127.0.0.1", "127.0.0.1"], Err(HostMalformed)),
            (&["127.0.0.1", "evil.example"], Err(HostMalformed)),
            (&["127.0.0.1:port"], Err(HostMalformed)),
            (&["127.0.0.1/evil.example"], Err(HostMalformed)),
            (&["evil.example"], Err(HostIsName)),
            (&["evil.example:9901"], Err(HostIsName)),
            (&["127.0.0.1.evil.example"], Err(HostIsName)),
            (&["localhost.evil.example"], Err(HostIsName)),
            (&["localhost."], Err(HostIsName)),
            (&["admin"], Err(HostIsName)),
            (&["2130706433"], Err(HostIsName)),
            (&["0x7f.1"], Err(HostIsName)),
            (&["evil.example@127.0.0.1"], Err(HostMalformed)),
            (&["evil.example@127.0.0.1:9901"], Err(HostIsName)),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();

            assert_eq!(check(&request("/sessions", &headers)), expected, "{hosts:?}");
        }
    }

    #[test]
    fn absolute_target_names_a_number_too() {
        for (target, expected) in [
            ("http://127.0.0.1:9901/sessions", Ok(())),
            ("http://evil.example/sessions", Err(OriginError::HostIsName)),
        ] {
            assert_eq!(check(&request(target, &[("host", "127.0.0.1")])), expected, "{target}");
        }
    }

    #[test]
    fn what_a_page_makes_a_browser_send_is_refused() {
        for (headers, expected) in [
            ([].as_slice(), Ok(())),
            (&[("sec-fetch-site", "none")], Ok(())),
            (&[("sec-fetch-site", "same-origin")], Ok(())),
            (&[("sec-fetch-site", "same-site")], Err(OriginError::WebPage)),
            (&[("sec-fetch-site", "cross-site")], Err(OriginError::WebPage)),
            (&[("sec-fetch-site", "")], Err(OriginError::WebPage)),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], Err(OriginError::WebPage)),
            (&[("origin", "https://evil.example")], Err(OriginError::WebPage)),
            (&[("origin", "null")], Err(OriginError::WebPage)),
            (&[("origin", "http://127.0.0.1:9901")], Err(OriginError::WebPage)),
            (&[("origin", "")], Err(OriginError::WebPage)),
        ] {
            let headers: Vec<_> = [("host", "127.0.0.1")].iter().chain(headers).copied().collect();

            assert_eq!(check(&request("/sessions", &headers)), expected, "{headers:?}");
        }
    }

    #[test]
    fn json_alone_is_read() {
        for (types, expected) in [
            (["application/json"].as_slice(), true),
            (&["application/json; charset=utf-8"], true),
            (&["Application/JSON"], true),
            (&[], false),
            (&[""], false),
            (&["text/plain"], false),
            (&["text/plain;application/json"], false),
            (&["application/x-www-form-urlencoded"], false),
            (&["multipart/form-data"], false),
            (&["application/jsonp"], false),
            (&["application/json", "text/plain"], false),
        ] {
            let headers: Vec<_> = types.iter().map(|value| ("content-type", *value)).collect();

            assert_eq!(check_json(&request("/", &headers).headers).is_ok(), expected, "{types:?}");
        }
    }
}
