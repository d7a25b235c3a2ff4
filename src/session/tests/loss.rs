//! If a store loses rows, no revoked session is believed.

use std::sync::atomic::Ordering;

use super::*;
use crate::session::PersonId;
use crate::session::row::name::{self, REVOCATIONS_KEY};

fn app(identity: &Identity) -> SessionScope {
    SessionScope::App(identity.subject.appid.clone())
}

#[tokio::test]
async fn lost_revocations_end_every_session_and_revive_none() {
    let node = Node::new();
    let (alice, bob) = (in_app("wx1", "alice"), in_app("wx2", "bob"));
    let (revoked, good) = (node.open(&alice).await, node.open(&bob).await);
    node.revoke(app(&alice)).await.unwrap();
    assert!(node.is_active(&bob, &good).await);

    node.store.rows.lock().remove(&REVOCATIONS_KEY);
    node.clock.advance(MINUTE);
    let restarted = node.another();

    assert!(!restarted.is_active(&alice, &revoked).await);
    assert!(!restarted.is_active(&bob, &good).await, "its history is gone");
    let after = restarted.open(&bob).await;
    assert!(restarted.is_active(&bob, &after).await);
    assert!(!restarted.is_active(&alice, &revoked).await);
    assert!(!restarted.is_active(&bob, &good).await);
}

#[tokio::test]
async fn a_revocation_that_the_store_lost_is_put_back_by_a_node_that_remembers_it() {
    for has_gap in [false, true] {
        let here = Node::shared();
        let alice = person("alice");
        let revoked = here.open(&alice).await;
        here.core.log.poll().await.unwrap();
        let before = here.store.rows.lock().get(&REVOCATIONS_KEY).cloned().unwrap();
        here.revoke(app(&alice)).await.unwrap();
        here.store.rows.lock().insert(REVOCATIONS_KEY, before);
        here.store.log_is_gone.store(has_gap, Ordering::SeqCst);

        here.core.log.poll().await.unwrap();

        let there = here.another();
        let _following = follow::follow(&there).await;
        let after = here.open(&alice).await;
        assert!(!there.is_active(&alice, &revoked).await);
        assert!(there.is_active(&alice, &after).await);
    }
}

/// The store falls back to an earlier row, and a node that does not know of it goes on from there.
#[tokio::test]
async fn what_either_of_two_histories_revoked_stays_revoked() {
    for (scope, looks) in (0..3).flat_map(|scope| [(scope, true), (scope, false)]) {
        let here = Node::shared();
        let (alice, bob) = (person("alice"), in_app("wx2", "bob"));
        let (revoked, later) = (here.open(&alice).await, here.open(&bob).await);
        here.core.log.poll().await.unwrap();
        let before = here.store.rows.lock().get(&REVOCATIONS_KEY).cloned().unwrap();
        here.clock.advance(MINUTE);
        let alone = PersonId::Subject(alice.subject.clone());
        match scope {
            0 => drop(here.revoke(app(&alice)).await.unwrap()),
            1 => drop(here.revoke(SessionScope::OpenedBefore(here.now())).await.unwrap()),
            _ => drop(here.sessions.block(&alone, here.now()).await.unwrap()),
        }
        here.clock.advance(MINUTE);

        here.store.rows.lock().insert(REVOCATIONS_KEY, before);
        here.another().revoke(app(&bob)).await.unwrap();
        if looks {
            here.core.log.poll().await.unwrap();
        } else {
            here.sessions.list_by_subject(&bob.subject, here.now()).await.unwrap();
        }

        let third = here.another();
        let _following = follow::follow(&third).await;
        let checked = third.check(&alice, &revoked).await.map(drop);
        assert!(matches!(checked, Err(SessionError::Ended | SessionError::Blocked)), "{scope}: {checked:?}");
        assert!(!third.is_active(&bob, &later).await, "{scope}");
        let writes = here.store.writes();
        here.core.log.poll().await.unwrap();
        third.core.log.poll().await.unwrap();
        assert_eq!(here.store.writes(), writes, "put back once");
    }
}

#[tokio::test]
async fn a_session_with_a_lost_number_is_good_again_when_the_revocations_are_put_back() {
    let here = Node::shared();
    let alice = person("alice");
    here.open(&alice).await;
    let before = here.store.rows.lock().get(&REVOCATIONS_KEY).cloned().unwrap();
    here.clock.advance(MINUTE);
    here.revoke(app(&in_app("wx2", "bob"))).await.unwrap();
    let opened = here.open(&alice).await;
    here.store.rows.lock().insert(REVOCATIONS_KEY, before);

    // A node that lacks the revocation does not believe the session, and leaves it in the row.
    let there = here.another();
    let _following = follow::follow(&there).await;
    assert!(!there.is_active(&alice, &opened).await);
    let other = there.open(&alice).await;
    there.refresh(&other.refresh_token).await.unwrap();
    here.core.log.poll().await.unwrap();

    assert!(there.is_active(&alice, &opened).await);
    assert!(there.is_active(&alice, &other).await);
}

