//! What people call themselves, in headers and at `/auth/session`.

use menshen::emulator::{Config, User};

use crate::common::{Site, Visitor};

fn sign_in_as(nickname: &str) -> (Site, Visitor) {
    let person = User { nickname: Some(nickname.to_owned()), ..User::new("alice") };
    let site = Site::with(Config { users: vec![person], ..Config::default() }, &[]);
    let mut visitor = Visitor::at(site.world.address());
    visitor.sign_in(&site.world.emulator, "site", "alice");
    (site, visitor)
}

/// What a backend makes of a percent-encoded header.
fn decoded(value: &str) -> String {
    let plus = value.replace('+', "%2B");
    let query = format!("v={plus}");
    form_urlencoded::parse(query.as_bytes()).next().unwrap().1.into_owned()
}

#[test]
fn nickname_arrives_whole_whatever_is_in_it() {
    for (nickname, expected) in [
        ("alice", "alice"),
        ("小明 🐱", "小明 🐱"),
        ("👩‍👩‍👧", "👩‍👩‍👧"),
        ("a%20b+c&d=e", "a%20b+c&d=e"),
        ("\"'<script>alert(1)</script>", "\"'<script>alert(1)</script>"),
        ("a\r\nX-WX-OPENID: victim", "aX-WX-OPENID: victim"),
        ("a\0b\u{7f}c\u{85}d", "abcd"),
        ("\u{202e}evil", "\u{202e}evil"),
    ] {
        let (site, mut visitor) = sign_in_as(nickname);

        assert_eq!(visitor.open("/page").status, 200, "{nickname:?}");

        let request = site.world.backend.last();
        let sent = request.header("x-wx-nickname");
        assert_eq!(sent.len(), 1, "{nickname:?}");
        assert!(sent[0].bytes().all(|byte| byte.is_ascii_graphic()), "{}", sent[0]);
        assert_eq!(decoded(&sent[0]), expected);
        assert_eq!(
            request.folded("X-WX-OPENID"),
            [site.world.emulator.openid("wxe000000000000004", "alice")]
        );
        let session = visitor.send("GET", "/auth/session", "", "");
        assert_eq!(session.json()["nickname"], expected, "{}", session.text());
    }
}

#[test]
fn nickname_of_eight_kibibytes_is_cut_and_makes_no_cookie_larger() {
    let (site, mut visitor) = sign_in_as(&"长".repeat(8192 / 3));

    assert_eq!(visitor.open("/page").status, 200);

    assert_eq!(decoded(&site.world.backend.last().header("x-wx-nickname")[0]), "长".repeat(64));
    assert!(visitor.cookie_line().len() < 300, "{}", visitor.cookie_line().len());
}

#[test]
fn client_cannot_name_itself() {
    let (site, visitor) = sign_in_as("alice");
    for line in
        ["X-WX-NICKNAME: mallory\r\n", "x-wx-nickname: mallory\r\nX-WX-Avatar: https://evil.example/\r\n"]
    {
        for path in ["/page", "/pub/x"] {
            visitor.send_only("GET", path, line, "");
            assert!(!site.world.backend.last().head.contains("mallory"), "{path}");
            assert!(!site.world.backend.last().head.contains("evil.example"), "{path}");
        }
    }
}
