//! The way to WeChat.

use super::*;

#[tokio::test]
async fn sign_in_sets_a_state_and_a_cookie_and_redirects_to_wechat() {
    let harness = harness([]).await;
    for (app, path, appid) in
        [("account", "/connect/oauth2/authorize", "wx1"), ("site", "/connect/qrconnect", "wx2")]
    {
        let mut browser = Browser::new(&harness);

        let answer = browser.get(&format!("/auth/web/{app}/start?return_to=%2Fcart")).await;

        let (status, location) = (answer.response.status().as_u16(), location(&answer));
        assert_eq!((status, answer.outcome, answer.app.as_deref()), (303, "started", Some(app)));
        let callback = format!("redirect_uri=https%3A%2F%2F{HOST}%2Fauth%2Fweb%2F{app}%2Fcallback");
        assert!(
            location.starts_with(&format!("https://open.weixin.qq.com{path}?appid={appid}&")),
            "{location}"
        );
        assert!(location.contains(&callback), "{location}");
        assert!(location.ends_with("#wechat_redirect"), "{location}");
        assert_eq!(state_in(location).len(), 32);
        let cookie = set_cookies(&answer);
        let [cookie] = cookie[..] else { panic!("{cookie:?}") };
        let (name, rest) = cookie.split_once('=').unwrap();
        let (value, attributes) = rest.split_once("; ").unwrap();
        assert_eq!((name, value.len()), (BROWSER, 22));
        assert_eq!(attributes, "Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax");
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
        assert!(answer.response.body().is_empty());
    }
}

#[tokio::test]
async fn valid_browser_cookie_is_reused_and_an_invalid_one_is_replaced() {
    let harness = harness([]).await;
    let mut browser = Browser::new(&harness);
    let first = browser.start("account", "/").await;
    let word = browser.jar[BROWSER].clone();

    let second = browser.start("account", "/").await;

    assert_ne!(first, second);
    assert_eq!(browser.jar[BROWSER], word);
    let same = ["", "x", &"A".repeat(23), &"=".repeat(22), &format!("{}B", "A".repeat(21)), &"é".repeat(11)];
    for planted in same {
        browser.jar.insert(BROWSER.into(), planted.into());
        browser.start("account", "/").await;
        assert_eq!(browser.jar[BROWSER].len(), 22, "{planted}");
        assert_ne!(browser.jar[BROWSER], planted);
    }
    browser.jar.insert(BROWSER.into(), format!("{word}; {BROWSER}={word}"));
    browser.start("account", "/").await;
    assert_ne!(browser.jar[BROWSER], word, "two are none");
}

#[tokio::test]
async fn host_sent_by_a_client_never_becomes_an_address() {
    let harness = harness([]).await;
    let browser = Browser::new(&harness);
    for name in
        ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "forwarded", "origin", "referer"]
    {
        let answer = browser.with(name, Some("https://evil.example")).get("/auth/web/site/start").await;

        assert_eq!(answer.outcome, "started");
        assert!(!format!("{:?}", answer.response).contains("evil"), "{name}");
    }
    for host in ["evil.example", "shop.example.com.evil.example", "shop.example.com:8443", ""] {
        let answer = browser.with("host", Some(host)).get("/auth/web/site/start").await;

        let told = assert_notice_page(&harness, &answer, Notice::OriginUnknown, None);
        assert_eq!(told, (404, "origin_unknown"), "{host}");
        assert_eq!(set_cookies(&answer).len(), 0);
    }
}

#[tokio::test]
async fn only_get_of_a_browser_app_starts_a_sign_in() {
    let harness = harness([]).await;
    for app in ["shop", "nobody", "", "%61ccount", "account/x"] {
        let answer = Browser::new(&harness).get(&format!("/auth/web/{app}/start")).await;

        assert_eq!(answer.response.status(), StatusCode::NOT_FOUND, "{app}");
    }
    for path in ["/auth/web/account/start", "/auth/web/account/callback"] {
        for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = Browser::new(&harness).send(request(method, path, None, "")).await;

            assert_eq!((answer.response.status().as_u16(), header(&answer, "allow")), (405, Some("GET")));
        }
    }
    for path in ["/auth/web", "/auth/web/account", "/auth/web/account/", "/auth/web/account/other"] {
        let answer = Browser::new(&harness).get(path).await;

        assert_eq!(answer.outcome, "endpoint_unknown", "{path}");
    }
}

