//! Blocking people.

use super::*;
use crate::session::PersonId;
use crate::session::row::envelope;
use crate::session::row::name::REVOCATIONS_KEY;

fn here(person: &Identity) -> PersonId {
    PersonId::Subject(person.subject.clone())
}

fn everywhere(unionid: &str) -> PersonId {
    PersonId::UnionId(UnionId::parse(unionid).unwrap())
}

impl Node {
    async fn block(&self, person: &PersonId) -> Result<bool, SessionError> {
        self.sessions.block(person, self.now()).await
    }

    async fn unblock(&self, person: &PersonId) -> bool {
        self.sessions.unblock(person, self.now()).await.unwrap()
    }

    async fn blocked(&self) -> Vec<PersonId> {
        let blocked = self.sessions.list_blocked().await.unwrap().into_iter();
        blocked.map(|blocked| version_before::named(blocked.person)).collect()
    }

    async fn is_blocked(&self, identity: &Identity, opened: &OpenedSession) -> bool {
        match self.check(identity, opened).await {
            Ok(_) => false,
            Err(SessionError::Blocked) => true,
            Err(error) => panic!("{error}"),
        }
    }

    fn revocations(&self) -> (bytes::Bytes, Timestamp) {
        self.store.rows.lock().get(&REVOCATIONS_KEY).cloned().unwrap()
    }

    fn put_revocations(&self, revocations: (bytes::Bytes, Timestamp)) {
        self.store.rows.lock().insert(REVOCATIONS_KEY, revocations);
    }
}

#[tokio::test]
async fn a_blocked_person_is_refused_until_the_block_is_lifted() {
    let node = Node::new();
    let (alice, bob) = (person("alice"), person("bob"));
    let (opened, other) = (node.open_with_key(&alice, [1; 16]).await, node.open(&bob).await);
    let lease = node.check(&alice, &opened).await.unwrap().lease;

    assert_eq!(node.block(&here(&alice)).await, Ok(true));

    assert!(!lease.is_current());
    assert!(node.is_blocked(&alice, &opened).await);
    assert_eq!(node.try_open(&alice, None).await.unwrap_err(), SessionError::Blocked);
    let refused = RefreshError::Session(SessionError::Blocked);
    assert_eq!(node.refresh(&opened.refresh_token).await.unwrap_err(), refused);
    let unspent = node.sessions.is_unspent(&opened.refresh_token, node.now()).await;
    assert_eq!(unspent, Err(SessionError::Blocked));
    let key = node.sessions.session_key(&alice.subject, &opened.id, node.now()).await;
    assert_eq!(key.unwrap_err(), SessionError::Blocked);
    assert!(!node.is_blocked(&bob, &other).await);
    assert_eq!(node.block(&here(&alice)).await, Ok(false));
    assert_eq!(node.blocked().await, [here(&alice)]);

    assert!(node.unblock(&here(&alice)).await);

    assert!(!node.is_blocked(&alice, &opened).await);
    node.refresh(&opened.refresh_token).await.unwrap();
    node.open(&alice).await;
    assert!(!node.unblock(&here(&alice)).await);
    assert_eq!(node.blocked().await, []);
}

#[tokio::test]
async fn a_browser_of_a_blocked_person_is_refused() {
    let node = Node::new();
    let alice = person("alice");
    let new = || NewSession { identity: &alice, session_key: None, user_agent: None, profile: None };
    let opened = node.sessions.open_in_browser(new(), None, node.now()).await.unwrap();
    node.block(&here(&alice)).await.unwrap();

    let checked = node.sessions.check_cookie(&opened.cookie, node.now()).await;
    let again = node.sessions.open_in_browser(new(), None, node.now()).await;

    assert_eq!(checked.unwrap_err(), SessionError::Blocked);
    assert_eq!(again.unwrap_err(), SessionError::Blocked);
}

#[tokio::test]
async fn a_block_by_unionid_holds_for_each_known_subject_without_its_unionid() {
    let node = Node::new();
    node.seal_rows().await;
    let alice = with_unionid(&in_app("wx1", "a"), "u1");
    node.open(&alice).await;

    node.block(&everywhere("u1")).await.unwrap();
    // The row with the unionid goes, and WeChat gives none at the next sign-in.
    node.revoke(SessionScope::UnionId(UnionId::parse("u1").unwrap())).await.unwrap();

    assert_eq!(node.try_open(&in_app("wx1", "a"), None).await.unwrap_err(), SessionError::Blocked);
    assert_eq!(node.blocked().await, [everywhere("u1")], "one block");
    node.unblock(&everywhere("u1")).await;
    node.open(&in_app("wx1", "a")).await;
    let is_person = |key: &&crate::store::Key| key.space == crate::store::Space::Person;
    assert_eq!(node.store.rows.lock().keys().filter(is_person).count(), 0, "a lifted block leaves no row");
}

