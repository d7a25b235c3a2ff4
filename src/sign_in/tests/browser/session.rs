//! What a browser's session shows of itself, and how it ends.

use super::*;

const LOGOUT: &str = "/auth/logout";
const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
const DELETED: &str = "__Host-menshen=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax";

/// The form of a page that says that the user is still signed in.
const SIGN_OUT: Action<'static> =
    Action::SignOut(SignOut { path: LOGOUT, return_to: None, everywhere: false });

async fn signed_in(harness: &Harness) -> Browser<'_> {
    let mut browser = Browser::new(harness).with("sec-fetch-site", Some("same-origin"));
    browser.sign_in("account", "code").await;
    assert!(browser.is_signed_in().await);
    browser
}

/// The same browser, whose script sends the request.
fn script<'a>(browser: &Browser<'a>) -> Browser<'a> {
    let browser = browser.with("sec-fetch-mode", Some("cors")).with("sec-fetch-dest", Some("empty"));
    browser.with("accept", Some("*/*"))
}

#[tokio::test]
async fn session_endpoint_shows_the_subject_and_the_expiry() {
    let grant = GRANT.replace("snsapi_base", "snsapi_login").replace('}', r#","unionid":"uPerson"}"#);
    let info = r#"{"openid":"oWebPerson","nickname":"长\n安 👩","headimgurl":"https://thirdwx.qlogo.cn/x","unionid":"uPerson"}"#;
    let harness = harness([Reply::json(&grant), Reply::json(info)]).await;
    let mut browser = Browser::new(&harness);
    assert_eq!(browser.sign_in("site", "code").await.outcome, "ok");

    let answer = browser.get("/auth/session").await;

    let document = json_of(&answer);
    assert_eq!(document["app"], "site");
    assert_eq!((&document["openid"], &document["unionid"]), (&json!("oWebPerson"), &json!("uPerson")));
    assert_eq!(
        (&document["nickname"], &document["avatar"]),
        (&json!("长安 👩"), &json!("https://thirdwx.qlogo.cn/x"))
    );
    assert_eq!(document["expires_at"], document["session"]["expires_at"]);
    assert_eq!(count(&harness, "website", "ok"), 1);
}

#[tokio::test]
async fn cookie_of_no_session_is_deleted_and_an_undecided_one_is_kept() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = signed_in(&harness).await;
    let good = browser.jar[SESSION].clone();
    harness.store.set_away(true);
    let mut unsure = Browser::new(&harness);
    unsure.jar.insert(SESSION.into(), format!("{}A", good.get(..63).unwrap()));

    let answer = unsure.get("/auth/session").await;
    assert_eq!((answer.response.status().as_u16(), set_cookies(&answer).len()), (503, 0));
    harness.store.set_away(false);

    for dead in ["A".repeat(64), "x".into()] {
        browser.jar.insert(SESSION.into(), dead);
        let answer = browser.clone().get("/auth/session").await;
        assert_eq!((answer.response.status().as_u16(), set_cookies(&answer)), (401, vec![DELETED]));
    }
    browser.jar.insert(SESSION.into(), good.clone());
    let answer = browser.with("authorization", Some("Bearer x")).get("/auth/session").await;
    assert_eq!((answer.outcome, set_cookies(&answer).len()), ("several_tokens", 0), "the cookie may be good");
    harness.clock.advance(*Setup::default().sessions.lifetime);
    let answer = browser.get("/auth/session").await;
    assert_eq!((answer.response.status().as_u16(), set_cookies(&answer)), (401, vec![DELETED]));
}

#[tokio::test]
async fn logout_ends_the_session_and_deletes_the_cookie() {
    type Row<'a> = (bool, Option<&'a str>, &'a str, u16, Option<&'a str>);
    let table: &[Row<'_>] = &[
        (false, FORM, "", 200, None),
        (false, FORM, "return_to=%2Fbye", 303, Some("/bye")),
        (
            false,
            FORM,
            "return_to=https%3A%2F%2Fshop.example.com%2Fbye&everywhere=true",
            303,
            Some("https://shop.example.com/bye"),
        ),
        (false, FORM, "return_to=%2F%2Fevil.example", 200, None),
        (false, FORM, "return_to=https%3A%2F%2Fevil.example", 200, None),
        (true, FORM, "", 204, None),
        (true, FORM, "return_to=%2Fbye", 303, Some("/bye")),
        (true, Some("application/json"), r#"{"return_to":7}"#, 204, None),
        (true, None, "", 204, None),
    ];
    for (is_script, content_type, body, status, location) in table {
        let harness = harness([Reply::json(GRANT)]).await;
        let mut browser = signed_in(&harness).await;
        let mut thief = browser.clone();
        if *is_script {
            browser = script(&browser);
        }

        let answer = browser.send(request("POST", LOGOUT, *content_type, body)).await;

        let shown = format!("{is_script} {content_type:?} {body}");
        assert_eq!((answer.response.status().as_u16(), answer.outcome), (*status, "logged_out"), "{shown}");
        assert_eq!(header(&answer, "location"), *location, "{shown}");
        assert_eq!(set_cookies(&answer), [DELETED], "{shown}");
        assert_eq!(answer.app.as_deref(), Some("account"), "{shown}");
        assert!(!thief.is_signed_in().await, "{shown}");
        if *status == 200 {
            let anonymous = SignInAnswer { identity: None, ..answer };
            assert_notice_page(&harness, &anonymous, Notice::SignedOut, Some("/auth/login"));
        }
    }
}

