//! What a page of another site makes a visitor's browser send without the visitor. None of it
//! counts against the visitor's address, nor takes from what its people share: their logins, their
//! refreshes, and the sign-ins that they begin themselves.

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
/// More than any limit here lets through.
const OFTEN: usize = 6;
/// The attacker's own address.
const ELSEWHERE: &str = "198.51.100.9";

type Headers = &'static [(&'static str, &'static str)];

/// What a browser asks for with GET on behalf of a page: its headers, and whether it looks like a
/// page that is opened.
const GETS: &[(&str, Headers, bool)] = &[
    (
        "prefetch by speculation rules, as Chromium sends it",
        &[("sec-purpose", "prefetch"), MODE, DOCUMENT, ("sec-fetch-site", "none"), HTML],
        false,
    ),
    ("the same across sites", &[("sec-purpose", "prefetch"), MODE, DOCUMENT, CROSS, HTML], false),
    (
        "prerender",
        &[("sec-purpose", "prefetch;prerender"), MODE, DOCUMENT, ("sec-fetch-site", "none"), HTML],
        false,
    ),
    (
        "prefetch by a proxy",
        &[("sec-purpose", "prefetch;anonymous-client-ip"), MODE, DOCUMENT, CROSS, HTML],
        false,
    ),
    ("a purpose in capitals", &[("sec-purpose", "Prefetch"), MODE, DOCUMENT, CROSS, HTML], false),
    (
        "a purpose in a second line",
        &[("sec-purpose", "x"), ("sec-purpose", "prefetch"), MODE, DOCUMENT, HTML],
        false,
    ),
    ("link rel=prefetch of older Chromium", &[("purpose", "prefetch"), HTML], false),
    ("link rel=prefetch of older Firefox", &[("x-moz", "prefetch"), HTML], false),
    ("preview of older Safari", &[("x-purpose", "preview"), HTML], false),
    ("picture", &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image"), CROSS, PICTURE], false),
    ("frame", &[MODE, ("sec-fetch-dest", "iframe"), CROSS, HTML], false),
    ("object", &[MODE, ("sec-fetch-dest", "object"), CROSS, HTML], false),
    (
        "script that does not read",
        &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty"), CROSS, HTML],
        false,
    ),
    ("script that reads", &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), CROSS, HTML], false),
    ("picture of an older browser", &[PICTURE], false),
    ("picture of an old Safari", &[("accept", "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5")], false),
    ("style of an older browser", &[("accept", "text/css,*/*;q=0.1")], false),
    ("script of an older browser", &[("accept", "*/*")], false),
    ("nothing said at all", &[], false),
    ("library of scripts of an older browser", &[HTML, ("x-requested-with", "XMLHttpRequest")], false),
    ("script of an older browser that asks for a page", &[HTML, ("origin", "https://evil.example")], true),
    ("frame or navigation of an older browser", &[HTML, ("referer", "https://evil.example/")], true),
    ("popup whose location is set, form, redirect, meta refresh", &[MODE, DOCUMENT, CROSS, HTML], true),
    ("link that the person clicks", &[MODE, DOCUMENT, CROSS, ("sec-fetch-user", "?1"), HTML], true),
    ("page of a neighbouring host", &[MODE, DOCUMENT, ("sec-fetch-site", "same-site"), HTML], true),
    ("what nobody knows yet", &[MODE, DOCUMENT, ("sec-fetch-site", "new-word"), HTML], true),
    ("two words at once", &[MODE, DOCUMENT, ("sec-fetch-site", "none"), CROSS, HTML], true),
];

/// What it sends with POST: content type and headers. Never JSON: about that it asks first, and is
/// not answered.
const POSTS: &[(&str, Option<&str>, Headers)] = &[
    ("form", Some(FORM), &[MODE, DOCUMENT, CROSS, HTML, ("origin", "https://evil.example")]),
    ("form of a neighbouring host", Some(FORM), &[MODE, DOCUMENT, ("sec-fetch-site", "same-site"), HTML]),
    ("form in a frame", Some(FORM), &[MODE, ("sec-fetch-dest", "iframe"), CROSS, HTML]),
    ("script that does not read", Some(FORM), &[("sec-fetch-mode", "no-cors"), CROSS]),
    ("script that reads, of a form's type", Some(FORM), &[("sec-fetch-mode", "cors"), CROSS]),
    (
        "script of a neighbouring host",
        Some(FORM),
        &[("sec-fetch-mode", "cors"), ("sec-fetch-site", "same-site")],
    ),
    ("script without a type", None, &[("sec-fetch-mode", "cors"), CROSS]),
    ("beacon", Some("text/plain"), &[("sec-fetch-mode", "no-cors"), CROSS]),
    ("form of an older browser", Some(FORM), &[HTML, ("origin", "https://evil.example")]),
    ("form of an older browser, in a sandbox", Some(FORM), &[HTML, ("origin", "null")]),
    ("script of an older browser", Some(FORM), &[("accept", "*/*"), ("origin", "https://evil.example")]),
    ("script of an older browser, without a type", None, &[("origin", "https://evil.example")]),
];

