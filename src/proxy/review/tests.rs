use super::*;
use crate::authn::{CredentialPlaces, Source};
use crate::identity::{AppId, OpenId, Subject, UnionId};
use crate::proxy::tests::Bench;

fn request(method: Method, path: &'static str) -> ReviewedRequest {
    ReviewedRequest {
        method,
        host: "a.test".into(),
        target: PathAndQuery::from_static(path),
        cross_site: None,
    }
}

fn person(appid: &str) -> Identity {
    let subject = Subject { appid: AppId::parse(appid).unwrap(), openid: OpenId::parse("o1").unwrap() };
    Identity { subject, unionid: None }
}

fn authenticated(identity: &Identity) -> Authenticated {
    Authenticated::for_test(identity.clone(), None, None, "shop")
}

/// Of a session cookie.
const PLACE: CredentialPlace = CredentialPlace {
    is_in_authorization: false,
    is_in_header: false,
    is_in_cookies: true,
    all: CredentialPlaces::only(Source::SessionCookie),
    is_cross_site: false,
};

/// Reviews a request of this person, or an anonymous one, by the configuration that decided it.
fn review(
    bench: &Bench,
    request: &ReviewedRequest,
    identity: Option<&Identity>,
    place: CredentialPlace,
    is_tunnel: bool,
) -> Result<(), Reason> {
    let authenticated = identity.map(authenticated);
    let person = identity.zip(authenticated.as_ref()).map(|(identity, authenticated)| ReviewedPerson {
        identity,
        user: None,
        credential: ReviewedCredential { decided_by: &bench.current, authenticated, place },
    });
    request.review(&bench.current, person, is_tunnel)
}

const SHOP: &str = "wxe000000000000001";
const SITE: &str = "wxe000000000000004";
const UNKNOWN: &str = "wxe000000000000009";

#[test]
fn a_request_under_way_goes_on_if_a_new_one_of_its_kind_were_forwarded() {
    let bench = Bench::new();
    for (path, appid, is_tunnel) in [
        ("/", Some(SHOP), false),
        ("/", Some(SITE), false),
        ("/shop?x=1", Some(SHOP), false),
        ("/public", None, false),
        ("/public/x;y", None, false),
        ("/public", Some(UNKNOWN), false),
        ("/optional", None, false),
        ("/optional", Some(SHOP), false),
        ("/read", None, false),
        ("/ws", Some(SHOP), true),
        ("/ws", Some(SHOP), false),
    ] {
        let identity = appid.map(person);
        let reviewed = review(&bench, &request(Method::GET, path), identity.as_ref(), PLACE, is_tunnel);

        assert_eq!(reviewed, Ok(()), "{path} {appid:?}");
    }
}

#[test]
fn a_request_under_way_ends_for_the_reason_that_a_new_one_were_refused_for() {
    let bench = Bench::new();
    for (method, path, appid, is_tunnel, reason) in [
        (Method::POST, "/read", None, false, "method_not_allowed"),
        (Method::GET, "/", None, false, "no_token"),
        (Method::GET, "/", Some(UNKNOWN), false, "unknown_app"),
        (Method::GET, "/optional", Some(UNKNOWN), false, "unknown_app"),
        (Method::GET, "/shop", Some(SITE), false, "app_not_admitted"),
        (Method::GET, "/unionid", Some(SHOP), false, "unionid_unknown"),
        (Method::GET, "/", Some(SHOP), true, "websocket_not_allowed"),
        (Method::GET, "/public", None, true, "websocket_not_allowed"),
        (Method::GET, "/public/x//y", None, false, "path_refused"),
        (Method::GET, "/x;y", Some(SHOP), false, "path_refused"),
        (Method::GET, "/public;y", None, false, "path_refused"),
        (Method::POST, "/auth/login", None, false, "route_unknown"),
    ] {
        let identity = appid.map(person);
        let reviewed = review(&bench, &request(method, path), identity.as_ref(), PLACE, is_tunnel);

        assert_eq!(reviewed.map_err(Reason::as_str), Err(reason), "{path} {appid:?}");
    }
}

#[test]
fn a_unionid_that_has_become_known_counts() {
    let bench = Bench::new();
    let identity = Identity { unionid: Some(UnionId::parse("u1").unwrap()), ..person(SHOP) };

    assert_eq!(review(&bench, &request(Method::GET, "/unionid"), Some(&identity), PLACE, false), Ok(()));
}

#[test]
fn a_request_of_another_site_goes_on_only_where_the_route_allows_it() {
    let more = "
  - { path: /open, access: authenticated, upstream: backend, allow_cross_site: true }
  - path: /pages
    access: authenticated
    upstream: backend
    cors: { origins: ['https://pages.a.test'], credentials: true }
";
    let bench = Bench::with("", more);
    for (origin, site, path, expected) in [
        ("https://b.test", "cross-site", "/open", Ok(())),
        ("https://b.test", "cross-site", "/pages", Err("cross_site")),
        ("https://b.test", "cross-site", "/shop", Err("cross_site")),
        ("https://b.test", "cross-site", "/public", Ok(())),
        ("https://pages.a.test", "same-site", "/pages", Ok(())),
        ("https://pages.a.test", "same-site", "/shop", Err("cross_site")),
        ("https://other.a.test", "same-site", "/pages", Err("cross_site")),
    ] {
        let sent = http::Request::post(path).header("origin", origin).header("sec-fetch-site", site);
        let (sent, ()) = sent.body(()).unwrap().into_parts();
        let request = ReviewedRequest { cross_site: Some(Box::new(sent)), ..request(Method::POST, path) };

        let reviewed = review(&bench, &request, Some(&person(SHOP)), PLACE, false);

        assert_eq!(reviewed.map_err(Reason::as_str), expected, "{origin} {path}");
    }
}

#[test]
fn a_credential_that_is_not_found_any_more_is_none() {
    let bench = Bench::new();
    let place = CredentialPlace { all: CredentialPlaces::only(Source::Header), ..PLACE };
    let reviewed = |path| review(&bench, &request(Method::GET, path), Some(&person(SHOP)), place, false);

    assert_eq!(reviewed("/shop").map_err(Reason::as_str), Err("no_token"));
    assert_eq!(reviewed("/optional"), Ok(()));
    assert_eq!(reviewed("/public"), Ok(()));
}
