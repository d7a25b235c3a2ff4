//! Stores of the version before, and gateways of it on the same store: see
//! `tests/fixtures/store/README.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::identity::{User, UserId};
use crate::session::row::envelope;
use crate::session::row::name::{self, REVOCATIONS_KEY};
use crate::session::row::revocations::Revocations;
use crate::session::{BlockedName, PersonId};
use crate::store::{Key, Space};

/// The row of revocations, as the version before reads and writes it.
#[derive(Clone, Default, Encode, Decode)]
struct OldMarks {
    #[n(0)]
    number: u64,
    #[n(1)]
    apps: Vec<OldAppMark>,
    #[n(2)]
    everything: u64,
    #[n(3)]
    opened_before: u64,
    #[n(4)]
    blocks: Option<Vec<OldChange>>,
    #[n(5)]
    bindings: Option<OldBindings>,
}

#[derive(Clone, Encode, Decode)]
struct OldAppMark {
    #[n(0)]
    appid: String,
    #[n(1)]
    number: u64,
}

#[derive(Clone, Encode, Decode)]
struct OldChange {
    #[n(0)]
    who: OldWho,
    #[n(1)]
    number: u64,
    #[n(2)]
    is_lifted: bool,
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
enum OldWho {
    #[n(0)]
    UnionId(#[n(0)] String),
    #[n(1)]
    Subject(#[n(0)] String, #[n(1)] String),
}

#[derive(Clone, Copy, Default, Encode, Decode)]
struct OldBindings {
    #[n(0)]
    of_subjects: bool,
    #[n(1)]
    of_unionids: bool,
}

/// The row of a binding, likewise.
#[derive(Clone, Encode, Decode)]
struct OldBinding {
    #[n(0)]
    who: OldWho,
    #[n(1)]
    user: String,
    #[n(2)]
    claims: Vec<OldClaim>,
    #[n(3)]
    since: u64,
}

#[derive(Clone, Encode, Decode)]
struct OldClaim {
    #[n(0)]
    name: String,
    #[n(1)]
    value: String,
}

fn old_who(person: &PersonId) -> OldWho {
    match person {
        PersonId::UnionId(unionid) => OldWho::UnionId(unionid.as_str().into()),
        PersonId::Subject(subject) => {
            OldWho::Subject(subject.appid.as_str().into(), subject.openid.as_str().into())
        }
    }
}

/// What a gateway of the previous version does with a store.
struct OldGateway<'a>(&'a Node);

impl OldGateway<'_> {
    fn marks(&self) -> OldMarks {
        let row = self.0.store.rows.lock().get(&REVOCATIONS_KEY).cloned();
        row.map(|(bytes, _)| envelope::decode(&REVOCATIONS_KEY, &bytes).unwrap()).unwrap_or_default()
    }

    fn is_blocked(&self, person: &PersonId) -> bool {
        let who = old_who(person);
        self.marks().blocks.into_iter().flatten().any(|change| change.who == who && !change.is_lifted)
    }

    fn change(&self, person: &PersonId, is_lifted: bool) {
        let (mut marks, who) = (self.marks(), old_who(person));
        if self.is_blocked(person) != is_lifted {
            return;
        }
        marks.number = (marks.number + 1).max(self.0.now().millis());
        let change = OldChange { who: who.clone(), number: marks.number, is_lifted };
        let blocks = marks.blocks.get_or_insert_default();
        blocks.retain(|known| known.who != who);
        blocks.push(change);
        let mut lifted: Vec<u64> =
            blocks.iter().filter(|change| change.is_lifted).map(|change| change.number).collect();
        lifted.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        if let Some(last) = lifted.get(64) {
            blocks.retain(|change| !change.is_lifted || change.number > *last);
        }
        self.put(REVOCATIONS_KEY, &marks);
    }

    fn block(&self, person: &PersonId) {
        self.change(person, false);
    }

    fn unblock(&self, person: &PersonId) {
        self.change(person, true);
    }

    fn bind(&self, person: &PersonId, user: &str) {
        let binding = OldBinding {
            who: old_who(person),
            user: user.into(),
            claims: vec![],
            since: self.0.now().millis(),
        };
        self.put(name::person_key(person), &binding);
    }

    /// The user of a person, or that the row cannot be read, which refuses the person.
    fn user(&self, person: &PersonId) -> Result<Option<String>, ()> {
        let key = name::person_key(person);
        let Some((bytes, _)) = self.0.store.rows.lock().get(&key).cloned() else { return Ok(None) };
        envelope::decode::<OldBinding>(&key, &bytes).map(|binding| Some(binding.user)).map_err(drop)
    }

