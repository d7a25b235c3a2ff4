//! The way through a website's QR code, and everything that goes wrong on it.

use std::time::Duration;

use menshen::emulator::{Config, RefusedSignIn};
use serde_json::json;

use super::{assert_signed_in, confirm_on_phone, use_phone};
use crate::common::browser::{Browser, Tab};
use crate::common::site::{BROWSER, SESSION, SITE_APPID};
use crate::common::{Site, Visitor};

/// What a person opens: what stands in it must come back as it is.
const PAGE: &str = "/orders/7?sort=date&from=%2Fa%20b&name=%E5%B0%8F%E5%BA%97";

/// The link that leads to WeChat's page without any script.
const LINK: &str = "a[href*='/auth/web/site/start']";

fn await_sign_in_page(site: &Site, tab: &Tab<'_>) {
    tab.wait_for_url(&site.url("/auth/login?"));
    tab.wait_for(LINK);
}

#[test]
fn person_who_opens_a_protected_page_scans_the_code_in_the_page_and_is_back_on_it() {
    let site = Site::new();
    let browser = Browser::start();

    let tab = browser.open(&site.url(PAGE));
    await_sign_in_page(&site, &tab);
    assert_eq!(site.world.backend.count(), 0);
    confirm_on_phone(&site, &browser, "bob");

    assert_signed_in(&site, &tab, SITE_APPID, "bob", PAGE);
    assert!(tab.text().contains("X-WX-SOURCE: wx_http\n"));
    assert!(tab.text().contains(&format!("X-WX-APPID: {SITE_APPID}\n")));
    let unionid = site.world.emulator.unionid(SITE_APPID, "bob").unwrap();
    assert!(tab.text().contains(&format!("X-WX-UNIONID: {unionid}\n")));
    assert!(tab.text().contains("X-WX-NICKNAME: bob\n"), "{}", tab.text());
}

#[test]
fn browser_keeps_the_session_as_it_should_and_no_script_sees_it() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");

    let cookies = browser.cookies();
    for name in [SESSION, BROWSER] {
        let cookie = cookies.iter().find(|cookie| cookie["name"] == name).unwrap_or_else(|| panic!("{name}"));
        for (attribute, value) in [
            ("domain", json!("127.0.0.1")),
            ("path", json!("/")),
            ("httpOnly", json!(true)),
            ("secure", json!(true)),
            ("sameSite", json!("Lax")),
        ] {
            assert_eq!(cookie[attribute], value, "{attribute} of {cookie}");
        }
    }
    assert_eq!(cookies.len(), 2 + wechat_cookies(&cookies), "{cookies:?}");
    assert_eq!(tab.evaluate("document.cookie"), json!(""));
    assert_eq!(site.world.backend.last().header("cookie"), Vec::<String>::new());
}

/// Cookies of another host than the gateway's.
fn wechat_cookies(cookies: &[serde_json::Value]) -> usize {
    cookies.iter().filter(|cookie| !cookie["name"].as_str().unwrap().starts_with("__Host-")).count()
}

#[test]
fn browser_without_scripts_signs_in_by_the_plain_link() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open("about:blank");
    tab.disable_scripts();

    tab.go(&site.url(PAGE));
    await_sign_in_page(&site, &tab);
    tab.click(LINK);
    tab.wait_for_url(&format!("{}/connect/qrconnect?", site.world.emulator_url()));
    confirm_on_phone(&site, &browser, "alice");

    assert_signed_in(&site, &tab, SITE_APPID, "alice", PAGE);
}

#[test]
fn where_the_script_of_wechat_does_not_load_the_link_still_signs_in() {
    let site = Site::with(
        Config::default(),
        &[("'{emulator}/connect/zh_CN/htmledition/js/wxLogin.js'", "'http://127.0.0.1:9/wxLogin.js'")],
    );
    let browser = Browser::start();

    let tab = browser.open(&site.url(PAGE));
    await_sign_in_page(&site, &tab);
    assert_eq!(site.world.emulator.qr_codes(), []);
    tab.click(LINK);
    confirm_on_phone(&site, &browser, "alice");

    assert_signed_in(&site, &tab, SITE_APPID, "alice", PAGE);
}

#[test]
fn refusal_on_the_phone_leaves_the_code_to_be_scanned_again() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url(PAGE));
    await_sign_in_page(&site, &tab);
    let phone = site.phone_url(&site.next_qr_code());

    use_phone(&browser, &phone, "alice", "cancel");
    assert_eq!(browser.cookie(SESSION), None);
    use_phone(&browser, &phone, "bob", "confirm");

    assert_signed_in(&site, &tab, SITE_APPID, "bob", PAGE);
}

