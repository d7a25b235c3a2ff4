use proptest::prelude::*;

use super::super::origin::origin;
use super::*;

const OWN: &str = "https://shop.example.com";
const ALLOWED: [&str; 3] = ["https://www.example.com", "https://good.example:8443", "http://127.0.0.1:3000"];

fn parse(text: &str) -> Option<ReturnTo> {
    ReturnTo::parse(text, &origin(OWN), &ALLOWED.map(origin), "/auth")
}

#[test]
fn return_to_of_the_own_or_an_allowed_origin_is_accepted() {
    for (text, location) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/b/?x=1&y=%2F#part", "/a/b/?x=1&y=%2F#part"),
        ("/?next=https://evil.example", "/?next=https://evil.example"),
        ("/#/route?x", "/#/route?x"),
        ("/a?b=//evil.example#//evil.example", "/a?b=//evil.example#//evil.example"),
        ("/%61", "/a"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/商城?q=你好#é", "/%E5%95%86%E5%9F%8E?q=%E4%BD%A0%E5%A5%BD#%C3%A9"),
        ("/%E5%95%86%e5%9f%8e", "/%E5%95%86%E5%9F%8E"),
        ("https://www.example.com/商城", "https://www.example.com/%E5%95%86%E5%9F%8E"),
        // A slash to none but who folds full-width forms, and no browser does.
        ("/\u{ff0f}/evil.example", "/%EF%BC%8F/evil.example"),
        ("/\u{2044}evil.example", "/%E2%81%84evil.example"),
        ("/a@evil.example", "/a@evil.example"),
        ("/https:", "/https:"),
        ("/authors", "/authors"),
        ("/auth.html", "/auth.html"),
        ("/Auth/login", "/Auth/login"),
        ("/x/auth/login", "/x/auth/login"),
        ("/.well-known/x", "/.well-known/x"),
        ("/..a", "/..a"),
        ("/q?<\"'>`{|}^", "/q?<\"'>`{|}^"),
        ("https://shop.example.com", "https://shop.example.com/"),
        ("https://shop.example.com/a?b#c", "https://shop.example.com/a?b#c"),
        ("https://shop.example.com:443/a", "https://shop.example.com/a"),
        ("HTTPS://SHOP.example.COM/A", "https://shop.example.com/A"),
        ("https://shop.example.com?x", "https://shop.example.com/?x"),
        ("https://shop.example.com#x", "https://shop.example.com/#x"),
        ("https://shop.example.com?@evil.example", "https://shop.example.com/?@evil.example"),
        ("https://www.example.com/%7Eme", "https://www.example.com/~me"),
        ("https://www.example.com/auth/done", "https://www.example.com/auth/done"),
        ("https://good.example:8443/a", "https://good.example:8443/a"),
        ("http://127.0.0.1:3000/a", "http://127.0.0.1:3000/a"),
        ("https://www.example.com/?q=\"<>'", "https://www.example.com/?q=%22%3C%3E%27"),
    ] {
        assert_eq!(parse(text).as_ref().map(ReturnTo::location), Some(location), "{text}");
    }
}

