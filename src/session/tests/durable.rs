//! Sessions on the embedded engine, with its file.

use super::refresh::all_at_once;
use super::*;

#[tokio::test]
async fn a_session_outlives_a_restart_with_everything_it_holds() {
    let (folder, clock) = start();
    let alice = with_unionid(&person("alice"), "u1");
    let node = Node::durable(&folder, &clock, &config::Sessions::default());
    let opened = node.open_with_key(&alice, [5; 16]).await;
    let ended = node.open(&alice).await;
    node.revoke(SessionScope::Session(ended.id.clone())).await.unwrap();
    drop(node);

    let node = Node::durable(&folder, &clock, &config::Sessions::default());

    assert!(node.is_active(&alice, &opened).await);
    assert!(!node.is_active(&alice, &ended).await);
    let key = node.sessions.session_key(&alice.subject, &opened.id, node.now()).await.unwrap();
    assert_eq!(*key.unwrap(), [5; 16]);
    assert!(node.refresh(&opened.refresh_token).await.is_ok());
    let unionid = alice.unionid.clone().unwrap();
    assert_eq!(node.revoke(SessionScope::UnionId(unionid)).await, Ok(Some(1)));
}

#[tokio::test]
async fn a_retry_after_a_restart_gets_the_same_token() {
    let (folder, clock) = start();
    let node = Node::durable(&folder, &clock, &config::Sessions::default());
    let opened = node.open(&person("alice")).await;
    let first = node.refresh(&opened.refresh_token).await.unwrap();
    drop(node);

    let node = Node::durable(&folder, &clock, &config::Sessions::default());
    let again = node.refresh(&opened.refresh_token).await.unwrap();

    assert_eq!(again.session.refresh_token.expose(), first.session.refresh_token.expose());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_uses_of_one_token_at_once_are_one_on_disk() {
    for grace in [10, 0] {
        let (folder, clock) = start();
        let config = config::Sessions { refresh_grace: seconds(grace), ..config::Sessions::default() };
        let node = Arc::new(Node::durable(&folder, &clock, &config));
        let alice = person("alice");
        let opened = node.open(&alice).await;

        let results = all_at_once(&[Arc::clone(&node)], &opened.refresh_token).await;

        let tokens: std::collections::BTreeSet<String> = results
            .iter()
            .flatten()
            .map(|refreshed| refreshed.session.refresh_token.expose().to_owned())
            .collect();
        let succeeded = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(tokens.len(), 1);
        assert_eq!(succeeded, if grace == 0 { 1 } else { 64 });
        assert_eq!(node.is_active(&alice, &opened).await, grace > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_looked_up_while_it_is_revoked_is_not_believed_for_long() {
    let (folder, clock) = start();
    let node = Arc::new(Node::durable(&folder, &clock, &config::Sessions::default()));
    let alice = person("alice");
    for _ in 0..20 {
        let opened = node.open(&alice).await;
        let looking = tokio::spawn({
            let (node, opened, alice) = (Arc::clone(&node), opened.clone(), alice.clone());
            async move {
                let mut leases = Vec::new();
                while let Ok(checked) = node.sessions.check(&alice.subject, &opened.id, node.now()).await {
                    leases.push(checked.lease);
                    tokio::task::yield_now().await;
                }
                leases
            }
        });
        tokio::task::yield_now().await;
        node.revoke(SessionScope::Session(opened.id)).await.unwrap();

        let leases = looking.await.unwrap();
        assert!(leases.iter().all(|lease| !lease.is_current()));
    }
}

fn start() -> (Arc<TempDir>, ManualClock) {
    (Arc::new(tempfile::tempdir().unwrap()), ManualClock::start_now())
}
