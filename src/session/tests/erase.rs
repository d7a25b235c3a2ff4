//! Erasing people, and rows that have no names in clear.

use std::sync::atomic::Ordering;

use super::*;
use crate::identity::{User, UserId};
use crate::session::row::name::{self, REVOCATIONS_KEY};
use crate::session::row::sealed;
use crate::session::{BlockedName, EraseError, PersonId};
use crate::store::Space;

const OPENID: &str = "o6_erased-openid";
const OTHER_OPENID: &str = "o6_erased-too";
const UNIONID: &str = "u6_erased-unionid";
const NICKNAME: &str = "Nickname of the erased";

fn in_shop() -> Identity {
    with_unionid(&in_app("wx1", OPENID), UNIONID)
}

fn in_club() -> Identity {
    with_unionid(&in_app("wx2", OTHER_OPENID), UNIONID)
}

fn subject_id(identity: &Identity) -> PersonId {
    PersonId::Subject(identity.subject.clone())
}

fn unionid_id(text: &str) -> PersonId {
    PersonId::UnionId(UnionId::parse(text).unwrap())
}

fn user(id: &str) -> User {
    User::new(UserId::parse(id).unwrap(), []).unwrap()
}

impl Node {
    /// Lets rows be sealed, as `Core::follow` does.
    pub(super) async fn seal_rows(&self) {
        let mut quiet = 0;
        for _ in 0..8 {
            self.core.forms.look(&mut quiet).await.unwrap();
        }
        assert!(self.core.revocations.current().await.unwrap().is_sealed_throughout());
    }

    async fn open_in_full(&self, identity: &Identity) -> OpenedSession {
        let profile = Profile::new(NICKNAME, "https://thirdwx.qlogo.cn/mmopen/x/132");
        let key = Zeroizing::new([7; 16]);
        let new = NewSession {
            identity,
            session_key: Some(&key),
            user_agent: Some("curl/8.0"),
            profile: Some(&profile),
        };
        self.sessions.open(new, self.now()).await.unwrap()
    }

    /// A node that reads the log, so that it believes sessions.
    async fn polled(self) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the age of a read of the log, which is real time")]
        let now = tokio::time::Instant::now();
        self.core.log.poll().await.unwrap();
        self.core.health.record_log_read(&Ok(()), now);
        self
    }

    fn holds_bytes(&self, text: &str) -> Vec<crate::store::Key> {
        let rows = self.store.rows.lock();
        let holds = |value: &[u8]| value.windows(text.len()).any(|window| window == text.as_bytes());
        rows.iter().filter(|(_, (value, _))| holds(value)).map(|(key, _)| key.clone()).collect()
    }

    fn count(&self, space: Space) -> usize {
        self.store.rows.lock().keys().filter(|key| key.space == space).count()
    }
}

#[tokio::test]
async fn rows_have_no_names_in_clear_once_no_gateway_of_the_previous_version_runs() {
    for node in [Node::new(), Node::shared().polled().await] {
        let shop = in_shop();
        let opened = node.open_in_full(&shop).await;
        node.sessions.bind(&subject_id(&shop), &user("user-42"), node.now()).await.unwrap();
        node.sessions.block(&unionid_id("u6_other"), node.now()).await.unwrap();
        node.sessions.block(&subject_id(&in_club()), node.now()).await.unwrap();
        node.sessions.unblock(&subject_id(&in_club()), node.now()).await.unwrap();
        for text in [OPENID, UNIONID, NICKNAME, "user-42", "u6_other", OTHER_OPENID] {
            assert!(!node.holds_bytes(text).is_empty(), "{text} is not there to be sealed");
        }

        node.seal_rows().await;

        for text in [OPENID, UNIONID, NICKNAME, "user-42", "u6_other", OTHER_OPENID] {
            assert_eq!(node.holds_bytes(text), [], "{text}");
        }
        for node in [&node, &node.another().polled().await] {
            assert!(node.is_active(&shop, &opened).await);
            let checked = node.check(&shop, &opened).await.unwrap();
            assert_eq!(checked.user.unwrap().id().as_str(), "user-42");
            assert_eq!(checked.profile.nickname(), Some(NICKNAME));
            let listed = node.sessions.list_by_unionid(&UnionId::parse(UNIONID).unwrap(), node.now()).await;
            assert_eq!(listed.unwrap().len(), 1);
            let blocked = node.sessions.list_blocked().await.unwrap();
            let names: Vec<_> = blocked.into_iter().map(|blocked| blocked.person).collect();
            assert_eq!(names, [BlockedName::Person(unionid_id("u6_other"))]);
        }
        let again = node.refresh(&opened.refresh_token).await.unwrap();
        assert!(node.is_active(&shop, &again.session).await);
        assert_eq!(node.holds_bytes(OPENID), []);
    }
}

