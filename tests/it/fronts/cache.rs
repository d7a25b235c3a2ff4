//! No shared cache shows one person's page to another, whatever the backend says of its age.

use super::front::{Front, KINDS, Kind};
use crate::common::{Backend, NO_THROTTLE, ROUTES, Reply, Site, Tally, Visitor, World};

/// What backends say of the age of a page, by the path that asks for it.
const SAYS: &[(&str, &str)] = &[
    ("nothing", ""),
    ("modified", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT\r\n"),
    ("max-age", "Cache-Control: max-age=60\r\n"),
    ("must-revalidate", "Cache-Control: max-age=60, must-revalidate\r\n"),
    ("no-cache", "Cache-Control: no-cache\r\n"),
    ("expires", "Expires: Thu, 01 Jan 2032 00:00:00 GMT\r\n"),
    ("surrogate", "Surrogate-Control: max-age=60\r\nCache-Control: max-age=60\r\n"),
    ("accel", "X-Accel-Expires: 60\r\n"),
    ("cdn", "CDN-Cache-Control: max-age=60\r\nCache-Control: private\r\n"),
    ("vary", "Vary: Accept-Encoding\r\nCache-Control: max-age=60\r\n"),
    ("set-cookie", "Set-Cookie: theme=dark\r\nCache-Control: max-age=60\r\n"),
    ("public", "Cache-Control: public, max-age=60\r\n"),
    ("s-maxage", "Cache-Control: s-maxage=60\r\n"),
];

/// A backend that shows each person a page of their own, with an entity tag that says whose it is.
fn pages() -> Backend {
    Backend::with(|request| {
        let says = request.target().rsplit('/').next().unwrap_or_default();
        let lines = SAYS.iter().find(|(name, _)| *name == says).map_or("", |(_, lines)| lines);
        let who = request.header("X-WX-OPENID").pop().unwrap_or_else(|| "nobody".to_owned());
        let (tag, length) = (format!("\"{who}\""), who.len());
        let status =
            if request.header("If-None-Match").contains(&tag) { "304 Not Modified" } else { "200 OK" };
        let body = if status.starts_with("200") && !request.request_line().starts_with("HEAD ") {
            &*who
        } else {
            ""
        };
        let head =
            format!("HTTP/1.1 {status}\r\n{lines}ETag: {tag}\r\nContent-Length: {length}\r\n\r\n{body}");
        Reply::Bytes(head.into_bytes())
    })
}

/// Asks for pages in every order that could mix them up. `alice` and `bob` are header lines that
/// say who asks, with the page that they alone may see.
fn assert_each_user_gets_their_own_page(
    front: &Front,
    kind: Kind,
    people: [(&str, &str); 2],
    tally: &mut Tally,
) {
    let [(alice, alice_page), (bob, bob_page)] = people;
    for (says, _) in SAYS {
        for (first, second) in [(alice, bob), (bob, alice)] {
            let page_of = |who: &str| if who == alice { alice_page } else { bob_page };
            // A path of its own, so that nothing is in the cache.
            let path = |root: &str| format!("{root}{}/{says}", usize::from(first == bob));
            let mut see = |path: &str, who: &str, expected: &str| {
                let response = front.get(path, who);
                assert_eq!((response.status, &*response.text()), (200, expected), "{kind:?} {path} {who}");
                tally.add(response.status, 1);
            };
            let protected = path("/page");
            for who in [first, second, first] {
                see(&protected, who, page_of(who));
            }
            let stranger = front.get(&protected, "");
            assert_eq!(stranger.status, 401, "{kind:?} {protected}: {}", stranger.text());
            see(&protected, first, page_of(first));
            // A cache that had the page of another would say that the copy of it is still good.
            let [own, of_other] =
                [second, first].map(|who| format!("If-None-Match: \"{}\"\r\n", page_of(who)));
            let again = front.get(&protected, &format!("{second}{own}"));
            let is_own = again.status == 304 || again.text() == page_of(second);
            assert!(is_own, "{kind:?} {protected}: {} {}", again.status, again.text());
            see(&protected, &format!("{second}{of_other}"), page_of(second));
            for who in [second, first] {
                let head = front.send("HEAD", &protected, who);
                let tag = format!("\"{}\"", page_of(who));
                assert_eq!((head.status, head.header("etag")), (200, Some(&*tag)), "{kind:?} {protected}");
            }
            assert_eq!(front.send("HEAD", &protected, "").status, 401, "{kind:?} {protected}");

            let seen_first = path("/opt/person");
            see(&seen_first, first, page_of(first));
            see(&seen_first, "", "nobody");
            see(&seen_first, second, page_of(second));
            let seen_last = path("/opt/nobody");
            see(&seen_last, "", "nobody");
            see(&seen_last, first, page_of(first));
            see(&seen_last, "", "nobody");
        }
    }
}

/// The cookies of two people who signed in with a browser, and their openids.
fn people_with_cookies(site: &Site) -> [(String, String); 2] {
    ["alice", "bob"].map(|person| {
        let mut visitor = Visitor::at(site.world.address());
        visitor.sign_in(&site.world.emulator, "site", person);
        let openid = site.world.emulator.openid(crate::common::site::SITE_APPID, person);
        (visitor.cookie_line(), openid)
    })
}

#[test]
fn no_cache_shows_the_page_of_another_to_who_has_a_token() {
    for (sources, line) in [
        ("", "Authorization: Bearer {}\r\n"),
        ("tokens: { sources: { header: X-Token } }\n", "X-Token: {}\r\n"),
        ("tokens: { sources: { cookie: token } }\n", "Cookie: theme=dark; token={}\r\n"),
    ] {
        let world = World::with_backend(pages(), &format!("{ROUTES}{NO_THROTTLE}{sources}"));
        let people = ["alice", "bob"].map(|person| {
            let token = world.sign_in(person);
            (line.replace("{}", &token), world.emulator.openid(crate::common::APPID, person))
        });
        for kind in KINDS {
            let front = Front::start(kind, world.address());
            let mut tally = Tally::default();
            let [(alice, alice_page), (bob, bob_page)] = &people;
            assert_each_user_gets_their_own_page(
                &front,
                kind,
                [(alice, alice_page), (bob, bob_page)],
                &mut tally,
            );
            let place = line.split(':').next().unwrap_or_default();
            tally.report(&format!("fronts: pages of people, {kind:?}, {place}"));
        }
    }
}

#[test]
fn no_cache_shows_the_page_of_another_to_who_has_a_session_cookie() {
    let site = Site::with_backend(pages());
    let people = people_with_cookies(&site);
    for kind in KINDS {
        let front = Front::start(kind, site.world.address());
        let mut tally = Tally::default();
        let [(alice, alice_page), (bob, bob_page)] = &people;
        assert_each_user_gets_their_own_page(
            &front,
            kind,
            [(alice, alice_page), (bob, bob_page)],
            &mut tally,
        );
        tally.report(&format!("fronts: pages of people, {kind:?}, session cookie"));
    }
}

/// Refusals of pages and of calls, and what the gateway's own endpoints say of a person.
#[test]
fn no_cache_keeps_what_the_gateway_answers_itself() {
    let site = Site::with_backend(pages());
    let people = people_with_cookies(&site);
    for kind in KINDS {
        let front = Front::start(kind, site.world.address());
        let mut tally = Tally::default();
        let [alice, bob] = &people;
        for person in [None, Some(alice), None, Some(bob), Some(alice), None] {
            let line = person.map_or("", |(line, _)| line);
            let page = front.get("/page/max-age", &format!("Accept: text/html\r\n{line}"));
            let call = front.get("/page/expires", line);
            let session = front.get("/auth/session", line);
            match person {
                Some((_, openid)) => {
                    assert_eq!((page.status, page.text()), (200, openid.clone()), "{kind:?}");
                    assert_eq!((call.status, call.text()), (200, openid.clone()), "{kind:?}");
                    assert_eq!(session.json()["openid"], **openid, "{kind:?}");
                }
                None => {
                    assert!((300..500).contains(&page.status), "{kind:?}: {}", page.status);
                    assert_eq!((call.status, session.status), (401, 401), "{kind:?}");
                }
            }
            for response in [page, call, session] {
                tally.add(response.status, 0);
            }
        }
        tally.report(&format!("fronts: answers of the gateway itself, {kind:?}"));
    }
}

/// Otherwise the tests above would prove nothing.
#[test]
fn the_caches_keep_public_pages_and_what_backend_or_route_lets_them_keep() {
    let routes = "
routes:
  - { name: protected, path: /, access: authenticated, upstream: backend }
  - { name: shared, path: /shared, access: authenticated, allow_shared_caching: true, upstream: backend }
  - { name: public, path: /pub, access: public, upstream: backend }
tokens: { sources: { header: X-Token } }
";
    for kind in KINDS {
        let world = World::with_backend(pages(), &format!("{routes}{NO_THROTTLE}"));
        let [alice, bob] = ["alice", "bob"].map(|person| format!("X-Token: {}\r\n", world.sign_in(person)));
        let front = Front::start(kind, world.address());
        for (path, requests) in [
            ("/pub/max-age", 1),
            ("/shared/max-age", 2),
            ("/page/public", 2),
            ("/page/s-maxage", 2),
            ("/page/max-age", 6),
        ] {
            let before = world.backend.count();
            for _ in 0..3 {
                for who in [&alice, &bob] {
                    assert_eq!(front.get(path, who).status, 200, "{kind:?} {path}");
                }
            }
            assert_eq!(world.backend.count() - before, requests, "{kind:?} {path}");
        }
        let response = front.get("/shared/vary", &alice);
        assert_eq!(response.header("cache-control"), Some("max-age=60"), "{kind:?}");
        assert_eq!(response.header("vary"), Some("Accept-Encoding, X-Token"), "{kind:?}");
        let response = front.get("/page/vary", &alice);
        assert_eq!(response.header("cache-control"), Some("private, max-age=60"), "{kind:?}");
    }
}
