//! Requests to a sign-in page: which are refused, and where the browser goes.

use super::super::{App, RefusedSignIn};
use super::*;

/// Parameters in WeChat's order, `redirect_uri` not yet encoded; an empty one is left out.
pub(super) struct Asked<'a> {
    pub(super) appid: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) scope: &'a str,
    pub(super) state: &'a str,
}

impl Asked<'_> {
    pub(super) const WEBSITE: Self =
        Self { appid: WEBSITE, redirect_uri: CALLBACK, scope: "snsapi_login", state: "abc" };
    pub(super) const OFFICIAL: Self = Self { appid: OFFICIAL, scope: "snsapi_userinfo", ..Self::WEBSITE };

    pub(super) fn target(&self) -> String {
        let path = if self.scope == "snsapi_login" { "qrconnect" } else { "oauth2/authorize" };
        self.on(path)
    }

    pub(super) fn on(&self, path: &str) -> String {
        let pairs = [
            ("appid", self.appid),
            ("redirect_uri", self.redirect_uri),
            ("response_type", "code"),
            ("scope", self.scope),
            ("state", self.state),
        ];
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        format!(
            "/connect/{path}?{}",
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        )
    }

    fn order(&self) -> Value {
        let Self { appid, redirect_uri, scope, state } = self;
        json!({"appid": appid, "wxid": "alice", "redirect_uri": redirect_uri, "scope": scope, "state": state})
    }
}

#[tokio::test]
async fn refused_request_is_an_error_page_and_never_a_redirect() {
    let wechat = wechat();
    let long = "a".repeat(129);
    let web = |asked: Asked<'_>| asked.on("qrconnect");
    let official = |asked: Asked<'_>| asked.on("oauth2/authorize");
    let rows = [
        (web(Asked { appid: "", ..Asked::WEBSITE }), "10012"),
        (web(Asked { redirect_uri: "", ..Asked::WEBSITE }), "10011"),
        (web(Asked { scope: "", ..Asked::WEBSITE }), "10010"),
        (web(Asked { appid: "wxnone", ..Asked::WEBSITE }), "AppID 参数错误"),
        (web(Asked { appid: OFFICIAL, ..Asked::WEBSITE }), "10016"),
        (web(Asked { appid: APP_1, ..Asked::WEBSITE }), "10016"),
        (web(Asked { redirect_uri: "http://example.com/", ..Asked::WEBSITE }), "10003"),
        (web(Asked { scope: "snsapi_userinfo", ..Asked::WEBSITE }), "10005"),
        (web(Asked { state: &long, ..Asked::WEBSITE }), "state 参数过长"),
        (web(Asked { state: "a-b", ..Asked::WEBSITE }), "state 参数错误"),
        (web(Asked { state: "状态", ..Asked::WEBSITE }), "state 参数错误"),
        (official(Asked { state: "", ..Asked::OFFICIAL }), "10013"),
        (official(Asked { appid: WEBSITE, ..Asked::OFFICIAL }), "10016"),
        (official(Asked { scope: "snsapi_login", ..Asked::OFFICIAL }), "10005"),
        (
            official(Asked { scope: "snsapi_base", redirect_uri: "http://example.com/", ..Asked::OFFICIAL }),
            "10003",
        ),
        (official(Asked { state: "a b", ..Asked::OFFICIAL }), "state 参数错误"),
    ];
    assert_eq!(rows.len(), 16);

    for (target, sentence) in rows {
        let seen = wechat.get_in_wechat(&target).await;

        assert_eq!((seen.status, seen.headers.get("location")), (200, None), "{target}");
        assert!(seen.text().contains(sentence), "{target}: {}", seen.text());
    }
    assert!(wechat.emulator.qr_codes().is_empty());
    let longest = "a".repeat(128);
    for asked in [Asked { state: &longest, ..Asked::WEBSITE }, Asked { state: "", ..Asked::WEBSITE }] {
        assert!(wechat.get(&asked.target()).await.text().contains("data-uuid"), "{}", asked.state);
    }
}

