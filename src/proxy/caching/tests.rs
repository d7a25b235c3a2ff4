use super::*;
use crate::authn::{Authenticated, CredentialPlaces, TokenSources};
use crate::identity::{AppId, Identity, OpenId, Subject};
use crate::proxy::credential::CredentialPlace;
use crate::proxy::permit::Caller;
use crate::proxy::tests::Bench;

const fn place(is_in_authorization: bool, is_in_header: bool, is_in_cookies: bool) -> CredentialPlace {
    CredentialPlace {
        is_in_authorization,
        is_in_header,
        is_in_cookies,
        all: CredentialPlaces::NONE,
        is_cross_site: false,
    }
}

const AUTHORIZATION: CredentialPlace = place(true, false, false);
const HEADER: CredentialPlace = place(false, true, false);
const COOKIE: CredentialPlace = place(false, false, true);
/// The query of a WebSocket.
const QUERY: CredentialPlace = place(false, false, false);

fn bench() -> Bench {
    let more =
        "  - { path: /shared, access: authenticated, upstream: backend, allow_shared_caching: true }\n";
    Bench::with("", more)
}

/// A request of a person, whose credential is in this place; anonymous without one.
fn permit(bench: &Bench, path: &str, place: Option<CredentialPlace>) -> Permit {
    let mut permit = bench.permit_on(path);
    let subject = Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse("o1").unwrap() };
    let person = || Authenticated::for_test(Identity { subject, unionid: None }, None, None, "shop");
    if let Some(place) = place {
        permit.credential = place;
        permit.caller = Caller::Authenticated(person());
    }
    permit
}

