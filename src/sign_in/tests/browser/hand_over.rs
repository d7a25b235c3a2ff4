//! The hand-over of a program's session to a web-view.

use super::*;

const PAGE: &str = "/orders?id=7";
const CONFIRM: &str = "/auth/ticket/confirm";
const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

/// WeChat's answer to a mini program's code.
fn session_of(openid: &str, unionid: Option<&str>) -> Reply {
    let unionid = unionid.map(|unionid| format!(r#","unionid":"{unionid}""#)).unwrap_or_default();
    Reply::json(&format!(r#"{{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"{openid}"{unionid}}}"#))
}

/// A harness, and the access token of a person who is signed in to the mini program.
async fn with_program(replies: impl IntoIterator<Item = Reply>) -> (Harness, String) {
    let replies = [session_of("oProgram", None)].into_iter().chain(replies);
    let harness = harness(replies).await;
    let token = sign_in_program(&harness, CODE).await;
    (harness, token)
}

async fn sign_in_program(harness: &Harness, code: &str) -> String {
    let body = json!({ "code": code, "app": "shop" }).to_string();
    let answer = harness.send(login_request(&body)).await;
    json_of(&answer)["access_token"].as_str().expect("a token").to_owned()
}

async fn ask_for_ticket(harness: &Harness, token: &str) -> SignInAnswer {
    let mut request = request("POST", "/auth/ticket", None, "");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    harness.send(request).await
}

async fn ticket(harness: &Harness, token: &str) -> String {
    let answer = ask_for_ticket(harness, token).await;
    assert_eq!((answer.response.status().as_u16(), answer.outcome), (200, "ticket"));
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let document = json_of(&answer);
    assert_eq!((document.as_object().unwrap().len(), &document["expires_in"]), (2, &json!(60)));
    document["ticket"].as_str().unwrap().to_owned()
}

fn page(ticket: &str, return_to: &str) -> String {
    let return_to: String = form_urlencoded::byte_serialize(return_to.as_bytes()).collect();
    format!("/auth/ticket?t={ticket}&return_to={return_to}")
}

fn form(ticket: &str, return_to: &str) -> String {
    page(ticket, return_to).split_once('?').unwrap().1.to_owned()
}

/// A web-view, as WeChat's program opens a page in it.
fn web_view(harness: &Harness) -> Browser<'_> {
    Browser::new(harness).with("sec-fetch-site", Some("none"))
}

/// The same browser, which is not WeChat's.
fn outside_wechat<'a>(browser: &Browser<'a>) -> Browser<'a> {
    browser.with("user-agent", Some("Mozilla/5.0 (Linux; Android 15) Chrome/142.0"))
}

fn refused(answer: &SignInAnswer) -> (u16, &'static str) {
    (answer.response.status().as_u16(), answer.outcome)
}

#[tokio::test]
async fn a_ticket_signs_a_web_view_in_and_leads_to_its_page() {
    let (harness, token) = with_program([]).await;
    let ticket = ticket(&harness, &token).await;
    let mut browser = web_view(&harness);

    let answer = browser.get(&page(&ticket, PAGE)).await;

    assert_eq!(refused(&answer), (303, "ok"));
    assert_eq!(header(&answer, "location"), Some(PAGE));
    assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"));
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let [cookie] = set_cookies(&answer)[..] else { panic!("one cookie") };
    assert!(cookie.starts_with("__Host-menshen=") && cookie.ends_with("; Secure; HttpOnly; SameSite=Lax"));
    assert_eq!(answer.app.as_deref(), Some("shop"));
    assert_eq!(answer.identity.unwrap().subject.openid.as_str(), "oProgram");
    assert!(browser.is_signed_in().await);
    let mut request = request("GET", "/", None, "").into_parts().0;
    request.headers.insert("cookie", format!("{SESSION}={}", browser.jar[SESSION]).parse().unwrap());
    let credential = harness.login.credential(&request, CrossSite::Refuse).unwrap().unwrap();
    let caller = harness.login.authenticate(&credential, harness.clock.now()).await.unwrap();
    assert_eq!(caller.header_values().source, "wx_http");
    assert_eq!(harness.metrics.hand_overs.with_label_values(&["ok"]).get(), 1);
}

#[tokio::test]
async fn a_ticket_is_good_once_on_all_nodes() {
    let (harness, token) = with_program([]).await;
    let fake = Fake::start([]).await;
    let mut setup = Setup::default();
    with_browsers(&mut setup);
    setup.wechat.hosts = vec![fake.url()];
    let other = Harness::on(fake, &setup, harness.clock.clone(), Arc::clone(&harness.store));
    for _ in 0..20 {
        let ticket = ticket(&harness, &token).await;
        let path = page(&ticket, PAGE);
        let (mut one, mut two, mut three) = (web_view(&harness), web_view(&other), web_view(&other));

        let (a, b, c) = tokio::join!(one.get(&path), two.get(&path), three.get(&path));

        let mut outcomes = [a.outcome, b.outcome, c.outcome];
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["ok", "ticket_unknown", "ticket_unknown"]);
        assert_eq!([a, b, c].iter().map(|answer| set_cookies(answer).len()).sum::<usize>(), 1);
    }
}

