//! The way back, and all that is no way back: attacks D6 to D16 of docs/threat-model.md.

use super::*;

const RETRY: &str = "/auth/web/account/start?return_to=%2Fcart%3Fa%3Db%26c";
const RETRY_ROOT: &str = "/auth/web/account/start?return_to=%2F";

#[tokio::test]
async fn callback_opens_a_session_and_redirects_to_return_to() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart?a=b&c").await;

    let answer = browser.come_back("account", &state, "code").await;

    assert_eq!((answer.response.status().as_u16(), answer.outcome), (303, "ok"));
    assert_eq!(location(&answer), "/cart?a=b&c");
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
    let cookies = set_cookies(&answer);
    let [cookie] = cookies[..] else { panic!("{cookies:?}") };
    let (value, attributes) = cookie.split_once("; ").unwrap();
    let lifetime = Setup::default().sessions.lifetime.as_secs();
    assert_eq!(value.len(), SESSION.len() + 1 + 64);
    assert_eq!(attributes, format!("Path=/; Max-Age={lifetime}; Secure; HttpOnly; SameSite=Lax"));
    assert_eq!(answer.app.as_deref(), Some("account"));
    assert_eq!(answer.identity.as_ref().unwrap().subject.to_string(), "wx1:oWebPerson");
    assert!(browser.is_signed_in().await);
    assert_eq!(count(&harness, "official_account", "ok"), 1);
    assert_eq!(harness.logins("ok"), 0);
    let asked = harness.fake.requests();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("/sns/oauth2/access_token?appid=wx1&") && asked[0].contains("code=code&"));
}

#[tokio::test]
async fn redirects_drop_the_fragment_of_wechats_address() {
    for (app, return_to, expected) in [
        ("account", "/cart", "/cart#"),
        ("account", "/cart#/items", "/cart#/items"),
        ("site", "/cart", "/cart"),
    ] {
        let harness = harness([Reply::json(GRANT)]).await;
        let mut browser = Browser::new(&harness);
        let state = browser.start(app, return_to).await;

        let answer = browser.come_back(app, &state, "code").await;

        assert_eq!(header(&answer, "location"), Some(expected), "{app}");
    }
}

#[tokio::test]
async fn malformed_callback_is_refused_and_spends_no_code() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart?a=b&c").await;
    let foreign = Browser::new(&harness).start("account", "https://evil.example").await;
    let other_app = browser.start("site", "/").await;
    let long = "x".repeat(129);
    let huge = "x".repeat(4096);
    let table: Vec<(String, u16, &str, Notice, &str)> = vec![
        ("code=x".into(), 400, "state_missing", Notice::Malformed, RETRY_ROOT),
        (String::new(), 400, "state_missing", Notice::Malformed, RETRY_ROOT),
        ("code=x&state=".into(), 400, "state_malformed", Notice::Malformed, RETRY_ROOT),
        (
            format!("code=x&state={state}&state={state}"),
            400,
            "state_malformed",
            Notice::Malformed,
            RETRY_ROOT,
        ),
        (format!("code=x&state={state}&st%61te=y"), 400, "state_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code=x&state={long}"), 400, "state_malformed", Notice::Malformed, RETRY_ROOT),
        ("code=x&state=a-b".into(), 400, "state_malformed", Notice::Malformed, RETRY_ROOT),
        ("code=x&state=%E9".into(), 400, "state_malformed", Notice::Malformed, RETRY_ROOT),
        ("code=x&state=https://evil.example".into(), 400, "state_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code=x&state={}", "a".repeat(32)), 403, "state_unknown", Notice::Expired, RETRY_ROOT),
        (format!("code=x&state={state}x"), 403, "state_unknown", Notice::Expired, RETRY_ROOT),
        (format!("code=x&state={}", state.to_lowercase()), 403, "state_unknown", Notice::Expired, RETRY_ROOT),
        (format!("code=x&state={foreign}"), 403, "browser_mismatch", Notice::OtherBrowser, RETRY_ROOT),
        (format!("code=x&state={other_app}"), 403, "state_of_other_app", Notice::Malformed, RETRY_ROOT),
        (format!("code=&state={state}"), 400, "code_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code=x&code=y&state={state}"), 400, "code_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code={huge}&state={state}"), 400, "code_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code={long}&state={state}"), 400, "code_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code=x%26secret%3Dy&state={state}"), 400, "code_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("code=x%0d%0ay&state={state}"), 400, "code_malformed", Notice::Malformed, RETRY_ROOT),
        (format!("state={state}"), 403, "person_refused", Notice::Refused, RETRY),
        (format!("code=authdeny&state={state}"), 403, "person_refused", Notice::Refused, RETRY),
    ];
    for (query, status, outcome, notice, retry) in &table {
        let answer = browser.get(&format!("/auth/web/account/callback?{query}")).await;

        let told = assert_notice_page(&harness, &answer, *notice, Some(retry));
        assert_eq!(told, (*status, *outcome), "{query}");
        assert_eq!(set_cookies(&answer).len(), 0, "{query}");
        assert!(count(&harness, "official_account", outcome) > 0, "{query}");
    }
    let elsewhere = browser.with("host", Some("other.example.com"));
    let answer = elsewhere.clone().come_back("account", &state, "x").await;
    assert_eq!(answer.outcome, "state_of_other_origin");
    let answer = elsewhere.with("host", Some("evil.example")).come_back("account", &state, "x").await;
    assert_eq!(answer.outcome, "origin_unknown");
    assert_eq!(harness.fake.requests().len(), 0, "wechat was asked nothing");

    let answer = browser.come_back("account", &state, "code").await;

    assert_eq!(answer.outcome, "ok", "whoever the state belongs to is let in all the same");
}

