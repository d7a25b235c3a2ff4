//! D4: the gateway's own address comes from its configuration alone.

use crate::common::{Site, Visitor};

#[test]
fn headers_of_proxies_change_neither_the_way_back_nor_a_cookie() {
    let site = Site::new();
    for header in [
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: javascript",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: //evil.example",
        "X-Forwarded-Server: evil.example",
        "X-Original-Host: evil.example",
        "X-Original-URL: //evil.example/",
        "X-Rewrite-URL: //evil.example/",
        "X-Host: evil.example",
        "Forwarded: host=evil.example;proto=https",
        "Origin: https://evil.example",
        "Referer: https://evil.example/",
    ] {
        let mut visitor = Visitor::at(site.world.address());
        let headers = format!("{header}\r\nAccept: text/html\r\n");
        let start = visitor.send("GET", "/auth/web/site/start?return_to=%2Fpage", &headers, "");
        assert_eq!(start.status, 303, "{header}: {}", start.text());
        let location = start.header("location").unwrap();
        assert!(
            location.starts_with(&format!("{}/connect/qrconnect?", site.world.emulator_url())),
            "{location}"
        );
        assert!(!location.contains("evil") && !location.contains("javascript"), "{location}");
        let begun = crate::common::visitor::Begun::at(location);
        assert_eq!(begun.redirect_uri, site.url("/auth/web/site/callback"), "{header}");

        let path = begun.callback(&site.world.emulator, "alice");
        let back = visitor.send("GET", &path, &headers, "");
        assert_eq!((back.status, back.header("location")), (303, Some("/page")), "{header}");
        for answer in [&start, &back] {
            for cookie in super::set_cookies(answer) {
                assert!(!cookie.to_ascii_lowercase().contains("domain"), "{header}: {cookie}");
            }
        }
    }
}

#[test]
fn host_that_is_no_origin_of_the_gateway_gets_no_sign_in() {
    let site = Site::new();
    for host in ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "[::1]:{port}"] {
        let mut visitor = Visitor::at(site.world.address());
        visitor.host = host.replace("{port}", &site.port().to_string());
        for path in ["/auth/web/site/start?return_to=%2F", "/auth/login?return_to=%2F"] {
            let answer = visitor.open(path);
            assert!((400..500).contains(&answer.status), "{host} {path}: {}", answer.status);
            assert_eq!(answer.header("location"), None, "{host} {path}");
            assert_eq!(super::set_cookies(&answer), Vec::<&str>::new(), "{host} {path}");
        }
        // A page is not led to a sign-in that is not there.
        let answer = visitor.open("/page");
        assert_eq!((answer.status, answer.header("location")), (401, None), "{host}");
    }
}

#[test]
fn each_origin_has_a_way_back_of_its_own() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    visitor.host = format!("localhost:{}", site.port());

    let begun = visitor.begin("site", "/page");

    assert_eq!(begun.redirect_uri, format!("http://localhost:{}/auth/web/site/callback", site.port()));
    assert_eq!(visitor.come_back(&site.world.emulator, &begun, "alice").status, 303);
    assert_eq!(visitor.open("/page").status, 200);
}