#[tokio::test]
async fn a_subject_that_becomes_known_of_a_blocked_unionid_is_blocked_from_then_on() {
    let first = Node::shared();
    let nodes = [first.another(), first];
    for node in &nodes {
        node.seal_rows().await;
        follow::follow(node).await.abort();
    }
    let alice = in_app("wx2", "b");
    let opened = nodes[1].open(&alice).await;
    nodes[0].block(&everywhere("u1")).await.unwrap();
    let lease = nodes[0].check(&alice, &opened).await.unwrap().lease;

    let refused = nodes[0].try_open(&with_unionid(&alice, "u1"), None).await.unwrap_err();

    assert_eq!(refused, SessionError::Blocked);
    assert!(!lease.is_current(), "the session that was open before");
    for node in &nodes {
        node.core.log.poll().await.unwrap();
        assert!(node.is_blocked(&alice, &opened).await);
        assert_eq!(node.try_open(&alice, None).await.unwrap_err(), SessionError::Blocked);
    }
    nodes[0].unblock(&everywhere("u1")).await;
    assert!(!nodes[0].is_blocked(&alice, &opened).await);
}

#[tokio::test]
async fn a_block_of_the_subject_itself_outlasts_that_of_its_unionid() {
    let node = Node::new();
    node.seal_rows().await;
    let alice = with_unionid(&person("alice"), "u1");
    let opened = node.open(&alice).await;
    node.block(&here(&alice)).await.unwrap();
    node.block(&everywhere("u1")).await.unwrap();

    node.unblock(&everywhere("u1")).await;
    assert!(node.is_blocked(&alice, &opened).await);
    node.unblock(&here(&alice)).await;
    assert!(!node.is_blocked(&alice, &opened).await);
    node.block(&everywhere("u1")).await.unwrap();
    assert!(!node.unblock(&here(&alice)).await, "it is not blocked itself");
    assert!(node.is_blocked(&alice, &opened).await);
}

/// Lets a future go on until it waits for the store.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn an_operator_who_blocks_while_a_session_is_opened_reaches_its_subject() {
    // The block comes between any two steps of the sign-in: afterwards no sign-in without a unionid
    // succeeds, whether or not the first one did.
    let mut outcomes = std::collections::BTreeSet::new();
    for steps in 0..24 {
        let node = Node::shared();
        let other = node.another();
        node.seal_rows().await;
        node.open(&person("bob")).await;
        let alice = with_unionid(&in_app("wx1", "a"), "u1");
        let mut opening = std::pin::pin!(node.try_open(&alice, None));
        let mut early = None;
        for _ in 0..steps {
            if early.is_none() {
                early = poll_once(opening.as_mut()).await;
            }
        }
        other.block(&everywhere("u1")).await.unwrap();
        let opened = match early {
            Some(opened) => opened,
            None => opening.await,
        };
        outcomes.insert(opened.is_ok());
        node.revoke(SessionScope::UnionId(UnionId::parse("u1").unwrap())).await.unwrap();

        let again = node.try_open(&in_app("wx1", "a"), None).await;

        assert_eq!(again.unwrap_err(), SessionError::Blocked, "{steps}");
    }
    assert!(outcomes.contains(&false));
}

#[tokio::test]
async fn a_unionid_is_blocked_in_every_app_and_a_subject_in_one() {
    let node = Node::new();
    let one = with_unionid(&in_app("wx1", "a"), "u1");
    let two = with_unionid(&in_app("wx2", "b"), "u1");
    let unknown = in_app("wx3", "c");
    let opened = [node.open(&one).await, node.open(&two).await, node.open(&unknown).await];

    node.block(&everywhere("u1")).await.unwrap();
    assert!(node.is_blocked(&one, &opened[0]).await);
    assert!(node.is_blocked(&two, &opened[1]).await);
    assert!(!node.is_blocked(&unknown, &opened[2]).await);
    // A sign-in without a unionid is of the person whose unionid is already in the row.
    assert_eq!(node.try_open(&in_app("wx1", "a"), None).await.unwrap_err(), SessionError::Blocked);
    // A sign-in that brings the unionid for the first time is refused as well.
    assert_eq!(node.try_open(&with_unionid(&unknown, "u1"), None).await.unwrap_err(), SessionError::Blocked);

    node.unblock(&everywhere("u1")).await;
    node.block(&here(&one)).await.unwrap();
    assert!(node.is_blocked(&one, &opened[0]).await);
    assert!(!node.is_blocked(&two, &opened[1]).await);
}

#[tokio::test]
async fn a_block_outlasts_a_restart_and_the_end_of_sessions() {
    let node = Node::new();
    let alice = person("alice");
    node.block(&here(&alice)).await.unwrap();
    node.clock.advance(400 * DAY);

    let restarted = node.another();

    assert_eq!(restarted.try_open(&alice, None).await.unwrap_err(), SessionError::Blocked);
    assert_eq!(restarted.blocked().await, [here(&alice)]);
}