/// As older documents of WeChat have it: the browser comes back with the state and no code.
#[test]
fn refusal_on_wechats_page_gives_a_page_to_try_again() {
    let config = Config { refused_sign_in: RefusedSignIn::Redirect, ..Config::default() };
    let site = Site::with(config, &[]);
    let browser = Browser::start();
    let tab = browser.open(&site.url(PAGE));
    await_sign_in_page(&site, &tab);

    use_phone(&browser, &site.phone_url(&site.next_qr_code()), "alice", "cancel");
    tab.wait_for_url(&site.url("/auth/web/site/callback?"));
    assert_eq!(browser.cookie(SESSION), None);
    assert_eq!(site.exchanges(), 0);
    tab.click("a[href*='/auth/']");
    confirm_on_phone(&site, &browser, "bob");

    assert_signed_in(&site, &tab, SITE_APPID, "bob", PAGE);
}

#[test]
fn expired_qr_code_is_renewed_and_the_next_one_signs_in() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url(PAGE));

    site.world.emulator.expire(&site.next_qr_code()).unwrap();
    confirm_on_phone(&site, &browser, "alice");

    assert_signed_in(&site, &tab, SITE_APPID, "alice", PAGE);
}

#[test]
fn sign_in_that_took_too_long_gives_a_page_to_try_again() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url(PAGE));
    await_sign_in_page(&site, &tab);
    let mut visitor = Visitor::at(site.world.address());
    visitor.cookies.insert(BROWSER.to_owned(), browser.cookie(BROWSER).unwrap());
    let begun = visitor.begin("site", PAGE);

    site.next_qr_code();

    site.world.clock.advance(Duration::from_secs(601));
    tab.go(&site.url(&begun.callback(&site.world.emulator, "alice")));
    assert_eq!(browser.cookie(SESSION), None);
    tab.click("a[href*='/auth/']");
    confirm_on_phone(&site, &browser, "alice");

    assert_signed_in(&site, &tab, SITE_APPID, "alice", PAGE);
    assert_eq!(site.exchanges(), 1);
}

#[test]
fn two_tabs_that_began_at_once_both_finish() {
    let site = Site::new();
    let browser = Browser::start();
    let one = browser.open(&site.url("/one"));
    let first = site.next_qr_code();
    let two = browser.open(&site.url("/two"));
    let second = site.next_qr_code();

    use_phone(&browser, &site.phone_url(&second), "alice", "confirm");
    assert_signed_in(&site, &two, SITE_APPID, "alice", "/two");
    use_phone(&browser, &site.phone_url(&first), "alice", "confirm");
    assert_signed_in(&site, &one, SITE_APPID, "alice", "/one");

    two.go(&site.url("/two/again"));
    assert_signed_in(&site, &two, SITE_APPID, "alice", "/two/again");
}

#[test]
fn back_button_after_a_sign_in_leads_to_no_dead_end() {
    let site = Site::new();
    let browser = Browser::start();
    for has_scripts in [true, false] {
        let tab = browser.open("about:blank");
        if !has_scripts {
            tab.disable_scripts();
        }
        tab.go(&site.url("/pub/before"));
        let person = if has_scripts { "alice" } else { "bob" };
        if has_scripts {
            tab.go(&site.url("/orders"));
        } else {
            let mut visitor = Visitor::at(site.world.address());
            visitor.cookies.insert(SESSION.to_owned(), browser.cookie(SESSION).unwrap());
            visitor.send("POST", "/auth/logout", "Content-Type: application/json\r\n", "{}");
            tab.go(&site.url("/orders"));
            tab.click(LINK);
        }
        confirm_on_phone(&site, &browser, person);
        assert_signed_in(&site, &tab, SITE_APPID, person, "/orders");

        let pages = tab.history();
        for page in pages[2..pages.len() - 1].iter().rev() {
            tab.back();
            // The page that was wanted, or one to sign in on once more.
            let is_way_on = |tab: &Tab<'_>| {
                tab.text().contains("X-WX-OPENID") || tab.has(LINK) || tab.has("a[href*='/connect/confirm']")
            };
            tab.wait(page, is_way_on);
        }
        assert!(browser.cookie(SESSION).is_some());
    }
}
