//! Ending sessions.

use super::*;
use crate::session::row::name;

#[tokio::test]
async fn revoking_a_session_ends_it_and_no_other() {
    let node = Node::new();
    let alice = person("alice");
    let (first, second) = (node.open(&alice).await, node.open(&alice).await);
    let lease = node.check(&alice, &first).await.unwrap().lease;

    assert_eq!(node.revoke(SessionScope::Session(first.id.clone())).await, Ok(Some(1)));

    assert!(!lease.is_current());
    assert!(!node.is_active(&alice, &first).await);
    assert!(node.is_active(&alice, &second).await);
    assert_eq!(node.refresh(&first.refresh_token).await.unwrap_err(), RefreshError::Invalid);
    assert_eq!(node.revoke(SessionScope::Session(first.id)).await, Ok(Some(0)));
}

#[tokio::test]
async fn revoking_what_never_existed_succeeds() {
    let node = Node::new();
    let never = SessionId::parse("never").unwrap();

    assert_eq!(node.revoke(SessionScope::Session(never)).await, Ok(Some(0)));
    assert_eq!(node.revoke(SessionScope::Subject(person("nobody").subject)).await, Ok(Some(0)));
    assert_eq!(node.revoke(SessionScope::UnionId(UnionId::parse("u").unwrap())).await, Ok(Some(0)));
}

#[tokio::test]
async fn revoking_a_subject_leaves_no_row() {
    let node = Node::new();
    let alice = person("alice");
    let first = node.open_with_key(&alice, [1; 16]).await;
    node.open(&alice).await;

    assert_eq!(node.revoke(SessionScope::Subject(alice.subject.clone())).await, Ok(Some(2)));

    assert!(node.store.rows.lock().keys().all(|key| *key == name::REVOCATIONS_KEY));
    assert!(!node.is_active(&alice, &first).await);
    let again = node.open(&alice).await;
    assert!(node.is_active(&alice, &again).await);
}

#[tokio::test]
async fn revoking_a_unionid_ends_the_sessions_of_the_person_in_every_app_only() {
    let node = Node::new();
    let here = with_unionid(&in_app("wx1", "a"), "u1");
    let there = with_unionid(&in_app("wx2", "b"), "u1");
    let other = with_unionid(&in_app("wx2", "c"), "u2");
    let opened = [node.open(&here).await, node.open(&there).await, node.open(&other).await];

    let unionid = UnionId::parse("u1").unwrap();
    let listed = node.sessions.list_by_unionid(&unionid, node.now()).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(node.revoke(SessionScope::UnionId(unionid)).await, Ok(Some(2)));

    assert!(!node.is_active(&here, &opened[0]).await);
    assert!(!node.is_active(&there, &opened[1]).await);
    assert!(node.is_active(&other, &opened[2]).await);
}

#[tokio::test]
async fn a_person_is_found_by_unionid_for_as_long_as_any_session_lasts() {
    let node = Node::new();
    let alice = with_unionid(&person("alice"), "u1");
    let unionid = UnionId::parse("u1").unwrap();
    let mut opened = Vec::new();
    for _ in 0..60 {
        opened.push(node.open(&alice).await);
        node.clock.advance(DAY);
    }
    let last = opened.last().unwrap();
    for _ in 0..28 {
        assert!(node.is_active(&alice, last).await);
        node.clock.advance(DAY);
    }
    assert!(node.is_active(&alice, last).await);

    assert!(node.revoke(SessionScope::UnionId(unionid)).await.unwrap() >= Some(1));

    assert!(!node.is_active(&alice, last).await);
}

#[tokio::test]
async fn revoking_an_app_ends_sessions_opened_before_and_none_opened_after() {
    let node = Node::new();
    let (here, there) = (in_app("wx1", "a"), in_app("wx2", "a"));
    let before = node.open(&here).await;
    let other = node.open(&there).await;
    let lease = node.check(&here, &before).await.unwrap().lease;

    assert_eq!(node.revoke(SessionScope::App(here.subject.appid.clone())).await, Ok(None));
    // In the same millisecond: the order counts, not the clock.
    let after = node.open(&here).await;

    assert!(!lease.is_current());
    assert!(!node.is_active(&here, &before).await);
    assert_eq!(node.refresh(&before.refresh_token).await.unwrap_err(), RefreshError::Invalid);
    assert!(node.is_active(&here, &after).await);
    assert!(node.is_active(&there, &other).await);
}

