//! The official account: the browser is WeChat's own.

use menshen::emulator::Config;

use super::assert_signed_in;
use crate::common::browser::{Browser, Tab};
use crate::common::site::{ACCOUNT_APPID, SESSION};
use crate::common::{Site, eventually};

/// WeChat's browser on a phone of this person.
fn open_in_wechat<'a>(browser: &'a Browser, person: &str, url: &str) -> Tab<'a> {
    let tab = browser.open("about:blank");
    tab.set_size(390, 844);
    tab.set_user_agent(&format!(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.60 NetType/WIFI Language/zh_CN wxid/{person}"
    ));
    tab.go(url);
    tab
}

#[test]
fn official_account_signs_in_without_a_page_of_ours() {
    let site = Site::with(Config::default(), &[("snsapi_userinfo", "snsapi_base")]);
    let browser = Browser::start();

    let tab = open_in_wechat(&browser, "bob", &site.url("/orders/7?a=b"));

    assert_signed_in(&site, &tab, ACCOUNT_APPID, "bob", "/orders/7?a=b");
    // What was redirected leaves nothing for the back button.
    assert_eq!(tab.history(), ["about:blank", &site.url("/orders/7?a=b#")]);
    assert!(!tab.text().contains("X-WX-UNIONID"), "snsapi_base tells none");
}

#[test]
fn official_account_that_asks_for_the_profile_shows_the_page_of_wechat_alone() {
    let site = Site::new();
    let browser = Browser::start();

    let tab = open_in_wechat(&browser, "bob", &site.url("/orders"));
    tab.wait_for_url(&format!("{}/connect/oauth2/authorize?", site.world.emulator_url()));
    tab.click("#allow");

    assert_signed_in(&site, &tab, ACCOUNT_APPID, "bob", "/orders");
    let unionid = site.world.emulator.unionid(ACCOUNT_APPID, "bob").unwrap();
    assert!(tab.text().contains(&format!("X-WX-UNIONID: {unionid}\n")));
    assert!(tab.text().contains("X-WX-NICKNAME: bob\n"));
}

#[test]
fn visitor_of_a_snapshot_page_is_asked_to_open_the_full_page_and_gets_no_session() {
    let site = Site::new();
    let browser = Browser::start();

    let tab = open_in_wechat(&browser, "ghost", &site.url("/orders"));
    tab.click("#allow");
    tab.wait_for_url(&site.url("/auth/web/account/callback?"));

    eventually("the page explains itself", || tab.text().contains("完整"));
    assert_eq!(browser.cookie(SESSION), None);
    assert_eq!(site.world.backend.count(), 0);
}

/// WeChat gives a new code for the state that is used.
#[test]
fn person_who_goes_back_to_the_page_of_wechat_and_agrees_again_is_led_on() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = open_in_wechat(&browser, "bob", &site.url("/orders"));
    tab.click("#allow");
    assert_signed_in(&site, &tab, ACCOUNT_APPID, "bob", "/orders");
    let session = browser.cookie(SESSION);

    tab.back();
    tab.wait_for_url(&format!("{}/connect/oauth2/authorize?", site.world.emulator_url()));
    tab.click("#allow");

    assert_signed_in(&site, &tab, ACCOUNT_APPID, "bob", "/orders");
    assert_eq!(browser.cookie(SESSION), session);
    assert_eq!(site.exchanges(), 1);
}
