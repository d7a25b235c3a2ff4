//! What one node changes reaches the others.

use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn a_node_that_has_not_read_the_log_believes_no_session() {
    let node = Node::shared();
    let alice = person("alice");
    let opened = node.open(&alice).await;

    let refused = node.sessions.check(&alice.subject, &opened.id, node.now()).await.unwrap_err();
    assert!(matches!(refused, SessionError::Store(_)), "{refused}");
    assert!(!node.core.health.is_available());

    let following = follow(&node).await;
    assert!(node.is_active(&alice, &opened).await);
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_reading_the_log_stops_believing_sessions() {
    let node = Node::shared();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let following = follow(&node).await;
    node.clock.advance(HOUR);
    assert!(node.is_active(&alice, &opened).await, "the clock of sessions does not time the log");
    following.abort();
    tokio::time::advance(Duration::from_secs(3)).await;

    let refused = node.sessions.check(&alice.subject, &opened.id, node.now()).await.unwrap_err();

    assert!(matches!(refused, SessionError::Store(_)), "{refused}");
    assert!(!node.core.health.is_available());
}

#[tokio::test(start_paused = true)]
async fn what_one_node_ends_has_ended_on_the_other() {
    let here = Node::shared();
    let there = here.another();
    let following = [follow(&here).await, follow(&there).await];
    let alice = with_unionid(&person("alice"), "u1");
    here.open(&alice).await;
    // The initialization of the row ends leases as well.
    there.core.log.poll().await.unwrap();
    for scope in 0..5 {
        let opened = here.open(&alice).await;
        let scope = match scope {
            0 => SessionScope::Session(opened.id.clone()),
            1 => SessionScope::Subject(alice.subject.clone()),
            2 => SessionScope::UnionId(alice.unionid.clone().unwrap()),
            3 => SessionScope::App(alice.subject.appid.clone()),
            _ => SessionScope::OpenedBefore(here.now()),
        };
        let lease = there.check(&alice, &opened).await.unwrap().lease;
        assert!(lease.is_current());

        here.revoke(scope.clone()).await.unwrap();

        tokio::time::timeout(Duration::from_secs(1), lease.ended()).await.unwrap();
        assert!(!there.is_active(&alice, &opened).await, "{scope:?}");
    }
    following.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_session_opened_after_a_revocation_is_good_on_a_node_that_has_not_read_the_revocation() {
    let here = Node::shared();
    let there = here.another();
    there.core.log.poll().await.unwrap();
    let alice = person("alice");
    here.revoke(SessionScope::App(alice.subject.appid.clone())).await.unwrap();
    let opened = here.open(&alice).await;
    let also = there.open(&alice).await;
    let following = follow(&there).await;

    assert!(there.is_active(&alice, &opened).await);
    assert!(there.is_active(&alice, &also).await);
    following.abort();
}

#[tokio::test]
async fn a_gap_in_the_log_ends_every_lease_and_reads_the_revocations_again() {
    let here = Node::shared();
    let there = here.another();
    let following = follow(&there).await;
    following.abort();
    let alice = person("alice");
    let opened = there.open(&alice).await;
    let lease = there.check(&alice, &opened).await.unwrap().lease;
    here.store.append_fails.store(true, Ordering::SeqCst);
    assert!(here.revoke(SessionScope::App(alice.subject.appid.clone())).await.is_err());
    here.store.log_is_gone.store(true, Ordering::SeqCst);

    there.core.log.poll().await.unwrap();

    assert!(!lease.is_current());
    assert!(!there.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_revocation_that_was_not_published_is_published_when_asked_again() {
    let node = Node::shared();
    let alice = with_unionid(&person("alice"), "u1");
    let opened = node.open(&alice).await;
    let scopes = [
        SessionScope::Session(opened.id.clone()),
        SessionScope::Subject(alice.subject.clone()),
        SessionScope::UnionId(alice.unionid.clone().unwrap()),
        SessionScope::App(alice.subject.appid.clone()),
    ];
    for scope in scopes {
        node.store.append_fails.store(true, Ordering::SeqCst);
        assert!(node.revoke(scope.clone()).await.is_err(), "{scope:?}");
        node.store.append_fails.store(false, Ordering::SeqCst);
        let before = node.store.entries();

        node.revoke(scope.clone()).await.unwrap();

        assert!(node.store.entries() > before, "{scope:?}");
    }
}

#[tokio::test]
async fn revocations_that_cannot_be_read_after_an_entry_are_unknown_and_the_entry_is_applied_again() {
    let here = Node::shared();
    let there = here.another();
    there.core.log.poll().await.unwrap();
    let alice = person("alice");
    there.open(&alice).await;
    here.revoke(SessionScope::App(alice.subject.appid.clone())).await.unwrap();
    there.store.set_failing(true);
    assert!(there.core.log.poll().await.is_err());
    there.store.set_failing(false);

    let before = there.core.epoch();
    there.core.log.poll().await.unwrap();

    assert!(there.core.epoch() > before);
}

#[tokio::test]
async fn the_first_reader_of_a_revocation_ends_the_leases() {
    for action in 0..8 {
        let here = Node::shared();
        let there = here.another();
        let following = follow(&there).await;
        following.abort();
        let (alice, bob) = (person("alice"), with_unionid(&in_app("wx2", "bob"), "u2"));
        let (opened, other) = (there.open(&alice).await, there.open(&bob).await);
        let lease = there.check(&alice, &opened).await.unwrap().lease;
        here.store.append_fails.store(true, Ordering::SeqCst);
        assert!(here.revoke(SessionScope::App(alice.subject.appid.clone())).await.is_err());
        here.store.append_fails.store(false, Ordering::SeqCst);

        let (subject, now) = (&bob.subject, there.now());
        match action {
            0 => drop(there.open(&bob).await),
            1 => drop(there.refresh(&other.refresh_token).await.unwrap()),
            2 => drop(there.sessions.list_by_subject(subject, now).await.unwrap()),
            3 => drop(there.sessions.session_key(subject, &other.id, now).await.unwrap()),
            4 => drop(there.revoke(SessionScope::Subject(subject.clone())).await.unwrap()),
            5 => drop(there.sessions.is_unspent(&other.refresh_token, now).await.unwrap()),
            6 => drop(there.sessions.list_blocked().await.unwrap()),
            _ => {}
        }
        there.core.log.poll().await.unwrap();

        assert!(!lease.is_current(), "{action}");
        assert!(!there.is_active(&alice, &opened).await, "{action}");
    }
}

#[tokio::test]
async fn unchanged_revocations_end_no_lease() {
    let here = Node::shared();
    let there = here.another();
    let following = follow(&there).await;
    following.abort();
    let alice = person("alice");
    here.revoke(SessionScope::App(alice.subject.appid.clone())).await.unwrap();
    there.core.log.poll().await.unwrap();
    let opened = there.open(&alice).await;
    let lease = there.check(&alice, &opened).await.unwrap().lease;

    for _ in 0..3 {
        here.open(&alice).await;
        there.open(&person("bob")).await;
        there.core.log.poll().await.unwrap();
    }

    assert!(lease.is_current());
}

#[tokio::test]
async fn an_entry_of_a_later_version_invalidates_everything() {
    let node = Node::shared();
    node.core.log.poll().await.unwrap();
    let before = node.core.epoch();
    node.store.append(bytes::Bytes::from_static(b"?"), MINUTE).await.unwrap();

    node.core.log.poll().await.unwrap();

    assert!(node.core.epoch() > before);
}

#[tokio::test(start_paused = true)]
async fn a_store_of_one_node_that_fails_is_not_available() {
    let node = Node::new();
    assert!(node.core.health.is_available());
    let following = follow(&node).await;
    assert_eq!(node.metrics.store_available.get(), 1);

    node.store.set_failing(true);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!node.core.health.is_available());
    assert_eq!(node.metrics.store_available.get(), 0);

    node.store.set_failing(false);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(node.core.health.is_available());
    following.abort();
}

/// Lets a node follow the log, and waits for its first read.
pub(super) async fn follow(node: &Node) -> tokio::task::JoinHandle<()> {
    let core = Arc::clone(&node.core);
    let task = tokio::spawn(async move { core.follow().await });
    for _ in 0..1000 {
        if node.core.health.is_available() && node.metrics.store_available.get() == 1 {
            return task;
        }
        tokio::task::yield_now().await;
    }
    panic!("the first look did not succeed");
}