#[tokio::test]
async fn cross_site_request_cannot_log_out() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = signed_in(&harness).await;
    let forged = [
        browser.with("sec-fetch-site", Some("cross-site")),
        browser.with("sec-fetch-site", Some("same-site")),
        browser.with("sec-fetch-site", None).with("origin", Some("https://evil.example")),
        browser.with("sec-fetch-site", None).with("origin", Some("null")),
    ];
    for mut other in forged {
        let answer = script(&other).send(request("POST", LOGOUT, FORM, "everywhere=true")).await;
        assert_eq!((answer.response.status().as_u16(), answer.outcome), (403, "cross_site"));
        assert_eq!(json_of(&answer)["code"], "cross_site");
        // The form that the person is offered is not the other site's.
        let answer = other.send(request("POST", LOGOUT, FORM, "everywhere=true&return_to=/x")).await;
        let told = assert_notice_page_with(&harness, &answer, Notice::StillSignedIn, SIGN_OUT);
        assert_eq!(told, (403, "cross_site"));
        assert_eq!(set_cookies(&answer).len(), 0);
    }
    let image = browser.with("sec-fetch-site", Some("cross-site")).get(LOGOUT).await;
    assert_eq!((image.response.status().as_u16(), header(&image, "allow")), (405, Some("POST")));
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn logout_without_a_session_succeeds() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = signed_in(&harness).await;
    let ended = browser.clone();
    browser.send(request("POST", LOGOUT, FORM, "")).await;
    for dead in [ended.jar[SESSION].clone(), "A".repeat(64), "x".into(), String::new()] {
        let mut other = ended.clone();
        other.jar.insert(SESSION.into(), dead.clone());

        let answer = script(&other).send(request("POST", LOGOUT, FORM, "")).await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), (204, "logged_out"), "{dead}");
        assert_eq!(set_cookies(&answer), [DELETED], "{dead}");
    }
    let answer = browser.send(request("POST", LOGOUT, FORM, "return_to=/")).await;
    assert_eq!((answer.response.status().as_u16(), set_cookies(&answer).len()), (303, 0), "a second tab");
    let answer = script(&browser).send(request("POST", LOGOUT, FORM, "")).await;
    assert_eq!((answer.response.status().as_u16(), answer.outcome), (401, "no_token"), "a program");
}

/// Else the person believes that they are out, and leaves the device to the next.
#[tokio::test]
async fn failed_logout_keeps_the_cookie_and_offers_a_retry() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = signed_in(&harness).await.with("user-agent", Some("Firefox"));
    let in_wechat = browser.with("user-agent", Some("MicroMessenger/8.0.49"));
    let form = |return_to, everywhere| SignOut { path: LOGOUT, return_to, everywhere };
    harness.store.set_away(true);
    for (browser, body, form) in [
        (&browser, "", form(None, false)),
        (&browser, "return_to=/bye", form(Some("/bye"), false)),
        (&browser, "return_to=/bye&everywhere=true", form(Some("/bye"), true)),
        (&browser, "return_to=https://evil.example/", form(None, false)),
        // Their steps the page's policy would stop.
        (&browser, "return_to=https://shop.example.com/bye", form(None, false)),
        (&in_wechat, "return_to=/bye", form(None, false)),
    ] {
        let answer = browser.clone().send(request("POST", LOGOUT, FORM, body)).await;

        let told = assert_notice_page_with(&harness, &answer, Notice::StillSignedIn, Action::SignOut(form));
        assert_eq!(told, (503, "store_unavailable"), "{body}");
        assert_eq!(set_cookies(&answer).len(), 0);
    }
    harness.store.set_away(false);
    let answer = browser.clone().send(request("POST", LOGOUT, FORM, "everywhere=maybe")).await;
    let told = assert_notice_page_with(&harness, &answer, Notice::StillSignedIn, SIGN_OUT);
    assert_eq!(told, (400, "request_malformed"));
    assert!(browser.is_signed_in().await);

    let answer = browser.send(request("POST", LOGOUT, FORM, "return_to=/bye")).await;

    assert_eq!((answer.outcome, location(&answer)), ("logged_out", "/bye"));
    assert!(!browser.is_signed_in().await);
}

