//! One person in a mini program, on a website and in an official account.

use menshen::emulator::Config;
use serde_json::{Value, json};

use crate::common::client::send_to_control;
use crate::common::site::{ACCOUNT_APPID, SITE_APPID};
use crate::common::{APPID, Response, Site, Visitor};
use crate::proxying::logged;

/// The users that a test needs: alice in three apps, and bob.
struct People {
    site: Site,
    token: String,
    website: Visitor,
    account: Visitor,
    bob: Visitor,
}

impl People {
    fn new() -> Self {
        let site = Site::new();
        let response =
            site.world.login_with(&format!(r#"{{"code":"{}","app":"shop"}}"#, site.world.code("alice")));
        assert_eq!(response.status, 200, "{}", response.text());
        let token = response.json()["access_token"].as_str().unwrap().to_owned();
        let [mut website, mut account, mut bob] = [(); 3].map(|()| Visitor::at(site.world.address()));
        website.sign_in(&site.world.emulator, "site", "alice");
        account.sign_in(&site.world.emulator, "account", "alice");
        bob.sign_in(&site.world.emulator, "site", "bob");
        Self { site, token, website, account, bob }
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// What each is answered: the mini program, the website, the official account, bob.
    fn statuses(&self) -> [u16; 4] {
        let of = |visitor: &Visitor| visitor.send_only("GET", "/page", "", "").status;
        let token = self.site.world.get("/page", &self.bearer()).status;
        [token, of(&self.website), of(&self.account), of(&self.bob)]
    }

    fn unionid(&self) -> String {
        self.site.world.emulator.unionid(APPID, "alice").unwrap()
    }

    fn operator(&self, request: &str) -> Response {
        send_to_control(self.site.world.control_socket(), request)
    }
}

#[test]
fn unionid_ties_mini_program_website_and_official_account_together() {
    let people = People::new();
    let backend = &people.site.world.backend;
    let mut told = Vec::new();
    for visit in ["token", "site", "account"] {
        let response = match visit {
            "token" => people.site.world.get("/page", &people.bearer()),
            "site" => people.website.send_only("GET", "/page", "", ""),
            _ => people.account.send_only("GET", "/page", "", ""),
        };
        assert_eq!(response.status, 200, "{visit}: {}", response.text());
        let request = backend.last();
        told.push((
            request.header("x-wx-unionid"),
            request.header("x-wx-appid"),
            request.header("x-wx-openid"),
        ));
    }

    for ((unionid, appid, openid), expected) in told.iter().zip([APPID, SITE_APPID, ACCOUNT_APPID]) {
        assert_eq!(*unionid, [people.unionid()]);
        assert_eq!(*appid, [expected]);
        assert_eq!(*openid, [people.site.world.emulator.openid(expected, "alice")]);
    }
}

#[test]
fn logout_everywhere_from_a_web_page_ends_the_person_in_every_app() {
    let mut people = People::new();
    assert_eq!(people.statuses(), [200, 200, 200, 200]);
    let headers = format!("Content-Type: application/json\r\nOrigin: {}\r\n", people.site.origin());

    let response = people.website.send("POST", "/auth/logout", &headers, r#"{"everywhere":true}"#);

    assert!(matches!(response.status, 204 | 303), "{}", response.text());
    assert_eq!(people.statuses(), [401, 401, 401, 200]);
}

#[test]
fn logout_everywhere_from_the_mini_program_ends_the_web_pages_too() {
    let people = People::new();
    let body = r#"{"everywhere":true}"#;

    let response = people.site.world.send(&format!(
        "POST /auth/logout HTTP/1.1\r\nHost: gateway.test\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        people.bearer(),
        body.len()
    ));

    assert_eq!(response.status, 204, "{}", response.text());
    assert_eq!(people.statuses(), [401, 401, 401, 200]);
}

#[test]
fn logout_of_one_page_leaves_the_person_signed_in_elsewhere() {
    let mut people = People::new();
    let headers = format!("Content-Type: application/json\r\nOrigin: {}\r\n", people.site.origin());

    people.website.send("POST", "/auth/logout", &headers, "{}");

    assert_eq!(people.statuses(), [200, 401, 200, 200]);
}

#[test]
fn operator_lists_and_ends_all_sessions_of_a_unionid() {
    let people = People::new();
    let unionid = people.unionid();
    let list = format!("GET /sessions?unionid={unionid} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");

    let listed = people.operator(&list).json();
    let sessions = listed["sessions"].as_array().unwrap();
    let mut apps: Vec<&str> = sessions.iter().map(|session| session["app"].as_str().unwrap()).collect();
    apps.sort_unstable();
    assert_eq!(apps, ["account", "shop", "site"]);
    assert!(sessions.iter().all(|session| session["unionid"] == unionid), "{listed}");

    let body = json!({ "unionid": unionid }).to_string();
    let response = people.operator(&format!(
        "POST /sessions/revoke HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(response.json()["ended"], json!(3), "{}", response.text());
    assert_eq!(people.statuses(), [401, 401, 401, 200]);
    assert_eq!(people.operator(&list).json()["sessions"], Value::Array(Vec::new()));
}

/// With `snsapi_base`, WeChat gives no unionid.
const BASE: (&str, &str) = (", scope: snsapi_userinfo", "");
const PROTECTED: &str = "path: /, access: authenticated";

#[test]
fn a_deny_list_with_unionids_refuses_who_comes_without_one() {
    for (key, expected) in [("", 403), (", unknown_unionid: admit", 200)] {
        let rule = format!("{PROTECTED}, deny_lists: [out]{key}");
        let lists = ("identity_headers:", "lists: { out: { members: [u-somebody] } }\nidentity_headers:");
        let site = Site::with(Config::default(), &[BASE, (PROTECTED, &rule), lists]);
        let [mut website, mut account] = [(); 2].map(|()| Visitor::at(site.world.address()));
        website.sign_in(&site.world.emulator, "site", "alice");
        account.sign_in(&site.world.emulator, "account", "alice");

        let response = account.send_only("GET", "/page", "", "");

        assert_eq!(response.status, expected, "{key}: {}", response.text());
        if expected == 403 {
            assert_eq!(response.json()["code"], "unionid_unknown");
        }
        assert_eq!(website.send_only("GET", "/page", "", "").status, 200, "{key}");
    }
}

#[test]
fn a_block_by_unionid_reaches_an_account_that_gives_none_or_says_that_it_does_not() {
    let site = Site::with(Config::default(), &[BASE]);
    let emulator = &site.world.emulator;
    let unionid = emulator.unionid(APPID, "alice").unwrap();
    let [mut website, mut account] = [(); 2].map(|()| Visitor::at(site.world.address()));
    website.sign_in(emulator, "site", "alice");
    account.sign_in(emulator, "account", "alice");
    let change = |what: &str| {
        let body = json!({ "unionid": unionid }).to_string();
        let request = format!(
            "POST /people/{what} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        send_to_control(site.world.control_socket(), &request).json()
    };

    let answer = change("block");

    assert_eq!(answer, json!({ "scope": "unionid", "changed": true, "unreached_apps": ["account"] }));
    assert_eq!(website.send_only("GET", "/page", "", "").status, 403);
    assert_eq!(account.send_only("GET", "/page", "", "").status, 200, "it is not reached");
    assert_eq!(change("unblock"), json!({ "scope": "unionid", "changed": true }));
    assert_eq!(website.send_only("GET", "/page", "", "").status, 200);
}

#[test]
fn an_app_that_refuses_an_unknown_unionid_refuses_the_sign_in() {
    let refuse = (BASE.0, ", scope: snsapi_userinfo, unknown_unionid: refuse");
    let mut config = Config::default();
    for app in config.apps.iter_mut().filter(|app| app.appid == ACCOUNT_APPID) {
        app.open_platform = None;
    }
    let site = Site::with(config, &[refuse]);
    let mut account = Visitor::at(site.world.address());
    let begun = account.begin("account", "/page");

    let response = account.come_back(&site.world.emulator, &begun, "alice");

    assert_eq!(response.status, 403, "{}", response.text());
    let line = logged(&site.world, "/auth/web/account/callback");
    assert_eq!(line["reason"], "unionid_unknown", "{line}");
    assert_eq!(account.send_only("GET", "/page", "", "").status, 401);
}