    fn put<T: Encode<()>>(&self, key: Key, row: &T) {
        let (bytes, end) = (envelope::encode(&key, row).unwrap(), self.0.now().plus(10_000 * DAY));
        self.0.store.rows.lock().insert(key, (bytes, end));
    }
}

pub(super) fn named(person: BlockedName) -> PersonId {
    match person {
        BlockedName::Person(person) => person,
        BlockedName::Erased(hash) => panic!("only a hash is known: {hash:?}"),
    }
}

fn here(person: &Identity) -> PersonId {
    PersonId::Subject(person.subject.clone())
}

fn everywhere(unionid: &str) -> PersonId {
    PersonId::UnionId(UnionId::parse(unionid).unwrap())
}

impl Node {
    async fn move_blocks(&self) {
        self.core.revocations.read().await.unwrap();
        self.core.people.settle_changes(None).await.unwrap();
    }

    async fn blocked_people(&self) -> Vec<PersonId> {
        self.sessions.list_blocked().await.unwrap().into_iter().map(|blocked| named(blocked.person)).collect()
    }

    fn people_rows(&self) -> BTreeMap<Key, Bytes> {
        let rows = self.store.rows.lock();
        let people = rows.iter().filter(|(key, _)| key.space == Space::Person);
        people.map(|(key, (bytes, _))| (key.clone(), bytes.clone())).collect()
    }

