//! How long sessions last.

use super::*;

#[tokio::test]
async fn a_session_ends_after_its_lifetime_however_busy() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    for _ in 0..29 {
        node.clock.advance(DAY);
        assert!(node.is_active(&alice, &opened).await);
    }
    node.clock.advance(DAY);

    assert!(!node.is_active(&alice, &opened).await);
    assert_eq!(node.refresh(&opened.refresh_token).await.unwrap_err(), RefreshError::Invalid);
}

#[tokio::test]
async fn an_unused_session_idles_out() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.clock.advance(7 * DAY);
    assert!(node.is_active(&alice, &opened).await);
    node.clock.advance(7 * DAY + 7 * DAY / 16);

    assert!(!node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_session_in_use_is_not_written_at_each_look_up() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let before = node.store.writes();
    for _ in 0..100 {
        node.clock.advance(MINUTE);
        node.check(&alice, &opened).await.unwrap();
    }
    assert_eq!(node.store.writes(), before);

    node.clock.advance(DAY);
    for _ in 0..10 {
        node.check(&alice, &opened).await.unwrap();
    }
    assert_eq!(node.store.writes(), before + 1);
}

#[tokio::test]
async fn a_session_in_constant_use_never_idles_out() {
    for (idle_timeout, recheck_after) in [(2, 1), (10, 300), (60, 30), (600, 30), (3600, 300), (86_400, 300)]
    {
        let node = Node::with(config::Sessions {
            idle_timeout: seconds(idle_timeout),
            recheck_after: seconds(recheck_after),
            ..config::Sessions::default()
        });
        let alice = person("alice");
        let opened = node.open(&alice).await;
        let end = node.now().plus(Duration::from_secs(10 * idle_timeout));
        while node.now() < end {
            // A verdict is believed until its re-check, and the next request comes just then.
            let checked = node.check(&alice, &opened).await;
            let Ok(checked) = checked else { panic!("idled out: {idle_timeout} s, {recheck_after} s") };
            assert!(checked.recheck_at > node.now());
            node.clock.advance(checked.recheck_at.since(node.now()));
        }
    }
}

#[tokio::test]
async fn no_session_idles_out_before_its_idle_timeout() {
    for (idle_timeout, recheck_after) in [(2, 1), (10, 300), (60, 30), (600, 30), (3600, 300)] {
        for used_for in 0..200_u64 {
            let node = Node::with(config::Sessions {
                idle_timeout: seconds(idle_timeout),
                recheck_after: seconds(recheck_after),
                ..config::Sessions::default()
            });
            let alice = person("alice");
            let opened = node.open(&alice).await;
            let step = Duration::from_millis(idle_timeout * 10);
            let mut believed_until = node.now();
            for _ in 0..used_for {
                node.clock.advance(step);
                if node.now() >= believed_until {
                    believed_until = node.check(&alice, &opened).await.unwrap().recheck_at;
                }
            }
            node.clock.advance(Duration::from_secs(idle_timeout) - Duration::from_millis(1));

            assert!(node.is_active(&alice, &opened).await, "{idle_timeout} {recheck_after} {used_for}");
        }
    }
}

#[tokio::test]
async fn a_verdict_is_believed_no_longer_than_its_session_lives() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    for _ in 0..30 * 24 - 1 {
        node.clock.advance(HOUR);
        node.check(&alice, &opened).await.unwrap();
    }
    node.clock.advance(HOUR - Duration::from_secs(5));

    let checked = node.check(&alice, &opened).await.unwrap();

    assert_eq!(checked.recheck_at, opened.expires_at);
}
