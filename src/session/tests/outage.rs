//! A store whose answers are lost for longer than the grace time of refresh tokens.

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn is_store_error<T>(result: &Result<T, RefreshError>) -> bool {
    matches!(result, Err(RefreshError::Session(SessionError::Store(_))))
}

#[tokio::test]
async fn a_refresh_that_was_never_confirmed_ends_no_session_however_late_the_client_repeats_it() {
    for tries in [1, 2, 10] {
        for node in [Node::shared(), Node::new()] {
            let alice = person("alice");
            let opened = node.open(&alice).await;
            node.store.lose_answers_after(0);
            for _ in 0..tries {
                assert!(is_store_error(&node.refresh(&opened.refresh_token).await));
                node.clock.advance(LONG);
            }
            node.store.lose_answers_after(u64::MAX);

            let next = node.refresh(&opened.refresh_token).await.unwrap();

            assert!(node.refresh(&next.session.refresh_token).await.is_ok(), "{tries}");
            let listed = node.sessions.list_by_subject(&alice.subject, node.now()).await.unwrap();
            assert_eq!(listed.len(), 1, "{tries}");
        }
    }
}

#[tokio::test]
async fn the_same_token_is_good_within_the_grace_time_wherever_a_refresh_breaks_off() {
    let mut was_confirmed = 0;
    for answers in 0..8 {
        let node = Node::shared();
        let opened = node.open(&person("alice")).await;
        node.store.lose_answers_after(answers);
        let first = node.refresh(&opened.refresh_token).await;
        node.store.lose_answers_after(u64::MAX);
        node.clock.advance(Duration::from_secs(9));

        let again = node.refresh(&opened.refresh_token).await.unwrap();

        if let Ok(first) = &first {
            assert_eq!(first.session.refresh_token.expose(), again.session.refresh_token.expose());
            was_confirmed += 1;
        }
        assert!(node.refresh(&again.session.refresh_token).await.is_ok(), "{answers}");
    }
    assert!((1..8).contains(&was_confirmed), "{was_confirmed}");
}

#[tokio::test]
async fn a_token_that_may_have_been_answered_counts_as_stolen_after_the_grace_time() {
    // Counted from the write that spends it: the fate of the answer is unknown.
    for repeated in [false, true] {
        let node = Node::shared();
        let alice = person("alice");
        let opened = node.open(&alice).await;
        let next = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;
        node.clock.advance(Duration::from_secs(6));
        if repeated {
            // Neither a thief nor an outage prolongs the grace time.
            node.store.lose_answers_after(0);
            assert!(is_store_error(&node.refresh(&opened.refresh_token).await));
            node.store.lose_answers_after(u64::MAX);
            assert!(node.refresh(&opened.refresh_token).await.is_ok());
        }
        node.clock.advance(Duration::from_secs(6));

        assert!(matches!(node.refresh(&opened.refresh_token).await, Err(RefreshError::Reused(_))));
        assert_eq!(node.refresh(&next).await.unwrap_err(), RefreshError::Invalid);
    }
}
