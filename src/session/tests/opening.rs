//! Opening sessions, and how many there can be.

use super::*;

#[tokio::test]
async fn a_session_that_was_opened_is_found_on_any_configuration_of_the_node() {
    let node = Node::new();
    let identity = with_unionid(&person("alice"), "u1");
    let opened = node.open(&identity).await;

    let checked = node.reloaded(&config::Sessions::default()).check(&identity, &opened).await.unwrap();

    assert_eq!(checked.identity, identity);
    assert_eq!(checked.expires_at, node.now().plus(30 * DAY));
    assert_eq!(checked.recheck_at, node.now().plus(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_session_of_one_person_is_not_found_for_another() {
    let node = Node::new();
    let (alice, bob) = (person("alice"), person("bob"));
    let opened = node.open(&alice).await;
    node.open(&bob).await;

    assert!(!node.is_active(&bob, &opened).await);
    assert!(!node.is_active(&in_app("wx2", "alice"), &opened).await);
}

#[tokio::test]
async fn a_store_that_does_not_answer_opens_nothing_and_finds_nothing_ended() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.store.set_failing(true);

    assert!(matches!(node.try_open(&alice, None).await, Err(SessionError::Store(_))));
    assert!(matches!(
        node.sessions.check(&alice.subject, &opened.id, node.now()).await,
        Err(SessionError::Store(_))
    ));
    assert!(matches!(node.refresh(&opened.refresh_token).await, Err(RefreshError::Session(_))));
    assert!(node.sessions.list_by_subject(&alice.subject, node.now()).await.is_err());
    assert!(node.revoke(SessionScope::Subject(alice.subject)).await.is_err());
}

#[tokio::test]
async fn one_session_too_many_ends_the_oldest_after_the_eviction_delay() {
    let node = Node::with(config::Sessions { max_per_subject: 2, ..config::Sessions::default() });
    let alice = person("alice");
    let first = node.open(&alice).await;
    let second = node.open(&alice).await;
    let third = node.open(&alice).await;

    assert!(node.is_active(&alice, &first).await);
    let checked = node.check(&alice, &first).await.unwrap();
    assert_eq!(checked.expires_at, node.now().plus(MINUTE));
    node.clock.advance(MINUTE);

    assert!(!node.is_active(&alice, &first).await);
    assert!(node.is_active(&alice, &second).await);
    assert!(node.is_active(&alice, &third).await);
    assert_eq!(node.metrics.sessions_evicted.get(), 1);
}

#[tokio::test]
async fn an_eviction_ends_the_lease_of_a_verdict_with_a_later_end() {
    let node = Node::with(config::Sessions { max_per_subject: 1, ..config::Sessions::default() });
    let alice = person("alice");
    let first = node.open(&alice).await;
    let checked = node.check(&alice, &first).await.unwrap();

    node.open(&alice).await;

    assert!(!checked.lease.is_current());
}

#[tokio::test]
async fn a_row_does_not_grow_without_end() {
    let node = Node::with(config::Sessions { max_per_subject: 64, ..config::Sessions::default() });
    let alice = person("alice");
    for _ in 0..200 {
        node.open_with_key(&alice, [7; 16]).await;
    }

    let listed = node.sessions.list_by_subject(&alice.subject, node.now()).await.unwrap();

    assert_eq!(listed.len(), 2 * 64 + 8);
}

#[tokio::test]
async fn many_sign_ins_of_one_person_at_once_all_get_a_session() {
    let node = Arc::new(Node::with(config::Sessions { max_per_subject: 64, ..config::Sessions::default() }));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.open(&person("alice")).await })
        })
        .collect();
    for task in tasks {
        let opened = task.await.unwrap();
        assert!(node.is_active(&person("alice"), &opened).await);
    }
}

#[tokio::test]
async fn a_unionid_that_appears_later_counts_for_every_session_of_the_person() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.open(&with_unionid(&alice, "u1")).await;
    node.open(&alice).await;

    let checked = node.check(&alice, &opened).await.unwrap();
    let listed = node.sessions.list_by_unionid(&UnionId::parse("u1").unwrap(), node.now()).await.unwrap();

    assert_eq!(checked.identity, with_unionid(&alice, "u1"));
    assert_eq!(listed.len(), 3);
}

#[tokio::test]
async fn a_unionid_that_changes_leaves_nothing_under_the_old_one() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&with_unionid(&alice, "old")).await;
    node.open(&with_unionid(&alice, "new")).await;
    let (old, new) = (UnionId::parse("old").unwrap(), UnionId::parse("new").unwrap());

    assert_eq!(node.sessions.list_by_unionid(&old, node.now()).await.unwrap(), []);
    assert_eq!(node.sessions.list_by_unionid(&new, node.now()).await.unwrap().len(), 2);
    assert_eq!(node.revoke(SessionScope::UnionId(old)).await, Ok(Some(0)));
    assert!(node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_row_that_is_damaged_denies_until_the_subject_is_revoked() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let key = crate::session::row::name::subject_key(crate::session::row::name::locator(&alice.subject));
    node.store.rows.lock().get_mut(&key).unwrap().0 = bytes::Bytes::from_static(b"rubbish");

    let refused = node.sessions.check(&alice.subject, &opened.id, node.now()).await.unwrap_err();
    assert!(matches!(refused, SessionError::Store(crate::store::StoreError::Damaged(_))), "{refused}");
    assert!(node.try_open(&alice, None).await.is_err());
    assert!(node.revoke(SessionScope::Session(opened.id.clone())).await.is_err());

    node.revoke(SessionScope::Subject(alice.subject.clone())).await.unwrap();
    node.open(&alice).await;
    assert!(!node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_row_under_the_key_of_another_is_damage() {
    let node = Node::new();
    let (alice, bob) = (person("alice"), person("bob"));
    node.open(&alice).await;
    let opened = node.open(&bob).await;
    let key = |identity: &Identity| {
        crate::session::row::name::subject_key(crate::session::row::name::locator(&identity.subject))
    };
    let row = node.store.rows.lock().get(&key(&alice)).unwrap().clone();
    node.store.rows.lock().insert(key(&bob), row);

    let refused = node.sessions.check(&bob.subject, &opened.id, node.now()).await.unwrap_err();

    assert!(matches!(refused, SessionError::Store(crate::store::StoreError::Damaged(_))), "{refused}");
}