    async fn has_block(&self, person: &Identity, opened: &OpenedSession) -> bool {
        match self.check(person, opened).await {
            Ok(_) => false,
            Err(SessionError::Blocked) => true,
            Err(error) => panic!("{error}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the age of a read of the log, which is real time")]
fn instant() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

fn fixture(file: &str) -> Vec<u8> {
    std::fs::read(Path::new("tests/fixtures/store/v1").join(file)).unwrap()
}

fn contents() -> (Value, ManualClock, config::Sessions) {
    let contents: Value = serde_json::from_slice(&fixture("contents.json")).unwrap();
    let made_at = Timestamp::from_millis(contents["made_at_millis"].as_u64().unwrap());
    let secret = contents["seal_key"]["secret"].as_str().unwrap().to_owned();
    let config = config::Sessions {
        lifetime: seconds(400 * 24 * 3600),
        idle_timeout: seconds(400 * 24 * 3600),
        seal_keys: vec![config::SealKey {
            kid: "fixture".into(),
            secret: config::SecretSource::Inline(secret),
        }],
        ..config::Sessions::default()
    };
    (contents, ManualClock::start_at(made_at), config)
}

/// A node on a store that holds the rows of Redis.
fn on_rows_of_redis() -> (Value, Node, config::Sessions) {
    let (contents, clock, config) = contents();
    let store = Arc::new(TestStore::new(clock.clone(), true));
    let mut count = 0;
    for line in String::from_utf8(fixture("rows.txt")).unwrap().lines().filter(|line| !line.starts_with('#'))
    {
        let [key, end, value] = Vec::from_iter(line.split(' ')).try_into().unwrap();
        let (letter, key) = key.strip_prefix("menshen:").unwrap().split_once(":{").unwrap();
        let space = Space::ALL.into_iter().find(|space| letter == space.letter().to_string()).unwrap();
        let name = u128::from_str_radix(key.strip_suffix('}').unwrap(), 16).unwrap().to_be_bytes();
        let digits = value.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let value: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let end = Timestamp::from_millis(end.parse().unwrap());
        store.rows.lock().insert(Key { space, name }, (value.into(), end));
        count += 1;
    }
    assert_eq!(count, 19);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    (contents, Node::on(store, clock, folder, &config), config)
}

/// Holds a store to what the fixture says that it holds.
async fn holds(node: &Node, contents: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut seen = 0;
    for session in contents["sessions"].as_array().unwrap() {
        let name = text(&session["name"]).unwrap();
        let who = in_app(session["appid"].as_str().unwrap(), session["openid"].as_str().unwrap());
        let checked = match session["cookie"].as_str() {
            Some(cookie) => {
                let cookie = SessionCookie::parse(cookie).unwrap();
                node.sessions.check_cookie(&cookie, node.now()).await
            }
            None => {
                let id = SessionId::parse(session["id"].as_str().unwrap()).unwrap();
                node.sessions.check(&who.subject, &id, node.now()).await
            }
        };
        node.wait_for_writes(&who).await;
        let ending = checked.as_ref().map(|checked| checked.user.as_ref().map(|user| user.id().as_str()));
        let expected = match name.as_str() {
            "dave, whose app was revoked" => Err(&SessionError::Ended),
            name if name.contains("is blocked") => Err(&SessionError::Blocked),
            "alice" => Ok(Some("42")),
            "carol" => Ok(Some("43")),
            _ => Ok(None),
        };
        assert_eq!(ending, expected, "{name}");
        if let Some(token) = session["refresh_token"].as_str() {
            let token = RefreshToken::parse(token).unwrap();
            let unspent = node.sessions.is_unspent(&token, node.now()).await;
            let expected = match expected {
                Err(SessionError::Blocked) => Err(SessionError::Blocked),
                expected => Ok(expected.is_ok()),
            };
            assert_eq!(unspent, expected, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
    let blocked = node.sessions.list_blocked().await.unwrap();
    let since = blocked.iter().map(|blocked| blocked.since.to_string());
    assert_eq!(Vec::from_iter(since), ["2026-12-02T00:01:00Z", "2026-12-02T00:00:00Z"]);
    let people = blocked.into_iter().map(|blocked| named(blocked.person));
    assert_eq!(Vec::from_iter(people), [everywhere("u-frank"), here(&in_app("wx1", "o-bob"))]);
    let alice = node.sessions.binding(&here(&in_app("wx1", "o-alice"))).await.unwrap().unwrap();
    let claims = alice.user.claims().map(|(name, value)| (name.as_str(), value.as_str()));
    assert_eq!(Vec::from_iter(claims), [("level", "3"), ("role", "editor")]);
}

#[tokio::test]
async fn a_file_of_the_version_before_opens_and_its_blocks_move() {
    let (contents, clock, config) = contents();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("sessions.redb"), fixture("sessions.redb")).unwrap();
    for start in 0..3 {
        let node = Node::durable(&folder, &clock, &config);
        holds(&node, &contents).await;
        if start > 0 {
            node.core.people.follow().await;
            holds(&node, &contents).await;
        }
    }
}

#[tokio::test]
async fn rows_of_the_version_before_are_believed_and_moved_once_by_nodes_that_start_together() {
    let (contents, one, config) = on_rows_of_redis();
    let folder = Arc::clone(&one.folder);
    let other = Node::on(Arc::clone(&one.store), one.clock.clone(), folder, &config);
    for node in [&one, &other] {
        // What `Core::follow` does before it moves blocks: a node that reads no log believes no
        // session.
        node.core.revocations.read().await.unwrap();
        node.core.log.poll().await.unwrap();
        node.core.health.record_log_read(&Ok(()), instant());
        holds(node, &contents).await;
    }
    one.store.set_jitter(7);
    tokio::join!(one.move_blocks(), other.move_blocks());
    one.store.set_jitter(0);

    // Two bindings and two blocks.
    assert_eq!(one.people_rows().len(), 4);
    holds(&one, &contents).await;
    holds(&other, &contents).await;
    let (rows, writes) = (one.people_rows(), one.store.writes());
    one.move_blocks().await;
    other.move_blocks().await;
    assert_eq!((one.people_rows(), one.store.writes()), (rows, writes), "there is nothing left to move");
    let old = OldGateway(&one);
    assert_eq!(old.user(&here(&in_app("wx1", "o-alice"))), Ok(Some("42".into())));
    assert!(old.is_blocked(&everywhere("u-frank")) && old.is_blocked(&here(&in_app("wx1", "o-bob"))));
    assert!(!old.is_blocked(&everywhere("u-grace")));
}

#[tokio::test]
async fn a_move_that_breaks_off_anywhere_is_made_whole_by_the_next_start() {
    for writes in 0..8 {
        let (contents, node, config) = on_rows_of_redis();
        node.store.lose_answers_after(writes);
        node.core.revocations.read().await.unwrap();
        let _ = node.core.people.settle_changes(None).await;
        node.store.lose_answers_after(u64::MAX);

        let started =
            Node::on(Arc::clone(&node.store), node.clock.clone(), Arc::clone(&node.folder), &config);
        let following = follow::follow(&started).await;
        holds(&started, &contents).await;
        started.move_blocks().await;
        following.abort();
        started.core.log.poll().await.unwrap();

        assert_eq!(started.people_rows().len(), 4, "after {writes} writes");
        assert_eq!(started.blocked_people().await.len(), 2);
    }
}

#[tokio::test]
async fn gateways_of_both_versions_refuse_whom_either_blocked_until_either_lifts_it() {
    let node = Node::shared();
    let following = follow::follow(&node).await;
    following.abort();
    let alice = with_unionid(&person("alice"), "u1");
    let opened = node.open(&alice).await;
    let old = OldGateway(&node);
    for who in [here(&alice), everywhere("u1")] {
        for (blocks_old, lifts_old) in [(true, true), (true, false), (false, true), (false, false)] {
            if blocks_old {
                old.block(&who)
            } else {
                assert!(node.sessions.block(&who, node.now()).await.unwrap())
            }
            node.core.log.poll().await.unwrap();
            assert!(old.is_blocked(&who) && node.has_block(&alice, &opened).await, "{who:?} {blocks_old}");
            node.move_blocks().await;
            assert_eq!((node.blocked_people().await, node.people_rows().len()), (vec![who.clone()], 1));

            if lifts_old {
                old.unblock(&who)
            } else {
                assert!(node.sessions.unblock(&who, node.now()).await.unwrap())
            }
            node.core.log.poll().await.unwrap();
            assert!(!old.is_blocked(&who) && !node.has_block(&alice, &opened).await, "{who:?} {lifts_old}");
            node.move_blocks().await;
            assert_eq!((node.blocked_people().await, node.people_rows().len()), (vec![], 0));
        }
    }
}

#[tokio::test]
async fn a_gateway_of_the_version_before_reads_each_binding_and_refuses_whom_it_cannot_read() {
    let node = Node::shared();
    let following = follow::follow(&node).await;
    following.abort();
    let alice = person("alice");
    let opened = node.open(&alice).await;
    let (who, old) = (here(&alice), OldGateway(&node));
    let user = User::new(UserId::parse("42").unwrap(), []).unwrap();

    node.sessions.bind(&who, &user, node.now()).await.unwrap();
    assert_eq!(old.user(&who), Ok(Some("42".into())));
    node.sessions.block(&who, node.now()).await.unwrap();
    assert_eq!((old.user(&who), old.is_blocked(&who)), (Ok(Some("42".into())), true));
    node.sessions.unbind(&who).await.unwrap();
    assert_eq!((old.user(&who), old.is_blocked(&who)), (Err(()), true));
    assert!(node.has_block(&alice, &opened).await);
    // Its row has no room for the block, which it must not lift.
    old.bind(&who, "43");
    assert!(node.has_block(&alice, &opened).await);
    node.sessions.unblock(&who, node.now()).await.unwrap();
    assert_eq!((old.user(&who), old.is_blocked(&who)), (Ok(Some("43".into())), false));
    assert_eq!(node.check(&alice, &opened).await.unwrap().user.unwrap().id().as_str(), "43");
}

#[tokio::test]
async fn a_gateway_of_the_version_before_reads_the_row_of_revocations_however_many_are_blocked() {
    let node = Node::shared();
    let old = OldGateway(&node);
    for number in 0..1100 {
        node.sessions.block(&everywhere(&format!("u{number}")), node.now()).await.unwrap();
    }

    let known = (0..1100).filter(|number| old.is_blocked(&everywhere(&format!("u{number}")))).count();
    assert_eq!((known, node.blocked_people().await.len()), (1000, 1100));
    let marks = old.marks();
    assert!(marks.bindings.is_some_and(|kinds| kinds.of_unionids && !kinds.of_subjects));
    // What it drops from the row is not lost with it.
    old.put(REVOCATIONS_KEY, &OldMarks { number: marks.number + 1, ..marks });
    assert_eq!(node.another().blocked_people().await.len(), 1100);
}

#[tokio::test]
async fn a_block_ends_the_leases_of_its_person_alone() {
    let one = Node::shared();
    let other = one.another();
    let followings = [follow::follow(&one).await, follow::follow(&other).await];
    followings.iter().for_each(tokio::task::JoinHandle::abort);
    let (alice, bob) = (with_unionid(&person("alice"), "u1"), with_unionid(&person("bob"), "u2"));
    let (opened, bystander) = (one.open(&alice).await, one.open(&bob).await);
    // The first block of each kind says to everybody that there are rows to read.
    one.sessions.block(&here(&person("carol")), one.now()).await.unwrap();
    one.sessions.block(&everywhere("u9"), one.now()).await.unwrap();
    other.core.log.poll().await.unwrap();
    for who in [here(&alice), everywhere("u1")] {
        for append_fails in [false, true] {
            let leases = [
                one.check(&alice, &opened).await.unwrap().lease,
                other.check(&alice, &opened).await.unwrap().lease,
                one.check(&bob, &bystander).await.unwrap().lease,
                other.check(&bob, &bystander).await.unwrap().lease,
            ];
            one.store.append_fails.store(append_fails, Ordering::SeqCst);
            assert_eq!(one.sessions.block(&who, one.now()).await.is_err(), append_fails);
            one.store.append_fails.store(false, Ordering::SeqCst);
            other.core.log.poll().await.unwrap();

            let current = leases.map(|lease| lease.is_current());
            assert_eq!(current, [false, false, true, true], "{who:?}, the log fails: {append_fails}");
            assert!(other.has_block(&alice, &opened).await);
            assert!(one.sessions.unblock(&who, one.now()).await.unwrap());
            other.core.log.poll().await.unwrap();
            assert!(!other.has_block(&alice, &opened).await);
        }
    }
}

#[tokio::test]
async fn a_change_that_fails_anywhere_is_made_when_asked_again() {
    for writes in 0..4 {
        let node = Node::shared();
        let following = follow::follow(&node).await;
        following.abort();
        let alice = person("alice");
        let (opened, who) = (node.open(&alice).await, here(&alice));

        node.store.lose_answers_after(writes);
        let failed = node.sessions.block(&who, node.now()).await;
        node.store.lose_answers_after(u64::MAX);
        assert_eq!(failed.is_err(), writes < 2, "{writes}");
        node.sessions.block(&who, node.now()).await.unwrap();
        assert!(node.has_block(&alice, &opened).await, "{writes}");

        node.store.lose_answers_after(writes);
        let failed = node.sessions.unblock(&who, node.now()).await;
        node.store.lose_answers_after(u64::MAX);
        assert_eq!(failed.is_err(), writes < 2, "{writes}");
        node.sessions.unblock(&who, node.now()).await.unwrap();
        assert!(!node.has_block(&alice, &opened).await, "{writes}");
        assert_eq!(node.people_rows().len(), 0);
    }
}

#[tokio::test]
async fn two_nodes_that_change_one_block_together_leave_one_truth() {
    for seed in 1..40 {
        let one = Node::shared();
        let other = one.another();
        let who = here(&person("alice"));
        one.sessions.block(&here(&person("bob")), one.now()).await.unwrap();
        one.store.set_jitter(seed * 7919);
        for _ in 0..3 {
            let now = one.now();
            let blocks = async { one.sessions.block(&who, now).await.map(drop) };
            let lifts = async { other.sessions.unblock(&who, now).await.map(drop) };
            let (blocked, lifted) = tokio::join!(blocks, lifts);
            blocked.and(lifted).unwrap();
        }
        one.store.set_jitter(0);

        let revocations = one.core.revocations.read().await.unwrap();
        let says = |node: &Node| node.people_rows().contains_key(&name::person_key(&who));
        let counts = revocations.block_of(&(&who).into(), None).is_some();
        assert_eq!(says(&one), counts, "seed {seed}");
        assert_eq!(one.blocked_people().await.contains(&who), counts, "seed {seed}");
        assert_eq!(one.another().blocked_people().await.contains(&who), counts, "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Histories that part and meet again: the last statement counts on both sides, in whatever
    /// order they are merged.
    #[test]
    fn of_two_statements_about_a_person_the_later_counts(
        steps in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..40)
    ) {
        let who = (&here(&person("alice"))).into();
        let mut sides = [Revocations::default(), Revocations::default()];
        let mut own_row = None;
        let mut now = 1_000_000;
        for (side, is_block, merges) in steps {
            now += 10;
            let at = Timestamp::from_millis(now);
            let row = &mut sides[usize::from(side)];
            // Each statement is later than all before it, as the clock is.
            let known = row.block_of(&who, own_row).is_some();
            if is_block {
                let (is_new, number) = row.block(&who, &who, own_row, at);
                prop_assert_eq!(is_new, !known);
                own_row = row.block_of(&who, own_row.max(Some(number)));
            } else {
                prop_assert_eq!(row.unblock(&who, own_row, at), known);
                own_row = row.block_of(&who, own_row);
            }
            if merges {
                let [one, other] = &mut sides;
                let before = one.clone();
                one.merge(other);
                other.merge(&before);
                prop_assert_eq!(one.block_of(&who, own_row), other.block_of(&who, own_row));
            }
        }
        let [one, other] = &mut sides;
        let mut both = one.clone();
        both.merge(other);
        other.merge(one);
        prop_assert_eq!(both.block_of(&who, own_row), other.block_of(&who, own_row));
        if both.block_of(&who, None).is_some() {
            prop_assert!(both.block_of(&who, own_row).is_some(), "a row lifts no block");
        }
    }
}
