//! A way back that is taken twice, by one browser: proxies and WeChat's own browser do that.

use super::*;
use crate::sign_in::tests::once::Cluster;

fn held() -> Reply {
    Reply::Held(Box::new(Reply::json(GRANT)))
}

fn spent() -> Reply {
    Reply::json(r#"{"errcode":40163}"#)
}

#[tokio::test]
async fn repeated_callback_gets_the_same_session() {
    let harness = harness([Reply::json(GRANT), spent()]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart").await;
    let first = browser.come_back("account", &state, "code").await;
    // From another address, as a telephone changes from one network to another.
    let agent = browser.with("user-agent", Some("another"));

    let second = agent.clone().come_back("account", &state, "code").await;

    assert_eq!([first.outcome, second.outcome], ["ok"; 2]);
    assert_eq!(set_cookies(&second), set_cookies(&first));
    assert_eq!(location(&second), "/cart");
    assert_eq!(harness.fake.requests().len(), 1);
}

#[tokio::test]
async fn concurrent_callbacks_exchange_the_code_once() {
    let harness = harness([held(), spent()]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/").await;
    let (mut one, mut other) = (browser.clone(), browser.clone());

    let (first, second, ()) = tokio::join!(
        one.come_back("account", &state, "code"),
        other.come_back("account", &state, "code"),
        async {
            harness.fake.requests_reach(1).await;
            harness.fake.release();
        }
    );

    assert_eq!([first.outcome, second.outcome], ["ok"; 2]);
    assert_eq!(set_cookies(&second), set_cookies(&first));
    assert_eq!(harness.fake.requests().len(), 1);
}

#[tokio::test]
async fn concurrent_callbacks_at_two_nodes_exchange_the_code_once() {
    let cluster = Cluster::with([vec![held(), spent()], vec![held(), spent()]], with_browsers).await;
    let [here, there] = [&*cluster.nodes[0], &*cluster.nodes[1]];
    let mut browser = Browser::new(here);
    let state = browser.start("account", "/cart").await;
    let (mut one, mut other) = (browser.clone(), Browser { harness: there, ..browser.clone() });

    let (first, second, ()) = tokio::join!(
        one.come_back("account", &state, "code"),
        other.come_back("account", &state, "code"),
        async {
            // Whichever node is first asks its own WeChat.
            tokio::select! {
                () = here.fake.requests_reach(1) => here.fake.release(),
                () = there.fake.requests_reach(1) => there.fake.release(),
            }
        }
    );
    let later = Browser { harness: there, ..browser.clone() }.come_back("account", &state, "code").await;
    let other_code =
        Browser { harness: there, ..browser.clone() }.come_back("account", &state, "other").await;

    assert_eq!(here.fake.requests().len() + there.fake.requests().len(), 1);
    assert_eq!([first.outcome, second.outcome, later.outcome], ["ok"; 3]);
    assert_eq!(set_cookies(&second), set_cookies(&first));
    assert_eq!(set_cookies(&later), set_cookies(&first));
    assert_eq!(location(&second), "/cart");
    assert_eq!(other_code.outcome, "state_unknown");
}

#[tokio::test]
async fn ended_session_is_not_issued_again_by_a_repeated_callback() {
    let harness = harness([Reply::json(GRANT), spent()]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/").await;
    let answer = browser.come_back("account", &state, "code").await;
    let scope = crate::session::SessionScope::Subject(answer.identity.unwrap().subject);
    harness.login.deps.sessions.revoke(&scope, harness.clock.now()).await.unwrap();

    let answer = browser.come_back("account", &state, "code").await;

    assert_eq!((answer.response.status().as_u16(), answer.outcome), (403, "code_already_used"));
    assert_eq!(set_cookies(&answer).len(), 0);
}

#[tokio::test]
async fn browser_without_its_cookie_repeats_a_callback_from_its_own_address_only() {
    let harness = harness([Reply::json(GRANT), spent()]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("loose", "/").await;
    browser.jar.clear();
    let first = browser.clone().come_back("loose", &state, "code").await;

    let same = browser.clone().come_back("loose", &state, "code").await;
    let thief = browser.with("user-agent", Some("another")).come_back("loose", &state, "code").await;

    assert_eq!([first.outcome, same.outcome, thief.outcome], ["ok", "ok", "code_already_used"]);
    assert_eq!(set_cookies(&same), set_cookies(&first));
    assert_eq!(set_cookies(&thief).len(), 0);
}

#[tokio::test]
async fn browser_that_disconnects_gets_its_session_on_retry() {
    let harness = harness([held(), spent()]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/").await;
    let mut impatient = browser.clone();
    tokio::select! {
        _ = impatient.come_back("account", &state, "code") => panic!("answered"),
        () = harness.fake.requests_reach(1) => {}
    }
    harness.fake.release();

    let answer = browser.come_back("account", &state, "code").await;

    assert_eq!(answer.outcome, "ok");
    assert_eq!(harness.fake.requests().len(), 1);
}

/// Proxies and web views send the one with the cookie and the other without.
#[tokio::test]
async fn repeated_callbacks_get_the_same_page_with_or_without_the_cookie() {
    for is_first_known in [true, false] {
        let harness = Harness::with([Reply::json(GRANT), spent()], |setup| {
            with_browsers(setup);
            setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(1), burst: 1 };
        })
        .await;
        let mut browser = Browser::new(&harness).with("sec-fetch-site", Some("none"));
        let state = browser.start("loose", "/cart").await;
        let known = browser.clone();
        let unknown = Browser { jar: BTreeMap::new(), ..browser.clone() };
        let [mut first, mut second] = if is_first_known { [known, unknown] } else { [unknown, known] };

        let first = first.come_back("loose", &state, "code").await;
        let second = second.come_back("loose", &state, "code").await;
        let mut thief = unknown_elsewhere(&browser);
        let thief = thief.come_back("loose", &state, "code").await;

        assert_eq!([first.outcome, second.outcome], ["ok"; 2], "{is_first_known}");
        assert_eq!(set_cookies(&second), set_cookies(&first));
        assert_eq!((thief.outcome, set_cookies(&thief).len()), ("code_already_used", 0));
        assert_eq!(harness.fake.requests().len(), 1);
        assert!(!harness.is_slowed(), "no failure was counted");
    }
}

/// A browser that has not the cookie, of another kind.
fn unknown_elsewhere<'a>(browser: &Browser<'a>) -> Browser<'a> {
    let other = browser.with("user-agent", Some("another"));
    Browser { jar: BTreeMap::new(), ..other }
}

/// Who goes back to WeChat's page and agrees once more comes back with another code and the same
/// state.
#[tokio::test]
async fn second_consent_is_redirected_and_not_counted() {
    let harness = Harness::with([Reply::json(GRANT)], |setup| {
        with_browsers(setup);
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(1), burst: 1 };
    })
    .await;
    let mut browser = Browser::new(&harness).with("sec-fetch-site", Some("none"));
    let state = browser.start("account", "/cart").await;
    browser.come_back("account", &state, "code").await;
    let session = browser.jar[SESSION].clone();
    for code in ["second", "third", "fourth"] {
        let answer = browser.come_back("account", &state, code).await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), (303, "signed_in_already"));
        assert_eq!((header(&answer, "location"), set_cookies(&answer).len()), (Some("/cart#"), 0));
    }
    assert_eq!(browser.jar[SESSION], session);
    harness.clock.advance(Duration::from_secs(600));
    let late = browser.come_back("account", &state, "fifth").await;
    assert_eq!((late.outcome, location(&late)), ("signed_in_already", "/cart"), "its time is over");
    assert!(browser.is_signed_in().await);
    assert_eq!(harness.fake.requests().len(), 1, "WeChat was asked once");
    assert!(!harness.is_slowed(), "no failure was counted");
}

