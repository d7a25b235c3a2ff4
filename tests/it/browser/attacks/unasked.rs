//! What a page of another site has its visitor's browser send: it locks no user out, and uses up
//! nothing that the people at the visitor's address share.

use menshen::emulator::Config;

use super::outcomes;
use crate::common::{Site, Visitor};

const OFTEN: usize = 12;
const HTML: &str = "Accept: text/html,application/xhtml+xml\r\n";
const PICTURE: &str = "Accept: image/avif,image/webp,*/*;q=0.8\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// Each user at an address may do once what [`assert_no_visitor_suffers`] has them do.
fn site() -> Site {
    Site::with(
        Config::default(),
        &[
            ("\n  login: { rate: 1000000/s, burst: 1000000 }", "\n  login: { rate: 1/min, burst: 2 }"),
            ("sign_in: { rate: 1000000/s, burst: 1000000 }", "sign_in: { rate: 1/min, burst: 1 }"),
        ],
    )
}

#[track_caller]
fn assert_no_visitor_suffers(site: &Site, tried: &str) {
    let mut person = Visitor::at(site.world.address());
    person.sign_in(&site.world.emulator, "site", "alice");
    assert_eq!(person.open("/page").status, 200, "{tried}");
    let code = site.world.code("bob");
    let login = site.world.login_with(&format!(r#"{{"code":"{code}","app":"shop"}}"#));
    assert_eq!(login.status, 200, "{tried}: {}", login.text());
}

#[test]
fn no_get_that_another_site_has_a_browser_send_locks_out_its_address() {
    let chromium = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let rows = [
        ("prefetch", format!("Sec-Purpose: prefetch\r\nSec-Fetch-Site: none\r\n{chromium}{HTML}"), false),
        (
            "prerender",
            format!("Sec-Purpose: prefetch;prerender\r\nSec-Fetch-Site: none\r\n{chromium}{HTML}"),
            false,
        ),
        ("prefetch of older browsers", format!("Purpose: prefetch\r\nX-Moz: prefetch\r\n{HTML}"), false),
        ("picture", format!("Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n{PICTURE}"), false),
        ("picture of an older browser", PICTURE.to_owned(), false),
        ("script of an older browser", "Accept: */*\r\n".to_owned(), false),
        ("popup, form or redirect", format!("Sec-Fetch-Site: cross-site\r\n{chromium}{HTML}"), true),
        ("page of a neighbour", format!("Sec-Fetch-Site: same-site\r\n{chromium}{HTML}"), true),
        ("frame or popup of an older browser", HTML.to_owned(), true),
    ];
    for (tried, headers, is_page) in &rows {
        let site = site();
        let visitor = Visitor::at(site.world.address());
        for guess in 0..OFTEN {
            for path in [
                format!("/auth/web/site/callback?code=a{guess}&state=a{guess}"),
                "/auth/web/site/start?return_to=%2Fpage".to_owned(),
                "/auth/login?return_to=%2Fpage".to_owned(),
            ] {
                let answer = visitor.send_only("GET", &path, headers, "");
                let is_refused = answer.status == 403 && answer.text().contains("not_navigated");
                assert_eq!(is_refused, !is_page, "{tried}: {path}: {} {}", answer.status, answer.text());
            }
        }
        let unknown = outcomes(&site, "website", "state_unknown");
        assert_eq!(unknown > 0.0, *is_page, "{tried}: {unknown}");

        assert_no_visitor_suffers(&site, tried);
    }
}

#[test]
fn no_post_that_another_site_has_a_browser_send_locks_out_its_address() {
    let rows = [
        ("form", format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n{FORM}{HTML}")),
        ("script", format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n{FORM}")),
        ("script that reads", format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n{FORM}")),
        ("form of an older browser", format!("Origin: https://evil.example\r\n{FORM}{HTML}")),
        ("form in a sandbox", format!("Origin: null\r\n{FORM}{HTML}")),
    ];
    let made_up = format!("refresh_token={}", "A".repeat(86));
    for (tried, headers) in &rows {
        let site = site();
        let visitor = Visitor::at(site.world.address());
        for guess in 0..OFTEN {
            let code = format!("app=shop&code=a{guess}");
            for (path, body) in
                [("/auth/login", &code), ("/auth/refresh", &made_up), ("/auth/logout", &made_up)]
            {
                let answer = visitor.send_only("POST", path, headers, body);
                assert_eq!(answer.status, 403, "{tried}: {path}: {}", answer.text());
            }
        }

        assert_no_visitor_suffers(&site, tried);
        assert_eq!(site.world.exchanges(), 1, "{tried}: bob's alone");
    }
}
