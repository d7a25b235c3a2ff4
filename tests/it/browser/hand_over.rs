//! A page inside a mini program: the session of the mini program is handed over to it.

use crate::common::browser::Browser;
use crate::common::{APPID, Backend, Reply, Site, Visitor, leaks};
use crate::proxying::logged;

/// Signs a person in to the mini program, and returns the access token.
fn program(site: &Site, person: &str) -> String {
    let body = format!(r#"{{"code":"{}","app":"shop"}}"#, site.world.code(person));
    let response = site.world.login_with(&body);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["access_token"].as_str().unwrap().to_owned()
}

fn post(site: &Site, path: &str, token: &str) -> crate::common::Response {
    site.world.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    ))
}

/// The path of the page that a web-view opens.
fn page(site: &Site, token: &str, return_to: &str) -> String {
    let response = post(site, "/auth/ticket", token);
    assert_eq!(response.status, 200, "{}", response.text());
    let ticket = response.json()["ticket"].as_str().unwrap().to_owned();
    leaks::watch_for(&ticket);
    format!("/auth/ticket?t={ticket}&return_to={return_to}")
}

#[test]
fn page_in_a_mini_program_knows_its_user_until_the_mini_program_signs_out() {
    let site = Site::new();
    let token = program(&site, "alice");
    let mut web_view = Visitor::at(site.world.address());
    let path = page(&site, &token, "/page");

    let response = web_view.open(&path);

    assert_eq!((response.status, response.header("location")), (303, Some("/page")), "{}", response.text());
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(web_view.open("/page").status, 200);
    let request = site.world.backend.last();
    assert_eq!(request.header("x-wx-openid"), [site.world.emulator.openid(APPID, "alice")]);
    assert_eq!(request.header("x-wx-appid"), [APPID]);
    assert_eq!(request.header("x-wx-source"), ["wx_http"]);
    assert_eq!(request.header("cookie"), Vec::<&str>::new());
    let line = logged(&site.world, "/auth/ticket");
    assert_eq!((&line["reason"], &line["app"]), (&"ok".into(), &"shop".into()), "{line}");
    assert_eq!(Visitor::at(site.world.address()).open(&path).status, 403, "it is spent");

    assert_eq!(post(&site, "/auth/logout", &token).status, 204);

    assert_eq!(web_view.send_only("GET", "/page", "", "").status, 401);
}

/// 127.0.0.1 and localhost are two sites.
#[test]
fn link_of_another_site_signs_a_visitor_in_only_after_a_question() {
    let site = Site::new();
    let token = program(&site, "alice");
    let target = site.url(&page(&site, &token, "/page"));
    let html = format!("<!doctype html><title>elsewhere</title><a href='{target}'>Win</a>");
    let elsewhere = Backend::with(move |_| {
        let header = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length:";
        Reply::Bytes(format!("{header} {}\r\n\r\n{html}", html.len()).into_bytes())
    });
    let browser = Browser::speaking("en");
    let tab = browser.open(&format!("http://localhost:{}/", elsewhere.address().port()));

    tab.click("a");
    tab.wait_for_text("Is this your account?");
    assert_eq!(browser.cookie(crate::common::site::SESSION), None);
    tab.click("form button");

    super::assert_signed_in(&site, &tab, APPID, "alice", "/page");
}
