//! Sealed session_keys, and the section's checks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::{SealKey, SecretSource};

#[tokio::test]
async fn a_session_key_is_given_only_to_the_session_whose_sign_in_brought_it() {
    let node = Node::new();
    let alice = person("alice");
    let first = node.open_with_key(&alice, [1; 16]).await;
    assert_eq!(key(&node, &alice, &first).await, Some([1; 16]));
    let second = node.open_with_key(&alice, [2; 16]).await;
    let third = node.open(&alice).await;

    assert_eq!(key(&node, &alice, &first).await, None);
    assert_eq!(key(&node, &alice, &second).await, Some([2; 16]));
    assert_eq!(key(&node, &alice, &third).await, None);
}

#[tokio::test]
async fn an_ended_session_gets_no_session_key_and_leaves_none() {
    let node = Node::new();
    let alice = person("alice");
    let other = node.open(&alice).await;
    let opened = node.open_with_key(&alice, [1; 16]).await;
    node.revoke(SessionScope::Session(opened.id.clone())).await.unwrap();

    let refused = node.sessions.session_key(&alice.subject, &opened.id, node.now()).await.unwrap_err();

    assert_eq!(refused, SessionError::Ended);
    assert_eq!(key(&node, &alice, &other).await, None);
    let stored =
        node.core.subjects.read(crate::session::row::name::locator(&alice.subject)).await.unwrap().unwrap();
    assert!(stored.row.session_key.is_none());
}

#[tokio::test]
async fn the_store_has_no_session_key() {
    let node = Node::new();
    let secret = *b"16 secret bytes!";
    node.open_with_key(&person("alice"), secret).await;

    for (key, (value, _)) in node.store.rows.lock().iter() {
        assert!(!value.windows(16).any(|window| window == secret), "{key:?}");
    }
}

#[tokio::test]
async fn a_session_key_is_sealed_again_when_another_key_seals() {
    let [old, new] = [1, 2].map(|byte| seal_key(&format!("k{byte}"), byte));
    let node = Node::with(config::Sessions { seal_keys: vec![old.clone()], ..config::Sessions::default() });
    let alice = person("alice");
    let opened = node.open_with_key(&alice, [1; 16]).await;
    let both = config::Sessions { seal_keys: vec![new.clone(), old], ..config::Sessions::default() };
    let alone = config::Sessions { seal_keys: vec![new], ..config::Sessions::default() };

    let refused = node.reloaded(&alone).sessions.session_key(&alice.subject, &opened.id, node.now()).await;
    assert!(matches!(refused, Err(SessionError::Internal(_))), "{refused:?}");
    assert_eq!(key(&node.reloaded(&both), &alice, &opened).await, Some([1; 16]));
    assert_eq!(key(&node.reloaded(&alone), &alice, &opened).await, Some([1; 16]));
}

#[tokio::test]
async fn a_key_of_the_same_name_that_did_not_seal_opens_nothing() {
    let [right, wrong] = [1, 2].map(|byte| seal_key("k", byte));
    let node = Node::with(config::Sessions { seal_keys: vec![right], ..config::Sessions::default() });
    let alice = person("alice");
    let opened = node.open_with_key(&alice, [1; 16]).await;

    let wrong = node.reloaded(&config::Sessions { seal_keys: vec![wrong], ..config::Sessions::default() });

    let refused = wrong.sessions.session_key(&alice.subject, &opened.id, node.now()).await;
    assert!(matches!(refused, Err(SessionError::Store(_))), "{refused:?}");
    assert!(wrong.is_active(&alice, &opened).await);
}

#[test]
fn a_seal_key_is_made_once_and_readable_only_by_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let file = node.folder.path().join("seal-key");
    let before = std::fs::read(&file).unwrap();

    node.reloaded(&config::Sessions::default());

    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(node.folder.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_seal_key_is_refused_if_one_was_in_use() {
    let node = Node::new();
    let empty = tempfile::tempdir().unwrap();

    let findings = build_findings(&config::Sessions::default(), &node, empty.path(), OnMissingKey::Refuse);
    assert!(findings.contains("seal-key` is missing"), "{findings}");
    let findings = build_findings(&config::Sessions::default(), &node, empty.path(), OnMissingKey::Ephemeral);
    assert_eq!(findings, "");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[test]
fn a_cluster_without_configured_seal_keys_is_warned() {
    let node = Node::shared();
    let findings =
        build_findings(&config::Sessions::default(), &node, node.folder.path(), OnMissingKey::Create);

    assert!(findings.starts_with("sessions.seal_keys: each gateway"), "{findings}");
}

#[test]
fn every_wrong_value_is_a_finding() {
    let ok = config::Sessions::default;
    let cases = [
        (config::Sessions { lifetime: seconds(59), idle_timeout: seconds(9), ..ok() }, "sessions.lifetime"),
        (config::Sessions { lifetime: seconds(401 * 86_400), ..ok() }, "sessions.lifetime"),
        (config::Sessions { idle_timeout: seconds(31 * 86_400), ..ok() }, "sessions.idle_timeout"),
        (config::Sessions { idle_timeout: seconds(0), ..ok() }, "sessions.idle_timeout"),
        (config::Sessions { max_per_subject: 0, ..ok() }, "sessions.max_per_subject"),
        (config::Sessions { max_per_subject: 65, ..ok() }, "sessions.max_per_subject"),
        (config::Sessions { eviction_delay: seconds(3601), ..ok() }, "sessions.eviction_delay"),
        (config::Sessions { refresh_grace: seconds(301), ..ok() }, "sessions.refresh_grace"),
        (config::Sessions { recheck_after: seconds(0), ..ok() }, "sessions.recheck_after"),
        (config::Sessions { recheck_after: seconds(301), ..ok() }, "sessions.recheck_after"),
        (keys(vec![seal_key("", 1)]), "sessions.seal_keys[0].kid"),
        (keys(vec![seal_key("a", 1), seal_key("a", 2)]), "sessions.seal_keys[1].kid"),
        (keys(vec![SealKey { kid: "a".into(), secret: inline("c2hvcnQ=") }]), "sessions.seal_keys[0].secret"),
    ];
    let node = Node::new();
    for (config, path) in cases {
        let mut findings = Findings::default();
        let core = Arc::clone(&node.core);
        let built = Sessions::build(&config, node.folder.path(), OnMissingKey::Create, core, &mut findings);

        assert!(built.is_none(), "{path}");
        assert!(
            findings.iter().any(|finding| finding.path == path && finding.hint.is_some()),
            "{findings:?}"
        );
    }
}

fn build_findings(
    config: &config::Sessions,
    node: &Node,
    folder: &std::path::Path,
    missing: OnMissingKey,
) -> String {
    let mut findings = Findings::default();
    Sessions::build(config, folder, missing, Arc::clone(&node.core), &mut findings);
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

async fn key(node: &Node, identity: &Identity, opened: &OpenedSession) -> Option<[u8; 16]> {
    let key = node.sessions.session_key(&identity.subject, &opened.id, node.now()).await.unwrap();
    key.map(|key| *key)
}

fn keys(seal_keys: Vec<SealKey>) -> config::Sessions {
    config::Sessions { seal_keys, ..config::Sessions::default() }
}

fn seal_key(kid: &str, byte: u8) -> SealKey {
    SealKey { kid: kid.into(), secret: inline(&STANDARD.encode([byte; 32])) }
}

fn inline(text: &str) -> SecretSource {
    SecretSource::Inline(text.to_owned())
}
