//! Requests that scripts and pages of other sites make, and what a browser does with the answers.

use serde_json::json;

use super::{assert_signed_in, confirm_on_phone};
use crate::common::browser::Browser;
use crate::common::site::SITE_APPID;
use crate::common::{Backend, Reply, Site};

/// A page somewhere else, with a form that posts to the gateway.
fn elsewhere(target: &str) -> Backend {
    let html = format!(
        "<!doctype html><title>elsewhere</title><form method=post action='{target}'><button>Win</button></form>"
    );
    Backend::with(move |_| {
        let header = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length:";
        Reply::Bytes(format!("{header} {}\r\n\r\n{html}", html.len()).into_bytes())
    })
}

#[test]
fn script_without_a_session_gets_json_and_no_redirect() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/pub/page"));

    for accept in ["*/*", "application/json", "text/html"] {
        let answer = tab.evaluate(&format!(
            "fetch('/api/orders', {{ headers: {{ accept: '{accept}' }} }}).then(async answer => \
             [answer.status, answer.redirected, answer.headers.get('content-type'), (await answer.json()).code])"
        ));
        assert_eq!(answer, json!([401, false, "application/problem+json", "no_token"]), "{accept}");
    }
    assert_eq!(site.asked("/api/orders"), 0);
}

#[test]
fn script_of_the_same_site_may_do_everything_with_the_session() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");

    for method in ["GET", "POST", "PUT", "DELETE"] {
        let status =
            tab.evaluate(&format!("fetch('/x', {{ method: '{method}' }}).then(({{ status }}) => status)"));
        assert_eq!(status, json!(200), "{method}");
    }
    let session = tab.evaluate("fetch('/auth/session').then(answer => answer.json())");
    assert_eq!(session["openid"], site.world.emulator.openid(SITE_APPID, "alice"));
    assert_eq!(session["app"], "site");
}

/// 127.0.0.1 and localhost are two sites: the cookie is not sent. Two ports of one host are one: it
/// is, and the gateway must refuse by itself.
#[test]
fn form_of_another_site_or_origin_does_nothing_with_the_session() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");

    for path in ["/transfer", "/auth/logout"] {
        let elsewhere = elsewhere(&site.url(path));
        for (host, code) in [("127.0.0.1", "cross_site"), ("localhost", "no_token")] {
            tab.go(&format!("http://{host}:{}/", elsewhere.address().port()));
            tab.click("button");
            tab.wait_for_url(&site.url(path));
            if path == "/transfer" {
                tab.wait_for_text(code);
            }
        }
        assert_eq!(site.asked(path), 0);
    }
    tab.go(&site.url("/page"));
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
}

#[test]
fn script_of_another_origin_changes_nothing_with_the_session() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
    let elsewhere = elsewhere("/");

    tab.go(&format!("http://127.0.0.1:{}/", elsewhere.address().port()));
    let refused = tab.evaluate(&format!(
        "fetch('{}', {{ method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x' }}).then(({{ type }}) => type)",
        site.url("/transfer")
    ));

    assert_eq!(refused, json!("opaque"));
    assert_eq!(site.asked("/transfer"), 0);
    let refusals = site.world.metric(r#"menshen_refused_requests_total{reason="cross_site"}"#);
    assert_eq!(refusals, 1.0);
}

#[test]
fn route_that_allows_other_sites_accepts_their_forms() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
    let elsewhere = elsewhere(&site.url("/open-to-others"));

    tab.go(&format!("http://127.0.0.1:{}/", elsewhere.address().port()));
    tab.click("button");

    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/open-to-others");
    assert!(tab.text().starts_with("POST /open-to-others"));
}

#[test]
fn link_on_another_site_leads_a_signed_in_person_to_the_page() {
    let site = Site::new();
    let browser = Browser::start();
    let tab = browser.open(&site.url("/page"));
    confirm_on_phone(&site, &browser, "alice");
    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page");
    let elsewhere = elsewhere("/");

    tab.go(&format!("http://localhost:{}/", elsewhere.address().port()));
    tab.evaluate(&format!("location.href = '{}'", site.url("/page?from=elsewhere")));

    assert_signed_in(&site, &tab, SITE_APPID, "alice", "/page?from=elsewhere");
}