#[tokio::test]
async fn rows_stay_readable_for_a_gateway_of_the_version_before_as_long_as_one_runs() {
    let node = Node::shared().polled().await;
    node.store.has_older_peer.store(true, Ordering::SeqCst);
    let shop = in_shop();
    let opened = node.open(&shop).await;
    let mut quiet = 0;
    for _ in 0..10 {
        node.core.forms.look(&mut quiet).await.unwrap();
    }

    assert!(!node.holds_bytes(OPENID).is_empty());
    let refused = node.sessions.erase(&[subject_id(&shop)], node.now()).await;
    assert_eq!(refused, Err(EraseError::OlderGateway));
    assert!(node.is_active(&shop, &opened).await, "nothing was erased");

    node.store.has_older_peer.store(false, Ordering::SeqCst);
    node.seal_rows().await;
    assert_eq!(node.holds_bytes(OPENID), []);
    assert!(node.is_active(&shop, &opened).await);
}

#[tokio::test]
async fn a_gateway_with_other_seal_keys_keeps_rows_unsealed() {
    let key = |byte: u8| {
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        let secret = config::SecretSource::Inline(secret);
        let seal_keys = vec![config::SealKey { kid: format!("k{byte}"), secret }];
        config::Sessions { seal_keys, ..config::Sessions::default() }
    };
    let first = Node::shared();
    let folder = Arc::clone(&first.folder);
    let one = Node::on(Arc::clone(&first.store), first.clock.clone(), Arc::clone(&folder), &key(1));
    let other = Node::on(Arc::clone(&first.store), first.clock.clone(), folder, &key(2));
    let (one, other) = (one.polled().await, other.polled().await);
    let opened = one.open(&in_shop()).await;
    let (mut quiet_one, mut quiet_other) = (0, 0);
    for _ in 0..10 {
        let _ = one.core.forms.look(&mut quiet_one).await;
        let _ = other.core.forms.look(&mut quiet_other).await;
    }

    assert!(!one.core.revocations.current().await.unwrap().is_sealing());
    assert!(other.is_active(&in_shop(), &opened).await);
}

#[tokio::test]
async fn a_change_of_the_seal_keys_changes_one_row() {
    let key = |byte: u8| {
        use base64::Engine as _;
        let secret = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        config::SealKey { kid: format!("k{byte}"), secret: config::SecretSource::Inline(secret) }
    };
    let with =
        |keys: Vec<config::SealKey>| config::Sessions { seal_keys: keys, ..config::Sessions::default() };
    let node = Node::with(with(vec![key(1)]));
    let shop = in_shop();
    let opened = node.open(&shop).await;
    node.sessions.block(&unionid_id("u-blocked"), node.now()).await.unwrap();
    node.seal_rows().await;
    node.sessions.erase(&[unionid_id("u-blocked")], node.now()).await.unwrap();
    let before = node.store.rows.lock().clone();

    let mut quiet = 0;
    let both = node.reloaded(&with(vec![key(2), key(1)]));
    both.sessions.use_seal_keys();
    both.core.forms.look(&mut quiet).await.unwrap();
    let alone = node.reloaded(&with(vec![key(2)]));
    alone.sessions.use_seal_keys();
    alone.core.forms.look(&mut quiet).await.unwrap();
    let after = node.store.rows.lock().clone();
    let restarted =
        Node::on(Arc::clone(&node.store), node.clock.clone(), Arc::clone(&node.folder), &with(vec![key(2)]));

    assert_eq!(before.iter().filter(|(name, row)| after.get(*name) != Some(row)).count(), 1);
    assert!(restarted.is_active(&shop, &opened).await);
    assert!(
        restarted.sessions.block(&unionid_id("u-blocked"), node.now()).await == Ok(false),
        "still blocked"
    );
    let without =
        Node::on(Arc::clone(&node.store), node.clock.clone(), Arc::clone(&node.folder), &with(vec![key(1)]));
    let refused = without.check(&shop, &opened).await.unwrap_err();
    assert!(refused.to_string().contains("sealed with `k2`"), "{refused}");
}