#[tokio::test]
async fn an_unusable_ticket_is_a_page_and_no_session() {
    let (harness, token) = with_program([]).await;
    let spent = ticket(&harness, &token).await;
    web_view(&harness).get(&page(&spent, PAGE)).await;
    let old = ticket(&harness, &token).await;
    harness.clock.advance(Duration::from_secs(60));
    let unknown = "A".repeat(43);
    let table = [
        (page(&spent, PAGE), 403, "ticket_unknown", Notice::TicketUnknown),
        (page(&old, PAGE), 403, "ticket_unknown", Notice::TicketUnknown),
        (page(&unknown, PAGE), 403, "ticket_unknown", Notice::TicketUnknown),
        (page("x", PAGE), 403, "ticket_unknown", Notice::TicketUnknown),
        (page(&format!("{unknown}="), PAGE), 403, "ticket_unknown", Notice::TicketUnknown),
        (format!("/auth/ticket?return_to={PAGE}"), 400, "ticket_malformed", Notice::Malformed),
        (format!("/auth/ticket?t={unknown}&t={unknown}"), 400, "ticket_malformed", Notice::Malformed),
    ];
    for (path, status, outcome, notice) in table {
        let answer = web_view(&harness).get(&path).await;

        assert_eq!(assert_notice_page(&harness, &answer, notice, None), (status, outcome), "{path}");
        assert_eq!(set_cookies(&answer), Vec::<&str>::new(), "{path}");
    }
    let elsewhere = web_view(&harness).with("host", Some("evil.example")).get(&page(&unknown, PAGE)).await;
    assert_eq!(refused(&elsewhere), (404, "nothing_to_sign_in_to"));
}

