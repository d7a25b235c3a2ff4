//! Sessions that were handed over to a web-view.

use minicbor::{Decode, Encode};

use super::*;
use crate::session::row::field::{TextField, millis};
use crate::session::row::name;
use crate::session::row::refresh_token::RefreshTokenFamily;
use crate::session::row::subject::SubjectRow;
use crate::session::{HandedOverSession, PersonId};

impl Node {
    async fn hand_over(
        &self,
        parent: &SessionId,
        before: Option<&SessionId>,
    ) -> Result<HandedOverSession, SessionError> {
        self.sessions.hand_over(parent, before, Some("curl/8.0"), self.now()).await
    }

    async fn check_web_view(&self, opened: &HandedOverSession) -> Result<CheckedSession, SessionError> {
        let checked = self.sessions.check_cookie(&opened.session.cookie, self.now()).await;
        self.wait_for_writes(&opened.identity).await;
        checked
    }

    async fn row(&self, identity: &Identity) -> Option<SubjectRow> {
        let locator = name::locator(&identity.subject);
        self.core.subjects.read(locator).await.unwrap().map(|stored| stored.row.clone())
    }
}

#[tokio::test]
async fn a_web_view_gets_the_identity_and_the_end_of_the_programs_session() {
    let node = Node::new();
    let alice = with_unionid(&person("alice"), "u1");
    let program = node.open(&alice).await;
    node.clock.advance(DAY);

    let web_view = node.hand_over(&program.id, None).await.unwrap();

    let checked = node.check_web_view(&web_view).await.unwrap();
    assert_eq!((&checked.id, &checked.identity), (&web_view.session.id, &alice));
    assert_eq!((checked.expires_at, web_view.session.expires_at), (program.expires_at, program.expires_at));
    assert_eq!(checked.parent, Some(program.id.clone()));
    assert_eq!(node.check(&alice, &program).await.unwrap().parent, None);
}

#[tokio::test]
async fn a_web_views_session_ends_with_the_programs() {
    let idle = *config::Sessions::default().idle_timeout;
    for how in [
        "session",
        "subject",
        "person",
        "unionid",
        "app",
        "opened_before",
        "reuse",
        "idle",
        "evicted",
        "block",
    ] {
        let node = Node::new();
        let alice = with_unionid(&person("alice"), "u1");
        let program = node.open(&alice).await;
        let web_view = node.hand_over(&program.id, None).await.unwrap();
        assert!(node.check_web_view(&web_view).await.is_ok(), "{how}");
        node.clock.advance(Duration::from_secs(1));

        match how {
            "session" => assert!(node.revoke(SessionScope::Session(program.id.clone())).await.is_ok()),
            "subject" => assert!(node.revoke(SessionScope::Subject(alice.subject.clone())).await.is_ok()),
            "person" => assert!(node.sessions.revoke_person(&alice, node.now()).await.is_ok()),
            "unionid" => {
                assert!(node.revoke(SessionScope::UnionId(alice.unionid.clone().unwrap())).await.is_ok());
            }
            "app" => assert!(node.revoke(SessionScope::App(alice.subject.appid.clone())).await.is_ok()),
            "opened_before" => assert!(node.revoke(SessionScope::OpenedBefore(node.now())).await.is_ok()),
            "reuse" => {
                node.refresh(&program.refresh_token).await.unwrap();
                node.clock.advance(MINUTE);
                assert!(matches!(node.refresh(&program.refresh_token).await, Err(RefreshError::Reused(_))));
            }
            "idle" => node.clock.advance(2 * idle),
            "evicted" => {
                for _ in 0..config::Sessions::default().max_per_subject {
                    node.open(&alice).await;
                }
                node.clock.advance(2 * MINUTE);
            }
            _ => {
                let person = PersonId::Subject(alice.subject.clone());
                node.sessions.block(&person, node.now()).await.unwrap();
            }
        }

        let expected = if how == "block" { SessionError::Blocked } else { SessionError::Ended };
        assert_eq!(node.check_web_view(&web_view).await.unwrap_err(), expected, "{how}");
        assert_eq!(node.hand_over(&program.id, None).await.unwrap_err(), expected, "{how}");
    }
}

#[tokio::test]
async fn a_revocation_of_what_was_opened_before_the_hand_over_ends_the_web_view_too() {
    let node = Node::new();
    let alice = person("alice");
    let program = node.open(&alice).await;
    node.clock.advance(HOUR);
    let before_the_hand_over = node.now();
    node.clock.advance(MINUTE);
    let web_view = node.hand_over(&program.id, None).await.unwrap();

    node.revoke(SessionScope::OpenedBefore(before_the_hand_over)).await.unwrap();

    assert_eq!(node.check_web_view(&web_view).await.unwrap_err(), SessionError::Ended);
}