#[tokio::test]
async fn a_person_is_erased_in_every_app_whichever_name_is_given() {
    for person in [subject_id(&in_shop()), subject_id(&in_club()), unionid_id(UNIONID)] {
        let one = Node::shared().polled().await;
        let other = one.another().polled().await;
        let (shop, club, bystander) = (in_shop(), in_club(), with_unionid(&in_app("wx1", "o-bob"), "u-bob"));
        let opened = [one.open_in_full(&shop).await, one.open(&club).await];
        let stays = one.open(&bystander).await;
        one.sessions.bind(&subject_id(&shop), &user("42"), one.now()).await.unwrap();
        one.sessions.bind(&unionid_id(UNIONID), &user("43"), one.now()).await.unwrap();
        one.seal_rows().await;
        let other_lease = other.check(&shop, &opened[0]).await.unwrap().lease;

        let erased = other.sessions.erase(std::slice::from_ref(&person), one.now()).await.unwrap();
        one.core.log.poll().await.unwrap();

        assert_eq!(
            (erased.apps, erased.sessions, erased.bindings, erased.blocks),
            (2, 2, 2, 0),
            "{person:?}"
        );
        assert_eq!(erased.unreadable_rows, 0);
        assert!(!other_lease.is_current());
        for node in [&one, &other] {
            assert!(!node.is_active(&shop, &opened[0]).await);
            assert!(!node.is_active(&club, &opened[1]).await);
            assert!(node.is_active(&bystander, &stays).await);
            assert!(node.refresh(&opened[0].refresh_token).await.is_err());
            let data = node.sessions.personal_data(std::slice::from_ref(&person), one.now()).await.unwrap();
            assert_eq!(data, crate::session::PersonalData::default());
        }
        // The bystander's two rows, and for each of three names what ends the sessions of before.
        assert_eq!(
            (one.count(Space::Subject), one.count(Space::UnionId), one.count(Space::Person)),
            (1, 1, 3)
        );
        let again = one.open(&shop).await;
        assert!(other.is_active(&shop, &again).await, "a person who comes back is a new one");
        assert!(other.check(&shop, &again).await.unwrap().user.is_none());
    }
}

#[tokio::test]
async fn a_block_outlives_an_erasure_under_a_keyed_hash() {
    for (blocked, person) in [
        (subject_id(&in_shop()), unionid_id(UNIONID)),
        (unionid_id(UNIONID), subject_id(&in_shop())),
        (unionid_id(UNIONID), unionid_id(UNIONID)),
    ] {
        let node = Node::new();
        let shop = in_shop();
        node.open(&shop).await;
        node.sessions.block(&blocked, node.now()).await.unwrap();

        let erased = node.sessions.erase(std::slice::from_ref(&person), node.now()).await.unwrap();
        let restarted = node.another();

        assert_eq!(erased.blocks, 1);
        assert_eq!(restarted.try_open(&shop, None).await.map(drop), Err(SessionError::Blocked));
        let listed = restarted.sessions.list_blocked().await.unwrap();
        assert!(matches!(&listed[..], [only] if matches!(only.person, BlockedName::Erased(_))), "{listed:?}");
        assert_eq!(restarted.sessions.block(&blocked, node.now()).await, Ok(false), "it is known");
        assert!(restarted.sessions.unblock(&blocked, node.now()).await.unwrap());
        assert!(!restarted.sessions.unblock(&blocked, node.now()).await.unwrap());
        assert_eq!(restarted.sessions.list_blocked().await.unwrap(), []);
        restarted.open(&shop).await;
    }
}

#[tokio::test]
async fn a_row_that_comes_back_after_an_erasure_revives_no_session() {
    let node = Node::new();
    let shop = in_shop();
    let opened = node.open(&shop).await;
    node.seal_rows().await;
    let key = name::subject_key(name::locator(&shop.subject));
    let row = node.store.rows.lock().get(&key).cloned().unwrap();
    node.sessions.erase(&[subject_id(&shop)], node.now()).await.unwrap();

    // A store that falls back to an earlier state, as after a failover.
    node.store.rows.lock().insert(key, row);

    assert!(!node.is_active(&shop, &opened).await);
    assert!(node.refresh(&opened.refresh_token).await.is_err());
    assert_eq!(node.sessions.is_unspent(&opened.refresh_token, node.now()).await, Ok(false));
}

#[tokio::test]
async fn an_erasure_that_breaks_off_anywhere_is_made_whole_when_asked_again() {
    for writes in 0..14 {
        let node = Node::new();
        let shop = in_shop();
        let opened = node.open_in_full(&shop).await;
        node.open(&in_club()).await;
        node.sessions.bind(&subject_id(&shop), &user("42"), node.now()).await.unwrap();
        node.sessions.block(&unionid_id(UNIONID), node.now()).await.unwrap();
        node.seal_rows().await;

        node.store.lose_answers_after(writes);
        let _ = node.sessions.erase(&[unionid_id(UNIONID)], node.now()).await;
        node.store.lose_answers_after(u64::MAX);
        let checked = node.check(&shop, &opened).await;
        assert!(checked.is_err(), "a person who is blocked got in after {writes} writes: {checked:?}");
        node.sessions.erase(&[unionid_id(UNIONID)], node.now()).await.unwrap();

        assert_eq!((node.count(Space::Subject), node.count(Space::UnionId)), (0, 0), "{writes}");
        assert_eq!(node.try_open(&shop, None).await.map(drop), Err(SessionError::Blocked), "{writes}");
    }
}