/// Known spellings of open redirects, most of them out of advisories against other gateways.
const ATTACKS: &[&str] = &[
    // Nothing, and what is not a path.
    "",
    " ",
    "a",
    "a/b",
    "?x",
    "#x",
    ".",
    "..",
    "/...",
    "/%20",
    "./a",
    "../a",
    "shop.example.com",
    "shop.example.com/a",
    "evil.example",
    "www.evil.example/a",
    // Network-path references, and what browsers make them of.
    "//evil.example",
    "//evil.example/%2f..",
    "//shop.example.com",
    "//shop.example.com@evil.example",
    "///evil.example",
    "////evil.example",
    "/////evil.example",
    "/\\evil.example",
    "/\\/evil.example",
    "//\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\evil.example",
    "/\\\\evil.example",
    "/a\\b",
    "/a?b=\\",
    "/a#\\",
    // White space and control characters, which browsers drop.
    " //evil.example",
    " /a",
    "/ /evil.example",
    "/ //evil.example",
    "/\t/evil.example",
    "/\t//evil.example",
    "/\t/\t\\evil.example",
    "\t//evil.example",
    "/\n/evil.example",
    "\n//evil.example",
    "/\r/evil.example",
    "/\r\n/evil.example",
    "/\r\\evil.example",
    "/\u{b}/evil.example",
    "/\u{c}/evil.example",
    "/\u{85}/evil.example",
    "/\u{a0}/evil.example",
    "/\u{2028}/evil.example",
    "/\u{3000}/evil.example",
    "\u{feff}//evil.example",
    "/a\0",
    "/\0/evil.example",
    "/a\r\nSet-Cookie: __Host-menshen=x",
    "/a\nLocation: https://evil.example",
    "/a?x=\r\ny",
    "/a#\u{7f}",
    "/a b",
    "/a?b c",
    "/é\n",
    "/商城/../x",
    "//商城",
    // Dots and empty segments, which normalisers resolve into the above.
    "/.",
    "/..",
    "/./",
    "/../",
    "/.//evil.example",
    "/..//evil.example",
    "/./evil.example/../..//evil.example",
    "/./\\evil.example",
    "/../\\evil.example",
    "/.\\evil.example",
    "/..\\evil.example",
    "/.\t/evil.example",
    "/a/..//evil.example",
    "/a//evil.example",
    "/a/../b",
    "/a//b",
    "/;/evil.example",
    "/a;b",
    // Escapes, once and twice.
    "%2f%2fevil.example",
    "%2F%2Fevil.example",
    "/%2fevil.example",
    "/%2Fevil.example",
    "/%2f/evil.example",
    "/%5cevil.example",
    "/%5C%5Cevil.example",
    "/%5C%5Cevil.example/%252e%252e%252f",
    "/%09/evil.example",
    "/%0a/evil.example",
    "/%0d/evil.example",
    "/%0d%0aSet-Cookie:x",
    "/%0d\\evil.example",
    "/%00/evil.example",
    "/%252fevil.example",
    "/%255cevil.example",
    "/%2e%2e//evil.example",
    "/%2e/",
    "/%2e%2e/",
    "/%2e%2e%2fevil.example",
    "/%c0%af/evil.example",
    "/%e3%80%af%ff",
    "/%",
    "/%2",
    "/%zz",
    "/%u002f",
    "/a%3bb",
    "/a%23b",
    "/a%3fb",
    // Other schemes.
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "java\tscript:alert(1)",
    "javascript://shop.example.com/%0aalert(1)",
    "javascript://www.example.com/?%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data://shop.example.com/,x",
    "vbscript:x",
    "file:///etc/passwd",
    "file://shop.example.com/etc/passwd",
    "ftp://shop.example.com/",
    "ws://shop.example.com/",
    "wss://shop.example.com/",
    "blob:https://shop.example.com/x",
    "view-source:https://shop.example.com/",
    "about:blank",
    "mailto:me@shop.example.com",
    "://shop.example.com/",
    ":https://shop.example.com/",
    "weixin://dl/",
    // Of the web, yet spelt to be misread.
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:shop.example.com",
    "https:/shop.example.com",
    "https:///shop.example.com",
    "https:////shop.example.com",
    "https:\\\\shop.example.com",
    "https:/\\shop.example.com",
    "https://\\shop.example.com",
    "https://",
    "https:///",
    "https://?x",
    "https://#x",
    "https",
    "https:",
    "https://shop.example.com\\.evil.example",
    "https://shop.example.com\\@evil.example",
    "https://evil.example\\@shop.example.com",
    "https://evil.example\\.shop.example.com",
    "https://shop.example.com\t/",
    " https://shop.example.com/",
    "https://shop.example.com/ ",
    "https://shop.exa\nmple.com/",
    "h\nttps://shop.example.com/",
    // Other origins.
    "http://shop.example.com",
    "http://shop.example.com:443/",
    "http://www.example.com/",
    "https://127.0.0.1:3000/",
    "https://shop.example.com:80/",
    "https://shop.example.com:3838/",
    "https://shop.example.com:0/",
    "https://shop.example.com:99999/",
    "https://shop.example.com:443x/",
    "https://shop.example.com:evil.example/",
    "https://shop.example.com:443:8443/",
    "https://good.example/",
    "https://good.example:443/",
    "https://shop.example.com./",
    "https://shop.example.com.:443/",
    "https://.shop.example.com/",
    "https://evil.example",
    "https://evil.example/shop.example.com",
    "https://evil.example?x=shop.example.com",
    "https://evil.example#shop.example.com",
    "https://evil.example?https://shop.example.com/",
    "https://evil.example#@shop.example.com",
    "https://evil.example/@shop.example.com",
    "https://shop.example.com.evil.example",
    "https://evilshop.example.com",
    "https://evil.shop.example.com",
    "https://shop.example.com-evil.example",
    "https://shop.example.comevil.example",
    "https://example.com",
    "https://com",
    "https://shop.example.com%00.evil.example",
    "https://evil.example%00.shop.example.com",
    "https://evil.example%2f.shop.example.com",
    "https://evil.example%5c.shop.example.com",
    "https://evil.example%23.shop.example.com",
    "https://evil.example%252f@shop.example.com",
    "https://evil.example;shop.example.com",
    "https://evil.example,shop.example.com",
    "https://sh\u{f6}p.example.com",
    "https://xn--shp-sna.example.com",
    "https://shop\u{3002}example\u{3002}com/",
    "https://\u{ff53}hop.example.com/",
    "https://shop.example.com\u{ad}/",
    "https://2130706433:3000/",
    "http://2130706433/",
    "http://[::1]:3000/",
    "http://[::ffff:127.0.0.1]:3000/",
    "http://localhost:3000/",
    "http://127.0.0.1/",
    "https://[::1",
    "https://[shop.example.com]/",
    // Users.
    "https://shop.example.com@evil.example",
    "https://shop.example.com:443@evil.example/",
    "https://shop.example.com%2f@evil.example/",
    "https://me@shop.example.com/",
    "https://me:secret@shop.example.com/",
    "https://@shop.example.com/",
    "https://:@shop.example.com/",
    "https://evil.example@shop.example.com/",
    "https://a@b@shop.example.com/",
    // Paths of the right origin, refused as above.
    "https://shop.example.com//evil.example",
    "https://shop.example.com/../a",
    "https://shop.example.com/a/%2e%2e/b",
    "https://shop.example.com/%2f",
    "https://shop.example.com/%5c",
    "https://shop.example.com/%00",
    "https://shop.example.com/;x",
    "https://shop.example.com/\"",
    "https://www.example.com//",
    // The login's own.
    "/auth",
    "/auth/",
    "/auth?x",
    "/auth#x",
    "/auth/login",
    "/auth/login?return_to=/auth/login",
    "/auth/web/site/start",
    "/auth/web/site/callback?code=x&state=y",
    "/%61uth/login",
    "/aut%68",
    "/%61%75%74%68/web/site/start",
    "https://shop.example.com/auth",
    "https://shop.example.com/auth/login",
    "https://SHOP.example.com:443/%61uth/login",
];

