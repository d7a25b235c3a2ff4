//! Requests that a page of another site makes a browser send.

use http::Method;

use super::*;
use crate::authn::cross_site::is_cross_site;

fn sent(method: Method, uri: &str, headers: Headers<'_>) -> Parts {
    let (mut parts, ()) = http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts();
    for (name, value) in headers {
        let name = http::HeaderName::try_from(*name).unwrap();
        parts.headers.append(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    parts
}

type Headers<'a> = &'a [(&'a str, &'a [u8])];

const SITE: &str = "sec-fetch-site";

#[test]
fn request_that_changes_something_is_refused_unless_its_page_is_of_the_own_origin() {
    let table: &[(&str, Headers<'_>, bool)] = &[
        ("h", &[], false),
        ("h", &[(SITE, b"same-origin")], false),
        ("h", &[(SITE, b"none")], false),
        ("h", &[(SITE, b"same-site")], true),
        ("h", &[(SITE, b"cross-site")], true),
        ("h", &[(SITE, b"")], true),
        ("h", &[(SITE, b"Same-Origin")], true),
        ("h", &[(SITE, b"same-origin, none")], true),
        ("h", &[(SITE, b"same-origin"), (SITE, b"same-origin")], true),
        ("h", &[(SITE, b"\xff")], true),
        // What the browser says itself goes before what can be compared.
        ("h", &[(SITE, b"same-origin"), ("origin", b"https://evil")], false),
        ("h", &[(SITE, b"cross-site"), ("origin", b"https://h")], true),
        ("h", &[("origin", b"https://h")], false),
        ("h", &[("origin", b"http://h")], false),
        ("H", &[("origin", b"https://h")], false),
        ("h:443", &[("origin", b"https://h")], false),
        ("h", &[("origin", b"https://h:443")], false),
        ("h:80", &[("origin", b"http://h")], false),
        ("h:80", &[("origin", b"https://h")], true),
        ("h", &[("origin", b"http://h:443")], true),
        ("h:8443", &[("origin", b"https://h:8443")], false),
        ("h:8443", &[("origin", b"https://h")], true),
        ("h", &[("origin", b"https://h:8443")], true),
        ("[::1]:8080", &[("origin", b"http://[::1]:8080")], false),
        ("[::1]", &[("origin", b"http://[::2]")], true),
        ("[::1]", &[("origin", b"http://[::1")], true),
        ("h", &[("origin", b"https://evil")], true),
        ("h", &[("origin", b"https://h.evil")], true),
        ("h", &[("origin", b"https://evil.h")], true),
        ("h", &[("origin", b"https://h@evil")], true),
        ("h", &[("origin", b"https://evil@h")], true),
        ("h", &[("origin", b"https://h/")], true),
        ("h", &[("origin", b"https://h:")], true),
        ("h", &[("origin", b"https://h:99999")], true),
        ("h", &[("origin", b"https://h:+443")], true),
        ("h", &[("origin", b"null")], true),
        ("h", &[("origin", b"")], true),
        ("h", &[("origin", b"h")], true),
        ("h", &[("origin", b"//h")], true),
        ("h", &[("origin", b"ftp://h")], true),
        ("h", &[("origin", b"https://")], true),
        ("h", &[("origin", b"https://h \xff")], true),
        ("h", &[("origin", b"https://h"), ("origin", b"https://h")], true),
        ("h", &[("origin", b"https://h, https://evil")], true),
    ];
    for (host, headers, expected) in table {
        let shown: Vec<_> =
            headers.iter().map(|(name, value)| (name, value.escape_ascii().to_string())).collect();
        let with_host = [&[("host", host.as_bytes())], *headers].concat();
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let request = sent(method, "/", &with_host);
            assert_eq!(is_cross_site(&request, false, CrossSite::Refuse), *expected, "{host} {shown:?}");
        }
        // HTTP/2 says the host in the target.
        let request = sent(Method::POST, &format!("https://{host}/"), headers);
        assert_eq!(is_cross_site(&request, false, CrossSite::Refuse), *expected, "{host} {shown:?}, HTTP/2");
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(
                !is_cross_site(&sent(method, "/", &with_host), false, CrossSite::Refuse),
                "{host} {shown:?}, to read"
            );
        }
        assert_eq!(
            is_cross_site(&sent(Method::GET, "/", &with_host), true, CrossSite::Refuse),
            *expected,
            "{host} {shown:?}, tunnel"
        );
    }
}

/// The operator lists the origin. Without a list of public suffixes, only the browser can say that
/// two hosts are one site.
#[test]
fn listed_page_of_another_origin_may_change_something_if_it_is_surely_of_the_same_site() {
    let table: &[(&str, Headers<'_>, bool)] = &[
        ("h", &[], false),
        ("h", &[(SITE, b"same-origin")], false),
        ("h", &[(SITE, b"same-site")], false),
        ("a.example", &[(SITE, b"same-site"), ("origin", b"https://b.example")], false),
        ("h", &[(SITE, b"cross-site")], true),
        ("h", &[(SITE, b"cross-site"), ("origin", b"https://h")], true),
        ("h", &[(SITE, b"cross-site"), ("origin", b"https://h:8443")], true),
        ("h", &[(SITE, b"same-site"), (SITE, b"same-site")], true),
        ("h", &[(SITE, b"same-site"), (SITE, b"cross-site")], true),
        ("h", &[(SITE, b"Same-Site")], true),
        ("h", &[(SITE, b"same-site, cross-site")], true),
        ("h", &[(SITE, b"")], true),
        ("h", &[(SITE, b"\xff")], true),
        // An older browser, which does not say it.
        ("h", &[("origin", b"https://h")], false),
        ("h", &[("origin", b"https://h:8443")], false),
        ("h:8443", &[("origin", b"https://h")], false),
        ("H", &[("origin", b"https://h:8443")], false),
        ("[::1]:8080", &[("origin", b"http://[::1]:3000")], false),
        ("localhost:8080", &[("origin", b"http://localhost:3000")], false),
        ("h", &[("origin", b"http://h:3000")], true),
        ("127.0.0.1:8080", &[("origin", b"http://localhost:3000")], true),
        ("a.example", &[("origin", b"https://b.example")], true),
        ("a.example", &[("origin", b"https://example")], true),
        ("example", &[("origin", b"https://a.example")], true),
        ("h", &[("origin", b"null")], true),
        ("h", &[("origin", b"")], true),
        ("h", &[("origin", b"ftp://h")], true),
        ("h", &[("origin", b"https://h@evil")], true),
        ("h", &[("origin", b"https://h"), ("origin", b"https://h")], true),
    ];
    for (host, headers, expected) in table {
        let shown: Vec<_> =
            headers.iter().map(|(name, value)| (name, value.escape_ascii().to_string())).collect();
        let with_host = [&[("host", host.as_bytes())], *headers].concat();
        for (method, is_websocket) in
            [(Method::POST, false), (Method::PUT, false), (Method::DELETE, false), (Method::GET, true)]
        {
            let found = is_cross_site(&sent(method, "/", &with_host), is_websocket, CrossSite::AllowSameSite);
            assert_eq!(found, *expected, "{host} {shown:?}");
        }
    }
}

#[test]
fn request_without_a_host_of_its_own_has_no_own_origin() {
    let origin: (&str, &[u8]) = ("origin", b"https://h");
    for hosts in [&[][..], &[("host", &b"h"[..]), ("host", b"h")]] {
        let request = sent(Method::POST, "/", &[hosts, &[origin]].concat());
        assert!(is_cross_site(&request, false, CrossSite::Refuse));
        assert!(is_cross_site(&request, false, CrossSite::AllowSameSite));
    }
}

#[test]
fn cross_site_request_with_a_cookie_is_refused_and_with_a_bearer_token_is_not() {
    let sources = config::TokenSources {
        header: vec!["X-Token".into()],
        cookie: Some("token".into()),
        websocket_query: Some("token".into()),
        ..config::TokenSources::default()
    };
    let fixture = Fixture::with(config::Tokens { sources, ..config::Tokens::default() }, &[("shop", SHOP)]);
    let foreign: (&str, &[u8]) = (SITE, b"cross-site");
    let session = format!("{SESSION}=c");
    let table: &[(Headers<'_>, bool)] = &[
        (&[("cookie", session.as_bytes())], true),
        (&[("cookie", b"token=t")], true),
        (&[("cookie", b"token=t"), ("authorization", b"Bearer t")], false),
        (&[("cookie", b"token=t"), ("x-token", b"t")], false),
        (&[("authorization", b"Bearer t")], false),
        (&[("x-token", b"t"), ("cookie", b"a=1")], false),
    ];
    for (headers, is_refused) in table {
        let request = sent(Method::POST, "/", &[*headers, &[foreign]].concat());
        let found = |cross_site| fixture.authenticator.credential(&request, false, cross_site);

        assert_eq!(
            found(CrossSite::Refuse).err(),
            is_refused.then_some(AuthnError::CrossSite),
            "{headers:?}"
        );
        assert!(found(CrossSite::Allow).unwrap().is_some(), "{headers:?}");
    }
    assert_eq!(fixture.outcome("cross_site"), 2);
    let request = sent(Method::POST, "/", &[foreign]);
    assert!(fixture.authenticator.credential(&request, false, CrossSite::Refuse).unwrap().is_none());
    let in_query = sent(Method::GET, "/?token=t", &[("cookie", b"token=t"), foreign]);
    assert!(fixture.authenticator.credential(&in_query, true, CrossSite::Refuse).is_ok());
}