const MODE: (&str, &str) = ("sec-fetch-mode", "navigate");
const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml");
const PICTURE: (&str, &str) = ("accept", "image/avif,image/webp,image/*,*/*;q=0.8");

/// A gateway at which the people of one address may do just what [`assert_user_is_not_affected`]
/// makes them do.
async fn barely_enough(replies: impl IntoIterator<Item = Reply>) -> Harness {
    Harness::with(replies, |setup| {
        with_browsers(setup);
        setup.wechat.widget = Some("https://res.wx.qq.com/connect/wxLogin.js".into());
        let limit = |burst| config::LoginLimit { rate: Rate::per_minute(1), burst };
        (setup.throttle.login, setup.throttle.sign_in) = (limit(3), limit(2));
    })
    .await
}

fn visited<'a>(path: &str, headers: Headers) -> Request<&'a str> {
    with_headers(request("GET", path, None, ""), headers)
}

fn with_headers(mut request: Request<&str>, headers: Headers) -> Request<&str> {
    request.headers_mut().insert("host", HOST.parse().unwrap());
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Tokens of a mini program that is signed in.
async fn refresh_token(harness: &Harness) -> String {
    let answer = harness.login("the-first").await;
    assert_eq!(answer.outcome, "ok");
    json_of(&answer)["refresh_token"].as_str().unwrap().to_owned()
}

/// Makes sure that everybody at the visitor's address can do what they could before.
async fn assert_user_is_not_affected(harness: &Harness, refresh_token: &str, tried: &str) {
    let typed = Browser::new(harness).with("sec-fetch-site", Some("none"));
    let clicked = typed.with("sec-fetch-site", Some("same-origin"));
    let page = typed.clone().get("/auth/login?app=site").await;
    assert_eq!(page.outcome, "sign_in", "{tried}: the sign-in page");
    let mut browser = clicked;
    let state = browser.start("account", "/").await;
    // As WeChat's page leads back.
    let mut back = browser.with("sec-fetch-site", Some("cross-site"));
    assert_eq!(back.come_back("account", &state, "good").await.outcome, "ok", "{tried}: the way back");
    assert_eq!(harness.login("the-second").await.outcome, "ok", "{tried}: a mini program");
    let body = json!({ "refresh_token": refresh_token }).to_string();
    let answer = harness.send(request("POST", "/auth/refresh", Some("application/json"), &body)).await;
    assert_eq!(answer.outcome, "refreshed", "{tried}: a refresh");
}

#[tokio::test]
async fn cross_site_page_neither_locks_out_its_visitor_nor_spends_shared_limits() {
    let paths = ["/auth/web/site/start", "/auth/web/site/callback", "/auth/login?app=site"];
    for (tried, headers, is_page) in GETS {
        let harness = barely_enough([Reply::json(SUCCESS), Reply::json(GRANT), Reply::json(SUCCESS)]).await;
        let refresh_token = refresh_token(&harness).await;
        for guess in 0..OFTEN {
            for path in paths {
                let path = match path {
                    "/auth/web/site/callback" => format!("{path}?code=x&state=guess{guess}"),
                    other => other.to_owned(),
                };

                let answer = harness.send(visited(&path, headers)).await;

                assert_eq!(answer.outcome != "not_navigated", *is_page, "{tried}: {path}");
                if !is_page {
                    assert_eq!((answer.response.status().as_u16(), set_cookies(&answer).len()), (403, 0));
                }
            }
        }

        assert_user_is_not_affected(&harness, &refresh_token, tried).await;
    }
    println!("{} ways to have a browser ask", GETS.len());
}

#[tokio::test]
async fn cross_site_form_or_script_neither_locks_out_its_visitor_nor_spends_shared_limits() {
    let made_up = format!("refresh_token={}", "A".repeat(86));
    for (tried, content_type, headers) in POSTS {
        let harness = barely_enough([Reply::json(SUCCESS), Reply::json(GRANT), Reply::json(SUCCESS)]).await;
        let refresh_token = refresh_token(&harness).await;
        let asked = harness.fake.requests().len();
        for guess in 0..OFTEN {
            let code = format!("app=shop&code=guess{guess}");
            for (path, body) in
                [("/auth/login", &code), ("/auth/refresh", &made_up), ("/auth/logout", &made_up)]
            {
                let answer =
                    harness.send(with_headers(request("POST", path, *content_type, body), headers)).await;

                let status = answer.response.status().as_u16();
                assert!(matches!(status, 403 | 415), "{tried}: {path}: {status} {}", answer.outcome);
            }
        }
        assert_eq!(harness.fake.requests().len(), asked, "{tried}: WeChat was asked");

        assert_user_is_not_affected(&harness, &refresh_token, tried).await;
    }
    println!("{} ways to have a browser send", POSTS.len());
}

/// The attacker began these sign-ins, so that their states are good, and leads visitors back with
/// codes that are not. A loose app takes that from browsers without a cookie.
#[tokio::test]
async fn sign_in_started_by_an_attacker_is_no_failure_of_the_visitor() {
    let refusal = || Reply::json(r#"{"errcode":40029}"#);
    let before = [Reply::json(SUCCESS)].into_iter().chain((0..OFTEN).map(|_| refusal()));
    let harness = barely_enough(before.chain([Reply::json(GRANT), Reply::json(SUCCESS)])).await;
    let refresh_token = refresh_token(&harness).await;
    let popup: Headers = &[MODE, DOCUMENT, CROSS, HTML];
    for guess in 0..OFTEN {
        harness.clock.advance(Duration::from_secs(60));
        let start = harness.send_from(ELSEWHERE, visited("/auth/web/loose/start", popup)).await;
        let state = state_in(location(&start));

        let path = format!("/auth/web/loose/callback?code=made-up{guess}&state={state}");
        let answer = harness.send(visited(&path, popup)).await;

        assert_eq!(answer.outcome, "code_invalid");
    }

    assert_user_is_not_affected(&harness, &refresh_token, "states of an attacker").await;
}

/// Inside WeChat, with `snsapi_base`, the user is not asked: a popup that is led to `start` returns
/// by itself, with a good code.
#[tokio::test]
async fn automatic_sign_ins_do_not_use_up_shared_limits() {
    let [success, grant] = [SUCCESS, GRANT].map(|reply| move || Reply::json(reply));
    let harness = barely_enough([success(), grant(), grant(), success()]).await;
    let refresh_token = refresh_token(&harness).await;
    let mut popup = Browser::new(&harness).with("sec-fetch-site", Some("cross-site"));
    let mut outcomes = BTreeMap::new();
    for turn in 0..OFTEN {
        let start = popup.get("/auth/web/account/start").await;
        *outcomes.entry(start.outcome).or_insert(0) += 1;
        if start.outcome == "started" {
            let back = popup.come_back("account", &state_in(location(&start)), &format!("code{turn}")).await;
            *outcomes.entry(back.outcome).or_insert(0) += 1;
        }
    }
    assert!(outcomes["ok"] > 0 && outcomes["throttled"] > 0, "{outcomes:?}");

    assert_user_is_not_affected(&harness, &refresh_token, "silent sign-ins").await;
}

#[tokio::test]
async fn automatic_sign_ins_are_limited_and_deliberate_ones_still_work() {
    let harness = barely_enough([]).await;
    let led = Browser::new(&harness).with("sec-fetch-site", Some("cross-site"));
    for _ in 0..2 {
        assert_eq!(led.clone().get("/auth/web/site/start").await.outcome, "started");
    }
    let refused = led.clone().get("/auth/web/site/start").await;
    assert_eq!((refused.response.status().as_u16(), refused.outcome), (429, "throttled"));

    let retry = "/auth/web/site/start?return_to=%2F";
    assert_notice_page(&harness, &refused, Notice::Throttled, Some(retry));
    let clicked = led.with("sec-fetch-site", Some("same-origin")).get(retry).await;

    assert_eq!(clicked.outcome, "started");
}

/// Who shows both the state and the cookie of the browser that began did so on purpose: no page of
/// another site has either.
#[tokio::test]
async fn guessed_codes_in_the_browser_that_began_are_slowed() {
    let harness = Harness::with((0..3).map(|_| Reply::json(r#"{"errcode":40029}"#)), |setup| {
        with_browsers(setup);
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(1), burst: 3 };
    })
    .await;
    let mut browser = Browser::new(&harness).with("sec-fetch-site", Some("none"));
    let mut outcomes = Vec::new();
    for guess in 0..4 {
        let answer = browser.get("/auth/web/account/start").await;
        if answer.outcome != "started" {
            outcomes.push(answer.outcome);
            continue;
        }
        let state = state_in(location(&answer));
        outcomes.push(browser.come_back("account", &state, &format!("guess{guess}")).await.outcome);
    }

    assert_eq!(outcomes, ["code_invalid", "code_invalid", "code_invalid", "throttled"]);
}