#[tokio::test]
async fn browser_without_its_cookie_is_refused_unless_the_app_allows_it() {
    for (app, outcome) in [("account", "browser_cookie_missing"), ("loose", "ok")] {
        let harness = harness([Reply::json(GRANT)]).await;
        let mut browser = Browser::new(&harness);
        let state = browser.start(app, "/").await;
        browser.jar.clear();

        assert_eq!(browser.come_back(app, &state, "code").await.outcome, outcome);
    }
}

#[tokio::test]
async fn browser_that_stores_no_cookies_gets_a_page_instead_of_a_redirect_loop() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness).with("user-agent", Some("MicroMessenger/8.0.49"));
    let state = browser.start("loose", "/cart?a=b&c").await;
    browser.jar.clear();
    let answer = browser.come_back("loose", &state, "code").await;
    assert_eq!(answer.outcome, "ok");
    let place = location(&answer).to_owned();

    let keeps_it = browser.get(&place).await;
    browser.jar.clear();
    let loses_it = browser.get(&place).await;

    assert_eq!((keeps_it.outcome, location(&keeps_it)), ("signed_in_already", "/cart?a=b&c"));
    let retry = "/auth/web/loose/start?return_to=%2Fcart%3Fa%3Db%26c";
    let told = assert_notice_page(&harness, &loses_it, Notice::OtherBrowser, Some(retry));
    assert_eq!(told, (403, "browser_cookie_missing"));
}

#[tokio::test]
async fn wrong_browser_cookie_is_always_refused() {
    for app in ["account", "loose"] {
        let harness = harness([Reply::json(GRANT)]).await;
        let mut browser = Browser::new(&harness);
        let state = browser.start(app, "/").await;
        let word = browser.jar[BROWSER].clone();
        let mut other = Browser::new(&harness);
        other.start(app, "/").await;
        for wrong in
            [other.jar[BROWSER].clone(), String::new(), "x".into(), format!("{word}; {BROWSER}={word}")]
        {
            browser.jar.insert(BROWSER.into(), wrong.clone());

            let answer = browser.come_back(app, &state, "code").await;

            assert_eq!(answer.outcome, "browser_mismatch", "{app} {wrong}");
        }
        browser.jar.insert(BROWSER.into(), word);
        assert_eq!(browser.come_back(app, &state, "code").await.outcome, "ok");
    }
}