#[test]
fn no_known_spelling_of_an_open_redirect_is_accepted() {
    for text in ATTACKS {
        assert_eq!(parse(text), None, "{text:?}");
    }
    assert!(ATTACKS.len() >= 200);
}

#[test]
fn return_to_length_is_limited() {
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));

    assert!(parse(&path(2048)).is_some());
    for length in [2049, 8192, 1 << 20] {
        assert_eq!(parse(&path(length)), None);
        assert_eq!(parse(&format!("/?{}", "a".repeat(length))), None);
    }
    assert!(parse(&format!("/{}", "中".repeat(200))).is_some());
    assert_eq!(parse(&format!("/{}", "中".repeat(300))), None, "2048 bytes with its escapes");
}

#[test]
fn plain_http_loopback_may_return_to_itself() {
    let own = origin("http://127.0.0.1:8080");

    for (text, expected) in [
        ("/a", Some("/a")),
        ("http://127.0.0.1:8080/a", Some("http://127.0.0.1:8080/a")),
        ("http://127.1:8080/a", Some("http://127.0.0.1:8080/a")),
        ("https://127.0.0.1:8080/a", None),
        ("http://127.0.0.1:8081/a", None),
        ("http://localhost:8080/a", None),
    ] {
        let place = ReturnTo::parse(text, &own, &[], "/auth");
        assert_eq!(place.as_ref().map(ReturnTo::location), expected, "{text}");
    }
}

/// Pieces that make hostile places likely.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "//",
        "\\",
        ".",
        "..",
        "%2f",
        "%5c",
        "%2e",
        "%09",
        "%00",
        "%25",
        "\t",
        "\n",
        "\r",
        " ",
        "\0",
        "@",
        ":",
        ":443",
        ":8443",
        "?",
        "#",
        ";",
        "a",
        "auth",
        "%61",
        "https:",
        "https://",
        "http://",
        "javascript:",
        "data:",
        "shop.example.com",
        "www.example.com",
        "good.example",
        "evil.example",
        "127.0.0.1",
        ":3000",
        "[",
        "]",
        "\u{3002}",
        "\u{ad}",
        "é",
        "\"",
        "<",
        "'",
        "&",
        "=",
    ]);
    let pieces = prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat());
    prop_oneof![
        4 => pieces.clone(),
        4 => pieces.clone().prop_map(|rest| format!("/{rest}")),
        4 => pieces.clone().prop_map(|rest| format!("https://shop.example.com{rest}")),
        2 => pieces.prop_map(|rest| format!("https://{rest}")),
        1 => any::<String>(),
        1 => any::<String>().prop_map(|rest| format!("/{rest}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn accepted_return_to_resolves_to_an_allowed_origin(text in hostile()) {
        let Some(place) = parse(&text) else { return Ok(()) };
        let location = place.location();

        prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{location}");
        let url = Url::parse(OWN).unwrap().join(location).unwrap();
        let reached = url.origin().ascii_serialization();
        prop_assert!(reached == OWN || ALLOWED.contains(&reached.as_str()), "{text:?} leads to {url}");
        prop_assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        let is_login = reached == OWN && (url.path() == "/auth" || url.path().starts_with("/auth/"));
        prop_assert!(!is_login, "{text:?} leads to {url}");
        // What was accepted is accepted again, as it is: a record keeps it as text.
        prop_assert_eq!(parse(location), Some(place));
    }
}
