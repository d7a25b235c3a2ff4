//! D11, D12: the code that a browser brings, and what WeChat says of it.

use std::sync::Barrier;
use std::thread;

use menshen::emulator::{CodeState, Effect, InjectedFault};

use super::{assert_not_signed_in, outcomes, set_cookies};
use crate::common::site::SESSION;
use crate::common::{APPID, Site, Tally, Visitor};

const EXCHANGE: &str = "/sns/oauth2/access_token";

#[test]
fn same_way_back_many_times_at_once_is_one_exchange_and_one_session() {
    let site = Site::new();
    for round in 0..5 {
        let mut visitor = Visitor::at(site.world.address());
        let begun = visitor.begin("site", "/page");
        let path = begun.callback(&site.world.emulator, "alice");
        let exchanges = site.exchanges();
        let together = Barrier::new(8);

        let answers: Vec<_> = thread::scope(|scope| {
            let come_back = || {
                let mut visitor = visitor.clone();
                together.wait();
                let answer = visitor.open(&path);
                (
                    answer.status,
                    answer.header("location").map(str::to_owned),
                    visitor.cookies.get(SESSION).cloned(),
                )
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(come_back)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert_eq!(site.exchanges() - exchanges, 1, "round {round}");
        let (status, location, cookie) = &answers[0];
        assert_eq!((*status, location.as_deref()), (303, Some("/page")));
        assert!(cookie.is_some());
        assert!(answers.iter().all(|answer| answer == &answers[0]), "round {round}: {answers:?}");
    }
}

#[test]
fn same_way_back_a_moment_later_gives_the_same_page_and_the_same_session() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    let begun = visitor.begin("site", "/page");
    let path = begun.callback(&site.world.emulator, "alice");
    let first = visitor.open(&path);
    let cookie = visitor.cookies[SESSION].clone();

    let second = visitor.open(&path);

    assert_eq!((second.status, second.header("location")), (first.status, first.header("location")));
    assert_eq!(visitor.cookies[SESSION], cookie);
    assert_eq!(site.exchanges(), 1);
}

#[test]
fn code_that_is_not_one_is_refused_before_wechat_is_asked() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    let begun = visitor.begin("site", "/page");
    let mut tally = Tally::default();
    for code in [
        "a%26secret%3Dx",
        "a%26appid%3Dwxe000000000000001",
        "a%23",
        "a%2Fb",
        "a%20b",
        "a%00",
        "a%0d%0aX:%20y",
        "%E5%B0%8F",
        "%ff",
        "a.b",
        &"a".repeat(129),
        &"a".repeat(4096),
        "a&code=b",
    ] {
        let path = begun.callback_with(code);
        let answer = visitor.open(&path);
        assert_not_signed_in(&answer, &path);
        tally.add(answer.status, 0);
    }
    assert_eq!(site.exchanges(), 0);
    tally.report("browser: codes");
}

#[test]
fn code_of_another_app_or_used_or_of_a_blocked_person_opens_no_session() {
    let site = Site::new();
    let emulator = &site.world.emulator;
    let account = Visitor::at(site.world.address()).begin("account", "/page");
    for (code, outcome) in [
        (account.code(emulator, "alice"), "code_invalid"),
        (emulator.wx_login(APPID, "alice").unwrap(), "code_invalid"),
        (emulator.wx_login_as(APPID, "alice", CodeState::Used).unwrap(), "code_invalid"),
        ("made-up".to_owned(), "code_invalid"),
    ] {
        let mut visitor = Visitor::at(site.world.address());
        let begun = visitor.begin("site", "/page");
        let before = outcomes(&site, "website", outcome);

        assert_not_signed_in(&visitor.open(&begun.callback_with(&code)), outcome);

        assert_eq!(outcomes(&site, "website", outcome), before + 1.0, "{outcome}");
        assert_eq!(visitor.open("/page").status, 303, "back to the sign-in page");
    }
    let mut visitor = Visitor::at(site.world.address());
    let begun = visitor.begin("site", "/page");
    let answer = visitor.come_back(emulator, &begun, "mallory");
    assert_not_signed_in(&answer, "mallory");
    assert_eq!((answer.status, outcomes(&site, "website", "user_blocked")), (403, 1.0));
}

/// D12: HTTP 200 is no success.
#[test]
fn answer_of_wechat_without_a_person_opens_no_session_and_gives_an_error_page() {
    for (effect, status, outcome) in [
        (Effect::errcode(40029), 403, "code_invalid"),
        (Effect::errcode(40163), 403, "code_already_used"),
        (Effect::errcode(-1), 503, "wechat_busy"),
        (Effect::errcode(45011), 429, "throttled"),
        (Effect::errcode(40125), 500, "app_misconfigured"),
        (Effect::errcode(99999), 502, "wechat_unexpected"),
        (Effect::Omit(vec!["openid".into()]), 502, "wechat_unexpected"),
        (Effect::HtmlPage, 502, "wechat_unexpected"),
        (Effect::TruncatedJson, 502, "wechat_unexpected"),
        (Effect::DropAfter, 503, "wechat_unreachable"),
    ] {
        let site = Site::new();
        site.world.emulator.inject(InjectedFault::new(effect.clone()).path(EXCHANGE));
        let mut visitor = Visitor::at(site.world.address());
        let begun = visitor.begin("site", "/page");

        let answer = visitor.come_back(&site.world.emulator, &begun, "alice");

        assert_not_signed_in(&answer, outcome);
        let counted = outcomes(&site, "website", outcome);
        assert_eq!(counted, 1.0, "{effect:?}: {}", site.world.metrics());
        assert_eq!(answer.status, status, "{effect:?}");
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{effect:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{effect:?}");
        // To begin again, or to ask once more where the code may still be good.
        let way_on =
            if matches!(outcome, "wechat_busy" | "throttled") { "href=\"\"" } else { "href=\"/auth/" };
        assert!(answer.text().contains(way_on), "a way to try again: {}", answer.text());
    }
}

#[test]
fn sign_in_succeeds_without_a_profile() {
    for effect in [Effect::errcode(-1), Effect::errcode(48001), Effect::DropAfter, Effect::HtmlPage] {
        let site = Site::new();
        site.world.emulator.inject(InjectedFault::new(effect.clone()).path("/sns/userinfo"));
        let mut visitor = Visitor::at(site.world.address());

        visitor.sign_in(&site.world.emulator, "site", "alice");

        assert_eq!(visitor.open("/page").status, 200, "{effect:?}");
        assert_eq!(site.world.backend.last().header("x-wx-nickname"), Vec::<String>::new(), "{effect:?}");
    }
}

#[test]
fn endpoints_accept_only_get_and_their_pages_are_neither_cached_nor_framed() {
    let site = Site::new();
    let mut visitor = Visitor::at(site.world.address());
    for path in ["/auth/web/site/start", "/auth/web/site/callback?code=a&state=b"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = visitor.send(method, path, "", "");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(set_cookies(&answer), Vec::<&str>::new());
        }
    }
    for path in ["/auth/login?return_to=%2F", "/auth/web/site/callback?code=a&state=b"] {
        let page = visitor.open(path);
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(page.header("referrer-policy").is_some(), "{path}");
    }
    for path in [
        "/auth/web",
        "/auth/web/",
        "/auth/web/nobody/start",
        "/auth/web/shop/start",
        "/auth/web/site",
        "/auth/web/site/other",
    ] {
        let answer = visitor.open(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("location"), None, "{path}");
    }
}
