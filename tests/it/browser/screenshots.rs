//! Pictures of the pages, for people to look at: `screenshots` in cargo's target folder.

use menshen::emulator::Config;
use serde_json::json;

use super::confirm_on_phone;
use crate::common::browser::{self, Browser, Tab};
use crate::common::site::SITE_APPID;
use crate::common::{Site, Visitor};

const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
const WECHAT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.60";
const SIZES: [(u32, u32); 2] = [(390, 844), (1280, 800)];
const LANGUAGES: [(&str, &str); 2] = [("zh", "zh-CN,zh"), ("en", "en-US,en")];

/// Takes a picture of what a tab shows, which must not be wider than the window.
fn take(tab: &Tab<'_>, name: &str) {
    let fits = tab.evaluate("document.documentElement.scrollWidth <= innerWidth");
    assert_eq!(fits, json!(true), "{name}: {}", tab.text());
    tab.screenshot(&browser::screenshots().join(format!("{name}.png")));
}

fn sized(browser: &Browser, (width, height): (u32, u32)) -> Tab<'_> {
    let tab = browser.open("about:blank");
    tab.set_size(width, height);
    if width < 600 {
        tab.set_user_agent(PHONE);
    }
    tab
}

#[test]
fn pages_fit_a_phone_and_a_desktop_in_both_languages() {
    let site = Site::new();
    let mut taken = 0;
    for (language, languages) in LANGUAGES {
        let browser = Browser::speaking(languages);
        for size @ (width, height) in SIZES {
            for page in ["sign-in", "message", "in-wechat"] {
                let tab = sized(&browser, size);
                match page {
                    "sign-in" => {
                        tab.go(&site.url("/orders/7"));
                        site.next_qr_code();
                        tab.wait("the frame is there", |tab| tab.evaluate("frames.length") == json!(1));
                    }
                    "in-wechat" => {
                        tab.set_user_agent(WECHAT);
                        tab.go(&site.url("/auth/login?app=site"));
                    }
                    _ => {
                        let begun = Visitor::at(site.world.address()).begin("site", "/orders/7");
                        tab.go(&site.url(&begun.callback(&site.world.emulator, "alice")));
                    }
                }
                take(&tab, &format!("{page}-{language}-{width}x{height}"));
                taken += 1;
            }
        }
    }
    assert_eq!(taken, 12);
}

#[test]
fn sign_in_page_with_several_apps_fits_a_phone_and_a_desktop() {
    let more = "site: { kind: website, appid: wxe000000000000004, secret: emulator-secret-4, title: 小店 }
  office: { kind: website, appid: wxe000000000000006, secret: x, title: Back office }
  depot: { kind: website, appid: wxe000000000000007, secret: x, title: 仓库 }";
    let one = "site: { kind: website, appid: wxe000000000000004, secret: emulator-secret-4, title: 小店 }";
    let site = Site::with(Config::default(), &[(one, more)]);
    for (language, languages) in LANGUAGES {
        let browser = Browser::speaking(languages);
        for size @ (width, height) in SIZES {
            let tab = sized(&browser, size);
            tab.go(&site.url("/auth/login?return_to=%2F&app=site&app=office&app=depot&app=account"));
            tab.wait("the frame is there", |tab| tab.evaluate("frames.length") == json!(1));
            assert!(tab.has("a[href*='/auth/web/depot/start']"));
            take(&tab, &format!("several-{language}-{width}x{height}"));
        }
    }
}

#[test]
fn pages_that_sign_out_fit_a_phone_and_a_desktop() {
    let route = "  - { name: members, path: /members, access: authenticated, allow_lists: [members], upstream: backend }\n";
    let lists = format!("\nlists: {{ members: {{}} }}\nroutes:\n{route}");
    let site = Site::with(Config::default(), &[("\nroutes:\n", &lists)]);
    for (language, languages) in LANGUAGES {
        let browser = Browser::speaking(languages);
        let tab = browser.open(&site.url("/page"));
        confirm_on_phone(&site, &browser, "alice");
        super::assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
        for size @ (width, height) in SIZES {
            let tab = sized(&browser, size);
            tab.go(&site.url("/members"));
            tab.wait_for("form button");
            take(&tab, &format!("not-admitted-{language}-{width}x{height}"));
            // What the gateway cannot make sense of ends nothing.
            tab.evaluate(
                "document.body.innerHTML = '<form method=post action=/auth/logout><input name=everywhere value=maybe></form>'; \
                 document.forms[0].submit()",
            );
            tab.wait_for_url(&site.url("/auth/logout"));
            tab.wait_for("form button");
            take(&tab, &format!("still-signed-in-{language}-{width}x{height}"));
        }
    }
}

#[test]
fn page_of_a_long_wait_fits_a_phone_and_a_desktop() {
    let site = Site::with(
        Config::default(),
        &[("sign_in: { rate: 1000000/s, burst: 1000000 }", "sign_in: { rate: 4/h, burst: 1 }")],
    );
    let typed = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Site: none\r\n";
    let start = Visitor::at(site.world.address()).send_only("GET", "/auth/web/site/start", typed, "");
    assert_eq!(start.status, 303, "{}", start.text());
    for (language, languages) in LANGUAGES {
        let browser = Browser::speaking(languages);
        for size @ (width, height) in SIZES {
            let tab = sized(&browser, size);
            tab.go(&site.url("/auth/web/site/start"));
            tab.wait_for_text("15");
            take(&tab, &format!("wait-{language}-{width}x{height}"));
        }
    }
}
