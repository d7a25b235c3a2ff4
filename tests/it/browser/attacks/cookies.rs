//! D9, D15, D16: the cookies, to the byte.

use menshen::emulator::Config;

use super::set_cookies;
use crate::common::site::{BROWSER, SESSION};
use crate::common::{Connection, Site, Tally, Visitor};
use crate::websocket::{echo, switching};

/// Splits a `Set-Cookie` into the value and everything else.
fn parts<'a>(line: &'a str, name: &str) -> (&'a str, &'a str) {
    let rest =
        line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).unwrap_or_else(|| panic!("{line}"));
    rest.split_once(';').unwrap()
}

#[test]
fn cookies_are_set_and_removed_with_the_same_attributes() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    let start = visitor.open("/auth/web/site/start?return_to=%2Fpage");
    let begun = crate::common::visitor::Begun::at(start.header("location").unwrap());
    let back = visitor.come_back(&site.world.emulator, &begun, "alice");

    let set = set_cookies(&start);
    assert_eq!(set.len(), 1, "{set:?}");
    let (value, attributes) = parts(set[0], BROWSER);
    assert!(
        value.len() >= 22 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    assert_eq!(attributes, " Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax");
    let set = set_cookies(&back);
    assert_eq!(set.len(), 1, "{set:?}");
    let (value, attributes) = parts(set[0], SESSION);
    assert_eq!(value.len(), 64);
    assert_eq!(attributes, " Path=/; Max-Age=2592000; Secure; HttpOnly; SameSite=Lax");

    let headers = format!("Content-Type: application/json\r\nOrigin: {}\r\n", site.origin());
    let logout = visitor.send("POST", "/auth/logout", &headers, "{}");
    assert_eq!(
        set_cookies(&logout),
        [format!("{SESSION}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax")]
    );
    assert!(!visitor.cookies.contains_key(SESSION));
}

/// D9: an attacker who planted a cookie gets nothing of the user who then signs in.
#[test]
fn cookie_that_was_there_before_a_sign_in_never_becomes_the_persons() {
    let site = Site::new();
    let mut attacker = Visitor::at(site.world.address());
    attacker.sign_in(&site.world.emulator, "site", "bob");
    let of_attacker = attacker.cookies[SESSION].clone();
    for planted in [of_attacker.as_str(), &"A".repeat(64), "x", ""] {
        let mut victim = Visitor::at(site.world.address());
        victim.cookies.insert(SESSION.to_owned(), planted.to_owned());
        victim.sign_in(&site.world.emulator, "site", "alice");

        assert_ne!(victim.cookies[SESSION], planted);
        assert_eq!(victim.open("/page").status, 200);
        let mut thief = Visitor::at(site.world.address());
        thief.cookies.insert(SESSION.to_owned(), planted.to_owned());
        let seen = site.world.backend.count();
        assert_eq!(thief.send_only("GET", "/page", "", "").status, 401, "{planted}");
        assert_eq!(site.world.backend.count(), seen);
    }
}

#[test]
fn each_sign_in_has_a_cookie_of_its_own() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    let first = visitor.cookies[SESSION].clone();

    visitor.sign_in(&site.world.emulator, "site", "alice");

    assert_ne!(visitor.cookies[SESSION], first);
    assert_eq!(visitor.open("/page").status, 200);
}

/// D16: a picture or a link of any page makes a browser send a GET.
#[test]
fn get_does_not_sign_out() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");

    for method in ["GET", "HEAD"] {
        let answer = visitor.send(method, "/auth/logout", "Sec-Fetch-Dest: image\r\n", "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
        assert_eq!(set_cookies(&answer), Vec::<&str>::new());
    }

    assert_eq!(visitor.open("/page").status, 200);
}

#[test]
fn logout_that_another_site_makes_is_refused() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");

    for headers in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: unheard-of\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:1\r\n",
    ] {
        for content_type in ["application/json", "application/x-www-form-urlencoded"] {
            let headers = format!("{headers}Content-Type: {content_type}\r\n");
            let answer = visitor.send("POST", "/auth/logout", &headers, "");
            assert_eq!(answer.status, 403, "{headers}: {}", answer.text());
        }
    }

    assert_eq!(visitor.open("/page").status, 200);
}