/// The header lines of a backend's answer, as the client gets them.
fn restricted(permit: &Permit, lines: &[(&'static str, &str)]) -> Vec<String> {
    let read = ReadHeaders::new(&sources());
    let mut response = ResponseHeader::build(200, None).unwrap();
    for (name, value) in lines {
        response.append_header(*name, *value).unwrap();
    }
    restrict(&mut response, permit, &read).unwrap();
    let shown = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<String> = response.headers.iter().map(shown).collect();
    lines.sort();
    lines
}

fn sources() -> TokenSources {
    let sources = crate::config::TokenSources {
        header: vec!["X-Token".into()],
        cookie: Some("token".into()),
        ..crate::config::TokenSources::default()
    };
    TokenSources::build(&sources, &mut crate::config::Findings::default()).unwrap()
}

#[test]
fn an_answer_to_a_person_is_private_unless_it_is_said_that_caches_may_share_it() {
    let bench = bench();
    for (stated, expected) in [
        ("", "private, no-cache"),
        ("max-age=60", "private, max-age=60"),
        ("no-cache", "private, no-cache"),
        ("max-age=60, must-revalidate", "private, max-age=60, must-revalidate"),
        ("private", "private"),
        ("Private, max-age=5", "Private, max-age=5"),
        ("no-store", "no-store"),
        ("private=\"Set-Cookie\", max-age=60", "private, private=\"Set-Cookie\", max-age=60"),
        ("public, max-age=60", "public, max-age=60"),
        ("max-age=60,PUBLIC", "max-age=60,PUBLIC"),
        ("s-maxage=60", "s-maxage=60"),
        ("S-MaxAge = 60", "S-MaxAge = 60"),
        ("public, private", "public, private"),
        ("publicity, max-age=60", "private, publicity, max-age=60"),
        ("x=\"a, public, b\"", "private, x=\"a, public, b\""),
    ] {
        for place in [HEADER, COOKIE, QUERY] {
            let permit = permit(&bench, "/", Some(place));
            let lines: Vec<_> =
                [("cache-control", stated)].into_iter().filter(|(_, l)| !l.is_empty()).collect();
            let answered = restricted(&permit, &lines);
            assert_eq!(answered[0], format!("cache-control: {expected}"), "{stated} {place:?}");
        }
        let unchanged = format!("cache-control: {stated}");
        let lets_caches_share = stated.contains("must-revalidate");
        let stated = [("cache-control", stated)];
        for (path, place) in
            [("/", Some(AUTHORIZATION)), ("/shared", Some(COOKIE)), ("/public", None), ("/optional", None)]
        {
            let answered = restricted(&permit(&bench, path, place), &stated);
            if place == Some(AUTHORIZATION) && lets_caches_share {
                assert_eq!(answered[0], format!("cache-control: {expected}"));
                continue;
            }
            assert_eq!(answered[0], unchanged, "{path} {place:?}");
        }
    }
    let expires = [("expires", "Thu, 01 Jan 2032 00:00:00 GMT")];
    let answered = restricted(&permit(&bench, "/", Some(COOKIE)), &expires);
    assert_eq!(
        answered,
        ["cache-control: private", "expires: Thu, 01 Jan 2032 00:00:00 GMT", "vary: Cookie"]
    );
    let twice = [("cache-control", "max-age=60"), ("cache-control", "must-revalidate")];
    let answered = restricted(&permit(&bench, "/", Some(COOKIE)), &twice);
    assert_eq!(answered, ["cache-control: private, max-age=60, must-revalidate", "vary: Cookie"]);
}

#[test]
fn what_shared_caches_prefer_to_cache_control_is_removed_from_a_private_answer() {
    let bench = bench();
    for name in [
        "surrogate-control",
        "x-accel-expires",
        "cdn-cache-control",
        "cloudflare-cdn-cache-control",
        "edge-control",
    ] {
        for stated in ["", "private", "no-store", "max-age=5"] {
            let mut lines = vec![(name, "max-age=60")];
            lines.extend(Some(("cache-control", stated)).filter(|_| !stated.is_empty()));
            let is_there = |path, place| {
                let answered = restricted(&permit(&bench, path, place), &lines);
                answered.iter().any(|line| line.starts_with(name))
            };
            assert!(!is_there("/", Some(COOKIE)), "{name} {stated}");
            assert!(is_there("/shared", Some(COOKIE)), "{name} {stated}");
            assert!(is_there("/public", None), "{name} {stated}");
        }
        let public = [(name, "max-age=60"), ("cache-control", "public")];
        let answered = restricted(&permit(&bench, "/", Some(COOKIE)), &public);
        assert!(answered.iter().any(|line| line.starts_with(name)), "{name}");
    }
}

#[test]
fn vary_names_what_was_read() {
    let bench = bench();
    let both = place(true, true, false);
    let all = "vary: Authorization, X-Token, Cookie";
    for (path, place, expected) in [
        ("/", Some(COOKIE), Some("vary: Cookie")),
        ("/", Some(HEADER), Some("vary: X-Token")),
        ("/", Some(AUTHORIZATION), Some("vary: Authorization")),
        ("/", Some(both), Some("vary: X-Token, Authorization")),
        ("/", Some(QUERY), None),
        ("/shared", Some(COOKIE), Some("vary: Cookie")),
        ("/shared", Some(AUTHORIZATION), Some("vary: Authorization")),
        ("/optional", None, Some(all)),
        ("/optional", Some(COOKIE), Some(all)),
        ("/optional", Some(AUTHORIZATION), Some(all)),
        ("/public", None, None),
    ] {
        let answered = restricted(&permit(&bench, path, place), &[]);
        let vary = answered.iter().find(|line| line.starts_with("vary"));
        assert_eq!(vary.map(String::as_str), expected, "{path} {place:?}");
    }
    let public = [("cache-control", "public, max-age=60")];
    for (place, expected) in [(AUTHORIZATION, "vary: Authorization"), (COOKIE, "vary: Cookie")] {
        assert_eq!(restricted(&permit(&bench, "/", Some(place)), &public)[1], expected);
    }
}

#[test]
fn what_the_backend_says_of_other_headers_stays_in_vary() {
    let bench = bench();
    for (stated, expected) in [
        (&["Accept-Encoding"][..], &["vary: Accept-Encoding, Cookie"][..]),
        (&["Accept-Encoding", "Origin"], &["vary: Accept-Encoding, Origin, Cookie"]),
        (&["Accept-Encoding, cookie"], &["vary: Accept-Encoding, cookie"]),
        (&["X-Cookie"], &["vary: X-Cookie, Cookie"]),
        (&["*"], &["vary: *"]),
        (&["Origin, *"], &["vary: Origin, *"]),
    ] {
        let mut lines = vec![("cache-control", "private")];
        lines.extend(stated.iter().map(|line| ("vary", *line)));
        let answered = restricted(&permit(&bench, "/", Some(COOKIE)), &lines);
        assert_eq!(answered[1..], *expected, "{stated:?}");
    }
}

#[test]
fn an_informational_answer_is_left_alone() {
    let bench = bench();
    let permit = permit(&bench, "/", Some(QUERY));
    let mut response = ResponseHeader::build(101, None).unwrap();

    restrict(&mut response, &permit, &ReadHeaders::new(&sources())).unwrap();

    assert!(response.headers.is_empty());
}

#[test]
fn vary_names_the_origin_where_pages_of_other_origins_may_read() {
    let cors = "cors: { origins: ['https://h5.example.com'] }";
    let route = |path: &str, access: &str| {
        format!("  - {{ path: {path}, access: {access}, upstream: backend, {cors} }}\n")
    };
    let routes = [("/c", "authenticated"), ("/c/public", "public"), ("/c/optional", "optional")];
    let bench = Bench::with("", &routes.map(|(path, access)| route(path, access)).concat());
    let both = place(true, true, false);
    let all = "vary: Authorization, X-Token, Cookie, Origin";
    for (path, place, expected) in [
        ("/c", Some(COOKIE), "vary: Cookie, Origin"),
        ("/c", Some(HEADER), "vary: X-Token, Origin"),
        ("/c", Some(AUTHORIZATION), "vary: Authorization, Origin"),
        ("/c", Some(both), "vary: X-Token, Authorization, Origin"),
        ("/c", Some(QUERY), "vary: Origin"),
        ("/c/optional", None, all),
        ("/c/optional", Some(AUTHORIZATION), all),
        ("/c/public", None, "vary: Origin"),
    ] {
        let answered = restricted(&permit(&bench, path, place), &[]);
        let vary: Vec<&String> = answered.iter().filter(|line| line.starts_with("vary")).collect();
        assert_eq!(vary, [expected], "{path} {place:?}");
    }
    for (stated, expected) in [
        (&["Accept-Encoding"][..], "vary: Accept-Encoding, Origin"),
        (&["origin"], "vary: origin"),
        (&["Accept-Encoding", "Origin"], "vary: Accept-Encoding, Origin"),
        (&["*"], "vary: *"),
    ] {
        let lines: Vec<(&str, &str)> = stated.iter().map(|line| ("vary", *line)).collect();
        assert_eq!(restricted(&permit(&bench, "/c/public", None), &lines), [expected], "{stated:?}");
    }
}
