//! Sign-in with a browser: seen from a browser (Chromium, a gateway, an emulated WeChat and its
//! phone), and on the wire.

mod attacks;
mod emulator;
mod hand_over;
mod in_wechat;
mod logout;
mod one_person;
mod other_origin;
mod other_site;
mod refusal_pages;
mod screenshots;
mod shared;
mod sign_in;

use crate::common::Site;
use crate::common::browser::{Browser, Tab};

/// Opens the phone's page in a tab of its own, scans as a person, and presses this button.
pub fn use_phone(browser: &Browser, url: &str, person: &str, answer: &str) {
    let phone = browser.open(url);
    phone.click(&format!("input[value={person}]"));
    phone.click("button[value=scan]");
    phone.click(&format!("button[value={answer}]"));
    phone.wait_for_text(if answer == "confirm" { "Confirmed" } else { "Scan" });
}

/// The phone confirms the QR code that was shown last.
fn confirm_on_phone(site: &Site, browser: &Browser, person: &str) {
    use_phone(browser, &site.phone_url(&site.next_qr_code()), person, "confirm");
}

/// Waits until the tab shows what the backend was told of a person, at this address.
fn assert_signed_in(site: &Site, tab: &Tab<'_>, appid: &str, person: &str, path: &str) {
    tab.wait_for_text("X-WX-OPENID");
    let openid = site.world.emulator.openid(appid, person);
    assert!(tab.text().contains(&format!("X-WX-OPENID: {openid}\n")), "{}", tab.text());
    // An empty fragment keeps WeChat's own from going on through redirects.
    assert_eq!(tab.url().trim_end_matches('#'), site.url(path));
    assert!(!tab.text().contains("menshen"), "a cookie of the gateway: {}", tab.text());
}