#[tokio::test]
async fn state_is_valid_for_ten_minutes_and_keeps_return_to_for_ten_more() {
    for (seconds, outcome, retry) in [
        (599, "ok", None),
        (600, "state_unknown", Some(RETRY)),
        (1199, "state_unknown", Some(RETRY)),
        (1200, "state_unknown", Some(RETRY_ROOT)),
    ] {
        for has_cookie in [true, false] {
            let harness = harness([Reply::json(GRANT)]).await;
            let mut browser = Browser::new(&harness);
            let state = browser.start("account", "/cart?a=b&c").await;
            harness.clock.advance(Duration::from_secs(seconds));
            if !has_cookie {
                // A browser forgets it after ten minutes.
                browser.jar.clear();
            }

            let answer = browser.come_back("account", &state, "code").await;

            if let Some(retry) = retry {
                let told = assert_notice_page(&harness, &answer, Notice::Expired, Some(retry));
                assert_eq!(told, (403, outcome), "{seconds}");
            } else if has_cookie {
                assert_eq!(answer.outcome, outcome, "{seconds}");
            }
        }
    }
}

#[tokio::test]
async fn state_accepts_one_code() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart?a=b&c").await;
    browser.come_back("account", &state, "code").await;
    browser.jar.remove(SESSION);

    let answer = browser.come_back("account", &state, "another").await;

    assert_eq!(assert_notice_page(&harness, &answer, Notice::Expired, Some(RETRY)), (403, "state_unknown"));
    assert_eq!(set_cookies(&answer).len(), 0);
    assert_eq!(harness.fake.requests().len(), 1);
}

#[tokio::test]
async fn return_to_survives_a_lost_cookie_and_is_shown_to_no_other_client() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart?a=b&c").await;
    let mut other = Browser::new(&harness);
    other.start("account", "/").await;
    let lost = Browser { jar: BTreeMap::new(), ..browser.clone() };
    let foreign = Browser { jar: other.jar.clone(), ..browser.clone() };
    let elsewhere = lost.with("user-agent", Some("another"));
    for (mut back, notice, retry, outcome) in [
        (lost, Notice::OtherBrowser, RETRY, "browser_cookie_missing"),
        (elsewhere, Notice::OtherBrowser, RETRY_ROOT, "browser_cookie_missing"),
        (foreign, Notice::OtherBrowser, RETRY_ROOT, "browser_mismatch"),
    ] {
        let answer = back.come_back("account", &state, "code").await;

        assert_eq!(assert_notice_page(&harness, &answer, notice, Some(retry)), (403, outcome));
    }
    let path = format!("/auth/web/account/callback?code=code&state={state}");
    let mut from_another_address = request("GET", &path, None, "");
    for (name, value) in [("host", HOST), ("sec-fetch-mode", "navigate")] {
        from_another_address.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = harness.send_from("198.51.100.9", from_another_address).await;
    let told = assert_notice_page(&harness, &answer, Notice::OtherBrowser, Some(RETRY_ROOT));
    assert_eq!(told, (403, "browser_cookie_missing"));
    assert_eq!(browser.come_back("account", &state, "code").await.outcome, "ok", "nothing was spent");
}

#[tokio::test]
async fn client_with_too_many_callbacks_is_limited_and_may_reload() {
    let refusal = Reply::json(r#"{"errcode":40029}"#);
    let harness = Harness::with([refusal, Reply::json(GRANT)], |setup| {
        with_browsers(setup);
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(60), burst: 1 };
    })
    .await;
    let typed = Browser::new(&harness).with("sec-fetch-site", Some("none"));
    let mut browser = typed.clone();
    let state = browser.start("account", "/cart?a=b&c").await;
    typed.clone().sign_in("account", "of-others").await;

    let answer = browser.come_back("account", &state, "code").await;

    let told = assert_notice_page_with(&harness, &answer, Notice::Throttled, Action::Reload(RETRY));
    assert_eq!(told, (429, "throttled"));
    assert_eq!(count(&harness, "official_account", "throttled"), 1);
    let body = String::from_utf8_lossy(answer.response.body());
    assert!(!body.contains(&state), "what lets a browser in stands in no page: {body}");
    harness.clock.advance(Duration::from_secs(1));
    let reloaded = browser.come_back("account", &state, "code").await;
    assert_eq!((reloaded.outcome, location(&reloaded)), ("ok", "/cart?a=b&c"), "the scan was not in vain");
}

