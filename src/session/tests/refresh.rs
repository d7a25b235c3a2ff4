//! Refresh tokens: each is good for one use.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

#[tokio::test]
async fn a_refresh_token_gives_the_next_one_and_keeps_the_session() {
    let node = Node::new();
    let alice = with_unionid(&person("alice"), "u1");
    let opened = node.open(&alice).await;
    node.clock.advance(DAY);

    let first = node.refresh(&opened.refresh_token).await.unwrap();
    node.clock.advance(DAY);
    let second = node.refresh(&first.session.refresh_token).await.unwrap();

    assert_eq!(first.identity, alice);
    assert_eq!(second.session.id, opened.id);
    assert_eq!(second.session.expires_at, opened.expires_at);
    assert_ne!(first.session.refresh_token.expose(), second.session.refresh_token.expose());
    assert!(node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_refresh_counts_as_a_use() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    node.clock.advance(6 * DAY);
    node.refresh(&opened.refresh_token).await.unwrap();
    node.clock.advance(6 * DAY);

    assert!(node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_retry_within_the_grace_time_gets_the_same_token() {
    let node = Node::new();
    let opened = node.open(&person("alice")).await;
    let first = node.refresh(&opened.refresh_token).await.unwrap();
    node.clock.advance(Duration::from_millis(9_999));

    let again = node.refresh(&opened.refresh_token).await.unwrap();

    assert_eq!(again.session.refresh_token.expose(), first.session.refresh_token.expose());
    assert!(node.refresh(&again.session.refresh_token).await.is_ok());
    assert_eq!(node.metrics.refreshes.with_label_values(&["rotated"]).get(), 2);
    assert_eq!(node.metrics.refreshes.with_label_values(&["repeated"]).get(), 1);
}

#[tokio::test]
async fn a_retry_of_another_client_gets_nothing_and_the_session_goes_on() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let next = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;

    for other in [Client::for_test([192, 0, 3, 1], "curl/8.0"), Client::for_test([192, 0, 2, 1], "curl/8.1")]
    {
        let refused = node.refresh_as(&other, &opened.refresh_token).await.unwrap_err();
        assert!(matches!(refused, RefreshError::OfOtherClient(_)), "{other:?}");
    }

    assert!(node.is_active(&alice, &opened).await);
    assert_eq!(node.metrics.refreshes.with_label_values(&["other_client"]).get(), 2);
    let again = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;
    assert_eq!(again.expose(), next.expose(), "the client that spent it");
    // Only a retry is bound to a client: a phone changes its network between two refreshes.
    let moved = Client::for_test([198, 51, 100, 1], "curl/9.0");
    assert!(node.refresh_as(&moved, &next).await.is_ok());
}

#[tokio::test]
async fn a_retry_may_come_from_another_address_of_the_network_and_another_kind_of_it() {
    let node = Node::new();
    let opened = node.open(&person("alice")).await;
    let wifi = Client::for_test([192, 0, 2, 1], "MicroMessenger/8.0.50 NetType/WIFI Language/zh_CN");
    let mobile = Client::for_test([192, 0, 2, 254], "MicroMessenger/8.0.50 NetType/4G Language/en");

    let first = node.refresh_as(&wifi, &opened.refresh_token).await.unwrap();
    let again = node.refresh_as(&mobile, &opened.refresh_token).await.unwrap();

    assert_eq!(again.session.refresh_token.expose(), first.session.refresh_token.expose());
}

#[tokio::test]
async fn the_network_of_one_client_is_as_wide_as_configured() {
    let node = Node::new();
    for (ipv4_prefix, ipv6_prefix, one, other, is_same) in [
        (24, 48, "192.0.2.1", "192.0.2.250", true),
        (24, 48, "192.0.2.1", "192.0.3.1", false),
        (16, 48, "192.0.2.1", "192.0.3.1", true),
        (32, 48, "192.0.2.1", "192.0.2.2", false),
        (24, 48, "192.0.2.1", "::ffff:192.0.2.9", true),
        (24, 48, "2001:db8:1:1::1", "2001:db8:1:2::1", true),
        (24, 64, "2001:db8:1:1::1", "2001:db8:1:2::1", false),
        (24, 48, "2001:db8:1::1", "2001:db8:2::1", false),
    ] {
        let retry_network = config::RetryNetwork { ipv4_prefix, ipv6_prefix };
        let node = node.reloaded(&config::Sessions { retry_network, ..config::Sessions::default() });

        let [one, other] = [one, other].map(|address| {
            node.sessions.client(address.parse().unwrap(), &http::HeaderMap::new()).fields().to_vec()
        });

        assert_eq!(one == other, is_same, "/{ipv4_prefix} /{ipv6_prefix}: {one:?} {other:?}");
    }
}

#[tokio::test]
async fn a_token_of_another_client_is_reused_after_the_grace_time_or_once_the_successor_is_spent() {
    let other = Client::for_test([198, 51, 100, 1], "curl/8.0");
    for is_successor_spent in [false, true] {
        let node = Node::new();
        let alice = person("alice");
        let opened = node.open(&alice).await;
        let next = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;
        if is_successor_spent {
            node.refresh(&next).await.unwrap();
        } else {
            node.clock.advance(Duration::from_secs(10));
        }

        let refused = node.refresh_as(&other, &opened.refresh_token).await.unwrap_err();

        assert!(matches!(refused, RefreshError::Reused(_)), "{is_successor_spent}");
        assert!(!node.is_active(&alice, &opened).await);
    }
}

#[tokio::test]
async fn a_refresh_moves_nothing_that_a_holder_of_a_token_is_shown() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let listed =
        async || node.sessions.list_by_subject(&alice.subject, node.now()).await.unwrap().pop().unwrap();
    let before = listed().await;
    node.clock.advance(DAY);

    node.refresh(&opened.refresh_token).await.unwrap();

    let after = listed().await;
    assert_eq!(after.last_request_at, before.last_request_at);
    assert_eq!(after.expires_at, before.expires_at);
    assert_eq!(after.last_seen_at, node.now(), "an operator sees it");
}

#[tokio::test]
async fn a_retry_after_the_grace_time_ends_the_session() {
    let node = Node::new();
    let alice = person("alice");
    let (opened, other) = (node.open(&alice).await, node.open(&alice).await);
    let next = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;
    let lease = node.check(&alice, &opened).await.unwrap().lease;
    node.clock.advance(Duration::from_secs(10));

    assert!(matches!(node.refresh(&opened.refresh_token).await, Err(RefreshError::Reused(_))));

    assert!(!lease.is_current());
    assert!(!node.is_active(&alice, &opened).await);
    assert_eq!(node.refresh(&next).await.unwrap_err(), RefreshError::Invalid);
    assert!(node.is_active(&alice, &other).await, "another session of the person ended too");
    assert_eq!(node.metrics.session_revocations.with_label_values(&["reuse", "ended"]).get(), 1);
}

#[tokio::test]
async fn a_spent_token_whose_successor_was_used_ends_the_session_within_the_grace_time_too() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let next = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;
    node.refresh(&next).await.unwrap();

    assert!(matches!(node.refresh(&opened.refresh_token).await, Err(RefreshError::Reused(_))));
    assert!(!node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_client_that_knows_only_ids_cannot_end_a_session() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let bytes = URL_SAFE_NO_PAD.decode(opened.refresh_token.expose()).unwrap();
    let mut forged = bytes.clone();
    forged[20] ^= 1;
    let forged = RefreshToken::parse(&URL_SAFE_NO_PAD.encode(&forged)).unwrap();

    assert_eq!(node.refresh(&forged).await.unwrap_err(), RefreshError::Invalid);
    assert!(node.is_active(&alice, &opened).await);
}

#[tokio::test]
async fn a_token_of_the_family_that_was_never_issued_ends_the_session() {
    let node = Node::new();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let mut forged = URL_SAFE_NO_PAD.decode(opened.refresh_token.expose()).unwrap();
    forged[63] ^= 1;
    let forged = RefreshToken::parse(&URL_SAFE_NO_PAD.encode(&forged)).unwrap();

    assert!(matches!(node.refresh(&forged).await, Err(RefreshError::Reused(_))));
    assert!(!node.is_active(&alice, &opened).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_uses_of_one_token_at_once_all_get_the_same_next_one() {
    // Four nodes: on a single one, the lock of the row would order them.
    let nodes = four_nodes(10).await;
    let opened = nodes[0].open(&person("alice")).await;

    let results = all_at_once(&nodes, &opened.refresh_token).await;

    let first = results[0].as_ref().unwrap().session.refresh_token.clone();
    for result in &results {
        assert_eq!(result.as_ref().unwrap().session.refresh_token.expose(), first.expose());
    }
    assert!(nodes[0].refresh(&first).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_grace_time_one_use_wins_and_the_others_end_the_session() {
    let nodes = four_nodes(0).await;
    let alice = person("alice");
    let opened = nodes[0].open(&alice).await;

    let results = all_at_once(&nodes, &opened.refresh_token).await;

    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let reused = results.iter().filter(|result| matches!(result, Err(RefreshError::Reused(_)))).count();
    assert!(reused >= 1);
    let is_known = |error: &RefreshError| matches!(error, RefreshError::Reused(_) | RefreshError::Invalid);
    assert!(results.iter().all(|result| result.as_ref().map_or_else(is_known, |_| true)));
    assert_eq!(nodes[0].sessions.list_by_subject(&alice.subject, nodes[0].now()).await.unwrap(), []);
}

async fn four_nodes(grace: u64) -> Vec<Arc<Node>> {
    let config = config::Sessions { refresh_grace: seconds(grace), ..config::Sessions::default() };
    let first = Node::shared();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(Arc::new(first.another().reloaded(&config)));
    }
    nodes
}

pub(super) async fn all_at_once(
    nodes: &[Arc<Node>],
    token: &RefreshToken,
) -> Vec<Result<RefreshedSession, RefreshError>> {
    let start = Arc::new(tokio::sync::Barrier::new(64));
    let tasks: Vec<_> = (0..64)
        .map(|index| {
            let (node, token, start) =
                (Arc::clone(&nodes[index % nodes.len()]), token.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                node.refresh(&token).await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test]
async fn the_store_has_no_refresh_token_and_no_client() {
    let node = Node::new();
    let opened = node.open(&person("alice")).await;
    let next = node.refresh(&opened.refresh_token).await.unwrap().session.refresh_token;

    for token in [&opened.refresh_token, &next] {
        let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
        for (key, (value, _)) in node.store.rows.lock().iter() {
            for secret in [&bytes[16..32], &bytes[32..48], &bytes[48..]] {
                assert!(!value.windows(16).any(|window| window == secret), "{key:?}");
            }
            let mapped = [&[0xff, 0xff][..], &[192, 0, 2]].concat();
            assert!(!value.windows(5).any(|window| window == mapped), "{key:?}");
        }
    }
}