#[tokio::test]
async fn the_end_of_a_web_views_session_leaves_the_programs() {
    let node = Node::new();
    let alice = person("alice");
    let program = node.open(&alice).await;
    let web_view = node.hand_over(&program.id, None).await.unwrap();

    node.revoke(SessionScope::Session(web_view.session.id.clone())).await.unwrap();

    assert_eq!(node.check_web_view(&web_view).await.unwrap_err(), SessionError::Ended);
    assert!(node.is_active(&alice, &program).await);
}

#[tokio::test]
async fn use_of_a_web_view_keeps_the_programs_session_from_idling_out() {
    let node = Node::new();
    let alice = person("alice");
    let program = node.open(&alice).await;
    let web_view = node.hand_over(&program.id, None).await.unwrap();
    let idle = *config::Sessions::default().idle_timeout;

    for _ in 0..3 {
        node.clock.advance(idle * 3 / 4);
        assert!(node.check_web_view(&web_view).await.is_ok());
    }

    assert!(node.is_active(&alice, &program).await);
}

#[tokio::test]
async fn hand_overs_do_not_push_out_devices_nor_fill_the_row() {
    let node = Node::with(config::Sessions { max_per_subject: 1, ..config::Sessions::default() });
    let alice = person("alice");
    let program = node.open(&alice).await;
    let mut before: Option<HandedOverSession> = None;
    for _ in 0..50 {
        let next = node.hand_over(&program.id, None).await.unwrap();
        if let Some(before) = before {
            let end = node.check_web_view(&before).await.unwrap().expires_at;
            assert_eq!(end, node.now().plus(MINUTE), "requests under way may use it for a moment");
        }
        before = Some(next);
    }

    assert!(node.check_web_view(&before.unwrap()).await.is_ok());
    assert!(node.is_active(&alice, &program).await);
    assert_eq!(node.row(&alice).await.unwrap().entries.len(), 3);
}

#[tokio::test]
async fn a_web_view_hands_nothing_over() {
    let node = Node::new();
    let program = node.open(&person("alice")).await;
    let web_view = node.hand_over(&program.id, None).await.unwrap();

    let again = node.hand_over(&web_view.session.id, None).await;

    assert_eq!(again.unwrap_err(), SessionError::Ended);
}

#[tokio::test]
async fn the_session_that_the_browser_held_before_ends() {
    let node = Node::new();
    let (alice, bob) = (person("alice"), person("bob"));
    let program = node.open(&alice).await;
    let new = NewSession { identity: &bob, session_key: None, user_agent: None, profile: None };
    let of_bob = node.sessions.open_in_browser(new, None, node.now()).await.unwrap();

    node.hand_over(&program.id, Some(&of_bob.id)).await.unwrap();

    let checked = node.sessions.check_cookie(&of_bob.cookie, node.now()).await;
    assert_eq!(checked.unwrap_err(), SessionError::Ended);
}

#[tokio::test]
async fn the_store_does_not_hold_the_cookie_of_a_web_view() {
    let node = Node::new();
    let program = node.open(&person("alice")).await;
    let web_view = node.hand_over(&program.id, None).await.unwrap();

    let text = web_view.session.cookie.expose().as_bytes().to_vec();
    for (bytes, _) in node.store.rows.lock().values() {
        assert!(!bytes.windows(16).any(|window| text.windows(16).any(|part| part == window)));
    }
}

/// An entry as the version before reads and writes it.
#[derive(Encode, Decode)]
struct OldEntry {
    #[cbor(n(0), with = "minicbor::bytes")]
    id: [u8; 16],
    #[cbor(n(1), with = "millis")]
    created_at: Timestamp,
    #[cbor(n(2), with = "millis")]
    last_seen_at: Timestamp,
    #[cbor(n(3), with = "millis")]
    expires_at: Timestamp,
    #[n(4)]
    is_evicted: bool,
    #[n(5)]
    revocation_number: u64,
    #[n(6)]
    family: RefreshTokenFamily,
    #[n(7)]
    device: Option<String>,
    #[n(8)]
    cookie: Option<minicbor::bytes::ByteArray<32>>,
}

#[derive(Encode, Decode)]
struct OldRow {
    #[n(0)]
    appid: TextField<AppId>,
    #[n(1)]
    openid: TextField<OpenId>,
    #[n(2)]
    unionid: Option<TextField<UnionId>>,
    #[n(3)]
    entries: Vec<OldEntry>,
}

#[tokio::test]
async fn a_gateway_of_the_version_before_does_not_believe_a_web_views_cookie() {
    let node = Node::new();
    let alice = person("alice");
    let program = node.open(&alice).await;
    node.hand_over(&program.id, None).await.unwrap();
    let row = node.row(&alice).await.unwrap();

    let old: OldRow = minicbor::decode(&minicbor::to_vec(&row).unwrap()).unwrap();

    assert_eq!(old.entries.len(), 2);
    assert!(old.entries.iter().all(|entry| entry.cookie.is_none()), "it would not end it with its parent");
}