#[tokio::test]
async fn an_official_accounts_parameters_have_one_order() {
    let wechat = wechat();
    let callback = encoded(CALLBACK);
    let (appid, redirect) = (format!("appid={OFFICIAL}"), format!("redirect_uri={callback}"));
    let rows = [
        (format!("{appid}&{redirect}&response_type=code&scope=snsapi_base&state=abc"), true),
        (
            format!("{appid}&{redirect}&response_type=code&scope=snsapi_base&state=abc&connect_redirect=1"),
            true,
        ),
        (format!("{redirect}&{appid}&response_type=code&scope=snsapi_base&state=abc"), false),
        (format!("{appid}&{redirect}&response_type=code&state=abc&scope=snsapi_base"), false),
        (format!("forcePopup=true&{appid}&{redirect}&response_type=code&scope=snsapi_base&state=abc"), false),
        (format!("{appid}&{redirect}&scope=snsapi_base&state=abc"), false),
        (format!("{appid}&{redirect}&response_type=token&scope=snsapi_base&state=abc"), false),
    ];
    for (query, is_good) in rows {
        let seen = wechat.get_in_wechat(&format!("/connect/oauth2/authorize?{query}")).await;
        assert_eq!(seen.status, if is_good { 302 } else { 200 }, "{query}");
    }
}

#[tokio::test]
async fn a_redirect_uri_is_of_the_apps_own_host() {
    let app = |appid: &str| App::new(appid, "s").website(["app.example.com", "127.0.0.1"]);
    let wechat = wechat_with(Config { apps: vec![app("wxsite")], ..Config::default() });
    let good = [
        ("http://app.example.com", "http://app.example.com?code=CODE&state=abc"),
        ("https://APP.example.com/cb", "https://APP.example.com/cb?code=CODE&state=abc"),
        ("https://app.example.com:8443/cb?", "https://app.example.com:8443/cb?code=CODE&state=abc"),
        ("http://127.0.0.1:1/cb?a=1&b=%20", "http://127.0.0.1:1/cb?a=1&b=%20&code=CODE&state=abc"),
        ("http://127.0.0.1/#/route?c=1", "http://127.0.0.1/?code=CODE&state=abc#/route?c=1"),
    ];
    let bad = [
        "http://example.com/",
        "http://sub.app.example.com/",
        "http://app.example.com.evil.com/",
        "http://evil.com/app.example.com",
        "http://app.example.com@evil.com/",
        "http://user@app.example.com/",
        "http://evil.com\\@app.example.com/",
        "http://evil.com#@app.example.com/",
        "http://app.example.com\\.evil.com/",
        "//app.example.com/",
        "app.example.com",
        "/cb",
        "javascript://app.example.com/%0aalert(1)",
        "data://app.example.com/",
        "ftp://app.example.com/",
        "http://app.example.com/\r\nX-Evil: 1",
        "http://app.example.com/\"onload=alert(1)",
        "http://app.example.com/<script>",
        "http://app.example.com/ space",
        "http://app.example.com/路",
        "http://app.example.com\t/",
        "http://[::1]/",
        "http://127.0.0.1.evil.com/",
        "http://127.1/",
    ];
    for (redirect_uri, location) in good {
        let asked = Asked { appid: "wxsite", redirect_uri, ..Asked::WEBSITE };

        let seen = wechat.order("authorize", asked.order()).await;

        let code = seen["code"].as_str().unwrap();
        assert_eq!(seen["location"], location.replace("CODE", code), "{redirect_uri}");
    }
    for redirect_uri in bad {
        let asked = Asked { appid: "wxsite", redirect_uri, ..Asked::WEBSITE };

        let page = wechat.get(&asked.target()).await;
        let order = wechat.try_send("POST", "/__emu/authorize", &asked.order().to_string()).await.unwrap();

        assert!(page.text().contains("10003") && !page.text().contains("data-uuid"), "{redirect_uri}");
        assert_eq!(order.status, 400, "{redirect_uri}");
        assert!(order.json()["error"].as_str().unwrap().contains("10003"), "{redirect_uri}");
    }
}