#[tokio::test]
async fn a_session_with_a_lost_number_is_ended_by_the_next_revocation() {
    let node = Node::new();
    let alice = person("alice");
    node.open(&alice).await;
    let before = node.store.rows.lock().get(&REVOCATIONS_KEY).cloned().unwrap();
    node.revoke(app(&alice)).await.unwrap();
    let opened = node.open(&alice).await;
    node.store.rows.lock().insert(REVOCATIONS_KEY, before);
    node.clock.advance(MINUTE);

    let restarted = node.another();
    restarted.revoke(app(&alice)).await.unwrap();

    assert!(!restarted.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_revocation_reaches_other_nodes_without_the_log() {
    let here = Node::shared();
    let there = here.another();
    let following = follow::follow(&there).await;
    following.abort();
    let alice = person("alice");
    let opened = there.open(&alice).await;
    let lease = there.check(&alice, &opened).await.unwrap().lease;
    here.store.append_fails.store(true, Ordering::SeqCst);
    assert!(here.revoke(app(&alice)).await.is_err());

    there.core.log.poll().await.unwrap();

    assert!(!lease.is_current());
    assert!(!there.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn what_could_not_be_published_is_published_later() {
    let here = Node::shared();
    let there = here.another();
    let following = follow::follow(&there).await;
    following.abort();
    for count in [1, 100] {
        let people: Vec<Identity> = (0..count).map(|number| person(&format!("p{number}"))).collect();
        let mut leases = Vec::new();
        here.store.append_fails.store(true, Ordering::SeqCst);
        for who in &people {
            let opened = here.open(who).await;
            leases.push(there.check(who, &opened).await.unwrap().lease);
            assert!(here.revoke(SessionScope::Session(opened.id)).await.is_err());
        }
        here.core.log.publish_pending().await;
        here.store.append_fails.store(false, Ordering::SeqCst);
        let before = here.store.entries();

        here.core.log.publish_pending().await;
        there.core.log.poll().await.unwrap();

        assert!(leases.iter().all(|lease| !lease.is_current()));
        assert_eq!(here.store.entries(), before + 1);
        here.core.log.publish_pending().await;
        assert_eq!(here.store.entries(), before + 1, "once is enough");
    }
}

#[tokio::test]
async fn a_revocation_that_may_have_been_made_ends_leases_and_is_published() {
    let node = Node::shared();
    node.core.log.poll().await.unwrap();
    let alice = with_unionid(&person("alice"), "u1");
    for number in 0..4 {
        let opened = node.open(&alice).await;
        let scope = match number {
            0 => SessionScope::Session(opened.id),
            1 => SessionScope::Subject(alice.subject.clone()),
            2 => SessionScope::UnionId(alice.unionid.clone().unwrap()),
            _ => app(&alice),
        };
        let lease = node.core.leases.lease(&name::locator(&alice.subject));
        node.store.writes_fail.store(true, Ordering::SeqCst);
        assert!(node.revoke(scope.clone()).await.is_err(), "{scope:?}");
        node.store.writes_fail.store(false, Ordering::SeqCst);
        let before = node.store.entries();

        node.core.log.publish_pending().await;

        assert!(!lease.is_current(), "{scope:?}");
        assert_eq!(node.store.entries(), before + 1, "{scope:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_prolongs_no_verdict() {
    let node = Node::shared();
    let before = node.core.epoch();

    node.core.log.check_clock(node.now());
    assert_eq!(node.core.epoch(), before);
    node.core.log.check_clock(node.now().plus(HOUR));

    assert!(node.core.epoch() > before);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_accepts_no_writes_is_not_available_and_its_reads_are_believed() {
    let node = Node::shared();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let following = follow::follow(&node).await;

    node.store.ping_fails.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;

    assert!(!node.core.health.is_available());
    assert_eq!(node.metrics.store_available.get(), 0);
    assert!(node.is_active(&alice, &opened).await);
    node.store.ping_fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(node.core.health.is_available());
    assert_eq!(node.metrics.store_available.get(), 1);
    following.abort();
}

#[tokio::test]
async fn a_repeated_answer_is_written_again_if_the_store_is_shared() {
    for (node, writes) in [(Node::shared(), 1), (Node::new(), 0)] {
        let alice = person("alice");
        let opened = node.open(&alice).await;
        let next = node.refresh(&opened.refresh_token).await.unwrap();
        let before = node.store.writes();

        let again = node.refresh(&opened.refresh_token).await.unwrap();

        assert_eq!(again.session.refresh_token.expose(), next.session.refresh_token.expose());
        assert_eq!(node.store.writes(), before + writes);
        if writes > 0 {
            node.store.writes_fail.store(true, Ordering::SeqCst);
            let refused = node.refresh(&opened.refresh_token).await.unwrap_err();
            assert!(matches!(refused, RefreshError::Session(SessionError::Store(_))), "{refused}");
        }
    }
}
