use super::*;
use crate::identity::{AppId, OpenId, Subject, UnionId};
use crate::proxy::tests::Bench;

fn request(method: Method, path: &'static str) -> ReviewedRequest {
    ReviewedRequest { method, host: "a.test".into(), target: PathAndQuery::from_static(path) }
}

fn person(appid: &str) -> Identity {
    let subject = Subject { appid: AppId::parse(appid).unwrap(), openid: OpenId::parse("o1").unwrap() };
    Identity { subject, unionid: None }
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
        let person = identity.as_ref().map(|identity| ReviewedPerson { identity, user: None });

        let reviewed = request(Method::GET, path).review(&bench.current, person, is_tunnel);

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
        let person = identity.as_ref().map(|identity| ReviewedPerson { identity, user: None });

        let reviewed = request(method, path).review(&bench.current, person, is_tunnel);

        assert_eq!(reviewed.map_err(Reason::as_str), Err(reason), "{path} {appid:?}");
    }
}

#[test]
fn a_unionid_that_has_become_known_counts() {
    let bench = Bench::new();
    let identity = Identity { unionid: Some(UnionId::parse("u1").unwrap()), ..person(SHOP) };
    let person = Some(ReviewedPerson { identity: &identity, user: None });

    assert_eq!(request(Method::GET, "/unionid").review(&bench.current, person, false), Ok(()));
}