#[tokio::test]
async fn a_block_and_its_end_reach_another_node() {
    let one = Node::shared();
    let other = one.another();
    let following = follow::follow(&other).await;
    following.abort();
    let alice = person("alice");
    let opened = other.open(&alice).await;
    let lease = other.check(&alice, &opened).await.unwrap().lease;

    one.block(&here(&alice)).await.unwrap();
    other.core.log.poll().await.unwrap();
    assert!(!lease.is_current());
    assert!(other.is_blocked(&alice, &opened).await);

    one.unblock(&here(&alice)).await;
    other.core.log.poll().await.unwrap();
    assert!(!other.is_blocked(&alice, &opened).await);
    // The memory of the other node undoes nothing.
    other.revoke(SessionScope::App(AppId::parse("wx9").unwrap())).await.unwrap();
    one.core.log.poll().await.unwrap();
    assert_eq!((one.blocked().await, other.blocked().await), (vec![], vec![]));
}

#[tokio::test]
async fn a_node_that_has_not_read_the_row_undoes_no_block() {
    let one = Node::shared();
    let other = one.another();
    let (alice, bob) = (here(&person("alice")), here(&person("bob")));
    one.block(&alice).await.unwrap();
    other.core.log.poll().await.unwrap();
    one.unblock(&alice).await;

    other.block(&bob).await.unwrap();

    assert_eq!(other.blocked().await, [bob]);
}

#[tokio::test]
async fn a_block_that_the_store_loses_is_put_back() {
    for is_block_lost in [true, false] {
        let node = Node::shared();
        let alice = here(&person("alice"));
        let bob = here(&person("bob"));
        node.block(&bob).await.unwrap();
        if !is_block_lost {
            node.block(&alice).await.unwrap();
        }
        node.core.log.poll().await.unwrap();
        let before = node.revocations();
        if is_block_lost {
            node.block(&alice).await.unwrap();
        } else {
            node.unblock(&alice).await;
        }
        node.put_revocations(before);

        node.core.log.poll().await.unwrap();

        let expected = if is_block_lost { vec![alice, bob] } else { vec![bob] };
        assert_eq!(node.another().blocked().await, expected, "a block is lost: {is_block_lost}");
    }
}

#[tokio::test]
async fn an_older_gateway_without_blocks_does_not_lift_them() {
    #[derive(Clone, minicbor::Encode, minicbor::Decode)]
    struct OldRevocations {
        #[n(0)]
        number: u64,
        #[n(1)]
        apps: Vec<u64>,
        #[n(2)]
        everything: u64,
        #[n(3)]
        opened_before: u64,
    }

    let node = Node::shared();
    let alice = person("alice");
    node.open(&alice).await;
    node.core.log.poll().await.unwrap();
    // Older gateways write a row without blocks, and can read a row with blocks.
    let (bytes, end) = node.revocations();
    assert!(envelope::decode::<OldRevocations>(&REVOCATIONS_KEY, &bytes).is_ok());
    node.block(&here(&alice)).await.unwrap();
    let (bytes, _) = node.revocations();
    let mut old: OldRevocations = envelope::decode(&REVOCATIONS_KEY, &bytes).unwrap();
    old.number += 1;
    node.put_revocations((envelope::encode(&REVOCATIONS_KEY, &old).unwrap(), end));

    node.core.log.poll().await.unwrap();

    assert_eq!(node.another().blocked().await, [here(&alice)]);
}

#[tokio::test]
async fn five_thousand_people_are_blocked_and_each_of_them_alone() {
    let node = Node::new();
    // As long as WeChat's are.
    let unionid = |number: usize| format!("o6_bmasdasdsad6_2sgVtMmhS{number:04}");
    let person = |number: usize| everywhere(&unionid(number));
    let (free, last) = (
        with_unionid(&super::person("free"), "u-free"),
        with_unionid(&super::person("last"), &unionid(4999)),
    );
    let (opened, shut_out) = (node.open(&free).await, node.open(&last).await);
    for number in 0..5000 {
        assert_eq!(node.block(&person(number)).await, Ok(true), "{number}");
    }

    assert_eq!(node.block(&person(7)).await, Ok(false));
    assert_eq!(node.block(&person(4999)).await, Ok(false));
    assert!(node.is_blocked(&last, &shut_out).await);
    assert!(!node.is_blocked(&free, &opened).await);
    let restarted = node.another();
    assert_eq!(restarted.blocked().await.len(), 5000);
    assert!(restarted.is_blocked(&last, &shut_out).await);
    assert!(node.revocations().0.len() < crate::store::MAX_VALUE_BYTES);
    for number in (0..5000).step_by(50) {
        assert!(node.unblock(&person(number)).await, "{number}");
        assert!(!node.unblock(&person(number)).await, "{number}");
    }
    assert!(node.unblock(&person(4999)).await);
    assert!(!restarted.is_blocked(&last, &shut_out).await);
    assert_eq!(node.another().blocked().await.len(), 4899);
    // Long identifiers fill the copy earlier, and never beyond what a store takes.
    for number in 0..600 {
        assert_eq!(node.block(&everywhere(&format!("{number:0128}"))).await, Ok(true));
    }
    assert!(node.revocations().0.len() < crate::store::MAX_VALUE_BYTES);
}