#[tokio::test]
async fn authorize_gives_scripts_what_the_pages_give() {
    let wechat = wechat();
    for asked in [Asked::WEBSITE, Asked::OFFICIAL, Asked { scope: "snsapi_base", ..Asked::OFFICIAL }] {
        let seen = wechat.order("authorize", asked.order()).await;
        let secret = if asked.appid == WEBSITE { WEBSITE_SECRET } else { OFFICIAL_SECRET };
        let tokens = wechat.get(&token(asked.appid, secret, seen["code"].as_str().unwrap())).await.json();
        assert_eq!(tokens["openid"], json!(wechat.emulator.openid(asked.appid, "alice")));
        assert_eq!(tokens["scope"], asked.scope);
    }
    let rows = [
        (
            json!({"appid": WEBSITE, "wxid": "", "redirect_uri": CALLBACK, "scope": "snsapi_login"}),
            "`wxid` is empty",
        ),
        (
            json!({"appid": "wxnone", "wxid": "a", "redirect_uri": CALLBACK, "scope": "snsapi_login"}),
            "not configured",
        ),
        (json!({"appid": OFFICIAL, "wxid": "a", "redirect_uri": CALLBACK, "scope": "snsapi_base"}), "10013"),
        (json!({"appid": APP_1, "wxid": "a", "redirect_uri": CALLBACK, "scope": "snsapi_login"}), "10016"),
    ];
    for (order, sentence) in rows {
        let seen = wechat.try_send("POST", "/__emu/authorize", &order.to_string()).await.unwrap();
        assert_eq!(seen.status, 400, "{order}");
        assert!(seen.text().contains(sentence), "{order}: {}", seen.text());
    }
}

#[tokio::test]
async fn an_official_account_signs_in_only_inside_wechat() {
    let wechat = wechat();
    for asked in [Asked::OFFICIAL, Asked { scope: "snsapi_base", ..Asked::OFFICIAL }] {
        let seen = wechat.get(&asked.target()).await;
        assert_eq!(seen.status, 200);
        assert!(seen.text().contains("请在微信客户端打开链接"), "{}", seen.text());
    }
}

#[tokio::test]
async fn snsapi_base_is_silent_and_snsapi_userinfo_asks() {
    let wechat = wechat();
    let base = wechat.get_in_wechat(&Asked { scope: "snsapi_base", ..Asked::OFFICIAL }.target()).await;
    let asked = wechat.get_in_wechat(&Asked::OFFICIAL.target()).await;

    let links: Vec<String> = asked
        .text()
        .split("href=\"")
        .skip(1)
        .map(|rest| rest.split_once('"').unwrap().0.to_owned())
        .collect();
    let find = |answer: &str| links.iter().find(|link| link.ends_with(answer)).unwrap().replace("&amp;", "&");
    let allowed = wechat.get_in_wechat(&find("wxid=bob&amp;answer=allow")).await;
    let refused = wechat.get_in_wechat(&find("wxid=bob&amp;answer=refuse")).await;
    let other = wechat.get_in_wechat(&find("wxid=alice&amp;answer=")).await;

    assert_eq!(asked.status, 200);
    for (seen, scope) in [(base, "snsapi_base"), (allowed, "snsapi_userinfo")] {
        let location = &seen.headers["location"];
        let code =
            location.strip_prefix(&format!("{CALLBACK}?code=")).unwrap().strip_suffix("&state=abc").unwrap();
        assert_eq!((seen.status, code.len()), (302, 32), "{location}");
        let tokens = wechat.get(&token(OFFICIAL, OFFICIAL_SECRET, code)).await.json();
        assert_eq!(tokens["scope"], scope);
        assert_eq!(
            tokens["openid"],
            json!(wechat.emulator.openid(OFFICIAL, "bob")),
            "as the User-Agent says"
        );
    }
    assert_eq!((refused.status, refused.headers.get("location")), (200, None));
    assert!(refused.text().contains("你已拒绝授权"));
    assert!(other.text().contains("<bdi>alice</bdi><small>"), "{}", other.text());
    let redirecting = wechat_with(Config { refused_sign_in: RefusedSignIn::Redirect, ..Config::default() });
    let refused = redirecting.get_in_wechat(&find("wxid=bob&amp;answer=refuse")).await;
    assert_eq!(refused.headers["location"], format!("{CALLBACK}?state=abc"));
}