#[tokio::test]
async fn a_person_is_shown_with_all_that_the_store_knows() {
    let node = Node::new();
    let (shop, club) = (in_shop(), in_club());
    node.open_in_full(&shop).await;
    node.open(&club).await;
    node.sessions.bind(&unionid_id(UNIONID), &user("43"), node.now()).await.unwrap();
    node.sessions.block(&subject_id(&club), node.now()).await.unwrap();

    let data = node.sessions.personal_data(&[subject_id(&club)], node.now()).await.unwrap();

    let apps: Vec<_> = data.apps.iter().map(|app| (&app.identity, app.sessions.len())).collect();
    assert_eq!(apps, [(&shop, 1), (&club, 1)]);
    assert_eq!((data.apps[0].profile.nickname(), data.apps[0].has_session_key), (Some(NICKNAME), true));
    assert_eq!((data.apps[1].profile.nickname(), data.apps[1].has_session_key), (None, false));
    let bound: Vec<_> = data.bindings.iter().map(|bound| bound.binding.user.id().as_str()).collect();
    assert_eq!(bound, ["43"]);
    assert_eq!(data.blocks.iter().map(|(who, _)| who.clone()).collect::<Vec<_>>(), [subject_id(&club)]);
}

#[tokio::test]
async fn people_are_found_by_their_user_and_their_sessions_end_with_it() {
    let node = Node::new();
    let (shop, club, other) = (in_shop(), in_club(), in_app("wx1", "o-other"));
    let opened = [node.open(&shop).await, node.open(&club).await];
    let stays = node.open(&other).await;
    for (who, id) in [(subject_id(&shop), "42"), (unionid_id(UNIONID), "42"), (subject_id(&other), "4")] {
        node.sessions.bind(&who, &user(id), node.now()).await.unwrap();
    }
    let id = UserId::parse("42").unwrap();

    let found = node.sessions.list_bound(Some(&id)).await.unwrap();
    let all = node.sessions.list_bound(None).await.unwrap();
    let ended = node.revoke(SessionScope::User(id)).await.unwrap();

    let found: Vec<PersonId> = found.into_iter().map(|bound| bound.person).collect();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&subject_id(&shop)) && found.contains(&unionid_id(UNIONID)));
    assert_eq!((all.len(), ended), (3, Some(2)));
    assert!(!node.is_active(&shop, &opened[0]).await && !node.is_active(&club, &opened[1]).await);
    assert!(node.is_active(&other, &stays).await);
}

#[tokio::test]
async fn lifted_blocks_are_kept_as_keyed_hashes() {
    let node = Node::new();
    node.seal_rows().await;
    let who = unionid_id(UNIONID);
    node.sessions.block(&who, node.now()).await.unwrap();
    assert!(node.sessions.unblock(&who, node.now()).await.unwrap());

    let kept = node.core.revocations.current().await.unwrap();
    assert_eq!(kept.block_changes().filter(|change| change.is_lifted).count(), 1);
    assert_eq!(node.holds_bytes(UNIONID), []);
    assert!(!sealed::is_sealed(&node.store.rows.lock()[&REVOCATIONS_KEY].0), "it names nobody");
    node.sessions.block(&who, node.now()).await.unwrap();
    assert_eq!(node.sessions.list_blocked().await.unwrap().len(), 1);
}

#[test]
fn a_gateway_does_not_start_on_a_file_whose_store_key_it_cannot_open() {
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let clock = ManualClock::start_now();
    let shop = in_shop();
    let opened = threads.block_on(async {
        let node = Node::durable(&folder, &clock, &config::Sessions::default());
        let opened = node.open(&shop).await;
        node.seal_rows().await;
        opened
    });
    let key_file = folder.path().join("seal-key");
    let kept = std::fs::read(&key_file).unwrap();
    std::fs::remove_file(&key_file).unwrap();

    let started = std::panic::catch_unwind(|| Node::durable(&folder, &clock, &config::Sessions::default()));
    let said = *started.err().unwrap().downcast::<String>().unwrap();
    assert!(said.contains("the key of the store is sealed with `made-"), "{said}");

    std::fs::write(&key_file, kept).unwrap();
    let node = Node::durable(&folder, &clock, &config::Sessions::default());
    assert!(threads.block_on(node.is_active(&shop, &opened)));
}