#[tokio::test]
async fn repeated_callback_after_its_answer_expired_is_redirected() {
    let harness = Harness::with([Reply::json(GRANT), spent(), spent(), spent()], |setup| {
        with_browsers(setup);
        setup.throttle.login = config::LoginLimit { rate: Rate::per_minute(1), burst: 1 };
    })
    .await;
    let mut browser = Browser::new(&harness).with("sec-fetch-site", Some("none"));
    let state = browser.start("account", "/cart").await;
    browser.come_back("account", &state, "code").await;
    for _ in 0..3 {
        harness.clock.advance(Duration::from_secs(61));

        let answer = browser.come_back("account", &state, "code").await;

        assert_eq!((answer.outcome, location(&answer)), ("signed_in_already", "/cart"));
        assert_eq!(set_cookies(&answer).len(), 0);
    }
    assert!(!harness.is_slowed(), "no failure was counted");
}

#[tokio::test]
async fn only_the_signed_in_browser_that_began_is_redirected() {
    let other = GRANT.replace("oWebPerson", "oAnother");
    let harness = harness([Reply::json(GRANT), Reply::json(&other), Reply::json(GRANT)]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/cart").await;
    let mut site = browser.clone();
    browser.come_back("account", &state, "code").await;
    site.sign_in("site", "of-the-site").await;
    let mut stranger = Browser::new(&harness);
    stranger.sign_in("account", "of-another").await;
    let mut without = browser.clone();
    without.jar.remove(BROWSER);
    let mut made_up = browser.clone();
    made_up.jar.insert(SESSION.into(), "A".repeat(64));
    for (tried, back, outcome) in [
        ("a session of another app", &mut site, "state_unknown"),
        ("somebody else's browser", &mut stranger, "browser_mismatch"),
        ("the browser without its cookie", &mut without, "browser_cookie_missing"),
        ("a made-up session", &mut made_up, "state_unknown"),
    ] {
        let answer = back.come_back("account", &state, "second").await;

        assert_eq!((answer.response.status().as_u16(), answer.outcome), (403, outcome), "{tried}");
    }
    let who = browser.clone().get("/auth/session").await.identity.unwrap().subject;
    let sessions = &harness.login.deps.sessions;
    sessions.block(&crate::session::PersonId::Subject(who), harness.clock.now()).await.unwrap();
    let answer = browser.come_back("account", &state, "second").await;
    assert_eq!(answer.outcome, "state_unknown", "a blocked person");
}
