//! The sign-in page.

use super::*;

const IN_WECHAT: &str = "Mozilla/5.0 (iPhone) MicroMessenger/8.0.49 Language/zh_CN";
const IN_WECOM: &str = "Mozilla/5.0 (iPhone) wxwork/4.1.36 MicroMessenger/7.0.1 Language/zh";

fn on_desktop(harness: &Harness) -> Browser<'_> {
    Browser::new(harness).with("user-agent", Some("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"))
}

fn body(answer: &SignInAnswer) -> &str {
    std::str::from_utf8(answer.response.body()).unwrap()
}

#[tokio::test]
async fn page_links_to_every_app_of_the_request() {
    let harness = harness([]).await;
    let start = |app: &str| format!("/auth/web/{app}/start?return_to=%2Fcart");
    for (query, offered, missing) in [
        ("return_to=/cart", vec!["site"], vec!["shop", "nobody"]),
        ("return_to=/cart&app=site", vec!["site"], vec!["account", "loose"]),
        ("return_to=/cart&app=nobody&app=shop&app=site&app=site", vec!["site"], vec!["account"]),
    ] {
        let answer = on_desktop(&harness).get(&format!("/auth/login?{query}")).await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), (200, "sign_in"), "{query}");
        for app in offered {
            let href = start(app);
            assert!(
                body(&answer).contains(&href) || body(&answer).contains(&href.replace('/', "&#x2f;")),
                "{query}"
            );
        }
        for app in missing {
            assert!(!body(&answer).contains(&format!("web/{app}/start")), "{query} {app}");
        }
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("content-language", "zh-CN"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
        ] {
            assert_eq!(header(&answer, name), Some(value), "{name}");
        }
        assert_eq!(set_cookies(&answer).len(), 0, "without a widget nothing begins here");
    }
}

#[tokio::test]
async fn page_shows_a_qr_code_that_signs_in() {
    let harness = Harness::with([Reply::json(GRANT)], |setup| {
        with_browsers(setup);
        setup.wechat.widget = Some("https://res.wx.qq.com/connect/wxLogin.js".into());
    })
    .await;
    let mut browser = on_desktop(&harness).with("accept-language", Some("en"));

    let answer = browser.get("/auth/login?return_to=/cart&app=site").await;

    assert_eq!((answer.outcome, header(&answer, "content-language")), ("sign_in", Some("en")));
    assert!(browser.jar.contains_key(BROWSER));
    let policy = header(&answer, "content-security-policy").unwrap();
    assert!(policy.contains("https://open.weixin.qq.com"), "{policy}");
    let words = body(&answer).split(|character: char| !character.is_ascii_alphanumeric());
    let mut back = None;
    for state in words.filter(|word| word.len() == 32) {
        let answer = browser.come_back("site", state, "code").await;
        if answer.outcome == "ok" {
            back = Some(answer);
        }
    }
    assert_eq!(location(&back.expect("a state in the page")), "/cart");
    let in_wechat =
        Browser::new(&harness).with("user-agent", Some(IN_WECHAT)).get("/auth/login?app=site").await;
    assert_eq!(set_cookies(&in_wechat).len(), 0, "a telephone cannot scan its own screen");
}

#[tokio::test]
async fn user_signed_in_to_an_offered_app_is_redirected_back() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = on_desktop(&harness);
    browser.sign_in("account", "code").await;
    for (query, outcome) in [
        ("return_to=/cart", "signed_in_already"),
        ("return_to=/cart&app=site&app=account", "signed_in_already"),
        ("return_to=/cart&app=site", "sign_in"),
    ] {
        let answer = browser.get(&format!("/auth/login?{query}")).await;

        assert_eq!(answer.outcome, outcome, "{query}");
        assert_eq!(header(&answer, "location"), (outcome != "sign_in").then_some("/cart"), "{query}");
    }
    browser.jar.insert(SESSION.into(), "A".repeat(64));
    assert_eq!(browser.get("/auth/login?app=site").await.outcome, "sign_in");
    harness.store.set_away(true);
    let answer = browser.get("/auth/login?app=site").await;
    let retry = Some("/auth/login?return_to=%2F&app=site");
    assert_eq!(assert_notice_page(&harness, &answer, Notice::Unavailable, retry), (503, "store_unavailable"));
}