/// A browser lets any page open a WebSocket to any host, with the host's cookies; what comes
/// through it is not asked again.
#[test]
fn tunnel_that_another_site_opens_with_the_session_never_reaches_the_backend() {
    let site = Site::with_parts(
        Config::default(),
        switching(echo),
        &[("path: /, access: authenticated,", "path: /, access: authenticated, websocket: true,")],
    );
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    let opening = |headers: &str| {
        let (host, cookie) = (&visitor.host, visitor.cookie_line());
        let mut client = Connection::open(site.world.address());
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{cookie}{headers}\r\n"
        );
        client.write(request.as_bytes());
        (client.read_header().unwrap().status, client)
    };
    let own = site.origin();
    for headers in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:1\r\n",
        "Origin: http://127.0.0.1\r\n",
        &format!("Origin: {own}.evil.example\r\n"),
        &format!("Origin: {own}\r\nOrigin: https://evil.example\r\n"),
        &format!("Origin: {own}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: websocket\r\n"),
        &format!("Origin: {own}\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: websocket\r\n"),
    ] {
        assert_eq!(opening(headers).0, 403, "{headers}");
    }
    assert_eq!(site.world.backend.count(), 0);

    let (status, mut client) = opening(&format!("Origin: {own}\r\n"));

    assert_eq!(status, 101, "a page of the same origin");
    client.write(b"hello");
    assert_eq!(client.read_exact(5), b"hello");
    assert_eq!(site.world.backend.last().header("cookie"), Vec::<String>::new());
}

/// A backend that logs its cookies must not receive a credential.
#[test]
fn no_backend_ever_receives_a_cookie_of_the_gateway() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    let (session, browser) = (visitor.cookies[SESSION].clone(), visitor.cookies[BROWSER].clone());
    let token = site.world.login_with(&format!(r#"{{"code":"{}"}}"#, site.world.code("bob"))).json();
    let bearer = format!("Authorization: Bearer {}\r\n", token["access_token"].as_str().unwrap());
    let mut tally = Tally::default();
    for path in ["/pub/x", "/opt/x", "/page"] {
        for credential in ["", bearer.as_str()] {
            for name in [
                "__Host-menshen",
                "__host-menshen",
                "__HOST-MENSHEN",
                "__hOST-mENSHEN",
                "__Host-menshen-browser",
                "__Host-menshen-x",
            ] {
                for line in [
                    format!("Cookie: {name}={session}"),
                    format!("Cookie: a=1; {name}={session}; b=2"),
                    format!("cookie: a=1;{name}={session};b=2"),
                    format!("Cookie: a=1; b=2\r\nCookie: {name}={session}"),
                    format!("Cookie: {name}={session}; {name}={browser}; a=1; b=2"),
                    format!("Cookie: a=1;  \t{name} = {session} ; b=2"),
                    format!("Cookie: a=1; {name}=\"{session}\"; b=2"),
                    format!("Cookie: a=1; {name}; b=2; {name}="),
                    format!("Cookie: a=1, {name}={session}; b=2"),
                ] {
                    let seen = site.world.backend.count();
                    let answer = site.world.get(path, &format!("{line}\r\n{credential}"));
                    let reached = site.world.backend.count() - seen;
                    tally.add(answer.status, reached);
                    if reached > 0 {
                        let request = site.world.backend.last();
                        assert!(!request.head.contains(session.as_str()), "{path} {line}:\n{}", request.head);
                        assert!(!request.head.contains(browser.as_str()), "{path} {line}:\n{}", request.head);
                    }
                }
            }
        }
    }
    assert!(tally.reached > tally.inputs / 4, "{tally:?}");
    tally.report("browser: cookies of the gateway");
}

#[test]
fn cookies_of_the_backend_arrive_as_they_are() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    visitor.cookies.insert("a".into(), "1".into());
    visitor.cookies.insert("PHPSESSID".into(), "x=y".into());

    for path in ["/page", "/pub/x", "/opt/x"] {
        assert_eq!(visitor.open(path).status, 200);
        assert_eq!(site.world.backend.last().header("cookie"), ["PHPSESSID=x=y; a=1"], "{path}");
    }
}

#[test]
fn token_and_cookie_in_one_request_are_one_credential_too_many() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    let token = site.world.login_with(&format!(r#"{{"code":"{}"}}"#, site.world.code("bob"))).json();
    let bearer = format!("Authorization: Bearer {}\r\n", token["access_token"].as_str().unwrap());

    assert_eq!(visitor.send_only("GET", "/page", &bearer, "").status, 401);

    assert_eq!(site.world.backend.count(), 0);
}