#[tokio::test]
async fn client_slowed_longer_than_a_code_lives_starts_again_from_return_to() {
    let harness = Harness::with([Reply::json(r#"{"errcode":40029}"#)], |setup| {
        with_browsers(setup);
        let rate = Rate { count: 6, per: Duration::from_secs(3600) };
        setup.throttle.login = config::LoginLimit { rate, burst: 2 };
    })
    .await;
    let mut browser = Browser::new(&harness).with("sec-fetch-site", Some("none"));
    let state = browser.start("account", "/cart?a=b&c").await;
    harness.login("guess1").await;
    harness.login("guess2").await;

    let answer = browser.come_back("account", &state, "code").await;

    let told = assert_notice_page(&harness, &answer, Notice::Throttled, Some(RETRY));
    assert_eq!(told, (429, "throttled"));
    assert!(String::from_utf8_lossy(answer.response.body()).contains("请等 10 分钟再试"));
}

#[tokio::test]
async fn callback_succeeds_on_retry_after_the_store_recovers() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart?a=b&c").await;
    harness.store.set_away(true);

    let answer = browser.come_back("account", &state, "code").await;

    let told = assert_notice_page_with(&harness, &answer, Notice::Unavailable, Action::Reload(RETRY_ROOT));
    assert_eq!(told, (503, "store_unavailable"));
    harness.store.set_away(false);
    let reloaded = browser.come_back("account", &state, "code").await;
    assert_eq!((reloaded.outcome, location(&reloaded)), ("ok", "/cart?a=b&c"));
}