#[tokio::test]
async fn revoking_sessions_opened_before_an_instant_keeps_those_opened_since() {
    let node = Node::new();
    let alice = person("alice");
    let early = node.open(&alice).await;
    node.clock.advance(HOUR);
    let instant = node.now();
    let late = node.open(&alice).await;
    node.clock.advance(HOUR);

    node.revoke(SessionScope::OpenedBefore(instant)).await.unwrap();

    assert!(!node.is_active(&alice, &early).await);
    assert!(node.is_active(&alice, &late).await);
}

#[tokio::test]
async fn revoking_up_to_a_future_time_ends_every_session_and_locks_no_user_out() {
    let node = Node::new();
    let alice = person("alice");
    let before = node.open(&alice).await;

    node.revoke(SessionScope::OpenedBefore(node.now().plus(1000 * DAY))).await.unwrap();
    let after = node.open(&alice).await;

    assert!(!node.is_active(&alice, &before).await);
    assert!(node.is_active(&alice, &after).await);
}

#[tokio::test]
async fn revoking_up_to_now_ends_no_session_that_a_slow_clock_opens_later() {
    let here = Node::shared();
    let clock = ManualClock::start_at(Timestamp::from_millis(here.now().millis() - 5000));
    let config = config::Sessions::default();
    let slow = Node::on(Arc::clone(&here.store), clock, Arc::clone(&here.folder), &config);
    let following = [follow::follow(&here).await, follow::follow(&slow).await];
    let alice = person("alice");
    for instant in [here.now(), here.now().plus(DAY)] {
        let before = slow.open(&alice).await;
        here.revoke(SessionScope::OpenedBefore(instant)).await.unwrap();

        let after = slow.open(&alice).await;

        assert!(!slow.is_active(&alice, &before).await && !here.is_active(&alice, &before).await);
        assert!(slow.is_active(&alice, &after).await && here.is_active(&alice, &after).await);
    }
    following.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_app_stays_revoked_after_a_restart() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.revoke(SessionScope::App(alice.subject.appid.clone())).await.unwrap();

    let restarted = node.another();

    assert!(!restarted.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn revocations_that_cannot_be_read_let_no_client_in() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.revoke(SessionScope::App(alice.subject.appid.clone())).await.unwrap();
    let rubbish = (bytes::Bytes::from_static(b"rubbish"), node.now().plus(DAY));
    node.store.rows.lock().insert(name::REVOCATIONS_KEY, rubbish);

    let restarted = node.another();

    let refused = restarted.sessions.check(&alice.subject, &opened.id, node.now()).await.unwrap_err();
    assert!(matches!(refused, SessionError::Store(_)), "{refused}");
    assert!(restarted.try_open(&alice, None).await.is_err());
}

#[tokio::test]
async fn the_end_of_a_lease_wakes_its_waiters() {
    let node = Node::new();
    let (alice, bob) = (person("alice"), person("bob"));
    let opened = node.open(&alice).await;
    let other = node.open(&bob).await;
    let lease = node.check(&alice, &opened).await.unwrap().lease;
    let waiting = tokio::spawn({
        let lease = lease.clone();
        async move { lease.ended().await }
    });
    tokio::task::yield_now().await;

    node.revoke(SessionScope::Session(other.id)).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    node.revoke(SessionScope::Session(opened.id)).await.unwrap();

    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(5), lease.ended()).await.unwrap();
}

#[tokio::test]
async fn unused_subjects_are_forgotten() {
    let node = Node::new();
    for index in 0..20_000_u32 {
        node.core.leases.lease(&name::locator(&person(&index.to_string()).subject));
    }

    assert!(node.core.leases.subject_count() <= 64 * 64, "{}", node.core.leases.subject_count());
}
