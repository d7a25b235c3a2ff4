//! Several gateways on one store.

use super::*;
use crate::session::{Client, OpenedSession};
use crate::sign_in::once::{CodeClaim, SignedIn};
use crate::store::Key;
use crate::throttle::{Standing, ThrottleError};

/// Two gateways that share a store, and the WeChat of each.
pub(super) struct Cluster {
    pub(super) nodes: [Arc<Harness>; 2],
    _folder: tempfile::TempDir,
    following: Vec<tokio::task::JoinHandle<()>>,
}

impl Cluster {
    async fn new(replies: [Vec<Reply>; 2]) -> Self {
        Self::with(replies, |_| {}).await
    }

    pub(super) async fn with(replies: [Vec<Reply>; 2], change: impl Fn(&mut Setup)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::start_now();
        let store = SwitchedStore::open(folder.path(), Arc::new(clock.clone()));
        store.share();
        let mut nodes = Vec::new();
        let mut following = Vec::new();
        for replies in replies {
            let fake = Fake::start(replies).await;
            let mut setup = Setup::default();
            setup.wechat.hosts = vec![fake.url()];
            setup.wechat.busy_retries = 0;
            setup.sessions.seal_keys = vec![config::SealKey {
                kid: "one".into(),
                secret: SecretSource::Inline("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into()),
            }];
            change(&mut setup);
            let node = Harness::on(fake, &setup, clock.clone(), store.clone());
            let core = node.login.deps.sessions.core().clone();
            following.push(tokio::spawn({
                let core = core.clone();
                async move { core.follow().await }
            }));
            while !node.login.deps.store_health.is_available() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            nodes.push(Arc::new(node));
        }
        let nodes = nodes.try_into().unwrap_or_else(|_| panic!("two nodes"));
        Self { nodes, _folder: folder, following }
    }

    fn exchanges(&self) -> [usize; 2] {
        [0, 1].map(|node| self.nodes[node].fake.requests().len())
    }

    /// Sends a code to a node, in the background.
    fn send(&self, node: usize, code: &'static str) -> tokio::task::JoinHandle<SignInAnswer> {
        let node = self.nodes[node].clone();
        tokio::spawn(async move { node.login(code).await })
    }

    async fn row(&self, code: &str) -> Option<Bytes> {
        self.nodes[0].store.dump(&key(code)).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.following.iter().for_each(|task| task.abort());
    }
}

fn claim(code: &str, client_fields: &[&[u8]]) -> CodeClaim {
    CodeClaim::new(&crate::identity::AppId::parse("wx0").unwrap(), &Code::parse(code).unwrap(), client_fields)
        .unwrap()
}

fn key(code: &str) -> Key {
    claim(code, &[]).key().clone()
}

fn held() -> Vec<Reply> {
    vec![Reply::Held(Box::new(Reply::json(SUCCESS)))]
}

#[tokio::test]
async fn a_code_sent_to_two_nodes_at_once_is_exchanged_once_and_opens_one_session() {
    let cluster = Cluster::new([held(), vec![Reply::json(r#"{"errcode":40163}"#)]]).await;
    let first = cluster.send(0, CODE);
    cluster.nodes[0].fake.requests_reach(1).await;
    let second = cluster.send(1, CODE);
    tokio::time::sleep(Duration::from_millis(120)).await;
    cluster.nodes[0].fake.release();

    let (first, second) = (json_of(&first.await.unwrap()), json_of(&second.await.unwrap()));

    assert_eq!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(second["openid"], OPENID);
    let session = |node: usize, document: &Value| {
        let Harness { login, clock, .. } = &*cluster.nodes[node];
        login
            .deps
            .tokens
            .verify(document["access_token"].as_str().unwrap(), clock.now())
            .unwrap()
            .session()
            .clone()
    };
    assert_eq!(session(1, &second), session(0, &first));
    assert_eq!(cluster.exchanges(), [1, 0]);
}

#[tokio::test]
async fn a_code_sent_to_another_node_later_gets_the_same_session_within_the_window() {
    let cluster = Cluster::new([vec![Reply::json(SUCCESS)], vec![Reply::json(r#"{"errcode":40163}"#)]]).await;
    let first = json_of(&cluster.nodes[0].login(CODE).await);
    cluster.nodes[0].clock.advance(Duration::from_millis(59_999));

    let second = json_of(&cluster.nodes[1].login(CODE).await);

    assert_eq!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(cluster.exchanges(), [1, 0]);
}

#[tokio::test]
async fn another_client_is_refused_by_every_node_and_does_no_harm() {
    let cluster = Cluster::new([held(), vec![Reply::json(SUCCESS)]]).await;
    let body = json!({ "code": CODE }).to_string();
    let first = cluster.send(0, CODE);
    cluster.nodes[0].fake.requests_reach(1).await;

    let during = cluster.nodes[1].send_from("198.51.100.1", login_request(&body)).await;
    cluster.nodes[0].fake.release();
    assert_eq!(first.await.unwrap().outcome, "ok");
    let after = cluster.nodes[1].send_from("198.51.100.1", login_request(&body)).await;

    assert_eq!([during.outcome, after.outcome], ["code_already_used"; 2]);
    assert_eq!(cluster.nodes[1].login(CODE).await.outcome, "ok", "the owner finds the answer there, too");
    assert_eq!(cluster.exchanges(), [1, 0]);
}

#[tokio::test]
async fn final_refusals_are_shared_and_others_leave_the_code_free() {
    for (reply, outcome, then) in [
        (r#"{"errcode":40029}"#, "code_invalid", "code_invalid"),
        (r#"{"errcode":40163}"#, "code_already_used", "code_already_used"),
        (r#"{"errcode":40226}"#, "user_blocked", "user_blocked"),
        (r#"{"errcode":-1}"#, "wechat_busy", "ok"),
        (r#"{"errcode":45011}"#, "throttled", "ok"),
        ("<html>", "wechat_unexpected", "ok"),
    ] {
        let cluster = Cluster::new([vec![Reply::json(reply)], vec![Reply::json(SUCCESS)]]).await;

        assert_eq!(cluster.nodes[0].login(CODE).await.outcome, outcome);

        assert_eq!(cluster.nodes[1].login(CODE).await.outcome, then);
        assert_eq!(cluster.exchanges(), [1, usize::from(then == "ok")], "{outcome}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_node_that_gave_up_may_send_the_code_again() {
    let busy = Reply::Held(Box::new(Reply::json(r#"{"errcode":-1}"#)));
    let cluster = Cluster::new([vec![busy], vec![Reply::json(SUCCESS)]]).await;
    let first = cluster.send(0, CODE);
    cluster.nodes[0].fake.requests_reach(1).await;
    let second = cluster.send(1, CODE);
    tokio::time::sleep(Duration::from_millis(120)).await;
    cluster.nodes[0].fake.release();

    assert_eq!(first.await.unwrap().outcome, "wechat_busy");
    let second = second.await.unwrap();

    assert_eq!((second.outcome, header(&second, "retry-after")), ("wechat_busy", Some("1")));
    assert_eq!(cluster.nodes[1].login(CODE).await.outcome, "ok");
}

#[tokio::test]
async fn a_node_that_died_does_not_keep_its_code_for_ever() {
    let cluster = Cluster::with([vec![], vec![Reply::json(SUCCESS)]], |setup| {
        setup.wechat.timeout = config::Duration::from_millis(100);
    })
    .await;
    let node = &cluster.nodes[1];
    let claim = claim(CODE, &[]).claim_row(&SystemEntropy).unwrap();
    node.store.put_if_absent(&key(CODE), claim, Duration::from_secs(5)).await.unwrap();

    assert_eq!(node.login(CODE).await.outcome, "code_already_used", "it was another client's");
    node.clock.advance(Duration::from_secs(6));

    assert_eq!(node.login(CODE).await.outcome, "ok");
}

#[tokio::test]
async fn without_a_store_no_code_is_spent() {
    let cluster = Cluster::new([vec![Reply::json(SUCCESS)], vec![]]).await;
    let node = &cluster.nodes[0];
    node.store.set_away(true);

    // The follower has not noticed yet: the claim itself fails.
    let answer = node.login(CODE).await;

    assert_eq!(refusal_of(&answer), (503, "store_unavailable", "temporarily_unavailable".into()));
    assert_eq!(cluster.exchanges(), [0, 0]);
    node.store.set_away(false);
    assert_eq!(node.login(CODE).await.outcome, "ok");
}

#[tokio::test]
async fn a_store_that_fails_midway_is_never_a_second_exchange_nor_an_invented_session() {
    let mut outcomes = std::collections::BTreeSet::new();
    for steps in 0..8 {
        let spent = Reply::json(r#"{"errcode":40163}"#);
        let cluster = Cluster::new([vec![Reply::json(SUCCESS)], vec![spent]]).await;
        cluster.nodes[0].store.set_away_after(steps);
        let first = cluster.nodes[0].login(CODE).await;
        cluster.nodes[0].store.set_away(false);
        outcomes.insert(first.outcome);
        if first.outcome == "ok" {
            let token = json_of(&first)["refresh_token"].as_str().unwrap().to_owned();
            let sessions = &cluster.nodes[1].login.deps.sessions;
            let token = RefreshToken::parse(&token).unwrap();
            let client = Client::for_test([192, 0, 2, 1], "curl/8.0");
            assert!(sessions.refresh(&token, &client, cluster.nodes[1].clock.now()).await.is_ok(), "{steps}");
        }
    }
    assert_eq!(Vec::from_iter(outcomes), ["ok", "store_unavailable"]);
}

#[tokio::test]
async fn an_ended_session_is_not_brought_back_by_another_node() {
    let cluster = Cluster::new([vec![Reply::json(SUCCESS)], vec![Reply::json(SUCCESS)]]).await;
    let answer = cluster.nodes[0].login(CODE).await;
    let subject = answer.identity.unwrap().subject;
    let now = cluster.nodes[0].clock.now();
    let scope = crate::session::SessionScope::Subject(subject);
    cluster.nodes[0].login.deps.sessions.revoke(&scope, now).await.unwrap();

    assert_eq!(cluster.nodes[1].login(CODE).await.outcome, "code_already_used");
    assert_eq!(cluster.exchanges(), [1, 0]);
}

#[tokio::test]
async fn the_store_learns_neither_code_nor_tokens_nor_people() {
    let cluster = Cluster::new([vec![Reply::json(SUCCESS)], vec![]]).await;
    let answer = json_of(&cluster.nodes[0].login(CODE).await);

    let row = cluster.row(CODE).await.unwrap();

    let secrets =
        ["access_token", "refresh_token", "openid"].map(|name| answer[name].as_str().unwrap().to_owned());
    for secret in secrets.iter().map(String::as_str).chain([CODE, "wx0", CLIENT]) {
        assert!(!row.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let other = claim("another-code", &[]);
    assert!(other.open_row::<OpenedSession>(&row).is_none(), "another code opens nothing");
}

#[tokio::test]
async fn a_row_that_was_tampered_with_is_an_error() {
    let cluster = Cluster::new([vec![Reply::json(SUCCESS)], vec![Reply::json(SUCCESS)]]).await;
    cluster.nodes[0].login(CODE).await;
    let row = cluster.row(CODE).await.unwrap();
    // After the client's hash: a changed hash is another client's.
    for at in [0, 17, 30, row.len() - 1] {
        let mut changed = row.to_vec();
        changed[at] ^= 0x80;
        cluster.nodes[1].store.put(&key(CODE), changed.into(), Duration::from_secs(60)).await.unwrap();

        assert_eq!(cluster.nodes[1].login(CODE).await.outcome, "internal_error", "{at}");
    }
    assert_eq!(cluster.exchanges(), [1, 0]);
}

#[test]
fn claims_differ_only_by_code_app_and_client() {
    let app = |text| crate::identity::AppId::parse(text).unwrap();
    let code = |text| Code::parse(text).unwrap();
    let one = CodeClaim::new(&app("wx1"), &code("code"), &[b"a", b"b"]).unwrap();
    let same = CodeClaim::new(&app("wx1"), &code("code"), &[b"a", b"b"]).unwrap();
    assert_eq!((one.key(), one.client()), (same.key(), same.client()));
    for (other_app, other_code, caller) in [
        ("wx1", "code2", [&b"a"[..], b"b"]),
        ("wx2", "code", [b"a", b"b"]),
        ("wx1c", "ode", [b"a", b"b"]),
        ("wx1", "code", [b"ab", b""]),
        ("wx1", "code", [b"a", b"c"]),
    ] {
        let other = CodeClaim::new(&app(other_app), &code(other_code), &caller).unwrap();

        assert_ne!((one.key(), one.client()), (other.key(), other.client()));
        assert_eq!(one.key() == other.key(), other_app == "wx1" && other_code == "code");
    }
}

#[test]
fn a_refusal_that_may_change_is_not_read_from_the_store() {
    let claim = claim("code", &[]);
    for (error, is_known) in [(SignInError::CodeInvalid, true), (SignInError::WeChatBusy, false)] {
        let row = claim.outcome_row(Err::<&SignedIn<OpenedSession>, _>(&error), &SystemEntropy).unwrap();

        assert_eq!(claim.open_row::<OpenedSession>(&row).is_some(), is_known);
    }
}

#[tokio::test]
async fn a_login_is_refused_if_the_shared_limit_of_exchanges_cannot_be_counted() {
    let harness = Harness::new([]).await;
    harness.store.share();
    let (config, mut findings) = (Setup::default().throttle, Findings::default());
    let clock = Arc::new(harness.clock.clone());
    // The embedded store counts no rates.
    let throttle = Throttle::build(&config, &harness.metrics, clock, &SystemEntropy, &mut findings)
        .unwrap()
        .shared_in(harness.store.clone(), &config);

    let refusal = throttle.check_exchange(Standing::Known).await.unwrap_err();

    assert!(matches!(refusal, ThrottleError::Store(_)), "{refusal:?}");
}