#[tokio::test]
async fn what_no_user_opens_spends_no_ticket() {
    let (harness, token) = with_program([]).await;
    let ticket = ticket(&harness, &token).await;
    let path = page(&ticket, PAGE);
    let browser = web_view(&harness);
    let heads = browser.clone().send(request("HEAD", &path, None, "")).await;
    assert_eq!(refused(&heads), (405, "method_not_allowed"));
    for (name, value) in [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("x-moz", "prefetch"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-dest", "iframe"),
        ("sec-fetch-dest", "image"),
    ] {
        let answer = browser.with(name, Some(value)).get(&path).await;
        assert_eq!(refused(&answer), (403, "not_navigated"), "{name}: {value}");
    }

    assert_eq!(web_view(&harness).get(&path).await.outcome, "ok");
}

#[tokio::test]
async fn a_browser_is_asked_first_if_it_may_not_be_the_persons_own() {
    // Who holds the browser, what it says led it there, and whether it is asked.
    let table = [
        ("nobody", Some("none"), false),
        ("nobody", Some("same-origin"), false),
        ("nobody", None, false),
        ("nobody", Some("cross-site"), true),
        ("nobody", Some("same-site"), true),
        ("nobody", Some("something new"), true),
        ("an ended session", Some("none"), false),
        ("not a cookie", Some("none"), false),
        ("another", Some("none"), true),
        ("another", Some("same-origin"), true),
        ("two cookies", Some("none"), true),
        ("a blocked one", Some("none"), true),
        ("the same person", Some("none"), false),
        ("the same person", Some("cross-site"), true),
    ];
    for (holder, site, is_asked) in table {
        let grant = if holder == "the same person" {
            GRANT.replace("snsapi_base", "snsapi_login").replace('}', r#","unionid":"uOne"}"#)
        } else {
            GRANT.to_owned()
        };
        let info = r#"{"openid":"oWebPerson","nickname":"x","headimgurl":"","unionid":"uOne"}"#;
        let replies = [session_of("oProgram", Some("uOne")), Reply::json(&grant), Reply::json(info)];
        let harness = harness(replies).await;
        let token = sign_in_program(&harness, CODE).await;
        let mut browser = Browser::new(&harness);
        match holder {
            "nobody" => {}
            "not a cookie" => drop(browser.jar.insert(SESSION.into(), "x".into())),
            "an ended session" => drop(browser.jar.insert(SESSION.into(), "A".repeat(64))),
            "the same person" => assert_eq!(browser.sign_in("site", "code").await.outcome, "ok"),
            _ => assert_eq!(browser.sign_in("account", "code").await.outcome, "ok"),
        }
        if holder == "two cookies" {
            let doubled = format!("{}; {SESSION}=x", browser.jar[SESSION]);
            browser.jar.insert(SESSION.into(), doubled);
        }
        if holder == "a blocked one" {
            let subject = crate::identity::Subject {
                appid: crate::identity::AppId::parse("wx1").unwrap(),
                openid: crate::identity::OpenId::parse("oWebPerson").unwrap(),
            };
            let person = crate::session::PersonId::Subject(subject);
            harness.login.deps.sessions.block(&person, harness.clock.now()).await.unwrap();
        }
        let shown = format!("{holder}, {site:?}");
        let ticket = ticket(&harness, &token).await;
        let mut browser = browser.with("sec-fetch-site", site);

        let answer = browser.get(&page(&ticket, PAGE)).await;

        if !is_asked {
            assert_eq!(refused(&answer), (303, "ok"), "{shown}");
            continue;
        }
        assert_eq!(refused(&answer), (200, "hand_over_asked"), "{shown}");
        assert_eq!(set_cookies(&answer), Vec::<&str>::new(), "{shown}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "strict-origin"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(header(&answer, name), Some(value), "{shown} {name}");
        }
        let html = String::from_utf8(answer.response.body().to_vec()).unwrap();
        assert!(!html.contains("<script") && html.contains(r#"method="post" action="/auth/ticket/confirm""#));
        assert!(html.contains(&format!(r#"name="t" value="{ticket}""#)), "{shown}");
        assert!(html.contains(r#"name="return_to" value="/orders?id=7""#), "{shown}");

        let mut browser = outside_wechat(&browser.with("sec-fetch-site", Some("same-origin")));
        let answer = browser.send(request("POST", CONFIRM, FORM, &form(&ticket, PAGE))).await;

        assert_eq!(refused(&answer), (303, "ok"), "{shown}");
        assert_eq!(header(&answer, "location"), Some(PAGE), "{shown}");
        assert_eq!(header(&answer, "referrer-policy"), Some("no-referrer"), "{shown}");
        browser.jar.insert(SESSION.into(), set_cookies(&answer)[0].split(['=', ';']).nth(1).unwrap().into());
        let session = json_of(&browser.get("/auth/session").await);
        assert_eq!(session["openid"], "oProgram", "{shown}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_answer_the_question() {
    let (harness, token) = with_program([]).await;
    let ticket = ticket(&harness, &token).await;
    let body = form(&ticket, PAGE);
    let browser = web_view(&harness);
    let own = ("origin", Some(ORIGIN));
    for headers in [
        [("sec-fetch-site", Some("cross-site")), ("origin", Some("https://evil.example"))],
        [("sec-fetch-site", Some("same-site")), own],
        [("sec-fetch-site", None), ("origin", Some("https://evil.example"))],
        [("sec-fetch-site", None), ("origin", Some("https://other.example.com"))],
        [("sec-fetch-site", None), ("origin", Some("null"))],
    ] {
        let [(site, is), (origin, from)] = headers;
        let mut browser = browser.with(site, is).with(origin, from);

        let answer = browser.send(request("POST", CONFIRM, FORM, &body)).await;

        assert_eq!(refused(&answer), (403, "cross_site"), "{headers:?}");
        assert_eq!(set_cookies(&answer), Vec::<&str>::new());
    }
    for (content_type, body, expected) in [
        (Some("application/json"), json!({ "t": ticket }).to_string(), (415, "media_type_unsupported")),
        (FORM, "return_to=%2F".into(), (400, "request_malformed")),
        (FORM, format!("t={ticket}&t={ticket}"), (400, "request_malformed")),
        (FORM, "t=x".into(), (403, "ticket_unknown")),
    ] {
        let mut browser = browser.with("sec-fetch-site", Some("same-origin"));
        let answer = browser.send(request("POST", CONFIRM, content_type, &body)).await;
        assert_eq!(refused(&answer), expected, "{body}");
    }
    let mut browser = outside_wechat(&browser.with("sec-fetch-site", None).with(own.0, own.1));
    let answer = browser.send(request("POST", CONFIRM, FORM, &body)).await;
    assert_eq!(refused(&answer), (303, "ok"), "nothing was spent");
}

#[tokio::test]
async fn a_form_that_its_policy_would_stop_leads_on_by_a_link() {
    let (harness, token) = with_program([]).await;
    let in_wechat = "Mozilla/5.0 (iPhone) MicroMessenger/8.0.50 miniProgram/wx0";
    let ticket = ticket(&harness, &token).await;
    let mut browser = web_view(&harness).with("sec-fetch-site", Some("same-origin"));
    browser.headers.push(("user-agent", in_wechat.into()));

    let answer = browser.send(request("POST", CONFIRM, FORM, &form(&ticket, PAGE))).await;

    assert_eq!(refused(&answer), (200, "ok"));
    assert_eq!(set_cookies(&answer).len(), 1);
    let html = String::from_utf8(answer.response.body().to_vec()).unwrap();
    assert!(html.contains(r#"href="/orders?id=7""#), "{html}");
}

#[tokio::test]
async fn a_ticket_leads_only_where_a_sign_in_may_return_to() {
    for (return_to, expected) in [
        ("/a?b=c#d", "/a?b=c#d"),
        ("https://shop.example.com/a", "https://shop.example.com/a"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/auth/logout", "/"),
        ("", "/"),
    ] {
        let (harness, token) = with_program([]).await;
        let ticket = ticket(&harness, &token).await;

        let answer = web_view(&harness).get(&page(&ticket, return_to)).await;

        assert_eq!(header(&answer, "location"), Some(expected), "{return_to}");
    }
}

#[tokio::test]
async fn a_page_that_is_loaded_again_needs_no_second_ticket() {
    let (harness, token) = with_program([]).await;
    let ticket = ticket(&harness, &token).await;
    let mut browser = web_view(&harness);
    browser.get(&page(&ticket, PAGE)).await;

    let again = browser.clone().get(&page(&ticket, PAGE)).await;
    let elsewhere = web_view(&harness).get(&page(&ticket, PAGE)).await;

    assert_eq!((refused(&again), header(&again, "location")), ((303, "signed_in_already"), Some(PAGE)));
    assert_eq!(set_cookies(&again), Vec::<&str>::new());
    assert_eq!(refused(&elsewhere), (403, "ticket_unknown"));
}

#[tokio::test]
async fn a_logout_of_the_program_ends_its_web_view_and_its_tickets() {
    let (harness, token) = with_program([]).await;
    let (used, unused) = (ticket(&harness, &token).await, ticket(&harness, &token).await);
    let mut browser = web_view(&harness);
    browser.get(&page(&used, PAGE)).await;
    assert!(browser.is_signed_in().await);

    let mut logout = request("POST", "/auth/logout", None, "");
    logout.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    assert_eq!(harness.send(logout).await.outcome, "logged_out");

    assert!(!browser.is_signed_in().await);
    assert_eq!(refused(&web_view(&harness).get(&page(&unused, PAGE)).await), (403, "ticket_unknown"));
}

#[tokio::test]
async fn only_a_program_that_hands_over_gets_a_ticket() {
    let table: [(bool, Option<bool>, u16, &str); 4] = [
        (true, None, 200, "ticket"),
        (true, Some(true), 200, "ticket"),
        (true, Some(false), 403, "hand_over_refused"),
        (false, None, 403, "hand_over_refused"),
    ];
    for (has_origins, hand_over, status, outcome) in table {
        let harness = Harness::with([session_of("oProgram", None)], |setup| {
            setup.hand_over = hand_over;
            setup.login.origins = if has_origins { vec![ORIGIN.into()] } else { vec![] };
        })
        .await;
        let token = sign_in_program(&harness, CODE).await;

        let answer = ask_for_ticket(&harness, &token).await;

        assert_eq!(refused(&answer), (status, outcome), "{has_origins} {hand_over:?}");
    }
}

#[tokio::test]
async fn a_cookie_gets_no_ticket() {
    let harness = harness([Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness).with("sec-fetch-site", Some("same-origin"));
    browser.sign_in("account", "code").await;

    let answer = browser.send(request("POST", "/auth/ticket", None, "")).await;
    let nothing = harness.send(request("POST", "/auth/ticket", None, "")).await;

    assert_eq!(refused(&answer), (401, "no_token"));
    assert_eq!(refused(&nothing), (401, "no_token"));
    assert_eq!(header(&nothing, "www-authenticate"), Some(r#"Bearer realm="menshen""#));
}

#[tokio::test]
async fn a_user_who_asks_for_too_many_tickets_slows_no_other() {
    let replies = [session_of("oProgram", None), session_of("oOther", None)];
    let harness = Harness::with(replies, |setup| {
        with_browsers(setup);
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(1), burst: 3 };
    })
    .await;
    let (mine, other) = (sign_in_program(&harness, CODE).await, sign_in_program(&harness, "other").await);
    for _ in 0..3 {
        ticket(&harness, &mine).await;
    }

    let answer = ask_for_ticket(&harness, &mine).await;

    assert_eq!(refused(&answer), (429, "throttled"));
    assert!(header(&answer, "retry-after").is_some());
    ticket(&harness, &other).await;
}

#[tokio::test]
async fn a_store_that_does_not_answer_spends_no_ticket() {
    let (harness, token) = with_program([]).await;
    let ticket = ticket(&harness, &token).await;
    harness.store.set_away(true);

    let answer = web_view(&harness).get(&page(&ticket, PAGE)).await;

    assert_eq!(refused(&answer), (503, "store_unavailable"));
    harness.store.set_away(false);
    assert_eq!(web_view(&harness).get(&page(&ticket, PAGE)).await.outcome, "ok");
}

#[test]
fn a_ticket_is_not_shown_in_debug_output() {
    let ticket = crate::sign_in::browser::Ticket::draw(&SystemEntropy).unwrap();

    assert_eq!(format!("{ticket:?}"), "Ticket([redacted])");
}
