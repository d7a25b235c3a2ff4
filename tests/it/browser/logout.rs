//! Signing out from a page.

use menshen::emulator::Config;

use super::{assert_signed_in, confirm_on_phone};
use crate::common::browser::Browser;
use crate::common::site::{SESSION, SITE_APPID};
use crate::common::{Site, Visitor};

#[test]
fn signed_out_browser_is_asked_again_and_its_old_cookie_is_refused() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
    let mut thief = Visitor::at(site.world.address());
    thief.cookies.insert(SESSION.to_owned(), browser.cookie(SESSION).unwrap());
    assert_eq!(thief.open("/page").status, 200);

    tab.click("#logout");
    tab.wait("the cookie is gone", |_| browser.cookie(SESSION).is_none());

    assert_eq!(thief.send_only("GET", "/page", "", "").status, 401);
    let seen = site.asked("/page");
    tab.go(&site.url("/page"));
    tab.wait_for_url(&site.url("/auth/login?"));
    assert_eq!(site.asked("/page"), seen);
    confirm_on_phone(&site, &browser, "bob");
    assert_signed_in(&site, &tab, SITE_APPID, "bob", "/page");
}

#[test]
fn back_button_after_a_logout_shows_nothing_that_asks_the_backend() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
    tab.click("#logout");
    tab.wait("the cookie is gone", |_| browser.cookie(SESSION).is_none());
    let seen = site.asked("/page");

    tab.back();
    tab.evaluate("location.reload()");
    tab.wait_for_url(&site.url("/auth/login?"));

    assert_eq!(site.asked("/page"), seen);
}

/// What a form of a page of the same origin sends.
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\nAccept: text/html\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

#[test]
fn form_signs_out_here_or_everywhere_and_leads_to_a_page_of_this_site_alone() {
    let site = Site::new();
    for (body, status, location, elsewhere) in [
        ("", 200, None, 200),
        ("return_to=%2Fpub%2Fbye%3Fa%3Db", 303, Some("/pub/bye?a=b"), 200),
        ("everywhere=true&return_to=%2Fpub%2Fbye", 303, Some("/pub/bye"), 401),
        ("return_to=%2F%2Fevil.example", 200, None, 200),
        ("return_to=https%3A%2F%2Fevil.example%2F", 200, None, 200),
        ("return_to=%2F%5Cevil.example", 200, None, 200),
    ] {
        let [mut here, mut other] = [(); 2].map(|()| Visitor::at(site.world.address()));
        here.sign_in(&site.world.emulator, "site", "alice");
        other.sign_in(&site.world.emulator, "site", "alice");
        let mut thief = here.clone();

        let answer = here.send("POST", "/auth/logout", FORM, body);

        assert_eq!((answer.status, answer.header("location")), (status, location), "{body}");
        assert!(!here.cookies.contains_key(SESSION), "{body}");
        assert_eq!(thief.send_only("GET", "/page", "", "").status, 401, "{body}");
        assert_eq!(other.send_only("GET", "/page", "", "").status, elsewhere, "{body}");
        assert_eq!(thief.open("/page").status, 303, "{body}");
    }
}

/// A page that this account may not see: a user with two accounts must sign out of this one first.
#[test]
fn refused_user_can_sign_out_and_sign_in_as_another_user() {
    let route = "  - { name: members, path: /members, access: authenticated, allow_lists: [members], upstream: backend }\n";
    let lists = format!("\nlists: {{ members: {{}} }}\nroutes:\n{route}");
    let site = Site::with(Config::default(), &[("\nroutes:\n", &lists)]);
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
    let mut thief = Visitor::at(site.world.address());
    thief.cookies.insert(SESSION.to_owned(), browser.cookie(SESSION).unwrap());

    tab.go(&site.url("/members/7"));
    tab.click("form[action='/auth/logout'] button");

    tab.wait_for_url(&site.url("/auth/login?return_to=%2Fmembers%2F7&app="));
    assert_eq!(browser.cookie(SESSION), None);
    assert_eq!(thief.send_only("GET", "/page", "", "").status, 401);
}