#[tokio::test]
async fn request_embedded_by_another_site_does_not_count_against_the_user() {
    let harness = Harness::with([], |setup| {
        with_browsers(setup);
        let once = config::LoginLimit { rate: Rate::per_minute(60), burst: 1 };
        (setup.throttle.login, setup.throttle.sign_in) = (once.clone(), once);
    })
    .await;
    let opened = Browser::new(&harness);
    let picture = opened.with("sec-fetch-mode", Some("no-cors")).with("sec-fetch-dest", Some("image"));
    for embedded in [
        picture.clone(),
        opened.with("sec-fetch-mode", Some("cors")),
        opened.with("sec-fetch-dest", Some("iframe")),
        picture.with("sec-fetch-mode", None),
        picture.with("sec-fetch-dest", None),
    ] {
        for path in ["/auth/web/site/start", "/auth/web/site/callback?code=x&state=guess", "/auth/login"] {
            let answer = embedded.clone().get(path).await;

            assert_eq!((answer.response.status().as_u16(), answer.outcome), (403, "not_navigated"), "{path}");
            assert_eq!(set_cookies(&answer).len(), 0, "{path}");
        }
    }
    let silent = opened.with("sec-fetch-mode", None).with("sec-fetch-dest", None);
    assert_eq!(silent.clone().get("/auth/web/site/start").await.outcome, "started");
    assert_eq!(
        silent.clone().get("/auth/web/site/callback?code=x&state=guess").await.outcome,
        "state_unknown"
    );
}

#[tokio::test]
async fn foreign_return_to_is_dropped_and_never_repeated() {
    let harness = harness([Reply::json(GRANT)]).await;
    let places = [
        "https%3A%2F%2Fevil.example",
        "%2F%2Fevil.example",
        "%2F%5Cevil.example",
        "x",
        "%2Fauth%2Flogout",
        "/a&return_to=/b",
        "%ff",
    ];
    for (index, place) in places.iter().enumerate() {
        let mut browser = Browser::new(&harness);
        let answer = browser.get(&format!("/auth/web/account/start?return_to={place}")).await;
        assert!(!location(&answer).contains("evil"));
        let state = state_in(location(&answer));

        let answer = browser.come_back("account", &state, &format!("code{index}")).await;

        assert_eq!((answer.outcome, location(&answer)), ("ok", "/"), "{place}");
    }
}

#[tokio::test]
async fn client_that_starts_too_many_sign_ins_is_limited() {
    let harness = Harness::with([], |setup| {
        with_browsers(setup);
        setup.throttle.sign_in = config::LoginLimit { rate: Rate::per_minute(60), burst: 1 };
    })
    .await;
    let mut browser = Browser::new(&harness);
    browser.start("site", "/cart").await;

    let answer = browser.get("/auth/web/site/start?return_to=/cart").await;

    let retry = "/auth/web/site/start?return_to=%2Fcart";
    assert_eq!(assert_notice_page(&harness, &answer, Notice::Throttled, Some(retry)), (429, "throttled"));
    assert_eq!(header(&answer, "retry-after"), Some("1"));
    let page = browser.get("/auth/login?app=site").await;
    assert_eq!((page.response.status().as_u16(), page.outcome), (429, "throttled"));
}

#[tokio::test]
async fn sign_in_does_not_redirect_to_wechat_while_the_store_is_unavailable() {
    let harness = harness([]).await;
    harness.store.set_away(true);

    let answer = Browser::new(&harness).get("/auth/web/site/start").await;

    let retry = "/auth/web/site/start?return_to=%2F";
    let told = assert_notice_page(&harness, &answer, Notice::Unavailable, Some(retry));
    assert_eq!(told, (503, "store_unavailable"));
    assert_eq!(header(&answer, "retry-after"), Some("2"));
}