#[tokio::test]
async fn every_wechat_refusal_has_its_own_page() {
    let table: &[(i64, u16, &str, Notice, Option<&str>)] = &[
        (40029, 403, "code_invalid", Notice::CodeInvalid, None),
        (40163, 403, "code_already_used", Notice::CodeInvalid, None),
        (40226, 403, "user_blocked", Notice::UserBlocked, None),
        (45011, 429, "throttled", Notice::Throttled, Some("60")),
        (-1, 503, "wechat_busy", Notice::Unavailable, Some("1")),
        (45009, 503, "wechat_quota_exhausted", Notice::Unavailable, Some("600")),
        (40013, 500, "app_misconfigured", Notice::Misconfigured, None),
        (40125, 500, "app_misconfigured", Notice::Misconfigured, None),
        (61003, 502, "wechat_unexpected", Notice::Unavailable, None),
    ];
    for (errcode, status, outcome, notice, retry_after) in table {
        let harness = harness([Reply::json(&format!(r#"{{"errcode":{errcode},"errmsg":"x"}}"#))]).await;
        let mut browser = Browser::new(&harness);
        let state = browser.start("account", "/cart?a=b&c").await;

        let answer = browser.come_back("account", &state, "code").await;

        let is_worth_a_reload = matches!(errcode, 45011 | -1);
        let action = if is_worth_a_reload { Action::Reload(RETRY) } else { Action::Link(RETRY) };
        assert_eq!(
            assert_notice_page_with(&harness, &answer, *notice, action),
            (*status, *outcome),
            "{errcode}"
        );
        assert_eq!(header(&answer, "retry-after"), *retry_after, "{errcode}");
        assert!(!browser.is_signed_in().await);
    }
}

#[tokio::test]
async fn snapshot_page_visitor_is_never_signed_in() {
    let snapshot = GRANT.replace('}', r#","is_snapshotuser":1}"#);
    let harness = harness([Reply::json(&snapshot), Reply::json(r#"{"errcode":40163}"#)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart?a=b&c").await;
    for _ in 0..2 {
        let answer = browser.come_back("account", &state, "code").await;

        let told = assert_notice_page(&harness, &answer, Notice::SnapshotVisitor, Some(RETRY));
        assert_eq!(told, (403, "snapshot_visitor"));
        assert_eq!(set_cookies(&answer).len(), 0);
    }
    assert_eq!(harness.fake.requests().len(), 1);
}

#[tokio::test]
async fn planted_cookie_does_not_reveal_the_session() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let planted = "A".repeat(64);
    browser.jar.insert(SESSION.into(), planted.clone());

    browser.sign_in("account", "code").await;

    assert_ne!(browser.jar[SESSION], planted);
    assert!(browser.is_signed_in().await);
    browser.jar.insert(SESSION.into(), planted);
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn sign_in_as_another_user_ends_the_previous_session() {
    let other = GRANT.replace("oWebPerson", "oAnother");
    let harness = harness([Reply::json(GRANT), Reply::json(&other)]).await;
    let mut browser = Browser::new(&harness);
    browser.sign_in("account", "one").await;
    let mut before = browser.clone();
    assert!(before.is_signed_in().await);

    browser.sign_in("account", "two").await;

    assert!(browser.is_signed_in().await);
    assert_ne!(browser.jar[SESSION], before.jar[SESSION]);
    assert!(!before.is_signed_in().await);
}

#[tokio::test]
async fn two_tabs_can_both_sign_in() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let first = browser.start("account", "/first").await;
    let second = browser.start("account", "/second").await;

    let answers =
        [browser.come_back("account", &second, "b").await, browser.come_back("account", &first, "a").await];

    assert_eq!(answers.each_ref().map(|answer| answer.outcome), ["ok"; 2]);
    assert_eq!(answers.each_ref().map(location), ["/second", "/first"]);
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn one_openid_in_two_apps_is_two_people() {
    let harness = harness([Reply::json(GRANT)]).await;

    let one = Browser::new(&harness).sign_in("account", "one").await;
    let other = Browser::new(&harness).sign_in("loose", "two").await;

    assert_ne!(one.identity.unwrap().subject, other.identity.unwrap().subject);
}

#[tokio::test]
async fn store_failure_spends_no_code_and_opens_no_session() {
    let mut outcomes = std::collections::BTreeSet::new();
    for steps in 0..8 {
        let harness = harness([Reply::json(GRANT), Reply::json(r#"{"errcode":40163}"#)]).await;
        let mut browser = Browser::new(&harness);
        let state = browser.start("account", "/").await;
        harness.store.set_away_after(steps);
        let answer = browser.come_back("account", &state, "code").await;
        harness.store.set_away(false);

        outcomes.insert(answer.outcome);
        assert_eq!(browser.is_signed_in().await, answer.outcome == "ok", "{steps}");
        assert_eq!(set_cookies(&answer).len(), usize::from(answer.outcome == "ok"), "{steps}");
        if harness.fake.requests().is_empty() {
            assert_eq!((answer.response.status().as_u16(), answer.outcome), (503, "store_unavailable"));
            assert_eq!(browser.come_back("account", &state, "code").await.outcome, "ok", "{steps}");
        }
    }
    assert_eq!(Vec::from_iter(outcomes), ["ok", "store_unavailable"]);
}

#[tokio::test]
async fn malformed_store_row_is_an_error() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/").await;
    for row in [&b""[..], b"\x00", b"\x01", b"\x01\x80", b"\x02\xff"] {
        let key = crate::sign_in::browser::test_key(&state);
        Store::put(&*harness.store, &key, Bytes::from_static(row), Duration::from_secs(60)).await.unwrap();

        let answer = browser.come_back("account", &state, "code").await;

        let told = assert_notice_page(&harness, &answer, Notice::Internal, Some(RETRY_ROOT));
        assert_eq!(told, (500, "internal_error"), "{row:?}");
    }
}