#[tokio::test]
async fn wechat_browser_is_redirected_at_once_and_other_browsers_are_asked_to_open_wechat() {
    let harness = harness([]).await;
    let in_wechat = Browser::new(&harness).with("user-agent", Some(IN_WECHAT));

    let led_on = in_wechat.clone().get("/auth/login?return_to=/cart&app=site&app=loose").await;
    let website = in_wechat.clone().get("/auth/login?app=site").await;
    let outside = on_desktop(&harness).get("/auth/login?app=account&app=loose").await;
    let in_wecom = Browser::new(&harness).with("user-agent", Some(IN_WECOM));
    let outside_too = in_wecom.clone().get("/auth/login?app=account&app=loose").await;

    assert_eq!(led_on.response.status(), StatusCode::SEE_OTHER);
    assert_eq!(location(&led_on), "/auth/web/loose/start?return_to=%2Fcart");
    assert_eq!((website.response.status().as_u16(), website.outcome), (200, "sign_in"));
    assert_eq!(assert_notice_page(&harness, &outside, Notice::OpenInWeChat, None), (200, "open_in_wechat"));
    assert_eq!(outside_too.outcome, "open_in_wechat", "WeCom's browser is not WeChat's");
}

#[tokio::test]
async fn page_says_if_no_app_is_offered() {
    let harness = harness([]).await;
    let browser = on_desktop(&harness);
    let answers = [
        browser.clone().get("/auth/login?app=nobody").await,
        browser.clone().get("/auth/login?app=shop").await,
        browser.clone().get("/auth/login?app=").await,
    ];
    for answer in answers {
        let told = assert_notice_page(&harness, &answer, Notice::NothingToSignInTo, None);
        assert_eq!(told, (404, "nothing_to_sign_in_to"));
    }
    let answer = browser.with("host", Some("evil.example")).get("/auth/login").await;
    let told = assert_notice_page(&harness, &answer, Notice::OriginUnknown, None);
    assert_eq!(told, (404, "origin_unknown"));
}

#[tokio::test]
async fn allowed_methods_are_those_of_the_endpoints_present() {
    let harness = harness([Reply::json(SUCCESS)]).await;
    for (host, allow) in [(HOST, "GET, POST"), ("evil.example", "POST")] {
        let mut browser = on_desktop(&harness).with("host", Some(host));

        let answer = browser.send(request("PUT", "/auth/login", None, "")).await;

        assert_eq!(
            (answer.response.status().as_u16(), header(&answer, "allow")),
            (405, Some(allow)),
            "{host}"
        );
    }
    assert_eq!(harness.login(CODE).await.outcome, "ok", "a mini program signs in as ever");
    let without = Harness::new([]).await;
    let answer = on_desktop(&without).get("/auth/login").await;
    assert_eq!((answer.response.status().as_u16(), header(&answer, "allow")), (405, Some("POST")));
}

#[tokio::test]
async fn phone_is_not_asked_to_scan_its_own_screen() {
    let harness = harness([]).await;
    let words = "手机无法扫描自己的屏幕";
    for (agent, is_phone) in [
        ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", false),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Mobile/15E148 Safari/604.1",
            true,
        ),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0.0.0 Mobile Safari/537.36", true),
        (IN_WECOM, false),
        (&format!("{IN_WECOM} Mobile/15E148"), true),
    ] {
        let browser = Browser::new(&harness).with("user-agent", Some(agent));

        let answer = browser.clone().get("/auth/login?app=site").await;

        assert_eq!(body(&answer).contains(words), is_phone, "{agent}");
    }
}
