//! A way back that is taken twice, by one browser: proxies and WeChat's own browser do that.

use super::*;
use crate::login::tests::claim::Cluster;

fn held() -> Reply {
    Reply::Held(Box::new(Reply::json(GRANT)))
}

fn spent() -> Reply {
    Reply::json(r#"{"errcode":40163}"#)
}

#[tokio::test]
async fn a_way_back_taken_again_gets_the_same_session() {
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
async fn a_way_back_taken_twice_at_once_is_exchanged_once() {
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
async fn a_way_back_taken_to_two_nodes_is_exchanged_once() {
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
async fn a_session_that_was_ended_is_not_handed_out_again() {
    let harness = harness([Reply::json(GRANT), spent()]).await;
    let mut browser = Browser::new(&harness);
    let state = browser.start("account", "/").await;
    let answer = browser.come_back("account", &state, "code").await;
    let scope = crate::session::Scope::Subject(answer.identity.unwrap().subject);
    harness.login.parts.sessions.revoke(&scope, harness.clock.now()).await.unwrap();

    let answer = browser.come_back("account", &state, "code").await;

    assert_eq!((answer.response.status().as_u16(), answer.outcome), (401, "code_already_used"));
    assert_eq!(set_cookies(&answer).len(), 0);
}

#[tokio::test]
async fn a_browser_that_is_not_known_gets_an_answer_again_at_its_own_address_alone() {
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
async fn a_browser_that_hangs_up_finds_its_session_when_it_asks_again() {
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