/// On a shared computer the next person would be them, as soon as they are let in again.
#[tokio::test]
async fn a_blocked_person_can_sign_out() {
    for everywhere in [false, true] {
        let harness = harness([Reply::json(GRANT), Reply::json(GRANT)]).await;
        let mut browser = signed_in(&harness).await;
        let mut elsewhere = Browser::new(&harness);
        elsewhere.sign_in("account", "another").await;
        let who = browser.clone().get("/auth/session").await.identity.unwrap().subject;
        let person = crate::session::PersonId::Subject(who);
        let sessions = &harness.login.deps.sessions;
        sessions.block(&person, harness.clock.now()).await.unwrap();
        let mut thief = browser.clone();
        assert_eq!(thief.clone().get("/auth/session").await.outcome, "user_blocked");

        let body = format!("return_to=/bye&everywhere={everywhere}");
        let answer = browser.send(request("POST", LOGOUT, FORM, &body)).await;

        assert_eq!((answer.outcome, location(&answer)), ("logged_out", "/bye"));
        assert_eq!(set_cookies(&answer), [DELETED]);
        sessions.unblock(&person, harness.clock.now()).await.unwrap();
        assert!(!thief.is_signed_in().await, "the session has ended");
        assert_eq!(elsewhere.is_signed_in().await, !everywhere);
    }
}

#[tokio::test]
async fn a_blocked_person_can_sign_out_of_a_mini_program() {
    for by_refresh_token in [false, true] {
        let harness = harness([Reply::json(SUCCESS)]).await;
        let answer = harness.login(CODE).await;
        let tokens = json_of(&answer);
        let person = crate::session::PersonId::Subject(answer.identity.unwrap().subject);
        let sessions = &harness.login.deps.sessions;
        sessions.block(&person, harness.clock.now()).await.unwrap();
        let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
        let ask = |method, path, body| {
            let mut request = request(method, path, Some("application/json"), body);
            request.headers_mut().insert("authorization", bearer.parse().unwrap());
            harness.send(request)
        };
        assert_eq!(ask("GET", "/auth/session", "").await.outcome, "user_blocked");
        let body = if by_refresh_token {
            json!({ "refresh_token": tokens["refresh_token"] }).to_string()
        } else {
            "{}".to_owned()
        };

        let answer = ask("POST", LOGOUT, &body).await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), (204, "logged_out"));
        sessions.unblock(&person, harness.clock.now()).await.unwrap();
        assert_eq!(ask("GET", "/auth/session", "").await.outcome, "session_ended");
    }
}

/// `cors` lists the origin of the page, with credentials.
#[tokio::test]
async fn listed_page_of_the_same_site_signs_out_with_the_cookie_and_others_do_not() {
    let mut harness = harness([Reply::json(GRANT)]).await;
    harness.cross_site = CrossSite::AllowSameSite;
    let browser = signed_in(&harness).await;
    let json = Some("application/json");
    for (site, expected) in [("cross-site", (403, "cross_site")), ("same-site", (204, "logged_out"))] {
        let mut page = script(&browser.with("sec-fetch-site", Some(site)));

        let answer = page.send(request("POST", LOGOUT, json, "{}")).await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), expected, "{site}");
    }
    assert!(!browser.clone().is_signed_in().await);
}

#[tokio::test]
async fn cross_site_form_neither_signs_in_nor_locks_out() {
    let harness = Harness::with([Reply::json(SUCCESS)], |setup| {
        with_browsers(setup);
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(60), burst: 1 };
    })
    .await;
    let form = "application/x-www-form-urlencoded";
    let send = |mode: &str, site: &str, path, body| {
        let mut request = request("POST", path, Some(form), body);
        for (name, value) in [("sec-fetch-mode", mode), ("sec-fetch-site", site)] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        harness.send(request)
    };
    let refresh_token = format!("refresh_token={}", "A".repeat(86));
    for (mode, site) in [("navigate", "cross-site"), ("no-cors", "cross-site"), ("navigate", "same-site")] {
        for (path, body) in [
            ("/auth/login", "app=shop&code=guess"),
            ("/auth/refresh", &*refresh_token),
            ("/auth/logout", &*refresh_token),
        ] {
            let answer = send(mode, site, path, body).await;

            let status = answer.response.status().as_u16();
            assert_eq!((status, answer.outcome), (403, "cross_site"), "{path} {mode} {site}");
        }
    }
    assert_eq!(harness.fake.requests().len(), 0);
    let body = r#"{"app":"shop","code":"code"}"#;
    let mut asked_first = request("POST", "/auth/login", Some("application/json"), body);
    for (name, value) in [("sec-fetch-mode", "cors"), ("sec-fetch-site", "cross-site")] {
        asked_first.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = harness.send(asked_first).await;
    assert_eq!(answer.outcome, "ok", "a script that asked first, as the mini program's developer tools are");
}
